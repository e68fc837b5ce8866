"""Reductions and running totals: sums, means, extremes, norms, cumulative operations."""

from __future__ import annotations

import builtins
import math
from collections import namedtuple
from typing import Any

from ..frontends.function import function
from ..ir import composite, ops
from ..ir.dims import AnyDim
from ..ir.dtype import BOOL, I64, DType
from ..ir.graph import Value
from .pointwise import truth
from .promote import axes_of, axis_of, floating, keep, operands, result_type, to_dtype

_MaxMin = {
    name: namedtuple(name, ["values", "indices"]) for name in ("max", "min", "cummax", "cummin")
}
aminmax_type = namedtuple("aminmax", ["min", "max"])
var_mean_type = namedtuple("var_mean", ["var", "mean"])


def count_of(x: Value, axes: tuple[int, ...]) -> AnyDim:
    """How many elements are reduced into one."""
    total: AnyDim = 1
    for a in axes:
        if x.type.shape:
            total = total * x.type.shape[a]
    return total


def number_value(n: AnyDim, like: Value) -> Value:
    """A size as a constant of the type of `like`; a symbolic one is a computed scalar."""
    if isinstance(n, int):
        return ops.full_like(n, like)
    return ops.cast(ops.dim_value(n, like.type.shape, like.type.device), dtype=like.type.dtype)


def _sum_type(dtype: DType, wanted: DType | None) -> DType:
    if wanted is not None:
        return wanted
    return I64 if dtype.kind in "iub" else dtype


@function
def sum(input, dim=None, keepdim=False, *, dtype=None):
    """The sum over `dim` (all without)."""
    rank = len(input.type.shape)
    axes = axes_of(dim, rank)
    x = ops.cast(input, dtype=_sum_type(input.type.dtype, dtype))
    return keep(ops.reduce_sum(x, axes=axes), axes, rank, keepdim)


@function
def nansum(input, dim=None, keepdim=False, *, dtype=None):
    """The sum that counts nan as 0."""
    x = input
    if x.type.dtype.kind == "f":
        x = ops.select(ops.isnan(x), ops.full_like(0.0, x), x)
    return sum.body(x, dim, keepdim, dtype=dtype)


def mean_of(x: Value, axes: tuple[int, ...]) -> Value:
    total = ops.reduce_sum(x, axes=axes)
    return ops.div(total, number_value(count_of(x, axes), total))


@function
def mean(input, dim=None, keepdim=False, *, dtype=None):
    """The mean over `dim` (all without)."""
    if dtype is not None:
        input = ops.cast(input, dtype=dtype)
    if input.type.dtype.kind not in "fc":
        name = {"b": "Bool", "i": "Long", "u": "Byte"}[input.type.dtype.kind]
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or "
            f"complex dtype. Got: {name}"
        )
    rank = len(input.type.shape)
    axes = axes_of(dim, rank)
    return keep(mean_of(input, axes), axes, rank, keepdim)


@function
def nanmean(input, dim=None, keepdim=False, *, dtype=None):
    """The mean of what is not nan."""
    rank = len(input.type.shape)
    axes = axes_of(dim, rank)
    missing = ops.isnan(input)
    x = ops.select(missing, ops.full_like(0.0, input), input)
    total = ops.reduce_sum(x, axes=axes)
    there = ops.reduce_sum(ops.cast(ops.not_(missing), dtype=input.type.dtype), axes=axes)
    return keep(ops.div(total, there), axes, rank, keepdim)


@function
def prod(input, dim=None, keepdim=False, *, dtype=None):
    """The product over `dim` (all without)."""
    rank = len(input.type.shape)
    axes = axes_of(dim, rank) if dim is not None else tuple(range(rank))
    x = ops.cast(input, dtype=_sum_type(input.type.dtype, dtype))
    return keep(ops.reduce_prod(x, axes=axes), axes, rank, keepdim)


