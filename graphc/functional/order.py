"""Order: sort, topk, kthvalue, median, mode."""

from __future__ import annotations

from typing import Any

from .. import return_types
from ..frontends.function import function
from ..ir import ops
from ..ir.dims import AnyDim, product
from ..ir.dtype import I64
from ..ir.graph import Value
from .lookup import gathered
from .movement import reshaped
from .parts import selected, sliced
from .promote import axis_of
from .sizes import at_most


def _refuse_complex(x: Value) -> None:
    if x.type.dtype.kind == "c":
        raise RuntimeError(" Sort does not support complex dtypes on CPU")


def _sorted(x: Value, dim: int, descending: bool) -> tuple[Value, Value]:
    """Values and places, in order along an axis; a scalar is its own order."""
    _refuse_complex(x)
    axis = axis_of(dim, len(x.type.shape))
    if not x.type.shape:
        return x, ops.full(0, I64, (), x.type.device)
    values, places = ops.sort(x, axis=axis, descending=descending)
    return values, places


@function
def sort(input, dim=-1, descending=False, *, stable=None):
    """Values in order along `dim`, and where they were; equal ones keep their order."""
    return return_types.sort(*_sorted(input, dim, bool(descending)))


@function
def argsort(input, dim=-1, descending=False, *, stable=None):
    """Where the values in order along `dim` were."""
    return _sorted(input, dim, bool(descending))[1]


@function
def msort(input):
    """Values in order along the first axis."""
    return _sorted(input, 0, False)[0] if input.type.shape else input


@function
def topk(input, k, dim=-1, largest=True, sorted=True):
    """The k largest (or smallest) values along `dim`, and where they were."""
    axis = axis_of(dim, len(input.type.shape))
    n = input.type.shape[axis] if input.type.shape else 1
    if not (at_most(0, k) and at_most(k, n)):
        raise RuntimeError("selected index k out of range")
    if not input.type.shape:
        return return_types.topk(*_sorted(input, dim, bool(largest)))
    _refuse_complex(input)
    return return_types.topk(*ops.topk(input, axis=axis, k=k, largest=bool(largest)))


def _kept(values: tuple[Value, Value], axis: int, keepdim: bool) -> tuple[Value, Value]:
    """Puts the axis back where it is to be kept."""
    if not keepdim:
        return values
    shape = values[0].type.shape
    wide = (*shape[:axis], 1, *shape[axis:])
    return reshaped(values[0], wide), reshaped(values[1], wide)


def _size(x: Value, axis: int, name: str) -> AnyDim:
    n = x.type.shape[axis]
    if not at_most(1, n):
        raise IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")
    return n


def _of_scalar(x: Value) -> tuple[Value, Value]:
    return x, ops.full(0, I64, (), x.type.device)


@function
def kthvalue(input, k, dim=-1, keepdim=False):
    """The k-th smallest value along `dim` (from 1), and where it was."""
    axis = axis_of(dim, len(input.type.shape))
    if not input.type.shape:
        return return_types.kthvalue(*_of_scalar(input))
    n = _size(input, axis, "kthvalue")
    if not (at_most(1, k) and at_most(k, n)):
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {axis}")
    _refuse_complex(input)
    values, places = ops.topk(input, axis=axis, k=k, largest=False)
    found = selected(values, axis, k - 1), selected(places, axis, k - 1)
    return return_types.kthvalue(*_kept(found, axis, keepdim))


def _median_of(x: Value, axis: int, ignore_nan: bool) -> tuple[Value, Value]:
    """The lower median along an axis, and where it was; nan wins unless it is ignored."""
    n = x.type.shape[axis]
    values, places = _sorted(x, axis, False)
    shape = (*x.type.shape[:axis], 1, *x.type.shape[axis + 1 :])
    middle = (n - 1) // 2
    if x.type.dtype.kind != "f":
        return selected(values, axis, middle), selected(places, axis, middle)
    nan = ops.cast(ops.isnan(x), dtype=I64)
    missing = reshaped(ops.reduce_sum(nan, axes=(axis,)), shape)
    zero, one, two = [ops.full_like(k, missing) for k in (0, 1, 2)]
    whole = ops.full_like(n, missing)
    present = ops.sub(whole, missing)
    if ignore_nan:  # nan stand last: the median is the middle of the others
        at = ops.quo(ops.max_(ops.sub(present, one), zero), two)
    else:
        first_nan = ops.select(ops.lt(zero, missing), present, ops.full_like(middle, missing))
        at = first_nan
    found = [gathered(v, at, axis) for v in (values, places)]
    narrow = (*x.type.shape[:axis], *x.type.shape[axis + 1 :])
    return reshaped(found[0], narrow), reshaped(found[1], narrow)


def _median(input: Value, dim: Any, keepdim: bool, name: str) -> Any:
    shape, ignore = input.type.shape, name == "nanmedian"
    if dim is None:
        if 0 in shape:
            if input.type.dtype.kind != "f":
                return ops.full(-(2**63), input.type.dtype, (), input.type.device)
            return ops.full(float("nan"), input.type.dtype, (), input.type.device)
        flat = reshaped(input, (product(shape),))
        return _median_of(flat, 0, ignore)[0]
    named = getattr(return_types, name)
    axis = axis_of(dim, len(shape))
    if not shape:
        return named(*_of_scalar(input))
    _size(input, axis, "median")
    return named(*_kept(_median_of(input, axis, ignore), axis, keepdim))


@function
def median(input, dim=None, keepdim=False):
    """The lower median of all elements, or along `dim` with its place; nan where there is one."""
    return _median(input, dim, keepdim, "median")


@function
def nanmedian(input, dim=None, keepdim=False):
    """The lower median of what is not nan, of all elements or along `dim` with its place."""
    return _median(input, dim, keepdim, "nanmedian")


@function
def mode(input, dim=-1, keepdim=False):
    """The most frequent value along `dim`, the smallest of several, and its last place."""
    axis = axis_of(dim, len(input.type.shape))
    if not input.type.shape:
        return return_types.mode(*_of_scalar(input))
    n = _size(input, axis, "mode")
    values, places = _sorted(input, axis, False)
    line = ops.iota(values.type.shape, axis, I64, values.type.device)
    zero = ops.full_like(0, line)
    if n != 1:
        before, after = sliced(values, axis, 0, n - 1), sliced(values, axis, 1, n)
        begins = ops.not_(ops.eq(before, after))
        first = ops.full(True, begins.type.dtype, _one(values, axis), values.type.device)
        begins = ops.concat(first, begins, axis=axis)
        starts = ops.select(begins, line, zero)
        starts = ops.cumulative(starts, axis=axis, mode="max", reverse=False)
    else:
        starts = zero
    run = ops.sub(line, starts)
    best = reshaped(ops.arg_reduce(run, axis=axis, mode="max"), _one(values, axis))
    narrow = (*values.type.shape[:axis], *values.type.shape[axis + 1 :])
    found = tuple([reshaped(gathered(v, best, axis), narrow) for v in (values, places)])
    return return_types.mode(*_kept(found, axis, keepdim))


def _one(x: Value, axis: int) -> tuple[AnyDim, ...]:
    """The shape of x with 1 along an axis."""
    return (*x.type.shape[:axis], 1, *x.type.shape[axis + 1 :])
