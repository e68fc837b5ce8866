"""Loading of reductions, and of ops that run along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir import composite, ops
from graphc.ir.dims import product
from graphc.ir.dtype import I64
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Value

from .item import Item
from .movement import axes_operand, axis_of, cut
from .node import OnnxNode
from .pooling import mean
from .registry import loads


def _sum(value: Value, axes: tuple[int, ...]) -> Value:
    return ops.reduce_sum(value, axes=axes)


def _square(value: Value, axes: tuple[int, ...]) -> Value:
    return _sum(ops.mul(value, value), axes)


def _log_sum_exp(value: Value, axes: tuple[int, ...]) -> Value:
    """Shifted by the maximum where that is finite."""
    shape = value.type.shape
    top = ops.reduce_max(value, axes=axes)
    zero = ops.full_like(0.0, top)
    finite = ops.eq(ops.sub(top, top), zero)
    top = ops.select(finite, top, zero)
    wide = ops.expand(top, shape=shape, axes=axes) if axes else top
    return ops.add(ops.log(_sum(ops.exp(ops.sub(value, wide)), axes)), top)


_REDUCTIONS: dict[str, Callable[[Value, tuple[int, ...]], Value]] = {
    "ReduceSum": _sum,
    "ReduceMean": mean,
    "ReduceMax": lambda x, axes: ops.reduce_max(x, axes=axes),
    "ReduceMin": lambda x, axes: ops.reduce_min(x, axes=axes),
    "ReduceProd": lambda x, axes: ops.reduce_prod(x, axes=axes),
    "ReduceL1": lambda x, axes: _sum(ops.abs_(x), axes),
    "ReduceL2": lambda x, axes: ops.sqrt(_square(x, axes)),
    "ReduceSumSquare": _square,
    "ReduceLogSum": lambda x, axes: ops.log(_sum(x, axes)),
    "ReduceLogSumExp": _log_sum_exp,
}


@loads(*_REDUCTIONS)
def reduce(g: Any, node: OnnxNode, x: Item, axes: Item | None = None) -> Value:
    """Without axes: over all, or with `noop_with_empty_axes` over none."""
    over = axes_operand(g, node, axes, x.rank)
    if not over:
        over = () if node.int("noop_with_empty_axes", 0) else tuple(range(x.rank))
    made = _REDUCTIONS[node.type](g.value(x), over)
    if not node.int("keepdims", 1):
        return made
    return ops.reshape(made, shape=tuple([1 if i in over else d for i, d in enumerate(x.shape)]))


@loads("ArgMax", "ArgMin")
def arg_reduce(g: Any, node: OnnxNode, x: Item) -> Value:
    axis = axis_of(node.int("axis", 0), x.rank)
    mode = "max" if node.type == "ArgMax" else "min"
    value = g.value(x)
    if node.int("select_last_index", 0):
        place = ops.arg_reduce(ops.flip(value, axes=(axis,)), axis=axis, mode=mode)
        last = Item.of_entries(_object(x.shape[axis] - 1), place.type.with_shape(()))
        made = ops.sub(g.broadcast_to(last, place.type.shape), place)
    else:
        made = ops.arg_reduce(value, axis=axis, mode=mode)
    if not node.int("keepdims", 1):
        return made
    return ops.reshape(made, shape=tuple([1 if i == axis else d for i, d in enumerate(x.shape)]))


def _object(value: Any) -> np.ndarray:
    made = np.empty((), object)
    made[()] = value
    return made


@loads("CumSum", "CumProd")
def cumulative(g: Any, node: OnnxNode, x: Item, axis: Item) -> Value:
    """`exclusive` leaves the element itself out: the running value is moved by one place."""
    (along,) = g.ints(axis, "the axis operand")
    along = axis_of(along, x.rank)
    reverse = bool(node.int("reverse", 0))
    mode = "sum" if node.type == "CumSum" else "prod"
    made = ops.cumulative(g.value(x), axis=along, mode=mode, reverse=reverse)
    if not node.int("exclusive", 0):
        return made
    size = x.shape[along]
    g.assume_order(1, size)
    low = tuple([int(i == along and not reverse) for i in range(x.rank)])
    high = tuple([int(i == along and reverse) for i in range(x.rank)])
    kept = cut(made, along, 1, size) if reverse else cut(made, along, 0, size - 1)
    return ops.pad(kept, low=low, high=high, value=0 if mode == "sum" else 1)


@loads("TopK")
def top_k(g: Any, node: OnnxNode, x: Item, k: Item | None = None) -> tuple[Value, Value]:
    """The first k of the order; equals keep theirs."""
    axis = axis_of(node.int("axis", -1), x.rank)
    (count,) = (node.int("k"),) if k is None else g.sizes(k, "k")
    size = x.shape[axis]
    if isinstance(size, int) and isinstance(count, int) and count > size:
        raise UnsupportedError(f"k is {count}, but {x.type.text} has {size} elements")
    g.assume_order(count, size)
    largest = bool(node.int("largest", 1))
    values, places = ops.topk(g.value(x), axis=axis, k=count, largest=largest)
    return values, ops.cast(places, dtype=I64) if places.type.dtype is not I64 else places


@loads("Softmax", "LogSoftmax")
def softmax(g: Any, node: OnnxNode, x: Item) -> Value:
    """Before opset 13 over all axes from `axis` on, flattened."""
    op = composite.softmax if node.type == "Softmax" else composite.log_softmax
    axis = axis_of(node.int("axis", -1 if node.opset >= 13 else 1), x.rank)
    value = g.value(x)
    if node.opset >= 13 or axis == x.rank - 1:
        return op(value, axis=axis)
    flat = ops.reshape(value, shape=(product(x.shape[:axis]), product(x.shape[axis:])))
    return ops.reshape(op(flat, axis=1), shape=x.shape)


@loads("Hardmax")
def hardmax(g: Any, node: OnnxNode, x: Item) -> Value:
    """1 at the first of the largest along the axis, 0 elsewhere."""
    axis = axis_of(node.int("axis", -1 if node.opset >= 13 else 1), x.rank)
    if node.opset < 13 and axis != x.rank - 1:
        raise UnsupportedError("Hardmax over flattened axes is not supported")
    place = ops.arg_reduce(g.value(x), axis=axis, mode="max")
    wide = ops.expand(place, shape=x.shape, axes=(axis,))
    return ops.cast(ops.eq(wide, ops.iota(x.shape, axis, I64)), dtype=x.type.dtype)
