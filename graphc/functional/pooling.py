"""Pooling: maxima and means over windows."""

from __future__ import annotations

import math
from typing import Any

from ..frontends.function import function
from ..ir import composite, ops
from ..ir.dtype import I64
from ..ir.graph import Value
from .layers import each


def _pool_arguments(kernel: Any, stride: Any, padding: Any, dilation: Any, k: int) -> tuple:
    kernel = each(kernel, k)
    stride = each(stride, k) if stride not in (None, (), []) else kernel
    padding, dilation = each(padding, k), each(dilation, k)
    for p, n in zip(padding, kernel, strict=True):
        if p > n / 2:
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={p}, "
                f"kernel_size={n}"
            )
    return kernel, stride, padding, dilation


def _extra(n: int, k: int, s: int, p: int, d: int, ceil_mode: bool) -> int:
    """How much more to pad behind, so that a last window that starts inside is counted."""
    span = (k - 1) * d + 1
    room = n + 2 * p - span
    if not ceil_mode or room % s == 0:
        return 0
    out = -(-room // s) + 1
    if (out - 1) * s >= n + p:
        return 0
    return (out - 1) * s - room


def _windows(
    x: Value, kernel: tuple, stride: tuple, pads: tuple, dilation: tuple, fill: float
) -> Value:
    """x[..., *spatial] as [..., *out, prod(kernel)]."""
    k = len(kernel)
    lead = len(x.type.shape) - k
    if any([a or b for a, b in pads]):
        low = (0,) * lead + tuple([a for a, _ in pads])
        high = (0,) * lead + tuple([b for _, b in pads])
        x = ops.pad(x, low=low, high=high, value=fill)
    windows = ops.window(x, sizes=kernel, strides=stride, dilations=dilation)
    shape = windows.type.shape
    return ops.reshape(windows, shape=(*shape[: len(shape) - k], math.prod(kernel)))


@function(register=False, floats=False)
def _max_pool(input, kernel, stride, padding, dilation, ceil_mode, indices):
    k = len(kernel)
    spatial = input.type.shape[len(input.type.shape) - k :]
    pads = tuple(
        [
            (p, p + _extra(n, m, s, p, d, ceil_mode))
            for n, m, s, p, d in zip(spatial, kernel, stride, padding, dilation, strict=True)
        ]
    )
    low = -math.inf if input.type.dtype.kind == "f" else -(2 ** (input.type.dtype.bits - 1))
    windows = _windows(input, kernel, stride, pads, dilation, low)
    axis = len(windows.type.shape) - 1
    made = composite.max_first(windows, axis=axis)
    if not indices:
        return made
    place = ops.arg_reduce(windows, axis=axis, mode="max")
    numbers = ops.reshape(
        ops.iota((math.prod(spatial),), 0, I64, input.type.device), shape=tuple(spatial)
    )
    numbers = ops.broadcast_to(numbers, input.type.shape)
    where = _windows(numbers, kernel, stride, pads, dilation, -1)
    picked = ops.take_along(where, ops.reshape(place, shape=(*place.type.shape, 1)), axis)
    return made, ops.reshape(picked, shape=place.type.shape)


def _max_pool_nd(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, k):
    arguments = _pool_arguments(kernel_size, stride, padding, dilation, k)
    return _max_pool(input, *arguments, ceil_mode, return_indices)


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
               return_indices=False):  # fmt: skip
    """The largest in each window of a sequence."""
    return _max_pool_nd(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, 1)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
               return_indices=False):  # fmt: skip
    """The largest in each window of an image."""
    return _max_pool_nd(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, 2)


def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False,
               return_indices=False):  # fmt: skip
    """The largest in each window of a volume."""
    return _max_pool_nd(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, 3)


