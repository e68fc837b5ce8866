"""Inline values that several kernels would compute: found before fusion, by a cheap estimate.

Fusion finds them for certain (`fuse.shared_dear_values`), but only after it has pulled them into
every reader, and then it runs again; a chain of sums through a deep network would be pulled whole
into each layer. Here kernels are told apart by their *level*: how many native kernels stand on the
longest way to them. Readers of different levels seldom share a kernel.
"""

from __future__ import annotations

from collections.abc import Collection

from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Pointwise

from .expr import KEEP_COST
from .group import is_anchor


def is_dear(value: Value) -> bool:
    """Whether a pointwise value costs more to compute again than to keep."""
    node = value.node
    assert node is not None
    return node.op.cost >= 3 or (
        sum([v.node.op.cost for v in node.inputs if v.node and v.node.op.cost > 1]) >= KEEP_COST
    )


def shared_values(graph: Graph, native: Collection[Node], roots: Collection[Value]) -> set[Value]:
    """The pointwise values that kernels of several levels read.

    native: nodes that have kernels of their own; roots: the values that are in memory anyway.
    """
    levels = _levels(graph, native)
    readers: dict[Value, int] = {}  # the levels of the kernels that compute the value, as bits
    found: set[Value] = set()
    for node in reversed(graph.nodes):
        if node in native or not node.outputs:
            continue
        value = node.outputs[0]
        here = readers.get(value, 0)
        if value in roots or is_anchor(node):
            here = 1 << levels[node]
        elif here & (here - 1) and isinstance(node.op, Pointwise):
            found.add(value)
            if is_dear(value) or len(node.inputs) > 1:
                here = 1 << levels[node]  # most likely in memory: its inputs are read here only
        for operand in node.inputs:
            readers[operand] = readers.get(operand, 0) | here
    return found


def _levels(graph: Graph, native: Collection[Node]) -> dict[Node, int]:
    levels: dict[Node, int] = {}
    for node in graph.nodes:
        level = max([levels[v.node] for v in node.inputs if v.node is not None], default=0)
        levels[node] = level + (node in native)
    return levels
