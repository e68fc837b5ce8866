"""`x[...]` and `x[...] = value`, with all that torch allows between the brackets.

Integers, slices, None and ... give views. Tensors and lists of integers and bool masks give
copies; a mask is looked at, because the size of the result depends on its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import Any

import numpy as np

from ..frontends.function import composed, function
from ..frontends.record import recorder
from ..ir import ops
from ..ir.dims import product
from ..ir.dtype import BOOL, I32, I64, U8, DType
from ..ir.errors import ShapeError, UnsupportedError
from ..ir.graph import Value
from ..ir.types import TensorType
from ..tensor import Tensor, from_array
from .index_basic import basic, too_many
from .memory_part import is_new_place, read_part, unread_part
from .movement import bracketed, permuted, reshaped
from .parts import (
    expanded,
    narrow_recorded,
    scalar_name,
    select_recorded,
    tensor_name,
)
from .promote import is_number, to_dtype
from .reduce import number_value

Place = tuple[int, int]  # the first axis that an index tensor replaces, and how many

_NO_INDEX = (
    "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid "
    "indices (got {})"
)

# --- basic indexing ------------------------------------------------------------------------------


@function(view=True, register=False)
def _recorded(input, index):
    return basic(input, index)


def _basic(x: Tensor, items: tuple) -> Tensor:
    found = read_part(x, items)
    return _recorded(x, items) if found is None else found


def _along(x: Tensor, dim: Any, item: Any, first: Any, last: Any) -> Tensor | None:
    """`item` of an axis read from memory; None where it is to be recorded, or is no plain index."""
    if x.__class__ is not Tensor or not all([n.__class__ is int for n in (dim, first, last)]):
        return None
    shape = x._type.shape
    rank = len(shape)
    if not -rank <= dim < rank or not 0 <= first <= last <= shape[dim]:
        return None
    return read_part(x, (*[slice(None)] * (dim % rank), item))


@composed
def narrow(input, dim, start, length):
    """`length` places along `dim` from `start` on, which may be a 0-d integer tensor."""
    start = as_int(start)
    end = start + length if length.__class__ is int else None
    found = _along(input, dim, slice(start, end), start, end)
    return narrow_recorded(input, dim, start, length) if found is None else found


@composed
def select(input, dim, index):
    """One place along `dim`, which goes away."""
    found = _along(input, dim, index, index, index + 1) if index.__class__ is int else None
    return select_recorded(input, dim, index) if found is None else found


# --- what stands between the brackets ------------------------------------------------------------


class Indices:
    """An index, taken apart: the basic part, then tensors that replace axes of what it gives.

    `view` is the basic part's result; `places` are axes of it.
    """

    def __init__(self, x: Tensor, items: Sequence[Any]) -> None:
        self.x, self.rank = x, len(x.shape)
        self.basic: list[Any] = []
        self.axis = 0
        self.found: list[tuple[int, Any]] = []
        given = [self._plain(item) for item in items]
        used = sum([_width(item) for item in given])
        if used > self.rank:
            raise too_many([i for i in given if i is not None], self.rank)
        self.skipped = self.rank - used
        for item in given:
            self._take(item)
        self.view = _basic(x, tuple(self.basic)) if self._moves() else x

    def _moves(self) -> bool:
        return any([not (item is Ellipsis or item == slice(None)) for item in self.basic])

    def _plain(self, item: Any) -> Any:
        """The item as None, ..., bool, int, slice of ints, or a tensor with axes."""
        if item is None or item is Ellipsis or item.__class__ in (int, bool):
            return item
        if isinstance(item, slice):
            return _plain_slice(item)
        if isinstance(item, Tensor):
            return self._plain_tensor(item)
        if isinstance(item, (list, tuple, range, np.ndarray)):
            return self._plain_tensor(_as_tensor(item, self.x))
        if hasattr(item, "__index__"):
            return as_int(item)
        raise IndexError(_NO_INDEX.format(type(item).__name__))

    def _plain_tensor(self, item: Tensor) -> Any:
        if item.dtype not in (I64, I32, U8, BOOL):
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        if item.shape or not recorder().eager:
            return item
        return bool(item) if item.dtype in (BOOL, U8) else int(item)

    def _take(self, item: Any) -> None:
        if item.__class__ is bool:
            self.basic.append(None)
            one = np.zeros(1 if item else 0, np.int64)
            self.found.append((self.axis, from_array(one, self.x._type.device)))
            self.axis += 1
        elif isinstance(item, Tensor):
            self.found.append((self.axis, item))
            self.basic += [slice(None)] * _width(item)
            self.axis += _width(item)
        else:
            self.basic.append(item)
            if item is Ellipsis:
                self.axis += self.skipped
                self.skipped = 0
            elif item is None or isinstance(item, slice):
                self.axis += 1

    def resolve(self) -> tuple[tuple[Place, ...], list[Tensor]]:
        """The places and the tensors of integers for them; masks are looked at."""
        places, tensors = [], []
        for axis, tensor in self.found:
            if tensor.dtype in (BOOL, U8):
                places.append((axis, tensor.dim()))
                tensors.append(self._true_places(tensor, axis))
            else:
                places.append((axis, 1))
                tensors.append(tensor)
        return tuple(places), tensors

    def check_mask(self, mask: Tensor, axis: int) -> None:
        shape = self.view.shape
        for i, n in enumerate(mask.shape):
            if n != shape[axis + i]:
                raise IndexError(
                    f"The shape of the mask {bracketed(mask.shape)} at index {i} does not match "
                    f"the shape of the indexed tensor {bracketed(shape)} at index {axis + i}"
                )

    def _true_places(self, mask: Tensor, axis: int) -> Tensor:
        self.check_mask(mask, axis)
        return from_array(np.flatnonzero(mask._array()), mask._type.device)


def _width(item: Any) -> int:
    """How many axes of the tensor an item uses up."""
    if item is None or item is Ellipsis or item.__class__ is bool:
        return 0
    if isinstance(item, Tensor) and item.dtype in (BOOL, U8):
        return item.dim()
    return 1


def _plain_slice(item: slice) -> slice:
    parts = [v if v is None else as_int(v) for v in (item.start, item.stop, item.step)]
    return slice(*parts)


def _as_tensor(item: Any, like: Tensor) -> Tensor:
    if isinstance(item, np.ndarray):
        return from_array(item, like._type.device)
    array = np.asarray([_number(v) for v in item])
    return from_array(array if array.size else array.astype(np.int64), like._type.device)


def _number(item: Any) -> Any:
    if isinstance(item, (list, tuple, range)):
        return [_number(v) for v in item]
    return item._array() if isinstance(item, Tensor) else item


def _items(index: Any) -> Sequence[Any]:
    """A tuple of items; a list counts as one if it holds sequences, slices, None or ..."""
    if isinstance(index, tuple):
        return index
    if isinstance(index, list) and len(index) < 32:
        for item in index:
            if item is None or item is Ellipsis:
                return index
            if isinstance(item, (Tensor, list, tuple, slice, np.ndarray)):
                return index
    return (index,)


_SIMPLE = (int, type(None), type(Ellipsis))


def _simple(index: Any) -> tuple | None:
    """The items where all are integers, plain slices, None and ..."""
    items = index if index.__class__ is tuple else (index,)
    for item in items:
        if item.__class__ is slice:
            for v in (item.start, item.stop, item.step):
                if v is not None and v.__class__ is not int:
                    return None
        elif item.__class__ not in _SIMPLE:
            return None
    return items


def getitem(self: Tensor, index: Any) -> Tensor:
    """self[index]."""
    simple = _simple(index)
    if simple is not None:
        return _basic(self, simple)
    indices = Indices(self, _items(index))
    if not indices.found:
        return indices.view if indices.view is not self else _basic(self, (Ellipsis,))
    places, tensors = indices.resolve()
    return _taken(indices.view, places, *tensors)


# --- tensors as indices --------------------------------------------------------------------------


class Lookup:
    """Index tensors as one: `source` has one axis in place of all that they replace."""

    def __init__(self, x: Value, places: Sequence[Place], indices: Sequence[Value]) -> None:
        self.x = x
        shape = x.type.shape
        axes = [a + i for a, width in places for i in range(width)]
        self.adjacent = axes == list(range(axes[0], axes[0] + len(axes)))
        rest = [i for i in range(len(shape)) if i not in axes]
        self.axis = axes[0] if self.adjacent else 0
        self.order = (*rest[: self.axis], *axes, *rest[self.axis :])
        self.moved = permuted(x, self.order)
        sizes = [product([shape[a + i] for i in range(width)]) for a, width in places]
        outer = [shape[i] for i in rest]
        outer.insert(self.axis, product(sizes))
        self.source = reshaped(self.moved, outer)
        self.index = linear_index(
            _together(indices, places), sizes, [width > 1 for _, width in places]
        )
        index_shape = self.index.type.shape
        self.shape = (*outer[: self.axis], *index_shape, *outer[self.axis + 1 :])

    def restore(self, source: Value) -> Value:
        """A value like `source` in the shape and order of x."""
        return permuted(reshaped(source, self.moved.type.shape), ops.inverse(self.order))


def _together(indices: Sequence[Value], places: Sequence[Place]) -> list[Value]:
    """The index tensors, broadcast. In torch's error a mask counts once for each of its axes."""
    shapes = [v.type.shape for v in indices]
    try:
        shape = ops.broadcast_shapes(*shapes)
    except ShapeError:
        raise IndexError(
            "shape mismatch: indexing tensors could not be broadcast together with shapes "
            + ", ".join([bracketed(s) for s, (_, k) in zip(shapes, places) for _ in range(k)])
        ) from None
    return [ops.broadcast_to(to_dtype(v, I64), shape) for v in indices]


