"""Loading of pooling: windows, then a reduction over them."""

from __future__ import annotations

import math
from typing import Any

from graphc.ir import ops
from graphc.ir.dims import product
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Value
from graphc.ir.ops.constant import dim_value

from .contraction import window_attributes
from .item import Item
from .node import OnnxNode
from .registry import loads


def _ceil_extra(node: OnnxNode, kernel: Any, space: Any, strides: Any, pads: Any, dil: Any) -> list:
    """How much more padding `ceil_mode` needs at the end; a window never starts in it."""
    extra = [0] * len(kernel)
    if not node.int("ceil_mode", 0):
        return extra
    for i, (n, k, s, (low, high), d) in enumerate(zip(space, kernel, strides, pads, dil)):
        if not isinstance(n, int):
            raise UnsupportedError("ceil_mode along a symbolic size is not supported")
        room = n + low + high - (k - 1) * d - 1
        count = -(-room // s) + 1
        if (count - 1) * s >= n + low:
            count -= 1
        extra[i] = max((count - 1) * s - room, 0)
    return extra


def _windows(
    value: Value, pads: Any, extra: list, fill: Any, kernel: Any, strides: Any, dil: Any
) -> Value:
    low = (0, 0, *[p[0] for p in pads])
    high = (0, 0, *[p[1] + e for p, e in zip(pads, extra)])
    if any(low) or any(high):
        value = ops.pad(value, low=low, high=high, value=fill)
    return ops.window(value, sizes=tuple(kernel), strides=strides, dilations=dil)


def _window_axes(value: Value, k: int) -> tuple[int, ...]:
    rank = len(value.type.shape)
    return tuple(range(rank - k, rank))


@loads("MaxPool")
def max_pool(g: Any, node: OnnxNode, x: Item) -> Value:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise UnsupportedError("the indices of MaxPool are not supported")
    kernel = tuple(node.ints("kernel_shape"))
    strides, pads, dil = window_attributes(node, kernel, x.shape[2:])
    extra = _ceil_extra(node, kernel, x.shape[2:], strides, pads, dil)
    windows = _windows(g.value(x), pads, extra, lowest(x), kernel, strides, dil)
    return ops.reduce_max(windows, axes=_window_axes(windows, len(kernel)))


def lowest(x: Item) -> int | float:
    """The identity of max."""
    dtype = x.type.dtype
    if dtype.kind == "f":
        return -math.inf
    return 0 if dtype.kind == "u" else -(2 ** (dtype.bits - 1))


@loads("AveragePool")
def average_pool(g: Any, node: OnnxNode, x: Item) -> Value:
    """The padding counts as elements only where `count_include_pad` says so."""
    kernel = tuple(node.ints("kernel_shape"))
    strides, pads, dil = window_attributes(node, kernel, x.shape[2:])
    extra = _ceil_extra(node, kernel, x.shape[2:], strides, pads, dil)
    windows = _windows(g.value(x), pads, extra, 0, kernel, strides, dil)
    axes = _window_axes(windows, len(kernel))
    total = ops.reduce_sum(windows, axes=axes)
    counts_padding = bool(node.int("count_include_pad", 0))
    if not any(extra) and (counts_padding or not any(map(any, pads))):
        return total / math.prod(kernel)
    ones = ops.full(1.0, x.type.dtype, (1, 1, *x.shape[2:]))
    if counts_padding:
        low, high = (0, 0, *[p[0] for p in pads]), (0, 0, *[p[1] for p in pads])
        ones = ops.pad(ones, low=low, high=high, value=1.0)
        pads = tuple([(0, 0)] * len(kernel))
    count = ops.reduce_sum(_windows(ones, pads, extra, 0, kernel, strides, dil), axes=axes)
    return ops.div(total, ops.broadcast_to(count, total.type.shape))


@loads("GlobalAveragePool", "GlobalMaxPool")
def global_pool(g: Any, node: OnnxNode, x: Item) -> Value:
    axes = tuple(range(2, x.rank))
    value = g.value(x)
    if node.type == "GlobalMaxPool":
        made = ops.reduce_max(value, axes=axes)
    else:
        made = mean(value, axes)
    return ops.reshape(made, shape=(*x.shape[:2], *[1] * len(axes)))


def mean(value: Value, axes: tuple[int, ...]) -> Value:
    """The mean over axes, whose sizes may be symbolic."""
    total = ops.reduce_sum(value, axes=axes)
    count = product([value.type.shape[i] for i in axes])
    if isinstance(count, int):
        return ops.div(total, ops.full_like(count, total))
    number = ops.cast(dim_value(count, total.type.shape), dtype=total.type.dtype)
    return ops.div(total, number)
