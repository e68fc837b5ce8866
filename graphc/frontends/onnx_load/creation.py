"""Loading of ops that make tensors from attributes and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.dims import AnyDim
from graphc.ir.dtype import F32, I64, from_numpy
from graphc.ir.errors import FormatError, UnsupportedError
from graphc.ir.graph import Value

from .item import Item
from .movement import axis_of
from .node import OnnxNode
from .reading import element_type
from .registry import loads


@loads("Constant")
def constant(g: Any, node: OnnxNode) -> Item:
    array = node.array("value")
    if array is None:
        for name, kind in (("value_int", np.int64), ("value_ints", np.int64)):
            if node.has(name):
                read = node.int if name == "value_int" else node.ints
                array = np.array(read(name), kind)
        for name in ("value_float", "value_floats"):
            if node.has(name):
                read = node.float if name == "value_float" else node.floats
                array = np.array(read(name), np.float32)
    if array is None:
        raise UnsupportedError("a constant of strings, or a sparse one, is not supported")
    return Item.of_array(array, node.outputs[0])


@loads("ConstantOfShape")
def constant_of_shape(g: Any, node: OnnxNode, shape: Item) -> Value:
    value = node.array("value")
    if value is None:
        value = np.zeros(1, np.float32)
    if value.size != 1:
        raise FormatError("the value of ConstantOfShape is not one number")
    sizes = non_negative(g.sizes(shape, "the shape operand"))
    return ops.full(value.reshape(()).item(), from_numpy(value.dtype), sizes)


def non_negative(sizes: tuple) -> tuple:
    if any(isinstance(d, int) and d < 0 for d in sizes):
        raise FormatError(f"a size is negative in the shape {list(sizes)[:8]}")
    return sizes


@loads("Shape", "Size")
def shape(g: Any, node: OnnxNode, x: Item) -> Item:
    raise AssertionError("carried out as shape arithmetic")


@loads("Range")
def range_(g: Any, node: OnnxNode, start: Item, limit: Item, delta: Item) -> Value:
    """Integers from and to known sizes; floats by constants."""
    dtype = start.type.dtype
    if dtype.kind == "f":
        first, last, step = (g.number(i, "a bound of Range") for i in (start, limit, delta))
        count: AnyDim = _count(last - first, step)
    else:
        (first,), (last,) = (g.sizes(i, "a bound of Range") for i in (start, limit))
        (step,) = g.ints(delta, "the step of Range")
        span = last - first
        count = _count(span, step) if isinstance(span, int) else span
        if not isinstance(span, int) and step != 1:
            raise UnsupportedError("a range in steps to a symbolic size is not supported")
    line = ops.iota((count,), 0, dtype)
    if step != 1:
        line = ops.mul(line, ops.full_like(step, line))
    if isinstance(first, (int, float)):
        return line if first == 0 else ops.add(line, ops.full_like(first, line))
    begin = Item.of_entries(np.array(first, object), start.type.with_shape(()))
    return ops.add(line, g.broadcast_to(begin, (count,)))


def _count(span: Any, step: Any) -> int:
    if step == 0:
        raise FormatError("the step of Range is 0")
    return max(int(np.ceil(span / step)), 0)


@loads("EyeLike")
def eye_like(g: Any, node: OnnxNode, x: Item) -> Value:
    number = node.int("dtype", 0)
    dtype = element_type(number) if number else x.type.dtype
    rows = ops.iota(x.shape, 0, I64) + node.int("k", 0)
    return ops.cast(ops.eq(rows, ops.iota(x.shape, 1, I64)), dtype=dtype)


@loads("OneHot")
def one_hot(g: Any, node: OnnxNode, index: Item, depth: Item, values: Item) -> Value:
    """`values` are (off, on); an index counted from the end counts from the front."""
    size = g.number(depth, "the depth") if depth.entries is None else depth.entries.item()
    size = int(size) if isinstance(size, float) else size
    axis = axis_of(node.int("axis", -1), index.rank + 1)
    shape = (*index.shape[:axis], size, *index.shape[axis:])
    places = ops.cast(g.value(index), dtype=I64)
    if isinstance(size, int):
        negative = ops.lt(places, ops.full_like(0, places))
        places = ops.select(negative, places + size, places)
    wide = ops.expand(places, shape=shape, axes=(axis,))
    hot = ops.eq(wide, ops.iota(shape, axis, I64))
    both = g.value(values)
    off, on = [ops.reshape(ops.slice_(both, start=(i,), stop=(i + 1,), step=(1,)), shape=())
               for i in (0, 1)]  # fmt: skip
    return ops.select(hot, ops.broadcast_to(on, shape), ops.broadcast_to(off, shape))


@loads("HannWindow", "HammingWindow", "BlackmanWindow")
def cosine_window(g: Any, node: OnnxNode, size: Item) -> Item:
    """a0 - a1 cos(2 pi i / n) + a2 cos(4 pi i / n), n less one unless periodic."""
    count = int(g.number(size, "the size of the window"))
    if not 0 <= count <= 1 << 20:
        raise FormatError(f"a window of {count} elements")
    span = max(count if node.int("periodic", 1) else count - 1, 1)
    a0, a1, a2 = {
        "HannWindow": (0.5, 0.5, 0.0),
        "HammingWindow": (25 / 46, 21 / 46, 0.0),
        "BlackmanWindow": (0.42, 0.5, 0.08),
    }[node.type]
    turn = 2 * np.pi * np.arange(count) / span
    array = a0 - a1 * np.cos(turn) + a2 * np.cos(2 * turn)
    number = node.int("output_datatype", 0)
    return Item.of_array(array.astype((element_type(number) if number else F32).numpy))
