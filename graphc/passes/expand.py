"""Expansion of composites: a composite that nobody claims is replaced by the ops that define it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from graphc.ir.build import Builder
from graphc.ir.graph import Graph, Node, Value


def expansion(node: Any) -> Graph:
    """The graph that defines a composite for the types and attributes of this node."""
    return node.op.graph(tuple([value.type for value in node.inputs]), node.attrs)


Claims = Callable[[Node], bool]


def expand_composites(graph: Graph, claimed: Collection[str] | Claims = frozenset()) -> Graph:
    """Replaces each composite that is not claimed by its expansion, in blocks too, and to the end:
    what an expansion is made of is expanded as well. Nodes keep the composite's line.

    claimed: names of composites, or a function that says of a node whether it stays.
    """
    keeps = claimed if callable(claimed) else lambda node: node.op.name in claimed
    if not _needs_expansion(graph, keeps):
        return graph
    with Builder(graph.params) as builder:
        results = _build(builder, graph, graph.params, keeps, "")
        return builder.graph(results)


def _needs_expansion(graph: Graph, keeps: Claims) -> bool:
    for node in graph.nodes:
        if node.op.composite and not keeps(node):
            return True
        for block in node.blocks:
            if _needs_expansion(block, keeps):
                return True
    return False


def _build(builder: Builder, graph: Graph, arguments: Any, keeps: Claims, loc: str) -> list[Value]:
    """Builds the graph on arguments with composites expanded; `loc` is the outermost one's."""
    new: dict[Value, Value] = dict(zip(graph.params, arguments, strict=True))
    for node in graph.nodes:
        inputs = tuple([new[value] for value in node.inputs])
        line = loc or node.loc
        builder.loc = line
        made: Any
        if node.op.composite and not keeps(node):
            made = _build(builder, expansion(node), inputs, keeps, line)
        else:
            blocks = node.blocks
            if blocks:
                blocks = tuple([expand_composites(block, keeps) for block in blocks])
            origin: Node | None = None if loc else node
            made = builder.emit(node.op, inputs, node.attrs, blocks, origin)
        new.update(zip(node.outputs, made, strict=True))
    return [new[value] for value in graph.results]


def dear_by_expansion(node: Node) -> bool:
    """Whether a composite's expansion holds a node that is worth keeping."""
    if not node.op.composite:
        return False
    return any(n.op.dear or dear_by_expansion(n) for n in expansion(node).nodes)
