"""Tensors put together and repeated: cat, stack, tile, meshgrid and their kin. All are copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..frontends.function import composed, function
from ..ir import ops
from ..ir.dims import AnyDim, product
from ..ir.errors import ShapeError
from ..ir.graph import Value
from ..tensor import Tensor, from_array
from .movement import bracketed, given_or, reshaped
from .promote import axis_of, broadcast, result_type, to_dtype


def common_type(values: Sequence[Value]) -> list[Value]:
    dtype = result_type(*values)
    return [to_dtype(v, dtype) for v in values]


def joined(tensors: Sequence[Value], dim: int) -> Value:
    """torch.cat; a vector without elements fits anything, for old programs' sake."""
    if not tensors:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    for i, x in enumerate(tensors):
        if not x.type.shape:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    values = common_type(tensors)
    kept = [x for x in values if x.type.shape != (0,)] or values[:1]
    first = kept[0].type.shape
    axis = axis_of(dim, len(first))
    for i, x in enumerate(values):
        shape = x.type.shape
        if shape == (0,):
            continue
        if len(shape) != len(first):
            raise ShapeError(
                f"Tensors must have same number of dimensions: got {len(first)} and {len(shape)}"
            )
        for k, (n, m) in enumerate(zip(first, shape, strict=True)):
            if k != axis and n != m:
                raise ShapeError(
                    f"Sizes of tensors must match except in dimension {axis}. Expected size {n} "
                    f"but got size {m} for tensor number {i} in the list."
                )
    return ops.concat(*kept, axis=axis) if len(kept) > 1 else kept[0]


@function
def cat(tensors, dim=0):
    """The tensors one after the other along `dim`, in their common element type."""
    return joined(tensors, dim)


@function
def concat(tensors, dim=0):
    """cat."""
    return joined(tensors, dim)


@function
def concatenate(tensors, dim=0):
    """cat."""
    return joined(tensors, dim)


@function
def stack(tensors, dim=0):
    """The tensors along a new axis."""
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    shape = tensors[0].type.shape
    axis = axis_of(dim, len(shape) + 1)
    for i, x in enumerate(tensors):
        if x.type.shape != shape:
            raise ShapeError(
                f"stack expects each tensor to be equal size, but got {bracketed(shape)} at entry "
                f"0 and {bracketed(x.type.shape)} at entry {i}"
            )
    wide = (*shape[:axis], 1, *shape[axis:])
    return joined([ops.reshape(x, shape=wide) for x in tensors], axis)


def at_least(x: Value, rank: int) -> Value:
    """numpy's atleast_1d, 2d and 3d: where the new axes go depends on both ranks."""
    shape = x.type.shape
    if len(shape) >= rank:
        return x
    if rank == 1:
        return reshaped(x, (1,))
    if rank == 2:
        return reshaped(x, (1, *(shape or (1,))))
    return reshaped(x, {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}[len(shape)])


@function
def hstack(tensors):
    """Along axis 1; vectors along axis 0."""
    values = [at_least(x, 1) for x in _some(tensors, "hstack")]
    return joined(values, 0 if len(values[0].type.shape) == 1 else 1)


@function
def vstack(tensors):
    """Along axis 0, vectors as rows."""
    return joined([at_least(x, 2) for x in _some(tensors, "vstack")], 0)


@function
def row_stack(tensors):
    """vstack."""
    return joined([at_least(x, 2) for x in _some(tensors, "vstack")], 0)


@function
def dstack(tensors):
    """Along axis 2, vectors and matrices as slices of depth 1."""
    return joined([at_least(x, 3) for x in _some(tensors, "dstack")], 2)


@function
def column_stack(tensors):
    """Along axis 1, vectors as columns."""
    values = []
    for x in _some(tensors, "column_stack"):
        shape = x.type.shape
        values.append(x if len(shape) > 1 else reshaped(x, (product(shape), 1)))
    return joined(values, 1)


def _some(tensors: Sequence[Value], name: str) -> Sequence[Value]:
    if not tensors:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return tensors


# --- repetition ----------------------------------------------------------------------------------


