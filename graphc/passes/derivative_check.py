"""Numeric verification of derivatives: of every node by differences, of a graph by forward mode.

The pull of a node is held against its difference quotient: <ct, J v> both ways, for random
cotangents and directions. Where the quotient does not settle (a kink, a step) nothing is said.
That the nodes' pulls are put together rightly shows in <ct, J v> of the whole graph, reverse mode
against forward mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.ir.dtype import F64
from graphc.ir.errors import GraphcError, VerifyError
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.types import TensorType

from .autodiff import jvp, vjp
from .numeric import Samples, Tolerance, all_values, evaluate_node

_SILENT = (GraphcError, ArithmeticError, ValueError, IndexError, TypeError)


def check_derivatives(graph: Graph, wanted: Sequence[int], samples: Samples) -> str | None:
    """VerifyError names the node whose derivative is wrong, or says that the graph's is. A text
    says why the check did not run."""
    try:
        known = all_values(graph, samples)
    except _SILENT as error:
        return f"derivatives were not verified: {str(error).splitlines()[0]}"
    seen = set()
    for node in graph.nodes:
        key = (node.op, node.attrs, tuple([v.type for v in node.inputs]), node.blocks)
        if key not in seen:
            seen.add(key)
            _check_node(node, known, samples.sizes)
    return _check_modes(graph, list(wanted), samples)


def check_partition(
    joint: Graph, forward: Graph, backward: Graph, n_inputs: int, samples: Samples
) -> str | None:
    """VerifyError where the two halves do not compute what the joint graph does."""
    n_results = len(joint.results) - len(backward.results)
    inputs, cotangents = samples.arrays[:n_inputs], samples.arrays[n_inputs:]
    try:
        whole = _results(joint, samples)
        ahead = _results(forward, Samples(inputs, samples.sizes))
        residuals = ahead[n_results:]
        back = _results(backward, Samples((*inputs, *residuals, *cotangents), samples.sizes))
    except _SILENT as error:
        return f"the partition was not verified: {str(error).splitlines()[0]}"
    exact = Tolerance.of("exact")
    for number, (was, found) in enumerate(zip(whole, [*ahead[:n_results], *back], strict=True)):
        if exact.first_outside(was, found) is not None:
            node = joint.results[number].node
            half = "forward" if number < n_results else "backward"
            raise VerifyError(
                f"the pass partition changed result {number}: its {half} half computes another "
                f"value\nfirst at {node.op.name if node else 'a parameter'}",
                at=node.loc if node else "",
            )
    return None


def _results(graph: Graph, samples: Samples) -> list[Any]:
    known = all_values(graph, samples)
    return [known[value] for value in graph.results]


# --- one node ------------------------------------------------------------------------------------


def _check_node(node: Node, known: Mapping[Value, Any], sizes: Mapping[str, int]) -> None:
    places = [k for k, value in enumerate(node.inputs) if _is_float(value)]
    outs = [k for k, value in enumerate(node.outputs) if _is_float(value)]
    if not places or not outs or node.op.surrogate or node.op.no_derivative:
        return
    alone = _in_double(node)
    random = np.random.default_rng(0)
    operands = [_as_type(known[v], p.type) for v, p in zip(node.inputs, alone.inputs)]
    shapes = [known[node.outputs[k]].shape for k in outs]
    cotangents = [random.normal(size=shape) for shape in shapes]
    seeds = [ct.astype(alone.outputs[k].type.dtype.numpy) for ct, k in zip(cotangents, outs)]
    try:
        pulled = vjp(Graph(alone.inputs, [alone], list(alone.outputs)), places, outs)
        grads = _results(pulled, Samples((*operands, *seeds), sizes))[len(node.outputs) :]
    except _SILENT:
        return
    for k, grad in zip(places, grads, strict=True):
        direction = random.normal(size=operands[k].shape)
        slope = _quotient(alone, operands, k, direction, seeds, outs, sizes)
        if slope is None:
            continue
        wanted, room = slope
        found = float(np.sum(np.float64(grad) * direction))
        if not abs(found - wanted) <= room:
            raise VerifyError(
                f"the pass autodiff has a wrong derivative of {node.op.name} by operand {k}: "
                f"its pull gives {found:.6g}, differences {wanted:.6g}",
                at=node.loc,
            )


def _in_double(node: Node) -> Node:
    """The node on parameters, in double precision where its attributes do not say otherwise."""
    types = [v.type for v in node.inputs]
    results = [v.type for v in node.outputs]
    wide = [t.with_dtype(F64) if _is_float(v) else t for t, v in zip(types, node.inputs)]
    if not node.blocks:
        try:
            results = list(node.op.infer(node.attrs, wide))
            types = wide
        except _SILENT:
            results = [v.type for v in node.outputs]  # single precision, then
    params = [Value(type, name=f"x{k}") for k, type in enumerate(types)]
    return Node(node.op, tuple(params), results, node.attrs, node.blocks, node.loc)


def _as_type(array: Any, type: Any) -> Any:
    return array.astype(type.dtype.numpy) if isinstance(type, TensorType) else array


def _quotient(
    node: Node,
    operands: Sequence[Any],
    place: int,
    direction: np.ndarray,
    cotangents: Sequence[np.ndarray],
    outs: Sequence[int],
    sizes: Mapping[str, int],
) -> tuple[float, float] | None:
    """<ct, (f(x + h v) - f(x - h v)) / 2h>, and how wrong it may be; None where that says nothing:
    at kinks, and where numbers are too large."""

    def at(h: float) -> list[np.ndarray]:
        moved = list(operands)
        with np.errstate(all="ignore"):
            moved[place] = (moved[place] + h * direction).astype(moved[place].dtype)
        found = evaluate_node(node, moved, sizes)
        return [np.asarray(found[k], np.float64) for k in outs]

    eps = max([float(np.finfo(node.outputs[k].type.dtype.numpy).eps) for k in outs])
    h = eps ** (1 / 3)
    try:
        before, here, after = at(-h), at(0.0), at(h)
    except _SILENT:
        return None
    central = bend = size = norm = 0.0
    with np.errstate(all="ignore"):
        for ct, a, b, c in zip(cotangents, before, here, after, strict=True):
            central += float(np.sum(ct * (c - a))) / (2 * h)
            bend += float(np.sum(np.abs(ct) * np.abs(c - 2 * b + a))) / h
            size = max(size, float(np.abs(b).max(initial=0.0)))
            norm += float(np.sum(np.square(np.float64(ct))))
    norm = norm**0.5
    room = 20 * eps ** (2 / 3) * norm * (1.0 + size) + bend + 1e-6 * (abs(central) + norm)
    if not np.isfinite(room + central) or room > 0.1 * (abs(central) + norm):
        return None
    return central, room


def _is_float(value: Value) -> bool:
    """Of a precision in which differences say something."""
    return isinstance(value.type, TensorType) and value.type.dtype.name in ("f32", "f64")


def _random_like(array: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.asarray(random.normal(size=array.shape)).astype(array.dtype)


# --- the whole graph -----------------------------------------------------------------------------


def _check_modes(graph: Graph, wanted: list[int], samples: Samples) -> str | None:
    outs = [k for k, value in enumerate(graph.results) if _is_float(value)]
    moved = [k for k in wanted if _is_float(graph.params[k])]
    if not outs or not moved or len(outs) != len([v for v in graph.results if _moves(v)]):
        return None
    random = np.random.default_rng(1)
    tangents = [_random_like(samples.arrays[k], random) for k in moved]
    try:
        ahead = _results(jvp(graph, moved), Samples((*samples.arrays, *tangents), samples.sizes))
        ahead = ahead[len(graph.results) :]
        cotangents = [_random_like(array, random) for array in ahead]
        arrays = Samples((*samples.arrays, *cotangents), samples.sizes)
        back = _results(vjp(graph, moved, outs), arrays)[len(graph.results) :]
    except _SILENT as error:
        return f"derivatives of the graph were not verified: {str(error).splitlines()[0]}"
    forward, reverse = _pairing(cotangents, ahead), _pairing(back, tangents)
    sizes = [np.abs(np.float64(a) * np.float64(b)).sum() for a, b in zip(back, tangents)]
    room = 1e-3 * float(sum(sizes)) + 1e-6
    if np.isfinite(forward) and not abs(forward - reverse) <= room:
        node = graph.results[outs[0]].node
        raise VerifyError(
            f"the pass autodiff: reverse mode gives {reverse:.6g} for the graph's derivative, "
            f"forward mode {forward:.6g}, though each node's is right",
            at=node.loc if node else "",
        )
    return None


def _moves(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype.kind in "fc"


def _pairing(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    return float(sum([np.sum(np.float64(x) * np.float64(y)) for x, y in zip(a, b)]))
