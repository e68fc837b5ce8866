"""The walk that batches a graph, node by node, and what all rules share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.dims import AnyDim
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import OPS, Op, Pointwise

from ..expand import expansion

# (node, operands in the new graph, which of them are mapped, count) -> outputs, which are mapped
Made = tuple[Sequence[Value], Sequence[bool]]
Rule = Callable[[Any, list[Value], list[bool], AnyDim], Made]
RULES: dict[Op, Rule] = {}


def vmap(graph: Graph, mapped: Iterable[int], count: AnyDim, simplify: Any = None) -> Graph:
    """`graph` on `count` examples at once: the parameters `mapped` and all results have one more
    axis of that size in front; a result that depends on no mapped parameter is repeated."""
    every = frozenset(range(len(graph.results)))
    return batch(graph, set(mapped), count, force=every, simplify=simplify)[0]


def batch(
    graph: Graph,
    mapped: set[int],
    count: AnyDim,
    force: Iterable[int] = (),
    simplify: Any = None,
) -> tuple[Graph, set[int]]:
    """The batched graph, and which results carry the new axis (at least those in `force`)."""
    forced = set(force)
    with Builder(simplify=simplify) as builder:
        new: dict[Value, Value] = {}
        wide: set[Value] = set()
        for i, p in enumerate(graph.params):
            type = p.type.with_shape((count, *p.type.shape)) if i in mapped else p.type
            new[p] = builder.param(type, p.name)
            if i in mapped:
                wide.add(p)
        for node in graph.nodes:
            inputs = [new[value] for value in node.inputs]
            which = [value in wide for value in node.inputs]
            builder.loc = node.loc
            if any(which):
                made, outs = batch_node(node, inputs, which, count)
                wide.update([v for v, is_wide in zip(node.outputs, outs, strict=True) if is_wide])
            else:
                made = builder.emit(node.op, tuple(inputs), node.attrs, node.blocks, node)
            new.update(zip(node.outputs, made, strict=True))
        outs_wide = {i for i, v in enumerate(graph.results) if v in wide or i in forced}
        results = [
            widen(new[v], v in wide, count) if i in outs_wide else new[v]
            for i, v in enumerate(graph.results)
        ]
        return builder.graph(results), outs_wide


def batch_node(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    """Builds a node on operands of which some (`which`, at least one) have the axis of examples in
    front: its outputs, and which of them have it."""
    rule = RULES.get(node.op)
    if rule is None:
        if isinstance(node.op, Pointwise):
            rule = pointwise
        elif node.op.composite:
            rule = composite
        else:
            rule = each_example
    return rule(node, inputs, which, count)


def emit(node: Any, inputs: Sequence[Value], **attrs: Any) -> Sequence[Value]:
    """The node's op on other operands, with some attributes changed."""
    op = node.op
    changed = op.attrs_of({**node.attrs, **attrs}) if attrs else node.attrs
    return Builder.current().emit(op, tuple(inputs), changed, node.blocks)


def widen(value: Value, is_wide: bool, count: AnyDim) -> Value:
    """The value with the axis of examples in front, repeated where it has none."""
    if is_wide:
        return value
    return ops.expand(value, shape=(count, *value.type.shape), axes=(0,))


def widen_all(inputs: Sequence[Value], which: Sequence[bool], count: AnyDim) -> list[Value]:
    return [widen(x, w, count) for x, w in zip(inputs, which, strict=True)]


def move_to_front(value: Value, axis: int) -> Value:
    if axis == 0:
        return value
    rest = [i for i in range(len(value.type.shape)) if i != axis]
    return ops.permute(value, perm=(axis, *rest))


def pointwise(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    return emit(node, widen_all(inputs, which, count)), [True]


def composite(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    """A composite of pointwise ops stays itself; another is batched through its expansion."""
    graph = expansion(node)
    if all([_is_pointwise(n) for n in graph.nodes]):
        return emit(node, widen_all(inputs, which, count)), [True] * len(node.outputs)
    mapped = {i for i, w in enumerate(which) if w}
    body, outs = batch(graph, mapped, count)
    made = Builder.current().replay(body, inputs)
    return made, [i in outs for i in range(len(made))]


def _is_pointwise(node: Node) -> bool:
    op = node.op
    if op.composite:
        return all([_is_pointwise(n) for n in expansion(node).nodes])
    return isinstance(op, Pointwise) or op is OPS["full"]


def each_example(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    """Any op: a scan over the examples."""
    with Builder(loc=node.loc) as b:
        params = [b.param(v.type) for v in node.inputs]
        made = b.emit(node.op, tuple(params), node.attrs, node.blocks)
        body = b.graph(made)
    order = [i for i, w in enumerate(which) if w] + [i for i, w in enumerate(which) if not w]
    body = Graph([body.params[i] for i in order], body.nodes, body.results)
    xs = [inputs[i] for i in order if which[i]]
    consts = [inputs[i] for i in order if not which[i]]
    return ops.scan(body, [], xs, consts, count), [True] * len(node.outputs)
