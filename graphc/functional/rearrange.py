"""Copies whose elements change places: flip, roll, triangles, diagonals, pixel shuffles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..frontends.function import composed, function
from ..ir import ops
from ..ir.dims import AnyDim, product
from ..ir.dtype import BOOL, I64, DType
from ..ir.errors import ShapeError
from ..ir.graph import Value
from ..tensor import Tensor, from_array
from .movement import bracketed, distinct_axes, given_or, permuted, reshaped, swapped
from .parts import diagonal_of, place_of, selected, sliced
from .promote import axis_of, to_dtype
from .sizes import at_most

# --- reversal and rotation -----------------------------------------------------------------------


def flipped(x: Value, dims: Sequence[int]) -> Value:
    axes = distinct_axes(dims, len(x.type.shape))
    return ops.flip(x, axes=tuple(axes)) if axes and x.type.shape else x


@function
def flip(input, *args, dims=None):
    """The elements in reverse order along `dims`."""
    return flipped(input, given_or(args, dims))


@function
def fliplr(input):
    """Columns in reverse order."""
    if len(input.type.shape) < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flipped(input, (1,))


@function
def flipud(input):
    """Rows in reverse order."""
    if not input.type.shape:
        raise RuntimeError("Input must be >= 1-d.")
    return flipped(input, (0,))


def rolled(x: Value, axis: int, shift: int) -> Value:
    """The elements `shift` places further along an axis; what falls off comes in again."""
    n = x.type.shape[axis]
    if n == 0 or n == 1:
        return x
    if isinstance(n, int):
        cut: AnyDim = (n - shift) % n
    else:
        cut = -shift if shift < 0 else n - shift
        if not (at_most(0, cut) and at_most(cut, n)):
            raise ShapeError(f"roll by {shift} along an axis of symbolic size {n}")
    if cut == 0 or cut == n:
        return x
    return ops.concat(sliced(x, axis, cut, n), sliced(x, axis, 0, cut), axis=axis)


@function
def roll(input, shifts, dims=()):
    """The elements moved along `dims` (along all, flattened, without); what falls off comes in."""
    moves = tuple(shifts) if isinstance(shifts, (tuple, list)) else (shifts,)
    axes = tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)
    if not moves:
        raise RuntimeError("`shifts` required")
    if not axes and len(moves) == 1:
        flat = reshaped(input, (product(input.type.shape),))
        return reshaped(rolled(flat, 0, moves[0]), input.type.shape)
    if len(moves) != len(axes):
        raise RuntimeError(
            f"shifts and dimensions must align. shifts: {len(moves)}, dims:{len(axes)}"
        )
    for shift, dim in zip(moves, axes, strict=True):
        axis = axis_of(dim, len(input.type.shape))
        if input.type.shape:
            input = rolled(input, axis, shift)
    return input


@function
def rot90(input, k=1, dims=(0, 1)):
    """A quarter turn, k times, from the first of `dims` towards the second."""
    rank = len(input.type.shape)
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if rank < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {rank}")
    a, b = axis_of(dims[0], rank), axis_of(dims[1], rank)
    if a == b:
        raise RuntimeError(
            f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}"
        )
    turns = k % 4
    if turns == 0:
        return input
    if turns == 2:
        return flipped(input, (a, b))
    return swapped(flipped(input, (b if turns == 1 else a,)), a, b)


# --- triangles and diagonals ---------------------------------------------------------------------


def band(shape: Sequence[AnyDim], device: str) -> Value:
    """column - row for each place of the matrices in the last two axes."""
    rank = len(shape)
    rows = ops.iota(tuple(shape), rank - 2, I64, device)
    return ops.sub(ops.iota(tuple(shape), rank - 1, I64, device), rows)


def _triangle(x: Value, diagonal: int, lower: bool) -> Value:
    if len(x.type.shape) < 2:
        name = "tril" if lower else "triu"
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
    places = band(x.type.shape, x.type.device)
    limit = ops.full_like(diagonal, places)
    kept = ops.le(places, limit) if lower else ops.le(limit, places)
    return ops.select(kept, x, ops.full_like(0, x))


@function
def tril(input, diagonal=0):
    """The matrices with zeros above a diagonal."""
    return _triangle(input, diagonal, True)


@function
def triu(input, diagonal=0):
    """The matrices with zeros below a diagonal."""
    return _triangle(input, diagonal, False)


def _triangle_indices(found: tuple, dtype: DType | None, device: Any) -> Tensor:
    dtype = dtype or I64
    return from_array(np.stack(found).astype(dtype.numpy), str(device or "cpu"))


@composed
def tril_indices(row, col, offset=0, *, dtype=None, layout=None, device=None, pin_memory=False,
                 requires_grad=False):  # fmt: skip
    """Row and column indices of the lower triangle, row by row: 2 x count."""
    return _triangle_indices(np.tril_indices(row, offset, col), dtype, device)


@composed
def triu_indices(row, col, offset=0, *, dtype=None, layout=None, device=None, pin_memory=False,
                 requires_grad=False):  # fmt: skip
    """Row and column indices of the upper triangle, row by row: 2 x count."""
    return _triangle_indices(np.triu_indices(row, offset, col), dtype, device)


def embedded(x: Value, offset: int, dim1: int, dim2: int) -> Value:
    """Matrices whose diagonal is the last axis of x, in axes dim1 and dim2 of the result."""
    *lead, n = x.type.shape
    rank = len(lead) + 2
    a, b = axis_of(dim1, rank), axis_of(dim2, rank)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    size = n + abs(offset)
    low, high = [(0,) * len(lead) + (k,) for k in (max(-offset, 0), max(offset, 0))]
    rows = ops.pad(x, low=low, high=high, value=0)  # at row i stands the element of that row
    wide = ops.expand(rows, shape=(*lead, size, size), axes=(rank - 1,))
    places = band(wide.type.shape, x.type.device)
    there = ops.eq(places, ops.full_like(offset, places))
    out = ops.select(there, wide, ops.full_like(0, wide))
    order, rest = [0] * rank, iter(range(rank - 2))
    for axis in range(rank):
        order[axis] = rank - 2 if axis == a else rank - 1 if axis == b else next(rest)
    return permuted(out, order)


@function
def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """Matrices whose diagonal is the last axis of the input."""
    return embedded(input, offset, dim1, dim2)


@function(view=True)
def diag(input, diagonal=0):
    """The diagonal of a matrix, or the matrix that has a vector as its diagonal."""
    rank = len(input.type.shape)
    if rank == 1:
        return embedded(input, diagonal, 0, 1)
    if rank == 2:
        return diagonal_of(input, diagonal, 0, 1)
    raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {rank}D")


@function
def diagflat(input, offset=0):
    """The matrix whose diagonal is the input, flattened."""
    return embedded(reshaped(input, (product(input.type.shape),)), offset, 0, 1)


@function
def vander(x, N=None, increasing=False):
    """The powers of a vector's elements as columns, the largest first unless `increasing`."""
    (n,) = x.type.shape
    columns = n if N is None else N
    if columns < 0:
        raise RuntimeError(f"N must be non-negative, got {columns}")
    dtype = x.type.dtype if x.type.dtype.kind in "fc" else I64
    wide = ops.expand(to_dtype(x, dtype), shape=(n, columns), axes=(1,))
    if columns == 0:
        return wide
    first = ops.full(1, dtype, (n, 1), x.type.device)
    rest = sliced(wide, 1, 1, columns)
    powers = ops.cumulative(ops.concat(first, rest, axis=1), axis=1, mode="prod", reverse=False)
    return powers if increasing else ops.flip(powers, axes=(1,))


