"""Running reductions: along the lanes, or down the rows with a column in each lane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fuse.affine import Variable
from .columns import bands_of_rows, is_streamed
from .dtypes import accumulation_dtype
from .ir import Accumulate, Accumulator, Lanes, Partial, Reduce, ScanStep, Statement, StoreRegisters

if TYPE_CHECKING:
    from .lower import Lowering

#: Vectors that a scan down the rows carries at once.
COLUMN_VECTORS = 8


def lower_scan(lowering: Lowering) -> list[Statement]:
    """The loops of a cumulative sum, product, maximum or minimum."""
    schedule, place = lowering.schedule, lowering.group.code.scanned
    (reduction,) = lowering.group.code.reductions
    assert place is not None
    node = reduction.value.node
    assert node is not None
    op = f"reduce_{node.attrs['mode']}"
    dtype = accumulation_dtype("cumulative", reduction.expr.dtype)
    lane: Variable = schedule.lane
    if schedule.lanes_inside:
        running = Accumulator(reduction.value, op, dtype, 1)
        step: Statement = ScanStep(running, reduction.expr, place)
        lanes: list[Statement] = [
            Lanes(lane, low, high, 1, [step], declared)
            for low, high, declared in schedule.pieces(lane)
        ]
        run = lowering.nest(schedule.inner[:-1], lanes)
        return lowering.nest(schedule.outer, [Reduce([running], run)])
    running = Accumulator(reduction.value, op, dtype, 0)
    body: list[Statement] = [
        Accumulate(running, reduction.expr),
        StoreRegisters(running, place),
    ]
    if is_streamed(lowering):
        kept = lowering.group.domain.kept_size
        line = Partial(f"{lowering.kernel.name}_line", dtype, kept, 1)
        lowering.lines.append(line)
        return bands_of_rows(lowering, [running], [line], body, lowering.group.domain.reduced_size)
    hint = lowering.sizes.hint(schedule.extents[lane])
    unroll = min(COLUMN_VECTORS, max(1, hint // 16))
    columns: list[Statement] = [Reduce([running], lowering.nest(schedule.inner, body))]
    wide: list[Statement] = [
        Lanes(lane, low, high, unroll, columns, declared, wide=True)
        for low, high, declared in schedule.pieces(lane)
    ]
    return lowering.nest(schedule.outer[:-1], wide)
