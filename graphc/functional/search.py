"""What is where: nonzero, searchsorted, unique, isin, counts and histograms.

Sizes that depend on the data (nonzero, unique) come from looking at the values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import return_types
from ..frontends.function import composed, function
from ..ir import ops
from ..ir.dims import product
from ..ir.dtype import BOOL, F32, F64, I32, I64
from ..ir.graph import Value
from ..tensor import Tensor, from_array
from .lookup import gathered
from .movement import bracketed, reshaped
from .parts import scalar_name, sliced
from .promote import axis_of, is_number, result_type, to_dtype

# --- places --------------------------------------------------------------------------------------


@composed
def nonzero(input, *, as_tuple=False):
    """The places of what is not 0: one a row, or as a tuple of one vector for each axis."""
    array, device = input._array(), input._type.device
    if not as_tuple:
        return from_array(np.argwhere(array), device)
    return tuple([from_array(line, device) for line in np.nonzero(np.atleast_1d(array))])


@composed
def argwhere(input):
    """The places of what is not 0, one a row."""
    return from_array(np.argwhere(input._array()), input._type.device)


@composed
def nonzero_static(input, *, size, fill_value=-1):
    """The first `size` rows of nonzero, filled up."""
    found = np.argwhere(input._array())[:size]
    rows = np.full((size, found.shape[1]), fill_value, np.int64)
    rows[: len(found)] = found
    return from_array(rows, input._type.device)


@function(register=False, floats=False)
def _searchsorted(sorted_sequence, input, right, out_int32, sorter, name):
    if sorter is not None:
        axis = max(len(sorter.type.shape) - 1, 0)
        sorted_sequence = gathered(sorted_sequence, to_dtype(sorter, I64), axis)
    dtype = result_type(sorted_sequence, input)
    lines, values = [to_dtype(v, dtype, sorted_sequence) for v in (sorted_sequence, input)]
    a, b = lines.type.shape, values.type.shape
    if len(a) == 1:
        found = ops.searchsorted(lines, values, right=right)
    elif len(a) == len(b) and a[:-1] == b[:-1] and a:
        found = _search_rows(lines, values, right)
    elif not b:
        raise RuntimeError(
            f"torch.{name}(): input value can be a scalar only when boundaries tensor dimension "
            f"is 1, but we got boundaries tensor dim({len(a)}) and input value's dim(0) numel(1)"
        )
    else:
        raise RuntimeError(
            f"torch.{name}(): boundaries tensor should be 1 dimension or the first N-1 dimensions "
            "of boundaries tensor and input value tensor must match, but we got boundaries tensor "
            f"{bracketed(a)} and input value tensor {bracketed(b)}"
        )
    return to_dtype(found, I32) if out_int32 else found


def _search_rows(lines: Value, values: Value, right: bool) -> Value:
    """How many of a row come before each value: nan counts as the largest."""
    a, b = lines.type.shape, values.type.shape
    wide = (*b, a[-1])
    rank = len(wide)
    boundary = ops.expand(lines, shape=wide, axes=(rank - 2,))
    value = ops.expand(values, shape=wide, axes=(rank - 1,))
    before = ops.not_(ops.lt(value, boundary) if right else ops.le(value, boundary))
    return ops.reduce_sum(ops.cast(before, dtype=I64), axes=(rank - 1,))


@composed
def searchsorted(sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None):
    """For each value its place of insertion into the last axis of a sorted sequence."""
    if side not in (None, "left", "right"):
        raise RuntimeError(
            f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}"
        )
    if side == "left" and right:
        raise RuntimeError(
            "torch.searchsorted(): side and right can't be set to opposites, got side of left "
            "while right was True"
        )
    return _searchsorted(
        sorted_sequence, input, right or side == "right", out_int32, sorter, "searchsorted"
    )


@composed
def bucketize(input, boundaries, *, out_int32=False, right=False):
    """For each value the number of its bucket between sorted boundaries."""
    if boundaries.dim() != 1:
        raise RuntimeError(
            f"boundaries tensor must be 1 dimension, but got dim({boundaries.dim()})"
        )
    return _searchsorted(boundaries, input, right, out_int32, None, "bucketize")


@function(register=False, floats=False)
def _is_in(elements, test_elements, invert):
    like = elements if isinstance(elements, Value) else test_elements
    dtype = result_type(elements, test_elements)
    x, y = [to_dtype(v, dtype, like) for v in (elements, test_elements)]
    tests, shape = reshaped(y, (product(y.type.shape),)), x.type.shape
    wide = (*shape, tests.type.shape[0])
    if wide[-1] == 0:
        return ops.full(bool(invert), BOOL, shape, x.type.device)
    rank = len(wide)
    left = ops.expand(x, shape=wide, axes=(rank - 1,))
    right = ops.expand(tests, shape=wide, axes=tuple(range(rank - 1))) if shape else tests
    found = ops.reduce_max(ops.eq(left, right), axes=(rank - 1,))
    return ops.not_(found) if invert else found


@composed
def isin(elements=None, test_elements=None, *, element=None, test_element=None,
         assume_unique=False, invert=False):  # fmt: skip
    """Whether each element is one of test_elements."""
    x = element if elements is None else elements
    y = test_element if test_elements is None else test_elements
    if is_number(x) and is_number(y):
        raise TypeError(
            "isin() received an invalid combination of arguments - got "
            f"({type(x).__name__}, {type(y).__name__})"
        )
    return _is_in(x, y, invert)


# --- unique --------------------------------------------------------------------------------------


def _results(found: list, parts: list) -> Any:
    wanted = [value for value, want in zip(found, parts, strict=True) if want]
    return wanted[0] if len(wanted) == 1 else tuple(wanted)


@composed
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct elements (or slices along `dim`) in order, where they went, and how often."""
    array, device = input._array(), input._type.device
    if dim is not None:
        dim = axis_of(dim, input.dim())
        if array.shape[dim] == 0 and array.size == 0 and 0 in np.delete(array.shape, dim):
            raise RuntimeError(
                "There are 0 sized dimensions, and they aren't selected, so unique cannot be "
                "applied"
            )
    values, inverse, counts = np.unique(
        array, return_inverse=True, return_counts=True, axis=dim, equal_nan=False
    )
    inverse = inverse.reshape(array.shape if dim is None else -1)
    made = [from_array(np.asarray(a), device) for a in (values, inverse, counts)]
    return _results(made, [True, return_inverse, return_counts])


