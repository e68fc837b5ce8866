"""Elements by index: gather, scatter, index_select and its kin, take and put, masks.

An index outside its axis is an error when the result is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..frontends.function import composed, function
from ..ir import ops
from ..ir.dims import product
from ..ir.dtype import BOOL, I32, I64, DType
from ..ir.errors import ShapeError
from ..ir.graph import Value
from ..tensor import Tensor, from_array
from .index import number_to, within, wrapped
from .movement import bracketed, reshaped
from .parts import scalar_name, sliced
from .promote import axis_of, is_number, result_type, to_dtype
from .sizes import at_most

_OUTSIDE = -(2**40)  # a place that stays outside whatever is added to it

# --- along one axis: an index for each element ---------------------------------------------------


def _along(x: Value, index: Value, dim: int, of: str, kinds: str) -> tuple[Value, Value, int]:
    """The operands of gather and scatter with an axis at least, and the axis."""
    if index.type.dtype not in (I64, I32):
        raise RuntimeError(f"{of}(): Expected dtype {kinds} for index")
    axis = axis_of(dim, len(x.type.shape))
    x, index = [v if v.type.shape else reshaped(v, (1,)) for v in (x, index)]
    return x, to_dtype(index, I64), axis


def _checked(index: Value, n: Any) -> Value:
    """Places outside [0, n) stay outside when they become row-major places of a whole tensor."""
    return ops.select(within(index, n), index, ops.full_like(_OUTSIDE, index))


def gathered(x: Value, index: Value, axis: int) -> Value:
    """x[..., index[..., i, ...], ...] along an axis; index may be smaller along the others."""
    if len(x.type.shape) == 1:
        return ops.gather(x, index, axis=0)
    return ops.take_along(x, _checked(index, x.type.shape[axis]), axis)


def scattered(x: Value, index: Value, updates: Value, axis: int, mode: str) -> Value:
    """The inverse of `gathered`."""
    return ops.put_along(x, _checked(index, x.type.shape[axis]), updates, axis, mode)


@function
def gather(input, dim, index, *, sparse_grad=False):
    """out[i][j][k] = input[index[i][j][k]][j][k] for dim 0."""
    x, places, axis = _along(input, index, dim, "gather", "int32/int64")
    if len(x.type.shape) != len(places.type.shape):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for i, (n, m) in enumerate(zip(places.type.shape, x.type.shape, strict=True)):
        if i != axis and not at_most(n, m):
            raise RuntimeError(
                f"Size does not match at dimension {i} expected index "
                f"{bracketed(places.type.shape)} to be no larger than self "
                f"{bracketed(x.type.shape)} apart from dimension {axis}"
            )
    return reshaped(gathered(x, places, axis), index.type.shape)


def _source(x: Value, index: Value, src: Any, axis: int, name: str) -> Value:
    """What scatter puts: src cut to the index's shape, or a number everywhere."""
    if not isinstance(src, Value):
        return ops.broadcast_to(number_to(src, x.type.dtype, x), index.type.shape)
    if src.type.dtype is not x.type.dtype:
        raise RuntimeError(f"{name}(): Expected self.dtype to be equal to src.dtype")
    src = src if src.type.shape else reshaped(src, (1,))
    if len(index.type.shape) != len(src.type.shape):
        raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    _check_sizes(x, index, src, axis)
    for i, n in enumerate(index.type.shape):
        src = sliced(src, i, 0, n)
    return src


def _check_sizes(x: Value, index: Value, src: Value | None, axis: int) -> None:
    for i, n in enumerate(index.type.shape):
        fits = i == axis or at_most(n, x.type.shape[i])
        within_src = src is None or at_most(n, src.type.shape[i])
        if not fits or not within_src:
            end = ""
            if src is not None:
                end = f" and to be no larger size than src {bracketed(src.type.shape)}"
            raise ShapeError(
                f"Expected index {bracketed(index.type.shape)} to be no larger than self "
                f"{bracketed(x.type.shape)} apart from dimension {axis}{end}"
            )


