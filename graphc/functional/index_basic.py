"""Basic indexing: integers, slices, None and ... as one slice and one reshape."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_int
from typing import Any

from ..ir import ops
from ..ir.graph import Value
from .movement import reshaped
from .parts import place_of
from .sizes import at_most, clamped


def basic(x: Value, items: Sequence[Any]) -> Value:
    """Integers, slices, None and ... as one slice and one reshape."""
    shape = x.type.shape
    used = sum([1 for item in items if item is not None and item is not Ellipsis])
    if used > len(shape):
        raise too_many(items, len(shape))
    start, stop, step, after = [], [], [], []
    skipped = len(shape) - used
    for item in items:
        axis = len(start)
        if item is None:
            after.append(1)
        elif item is Ellipsis:
            for n in shape[axis : axis + skipped]:
                _keep(start, stop, step, after, n)
            skipped = 0
        elif isinstance(item, slice):
            low, high, k = _bounds(item, shape[axis])
            start.append(low)
            stop.append(high)
            step.append(k)
            after.append(_count(low, high, k))
        else:
            place = _place(item, shape[axis], axis)
            start.append(place)
            stop.append(place + 1)
            step.append(1)
    for n in shape[len(start) :]:
        _keep(start, stop, step, after, n)
    if tuple(stop) != shape or any([a != 0 for a in start]) or any([k != 1 for k in step]):
        x = ops.slice_(x, start=tuple(start), stop=tuple(stop), step=tuple(step))
    return reshaped(x, after)


def _keep(start: list, stop: list, step: list, after: list, n: Any) -> None:
    start.append(0)
    stop.append(n)
    step.append(1)
    after.append(n)


def _count(low: Any, high: Any, step: int) -> Any:
    return high - low if step == 1 else (high - low + step - 1) // step


def _bounds(item: slice, n: Any) -> tuple[Any, Any, int]:
    step = 1 if item.step is None else as_int(item.step)
    if step == 0:
        raise ValueError("slice step cannot be zero")
    if step < 0:
        raise ValueError("step must be greater than zero")
    low = 0 if item.start is None else clamped(item.start, n)
    high = n if item.stop is None else clamped(item.stop, n)
    return low, high if at_most(low, high) else low, step


def _place(item: Any, n: Any, axis: int) -> Any:
    place = place_of(item, n)
    if place is None:
        raise IndexError(f"index {item} is out of bounds for dimension {axis} with size {n}")
    return place


def too_many(items: Sequence[Any], rank: int) -> IndexError:
    if rank:
        return IndexError(f"too many indices for tensor of dimension {rank}")
    if any([isinstance(item, slice) for item in items]):
        return IndexError("slice() cannot be applied to a 0-dim tensor.")
    return IndexError(
        "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in "
        "C++ to convert a 0-dim tensor to a number"
    )