@composed
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    """The elements (or slices) that differ from the one before, where they went, how often."""
    array, device = input._array(), input._type.device
    axis = 0 if dim is None else axis_of(dim, input.dim())
    line = array.reshape(-1) if dim is None else array
    n = line.shape[axis]
    rows = np.moveaxis(line, axis, 0).reshape(n, -1)
    begins = np.ones(n, bool)
    begins[1:] = (rows[1:] != rows[:-1]).any(1)
    starts = np.flatnonzero(begins)
    inverse = np.cumsum(begins) - 1
    counts = np.diff(np.append(starts, n))
    values = np.take(line, starts, axis)
    inverse = inverse.reshape(array.shape if dim is None else -1).astype(np.int64)
    made = [from_array(a, device) for a in (values, inverse, counts)]
    return _results(made, [True, return_inverse, return_counts])


# --- counts --------------------------------------------------------------------------------------


@function(register=False)
def _counted(input, weights, size):
    places = to_dtype(input, I64)
    if weights is None:
        weights = ops.full(1, I64, places.type.shape, places.type.device)
    elif weights.type.dtype is not F32:
        weights = to_dtype(weights, F64)
    zeros = ops.full(0, weights.type.dtype, (size,), places.type.device)
    return ops.scatter(zeros, places, weights, axis=0, mode="add")