def _scatter(input: Value, dim: int, index: Value, src: Any, mode: str, name: str) -> Value:
    x, places, axis = _along(input, index, dim, name, "int32/int64")
    if 0 in places.type.shape:
        return input
    if len(x.type.shape) != len(places.type.shape):
        raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
    updates = _source(x, places, src, axis, name)
    if updates.type.shape != places.type.shape or not isinstance(src, Value):
        _check_sizes(x, places, None, axis)
    return reshaped(scattered(x, places, updates, axis, mode), input.type.shape)


@function
def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """The input with src (a tensor or a number) at index along `dim`; `reduce` may be "add" or
    "multiply"."""
    modes = {None: "set", "add": "add", "multiply": "mul"}
    if reduce not in modes:
        raise RuntimeError("reduce argument must be either add or multiply.")
    return _scatter(input, dim, index, value if src is None else src, modes[reduce], "scatter")


@function
def scatter_add(input, dim, index, src):
    """The input with src added at index along `dim`."""
    return _scatter(input, dim, index, src, "add", "scatter_add")


_REDUCTIONS = {"sum": "add", "prod": "mul", "mean": "add", "amax": "max", "amin": "min"}


def _neutral(reduce: str, dtype: DType) -> Any:
    """What changes nothing under a reduction."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    if dtype.kind == "f":
        return float("-inf") if reduce == "amax" else float("inf")
    if dtype is BOOL:
        return reduce == "amin"
    import numpy as np

    limits = np.iinfo(dtype.numpy)
    return int(limits.min if reduce == "amax" else limits.max)


def _reduced(x: Value, put: Any, reduce: str, include_self: bool) -> Value:
    """put(x, mode) scatters; ones(...) counts: the parts that every indexed reduction shares."""
    base = x
    ones = ops.full_like(1, ops.cast(x, dtype=I64))
    touched: Value | None = None
    if not include_self:
        hits = put(ops.full_like(0, ones), None, "add")
        touched = ops.lt(ops.full_like(0, hits), hits)
        base = ops.select(touched, ops.full_like(_neutral(reduce, x.type.dtype), x), x)
    out = put(base, x, _REDUCTIONS[reduce])
    if reduce == "mean":
        count = put(ones if include_self else ops.full_like(0, ones), None, "add")
        count = ops.max_(count, ops.full_like(1, count))
        out = _mean(out, count)
    return out if touched is None else ops.select(touched, out, x)


def _mean(total: Value, count: Value) -> Value:
    dtype = total.type.dtype
    count = ops.cast(count, dtype=dtype)
    if dtype.kind == "f":
        return ops.div(total, count)
    quotient = ops.quo(total, count)  # rounded towards 0, where torch rounds down
    low = ops.lt(total, ops.mul(quotient, count))
    return ops.select(low, ops.sub(quotient, ops.full_like(1, quotient)), quotient)


def _check_reduction(reduce: str, allowed: Sequence[str], text: str) -> None:
    if reduce not in allowed:
        raise RuntimeError(f"reduce argument must be either {text}, got {reduce}")


@function
def scatter_reduce(input, dim, index, src, reduce, *, include_self=True):
    """src reduced ("sum", "prod", "mean", "amax", "amin") into the input at index along `dim`."""
    _check_reduction(reduce, tuple(_REDUCTIONS), "sum, prod, mean, amax or amin")

    def put(base: Value, like: Value | None, mode: str) -> Value:
        return _scatter(base, dim, index, 1 if like is None else src, mode, "scatter_reduce")

    return _reduced(input, put, reduce, include_self)


@composed
def take_along_dim(input, indices, dim=None):
    """input at indices along `dim`, the other axes broadcast; of the flat input without dim."""
    if dim is None:
        return _take_flat(input, indices)
    return _take_along(input, indices, dim)


@function(register=False)
def _take_flat(input, indices):
    flat = reshaped(input, (product(input.type.shape),))
    line = reshaped(to_dtype(indices, I64), (product(indices.type.shape),))
    return ops.gather(flat, line, axis=0)


@function(register=False)
def _take_along(input, indices, dim):
    rank = len(input.type.shape)
    if rank != len(indices.type.shape):
        raise RuntimeError(
            "torch.take_along_dim(): input and indices should have the same number of dimensions, "
            f"but got {rank} dimensions for input, and {len(indices.type.shape)} dimensions for "
            "indices"
        )
    if indices.type.dtype not in (I64, I32):
        raise RuntimeError(
            "torch.take_along_dim(): dtype of indices should be Long or Int but got "
            f"{scalar_name(indices.type.dtype)}"
        )
    axis = axis_of(dim, rank)
    a, b = [list(v.type.shape) for v in (input, indices)]
    a[axis] = b[axis] = 1
    common = list(ops.broadcast_shapes(tuple(a), tuple(b)))
    wide = [
        ops.broadcast_to(v, (*common[:axis], v.type.shape[axis], *common[axis + 1 :]))
        for v in (input, to_dtype(indices, I64))
    ]
    return gathered(wide[0], wrapped(wide[1], wide[0].type.shape[axis]), axis)


# --- along one axis: whole slices ----------------------------------------------------------------


def _line(index: Value, name: str) -> Value:
    """The index of index_select and its kin: a vector of integers."""
    if index.type.dtype not in (I64, I32):
        raise RuntimeError(f"{name}(): Expected dtype int32 or int64 for index")
    if len(index.type.shape) > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector")
    return to_dtype(reshaped(index, (product(index.type.shape),)), I64)


@function
def index_select(input, dim, index):
    """The slices at index along `dim`."""
    line = _line(index, "index_select")
    axis = axis_of(dim, len(input.type.shape))
    if not input.type.shape:
        return reshaped(ops.gather(reshaped(input, (1,)), line, axis=0), ())
    return ops.gather(input, line, axis=axis)


def _sliced_update(
    input: Value, dim: int, index: Value, source: Value, name: str
) -> tuple[Value, Value, Value, int]:
    """Operands of index_add and its kin: (x, line, updates, axis)."""
    line = _line(index, name)
    axis = axis_of(dim, len(input.type.shape))
    if source.type.dtype is not input.type.dtype:
        raise RuntimeError(
            f"{name}(): self ({scalar_name(input.type.dtype)}) and source "
            f"({scalar_name(source.type.dtype)}) must have the same scalar type"
        )
    x, updates = [v if v.type.shape else reshaped(v, (1,)) for v in (input, source)]
    count = updates.type.shape[axis] if axis < len(updates.type.shape) else None
    if count != line.type.shape[0]:
        if name == "index_copy_":
            raise IndexError(
                f"index_copy_(): Number of indices ({line.type.shape[0]}) should be equal to "
                f"source.size(dim) ({count})"
            )
        raise RuntimeError(
            f"{name}(): Number of indices ({line.type.shape[0]}) should be equal to "
            f"source.size(dim): ({count}), for dim: {axis}"
        )
    want = (*x.type.shape[:axis], count, *x.type.shape[axis + 1 :])
    if updates.type.shape != want:
        raise RuntimeError(
            "source tensor shape must match self tensor shape, excluding the specified dimension. "
            f"Got self.shape = {bracketed(input.type.shape)} source.shape = "
            f"{bracketed(source.type.shape)}"
        )
    return x, line, updates, axis


@function
def index_add(input, dim, index, source, *, alpha=1):
    """The input with alpha * source added to the slices at index along `dim`."""
    from .pointwise import _scaled

    x, line, updates, axis = _sliced_update(input, dim, index, source, "index_add_")
    updates = ops.broadcast_to(_scaled(updates, alpha, x.type.dtype), updates.type.shape)
    return reshaped(ops.scatter(x, line, updates, axis=axis, mode="add"), input.type.shape)


@function
def index_copy(input, dim, index, source):
    """The input with the slices at index along `dim` replaced by source's."""
    x, line, updates, axis = _sliced_update(input, dim, index, source, "index_copy_")
    return reshaped(ops.scatter(x, line, updates, axis=axis, mode="set"), input.type.shape)


