"""`graphc run`: a script with graphc as torch, or a model on inputs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .errors import CommandError, Misuse
from .program import ENDINGS, Program, array_of, example_arrays, load

EXAMPLE = """\
examples:
  graphc run train.py --epochs 3                 train.py imports torch; it gets graphc
  graphc run model.onnx --input image.npy        prints the outputs
  graphc run model.gcx --input f32[1,3,224,224] -o outputs.npz
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="a script .py, or a model .onnx .gcx .gir")
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="a script's own arguments; for a model: --input TYPE or file.npy, -o FILE.npz",
    )


def run(options: argparse.Namespace) -> int:
    path = Path(options.target)
    if path.suffix == ".py":
        return run_script(path, options.arguments)
    if path.suffix in ENDINGS:
        return run_model(options.target, options.arguments)
    raise Misuse(f"cannot run {options.target!r}", hint="TARGET ends in .py, .onnx, .gcx or .gir.")


def run_script(path: Path, arguments: list[str]) -> int:
    """Runs the script as the main program, with graphc as torch."""
    import runpy

    import graphc

    if not path.is_file():
        raise CommandError(f"{path}: no such file")
    graphc.as_torch()
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.resolve().parent))
    runpy.run_path(str(path), run_name="__main__")
    return 0


def run_model(target: str, arguments: list[str]) -> int:
    from . import Parser
    from .console import Console
    from .stages import plural

    parser = Parser(prog="graphc run MODEL")
    parser.add_argument("--input", action="append", default=[], dest="inputs")
    parser.add_argument("-o", "--output")
    options = parser.parse_args(arguments)
    program = load(target, ())
    wanted = program.inputs
    arrays = example_arrays(options.inputs) if options.inputs else made_up(program)
    if len(arrays) != len(wanted):
        shown = ", ".join([f"{param.name}: {param.type.text}" for param in wanted])
        raise Misuse(f"the model takes {len(wanted)}, not {plural(len(arrays), 'input')}: {shown}")
    for param, array in zip(wanted, arrays, strict=True):
        if array.dtype != param.type.dtype.numpy:
            raise CommandError(
                f"the input {param.name} is {param.type.text}, not of {array.dtype}",
                hint="Types are not changed in silence: numpy's astype changes them.",
            )
    outputs = execute(program, arrays)
    console = Console()
    for name, array in outputs.items():
        console.line(f"{console.bold(name)}  {describe(array)}")
    if options.output:
        import numpy as np

        np.savez(options.output, **outputs)
        console.line(f"written to {options.output}")
    return 0


def made_up(program: Program) -> list[Any]:
    """Inputs of the types that the model declares."""
    import numpy as np

    stream = np.random.default_rng(0)
    return [array_of(param.type, stream) for param in program.inputs]


def execute(program: Program, arrays: list[Any]) -> dict[str, Any]:
    """Compiles the graph and runs it; the outputs by name."""
    from graphc.backends.base import build

    executable = build(program.graph, name=program.name, dims=program.module.dims)
    given = iter(arrays)
    bound = [
        program.weights[p.name] if p.name in program.weights else next(given)
        for p in program.graph.params
    ]
    names = [value.name or f"output{k}" for k, value in enumerate(program.graph.results)]
    return dict(zip(names, executable(*bound), strict=True))


def describe(array: Any) -> str:
    """Type, range and first elements of an array."""
    import numpy as np

    flat = array.reshape(-1)
    head = ", ".join(
        [f"{value:.6g}" if array.dtype.kind in "fc" else str(value) for value in flat[:6]]
    )
    more = ", ..." if flat.size > 6 else ""
    text = f"{array.dtype}{list(array.shape)}  [{head}{more}]"
    if flat.size and array.dtype.kind == "f":
        text += f"  min {np.min(array):.6g}  max {np.max(array):.6g}"
    return text
