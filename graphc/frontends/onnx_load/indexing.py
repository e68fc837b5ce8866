"""Loading of gathers, scatters and of ops whose result has as many elements as the data says."""

from __future__ import annotations

from typing import Any

from graphc.ir import ops
from graphc.ir.dims import product
from graphc.ir.dtype import BOOL, I64
from graphc.ir.errors import FormatError, ShapeError, UnsupportedError
from graphc.ir.graph import Value
from graphc.ir.ops.constant import dim_value
from graphc.ir.ops.movement import inverse

from .item import Item
from .movement import axis_of, cut
from .node import OnnxNode
from .registry import loads


def from_front(index: Value, size: Any) -> Value:
    """Indices that may count from the end, counted from the front."""
    index = index if index.type.dtype is I64 else ops.cast(index, dtype=I64)
    negative = ops.lt(index, ops.full_like(0, index))
    return ops.select(negative, ops.add(index, _size_like(size, index)), index)


def _size_like(size: Any, like: Value) -> Value:
    if isinstance(size, int):
        return ops.full_like(size, like)
    return dim_value(size, like.type.shape)


def _index(g: Any, item: Item, size: Any) -> Value:
    """Known indices are counted from the front at once."""
    if item.array is not None and item.array.size and item.array.min() >= 0:
        return g.value(item)
    return from_front(g.value(item), size)


@loads("Gather")
def gather(g: Any, node: OnnxNode, x: Item, index: Item) -> Value:
    axis = axis_of(node.int("axis", 0), x.rank)
    return ops.gather(g.value(x), _index(g, index, x.shape[axis]), axis=axis)


@loads("GatherElements")
def gather_elements(g: Any, node: OnnxNode, x: Item, index: Item) -> Value:
    axis = axis_of(node.int("axis", 0), x.rank)
    if index.rank != x.rank:
        raise ShapeError(f"GatherElements: {index.type.text} is no index into {x.type.text}")
    return ops.take_along(g.value(x), _index(g, index, x.shape[axis]), axis)


def _flat_places(
    g: Any, x: Item, index: Item, batch: int
) -> tuple[Value, tuple[Any, ...], int, tuple[Any, ...]]:
    """For the last axis of `index`, places along the indexed axes: row-major positions.

    Also the shape of the index without that axis, how many axes it names, and those axes' sizes.
    """
    if not index.rank or not isinstance(index.shape[-1], int):
        raise UnsupportedError(f"{index.type.text} is no index into {x.type.text}")
    k = index.shape[-1]
    lead = index.shape[:-1]
    if batch + k > x.rank or batch > len(lead) or k < 1:
        raise ShapeError(f"{index.type.text} is no index into {x.type.text}")
    value, total = g.value(index), None
    named = x.shape[batch : batch + k]
    for i, size in enumerate(named):
        part = ops.reshape(cut(value, index.rank - 1, i, i + 1), shape=lead)
        part = from_front(part, size)
        if total is None:
            total = part
        else:
            total = ops.add(ops.mul(total, _size_like(size, total)), part)
    assert total is not None  # k >= 1
    for i in reversed(range(batch)):  # batch axes index themselves
        stride = product(x.shape[i + 1 : batch + k])
        line = ops.iota(lead, i, I64)
        total = ops.add(ops.mul(line, _size_like(stride, line)), total)
    return total, lead, k, named


@loads("GatherND")
def gather_nd(g: Any, node: OnnxNode, x: Item, index: Item) -> Value:
    batch = node.int("batch_dims", 0)
    places, lead, k, _ = _flat_places(g, x, index, batch)
    rest = x.shape[batch + k :]
    flat = ops.reshape(g.value(x), shape=(product(x.shape[: batch + k]), *rest))
    return ops.gather(flat, places, axis=0)


_MODES = {"none": "set", "add": "add", "mul": "mul", "max": "max", "min": "min"}


def _mode(node: OnnxNode) -> str:
    mode = _MODES.get(node.text("reduction", "none"))
    if mode is None:
        raise FormatError(f"there is no reduction {node.text('reduction')!r}")
    return mode


@loads("ScatterND")
def scatter_nd(g: Any, node: OnnxNode, x: Item, index: Item, updates: Item) -> Value:
    places, lead, k, _ = _flat_places(g, x, index, 0)
    flat = ops.reshape(g.value(x), shape=(product(x.shape[:k]), *x.shape[k:]))
    made = ops.scatter(flat, places, g.value(updates), axis=0, mode=_mode(node))
    return ops.reshape(made, shape=x.shape)


@loads("ScatterElements", "Scatter")
def scatter_elements(g: Any, node: OnnxNode, x: Item, index: Item, updates: Item) -> Value:
    axis = axis_of(node.int("axis", 0), x.rank)
    places = _index(g, index, x.shape[axis])
    if places.type.shape != updates.shape or places.type.dtype is not I64:
        places = ops.cast(places, dtype=I64)
    return ops.put_along(g.value(x), places, g.value(updates), axis, _mode(node))


@loads("NonZero")
def non_zero(g: Any, node: OnnxNode, x: Item) -> Value:
    """How many there are depends on the data: a fresh symbolic size."""
    value = g.value(x)
    mask = value if x.type.dtype is BOOL else ops.cast(value, dtype=BOOL)
    found = ops.compact(mask, size=(g.fresh_symbol("nonzero_"),))
    return ops.permute(found, perm=(1, 0))


@loads("Compress")
def compress(g: Any, node: OnnxNode, x: Item, condition: Item) -> Value:
    """The elements along the axis (of the flattened tensor, without one) where it holds."""
    value = g.value(x)
    axis = node.int("axis", None)
    if axis is None:
        value, axis = ops.reshape(value, shape=(product(x.shape),)), 0
    axis = axis_of(axis, len(value.type.shape))
    g.assume_order(condition.shape[0], value.type.shape[axis])
    found = ops.compact(g.value(condition), size=(g.fresh_symbol("kept_"),))
    places = ops.reshape(found, shape=found.type.shape[:1])
    return ops.gather(value, places, axis=axis)


@loads("ReverseSequence")
def reverse_sequence(g: Any, node: OnnxNode, x: Item, lengths: Item) -> Value:
    """The first lengths[b] steps of each example in reverse order."""
    batch, time = node.int("batch_axis", 1), node.int("time_axis", 0)
    if {batch, time} != {0, 1} or x.rank < 2:
        raise FormatError(f"the axes {batch} and {time} of {x.type.text}")
    shape = x.shape[:2]
    length = ops.expand(g.value(lengths), shape=shape, axes=(time,))
    step = ops.iota(shape, time, I64)
    places = ops.select(ops.lt(step, length), ops.sub(length - 1, step), step)
    order = (batch, time, *range(2, x.rank))
    rows = ops.permute(g.value(x), perm=order)
    flat = ops.reshape(rows, shape=(shape[batch] * shape[time], *x.shape[2:]))
    line = ops.iota((shape[batch], shape[time]), 0, I64)
    offset = ops.mul(line, _size_like(shape[time], line))
    at = ops.add(ops.permute(places, perm=(batch, time)), offset)
    return ops.permute(ops.gather(flat, at, axis=0), perm=inverse(order))
