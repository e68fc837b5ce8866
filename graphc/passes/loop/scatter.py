"""Scatters: the result starts as a copy (or zeros), then the updates act in row-major order.

Where the updates of each step of the outermost loop go to a row of their own, as those of
`scatter_add` along the last axis do, that row is copied just before them: it is in the first cache
then, and steps may run in parallel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.ir.dims import AnyDim, product

from ..checks import own_rows
from ..fuse.affine import ZERO, Affine
from .ir import Clear, CopyBuffer, Lanes, Scatter, Statement

if TYPE_CHECKING:
    from .lower import Lowering

#: Shorter rows, in bytes, are not worth a copy each.
LEAST_ROW = 256


def lower_scatter(lowering: Lowering) -> list[Statement]:
    """The loops of a scatter over the points of its updates."""
    schedule, code = lowering.schedule, lowering.group.code
    (reduction,) = code.reductions
    indexed, value = code.indexed, reduction.value
    assert indexed is not None

    def start(size: AnyDim, place: Affine) -> Statement:
        if indexed.initial is None:
            return Clear(value, size, place=place)
        return CopyBuffer(value, indexed.initial, size, place)

    update = Scatter(
        value, indexed.mode, indexed.place, indexed.strides, indexed.indices, reduction.expr
    )
    lanes: list[Statement] = [
        Lanes(schedule.lane, low, high, 1, [update], declared)
        for low, high, declared in schedule.pieces(schedule.lane)
    ]
    width = row_width(lowering)
    if width is None:
        return [start(product(value.type.shape), ZERO), *lowering.nest(schedule.outer, lanes)]
    rows, *inner = schedule.outer
    first = start(width, Affine(0, ((rows, width),)))
    return lowering.nest([rows], [first, *lowering.nest(inner, lanes)])


def row_width(lowering: Lowering) -> int | None:
    """How many elements of the result each step of the outermost loop has for itself, if so."""
    node = lowering.group.code.reductions[0].value.node
    assert node is not None
    if node.op.name != "scatter" or node.attrs["axis"] != 0 or not lowering.schedule.outer:
        return None
    x, index = node.inputs[:2]
    inner = product(x.type.shape[1:])
    found = own_rows(index, x.type.shape[0])
    rows = lowering.schedule.outer[0]
    if found is None or not isinstance(inner, int):
        return None
    width = found[1] * inner
    whole = lowering.schedule.extents[rows] == found[0] and len(lowering.schedule.pieces(rows)) == 1
    return width if whole and width * x.type.dtype.itemsize >= LEAST_ROW else None
