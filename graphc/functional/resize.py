"""Images in other sizes: interpolate and its old names, upsample."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..frontends.function import function
from ..ir import ops
from ..ir.dtype import F64, I64
from ..ir.graph import Value
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .promote import to_dtype

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_CUBIC = -0.75  # torch's choice for the free parameter of cubic convolution
_CUBIC_ANTIALIAS = -0.5


def interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None,
                recompute_scale_factor=None, antialias=False):  # fmt: skip
    """The input [N, C, *spatial] resampled to a size, or by a factor.

    mode: "nearest", "nearest-exact", "area", and by the number of spatial axes "linear" (1),
    "bilinear", "bicubic" (2), "trilinear" (3).
    """
    k = len(input.shape) - 2
    _check_mode(mode, k, align_corners, antialias)
    sizes, factors = _sizes(tuple(input.shape[2:]), size, scale_factor, recompute_scale_factor)
    if mode == "area":
        pool = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}[k]
        return pool(input, sizes)
    return _interpolate(input, sizes, factors, mode, bool(align_corners), antialias)


def _check_mode(mode: str, k: int, align_corners: Any, antialias: bool) -> None:
    if mode in ("nearest", "nearest-exact", "area"):
        if align_corners is not None:
            raise ValueError(
                "align_corners option can only be set with the interpolating modes: linear | "
                "bilinear | bicubic | trilinear"
            )
    elif not (mode == _LINEAR.get(k + 2) or (mode == "bicubic" and k == 2)):
        raise NotImplementedError(
            "Input Error: Only 3D, 4D and 5D input Tensors supported (got "
            f"{k + 2}D) for the modes: nearest | linear | bilinear | bicubic | trilinear | area | "
            f"nearest-exact (got {mode})"
        )
    if k not in (1, 2, 3):
        raise NotImplementedError(f"interpolate takes 3D, 4D and 5D tensors, not {k + 2}D")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(
            "Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D "
            "tensor as input"
        )


def _sizes(spatial: tuple, size: Any, scale_factor: Any, recompute: Any) -> tuple[tuple, tuple]:
    """The output's spatial sizes, and the factors that the source places are computed with."""
    k = len(spatial)
    if (size is None) == (scale_factor is None):
        raise ValueError(
            "either size or scale_factor should be defined"
            if size is None
            else "only one of size or scale_factor should be defined"
        )
    given = size if size is not None else scale_factor
    given = tuple(given) if isinstance(given, (tuple, list)) else (given,) * k
    if len(given) != k:
        raise ValueError(
            f"Input and output must have the same number of spatial dimensions, but got input with "
            f"spatial dimensions of {list(spatial)} and output size of {given}."
        )
    if size is not None:
        if recompute:
            raise ValueError(
                "recompute_scale_factor is not meaningful when an explicit size is given"
            )
        return tuple([int(n) for n in given]), (None,) * k
    sizes = tuple([math.floor(n * f) for n, f in zip(spatial, given, strict=True)])
    return sizes, (None,) * k if recompute else tuple([float(f) for f in given])


@function(register=False, floats=False)
def _interpolate(input, sizes, factors, mode, align, antialias):
    x = input
    lead = len(x.type.shape) - len(sizes)
    for i in reversed(range(len(sizes))):
        n, m, factor = x.type.shape[lead + i], sizes[i], factors[i]
        if mode.startswith("nearest"):
            x = _nearest(x, lead + i, m, factor, mode)
        elif n != m or antialias or (factor is not None and factor != 1):
            x = _blended(x, lead + i, m, factor, mode, align, antialias)
    return x


def _scale(n: int, m: int, factor: float | None, align: bool = False) -> float:
    if align:
        return (n - 1) / (m - 1) if m > 1 else 0.0
    return 1.0 / factor if factor else n / m


