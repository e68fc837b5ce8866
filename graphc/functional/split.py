"""Parts of a tensor: split, chunk, unbind and their kin, and `as_strided`. All are views."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import Any

from ..frontends.function import FUNCTIONS, composed, function
from ..ir import ops
from ..ir.dims import product
from ..ir.errors import UnsupportedError
from ..ir.graph import Value
from ..tensor import Tensor, wrap
from .movement import bracketed, into_view, ints_of, permuted, reshaped
from .parts import selected, sliced
from .promote import axis_of


def _with_sizes(x: Value, sizes: Sequence[int], dim: int) -> list[Value]:
    axis = axis_of(dim, len(x.type.shape))
    n = x.type.shape[axis]
    if any([isinstance(s, int) and s < 0 for s in sizes]):
        raise RuntimeError(
            "split_with_sizes expects split_sizes have only non-negative entries, but got "
            f"split_sizes={bracketed(sizes)}"
        )
    total = sum(sizes)
    if total != n:
        raise RuntimeError(
            f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
            f"dimension {axis}), but got split_sizes={bracketed(sizes)}"
        )
    parts, at = [], 0
    for size in sizes:
        parts.append(sliced(x, axis, at, at + size))
        at = at + size
    return parts


def _of_size(x: Value, size: int, dim: int) -> list[Value]:
    if not x.type.shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    if size < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
    axis = axis_of(dim, len(x.type.shape))
    n = x.type.shape[axis]
    if not isinstance(n, int):
        if n == size:
            return [x]
        raise UnsupportedError(f"split of a symbolic size {n} into parts of {size}")
    if size == 0:
        if n != 0:
            raise RuntimeError(
                f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}"
            )
        return [x]
    starts = range(0, n, size) if n else [0]
    return [sliced(x, axis, a, min(a + size, n)) for a in starts]


@function(view=True, parts="Split")
def split(tensor, split_size_or_sections=None, dim=0, *, split_size=None):
    """Parts of one size (the last may be smaller), or of the given sizes, along `dim`."""
    size = split_size_or_sections if split_size is None else split_size
    if isinstance(size, (tuple, list)):
        return tuple(_with_sizes(tensor, size, dim))
    return tuple(_of_size(tensor, as_int(size), dim))


@function(view=True, parts="SplitWithSizes")
def split_with_sizes(input, split_sizes, dim=0):
    """Parts of the given sizes along `dim`."""
    return tuple(_with_sizes(input, split_sizes, dim))


@function(view=True, parts="Split")
def chunk(input, chunks, dim=0):
    """At most `chunks` parts of one size along `dim`; the last may be smaller."""
    if not input.type.shape:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = input.type.shape[axis_of(dim, len(input.type.shape))]
    if n == 0:
        return tuple(_with_sizes(input, [0] * chunks, dim))
    if not isinstance(n, int):
        size = n // chunks
        return tuple(_with_sizes(input, [size] * chunks, dim))
    return tuple(_of_size(input, -(-n // chunks), dim))


def _at_indices(x: Value, indices: Sequence[int], axis: int) -> list[Value]:
    """x[:i0], x[i0:i1], ... with Python's rules for bounds."""
    n = x.type.shape[axis]
    starts = [0, *indices]
    stops = [*indices, n]
    parts = []
    for a, b in zip(starts, stops, strict=True):
        low, high, _ = slice(a, b).indices(n)
        parts.append(sliced(x, axis, low, max(low, high)))
    return parts


