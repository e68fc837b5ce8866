"""What autotuning gains: workloads of `benchmarks.compare` with it and without it, in turns.

    python -m benchmarks.tune [WORKLOAD ...] [--threads 1] [--seconds 3]

Each workload is traced (what has gradients: compiled, exact=False, as in the comparison) with and
without `config.autotune`; results have to have equal bits. A gain is the default's time over the
tuned one: best runs, of the thread's own CPU on one thread, else wall time. "again" is the same for
another copy of the default: what is noise. Kernels are those that were measured now; what earlier
runs found is remembered in the cache directory.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .compare.contenders import CONTENDERS, Prepared
from .compare.workload import GROUPS, Workload, chosen, module_of
from .interleave import text

#: Calls until weights that stay the same are packed, and one more.
WARM = 6
DEFAULT = (
    "inference/*",
    "training/*",
    "micro/matmul*",
    "micro/conv*",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", metavar="WORKLOAD", default=DEFAULT)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each workload")
    options = parser.parse_args()
    if options.threads == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    gains, noise = [], []
    print(f"{'workload':40}{'default':>12}{'tuned':>12}{'gain':>7}{'again':>7}{'kernels':>9}"
          f"{'tuning':>9}")  # fmt: skip
    for _, workload in chosen(options.patterns, [module_of(group) for group in GROUPS]):
        gain, same = gain_of(workload, options.threads, options.seconds)
        gains.append(gain)
        noise.append(same)
    for label, found in (("tuned", gains), ("again", noise)):
        mean = math.exp(sum(map(math.log, found)) / len(found))
        print(f"{label}: geometric mean of {len(found)} {mean:.3f}, best {max(found):.3f}, "
              f"least {min(found):.3f}")  # fmt: skip


def gain_of(workload: Workload, threads: int, seconds: float) -> tuple[float, float]:
    """Times one workload, prints its line; the gain, and that of the default over itself."""
    from graphc import config
    from graphc.backends.llvm.tune import watched

    traced = workload.kind in ("forward", "onnx")
    contender = CONTENDERS["graphc.jit" if traced else "graphc.inexact"]
    torch = contender.start(threads)
    measured: list[str] = []
    with tempfile.TemporaryDirectory() as folder:

        def prepared() -> Prepared:
            torch.manual_seed(0)
            made = contender.prepare(torch, workload, threads, Path(folder))
            for _ in range(WARM):
                made.call()
            return made

        plain, plain_s = timed(prepared)
        again = prepared()
        with config.patch(autotune=True), watched(lambda done, total, what: measured.append(what)):
            tuned, tuned_s = timed(prepared)
        for ours, theirs in zip(plain.result, tuned.result, strict=True):
            assert np.array_equal(ours, theirs, equal_nan=True), f"{workload.name}: other bits"
        best = in_turns((plain.call, tuned.call, again.call), threads, seconds)
    gain, same = best[0] / best[1], best[0] / best[2]
    print(f"{workload.name:40}{text(best[0]):>12}{text(best[1]):>12}{gain:7.3f}{same:7.3f}"
          f"{len(measured):9}{max(tuned_s - plain_s, 0):7.1f} s", flush=True)  # fmt: skip
    return gain, same


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    made = make()
    return made, time.perf_counter() - start


def in_turns(calls: tuple[Callable[[], object], ...], threads: int, seconds: float) -> list[float]:
    """The best time of each, in seconds."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    start = time.perf_counter()
    calls[0]()
    turns = max(1, min(1000, int(2e-4 / max(time.perf_counter() - start, 1e-7))))
    best = [math.inf] * len(calls)
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < 5 or time.perf_counter() < end:
        for number, call in enumerate(calls):
            start = clock()
            for _ in range(turns):
                call()
            best[number] = min(best[number], (clock() - start) / turns)
        rounds += 1
    return best


if __name__ == "__main__":
    main()