@function
def index_reduce(input, dim, index, source, reduce, *, include_self=True):
    """source reduced ("prod", "mean", "amax", "amin") into the slices at index along `dim`."""
    _check_reduction(reduce, ("prod", "mean", "amax", "amin"), "prod, mean, amax or amin")
    x, line, updates, axis = _sliced_update(input, dim, index, source, "index_reduce_")

    def put(base: Value, like: Value | None, mode: str) -> Value:
        if like is None:
            ones = ops.full(1, base.type.dtype, updates.type.shape, base.type.device)
            return ops.scatter(base, line, ones, axis=axis, mode=mode)
        return ops.scatter(base, line, updates, axis=axis, mode=mode)

    return reshaped(_reduced(x, put, reduce, include_self), input.type.shape)


@function
def index_fill(input, dim, index, value):
    """The input with the slices at index along `dim` filled with a number or a 0-d tensor."""
    if isinstance(value, Value) and value.type.shape:
        raise RuntimeError(
            "index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{len(value.type.shape)} dimension(s)."
        )
    line, axis = _line(index, "index_fill_"), axis_of(dim, len(input.type.shape))
    x = input if input.type.shape else reshaped(input, (1,))
    number = to_dtype(value, x.type.dtype) if isinstance(value, Value) else None
    fill = number or number_to(value, x.type.dtype, x)
    shape = (*x.type.shape[:axis], line.type.shape[0], *x.type.shape[axis + 1 :])
    line = wrapped(line, x.type.shape[axis])
    out = ops.scatter(x, line, ops.broadcast_to(fill, shape), axis=axis, mode="set")
    return reshaped(out, input.type.shape)