def wrapped(index: Value, n: Any) -> Value:
    """Negative places count from the end."""
    negative = ops.lt(index, ops.full_like(0, index))
    return ops.select(negative, ops.add(index, number_value(n, index)), index)


def within(index: Value, n: Any) -> Value:
    """Whether each place lies in [0, n)."""
    zero = ops.full_like(0, index)
    return ops.and_(ops.le(zero, index), ops.lt(index, number_value(n, index)))


def linear_index(indices: Sequence[Value], sizes: Sequence[Any], trusted: Sequence[bool]) -> Value:
    """Row-major places; one that is outside in any axis becomes -1, which `gather` refuses."""
    if len(indices) == 1:
        return indices[0] if trusted[0] else wrapped(indices[0], sizes[0])
    total: Value | None = None
    inside: Value | None = None
    for index, n in zip(indices, sizes, strict=True):
        index = wrapped(index, n)
        fits = within(index, n)
        inside = fits if inside is None else ops.and_(inside, fits)
        total = index if total is None else ops.add(ops.mul(total, number_value(n, index)), index)
    assert total is not None and inside is not None
    return ops.select(inside, total, ops.full_like(-1, total))


@function(register=False)
def _taken(input, places, *indices):
    found = Lookup(input, places, indices)
    return ops.gather(found.source, found.index, axis=found.axis)


