"""Patches of images: unfold and fold; and the inverses and kin of max pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..frontends.function import function
from ..ir import composite, ops
from ..ir.dtype import I64
from ..ir.errors import ShapeError
from ..ir.graph import Value
from .layers import each
from .pooling import _pool_arguments
from .random import rand


def _image(x: Value, name: str, rank: int) -> tuple[Value, bool]:
    """The input with a batch axis, and whether it had none."""
    have = len(x.type.shape)
    if have == rank - 1:
        return ops.reshape(x, shape=(1, *x.type.shape)), True
    if have != rank:
        raise ShapeError(f"{name} takes {rank - 1}D or {rank}D tensors, not {x.type.text}")
    return x, False


def _counts(spatial: tuple, kernel: tuple, dilation: tuple, padding: tuple, stride: tuple) -> list:
    """How many patches lie along each axis."""
    found = []
    for n, k, d, p, s in zip(spatial, kernel, dilation, padding, stride, strict=True):
        found.append((n + 2 * p - d * (k - 1) - 1) // s + 1)
    if any([n <= 0 for n in found]):
        raise RuntimeError(
            f"Given an image of spatial size {list(spatial)}, kernel_size={list(kernel)}, "
            f"dilation={list(dilation)}, padding={list(padding)}, stride={list(stride)}, "
            f"calculated shape of the array of sliding blocks as {found}, but its components must "
            "be at least one."
        )
    return found


@function(register=False)
def _unfold(input, kernel, dilation, padding, stride):
    x, alone = _image(input, "unfold", 4)
    n, c, *spatial = x.type.shape
    _counts(tuple(spatial), kernel, dilation, padding, stride)
    if any(padding):
        x = ops.pad(x, low=(0, 0, *padding), high=(0, 0, *padding), value=0.0)
    windows = ops.window(x, sizes=kernel, strides=stride, dilations=dilation)
    blocks = ops.permute(windows, perm=(0, 1, 4, 5, 2, 3))
    places = math.prod(windows.type.shape[2:4])
    shape = (n, c * math.prod(kernel), places)
    return ops.reshape(blocks, shape=shape[1:] if alone else shape)


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """Patches of images [N, C, H, W] as columns [N, C * kernel, places]."""
    return _unfold(
        input, each(kernel_size, 2), each(dilation, 2), each(padding, 2), each(stride, 2)
    )


@function(register=False)
def _fold(input, size, kernel, dilation, padding, stride):
    x, alone = _image(input, "fold", 3)
    n, columns, places = x.type.shape
    counts = _counts(size, kernel, dilation, padding, stride)
    if columns % math.prod(kernel):
        raise RuntimeError(
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, "
            f"but got input.size(1)={columns} and kernel_size={kernel}."
        )
    blocks = math.prod(counts)
    if places != blocks:
        raise RuntimeError(
            f"Given output_size={size}, kernel_size={kernel}, dilation={dilation}, "
            f"padding={padding}, stride={stride}, expected size of input's dimension 2 to match "
            f"the calculated number of sliding blocks {counts[0]} * {counts[1]} = {blocks}, "
            f"but got input.size(2)={places}."
        )
    c = columns // math.prod(kernel)
    parts = ops.reshape(x, shape=(n, c, *kernel, *counts))
    whole = tuple([m + 2 * p for m, p in zip(size, padding, strict=True)])
    if stride == kernel and dilation == (1, 1):
        made = _tiled(parts, whole)
    else:
        made = _summed(parts, whole, kernel, dilation, stride)
    start = (0, 0, *padding)
    stop = (n, c, *[p + m for p, m in zip(padding, size, strict=True)])
    made = ops.slice_(made, start=start, stop=stop, step=(1, 1, 1, 1))
    return ops.reshape(made, shape=made.type.shape[1:]) if alone else made


def _tiled(blocks: Value, whole: tuple) -> Value:
    """Blocks [N, C, kh, kw, oh, ow] side by side."""
    n, c, kh, kw, oh, ow = blocks.type.shape
    moved = ops.permute(blocks, perm=(0, 1, 4, 2, 5, 3))
    tiles = ops.reshape(moved, shape=(n, c, oh * kh, ow * kw))
    high = (0, 0, whole[0] - oh * kh, whole[1] - ow * kw)
    return ops.pad(tiles, low=(0, 0, 0, 0), high=high, value=0.0) if any(high) else tiles


def _summed(blocks: Value, whole: tuple, kernel: tuple, dilation: tuple, stride: tuple) -> Value:
    """Overlapping blocks added up, one place of the kernel after the other."""
    n, c, kh, kw, oh, ow = blocks.type.shape
    total: Value | None = None
    for i in range(kh):
        for j in range(kw):
            start, stop = (0, 0, i, j, 0, 0), (n, c, i + 1, j + 1, oh, ow)
            part = ops.slice_(blocks, start=start, stop=stop, step=(1,) * 6)
            part = ops.reshape(part, shape=(n, c, oh, ow))
            for axis, step in zip((2, 3), stride, strict=True):
                part = ops.dilate(part, axis, step) if step > 1 else part
            low = (0, 0, i * dilation[0], j * dilation[1])
            high = tuple([m - a - b for m, a, b in
                          zip((n, c, *whole), low, part.type.shape, strict=True)])  # fmt: skip
            part = ops.pad(part, low=low, high=high, value=0.0)
            total = part if total is None else ops.add(total, part)
    assert total is not None
    return total


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns [N, C * kernel, places] added up to images [N, C, H, W]: the transpose of unfold."""
    return _fold(
        input, each(output_size, 2), each(kernel_size, 2), each(dilation, 2), each(padding, 2),
        each(stride, 2),
    )  # fmt: skip