# --- the whole tensor as one line ----------------------------------------------------------------


def _flat_places(index: Value, name: str) -> Value:
    if index.type.dtype is not I64:
        raise RuntimeError(
            f"{name}(): Expected a long tensor for index, but got {scalar_name(index.type.dtype)}"
        )
    return index


@function
def take(input, index):
    """The elements of the flattened input at index, in its shape."""
    flat = reshaped(input, (product(input.type.shape),))
    places = wrapped(_flat_places(index, "take"), flat.type.shape[0])
    return ops.gather(flat, places, axis=0)


@function
def put(input, index, source, accumulate=False):
    """The input, flattened, with source at index (added there if accumulate), in its own shape."""
    places = _flat_places(index, "put_")
    count, size = [product(v.type.shape) for v in (source, places)]
    if count != size:
        raise IndexError(
            "put_(): Expected source and index to have the same number of elements, but got "
            f"source.numel() = {count}, index.numel() = {size}"
        )
    if source.type.dtype is not input.type.dtype:
        raise RuntimeError(
            "put_(): self and source expected to have the same dtype, but got self.dtype = "
            f"{scalar_name(input.type.dtype)} and source.dtype = {scalar_name(source.type.dtype)}"
        )
    flat = reshaped(input, (product(input.type.shape),))
    line = wrapped(reshaped(places, (size,)), flat.type.shape[0])
    mode = "add" if accumulate else "set"
    out = ops.scatter(flat, line, reshaped(source, (size,)), axis=0, mode=mode)
    return reshaped(out, input.type.shape)


# --- masks ---------------------------------------------------------------------------------------