def repeated(x: Value, times: Sequence[Any]) -> Value:
    """Copies side by side: an axis of size n becomes times * n."""
    extra = len(times) - len(x.type.shape)
    shape = (*[1] * extra, *x.type.shape)
    sizes = [n * k for n, k in zip(shape, times, strict=True)]
    if any([isinstance(n, int) and n < 0 for n in times]):
        raise RuntimeError(
            f"Trying to create tensor with negative dimension {min(sizes)}: {bracketed(sizes)}"
        )
    wide: list[AnyDim] = []
    axes = []
    for n, k in zip(shape, times, strict=True):
        if k != 1:
            axes.append(len(wide))
            wide.append(k)
        wide.append(n)
    x = reshaped(x, shape)
    if axes:
        x = ops.expand(x, shape=tuple(wide), axes=tuple(axes))
    return reshaped(x, sizes)


@function
def repeat(input, *args, repeats=None):
    """Copies side by side along each axis; further axes come first."""
    times = given_or(args, repeats)
    if len(times) < len(input.type.shape):
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of "
            "tensor"
        )
    return repeated(input, times)


@function
def tile(input, *args, dims=None):
    """repeat, with 1 for the axes that `dims` leaves out in front."""
    times = given_or(args, dims)
    missing = len(input.type.shape) - len(times)
    return repeated(input, (*[1] * missing, *times))


@function(register=False)
def _repeat_each(input, times, dim):
    """Each element `times` times in a row, along an axis."""
    if times < 0:
        raise RuntimeError("Repeats must be non-negative")
    if dim is None:
        input, dim = reshaped(input, (product(input.type.shape),)), 0
    shape = input.type.shape
    if not shape:
        input = reshaped(input, (1,))
        shape = (1,)
    axis = axis_of(dim, len(shape))
    wide = (*shape[: axis + 1], times, *shape[axis + 1 :])
    x = ops.expand(input, shape=wide, axes=(axis + 1,))
    return ops.reshape(x, shape=(*shape[:axis], shape[axis] * times, *shape[axis + 1 :]))


@function(register=False)
def _gather_rows(input, index, dim):
    if dim is None:
        input, dim = reshaped(input, (product(input.type.shape),)), 0
    return ops.gather(input, index, axis=axis_of(dim, len(input.type.shape)))


