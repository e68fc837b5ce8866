"""Scatters: the result starts as a copy (or zeros), then the updates act in row-major order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.ir.dims import product

from .ir import Clear, CopyBuffer, Lanes, Scatter, Statement

if TYPE_CHECKING:
    from .lower import Lowering


def lower_scatter(lowering: Lowering) -> list[Statement]:
    """The loops of a scatter over the points of its updates."""
    schedule, code = lowering.schedule, lowering.group.code
    (reduction,) = code.reductions
    indexed, value = code.indexed, reduction.value
    assert indexed is not None
    size = product(value.type.shape)
    start: Statement = (
        Clear(value, size) if indexed.initial is None else CopyBuffer(value, indexed.initial, size)
    )
    update = Scatter(
        value, indexed.mode, indexed.place, indexed.strides, indexed.indices, reduction.expr
    )
    lanes: list[Statement] = [
        Lanes(schedule.lane, low, high, 1, [update], declared)
        for low, high, declared in schedule.pieces(schedule.lane)
    ]
    return [start, *lowering.nest(schedule.outer, lanes)]