def _variance(input: Value, dim: Any, correction: Any, keepdim: bool) -> tuple[Value, Value]:
    rank = len(input.type.shape)
    axes = axes_of(dim, rank)
    center = mean_of(input, axes)
    wide = ops.expand(center, shape=input.type.shape, axes=axes) if axes else center
    delta = ops.sub(input, wide)
    total = ops.reduce_sum(ops.mul(delta, delta), axes=axes)
    n = count_of(input, axes)
    if isinstance(n, int):
        divisor = ops.full_like(max_of(n - correction, 0), total)
    else:
        free = ops.sub(number_value(n, total), ops.full_like(correction, total))
        divisor = ops.max_(free, ops.full_like(0.0, total))
    var = ops.div(total, divisor)
    return keep(var, axes, rank, keepdim), keep(center, axes, rank, keepdim)


def max_of(a: Any, b: Any) -> Any:
    return a if a > b else b


def _var_arguments(dim: Any, unbiased: Any, correction: Any) -> tuple[Any, Any]:
    """torch's overloads: var(unbiased), var(dim, unbiased), var(dim, correction=)."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    return dim, 1 if correction is None else correction


@function
def var(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The variance; `correction` is taken from the number of elements (1: unbiased)."""
    dim, correction = _var_arguments(dim, unbiased, correction)
    return _variance(input, dim, correction, keepdim)[0]