# --- a part replaced -----------------------------------------------------------------------------


def placed(x: Value, part: Value, shown: Any) -> Value:
    """x with `part` in place of the elements that the view `shown(x)` shows."""
    from ..frontends import views
    from ..ir.build import Builder

    view = shown(x)
    if part.type.shape != view.type.shape:
        raise ShapeError(
            f"expected src to have a size equal to the slice of self. src size = "
            f"{bracketed(part.type.shape)}, slice size = {bracketed(view.type.shape)}"
        )
    if product(view.type.shape) == 0:
        return x
    chain = views.chain_between(Builder.current().nodes, x, view)
    assert chain is not None
    part = to_dtype(part, x.type.dtype)
    return views.put(x, part, chain) if chain else part


@function
def diagonal_scatter(input, src, offset=0, dim1=0, dim2=1):
    """The input with a diagonal replaced by src."""
    return placed(input, src, lambda x: diagonal_of(x, offset, dim1, dim2))


@function
def select_scatter(input, src, dim, index):
    """The input with one place along `dim` replaced by src."""
    shape = input.type.shape
    axis = axis_of(dim, len(shape))
    place = place_of(index, shape[axis])
    if place is None:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {bracketed(shape)} at "
            f"dimension {axis}"
        )
    return placed(input, src, lambda x: selected(x, axis, place))