def _nearest(x: Value, axis: int, m: int, factor: float | None, mode: str) -> Value:
    shape = x.type.shape
    n = shape[axis]
    if n == m and factor in (None, 1):
        return x
    if m % n == 0 and factor in (None, m // n):
        times = m // n  # every element is repeated
        wide = ops.expand(
            x, shape=(*shape[: axis + 1], times, *shape[axis + 1 :]), axes=(axis + 1,)
        )
        return ops.reshape(wide, shape=(*shape[:axis], m, *shape[axis + 1 :]))
    at = np.arange(m, dtype=np.float32)
    if mode == "nearest-exact":
        at = at + np.float32(0.5)
    places = np.floor(at * np.float32(_scale(n, m, factor))).astype(np.int64)
    return ops.gather(x, ops.const(np.minimum(places, n - 1), x.type.device), axis=axis)


def _blended(
    x: Value, axis: int, m: int, factor: float | None, mode: str, align: bool, antialias: bool
) -> Value:
    """One axis resampled as weighted sums of neighbours."""
    n = x.type.shape[axis]
    real = np.float64 if x.type.dtype is F64 else np.float32
    if antialias:
        return _by_matrix(x, axis, _antialias_weights(n, m, factor, mode, align))
    scale = real(_scale(n, m, factor, align))
    at = np.arange(m, dtype=real)
    source = at * scale if align else (at + real(0.5)) * scale - real(0.5)
    if mode == "bicubic":
        low = np.floor(source)
        places, weights = _cubic_places(low, source - low, n)
    else:
        source = np.maximum(source, real(0))
        low = np.minimum(source.astype(np.int64), n - 1)
        t = np.clip(source - low, real(0), real(1))
        places = [low, np.minimum(low + 1, n - 1)]
        weights = [real(1) - t, t]
    return _weighted(x, axis, places, weights)


def _weighted(x: Value, axis: int, places: list[np.ndarray], weights: list[np.ndarray]) -> Value:
    total: Value | None = None
    for place, weight in zip(places, weights, strict=True):
        part = ops.gather(x, ops.const(place.astype(np.int64), x.type.device), axis=axis)
        others = tuple([i for i in range(len(part.type.shape)) if i != axis])
        factor = to_dtype(ops.const(weight, x.type.device), x.type.dtype)
        part = ops.mul(part, ops.expand(factor, shape=part.type.shape, axes=others))
        total = part if total is None else ops.add(total, part)
    assert total is not None
    return total


def _cubic(t: np.ndarray, a: float) -> np.ndarray:
    """The kernel of cubic convolution at distance t."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0)).astype(t.dtype)


def _cubic_places(low: np.ndarray, t: np.ndarray, n: int) -> tuple[list, list]:
    places = [np.clip(low.astype(np.int64) + j, 0, n - 1) for j in (-1, 0, 1, 2)]
    return places, [_cubic(t - j, _CUBIC) for j in (-1, 0, 1, 2)]


def _antialias_weights(n: int, m: int, factor: float | None, mode: str, align: bool) -> np.ndarray:
    """[m, n]: each output is a mean of the inputs under a kernel as wide as the shrinking."""
    scale = _scale(n, m, factor, align)
    width = max(scale, 1.0)
    support = (2.0 if mode == "bicubic" else 1.0) * width
    weights = np.zeros((m, n))
    for i in range(m):
        center = scale * (i + 0.5)
        low = max(int(center - support + 0.5), 0)
        high = min(int(center + support + 0.5), n)
        distance = (np.arange(low, high) - center + 0.5) / width
        if mode == "bicubic":
            row = _cubic(distance, _CUBIC_ANTIALIAS)
        else:
            row = np.maximum(0.0, 1.0 - np.abs(distance))
        weights[i, low:high] = row / row.sum()
    return weights


def _by_matrix(x: Value, axis: int, weights: np.ndarray) -> Value:
    matrix = to_dtype(ops.const(weights, x.type.device), x.type.dtype)
    made = ops.dot(x, matrix, contract=((axis,), (1,)))
    last = len(x.type.shape) - 1
    perm = (*range(axis), last, *range(axis, last))
    return ops.permute(made, perm=perm)


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """interpolate under its old name."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    """Nearest-neighbour interpolation."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    """Bilinear interpolation whose corners stay in place."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)


# --- grids ---------------------------------------------------------------------------------------


@function(register=False)
def _grid_places(theta, size, align):
    """[N, *size, k + 1]: the homogeneous coordinates of a regular grid in [-1, 1]."""
    k = len(size)
    lines = []
    for i in range(k):
        m = size[k - 1 - i]  # x is the last axis
        line = np.linspace(-1, 1, m, dtype=np.float64) if m > 1 else np.zeros(1)
        if not align:
            line = line * (m - 1) / m
        shape = [m if j == k - 1 - i else 1 for j in range(k)]
        lines.append(np.broadcast_to(line.reshape(shape), size))
    lines.append(np.ones(size))
    return to_dtype(ops.const(np.stack(lines, -1), theta.type.device), theta.type.dtype)


def affine_grid(theta, size, align_corners=None):
    """A grid for grid_sample: the affine maps theta [N, 2, 3] or [N, 3, 4] of a regular grid."""
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.type()}")
    k = len(size) - 2
    n, *spatial = size[0], *size[2:]
    if tuple(theta.shape) != (n, k, k + 1):
        raise ValueError(
            f"Expected a batch of {k}D affine matrices of shape Nx{k}x{k + 1} for size "
            f"{list(size)}. Got {theta.shape}."
        )
    grid = _grid_places(theta, tuple(spatial), bool(align_corners))
    return (grid.reshape(1, -1, k + 1) @ theta.transpose(1, 2)).reshape(n, *spatial, k)


