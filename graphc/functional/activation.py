"""Activations, softmax and dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..frontends.function import function
from ..ir import composite, ops
from ..ir.graph import Value
from ..tensor import Tensor, from_array
from .create import empty, zeros
from .promote import axis_of, floating, operands, to_dtype
from .random import draw


@function(register=False)
def _relu(input):
    return composite.relu(input)


def _finish(made: Tensor, target: Tensor, inplace: bool) -> Tensor:
    """`inplace=True` writes the result into the input, as torch does."""
    return target._write(made) if inplace else made


def relu(input, inplace=False):
    """max(input, 0)."""
    return _finish(_relu(input), input, inplace)


@function(register=False)
def _gelu(input, approximate):
    return composite.gelu(floating(input), approximate=approximate)


def gelu(input, approximate="none"):
    """input * Phi(input), exactly or by an approximation."""
    return _gelu(input, approximate)


@function(register=False)
def _silu(input):
    return composite.silu(floating(input))


def silu(input, inplace=False):
    """input * sigmoid(input)."""
    return _finish(_silu(input), input, inplace)


@function(register=False)
def logsigmoid(input):
    """log(sigmoid(input))."""
    return composite.log_sigmoid(input)


@function(register=False)
def softplus(input, beta=1.0, threshold=20.0):
    """log(1 + exp(beta * input)) / beta, the input itself above the threshold."""
    return composite.softplus(input, beta=float(beta), threshold=float(threshold))


@function(register=False, floats=False)
def _clipped(input, low, high):
    x = input
    lo, hi = ops.full_like(low, x), ops.full_like(high, x)
    return ops.select(ops.le(x, lo), lo, ops.select(ops.le(hi, x), hi, x))


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """The input, kept within [min_val, max_val]."""
    return _finish(_clipped(input, min_val, max_val), input, inplace)


def relu6(input, inplace=False):
    """The input, kept within [0, 6]."""
    return hardtanh(input, 0.0, 6.0, inplace)


@function(register=False, floats=False)
def _leaky(input, slope):
    x, zero = input, ops.full_like(0.0, input)
    return ops.select(ops.lt(zero, x), x, ops.mul(x, ops.full_like(slope, x)))


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """The input where positive, else negative_slope times it."""
    return _finish(_leaky(input, negative_slope), input, inplace)


@function
def prelu(input, weight):
    """The input where positive, else weight times it; weight has one number or one a channel."""
    x, w = input, weight
    shape = [1] * max(len(x.type.shape), 1)
    if w.type.shape and w.type.shape[0] != 1 and len(shape) > 1:
        shape[1] = w.type.shape[0]
    w = ops.broadcast_to(ops.reshape(w, shape=tuple(shape)), x.type.shape)
    return ops.select(ops.lt(ops.full_like(0.0, x), x), x, ops.mul(x, w))


@function(register=False, floats=False)
def _elu(input, alpha, scale, input_scale):
    x, zero = input, ops.full_like(0.0, input)
    low = ops.mul(ops.full_like(input_scale, x), x) if input_scale != 1 else x
    low = ops.expm1(ops.select(ops.lt(zero, x), zero, low))
    low = ops.mul(low, ops.full_like(alpha * scale, x)) if alpha * scale != 1 else low
    high = ops.mul(x, ops.full_like(scale, x)) if scale != 1 else x
    return ops.select(ops.lt(zero, x), high, low)


def elu(input, alpha=1.0, inplace=False):
    """The input where positive, else alpha * (exp(input) - 1)."""
    return _finish(_elu(input, alpha, 1.0, 1.0), input, inplace)


def selu(input, inplace=False):
    """elu, scaled so that activations normalise themselves."""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return _finish(_elu(input, alpha, scale, 1.0), input, inplace)


def celu(input, alpha=1.0, inplace=False):
    """The input where positive, else alpha * (exp(input / alpha) - 1)."""
    return _finish(_elu(input, alpha, 1.0, 1.0 / alpha), input, inplace)


@function(register=False)
def _mish(input):
    return composite.mish(input)


def mish(input, inplace=False):
    """A smooth relative of relu: see the composite."""
    return _finish(_mish(input), input, inplace)


@function(register=False)
def softsign(input):
    """input / (1 + |input|)."""
    return ops.div(input, ops.add(ops.full_like(1.0, input), ops.abs_(input)))


@function(register=False)
def tanhshrink(input):
    """The input less its hyperbolic tangent."""
    return composite.tanhshrink(input)


@function(register=False, floats=False)
def softshrink(input, lambd=0.5):
    """The input moved towards 0 by lambd; 0 within it."""
    x, zero, k = input, ops.full_like(0.0, input), ops.full_like(lambd, input)
    low = ops.select(ops.lt(x, ops.neg(k)), ops.add(x, k), zero)
    return ops.select(ops.lt(k, x), ops.sub(x, k), low)


@function(floats=False)
def hardshrink(input, lambd=0.5):
    """0 within [-lambd, lambd], else the input."""
    inside = ops.le(ops.abs_(input), ops.full_like(lambd, input))
    return ops.select(inside, ops.full_like(0.0, input), input)


@function(register=False, floats=False)
def _threshold(input, threshold, value):
    above = ops.lt(ops.full_like(threshold, input), input)
    return ops.select(above, input, ops.full_like(value, input))


def threshold(input, threshold, value, inplace=False):
    """The input where above the threshold, else value."""
    return _finish(_threshold(input, threshold, value), input, inplace)


def _sixth(x: Value) -> Value:
    """relu6(x + 3) / 6."""
    zero, six = ops.full_like(0.0, x), ops.full_like(6.0, x)
    y = ops.add(x, ops.full_like(3.0, x))
    y = ops.select(ops.le(y, zero), zero, ops.select(ops.le(six, y), six, y))
    return ops.div(y, six)


@function(register=False)
def _hardsigmoid(input):
    return _sixth(input)


def hardsigmoid(input, inplace=False):
    """relu6(input + 3) / 6."""
    return _finish(_hardsigmoid(input), input, inplace)


@function(register=False)
def _hardswish(input):
    return ops.mul(input, _sixth(input))


def hardswish(input, inplace=False):
    """input * relu6(input + 3) / 6."""
    return _finish(_hardswish(input), input, inplace)


@function(register=False)
def glu(input, dim=-1):
    """The first half along dim times the sigmoid of the second."""
    axis = axis_of(dim, len(input.type.shape))
    n = input.type.shape[axis]
    if isinstance(n, int) and n % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {axis} is size {n}")
    half, ones = n // 2, (1,) * len(input.type.shape)
    start = tuple([half if i == axis else 0 for i in range(len(ones))])
    stop = tuple([half if i == axis else d for i, d in enumerate(input.type.shape)])
    first = ops.slice_(input, start=(0,) * len(ones), stop=stop, step=ones)
    second = ops.slice_(input, start=start, stop=input.type.shape, step=ones)
    return ops.mul(first, composite.sigmoid(second))


# --- softmax -----------------------------------------------------------------------------------


def _softmax_axis(dim: Any, rank: int) -> int:
    if dim is None:
        dim = 0 if rank in (0, 1, 3) else 1
    return axis_of(dim, rank)


def _row_op(op: Any, input: Value, dim: Any, dtype: Any) -> Value:
    x = to_dtype(input, dtype) if dtype is not None else input
    if x.type.dtype.kind != "f":
        raise RuntimeError(f'"{op.name}_lastdim_kernel_impl" not implemented for integers')
    axis = _softmax_axis(dim, len(x.type.shape))
    if not x.type.shape:
        one = ops.reshape(x, shape=(1,))
        return ops.reshape(op(one, axis=0), shape=())
    return op(x, axis=axis)


@function
def softmax(input, dim=None, dtype=None, *, _stacklevel=3):
    """exp(input) over its sum along dim."""
    return _row_op(composite.softmax, input, dim, dtype)


@function
def log_softmax(input, dim=None, dtype=None, *, _stacklevel=3):
    """log(softmax(input))."""
    return _row_op(composite.log_softmax, input, dim, dtype)


@function(register=False)
def softmin(input, dim=None, dtype=None, *, _stacklevel=3):
    """softmax(-input)."""
    return _row_op(composite.softmax, ops.neg(input), dim, dtype)


# --- dropout -----------------------------------------------------------------------------------


@function(register=False)
def _masked(input, mask):
    x, m = operands(input, mask, dtype=input.type.dtype)
    return ops.mul(x, m)


def _check_p(p: float) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _mask(shape: tuple, p: float, like: Tensor) -> Tensor:
    """torch's mask: 0, or 1 / (1 - p), drawn element by element from the default stream."""
    if like.is_meta:
        return empty(shape, dtype=like.dtype, device="meta")
    count = math.prod(shape)
    dtype = like.dtype.numpy
    kept = np.asarray(draw(None, "dropout_mask", count, p)).astype(dtype).reshape(shape)
    if p < 1:
        kept = (kept / np.asarray(1 - p, dtype)).astype(dtype)
    return from_array(kept, like._type.device)