@composed
def bincount(input, weights=None, minlength=0):
    """How often each non-negative integer occurs, or the sum of its weights."""
    if input.dtype.kind not in "iu":
        raise NotImplementedError(
            f"\"bincount_cpu\" not implemented for '{scalar_name(input.dtype)}'"
        )
    array = input._array()
    if array.ndim != 1 or (array.size and array.min() < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is not None and tuple(weights.shape) != array.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    size = max(int(array.max()) + 1 if array.size else 0, minlength)
    return _counted(input, weights, size)


@function(floats=False)
def histc(input, bins=100, min=0, max=0):
    """How many elements lie in each of `bins` equal parts of [min, max], or of their range."""
    if input.type.dtype.kind != "f":
        raise NotImplementedError(
            f"\"histogram_cpu\" not implemented for '{scalar_name(input.type.dtype)}'"
        )
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension 0")
    if max < min:
        raise RuntimeError("torch.histc: max must be larger than min")
    flat = reshaped(input, (product(input.type.shape),))
    zeros = ops.full(0, flat.type.dtype, (bins,), flat.type.device)
    if flat.type.shape == (0,):
        return zeros
    low, high = _range_of(flat, min, max)
    low, high = [ops.broadcast_to(v, flat.type.shape) for v in (low, high)]
    inside = ops.and_(ops.le(low, flat), ops.le(flat, high))
    count = ops.full_like(bins, flat)
    scaled = ops.div(ops.mul(ops.sub(flat, low), count), ops.sub(high, low))
    places = ops.cast(ops.select(inside, scaled, ops.full_like(0, scaled)), dtype=I64)
    places = ops.min_(places, ops.full_like(bins - 1, places))
    ones = ops.select(inside, ops.full_like(1, flat), ops.full_like(0, flat))
    return ops.scatter(zeros, places, ones, axis=0, mode="add")


def _range_of(flat: Value, low: Any, high: Any) -> tuple[Value, Value]:
    """The bounds of a histogram: the data's where both are equal, never of width 0."""
    if low != high:
        return tuple([ops.full(v, flat.type.dtype, (), flat.type.device) for v in (low, high)])
    least, most = ops.reduce_min(flat, axes=(0,)), ops.reduce_max(flat, axes=(0,))
    if low != 0:
        least = most = ops.full_like(low, least)
    one, same = ops.full_like(1, least), ops.eq(least, most)
    return (
        ops.select(same, ops.sub(least, one), least),
        ops.select(same, ops.add(most, one), most),
    )


@function(register=False, floats=False)
def _histogram(input, edges, weight, density):
    flat = reshaped(input, (product(input.type.shape),))
    count = edges.type.shape[0] - 1
    places = ops.searchsorted(edges, flat, right=True)
    one = ops.full_like(1, places)
    last = ops.full_like(count - 1, places)
    low, high = [
        ops.broadcast_to(reshaped(sliced(edges, 0, i, i + 1), ()), flat.type.shape)
        for i in (0, count)
    ]
    inside = ops.and_(ops.le(low, flat), ops.le(flat, high))
    places = ops.max_(ops.min_(ops.sub(places, one), last), ops.full_like(0, places))
    weights = ops.full_like(1, flat)
    if weight is not None:
        weights = reshaped(weight, flat.type.shape)
    weights = ops.select(inside, weights, ops.full_like(0, flat))
    zeros = ops.full(0, flat.type.dtype, (count,), flat.type.device)
    found = ops.scatter(zeros, places, weights, axis=0, mode="add")
    if not density:
        return found
    total = ops.broadcast_to(ops.reduce_sum(found, axes=(0,)), found.type.shape)
    widths = ops.sub(sliced(edges, 0, 1, count + 1), sliced(edges, 0, 0, count))
    return ops.div(ops.div(found, total), widths)


@composed
def histogram(input, bins=100, *, range=None, weight=None, density=False):
    """How many elements (or what weight) lie in each bin, and the edges of the bins.

    bins: how many of equal width between range's ends (the data's without), or their edges.
    """
    if isinstance(bins, Tensor):
        return return_types.histogram(_histogram(input, bins, weight, density), bins)
    if range is None:
        array = input._array()
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
    else:
        low, high = range
        if high < low:
            raise RuntimeError("torch.histogram(): max should not be less than min")
    from .create import linspace

    edges = linspace(low, high, bins + 1, dtype=input.dtype, device=input.device)
    return return_types.histogram(_histogram(input, edges, weight, density), edges)


@function(register=False)
def _one_hot(tensor, num_classes):
    places = ops.iota((num_classes, num_classes), 0, I64, tensor.type.device)
    unit = ops.eq(places, ops.iota((num_classes, num_classes), 1, I64, tensor.type.device))
    return ops.gather(ops.cast(unit, dtype=I64), tensor, axis=0)


@composed
def one_hot(tensor, num_classes=-1):
    """A 1 at each class number, along a new last axis; -1 classes: one more than the largest."""
    if tensor.dtype is not I64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if tensor.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return _one_hot(tensor, num_classes)
    if num_classes == -1 or _computed(tensor):
        classes = tensor._array()
        if classes.min() < 0:
            raise RuntimeError("Class values must be non-negative.")
        if num_classes == -1:
            num_classes = int(classes.max()) + 1
        elif classes.max() >= num_classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
    if num_classes < 1:
        raise RuntimeError("num_classes should be positive")
    return _one_hot(tensor, num_classes)


def _computed(tensor: Tensor) -> bool:
    """Whether the values are there already, so that looking at them costs nothing."""
    return tensor._read().buffer is not None


@composed
def unravel_index(indices, shape):
    """Row-major places as one index tensor for each axis of `shape`."""
    if isinstance(shape, int):
        shape = (shape,)
    if isinstance(indices, Tensor) and indices.dtype.kind not in "iu":
        raise ValueError(f"expect tensor of integer dtype, but got {indices.dtype!r}")
    if any([n < 0 for n in shape]):
        raise ValueError(f"'shape' cannot have negative values, but got {tuple(shape)}")
    rest, found = indices, []
    for n in reversed(tuple(shape)):
        found.append(rest % n)
        rest = rest // n
    return tuple(reversed(found))
