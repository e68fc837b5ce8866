"""Two ways of doing the same, timed in turns in one process.

What disturbs one of them (another program, a lower clock) disturbs the other as well, so the ratio
of the best times is steady where the times themselves are not. Times are of the thread's own CPU:
on one thread they leave out what other programs take.
"""

from __future__ import annotations

import gc
import importlib
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[[], object]


def peer() -> Any:
    """PyTorch, or the end of the program with what to install."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        sys.exit("PyTorch is not installed; the extra brings it: pip install '.[bench]'")


@dataclass(frozen=True)
class Pair:
    """Seconds of the best run of each, and the median of the rounds' ratios (second / first)."""

    first: float
    second: float
    median: float

    @property
    def ratio(self) -> float:
        """How many times as long the second takes as the first, best against best."""
        return self.second / self.first


def interleaved(first: Call, second: Call, seconds: float = 2.0, warm: int = 2) -> Pair:
    """Runs both `warm` times, then in turns for some seconds, at least five times each."""
    for _ in range(warm):
        first()
        second()
    gc.collect()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for call, kept in zip((first, second), times):
            start = time.thread_time()
            call()
            kept.append(time.thread_time() - start)
    ratios = [b / a for a, b in zip(*times)]
    return Pair(min(times[0]), min(times[1]), statistics.median(ratios))


def against_torch(
    label: str, ours: Call, theirs: Call, count: int = 1, seconds: float = 2.0
) -> Pair:
    """Prints one line: times of one of `count` steps, and torch's time / ours."""
    pair = interleaved(ours, theirs, seconds)
    print(
        f"{label:44s} graphc {text(pair.first / count)}  torch {text(pair.second / count)}  "
        f"torch / graphc {pair.ratio:5.2f}  (median {pair.median:.2f})",
        flush=True,
    )
    return pair


def text(seconds: float) -> str:
    """A time in the unit that suits it, eight characters wide at least."""
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if seconds * scale < 1000:
            return f"{seconds * scale:7.2f} {unit}"
    return f"{seconds:7.2f} s "
