"""Column programs: a result in each lane, rows in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ir import (
    Accumulate,
    Accumulator,
    At,
    Bound,
    Flush,
    Fold,
    Least,
    Loop,
    Reduce,
    SaveRegisters,
    Stage,
    Statement,
    Sum,
    block_rows,
    rows_per_block,
)
from .partial import Partials
from .schedule import ROW_BLOCKS

if TYPE_CHECKING:
    from .lower import Lowering

#: Fewer results than this and more rows than that: blocks of rows are the parallel loop.
FEW_RESULTS, MANY_ROWS = 8192, 1024


def column_vectors(lowering: Lowering) -> int:
    """Vectors of results that are reduced at once."""
    extent = lowering.sizes.hint(lowering.schedule.extents[lowering.schedule.lane])
    cost = sum([root.cost for root in lowering.group.code.roots()])
    unroll = 8 if cost <= 8 else 4 if cost <= 20 else 2
    return min(unroll, max(1, extent // 16))


def column_program(lowering: Lowering) -> list[Statement]:
    """All stages for the results of one step of the lanes."""
    body: list[Statement] = [Stage(k, _stage(lowering, k)) for k in range(lowering.stages)]
    lane = lowering.schedule.lane
    return lowering.lanes(lane, column_vectors(lowering), body, wide=True)


def _stage(lowering: Lowering, stage: int) -> list[Statement]:
    members = lowering.members(stage)
    statements: list[Statement] = []
    if members:
        totals = [lowering.accumulator(r, 0) for r in members.rows]
        body: list[Statement] = [Accumulate(a, r.expr) for a, r in zip(totals, members.rows)]
        stores: list[Statement] = [lowering.store(output) for output in members.outputs]
        if totals:
            statements += _reduction(lowering, totals, body, stores)
            statements += [lowering.result(a, across=False) for a in totals]
        else:
            statements += lowering.nest(lowering.schedule.inner, stores)
    return statements + lowering.row_stores(stage, one_lane=False)


def _reduction(
    lowering: Lowering,
    totals: list[Accumulator],
    body: list[Statement],
    stores: list[Statement],
) -> list[Statement]:
    """Rows in order, in blocks whose totals are added: the error grows with the root."""
    n = lowering.group.domain.reduced_size
    inner = lowering.schedule.inner
    if not any([_in_blocks(a) for a in totals]) or _one_block(n):
        return [Reduce(totals, lowering.nest(inner, body + stores))]
    block = block_rows(n)
    parts, body = lowering.with_parts(totals, body)
    if _one_loop(lowering):
        rows = _block_of_rows(lowering, block, body + stores)
        run: list[Statement] = lowering.folded(totals, parts, [rows])
        return [Reduce(totals, [Loop(ROW_BLOCKS, 0, n, block, run)])]
    place = lowering.group.domain.along
    flushes: list[Statement] = [Flush(t, p, place, block) for t, p in zip(totals, parts)]
    run = lowering.nest(inner, flushes + body + stores)
    folds: list[Statement] = [Fold(t, p) for t, p in zip(totals, parts)]
    return [Reduce(totals, [Reduce(parts, run), *folds])]


def _in_blocks(accumulator: Accumulator) -> bool:
    return accumulator.op == "reduce_sum" and accumulator.dtype.kind == "f"


def _one_block(rows: object) -> bool:
    return isinstance(rows, int) and rows <= rows_per_block(rows)


def _one_loop(lowering: Lowering) -> bool:
    inner = lowering.schedule.inner
    return len(inner) == 1 and len(lowering.schedule.pieces(inner[0])) == 1


def _block_of_rows(lowering: Lowering, block: Bound, body: list[Statement]) -> Loop:
    n = lowering.group.domain.reduced_size
    low = At(ROW_BLOCKS)
    return Loop(lowering.schedule.inner[0], low, Least(Sum(low, block), n), 1, body, (0, n))


def sums_by_blocks(lowering: Lowering, partials: Partials) -> list[Statement] | None:
    """Few sums of many rows: each block of rows writes its sums, a second kernel adds them.

    None where the group is anything else. The tree is that of the program in one kernel.
    """
    group, sizes = lowering.group, lowering.sizes
    n, code = group.domain.reduced_size, group.code
    totals = [lowering.accumulator(r, 0) for r in code.reductions]
    bare = not code.outputs and lowering.stages == 1 and all([_in_blocks(a) for a in totals])
    few = sizes.hint(group.domain.kept_size) < FEW_RESULTS and sizes.hint(n) >= MANY_ROWS
    if not (bare and few and _one_loop(lowering)) or _one_block(n):
        return None
    block = block_rows(n)
    body: list[Statement] = [Accumulate(a, r.expr) for a, r in zip(totals, code.reductions)]
    place = group.domain.kept
    saves: list[Statement] = [
        SaveRegisters(
            a, partials.of_columns(r, n, group.domain.kept_size), ROW_BLOCKS, block, place
        )
        for a, r in zip(totals, code.reductions)
    ]
    columns = [Reduce(totals, [_block_of_rows(lowering, block, body)]), *saves]
    lane = lowering.schedule.lane
    lanes = lowering.lanes(lane, column_vectors(lowering), columns, wide=True)
    inside = lowering.nest(lowering.schedule.outer[:-1], lanes)
    return [Loop(ROW_BLOCKS, 0, n, block, inside, (0, n))]
