"""`--autotune`: switches it on for a command, and shows how far it is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .errors import Misuse
from .stages import check_target

if TYPE_CHECKING:
    from graphc.debug.compiled import Compiled

    from .console import Console, Progress


def add_autotune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--autotune",
        action="store_true",
        help="measure a few schedules of each kernel (some 0.5 s or 30 of its runs each; "
        "remembered)",
    )


@contextmanager
def tuning(console: Console, wanted: bool, cpu: str | None) -> Iterator[None]:
    """Kernels compiled in this block for the target `cpu` are tuned, if that is wanted or switched
    on already. Misuse where this machine cannot run them."""
    from graphc import config
    from graphc.backends.llvm.target import get_target, runs_here
    from graphc.backends.llvm.tune import watched

    if wanted and not runs_here(get_target(check_target(cpu))):
        raise Misuse(f"--autotune measures on this machine, which cannot run code for {cpu}")
    bar: Progress | None = None

    def tell(done: int, total: int, what: str) -> None:
        nonlocal bar
        bar = bar or console.progress("Autotuning", total)
        bar.at(done, what)

    with config.patch(autotune=wanted or config.autotune), watched(tell):
        yield
    if bar is not None:
        bar.clear()


def tuning_line(compiled: Compiled) -> str | None:
    """What autotuning found in all; None where it had no choice."""
    from graphc.debug.explain import time_text

    found = [group.tuned for group in compiled.groups if group.tuned is not None]
    if not found:
        return None
    gains = [tuned.gain for tuned in found if tuned.schedule]
    measured = len([tuned for tuned in found if not tuned.remembered])
    best = f", by up to {max(gains):.2f} times" if gains else ""
    took = f" in {time_text(compiled.stats.tune_ns / 1e9)}" if measured else ""
    return (
        f"autotuned: {len(gains)} of {len(found)} kernels are faster{best} "
        f"({measured} measured{took}, the others remembered)"
    )