def dropout_factors(shape: tuple, p: float, like: Tensor) -> Tensor:
    """What dropout multiplies elements of this shape by, in the type of `like`."""
    _check_p(p)
    if p == 1:
        return zeros(shape, dtype=like.dtype, device=like.device)
    return _mask(shape, p, like)


def dropout(input, p=0.5, training=True, inplace=False):
    """Sets elements to 0 with probability p, and scales the rest by 1 / (1 - p)."""
    _check_p(p)
    if not training or p == 0 or input.numel() == 0:
        return input if inplace or not training else input * 1
    if p == 1:
        return _finish(input * 0, input, inplace)
    return _finish(_masked(input, _mask(tuple(input.shape), p, input)), input, inplace)


def _channel_dropout(input: Tensor, p: float, training: bool, inplace: bool, rank: int) -> Tensor:
    _check_p(p)
    if not training or p == 0:
        return input
    batched = len(input.shape) == rank + 2
    lead = 2 if batched else 1
    shape = tuple(input.shape[:lead]) + (1,) * (len(input.shape) - lead)
    return _finish(_masked(input, _mask(shape, p, input)), input, inplace)


def dropout1d(input, p=0.5, training=True, inplace=False):
    """Sets whole channels of sequences to 0."""
    return _channel_dropout(input, p, training, inplace, 1)


def dropout2d(input, p=0.5, training=True, inplace=False):
    """Sets whole channels of images to 0."""
    return _channel_dropout(input, p, training, inplace, 2)


def dropout3d(input, p=0.5, training=True, inplace=False):
    """Sets whole channels of volumes to 0."""
    return _channel_dropout(input, p, training, inplace, 3)


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout that keeps mean and variance of self-normalising activations."""
    _check_p(p)
    if not training or p == 0:
        return input
    if p == 1:
        return _finish(input * 0, input, inplace)
    alpha = 1.7580993408473766
    a = 1.0 / math.sqrt((alpha * alpha * p + 1) * (1 - p))
    kept = np.asarray(draw(None, "dropout_mask", input.numel(), p)).reshape(tuple(input.shape))
    kept = kept.astype(input.dtype.numpy)
    shift = from_array(((kept - 1) * (alpha * a) + alpha * a * p).astype(kept.dtype))
    scaled = from_array((kept * a).astype(kept.dtype))
    return _finish(_masked(input, scaled) + shift, input, inplace)