@function
def std(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The square root of the variance."""
    dim, correction = _var_arguments(dim, unbiased, correction)
    return ops.sqrt(_variance(input, dim, correction, keepdim)[0])


@function
def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """(variance, mean)."""
    dim, correction = _var_arguments(dim, unbiased, correction)
    return _variance(input, dim, correction, keepdim)


@function
def std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """(standard deviation, mean)."""
    dim, correction = _var_arguments(dim, unbiased, correction)
    spread, center = _variance(input, dim, correction, keepdim)
    return ops.sqrt(spread), center


# --- extremes ----------------------------------------------------------------------------------


def _check_not_empty(x: Value, name: str, dim: Any) -> None:
    axes = axes_of(dim, len(x.type.shape))
    if x.type.shape and builtins.any([x.type.shape[a] == 0 for a in axes]):
        what = "" if dim is not None else " with no dim"
        raise IndexError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0{what}"
        )


@function
def amax(input, dim=(), keepdim=False):
    """The largest over `dim`; ties share the derivative."""
    _check_not_empty(input, "amax", dim)
    rank = len(input.type.shape)
    axes = axes_of(dim, rank)
    return keep(ops.reduce_max(input, axes=axes), axes, rank, keepdim)


@function
def amin(input, dim=(), keepdim=False):
    """The smallest over `dim`; ties share the derivative."""
    _check_not_empty(input, "amin", dim)
    rank = len(input.type.shape)
    axes = axes_of(dim, rank)
    return keep(ops.reduce_min(input, axes=axes), axes, rank, keepdim)


@function
def aminmax(input, *, dim=None, keepdim=False):
    """(smallest, largest)."""
    rank = len(input.type.shape)
    axes = axes_of(dim, rank)
    low, high = ops.reduce_min(input, axes=axes), ops.reduce_max(input, axes=axes)
    return aminmax_type(keep(low, axes, rank, keepdim), keep(high, axes, rank, keepdim))


def extreme_with_index(input: Value, axis: int, mode: str) -> tuple[Value, Value]:
    """The extreme along an axis and its place; the derivative goes to that place."""
    rank = len(input.type.shape)
    if not rank:
        place = ops.full(0, I64, (), input.type.device)
        return ops.reshape(input, shape=()), place
    place = ops.arg_reduce(input, axis=axis, mode=mode)
    if input.type.dtype is not BOOL:
        first = composite.max_first if mode == "max" else composite.min_first
        return first(input, axis=axis), place
    shape = tuple([1 if i == axis else d for i, d in enumerate(input.type.shape)])
    found = ops.take_along(input, ops.reshape(place, shape=shape), axis)
    return ops.reshape(found, shape=place.type.shape), place


def _extreme(input: Any, dim: Any, keepdim: bool, mode: str) -> Any:
    combine = ops.max_ if mode == "max" else ops.min_
    if isinstance(dim, Value):
        return combine(*operands(input, dim))
    rank = len(input.type.shape)
    if dim is None:
        if builtins.any([d == 0 for d in input.type.shape]):
            raise RuntimeError(
                f"{mode}(): Expected reduction dim to be specified for input.numel() == 0. "
                "Specify the reduction dim with the 'dim' argument."
            )
        reduce = ops.reduce_max if mode == "max" else ops.reduce_min
        return reduce(input, axes=tuple(range(rank)))
    axis = axis_of(dim, rank)
    values, places = extreme_with_index(input, axis, mode)
    return _MaxMin[mode](keep(values, (axis,), rank, keepdim), keep(places, (axis,), rank, keepdim))


@function
def max(input, dim=None, keepdim=False, *, other=None):
    """The largest of all; along a dim with its places; or element by element of two tensors."""
    return _extreme(input, other if other is not None else dim, keepdim, "max")


@function
def min(input, dim=None, keepdim=False, *, other=None):
    """The smallest of all; along a dim with its places; or element by element of two tensors."""
    return _extreme(input, other if other is not None else dim, keepdim, "min")


def _arg(input: Value, dim: Any, keepdim: bool, mode: str) -> Value:
    rank = len(input.type.shape)
    if dim is None:
        count = count_of(input, tuple(range(rank)))
        if count == 0:
            raise IndexError(
                f"arg{mode}(): Expected reduction dim to be specified for an empty tensor"
            )
        flat = ops.reshape(input, shape=(count,))
        place = ops.arg_reduce(flat, axis=0, mode=mode)
        return keep(place, tuple(range(rank)), rank, keepdim)
    axis = axis_of(dim, rank)
    if not rank:
        return ops.full(0, I64, (), input.type.device)
    return keep(ops.arg_reduce(input, axis=axis, mode=mode), (axis,), rank, keepdim)


@function
def argmax(input, dim=None, keepdim=False):
    """The place of the largest; the first of equals."""
    return _arg(input, dim, keepdim, "max")


@function
def argmin(input, dim=None, keepdim=False):
    """The place of the smallest; the first of equals."""
    return _arg(input, dim, keepdim, "min")


@function
def all(input, dim=None, keepdim=False):
    """Whether all are not 0."""
    rank = len(input.type.shape)
    axes = axes_of(dim, rank)
    x = ops.cast(truth(input), dtype=I64)
    zeros = ops.reduce_sum(ops.sub(ops.full_like(1, x), x), axes=axes)
    return keep(ops.eq(zeros, ops.full_like(0, zeros)), axes, rank, keepdim)


@function
def any(input, dim=None, keepdim=False):
    """Whether some are not 0."""
    rank = len(input.type.shape)
    axes = axes_of(dim, rank)
    total = ops.reduce_sum(ops.cast(truth(input), dtype=I64), axes=axes)
    return keep(ops.not_(ops.eq(total, ops.full_like(0, total))), axes, rank, keepdim)


@function
def count_nonzero(input, dim=None):
    """How many are not 0."""
    rank = len(input.type.shape)
    return ops.reduce_sum(ops.cast(truth(input), dtype=I64), axes=axes_of(dim, rank))


@function
def logsumexp(input, dim, keepdim=False):
    """log(sum(exp(input))), without overflow."""
    x = floating(input)
    rank = len(x.type.shape)
    axes = axes_of(dim, rank)
    top = ops.detach(ops.reduce_max(x, axes=axes))
    infinite = ops.eq(ops.abs_(top), ops.full_like(math.inf, top))
    shift = ops.select(infinite, ops.full_like(0.0, top), top)
    wide = ops.expand(shift, shape=x.type.shape, axes=axes) if axes else shift
    total = ops.reduce_sum(ops.exp(ops.sub(x, wide)), axes=axes)
    return keep(ops.add(ops.log(total), shift), axes, rank, keepdim)


# --- norms -------------------------------------------------------------------------------------


def vector_norm_of(x: Value, p: Any, axes: tuple[int, ...]) -> Value:
    """(sum |x|^p)^(1/p), with torch's forms for 0, 1, 2 and the infinities."""
    size = ops.abs_(x)
    if p == 2:
        return composite.norm2(x, axes=axes)
    if p == 1:
        return ops.reduce_sum(size, axes=axes)
    if p == math.inf:
        return ops.reduce_max(size, axes=axes)
    if p == -math.inf:
        return ops.reduce_min(size, axes=axes)
    if p == 0:
        there = ops.not_(ops.eq(x, ops.full_like(0.0, x)))
        return ops.reduce_sum(ops.cast(there, dtype=x.type.dtype), axes=axes)
    total = ops.reduce_sum(ops.pow_(size, ops.full_like(p, size)), axes=axes)
    return ops.pow_(total, ops.full_like(1 / p, total))


@function
def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    """A vector norm over `dim` (all without)."""
    x = ops.cast(input, dtype=dtype) if dtype is not None else floating(input)
    rank = len(x.type.shape)
    axes = axes_of(dim, rank)
    power = 2 if p in ("fro", None) else p
    return keep(vector_norm_of(x, power, axes), axes, rank, keepdim)


@function
def dist(input, other, p=2):
    """The norm of the difference."""
    x, y = operands(input, other)
    delta = ops.sub(x, y)
    return vector_norm_of(delta, p, tuple(range(len(delta.type.shape))))


# --- running -----------------------------------------------------------------------------------


def _running(input: Value, dim: int, mode: str, dtype: DType | None) -> Value:
    x = ops.cast(input, dtype=_sum_type(input.type.dtype, dtype))
    axis = axis_of(dim, len(x.type.shape))
    return ops.cumulative(x, axis=axis, mode=mode) if x.type.shape else x


@function
def cumsum(input, dim, *, dtype=None):
    """Running sums along `dim`."""
    return _running(input, dim, "sum", dtype)


@function
def cumprod(input, dim, *, dtype=None):
    """Running products along `dim`."""
    return _running(input, dim, "prod", dtype)


def _running_extreme(input: Value, dim: int, mode: str) -> Any:
    from ..ir.op import constant_like

    rank = len(input.type.shape)
    axis = axis_of(dim, rank)
    if not rank:
        return _MaxMin["cum" + mode](input, ops.full(0, I64, (), input.type.device))
    values = ops.cumulative(input, axis=axis, mode=mode)
    places = ops.iota(input.type.shape, axis, I64, input.type.device)
    own = ops.eq(input, values)
    if input.type.dtype.kind == "f":
        own = ops.or_(own, ops.isnan(input))
    marked = ops.select(own, places, constant_like(-1, places))
    return _MaxMin["cum" + mode](values, ops.cumulative(marked, axis=axis, mode="max"))


@function
def cummax(input, dim):
    """Running maxima along `dim`, and the places of the latest."""
    return _running_extreme(input, dim, "max")


@function
def cummin(input, dim):
    """Running minima along `dim`, and the places of the latest."""
    return _running_extreme(input, dim, "min")


@function
def diff(input, n=1, dim=-1, prepend=None, append=None):
    """Differences of neighbours along `dim`, n times; of more elements with prepend and append."""
    x, rank = input, len(input.type.shape)
    axis = axis_of(dim, rank)
    parts = [part for part in (prepend, input, append) if part is not None]
    if len(parts) > 1:
        dtype = result_type(*parts)
        x = ops.concat(*[to_dtype(part, dtype) for part in parts], axis=axis)
    for _ in range(n):
        size = x.type.shape[axis]
        late = _part(x, axis, 1, size)
        early = _part(x, axis, 0, size - 1)
        is_bool = x.type.dtype is BOOL
        x = ops.xor(late, early) if is_bool else ops.sub(late, early)
    return x


def _part(x: Value, axis: int, low: AnyDim, high: AnyDim) -> Value:
    rank = len(x.type.shape)
    start = tuple([low if i == axis else 0 for i in range(rank)])
    stop = tuple([high if i == axis else d for i, d in enumerate(x.type.shape)])
    return ops.slice_(x, start=start, stop=stop, step=(1,) * rank)
