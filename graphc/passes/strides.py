"""Strided views: where the elements of a value lie in the memory that it is a view of."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir.dims import AnyDim
from graphc.ir.graph import Value

from .fuse.affine import Affine, Index, flatten
from .products import view_above


@dataclass(frozen=True, slots=True)
class StridedView:
    """The element at an index of a value is `offset` plus the sum of index times step, in the
    row-major memory of `base`."""

    base: Value
    offset: AnyDim
    steps: tuple[AnyDim, ...]


def strided_view(value: Value) -> StridedView:
    """The view of the memory that lies furthest above, through movement that is affine, of which
    elements along the last axis lie together."""
    shape = value.type.shape
    index: Index = tuple([Affine(0, ((axis, 1),)) for axis in range(len(shape))])
    found = _view(value, index, shape)
    assert found is not None, "what lies in memory by itself has its elements together"
    while True:
        moved = view_above(value, index, shape)
        if moved is None:
            return found
        value, index = moved
        found = _view(value, index, shape) or found


def _view(base: Value, index: Index, shape: tuple[AnyDim, ...]) -> StridedView | None:
    form = flatten(index, base.type.shape) if index else Affine(0)
    steps = dict(form.terms)
    if shape[-1] != 1 and steps.get(len(shape) - 1, 0) != 1:
        return None
    return StridedView(base, form.const, tuple([steps.get(axis, 0) for axis in range(len(shape))]))