# --- max_unpool ----------------------------------------------------------------------------------


def _unpool_size(spatial: tuple, kernel: tuple, stride: tuple, padding: tuple, given: Any) -> tuple:
    usual = tuple(
        [(n - 1) * s + k - 2 * p
         for n, s, k, p in zip(spatial, stride, kernel, padding, strict=True)]
    )  # fmt: skip
    if given is None:
        return usual
    sizes = tuple(given)[-len(spatial) :]
    for i, (m, n, s) in enumerate(zip(sizes, usual, stride, strict=True)):
        if not n - s < m < n + s:
            raise ValueError(
                f"invalid output_size {list(sizes)} (dim {i} must be between {n - s} and {n + s})"
            )
    return sizes


@function(register=False)
def _unpool(input, indices, size):
    k, shape = len(size), input.type.shape
    lead = shape[: len(shape) - k]
    if indices.type.shape != shape:
        raise RuntimeError(
            "Expected shape of indices to be same as that of the input tensor "
            f"({list(shape)}) but got indices tensor with shape: {list(indices.type.shape)}"
        )
    count = math.prod(shape[len(shape) - k :])
    flat = ops.reshape(input, shape=(math.prod(lead), count))
    places = ops.reshape(ops.cast(indices, dtype=I64), shape=(math.prod(lead), count))
    zeros = ops.full(0.0, flat.type.dtype, (math.prod(lead), math.prod(size)), flat.type.device)
    made = ops.put_along(zeros, places, flat, 1, "set")
    return ops.reshape(made, shape=(*lead, *size))


def _max_unpool(input, indices, kernel_size, stride, padding, output_size, k):
    kernel, stride, padding, _ = _pool_arguments(kernel_size, stride, padding, 1, k)
    spatial = tuple(input.shape[len(input.shape) - k :])
    return _unpool(input, indices, _unpool_size(spatial, kernel, stride, padding, output_size))


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """The values of max_pool1d put back where they came from, zeros elsewhere."""
    return _max_unpool(input, indices, kernel_size, stride, padding, output_size, 1)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """The values of max_pool2d put back where they came from, zeros elsewhere."""
    return _max_unpool(input, indices, kernel_size, stride, padding, output_size, 2)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """The values of max_pool3d put back where they came from, zeros elsewhere."""
    return _max_unpool(input, indices, kernel_size, stride, padding, output_size, 3)


# --- fractional and adaptive max pooling ---------------------------------------------------------


def _starts(sample: Value, n: int, m: int, k: int) -> Value:
    """Where torch's pseudo-random windows of size k begin along an axis: [..., m]."""
    shape = (*sample.type.shape, m)
    if m == 1:
        return ops.full(n - k, I64, shape, sample.type.device)
    s = ops.expand(sample, shape=shape, axes=(len(shape) - 1,))
    i = ops.iota(shape, len(shape) - 1, s.type.dtype, s.type.device)
    alpha = ops.full_like((n - k) / (m - 1), s)
    high = ops.cast(ops.trunc(ops.mul(ops.add(i, s), alpha)), dtype=I64)
    low = ops.cast(ops.trunc(ops.mul(s, alpha)), dtype=I64)
    last = ops.eq(ops.cast(i, dtype=I64), ops.full_like(m - 1, low))
    return ops.select(last, ops.full_like(n - k, low), ops.sub(high, low))


@function(register=False)
def _fractional(input, samples, kernel, size):
    """(maxima, their places in the flattened image) over windows that begin at random."""
    k = len(size)
    n, c, *spatial = input.type.shape
    full = (n, c, *size, *kernel)
    index: Value | None = None
    for i in range(k):
        axis = k - 1 - i  # torch's samples count the axes from the last
        one = ops.slice_(samples, start=(0, 0, axis), stop=(n, c, axis + 1), step=(1, 1, 1))
        begin = _starts(ops.reshape(one, shape=(n, c)), spatial[i], size[i], kernel[i])
        others = tuple([j for j in range(2, 2 + 2 * k) if j != 2 + i])
        place = ops.add(
            ops.expand(begin, shape=full, axes=others),
            ops.iota(full, 2 + k + i, I64, input.type.device),
        )
        scaled = place if index is None else ops.mul(index, ops.full_like(spatial[i], index))
        index = place if index is None else ops.add(scaled, place)
    assert index is not None
    return _maxima(input, index, full, k)


