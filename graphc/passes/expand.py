"""Expansion of composites: a composite that nobody claims is replaced by the ops that define it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from graphc.ir.build import Builder
from graphc.ir.graph import Graph, Node, Value


def expansion(node: Any) -> Graph:
    """The graph that defines a composite for the types and attributes of this node."""
    return node.op.graph(tuple([value.type for value in node.inputs]), node.attrs)


def expand_composites(graph: Graph, claimed: Collection[str] = frozenset()) -> Graph:
    """Replaces each composite whose name is not in `claimed` by its expansion, in blocks too, and
    to the end: what an expansion is made of is expanded as well. Nodes keep the composite's line.
    """
    if not _needs_expansion(graph, claimed):
        return graph
    with Builder(graph.params) as builder:
        results = _build(builder, graph, graph.params, claimed, "")
        return builder.graph(results)


def _needs_expansion(graph: Graph, claimed: Collection[str]) -> bool:
    for node in graph.nodes:
        if node.op.composite and node.op.name not in claimed:
            return True
        for block in node.blocks:
            if _needs_expansion(block, claimed):
                return True
    return False


def _build(
    builder: Builder, graph: Graph, arguments: Any, claimed: Collection[str], loc: str
) -> list[Value]:
    """Builds the graph on arguments with composites expanded; `loc` is the outermost one's."""
    new: dict[Value, Value] = dict(zip(graph.params, arguments, strict=True))
    for node in graph.nodes:
        inputs = tuple([new[value] for value in node.inputs])
        line = loc or node.loc
        builder.loc = line
        made: Any
        if node.op.composite and node.op.name not in claimed:
            made = _build(builder, expansion(node), inputs, claimed, line)
        else:
            blocks = node.blocks
            if blocks:
                blocks = tuple([expand_composites(block, claimed) for block in blocks])
            origin: Node | None = None if loc else node
            made = builder.emit(node.op, inputs, node.attrs, blocks, origin)
        new.update(zip(node.outputs, made, strict=True))
    return [new[value] for value in graph.results]


def dear_by_expansion(node: Node) -> bool:
    """Whether a composite's expansion holds a node that is worth keeping."""
    if not node.op.composite:
        return False
    return any(n.op.dear or dear_by_expansion(n) for n in expansion(node).nodes)