@function(register=False)
def _put(input, places, accumulate, value, *indices):
    """The input with `value` at the places."""
    found = Lookup(input, places, indices)
    value = fitted(value, input.type.dtype, found.shape, input)
    mode = "add" if accumulate else "set"
    out = ops.scatter(found.source, found.index, value, axis=found.axis, mode=mode)
    return found.restore(out)


def fitted(value: Any, dtype: DType, shape: Sequence[Any], like: Value) -> Value:
    """A value to put at indices: of the same element type, broadcast to the places' shape."""
    if isinstance(value, Value):
        if value.type.dtype is not dtype:
            raise RuntimeError(
                "Index put requires the source and destination dtypes match, got "
                f"{scalar_name(dtype)} for the destination and {scalar_name(value.type.dtype)} "
                "for the source."
            )
        given = value.type.shape
        value = _without_leading_ones(value, len(shape))
        try:
            return ops.broadcast_to(value, tuple(shape))
        except ShapeError:
            raise ShapeError(
                f"shape mismatch: value tensor of shape {bracketed(given)} cannot be broadcast to "
                f"indexing result of shape {bracketed(shape)}"
            ) from None
    return ops.broadcast_to(number_to(value, dtype, like), tuple(shape))


def number_to(value: Any, dtype: DType, like: Value) -> Value:
    if isinstance(value, complex) and dtype.kind != "c":
        names = {"f32": "float", "f64": "double", "i32": "int", "i64": "int64_t"}
        raise RuntimeError(
            f"value cannot be converted to type {names.get(dtype.name, dtype.torch_name)} "
            "without overflow"
        )
    return to_dtype(value, dtype, like)