def _in_sections(x: Value, sections: int, axis: int) -> list[Value]:
    n = x.type.shape[axis]
    if sections <= 0:
        raise RuntimeError(f"number of sections must be larger than 0, got {sections}")
    if not isinstance(n, int):
        return _with_sizes(x, [n // sections] * sections, axis)
    small, larger = divmod(n, sections)
    return _with_sizes(x, [small + (i < larger) for i in range(sections)], axis)


@function(view=True, register=False)
def _tensor_split(input, where, dim):
    if not input.type.shape:
        raise RuntimeError(
            "tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims"
        )
    axis = axis_of(dim, len(input.type.shape))
    if isinstance(where, (tuple, list)):
        return tuple(_at_indices(input, where, axis))
    return tuple(_in_sections(input, where, axis))


@composed
def tensor_split(input, tensor_indices_or_sections=None, dim=0, *, indices=None, sections=None):
    """`sections` parts that differ in size by at most one, or parts that begin at `indices`."""
    given = [w for w in (tensor_indices_or_sections, indices, sections) if w is not None]
    (where,) = given
    if isinstance(where, Tensor):
        where = where.tolist()
    return _tensor_split(
        input, ints_of((where,)) if isinstance(where, (tuple, list)) else where, dim
    )


def _named_split(x: Value, given: Any, name: str, axis: int) -> tuple[Value, ...]:
    rank, need = len(x.type.shape), {"hsplit": 1, "vsplit": 2, "dsplit": 3}[name]
    if rank < need:
        raise RuntimeError(
            f"torch.{name} requires a tensor with at least {need} dimension, but got a tensor "
            f"with {rank} dimensions!"
        )
    if len(given) > 1 or isinstance(given[0], (tuple, list)):
        return tuple(_at_indices(x, ints_of(given), axis))
    n, sections = x.type.shape[axis], given[0]
    if sections == 0 or (isinstance(n, int) and n % sections):
        raise RuntimeError(
            f"torch.{name} attempted to split along dimension {axis}, but the size of the "
            f"dimension {n} is not divisible by the split_size {sections}!"
        )
    return tuple(_in_sections(x, sections, axis))


def _one_of(given: tuple, *keywords: Any) -> tuple:
    return given or tuple([k for k in keywords if k is not None])


@function(view=True)
def hsplit(input, *where, sections=None, indices=None):
    """Parts along axis 1 (axis 0 of a vector)."""
    axis = 0 if len(input.type.shape) == 1 else 1
    return _named_split(input, _one_of(where, sections, indices), "hsplit", axis)


@function(view=True)
def vsplit(input, *where, sections=None, indices=None):
    """Parts along axis 0."""
    return _named_split(input, _one_of(where, sections, indices), "vsplit", 0)


@function(view=True)
def dsplit(input, *where, sections=None, indices=None):
    """Parts along axis 2."""
    return _named_split(input, _one_of(where, sections, indices), "dsplit", 2)


@function(view=True, parts="Unbind")
def unbind(input, dim=0):
    """The places along an axis, which goes away."""
    shape = input.type.shape
    if not shape:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    axis = axis_of(dim, len(shape))
    n = shape[axis]
    if not isinstance(n, int):
        raise UnsupportedError(f"unbind along an axis of symbolic size {n}")
    return tuple([selected(input, axis, i) for i in range(n)])


# --- as_strided ----------------------------------------------------------------------------------


@function(view=True, register=False)
def _strided(storage, size, stride, offset):
    """A view of a whole storage by strides, as slices and reshapes."""
    flat = reshaped(storage, (product(storage.type.shape),))
    axes = [i for i, n in enumerate(size) if n != 1 and stride[i] != 0]
    if 0 in size:
        return reshaped(sliced(flat, 0, 0, 0), size)
    axes.sort(key=lambda i: -stride[i])
    found = _nested(flat, offset, [(size[i], stride[i]) for i in axes])
    if found is None:
        raise UnsupportedError(
            f"as_strided with size {bracketed(size)} and stride {bracketed(stride)}: its elements "
            "overlap in a way that no slice, reshape or sliding window gives"
        )
    ordered = sorted(range(len(axes)), key=lambda k: axes[k])
    found = permuted(found, ordered)
    kept = iter(found.type.shape)
    base = reshaped(found, [next(kept) if i in axes else 1 for i in range(len(size))])
    return ops.broadcast_to(base, tuple(size))


def _nested(x: Value, offset: int, dims: Sequence[tuple[int, int]]) -> Value | None:
    """The dims, largest stride first, within the last axis of x."""
    *lead, count = x.type.shape
    last = len(lead)
    if not dims:
        return selected(x, last, offset)
    (n, step), inner = dims[0], dims[1:]
    if not inner:
        return sliced(x, last, offset, offset + (n - 1) * step + 1, step)
    extent = sum([(m - 1) * s for m, s in inner])
    start = min(offset, count - n * step)
    if start >= 0 and offset - start + extent < step:
        rows = reshaped(sliced(x, last, start, start + n * step), (*lead, n, step))
        return _nested(rows, offset - start, inner)
    if len(inner) > 1:
        return None
    ((size, dilation),) = inner
    stop = offset + (n - 1) * step + extent + 1
    part = sliced(x, last, offset, stop)
    return ops.window(part, sizes=(size,), strides=(step,), dilations=(dilation,))


def _whole(view: Tensor) -> Tensor:
    """The tensor of the whole storage: the leaf that owns it, if there is one."""
    leaf = view._storage.leaf and view._storage.leaf()
    if leaf is not None and not leaf._chain:
        return leaf
    made = wrap(view._storage.cell)
    made._storage = view._storage
    return made


def _stretch(size: Sequence[int], stride: Sequence[int]) -> int:
    """From the first element to behind the last."""
    return sum([(n - 1) * s for n, s in zip(size, stride, strict=True)]) + 1


@composed
def as_strided(input, size, stride, storage_offset=None):
    """A view of the input's storage by size, strides and offset, counted in elements."""
    size, stride = ints_of((size,)), ints_of((stride,))
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    offset = input.storage_offset() if storage_offset is None else storage_offset
    whole = input
    if input._chain:
        whole = _whole(input)
    count, itemsize = whole.numel(), input.dtype.itemsize
    last = offset + _stretch(size, stride)
    if 0 not in size and last > count:
        raise RuntimeError(
            f"setStorage: sizes {bracketed(size)}, strides {bracketed(stride)}, storage offset "
            f"{offset}, and itemsize {itemsize} requiring a storage size of {last * itemsize} are "
            f"out of bounds for storage of size {count * itemsize}"
        )
    return _strided(whole, size, stride, offset)


@composed
def as_strided_scatter(input, src, size, stride, storage_offset=None):
    """A contiguous copy of the input with the elements of `as_strided` replaced by src."""
    made = FUNCTIONS["clone"](input)
    view = as_strided(made, size, stride, storage_offset)
    if tuple(view.shape) != tuple(src.shape):
        raise RuntimeError(
            "expected src to have a size equal to the slice of self. src size = "
            f"{bracketed(src.shape)}, slice size = {bracketed(view.shape)}"
        )
    view[...] = src
    return made


METHODS = {"as_strided_": into_view(as_strided)}
