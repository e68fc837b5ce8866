"""Lifts products out of scans: a step keeps those that need the step before.

1. `before`: what depends on rows and constants alone is one product over all rows, ahead of the
   loop; what depends on constants alone is computed once.
2. `sums`: a carry that only adds up products or sums of each step is one of these over the rows of
   all steps, after the loop. That is how the gradient of a weight becomes one product.
3. `after`: what only stacked results need is one product over the stacked rows, after the loop.

Only scans that a program or a derivative has: what `roll` makes keeps the bits of what it rolled.
Each decision looks at the step and its shapes alone, so equal steps have equal bits everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.build import Builder
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import OPS

from ..blocks import has_blocks
from .after import lift_after
from .before import lift_before
from .loop import Loop
from .sums import lift_sums

__all__ = ["lift"]

SCAN = OPS["scan"]


def lift(graph: Graph) -> Graph:
    """The graph with the products that its scans need not hold outside of them; itself where
    there are none. Inner loops come first: what leaves them may leave the outer ones too."""
    if not has_blocks(graph):
        return graph
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = {p: p for p in graph.params}
        for node in graph.nodes:
            inputs = tuple([new[v] for v in node.inputs])
            builder.loc = node.loc
            made: Sequence[Value]
            if node.blocks:
                made = _lift_node(builder, node, inputs)
            else:
                made = builder.emit(node.op, inputs, node.attrs, (), node)
            new.update(zip(node.outputs, made, strict=True))
        result = builder.graph([new[v] for v in graph.results])
    same = result.nodes == graph.nodes and result.results == graph.results
    return graph if same else result


def _lift_node(builder: Builder, node: Node, inputs: tuple[Value, ...]) -> Sequence[Value]:
    blocks = tuple([lift(block) for block in node.blocks])
    if node.op is SCAN:
        loop = Loop.of(inputs, node.attrs, blocks[0])
        made = _lifted(loop)
        if made is not None:
            return made
    return builder.emit(node.op, inputs, node.attrs, blocks, node)


def _lifted(loop: Loop) -> list[Value] | None:
    """The outputs of the loop with something lifted; None where nothing is."""
    for step in (lift_before, lift_sums, lift_after):
        found = step(loop)
        if found is not None:
            smaller, finish = found
            made = _lifted(smaller)
            return finish(smaller.run() if made is None else made)
    return None
