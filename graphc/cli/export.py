"""`graphc export`: a program as .onnx or .gcx."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .errors import CommandError, Misuse
from .program import Program, add_target, load

EXAMPLE = """\
examples:
  graphc export net.py:Net --input f32[1,3,224,224] -o net.onnx
  graphc export net.gcx -o net.onnx --opset 18
  graphc export model.onnx -o model.gcx
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the .onnx or .gcx to write"
    )
    parser.add_argument("--opset", type=int, help="the ONNX opset (default: 20)")


def run(options: argparse.Namespace) -> int:
    from graphc.debug.explain import bytes_text

    from .console import Console

    output = Path(options.output)
    if output.suffix not in (".onnx", ".gcx"):
        raise Misuse(f"{output}: the ending is .onnx or .gcx")
    if not output.resolve().parent.is_dir():
        raise CommandError(f"{output}: there is no folder {output.parent}")
    program = load(options.target, options.inputs, options.graph)
    if output.suffix == ".onnx":
        said = write_onnx(program, output, options.opset)
    else:
        said = write_gcx(program, output)
    Console().line(f"{output}: {bytes_text(output.stat().st_size)}, {said}")
    return 0


def write_onnx(program: Program, path: Path, opset: int | None = None) -> str:
    """Writes and checks the ONNX model; returns what it is, in words."""
    from graphc.backends.onnx import DEFAULT_OPSET, check_model, export_graph, write_model

    opset = DEFAULT_OPSET if opset is None else opset
    model = export_graph(program.graph, name=program.name, weights=program.weights, opset=opset)
    check_model(model)
    write_model(model, path)
    return f"{len(model.graph.node)} ONNX nodes, opset {opset}, checked"


def write_gcx(program: Program, path: Path) -> str:
    """Writes the artifact of a program that was traced or loaded."""
    import graphc

    require_weights(program)
    graphc.jit.save(as_traced(program), str(path))
    return f"{len(program.graph.nodes)} nodes"


def require_weights(program: Program) -> None:
    """CommandError for a program that is only text."""
    if program.traced is None and not program.weights:
        raise CommandError(
            f"{program.name} is text without weights",
            hint="A .gcx is made of a function, a module or a model.",
        )


def as_traced(program: Program) -> Any:
    """The program as graphc.jit has it: a callable with weights, inputs and outputs in order."""
    import graphc
    from graphc.ir.graph import Graph

    if program.traced is not None:
        return program.traced
    graph = program.graph
    bound = [param for param in graph.params if param.name in program.weights]
    ordered = Graph([*program.inputs, *bound], graph.nodes, graph.results)
    weights = {p.name: graphc.from_numpy(program.weights[p.name].copy()) for p in bound}
    arguments = [{"list": [None] * len(program.inputs)}, {"dict": {}}]
    results = None if len(graph.results) == 1 else {"tuple": [None] * len(graph.results)}
    return graphc.jit.TracedModule(ordered, weights, {"list": arguments}, results, program.name)
