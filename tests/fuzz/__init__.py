"""Random programs, run in every way that graphc has, which must agree.

`python -m tests.fuzz --programs 10000 --seed 1 --kind ir` is the full run; the tests of this folder
run a few hundred programs under a fixed seed.
"""
