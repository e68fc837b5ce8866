"""`graphc explain`: kernels, what was not fused and why, cost by source line, limits."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .program import add_target, array_of, load
from .tuning import add_autotune

if TYPE_CHECKING:
    from graphc.debug.compiled import Compiled
    from graphc.debug.explain import Explanation

    from .console import Console

EXAMPLE = """\
examples:
  graphc explain net.py:Net --input f32[1,3,224,224]
  graphc explain model.onnx --target avx2
  graphc explain model.onnx --compile            where the time of a compile goes
  graphc explain net.py:Net --input f32[1,3,224,224] --autotune
"""
MOST_ROWS = 40


def configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("--target", dest="cpu", metavar="CPU", help="host, x86-64, avx2, ...")
    parser.add_argument("--compile", action="store_true", help="where the compile time goes")
    add_autotune(parser)
    parser.add_argument("--rows", type=int, default=MOST_ROWS, help="rows of each table at most")


def run(options: argparse.Namespace) -> int:
    from graphc.debug.explain import explain

    from .console import Console
    from .stages import Stages
    from .tuning import tuning

    began = time.perf_counter()
    program = load(options.target, options.inputs, options.graph)
    traced = time.perf_counter() - began
    stages, console = Stages(program, options.cpu), Console()
    with tuning(console, options.autotune, options.cpu):
        compiled = stages.compiled
    if options.compile:
        _compile_times(console, program.name, traced, compiled)
        return 0
    report = explain(compiled, program.module.dims)
    _summary(console, program.name, report)
    _tables(console, report, max(options.rows, 1))
    return 0


def _compile_times(console: Console, name: str, traced: float, compiled: Compiled) -> None:
    from graphc.debug.compile_time import HEAD, compile_time

    parts, note = compile_time(compiled, traced)
    nodes = max(1, len(compiled.source.nodes))
    console.line(f"{console.bold(name)}: {len(compiled.source.nodes):,} nodes; {note}")
    rows = [part.row(nodes) for part in parts]
    table(console, "compile time", HEAD, rows, len(rows))


def _summary(console: Console, name: str, report: Explanation) -> None:
    from graphc.debug.explain import bytes_text, flops_text, time_text

    from .stages import plural
    from .tuning import tuning_line

    compiled, limits = report.compiled, report.limits
    stats = compiled.stats
    console.line(
        f"{console.bold(name)}: {plural(len(compiled.source.nodes), 'node')}, "
        f"{plural(len(compiled.graph.nodes), 'primitive')} in "
        f"{plural(compiled.count, 'kernel')}; compiled in {time_text(compiled.wall_s)} "
        f"({stats.lines:,} lines of LLVM IR)"
    )
    if compiled.packed:
        console.line(
            f"  {plural(compiled.packed, 'value')} computed from the weights, ahead of all calls"
        )
    if report.sizes:
        at = ", ".join([f"{symbol} = {size}" for symbol, size in report.sizes.items()])
        console.line(f"  with {at}")
    if (line := tuning_line(compiled)) is not None:
        console.line(f"  {line}")
    console.line(
        f"  work {flops_text(report.computed)}, memory {bytes_text(report.moved)}, "
        f"arena {_arena(report)}"
    )
    took = _measured(report)
    console.line(
        f"  the machine: {limits.bytes_per_s / 1e9:.3g} GB/s, {limits.flops_per_s / 1e9:.3g} "
        f"GFLOP/s on {limits.threads} threads, so at least {time_text(report.floor_s)}"
    )
    if took is not None:
        console.line(
            f"  measured: {time_text(took)}, {100 * report.floor_s / took:.3g} % of that limit"
            + (
                " (a cache is faster than memory, and Winograd's algorithm multiplies less)"
                if report.floor_s > took
                else ""
            )
        )


def _arena(report: Explanation) -> str:
    from graphc.backends.llvm.target import runs_here
    from graphc.debug.explain import bytes_text

    if not runs_here(report.compiled.target):
        return "not known here"
    return bytes_text(report.compiled.executable.arena_size(list(report.sizes.values())))


def _measured(report: Explanation) -> float | None:
    """Seconds of a run on made-up inputs; None where the target is not this machine's."""
    import numpy as np

    from graphc.backends.llvm.target import runs_here
    from graphc.debug.explain import measure
    from graphc.ir.dims import evaluate_dim
    from graphc.ir.types import TensorType

    if not runs_here(report.compiled.target):
        return None
    stream = np.random.default_rng(0)
    arrays = []
    for param in report.compiled.params:
        shape = [evaluate_dim(d, report.sizes) for d in param.type.shape]
        arrays.append(array_of(TensorType(param.type.dtype, shape), stream))
    return measure(report.compiled, arrays)


def _tables(console: Console, report: Explanation, most: int) -> None:
    from graphc.debug.explain import (
        KERNEL_HEAD,
        TUNED_HEAD,
        bytes_text,
        flops_text,
        kernel_row,
        tuned_row,
    )

    kernels = [kernel_row(kernel) for kernel in report.kernels]
    table(console, "kernels", KERNEL_HEAD, kernels, most)
    tuned = [tuned_row(kernel) for kernel in report.kernels if kernel.group.tuned is not None]
    if tuned:
        table(console, "autotuned", TUNED_HEAD, tuned, most)
    refused = [
        [
            bytes_text(r.moved),
            f"{r.count} x {r.op}" if r.count > 1 else r.op,
            r.reason,
            _line(r.loc),
        ]
        for r in report.refused
    ]
    if refused:
        table(console, "not fused", ("memory", "op", "reason", "line"), refused, most)
    else:
        console.line("\nEvery edge between kernels was fused.")
    lines = []
    for line, entry in report.lines.items():
        names = list(entry.kernels)
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        unfused = bytes_text(entry.unfused) if entry.unfused else ""
        lines.append([line, str(entry.nodes), flops_text(entry.computed), unfused, shown])
    head = ("line", "nodes", "work", "not fused", "kernels")
    table(console, "source lines", head, lines, most)


def _line(loc: str) -> str:
    from graphc.debug.draw import short_loc

    return short_loc(loc) if loc else ""


def table(
    console: Console, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], most: int
) -> None:
    """Columns aligned; numbers to the right."""
    shown = rows[:most]
    widths = [max(len(row[k]) for row in (head, *shown)) for k in range(len(head))]
    console.line(f"\n{console.bold(title)}")
    console.line(console.faint(_row(head, widths)))
    for row in shown:
        console.line(_row(row, widths))
    if len(rows) > most:
        console.line(f"  ... and {len(rows) - most} more (--rows {len(rows)})")


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        f"{cell:>{width}}" if cell[:1].isdigit() else f"{cell:{width}}"
        for cell, width in zip(cells, widths)
    ]
    return ("  " + "  ".join(aligned)).rstrip()
