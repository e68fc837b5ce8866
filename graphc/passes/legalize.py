"""Rewrites of nodes that kernels do not take as they are, into nodes that they do.

1. `sort` and `searchsorted` of halves go through f32, which holds them exactly.
2. `copy_to` another device of the same memory is the value itself.
3. `if` by a predicate of several elements runs both blocks, and selects.
"""

from __future__ import annotations

from collections.abc import Callable

from graphc.ir.build import Builder
from graphc.ir.dtype import BF16, F16, F32
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import OPS

from .expand import expand_composites

Rewrite = Callable[[Node, tuple[Value, ...]], "tuple[Value, ...] | None"]


def _narrow(value: Value) -> bool:
    return value.type.dtype in (F16, BF16)


def _sort(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if not _narrow(inputs[0]):
        return None
    wide, places = OPS["sort"](OPS["cast"](inputs[0], dtype=F32), **node.attrs)
    return OPS["cast"](wide, dtype=inputs[0].type.dtype), places


def _searchsorted(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if not _narrow(inputs[0]):
        return None
    wide = [OPS["cast"](value, dtype=F32) for value in inputs]
    return (OPS["searchsorted"](*wide, **node.attrs),)


def _copy_to(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    return inputs


def _if(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    predicate, *operands = inputs
    rank = len(predicate.type.shape)
    if rank == 0:
        return None
    builder = Builder.current()
    sides = [builder.replay(expand_composites(block), operands) for block in node.blocks]
    made = []
    for then, other in zip(*sides):
        shape = then.type.shape
        mask, axes = predicate, tuple(range(rank, len(shape)))
        if axes:
            mask = OPS["expand"](predicate, shape=shape, axes=axes)
        made.append(OPS["select"](mask, then, other))
    return tuple(made)


REWRITES: dict[str, Rewrite] = {
    "sort": _sort,
    "searchsorted": _searchsorted,
    "copy_to": _copy_to,
    "if": _if,
}


def legalize(graph: Graph) -> Graph:
    """The graph with every node that has a rewrite replaced."""
    if not any([node.op.name in REWRITES for node in graph.nodes]):
        return graph
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = dict(zip(graph.params, graph.params))
        for node in graph.nodes:
            inputs = tuple([new[value] for value in node.inputs])
            builder.loc = node.loc
            rewrite = REWRITES.get(node.op.name)
            made = rewrite(node, inputs) if rewrite is not None else None
            if made is None:
                made = builder.emit(node.op, inputs, node.attrs, node.blocks, node)
            new.update(zip(node.outputs, made))
        return builder.graph([new[value] for value in graph.results])