@composed
def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Each element several times in a row; `repeats` may differ from element to element."""
    if repeats is None:  # repeat_interleave(repeats): the places themselves
        return _places(input)
    if not isinstance(repeats, Tensor):
        return _repeat_each(input, int(repeats), dim)
    if repeats.dim() == 0 or repeats.numel() == 1:
        return _repeat_each(input, int(repeats.reshape(()).item()), dim)
    if repeats.dim() != 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    axis = 0 if dim is None else axis_of(dim, input.dim())
    n = input.numel() if dim is None else input.shape[axis]
    if repeats.shape[0] != n:
        raise RuntimeError(
            "repeats must have the same size as input along dim, but got repeats.size(0) = "
            f"{repeats.shape[0]} and input.size({axis}) = {n}"
        )
    return _gather_rows(input, _places(repeats), dim)


def _places(repeats: Tensor) -> Tensor:
    """[2, 0, 1] gives [0, 0, 2]; its length depends on the values, which are looked at."""
    import numpy as np

    counts = repeats._array()
    if counts.size and counts.min() < 0:
        raise RuntimeError("repeats can not be negative")
    return from_array(np.repeat(np.arange(counts.size), counts), str(repeats.device))


# --- several tensors of one shape ----------------------------------------------------------------


def _listed(tensors: tuple) -> tuple:
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        return tuple(tensors[0])
    return tensors


@function(view=True, register=False)
def _expanded_to(input, size):
    return ops.broadcast_to(input, size)


@composed
def broadcast_tensors(*tensors):
    """The tensors as views of their common shape."""
    given = _listed(tensors)
    shape = ops.broadcast_shapes(*[tuple(x.shape) for x in given])
    return tuple([_expanded_to(x, shape) for x in given])


@function(view=True, register=False)
def _at_least(input, rank):
    return at_least(input, rank)


def _each_at_least(tensors: tuple, rank: int) -> Any:
    if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)):
        return _at_least(tensors[0], rank)
    return tuple([_at_least(x, rank) for x in _listed(tensors)])


@composed
def atleast_1d(*tensors):
    """Scalars as vectors."""
    return _each_at_least(tensors, 1)


@composed
def atleast_2d(*tensors):
    """Scalars and vectors as matrices of one row."""
    return _each_at_least(tensors, 2)


@composed
def atleast_3d(*tensors):
    """With three axes at least, placed as numpy does."""
    return _each_at_least(tensors, 3)


@function(view=True, register=False)
def _along(input, axis, shape):
    """A vector laid along one axis of a grid."""
    line = reshaped(input, (product(input.type.shape),))
    others = tuple([i for i in range(len(shape)) if i != axis])
    return ops.expand(line, shape=shape, axes=others) if others else line


@composed
def meshgrid(*tensors, indexing=None):
    """The coordinates of a grid as views: the i-th tensor varies along axis i ("ij") or as numpy's
    "xy"."""
    given = _listed(tensors)
    for x in given:
        if x.dim() > 1:
            raise RuntimeError(
                f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x!r}"
            )
        if x.dtype is not given[0].dtype:
            raise RuntimeError("meshgrid expects all tensors to have the same dtype")
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(
            f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}'
        )
    shape = [x.numel() for x in given]
    order = list(range(len(given)))
    if indexing == "xy" and len(given) > 1:
        order[:2] = [1, 0]
        shape[:2] = [shape[1], shape[0]]
    return tuple([_along(x, order[i], tuple(shape)) for i, x in enumerate(given)])


def _vector_product(vectors: Sequence[Value]) -> Value:
    """All combinations, one a row."""
    shape = tuple([v.type.shape[0] for v in vectors])
    count = product(shape)
    columns = []
    for i, v in enumerate(vectors):
        others = tuple([k for k in range(len(shape)) if k != i])
        grid = ops.expand(v, shape=shape, axes=others) if others else v
        columns.append(ops.reshape(grid, shape=(count, 1)))
    return joined(columns, 1)


@function
def cartesian_prod(*tensors):
    """All combinations of the elements of vectors, one a row; of one vector, itself."""
    given = _listed(tensors)
    for x in given:
        if len(x.type.shape) != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {bracketed(x.type.shape)}")
    return given[0] if len(given) == 1 else _vector_product(given)


@function
def combinations(input, r=2, with_replacement=False):
    """All combinations of r elements of a vector, one a row."""
    from itertools import combinations as distinct
    from itertools import combinations_with_replacement as repeating

    import numpy as np

    if len(input.type.shape) != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {bracketed(input.type.shape)}")
    rows = list((repeating if with_replacement else distinct)(range(input.type.shape[0]), r))
    index = np.array(rows, np.int64).reshape(len(rows), r)
    if not r:
        return ops.full(0, input.type.dtype, (0,), input.type.device)
    return ops.gather(input, ops.const(index, input.type.device), axis=0)


@function
def block_diag(*tensors):
    """The matrices along the diagonal of a matrix of zeros."""
    given = _listed(tensors)
    for i, x in enumerate(given):
        if len(x.type.shape) > 2:
            raise RuntimeError(
                f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {i} has "
                f"{len(x.type.shape)} dimensions"
            )
    blocks = [at_least(x, 2) for x in common_type(given)]
    total = sum([x.type.shape[1] for x in blocks])
    at, rows = 0, []
    for x in blocks:
        n = x.type.shape[1]
        rows.append(ops.pad(x, low=(0, at), high=(0, total - at - n), value=0))
        at = at + n
    return joined(rows, 0)


@function
def kron(input, other):
    """The Kronecker product: every element of the input times the whole of other."""
    x, y = common_type([input, other])
    rank = max(len(x.type.shape), len(y.type.shape))
    a = (1,) * (rank - len(x.type.shape)) + x.type.shape
    b = (1,) * (rank - len(y.type.shape)) + y.type.shape
    wide_a = [n for d in a for n in (d, 1)]
    wide_b = [n for d in b for n in (1, d)]
    left, right = broadcast(reshaped(x, wide_a), reshaped(y, wide_b))
    return reshaped(ops.mul(left, right), [n * m for n, m in zip(a, b, strict=True)])
