"""Forward mode: each node is followed by the move of its outputs, where its inputs move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.ir.build import Builder, dead_code
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Op

from ..expand import expansion
from .linear import (
    NodeView,
    derived,
    differentiable,
    has_derivative,
    linear_places,
    missing_derivative,
    or_zero,
    scaled,
    total,
    zero_like,
)
from .reverse import plain_vjp

Moves = Sequence[Value | None]
Values = Sequence[Value]

# Control flow: outputs and their tangents together, from one node with wider blocks.
PUSH: dict[Op, Callable[[Builder, Node, tuple[Value, ...], Moves], tuple[Values, Moves]]] = {}


def jvp(graph: Graph, moved: Sequence[int] | None = None, simplify: Any = None) -> Graph:
    """(inputs, tangents of inputs `moved`) -> (results, tangents of the differentiable results).

    `moved` defaults to all floating-point and complex inputs; a result that does not move has
    zeros.
    """
    moved = differentiable(graph.params) if moved is None else list(moved)
    with Builder(graph.params, simplify) as builder:
        tangents = {i: builder.param(graph.params[i].type) for i in moved}
        results, moves = push_graph(builder, graph, graph.params, tangents)
        floats = differentiable(results)
        return builder.graph([*results, *[or_zero(moves[i], results[i]) for i in floats]])


def push_graph(
    builder: Builder, graph: Graph, arguments: Sequence[Value], tangents: dict[int, Value]
) -> tuple[list[Value], list[Value | None]]:
    """Builds `graph` on `arguments`, moved by `tangents` (by place): results and their tangents
    (None: they do not move)."""
    new: dict[Value, Value] = dict(zip(graph.params, arguments, strict=True))
    move: dict[Value, Value] = {graph.params[i]: t for i, t in tangents.items()}
    outer_loc = builder.loc
    for node in graph.nodes:
        operands = tuple([new[value] for value in node.inputs])
        moves = [move.get(value) for value in node.inputs]
        builder.loc = node.loc
        moves_on = any(moves) and any([has_derivative(value) for value in node.outputs])
        control = PUSH.get(node.op) if moves_on else None
        if control is not None:
            made, tangents_out = control(builder, node, operands, moves)
        else:
            made = builder.emit(node.op, operands, node.attrs, node.blocks, node)
            tangents_out = ()
        new.update(zip(node.outputs, made, strict=True))
        if moves_on and control is None:
            builder.loc = derived(node.loc)
            tangents_out = push_node(builder, NodeView.of(node, new), moves)
        for value, tangent in zip(node.outputs, tangents_out):
            if tangent is not None:
                move[value] = tangent
    builder.loc = outer_loc
    return [new[v] for v in graph.results], [move.get(v) for v in graph.results]


def push_node(builder: Builder, node: Any, moves: Moves) -> Moves:
    """The tangents of the outputs, from those of the operands (at least one is there)."""
    op = node.op
    if op.flat:
        return [None] * len(node.outputs)
    if op.no_derivative:
        raise missing_derivative(node)
    push = getattr(op, "push", None)
    if push is not None:
        return push(list(moves), node)
    if op.linear is not None:
        return _push_linear(builder, node, moves)
    partials = getattr(op, "partials", None)
    if partials is not None:
        slopes = partials(*node.inputs, out=node.outputs[0])
        return [total(scaled(m, s) for m, s in zip(moves, slopes, strict=True) if m is not None)]
    if hasattr(op, "pull"):
        return _push_by_pull(builder, node, moves)
    if op.composite:
        tangents = {i: m for i, m in enumerate(moves) if m is not None}
        return push_graph(builder, expansion(node), node.inputs, tangents)[1]
    raise missing_derivative(node)


def _push_linear(builder: Builder, node: Any, moves: Moves) -> Moves:
    """Linear in all of its operands together (select): the op on the tangents. Linear in each
    alone (dot): a sum, each term with one operand moved."""
    op, places = node.op, set(linear_places(node))
    moving = [i for i, move in enumerate(moves) if move is not None and i in places]
    if not moving:
        return [None] * len(node.outputs)
    if op.bilinear:
        terms = []
        for i in moving:
            operands = (*node.inputs[:i], moves[i], *node.inputs[i + 1 :])
            terms.append(builder.emit(op, operands, node.attrs, node.blocks)[0])
        return [total(terms)]
    operands = tuple(
        [or_zero(moves[i], x) if i in places else x for i, x in enumerate(node.inputs)]
    )
    return builder.emit(op, operands, node.attrs, node.blocks)


def _push_by_pull(builder: Builder, node: Any, moves: Moves) -> Moves:
    """An op that declares its pull alone: a pull is linear in the cotangents, so that its own
    transpose pushes tangents."""
    inputs, outputs = node.inputs, node.outputs
    floats = differentiable(outputs)
    with Builder() as b:
        operands = [b.param(v.type) for v in (*inputs, *outputs)]
        cts: list[Value | None] = [None] * len(outputs)
        for i in floats:
            cts[i] = b.param(outputs[i].type)
        n = len(inputs)
        view = NodeView(node.op, tuple(operands[:n]), tuple(operands[n:]), node.attrs, (), "")
        grads = node.op.pull(cts, view)
        moving = [i for i, g in enumerate(grads) if g is not None and moves[i] is not None]
        pulled = b.graph([grads[i] for i in moving])
    places = range(len(operands), len(operands) + len(floats))
    transposed = plain_vjp(pulled, places, range(len(moving)))
    tangents_only = dead_code(
        Graph(transposed.params, transposed.nodes, transposed.results[len(moving) :])
    )
    unread = [zero_like(outputs[i]) for i in floats]
    arguments = [*inputs, *outputs, *unread, *[moves[i] for i in moving]]
    made = builder.replay(tangents_only, arguments)
    outs: list[Value | None] = [None] * len(outputs)
    for i, tangent in zip(floats, made, strict=True):
        outs[i] = tangent
    return outs
