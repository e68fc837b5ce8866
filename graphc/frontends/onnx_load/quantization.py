"""Loading of quantized ops: integers with a scale and a zero point, computed as floats."""

from __future__ import annotations

from typing import Any

from graphc.ir import ops
from graphc.ir.dtype import F32, I32, U8
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Value

from .contraction import conv, matrix_product
from .item import Item
from .node import OnnxNode
from .reading import element_type
from .registry import loads


@loads("QuantizeLinear")
def quantize(g: Any, node: OnnxNode, x: Item, scale: Item, zero_point: Item | None = None) -> Value:
    """round(x / scale) + zero point, saturated; halves go to the even number."""
    kind = zero_point.type.dtype if zero_point is not None else U8
    if zero_point is None and node.int("output_dtype", 0):
        kind = element_type(node.int("output_dtype"))
    if kind.kind not in "iu" or kind.itemsize > 2:
        raise UnsupportedError(f"quantization to {kind.name} is not supported")
    value = ops.cast(g.value(x), dtype=F32)
    scaled = ops.round_(ops.div(value, _along(g, node, ops.cast(g.value(scale), dtype=F32), x)))
    if zero_point is not None:
        shift_by = _along(g, node, ops.cast(g.value(zero_point), dtype=F32), x)
        scaled = ops.add(scaled, shift_by)
    bits = kind.itemsize * 8
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind.kind == "i" else (0, 2**bits - 1)
    bounded = ops.min_(ops.max_(scaled, ops.full_like(low, scaled)), ops.full_like(high, scaled))
    return ops.cast(bounded, dtype=kind)


@loads("DequantizeLinear")
def dequantize(
    g: Any, node: OnnxNode, x: Item, scale: Item, zero_point: Item | None = None
) -> Value:
    """(x - zero point) * scale."""
    kind = scale.type.dtype
    exact = kind if x.type.dtype.kind == "f" else I32
    value = ops.cast(g.value(x), dtype=exact)
    if zero_point is not None:
        start = ops.cast(g.value(zero_point), dtype=exact)
        value = ops.sub(value, _along(g, node, start, x))
    value = value if exact is kind else ops.cast(value, dtype=kind)
    return ops.mul(value, _along(g, node, g.value(scale), x))


def _along(g: Any, node: OnnxNode, value: Value, x: Item) -> Value:
    """A scale or zero point of one number, of one per element of an axis, or of blocks."""
    shape = value.type.shape
    if len(shape) <= 1 and shape in ((), (1,)):
        return ops.broadcast_to(ops.reshape(value, shape=()), x.shape)
    if len(shape) != 1 or node.int("block_size", 0):
        raise UnsupportedError("quantization by blocks is not supported")
    axis = node.int("axis", 1) % x.rank
    others = tuple([i for i in range(x.rank) if i != axis])
    return ops.expand(value, shape=x.shape, axes=others)


@loads("QLinearMatMul")
def quantized_matmul(
    g: Any, node: OnnxNode, a: Item, a_scale: Item, a_zero: Item, b: Item, b_scale: Item,
    b_zero: Item, y_scale: Item, y_zero: Item,
) -> Value:  # fmt: skip
    """The product of the numbers that the operands stand for, quantized."""
    left = dequantize(g, node, a, a_scale, a_zero)
    right = dequantize(g, node, b, b_scale, b_zero)
    return quantize(g, node, g.item(matrix_product(left, right)), y_scale, y_zero)


@loads("QLinearConv")
def quantized_conv(
    g: Any, node: OnnxNode, x: Item, x_scale: Item, x_zero: Item, w: Item, w_scale: Item,
    w_zero: Item, y_scale: Item, y_zero: Item, bias: Item | None = None,
) -> Value:  # fmt: skip
    """The convolution of the numbers that the operands stand for, quantized.

    The weight may have a scale for each output channel; the bias is in units of both scales.
    """
    image = g.item(dequantize(g, node, x, x_scale, x_zero))
    kernel = g.item(_by_channel(g, w, w_scale, w_zero))
    made = conv(g, node, image, kernel)
    if bias is not None:
        value = ops.cast(g.value(bias), dtype=F32)
        for scale in (x_scale, w_scale):
            value = ops.mul(value, _spread(g.value(scale), value.type.shape))
        shape = made.type.shape
        others = tuple([i for i in range(len(shape)) if i != 1])
        made = ops.add(made, ops.expand(value, shape=shape, axes=others))
    return quantize(g, node, g.item(made), y_scale, y_zero)


def _by_channel(g: Any, w: Item, scale: Item, zero: Item) -> Value:
    value = ops.sub(ops.cast(g.value(w), dtype=I32),
                    _spread(ops.cast(g.value(zero), dtype=I32), w.shape))  # fmt: skip
    return ops.mul(ops.cast(value, dtype=F32), _spread(g.value(scale), w.shape))


def _spread(value: Value, shape: tuple) -> Value:
    """One number, or one for each index of the first axis, over the whole shape."""
    if value.type.shape in ((), (1,)):
        return ops.broadcast_to(ops.reshape(value, shape=()), shape)
    return ops.expand(value, shape=shape, axes=tuple(range(1, len(shape))))