def _without_leading_ones(value: Value, rank: int) -> Value:
    shape = value.type.shape
    extra = len(shape) - rank
    if extra > 0 and all([n == 1 for n in shape[:extra]]):
        return reshaped(value, shape[extra:])
    return value


# --- assignment ----------------------------------------------------------------------------------


@function(register=False)
def _assigned(input, value):
    """A value in the element type and shape of the input."""
    type = input.type
    if not isinstance(value, Value):
        return ops.broadcast_to(number_to(value, type.dtype, input), type.shape)
    return _fitted(value, type)


def _fitted(value: Value, type: TensorType) -> Value:
    value = _without_leading_ones(value, len(type.shape))
    return expanded(to_dtype(value, type.dtype), type.shape)


@function(register=False)
def _tensor_as(value, type):
    """A tensor in that element type and shape."""
    return _fitted(value, type)


@function(register=False, ints=True)
def _number_as(value, type):
    """A number everywhere; it may become an operand, an integer too."""
    like = ops.full(0, type.dtype, (), type.device)
    return ops.broadcast_to(number_to(value, type.dtype, like), type.shape)


def _set_part(self: Tensor, items: tuple, value: Any) -> None:
    """self[items] = value, where the part is written and not read."""
    rec = recorder()
    if rec.eager and rec.tape.sizes and is_new_place(self._storage.cell.type, items):
        rec.go_static()
    if not rec.eager or rec.tape.sizes:
        view = _recorded(self, items)
        view._write(_assigned(view, value))
        return
    view = unread_part(self, items)
    type = view._type
    if not isinstance(value, Tensor):
        value = _number_as(value, type)
    elif value._storage is self._storage and value._chain == view._chain:
        return  # the end of `x[k] += ...`, which has been added there already
    elif value._type is not type or not view._chain:
        value = _tensor_as(value, type)
    view._write(value)


@function(register=False)
def _where_masked(input, mask, axis, value):
    """One value where a mask over some of the axes holds."""
    shape, rank = input.type.shape, len(mask.type.shape)
    around = tuple([i for i in range(len(shape)) if not axis <= i < axis + rank])
    mask = to_dtype(mask, BOOL)
    wide = ops.expand(mask, shape=shape, axes=around) if around else mask
    value = value if isinstance(value, Value) else number_to(value, input.type.dtype, input)
    value = ops.broadcast_to(to_dtype(value, input.type.dtype), shape)
    return ops.select(wide, value, input)


def _assignable(self: Tensor, value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Tensor):
        if value._type.device != self._type.device and not value.shape:
            return value.item()
        return value
    if not is_number(value):
        raise TypeError(
            f"can't assign a {type(value).__name__} to a torch.{tensor_name(self.dtype)}"
        )
    return value


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """self[index] = value."""
    value = _assignable(self, value)
    simple = _simple(index)
    if simple is not None:
        _set_part(self, simple, value)
        return
    indices = Indices(self, _items(index))
    view = indices.view
    if not indices.found:
        view._write(_assigned(view, value))
    elif _is_one_mask(indices) and not (isinstance(value, Tensor) and value.shape):
        axis, mask = indices.found[0]
        indices.check_mask(mask, axis)
        view._write(_where_masked(view, mask, axis, value))
    else:
        places, tensors = indices.resolve()
        view._write(_put(view, places, False, value, *tensors))


def _is_one_mask(indices: Indices) -> bool:
    return len(indices.found) == 1 and indices.found[0][1].dtype in (BOOL, U8)


def _put_at(input: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool) -> Any:
    if not isinstance(values, Tensor):
        raise TypeError(
            "index_put(): argument 'values' (position 2) must be Tensor, not "
            f"{type(values).__name__}"
        )
    given = [slice(None) if item is None else item for item in indices]
    places, tensors = Indices(input, given).resolve()
    if not places:
        raise UnsupportedError("index_put without an index tensor")
    return _put(input, places, accumulate, values, *tensors)


@composed
def index_put(input, indices, values, accumulate=False):
    """The input with values at (indices[0], indices[1], ...), added there if `accumulate`."""
    return _put_at(input, indices, values, accumulate)


METHODS = {"__getitem__": getitem, "__setitem__": setitem}