@function(register=False, floats=False)
def _avg_pool(input, kernel, stride, padding, ceil_mode, include_pad, divisor):
    k = len(kernel)
    ones = (1,) * k
    spatial = input.type.shape[len(input.type.shape) - k :]
    extra = [
        _extra(n, m, s, p, 1, ceil_mode)
        for n, m, s, p in zip(spatial, kernel, stride, padding, strict=True)
    ]
    pads = tuple([(p, p + e) for p, e in zip(padding, extra, strict=True)])
    windows = _windows(input, kernel, stride, pads, ones, 0.0)
    total = ops.reduce_sum(windows, axes=(len(windows.type.shape) - 1,))
    if divisor:
        return ops.div(total, ops.full_like(divisor, total))
    if (include_pad or not any(padding)) and not any(extra):
        return ops.div(total, ops.full_like(math.prod(kernel), total))
    counted = ops.full(1.0, input.type.dtype, spatial, input.type.device)
    if include_pad:
        counted = ops.pad(counted, low=padding, high=padding, value=1.0)
        pads = tuple([(0, e) for e in extra])
    there = _windows(counted, kernel, stride, pads, ones, 0.0)
    count = ops.reduce_sum(there, axes=(k,))
    return ops.div(total, ops.broadcast_to(count, total.type.shape))


def _avg_pool_nd(input, kernel_size, stride, padding, ceil_mode, include_pad, divisor, k):
    kernel, stride, padding, _ = _pool_arguments(kernel_size, stride, padding, 1, k)
    return _avg_pool(input, kernel, stride, padding, ceil_mode, include_pad, divisor)


def avg_pool1d(input, kernel_size, stride=(), padding=0, ceil_mode=False,
               count_include_pad=True):  # fmt: skip
    """The mean of each window of a sequence."""
    return _avg_pool_nd(input, kernel_size, stride, padding, ceil_mode, count_include_pad, None, 1)


def avg_pool2d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None):  # fmt: skip
    """The mean of each window of an image."""
    return _avg_pool_nd(
        input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, 2
    )


def avg_pool3d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None):  # fmt: skip
    """The mean of each window of a volume."""
    return _avg_pool_nd(
        input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, 3
    )


def _targets(output_size: Any, spatial: tuple) -> tuple[int, ...]:
    sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * len(spatial)
    return tuple([n if m is None else int(m) for m, n in zip(sizes, spatial, strict=True)])


def _pieces(x: Value, axis: int, count: int) -> list[Value]:
    """The windows of adaptive pooling along an axis: from floor(i n / m) to ceil((i + 1) n / m)."""
    n, rank = x.type.shape[axis], len(x.type.shape)
    found = []
    for i in range(count):
        low, high = i * n // count, -(-(i + 1) * n // count)
        start = tuple([low if j == axis else 0 for j in range(rank)])
        stop = tuple([high if j == axis else d for j, d in enumerate(x.type.shape)])
        found.append(ops.slice_(x, start=start, stop=stop, step=(1,) * rank))
    return found