def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """The input [N, C, *spatial] at the places grid [N, *out, k] in [-1, 1], x first.

    mode: "bilinear", "nearest", "bicubic" (2 spatial axes); padding_mode: "zeros", "border",
    "reflection".
    """
    for given, allowed, name in (
        (mode, ("bilinear", "nearest", "bicubic"), "mode"),
        (padding_mode, ("zeros", "border", "reflection"), "padding_mode"),
    ):
        if given not in allowed:
            raise ValueError(
                f"nn.functional.grid_sample(): expected {name} to be one of {allowed}, but got: "
                f"'{given}'"
            )
    k = len(input.shape) - 2
    if len(grid.shape) != k + 2 or grid.shape[-1] != k or grid.shape[0] != input.shape[0]:
        raise RuntimeError(
            f"grid_sampler(): expected grid to have size {k} in last dimension and the batch size "
            f"of input, but got input with sizes {list(input.shape)} and grid with sizes "
            f"{list(grid.shape)}"
        )
    if mode == "bicubic" and k != 2:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    return _grid_sample(input, grid, mode, padding_mode, bool(align_corners))


@function(register=False)
def _grid_sample(input, grid, mode, padding, align):
    spatial = input.type.shape[2:]
    k, rank = len(spatial), len(grid.type.shape)
    at = []
    for i, n in enumerate(spatial):
        axis = k - 1 - i
        start = (0,) * (rank - 1) + (axis,)
        stop = (*grid.type.shape[:-1], axis + 1)
        line = ops.slice_(grid, start=start, stop=stop, step=(1,) * rank)
        line = _source(ops.reshape(line, shape=grid.type.shape[:-1]), n, align)
        at.append(line if mode == "bicubic" else _padded(line, n, padding, align))
    rows = _rows(input)
    if mode == "nearest":
        return _corner(rows, input, [ops.round_(line) for line in at])
    floors = [ops.floor(line) for line in at]
    parts = [ops.sub(line, low) for line, low in zip(at, floors, strict=True)]
    if mode == "bicubic":
        return _bicubic_samples(rows, input, floors, parts, padding, align)
    total: Value | None = None
    for corner in np.ndindex(*(2,) * k):
        places, weight = [], None
        for low, part, high in zip(floors, parts, corner, strict=True):
            one = ops.full_like(1.0, part)
            places.append(ops.add(low, one) if high else low)
            w = part if high else ops.sub(one, part)
            weight = w if weight is None else ops.mul(weight, w)
        total = _add_part(total, _corner(rows, input, places), weight)
    return total


def _add_part(total: Value | None, part: Value, weight: Value | None) -> Value:
    """total + weight * part, the weight being the same for all channels."""
    assert weight is not None
    wide = ops.mul(part, ops.expand(weight, shape=part.type.shape, axes=(1,)))
    return wide if total is None else ops.add(total, wide)


def _source(x: Value, n: int, align: bool) -> Value:
    """From [-1, 1] to places in [0, n - 1], or in [-0.5, n - 0.5]."""
    one, half = ops.full_like(1.0, x), ops.full_like(0.5, x)
    if align:
        return ops.mul(ops.mul(ops.add(x, one), half), ops.full_like(float(n - 1), x))
    scaled = ops.mul(ops.add(x, one), ops.full_like(float(n), x))
    return ops.mul(ops.sub(scaled, one), half)