@function
def masked_fill(input, mask, value):
    """The input with a number (or a 0-d tensor) where the mask is True."""
    if mask.type.dtype is not BOOL:
        raise RuntimeError(
            "masked_fill_ only supports boolean masks, but got mask with dtype "
            f"{mask.type.dtype.torch_name.replace('float32', 'float')}"
        )
    if isinstance(value, Value) and value.type.shape:
        raise RuntimeError(
            "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
            f"{len(value.type.shape)} dimension(s)."
        )
    dtype = input.type.dtype
    fill = to_dtype(value, dtype) if isinstance(value, Value) else number_to(value, dtype, input)
    shape = ops.broadcast_shapes(mask.type.shape, input.type.shape)
    mask, x, fill = [ops.broadcast_to(v, shape) for v in (mask, input, fill)]
    return ops.select(mask, fill, x)


@function(register=False)
def _masked_taken(input, places, shape):
    flat = reshaped(ops.broadcast_to(input, shape), (product(shape),))
    return ops.gather(flat, places, axis=0)


@composed
def masked_select(input, mask):
    """The elements where the mask is True, as a vector. The mask is looked at."""
    import numpy as np

    if mask.dtype is not BOOL:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = tuple(ops.broadcast_shapes(tuple(input.shape), tuple(mask.shape)))
    places = np.flatnonzero(np.broadcast_to(mask._array(), shape))
    return _masked_taken(input, from_array(places, input._type.device), shape)


@function
def masked_scatter(input, mask, source):
    """The input with the elements of source, in order, where the mask is True."""
    if mask.type.dtype is not BOOL:
        raise RuntimeError(
            "masked_scatter_ only supports boolean masks, but got mask with dtype "
            f"{scalar_name(mask.type.dtype)}"
        )
    if source.type.dtype is not input.type.dtype:
        raise RuntimeError(
            "masked_scatter: expected self and source to have same dtypes but got"
            f"{scalar_name(input.type.dtype)} and {scalar_name(source.type.dtype)}"
        )
    shape = ops.broadcast_shapes(input.type.shape, mask.type.shape)
    count, n = product(shape), product(source.type.shape)
    holds = reshaped(ops.broadcast_to(mask, shape), (count,))
    ones = ops.cast(holds, dtype=I64)
    order = ops.cumulative(ones, axis=0, mode="sum", reverse=False)
    order = ops.sub(order, ops.full_like(1, order))
    places = ops.select(holds, order, ops.full_like(0, order))
    line = reshaped(source, (n,))
    if n == 0:  # something to look at where the mask is False; True is outside
        line = ops.full(0, line.type.dtype, (1,), line.type.device)
        places = ops.select(holds, ops.full_like(1, order), places)
    taken = reshaped(ops.gather(line, places, axis=0), shape)
    return ops.select(reshaped(holds, shape), taken, ops.broadcast_to(input, shape))


# --- where ---------------------------------------------------------------------------------------


@function(register=False, floats=True)
def _where(condition, input, other):
    if condition.type.dtype is not BOOL:
        raise RuntimeError(
            "where expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{scalar_name(condition.type.dtype)}"
        )
    dtype = result_type(input, other)
    x, y = to_dtype(input, dtype, condition), to_dtype(other, dtype, condition)
    shape = ops.broadcast_shapes(condition.type.shape, x.type.shape, y.type.shape)
    return ops.select(*[ops.broadcast_to(v, shape) for v in (condition, x, y)])


@composed
def where(condition, input=None, other=None):
    """input where the condition holds, else other; without them, nonzero(as_tuple=True)."""
    from .search import nonzero

    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    for x in (input, other):
        if not isinstance(x, Tensor) and not is_number(x):
            raise TypeError(
                "where() received an invalid combination of arguments - got "
                f"({', '.join([type(v).__name__ for v in (condition, input, other)])})"
            )
    return _where(condition, input, other)


def _where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """self where the condition holds, else other."""
    return _where(condition, self, other)


METHODS = {"where": _where_method}
