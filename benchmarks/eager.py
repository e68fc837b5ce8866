"""Eager mode against PyTorch's, both on one thread, timed in turns in one process.

    python -m benchmarks.eager                 everything, some two minutes
    python -m benchmarks.eager adds gpt        some figures

A ratio above 1 means that graphc is faster. Compiles are counted from a recorder that has seen
nothing of the program before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable

import graphc
from graphc.frontends.record import recorder

from . import programs
from .interleave import against_torch, interleaved, peer, text

torch = peer()


def adds() -> None:
    against_torch(
        "1,000 adds of 16 floats, one add",
        programs.adds(graphc), programs.adds(torch), 1000,
    )  # fmt: skip


def traced_call() -> None:
    against_torch(
        "a traced function of five arrays of 16, one call",
        programs.traced_calls(graphc), programs.traced_calls(torch), 10_000,
    )  # fmt: skip


def rk4() -> None:
    against_torch(
        "300 steps of RK4, one step",
        programs.runge_kutta(graphc), programs.runge_kutta(torch), 300,
    )  # fmt: skip


def mlp() -> None:
    against_torch(
        "step of a 3-layer perceptron, batch 32",
        programs.perceptron(graphc), programs.perceptron(torch), 20,
    )  # fmt: skip


def digits() -> None:
    against_torch(
        "digits: one epoch of 44 steps",
        programs.digits_epoch(graphc), programs.digits_epoch(torch), seconds=10,
    )  # fmt: skip


def gpt() -> None:
    against_torch(
        "GPT: one step at batch 64",
        programs.gpt_steps(graphc), programs.gpt_steps(torch), 3, seconds=10,
    )  # fmt: skip


def look() -> None:
    """loss.item() before backward() against the same look after it."""
    for label, make, seconds in (
        ("perceptron", programs.perceptron, 2.0), ("GPT", programs.gpt_steps, 10.0),
    ):  # fmt: skip
        pair = interleaved(make(graphc, "after"), make(graphc, "before"), seconds)
        told("loss.item() before backward, " + label, "before / after", pair.ratio, pair.median)


def exported() -> None:
    """Memory that numpy can see against memory of graphc's own."""
    pair = interleaved(
        programs.epoch_of_slices(graphc, False), programs.epoch_of_slices(graphc, True)
    )
    told("epoch over slices of a from_numpy array", "shared / own", pair.ratio, pair.median)
    plain, after = (programs.perceptron(graphc, after_numpy=seen) for seen in (False, True))
    pair = interleaved(plain, after)
    told("training after weight.numpy()", "after / plain", pair.ratio, pair.median)


def lengths() -> None:
    ours, theirs = programs.lengths(graphc), programs.lengths(torch)
    count("200 steps, 100 distinct lengths, first round", ours)
    against_torch("200 steps, 100 distinct lengths, one step", ours, theirs, 200)


def masks() -> None:
    ours, theirs = programs.masked_means(graphc), programs.masked_means(torch)
    count("x[mask].mean() for 100 masks, first round", ours)
    against_torch("x[mask].mean(), one mask", ours, theirs, 100)


def count(label: str, run: Callable[[], object]) -> None:
    """Runs once and prints how many compiles that took."""
    before = recorder().compiled
    run()
    print(f"{label:44s} compiles {recorder().compiled - before}", flush=True)


def told(label: str, what: str, ratio: float, median: float) -> None:
    print(f"{label:44s} {what} {ratio:5.2f}  (median {median:.2f})", flush=True)


TINY = """
import time
import graphc
graphc.set_num_threads(1)
x = graphc.zeros(4)
start = time.thread_time()
for _ in range(100_000):
    x = x + 1.0
x.tolist()
print(time.thread_time() - start)
"""


def tiny_adds() -> None:
    """100,000 additions that nobody looks at before the end: their first run, in new processes."""
    with tempfile.TemporaryDirectory() as caches:
        env = {**os.environ, "GRAPHC_CACHE_DIR": caches}
        for what in ("empty caches", "from the disk"):
            command = [sys.executable, "-c", TINY]
            done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
            print(f"{'100,000 adds, the first run, ' + what:44s} graphc {text(float(done.stdout))}")


FIGURES = {
    "tiny": tiny_adds, "adds": adds, "call": traced_call, "rk4": rk4, "mlp": mlp, "look": look,
    "exported": exported, "lengths": lengths, "masks": masks, "digits": digits, "gpt": gpt,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    chosen = parser.parse_args().figures or list(FIGURES)
    for name in chosen:
        if name not in FIGURES:
            parser.error(f"no figure {name!r}; there are {', '.join(FIGURES)}")
    torch.set_num_threads(1)
    graphc.set_num_threads(1)
    for name in chosen:
        FIGURES[name]()


if __name__ == "__main__":
    main()
