"""Rules of ops that look elements up: where each example has its own indices, all examples are
rows of one table, and an example's indices move to its rows.

An index outside its example's rows must stay an error: it is sent outside of the table.
"""

from __future__ import annotations

from typing import Any

from graphc.ir import ops
from graphc.ir.dims import AnyDim
from graphc.ir.dtype import I64
from graphc.ir.graph import Value

from .walk import (
    RULES,
    Made,
    each_example,
    emit,
    move_to_front,
    widen,
    widen_all,
)


def gather(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    x, index = inputs
    axis = node.attrs["axis"]
    if which == [True, False]:
        return emit(node, inputs, axis=axis + 1), [True]
    if which == [False, True]:
        return [move_to_front(emit(node, inputs)[0], axis)], [True]
    rows = _as_rows(x, axis)
    places = _into_table(index, x.type.shape[axis + 1], count)
    found = ops.gather(rows, places, axis=0)  # (count, *index, *the other axes of x)
    rank = len(index.type.shape)
    order = [0, *range(rank, rank + axis), *range(1, rank), *range(rank + axis, _rank(found))]
    return [ops.permute(found, perm=tuple(order))], [True]


def scatter(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    axis = node.attrs["axis"]
    x, index, updates = inputs
    x, updates = widen(x, which[0], count), widen(updates, which[2], count)
    if not which[1]:
        return emit(node, [x, index, updates], axis=axis + 1), [True]
    size, rank = x.type.shape[axis + 1], len(index.type.shape)
    moved = _axis_after_count(x, axis)
    rows = _as_rows(x, axis)
    places = _into_table(index, size, count)
    last = _rank(updates)
    order = [0, *range(1 + axis, axis + rank), *range(1, 1 + axis), *range(axis + rank, last)]
    parts = ops.permute(updates, perm=tuple(order))
    made = ops.scatter(rows, places, parts, axis=0, mode=node.attrs["mode"])
    made = ops.reshape(made, shape=moved.type.shape)
    back = [0, *range(2, 2 + axis), 1, *range(2 + axis, _rank(made))]
    return [ops.permute(made, perm=tuple(back))], [True]


def dynamic_slice(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    if any(which[1:]):
        return each_example(node, inputs, which, count)
    x, *starts = inputs
    zero = ops.full(0, I64, (), x.type.device)
    sizes = (count, *node.attrs["sizes"])
    return emit(node, [x, zero, *starts], sizes=sizes), [True]


def dynamic_update(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    if any(which[2:]):
        return each_example(node, inputs, which, count)
    x, update = widen_all(inputs[:2], which[:2], count)
    zero = ops.full(0, I64, (), x.type.device)
    return emit(node, [x, update, zero, *inputs[2:]]), [True]


def searchsorted(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    if which[0]:
        return each_example(node, inputs, which, count)
    return emit(node, inputs), [True]


def _rank(value: Value) -> int:
    return len(value.type.shape)


def _axis_after_count(x: Value, axis: int) -> Value:
    """x[count, *example] with the example's `axis` moved to stand right after the count."""
    order = [0, axis + 1, *[i for i in range(1, _rank(x)) if i != axis + 1]]
    return ops.permute(x, perm=tuple(order))


def _as_rows(x: Value, axis: int) -> Value:
    """One table of rows for all examples: [count * size of the axis, *the other axes]."""
    moved = _axis_after_count(x, axis)
    count, size, *rest = moved.type.shape
    return ops.reshape(moved, shape=(count * size, *rest))


def _into_table(index: Value, size: AnyDim, count: AnyDim) -> Value:
    """The rows of the table that are each example's indices; -1, an error, for an index that is
    outside of [0, size)."""
    index = ops.cast(index, dtype=I64)
    example = ops.iota(index.type.shape, 0, I64, index.type.device)
    one = ops.full_like(1, index)
    zero = ops.full_like(0, index)
    if isinstance(size, int):
        sizes = ops.full_like(size, index)
    else:
        sizes = ops.dim_value(size, index.type.shape, index.type.device)
    inside = ops.and_(ops.le(zero, index), ops.lt(index, sizes))
    return ops.select(inside, index + example * sizes, ops.neg(one))


RULES[ops.gather], RULES[ops.scatter] = gather, scatter
RULES[ops.dynamic_slice], RULES[ops.dynamic_update] = dynamic_slice, dynamic_update
RULES[ops.searchsorted] = searchsorted