@function(register=False)
def _adaptive_avg(input, sizes):
    x = input
    for i, m in enumerate(reversed(sizes)):
        axis = len(x.type.shape) - 1 - i
        n = x.type.shape[axis]
        shape = x.type.shape
        if n == m:
            continue
        if n % m == 0:
            split = ops.reshape(x, shape=(*shape[:axis], m, n // m, *shape[axis + 1 :]))
            total = ops.reduce_sum(split, axes=(axis + 1,))
            x = ops.div(total, ops.full_like(n // m, total))
            continue
        parts = []
        for piece in _pieces(x, axis, m):
            total = ops.reduce_sum(piece, axes=(axis,))
            mean = ops.div(total, ops.full_like(piece.type.shape[axis], total))
            parts.append(ops.reshape(mean, shape=(*shape[:axis], 1, *shape[axis + 1 :])))
        x = ops.concat(*parts, axis=axis)
    return x


def _adaptive_avg_nd(input, output_size, k):
    return _adaptive_avg(input, _targets(output_size, tuple(input.shape[len(input.shape) - k :])))


def adaptive_avg_pool1d(input, output_size):
    """Means over windows such that the output has a given size."""
    return _adaptive_avg_nd(input, output_size, 1)


def adaptive_avg_pool2d(input, output_size):
    """Means over windows such that the output has a given size."""
    return _adaptive_avg_nd(input, output_size, 2)


def adaptive_avg_pool3d(input, output_size):
    """Means over windows such that the output has a given size."""
    return _adaptive_avg_nd(input, output_size, 3)


@function(register=False)
def _adaptive_max(input, sizes):
    x = input
    for i, m in enumerate(reversed(sizes)):
        axis = len(x.type.shape) - 1 - i
        if x.type.shape[axis] == m:
            continue
        parts = []
        for piece in _pieces(x, axis, m):
            top = composite.max_first(piece, axis=axis)
            shape = top.type.shape
            parts.append(ops.reshape(top, shape=(*shape[:axis], 1, *shape[axis:])))
        x = ops.concat(*parts, axis=axis)
    return x


def _adaptive_max_nd(input, output_size, return_indices, k):
    sizes = _targets(output_size, tuple(input.shape[len(input.shape) - k :]))
    if return_indices:
        from .patches import _adaptive_with_indices

        return _adaptive_with_indices(input, sizes)
    return _adaptive_max(input, sizes)


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """Maxima over windows such that the output has a given size."""
    return _adaptive_max_nd(input, output_size, return_indices, 1)


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """Maxima over windows such that the output has a given size."""
    return _adaptive_max_nd(input, output_size, return_indices, 2)


def adaptive_max_pool3d(input, output_size, return_indices=False):
    """Maxima over windows such that the output has a given size."""
    return _adaptive_max_nd(input, output_size, return_indices, 3)


def _lp(mean: Any, count: int, p: float) -> Any:
    """The p-norm of windows from their mean of p-th powers, with torch's sign for odd p."""
    from .activation import relu

    return (mean.sign() * relu(mean.abs()) * count).pow(1.0 / p)


def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The p-norm of each window."""
    kernel = each(kernel_size, 1)
    mean = avg_pool1d(input.pow(norm_type), kernel, stride, 0, ceil_mode)
    return _lp(mean, kernel[0], norm_type)


def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The p-norm of each window."""
    kernel = each(kernel_size, 2)
    mean = avg_pool2d(input.pow(norm_type), kernel, stride, 0, ceil_mode)
    return _lp(mean, math.prod(kernel), norm_type)


def lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The p-norm of each window."""
    kernel = each(kernel_size, 3)
    mean = avg_pool3d(input.pow(norm_type), kernel, stride, 0, ceil_mode)
    return _lp(mean, math.prod(kernel), norm_type)


# --- with the places of the maxima ---------------------------------------------------------------


def max_pool1d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1,
                            ceil_mode=False, return_indices=False):  # fmt: skip
    """max_pool1d, and where in the sequence each maximum stands."""
    return _max_pool_nd(input, kernel_size, stride, padding, dilation, ceil_mode, True, 1)


def max_pool2d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1,
                            ceil_mode=False, return_indices=False):  # fmt: skip
    """max_pool2d, and where in the flattened image each maximum stands."""
    return _max_pool_nd(input, kernel_size, stride, padding, dilation, ceil_mode, True, 2)


def max_pool3d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1,
                            ceil_mode=False, return_indices=False):  # fmt: skip
    """max_pool3d, and where in the flattened volume each maximum stands."""
    return _max_pool_nd(input, kernel_size, stride, padding, dilation, ceil_mode, True, 3)


def adaptive_max_pool1d_with_indices(input, output_size, return_indices=False):
    """adaptive_max_pool1d, and where each maximum stands."""
    return _adaptive_max_nd(input, output_size, True, 1)


def adaptive_max_pool2d_with_indices(input, output_size, return_indices=False):
    """adaptive_max_pool2d, and where each maximum stands."""
    return _adaptive_max_nd(input, output_size, True, 2)


def adaptive_max_pool3d_with_indices(input, output_size, return_indices=False):
    """adaptive_max_pool3d, and where each maximum stands."""
    return _adaptive_max_nd(input, output_size, True, 3)