def _padded(x: Value, n: int, padding: str, align: bool) -> Value:
    """Places outside of the image as padding_mode says."""
    if padding == "reflection":
        low, high = (0.0, float(n - 1)) if align else (-0.5, n - 0.5)
        x = _reflected(x, low, high)
    if padding != "zeros":
        zero, top = ops.full_like(0.0, x), ops.full_like(float(n - 1), x)
        x = ops.select(ops.lt(zero, x), x, zero)  # so that the border has no derivative
        x = ops.select(ops.lt(x, top), x, top)
    return x


def _reflected(x: Value, low: float, high: float) -> Value:
    if low == high:
        return ops.full_like(0.0, x)
    span = ops.full_like(high - low, x)
    base = ops.full_like(low, x)
    distance = ops.abs_(ops.sub(x, base))
    extra = ops.rem(distance, span)
    flips = ops.floor(ops.div(distance, span))
    odd = ops.eq(ops.rem(flips, ops.full_like(2.0, x)), ops.full_like(1.0, x))
    return ops.add(ops.select(odd, ops.sub(span, extra), extra), base)


def _rows(x: Value) -> Value:
    """[N, C, *spatial] as [N * spatial, C]: one row for each place."""
    rank = len(x.type.shape)
    moved = ops.permute(x, perm=(0, *range(2, rank), 1))
    n, c, *spatial = x.type.shape
    return ops.reshape(moved, shape=(n * math.prod(spatial), c))


def _corner(rows: Value, x: Value, places: list[Value]) -> Value:
    """The rows at whole places, 0 outside of the image: [N, C, *out]."""
    spatial, shape = x.type.shape[2:], places[0].type.shape
    inside, index = None, None
    for place, n in zip(places, spatial, strict=True):
        zero, top = ops.full_like(0.0, place), ops.full_like(float(n - 1), place)
        there = ops.and_(ops.le(zero, place), ops.le(place, top))
        whole = ops.cast(ops.detach(ops.select(there, place, zero)), dtype=I64)
        inside = there if inside is None else ops.and_(inside, there)
        scaled = whole if index is None else ops.mul(index, ops.full_like(n, index))
        index = whole if index is None else ops.add(scaled, whole)
    assert inside is not None and index is not None
    batch = ops.iota(shape, 0, I64, x.type.device)
    count = ops.full_like(math.prod(spatial), batch)
    index = ops.add(ops.mul(batch, count), index)
    picked = ops.gather(rows, index, axis=0)
    last = len(shape)
    wide = ops.expand(inside, shape=picked.type.shape, axes=(last,))
    picked = ops.select(wide, picked, ops.full_like(0.0, picked))
    return ops.permute(picked, perm=(0, last, *range(1, last)))


def _cubic_weights(t: Value) -> list[Value]:
    """The four weights of cubic convolution for a place t in [0, 1) after the second."""

    def number(v: float) -> Value:
        return ops.full_like(v, t)

    def near(d: Value) -> Value:
        inner = ops.sub(ops.mul(number(_CUBIC + 2), d), number(_CUBIC + 3))
        return ops.add(ops.mul(ops.mul(inner, d), d), number(1.0))

    def far(d: Value) -> Value:
        inner = ops.sub(ops.mul(number(_CUBIC), d), number(5 * _CUBIC))
        inner = ops.add(ops.mul(inner, d), number(8 * _CUBIC))
        return ops.sub(ops.mul(inner, d), number(4 * _CUBIC))

    one = number(1.0)
    rest = ops.sub(one, t)
    return [far(ops.add(t, one)), near(t), near(rest), far(ops.add(rest, one))]


def _bicubic_samples(rows, x, floors, parts, padding, align):
    weights = [_cubic_weights(part) for part in parts]
    total: Value | None = None
    for i in range(4):
        for j in range(4):
            places = [
                _padded(ops.add(low, ops.full_like(float(step - 1), low)), n, padding, align)
                for low, step, n in zip(floors, (i, j), x.type.shape[2:], strict=True)
            ]
            weight = ops.mul(weights[0][i], weights[1][j])
            total = _add_part(total, _corner(rows, x, [ops.round_(p) for p in places]), weight)
    return total
