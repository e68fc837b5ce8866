"""A failing program made small: one result, and as few nodes as still fail.

First the earliest node whose own results disagree is found; then values before it are cut, one by
one, into parameters that hold what the interpreter computed.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from graphc.ir.build import Builder, dead_code
from graphc.ir.errors import GraphcError
from graphc.ir.graph import Graph, Value
from graphc.ir.interpret import run
from graphc.ir.types import TensorType

from .bounds import bounded_run
from .compare import problem
from .program import Program

Fails = Callable[[Program], bool]


def fails_in(way: str) -> Fails:
    """Whether a program fails in that way; a program that cannot run there does not."""

    def fails(program: Program) -> bool:
        try:
            expected = bounded_run(program.graph, program.arrays)
            return bool(problem(way, program.graph, program.arrays, program.sizes, expected))
        except (GraphcError, NotImplementedError, ArithmeticError, LookupError):
            return False

    return fails


def minimised(program: Program, fails: Fails) -> Program:
    """The smallest program found that still fails."""
    if not fails(program):
        return program
    best = _first_wrong_node(program, fails)
    shrunk = True
    while shrunk:
        shrunk = False
        for value in _inner_values(best.graph):
            cut = _cut(best, value)
            if len(cut.graph.nodes) < len(best.graph.nodes) and fails(cut):
                best, shrunk = cut, True
                break
    return _without_unused(best)


def _first_wrong_node(program: Program, fails: Fails) -> Program:
    for node in program.graph.nodes:
        for value in node.outputs:
            if isinstance(value.type, TensorType) and value.type.dtype.kind != "c":
                short = replace(program, graph=_only(program.graph, [value]))
                if fails(short):
                    return short
    return program


def _only(graph: Graph, results: Sequence[Value]) -> Graph:
    return dead_code(Graph(graph.params, graph.nodes, results))


def _inner_values(graph: Graph) -> list[Value]:
    results = set(graph.results)
    return [
        v
        for node in reversed(graph.nodes)
        if node.op.name not in ("full", "const", "iota", "dim")
        for v in node.outputs
        if v not in results and v.type.is_static
    ]


def _cut(program: Program, value: Value) -> Program:
    """The program with a value given instead of computed."""
    graph = program.graph
    with np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
        part = _only(graph, [value])
        (array,) = run(part, program.arrays, program.sizes)
    with Builder() as b:
        params = [b.param(p.type) for p in graph.params]
        new = dict(zip(graph.params, params, strict=True))
        new[value] = b.param(value.type)
        for node in graph.nodes:
            made = b.emit(node.op, tuple(new[v] for v in node.inputs), node.attrs, node.blocks)
            for old, fresh in zip(node.outputs, made, strict=True):
                new.setdefault(old, fresh)
        made_graph = b.graph([new[v] for v in graph.results])
    return replace(program, graph=made_graph, arrays=(*program.arrays, array))


def _without_unused(program: Program) -> Program:
    graph = program.graph
    used = {v for node in graph.nodes for v in node.inputs} | set(graph.results)
    kept = [i for i, p in enumerate(graph.params) if p in used]
    return replace(
        program,
        graph=Graph([graph.params[i] for i in kept], graph.nodes, graph.results),
        arrays=tuple(program.arrays[i] for i in kept),
    )


def report(program: Program, way: str, wrong: str) -> str:
    """What a person needs: the way, what is wrong, the text, the operands."""
    lines = [f"seed {program.seed}, {way}: {wrong}", str(program.graph)]
    for param, array in zip(program.graph.params, program.arrays, strict=True):
        text = np.array2string(array, threshold=40, max_line_width=100)
        lines.append(f"{param.name or '%'} {param.type.text} = {text}")
    return "\n".join(lines)