@function
def slice_scatter(input, src, dim=0, start=None, end=None, step=1):
    """The input with the places start, start + step, ... along `dim` replaced by src."""
    axis = axis_of(dim, len(input.type.shape))
    n = input.type.shape[axis]
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    low, high, _ = slice(start, end).indices(n)
    return placed(input, src, lambda x: sliced(x, axis, low, max(low, high), step))


@composed
def fill_diagonal_(input, fill_value, wrap=False):
    """Sets the main diagonal in place; in a tall matrix it starts again if `wrap` is set."""
    if input.dim() < 2:
        raise RuntimeError("dimensions must larger than 1")
    return input._write(_diagonal_filled(input, fill_value, wrap))


@function(register=False)
def _diagonal_filled(input, fill_value, wrap):
    shape = input.type.shape
    if len(shape) > 2 and len(set(shape)) != 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    places = [ops.iota(shape, i, I64, input.type.device) for i in range(len(shape))]
    if len(shape) == 2 and wrap and shape[0] > shape[1] + 1:
        period = ops.full_like(shape[1] + 1, places[0])
        places[0] = ops.rem(places[0], period)
    there = ops.full(True, BOOL, shape, input.type.device)
    for line in places[1:]:
        there = ops.and_(there, ops.eq(places[0], line))
    value = ops.broadcast_to(to_dtype(fill_value, input.type.dtype, input), shape)
    return ops.select(there, value, input)


# --- pixels and channels -------------------------------------------------------------------------


@function
def pixel_shuffle(input, upscale_factor):
    """[..., C * r * r, H, W] as [..., C, H * r, W * r]."""
    r, shape = upscale_factor, input.type.shape
    if len(shape) < 3:
        raise RuntimeError(
            "pixel_shuffle expects input to have at least 3 dimensions, but got input with "
            f"{len(shape)} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *lead, c, h, w = shape
    if isinstance(c, int) and c % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square "
            f"of upscale_factor, but input.size(-3)={c} is not divisible by {r * r}"
        )
    k = len(lead)
    x = ops.reshape(input, shape=(*lead, c // (r * r), r, r, h, w))
    x = permuted(x, [*range(k), k, k + 3, k + 1, k + 4, k + 2])
    return ops.reshape(x, shape=(*lead, c // (r * r), h * r, w * r))


@function
def pixel_unshuffle(input, downscale_factor):
    """[..., C, H * r, W * r] as [..., C * r * r, H, W]."""
    r, shape = downscale_factor, input.type.shape
    if len(shape) < 3:
        raise RuntimeError(
            "pixel_unshuffle expects input to have at least 3 dimensions, but got input with "
            f"{len(shape)} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *lead, c, h, w = shape
    for name, n, at in (("height", h, -2), ("width", w, -1)):
        if isinstance(n, int) and n % r:
            raise RuntimeError(
                f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but "
                f"input.size({at})={n} is not divisible by {r}"
            )
    k = len(lead)
    x = ops.reshape(input, shape=(*lead, c, h // r, r, w // r, r))
    x = permuted(x, [*range(k), k, k + 2, k + 4, k + 1, k + 3])
    return ops.reshape(x, shape=(*lead, c * r * r, h // r, w // r))


@function
def channel_shuffle(input, groups):
    """The channels of `groups` groups in turns."""
    shape = input.type.shape
    if len(shape) < 3:
        raise RuntimeError(
            "channel_shuffle expects input with > 2 dims, but got input with sizes "
            f"{bracketed(shape)}"
        )
    b, c, *rest = shape
    if groups <= 0:
        raise RuntimeError(
            f"Number of groups to divide channels in must be positive. Value of groups:{groups}"
        )
    if isinstance(c, int) and c % groups:
        raise RuntimeError(
            f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups."
        )
    x = ops.reshape(input, shape=(b, groups, c // groups, *rest))
    return ops.reshape(swapped(x, 1, 2), shape=shape)


# --- copies --------------------------------------------------------------------------------------


@function
def clone(input, *, memory_format=None):
    """A copy with a storage of its own, through which derivatives pass."""
    return input


@composed
def contiguous(input, memory_format=None):
    """The tensor itself where its elements lie in row-major order, else a copy that does."""
    return input if input.is_contiguous() else clone(input)
