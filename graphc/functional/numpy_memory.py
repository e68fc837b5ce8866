"""Tensors on the memory of numpy arrays, with whatever strides those have.

A tensor's storage is contiguous here. An array that is a part of another one, `images[:, ::2]`,
becomes a view of the whole: its strides are found again as slices of the memory that owns it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..frontends.record import cell_class
from ..ir.dtype import from_numpy
from ..ir.types import TensorType
from ..tensor import ForeignBuffer, Tensor, wrap
from .index import getitem


def from_numpy_array(ndarray):
    """A tensor on the memory of a numpy array.

    Raises TypeError for what is no array or has another element type, ValueError for negative
    strides and for an array whose memory no numpy array owns as a whole.
    """
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    from_numpy(ndarray.dtype)
    if any(s < 0 for s in ndarray.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative "
            "strides are not currently supported. (You can probably work around this by making a "
            "copy of your array  with array.copy().) "
        )
    order = sorted(range(ndarray.ndim), key=lambda axis: -ndarray.strides[axis])
    ordered = ndarray.transpose(order)
    made = _on(ordered) if ordered.flags.c_contiguous else _part(ordered)
    if order == list(range(ndarray.ndim)):
        return made
    return made.permute([order.index(axis) for axis in range(ndarray.ndim)])


def _on(array: np.ndarray) -> Tensor:
    """A tensor on all of a contiguous array."""
    buffer: Any = ForeignBuffer(array)
    made = wrap(cell_class()(TensorType(from_numpy(array.dtype), array.shape), buffer))
    made._storage.export = lambda: buffer
    return made


def _part(array: np.ndarray) -> Tensor:
    """A tensor on a part of the memory that `array` is a view of; its strides do not ascend."""
    item = array.dtype.itemsize
    owner = _owner(array)
    offset = array.ctypes.data - owner.ctypes.data
    steps = [stride // item for stride in array.strides]
    places = (owner.ctypes.data, offset, *array.strides)
    exact = all([place % item == 0 for place in places])
    moving = [k for k in range(array.ndim) if array.shape[k] > 1 and steps[k] > 0]
    items = exact and _slices(
        owner.nbytes // item, offset // item, [(array.shape[k], steps[k]) for k in moving]
    )
    if not items:
        raise ValueError(
            "from_numpy cannot show this array's memory: no array owns it as a whole. "
            "Use from_numpy(array.copy()), or tensor(array)."
        )
    shape, index = items
    memory = owner.view(np.uint8)[: math.prod(shape) * item]
    whole = _on(memory.view(array.dtype).reshape(shape))
    made = getitem(whole, index)
    for axis in range(array.ndim):
        if axis not in moving:
            made = made.unsqueeze(axis)
    return made.expand(array.shape) if tuple(made.shape) != array.shape else made


def _owner(array: np.ndarray) -> np.ndarray:
    """The memory that an array is a part of, as one line; the array itself where it is none."""
    owner, base = array, array.base
    while base is not None:
        if isinstance(base, np.ndarray):
            owner = base
        base = getattr(base, "base", None)  # as_strided puts an object of its own in between
    flat = owner.ravel(order="K")
    return flat if np.shares_memory(flat, owner) else array.ravel(order="K")


def _slices(
    count: int, offset: int, axes: list[tuple[int, int]]
) -> tuple[tuple[int, ...], tuple] | None:
    """A shape for `count` elements in a line, and the index of it that shows (size, step) axes.

    None where there is none. Axis k of the shape has elements `unit` apart: a divisor of the unit
    before it and of the axis's step.
    """
    shape, index, unit = [], [], count
    for size, step in axes:
        outer, unit = unit, math.gcd(unit, step)
        first, offset = divmod(offset, unit)
        last = first + (size - 1) * (step // unit)
        if last >= outer // unit:
            return None
        shape.append(outer // unit)
        index.append(slice(first, last + 1, step // unit))
    return (*shape, unit), (*index, offset)