def _maxima(x: Value, index: Value, full: tuple, k: int) -> tuple[Value, Value]:
    """The first maximum of each window, given the places [N, C, *size, *kernel] of its elements."""
    n, c, *spatial = x.type.shape
    outer, inside = full[: 2 + k], math.prod(full[2 + k :])
    flat = ops.reshape(x, shape=(n, c, math.prod(spatial)))
    places = ops.reshape(index, shape=(n, c, math.prod(full[2:])))
    windows = ops.reshape(ops.take_along(flat, places, 2), shape=(*outer, inside))
    rows = ops.reshape(places, shape=(*outer, inside))
    best = ops.arg_reduce(windows, axis=2 + k, mode="max")
    picked = ops.take_along(rows, ops.reshape(best, shape=(*outer, 1)), 2 + k)
    return composite.max_first(windows, axis=2 + k), ops.reshape(picked, shape=outer)


@function(register=False)
def _adaptive_with_indices(input, size):
    """(maxima, their places) over windows from floor(i n / m) to ceil((i + 1) n / m)."""
    k, shape = len(size), input.type.shape
    lead, spatial = shape[: len(shape) - k], shape[len(shape) - k :]
    lines = []
    for n, m in zip(spatial, size, strict=True):
        low, high = [np.array([-(-(i + e) * n // m) if e else i * n // m for i in range(m)])
                     for e in (0, 1)]  # fmt: skip
        steps = np.arange((high - low).max())
        lines.append(np.minimum(low[:, None] + steps, high[:, None] - 1))  # the last one repeats
    index = np.zeros((1,) * (2 * k), np.int64)
    for i, (line, n) in enumerate(zip(lines, spatial, strict=True)):
        place = [1] * (2 * k)
        place[i], place[k + i] = line.shape
        index = index * n + line.reshape(place)
    x = ops.reshape(input, shape=(1, math.prod(lead), *spatial))
    full = (1, math.prod(lead), *index.shape)
    made = _maxima(x, ops.broadcast_to(ops.const(index, x.type.device), full), full, k)
    return tuple([ops.reshape(part, shape=(*lead, *size)) for part in made])


def _fractional_nd(input, kernel_size, output_size, output_ratio, return_indices, samples, k):
    if (output_size is None) == (output_ratio is None):
        raise ValueError(
            f"fractional_max_pool{k}d requires specifying either an output_size or an output_ratio"
        )
    alone = len(input.shape) == k + 1
    x = input.unsqueeze(0) if alone else input
    spatial, kernel = tuple(x.shape[2:]), each(kernel_size, k)
    if output_size is None:
        ratios = output_ratio if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * k
        size = tuple([int(n * r) for n, r in zip(spatial, ratios, strict=True)])
    else:
        size = each(output_size, k)
    for n, m, w in zip(spatial, size, kernel, strict=True):
        if m + w - 1 > n:
            raise RuntimeError(
                f"fractional_max_pool{k}d(): kernel size {w} too large relative to input size {n} "
                f"and output size {m}"
            )
    if samples is None:
        samples = rand(x.shape[0], x.shape[1], k, dtype=x.dtype)
    values, places = _fractional(x, samples, kernel, size)
    if alone:
        values, places = values.squeeze(0), places.squeeze(0)
    return (values, places) if return_indices else values


def fractional_max_pool2d(input, kernel_size, output_size=None, output_ratio=None,
                          return_indices=False, _random_samples=None):  # fmt: skip
    """Maxima over windows whose starts are pseudo-random (Graham's fractional pooling)."""
    return _fractional_nd(
        input, kernel_size, output_size, output_ratio, return_indices, _random_samples, 2
    )


def fractional_max_pool3d(input, kernel_size, output_size=None, output_ratio=None,
                          return_indices=False, _random_samples=None):  # fmt: skip
    """Maxima over windows whose starts are pseudo-random (Graham's fractional pooling)."""
    return _fractional_nd(
        input, kernel_size, output_size, output_ratio, return_indices, _random_samples, 3
    )


def fractional_max_pool2d_with_indices(input, kernel_size, output_size=None, output_ratio=None,
                                       return_indices=False, _random_samples=None):  # fmt: skip
    """fractional_max_pool2d, with the places of the maxima."""
    return _fractional_nd(input, kernel_size, output_size, output_ratio, True, _random_samples, 2)


def fractional_max_pool3d_with_indices(input, kernel_size, output_size=None, output_ratio=None,
                                       return_indices=False, _random_samples=None):  # fmt: skip
    """fractional_max_pool3d, with the places of the maxima."""
    return _fractional_nd(input, kernel_size, output_size, output_ratio, True, _random_samples, 3)
