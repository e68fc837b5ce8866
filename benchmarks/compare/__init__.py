"""graphc beside its peers: `python -m benchmarks.compare`.

workload.py     what a workload is; workloads/ has them, by group
contenders.py   what each library does with a workload
worker.py       the process that one contender runs in
harness.py      starts workers, gives them turns, checks results, keeps limits of time
limits.py       what the machine can do: multiply-adds and copies
results.py      ratios, floors, geometric means; JSON
report.py       the table; plot.py the picture; diff.py two files of results
"""
