"""Rewrites of nodes that kernels do not take as they are, into nodes that they do.

1. `searchsorted` of halves goes through f32, which holds them exactly.
2. `copy_to` another device of the same memory is the value itself: all is on one device then.
3. `if` by a predicate of several elements runs both blocks, and selects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.ir.build import Builder
from graphc.ir.dtype import BF16, F16, F32
from graphc.ir.graph import Attrs, Graph, Node, Value
from graphc.ir.op import OPS
from graphc.ir.types import TensorType

from .expand import expand_composites

Rewrite = Callable[[Node, tuple[Value, ...]], "tuple[Value, ...] | None"]


def _searchsorted(node: Node, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
    if inputs[0].type.dtype not in (F16, BF16):
        return None
    wide = [OPS["cast"](value, dtype=F32) for value in inputs]
    return (OPS["searchsorted"](*wide, **node.attrs),)


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
    "searchsorted": _searchsorted,
    "if": _if,
}


def _on_one_device(graph: Graph) -> Graph:
    """The graph without copies between devices that share the CPU's memory."""
    with Builder() as builder:
        new: dict[Value, Value] = {}
        for param in graph.params:
            new[param] = builder.param(_on_cpu(param.type), param.name)
        for node in graph.nodes:
            inputs = tuple([new[value] for value in node.inputs])
            if node.op.name == "copy_to":
                new[node.outputs[0]] = inputs[0]
                continue
            attrs = node.attrs
            if "device" in attrs:
                attrs = Attrs.of({**dict(attrs.items()), "device": "cpu"})
            blocks = tuple([_on_one_device(block) for block in node.blocks])
            builder.loc = node.loc
            made = builder.emit(node.op, inputs, attrs, blocks)
            new.update(zip(node.outputs, made))
        return builder.graph([new[value] for value in graph.results])


def _on_cpu(type: Any) -> Any:
    return TensorType(type.dtype, type.shape) if isinstance(type, TensorType) else type


def legalize(graph: Graph) -> Graph:
    """The graph with every node that has a rewrite replaced."""
    if any([node.op.name == "copy_to" for node in graph.nodes]):
        graph = _on_one_device(graph)
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
