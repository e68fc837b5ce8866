"""`graphc compile`: a program to a compiled artifact."""

from __future__ import annotations

import argparse
from pathlib import Path

from .errors import CommandError, Misuse
from .program import add_target, load
from .tuning import add_autotune

EXAMPLE = """\
examples:
  graphc compile net.py:Net --input f32[1,3,224,224] -o net.gcx
  graphc compile model.onnx --target avx2 -o model.gcx
  graphc compile step.gir                              compiles and reports only
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="the .gcx to write")
    add_autotune(parser)
    parser.add_argument("--target", dest="cpu", metavar="CPU", help="host, x86-64, avx2, ...")


def run(options: argparse.Namespace) -> int:
    from graphc.backends.llvm.jit import CodegenError
    from graphc.debug.explain import bytes_text, time_text

    from .console import Console
    from .export import require_weights, write_gcx
    from .stages import Stages, plural
    from .tuning import tuning, tuning_line

    if options.output and Path(options.output).suffix != ".gcx":
        raise Misuse(f"{options.output}: a compiled artifact ends in .gcx")
    program = load(options.target, options.inputs, options.graph)
    if options.output:
        require_weights(program)
    console = Console()
    with tuning(console, options.autotune, options.cpu):
        compiled = Stages(program, options.cpu).compiled
    try:
        executable = compiled.executable
    except CodegenError as error:
        raise CommandError(
            str(error),
            hint=f"graphc show --stage asm --target {options.cpu} prints its code.",
        ) from None
    stats = executable.compile_stats
    console.line(
        f"{console.bold(program.name)}: {plural(len(program.graph.nodes), 'node')} in "
        f"{plural(compiled.count, 'kernel')} for {compiled.target.name}"
    )
    parts = {
        "fusion": stats.fuse_ns,
        **({"autotuning": stats.tune_ns} if stats.tune_ns else {}),
        "lowering and text": stats.emit_ns,
        "LLVM": stats.code_ns,
    }
    rest = compiled.wall_s - sum(parts.values()) / 1e9
    times = "".join([f", {name} {time_text(ns / 1e9)}" for name, ns in parts.items()])
    console.line(f"  {time_text(compiled.wall_s)}: rules {time_text(rest)}{times}")
    if (line := tuning_line(compiled)) is not None:
        console.line(f"  {line}")
    console.line(f"  {plural(len(compiled.refusals), 'edge')} not fused (graphc explain says why)")
    if not executable.symbols:
        console.line(f"  memory of one call: {bytes_text(executable.arena_bytes)}")
    if options.output:
        write_gcx(program, Path(options.output))
        console.line(f"  {options.output}: {bytes_text(Path(options.output).stat().st_size)}")
    return 0
