"""Reverse mode: cotangents of results are pulled back to cotangents of inputs.

Inside, a cotangent is the plain transpose's (of L with respect to x + iy: dL/dx - i dL/dy), so
that no op's rule conjugates. PyTorch's gradient is its conjugate: complex values are conjugated
where cotangents enter and where they leave, here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphc.ir.build import Builder
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import OPS, Op

from ..blocks import merge_loops
from ..expand import expansion
from .linear import (
    NodeView,
    Pullback,
    add_to,
    conjugate,
    derived,
    differentiable,
    has_derivative,
    linear_places,
    missing_derivative,
    or_zero,
    scaled,
    zero_like,
)

PULL: dict[Op, Pullback] = {}  # ops whose derivative needs their blocks: control flow


def vjp_into(
    builder: Builder,
    nodes: Graph | Iterable[Node],
    wrt: Sequence[Value],
    seeds: dict[Value, Value],
) -> list[Value | None]:
    """Appends to `builder` the pull of `seeds` (value -> its cotangent) back to `wrt`.

    `nodes` are already built nodes in their order, at least those between `wrt` and the seeds; they
    stay as they are. Returns the cotangents of `wrt`, None where no path leads. Cotangents add up
    in the reversed order of the nodes, operands from left to right: that fixes the bits. Iterative,
    and linear in `nodes`. `builder` must be the current one.
    """
    if Builder.current() is not builder:
        raise RuntimeError("vjp_into appends to the current builder: use `with builder:`")
    path = nodes.nodes if isinstance(nodes, Graph) else tuple(nodes)
    active = active_values(path, wrt)
    cotangents = {v: conjugate(ct) for v, ct in seeds.items() if v in active}
    _pull_back(builder, path, active, cotangents, None)
    return [_outgoing(cotangents.get(v)) for v in wrt]


def linearize(
    builder: Builder, graph: Graph, arguments: Sequence[Value], wanted: Sequence[int] | None = None
) -> tuple[list[Value], Callable[[Sequence[Value | None]], list[Value | None]]]:
    """Builds `graph` on `arguments`: its results, and the map from their cotangents (None: zero)
    to those of the wanted inputs (None: no path). `wanted` defaults to all that have derivatives.

    A graph and a node are linearized to the same thing, so a composite is its expansion's.
    """
    results, pull = linearize_plain(builder, graph, arguments, wanted)

    def pull_conjugated(cotangents: Sequence[Value | None]) -> list[Value | None]:
        entering = [None if ct is None else conjugate(ct) for ct in cotangents]
        return [_outgoing(ct) for ct in pull(entering)]

    return results, pull_conjugated


def vjp(
    graph: Graph,
    wanted: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    simplify: Any = None,
) -> Graph:
    """(inputs, cotangents of results `seeds`) -> (results, cotangents of inputs `wanted`).

    Both default to all floating-point and complex ones. A cotangent without a path is zeros.
    """
    return _vjp(graph, wanted, seeds, simplify, linearize)


def plain_vjp(graph: Graph, wanted: Sequence[int], seeds: Sequence[int]) -> Graph:
    """`vjp` whose cotangents are plain transposes: for the blocks of control flow."""
    return _vjp(graph, wanted, seeds, None, linearize_plain)


def _vjp(graph: Graph, wanted: Any, seeds: Any, simplify: Any, linearized: Callable) -> Graph:
    wanted = differentiable(graph.params) if wanted is None else list(wanted)
    seeds = differentiable(graph.results) if seeds is None else list(seeds)
    with Builder(graph.params, simplify) as builder:
        cotangents = {i: builder.param(graph.results[i].type) for i in seeds}
        results, pull = linearized(builder, graph, graph.params, wanted)
        found = pull([cotangents.get(i) for i in range(len(results))])
        inputs = [graph.params[i] for i in wanted]
        grads = [zero_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]
        return merge_loops(builder.graph(results + grads))


def grad(graph: Graph, wanted: Sequence[int] | None = None, simplify: Any = None) -> Graph:
    """(inputs) -> gradients of the first result, a real scalar, for the inputs `wanted`."""
    wanted = differentiable(graph.params) if wanted is None else list(wanted)
    with Builder(graph.params, simplify) as builder:
        results, pull = linearize(builder, graph, graph.params, wanted)
        one = OPS["full"](value=1.0, dtype=results[0].type.dtype, shape=results[0].type.shape)
        found = pull([one, *[None] * (len(results) - 1)])
        inputs = [graph.params[i] for i in wanted]
        grads = [zero_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]
        return merge_loops(builder.graph(grads))


def linearize_plain(
    builder: Builder, graph: Graph, arguments: Sequence[Value], wanted: Sequence[int] | None = None
) -> tuple[list[Value], Callable[[Sequence[Value | None]], list[Value | None]]]:
    """`linearize` whose cotangents are plain transposes."""
    inputs = [graph.params[i] for i in (differentiable(graph.params) if wanted is None else wanted)]
    new: dict[Value, Value] = dict(zip(graph.params, arguments, strict=True))
    outer_loc = builder.loc
    for node in graph.nodes:
        operands = tuple([new[value] for value in node.inputs])
        builder.loc = node.loc
        made = builder.emit(node.op, operands, node.attrs, node.blocks, node)
        new.update(zip(node.outputs, made, strict=True))
    builder.loc = outer_loc

    def pull(cotangents: Sequence[Value | None]) -> list[Value | None]:
        active = active_values(graph.nodes, inputs)
        known: dict[Value, Value] = {}
        for result, ct in zip(graph.results, cotangents, strict=True):
            if ct is not None and result in active:
                add_to(known, result, ct)
        _pull_back(builder, graph.nodes, active, known, new)
        return [known.get(value) for value in inputs]

    return [new[value] for value in graph.results], pull


def active_values(nodes: Iterable[Node], sources: Iterable[Value]) -> set[Value]:
    """The values that depend on the sources by a path that may have a derivative."""
    active = set(sources)
    for node in nodes:
        if not active.isdisjoint(node.inputs) and not node.op.flat:
            for value in node.outputs:
                if has_derivative(value):
                    active.add(value)
    return active


def _pull_back(
    builder: Builder,
    nodes: Sequence[Node],
    active: set[Value],
    cotangents: dict[Value, Value],
    new: dict[Value, Value] | None,
) -> None:
    """Visits the nodes backward and adds to `cotangents`. `new` maps values to what was built."""
    outer_loc = builder.loc
    for node in reversed(nodes):
        outs = [cotangents.get(value) for value in node.outputs]
        if not any(outs):
            continue
        which = [i for i, value in enumerate(node.inputs) if value in active]
        if not which:
            continue
        builder.loc = derived(node.loc)
        view = node if new is None else NodeView.of(node, new)
        for i, ct in zip(which, pull_node(builder, view, which, outs), strict=True):
            if ct is not None:
                add_to(cotangents, node.inputs[i], ct)
    builder.loc = outer_loc


def pull_node(
    builder: Builder, node: Any, which: Sequence[int], cts: list[Value | None]
) -> Sequence[Value | None]:
    """The cotangents of the operands `which`, from those of the outputs (at least one is there)."""
    op = node.op
    if op.no_derivative:
        raise missing_derivative(node)
    control = PULL.get(op)
    if control is not None:
        return control(builder, node, which, cts)
    if op.vjp_forward is not None:
        return _pull_composite(builder, node, which, cts)
    pull = getattr(op, "pull", None)
    if pull is not None:
        every = pull(cts, node, which) if op.pull_takes_places else pull(cts, node)
        return [every[i] for i in which]
    if op.linear is not None:
        linear = linear_places(node)
        return [op.transpose(cts[0], node, i) if i in linear else None for i in which]
    partials = getattr(op, "partials", None)
    if partials is not None:
        slopes, (ct,) = partials(*node.inputs, out=node.outputs[0]), cts
        return [None if ct is None else scaled(ct, slopes[i]) for i in which]
    if op.composite:
        _, pull_expansion = linearize_plain(builder, expansion(node), node.inputs, which)
        return pull_expansion(cts)
    raise missing_derivative(node)


def _pull_composite(
    builder: Builder, node: Any, which: Sequence[int], cts: list[Value | None]
) -> Sequence[Value | None]:
    """By the composite's own backward. `vjp_forward`, on the same operands, gives its results and
    then residuals; `vjp_backward` takes operands, results, residuals and cotangents of the results
    and gives the cotangents of the differentiable operands.

    These two have no backward of their own: differentiating once more goes through expansions,
    where residuals are ordinary values that may receive cotangents.
    """
    op = node.op
    made = builder.emit(op.vjp_forward, node.inputs, node.attrs)
    outs = [or_zero(ct, out) for ct, out in zip(cts, node.outputs, strict=True)]
    grads = builder.emit(op.vjp_backward, (*node.inputs, *made, *outs), node.attrs)
    by_place = dict(zip(differentiable(node.inputs), grads, strict=True))
    return [by_place[i] for i in which]


def _outgoing(ct: Value | None) -> Value | None:
    return None if ct is None else conjugate(ct)
