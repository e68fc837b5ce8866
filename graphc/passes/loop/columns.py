"""Column programs: a result in each lane, rows in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fuse.group import LARGE
from .ir import (
    Accumulate,
    Accumulator,
    At,
    Bound,
    Flush,
    Fold,
    Least,
    Loop,
    Partial,
    Reduce,
    Resume,
    SaveRegisters,
    Stage,
    Statement,
    Sum,
    block_rows,
    rows_per_block,
)
from .partial import Partials
from .schedule import ROW_BANDS, ROW_BLOCKS

if TYPE_CHECKING:
    from .lower import Lowering

#: Fewer results than this and more rows than that: blocks of rows are the parallel loop.
FEW_RESULTS, MANY_ROWS = 8192, 1024
#: With so many rows, of so many elements, the order in which memory is read decides.
#: Rows of fewer elements pay more for lanes that are left over: with LARGE elements.
SOME_ROWS, STREAMED, SHORT_ROW = 256, 1 << 20, 256
#: Rows of fewer bytes are read one by one, wider ones in bands of rows.
WIDE_ROW_BYTES, BAND_ROWS, BAND_VECTORS = 8192, 8, 4


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


def _by_blocks(accumulator: Accumulator) -> bool:
    """Whether results of blocks combine to the bits of rows in order, or of sums in blocks."""
    exact = accumulator.op in ("reduce_max", "reduce_min") or accumulator.dtype.kind in "iub"
    return accumulator.place is None and (exact or _in_blocks(accumulator))


def _one_block(rows: object) -> bool:
    return isinstance(rows, int) and rows <= rows_per_block(rows)


def _one_loop(lowering: Lowering) -> bool:
    inner = lowering.schedule.inner
    return len(inner) == 1 and len(lowering.schedule.pieces(inner[0])) == 1


def _block_of_rows(lowering: Lowering, block: Bound, body: list[Statement]) -> Loop:
    n = lowering.group.domain.reduced_size
    low = At(ROW_BLOCKS)
    return Loop(lowering.schedule.inner[0], low, Least(Sum(low, block), n), 1, body, (0, n))


def results_by_blocks(lowering: Lowering, partials: Partials) -> list[Statement] | None:
    """Few sums of many rows, or what is too large for the caches: each block of rows writes its
    results, a second kernel combines them.

    None where the group is anything else. The tree is that of the program in one kernel.
    """
    group, sizes = lowering.group, lowering.sizes
    n, code = group.domain.reduced_size, group.code
    totals = [lowering.accumulator(r, 0) for r in code.reductions]
    if lowering.stages > 1 or not _one_loop(lowering) or _one_block(n):
        return None
    if not all([_by_blocks(a) for a in totals]):
        return None
    streamed = is_streamed(lowering)
    few = sizes.hint(group.domain.kept_size) < FEW_RESULTS and sizes.hint(n) >= MANY_ROWS
    if not streamed and not (few and not code.outputs and all([_in_blocks(a) for a in totals])):
        return None
    block = block_rows(n)
    body: list[Statement] = [Accumulate(a, r.expr) for a, r in zip(totals, code.reductions)]
    body += [lowering.store(output) for output in code.outputs]
    lines = [partials.of_columns(r, n, group.domain.kept_size) for r in code.reductions]
    if streamed:
        return bands_of_rows(lowering, totals, lines, body, block)
    saves = _saves(lowering, totals, lines, block)
    columns = [Reduce(totals, [_block_of_rows(lowering, block, body)]), *saves]
    lanes = lowering.lanes(lowering.schedule.lane, column_vectors(lowering), columns, wide=True)
    inside = lowering.nest(lowering.schedule.outer[:-1], lanes)
    return [Loop(ROW_BLOCKS, 0, n, block, inside, (0, n))]


def _saves(
    lowering: Lowering, totals: list[Accumulator], lines: list[Partial], block: Bound
) -> list[Statement]:
    place = lowering.group.domain.kept
    return [SaveRegisters(a, line, ROW_BLOCKS, block, place) for a, line in zip(totals, lines)]


def is_streamed(lowering: Lowering) -> bool:
    """Whether lanes would read rows in parts, and caches hold too little to make up for that."""
    schedule, hint = lowering.schedule, lowering.sizes.hint
    domain, width = lowering.group.domain, hint(schedule.extents[schedule.lane])
    least = LARGE if width < SHORT_ROW else STREAMED
    if hint(domain.reduced_size) < SOME_ROWS or hint(domain.size) < least:
        return False
    loads = [expr for expr in schedule.exprs if expr.op == "load"]
    steps = [dict(expr.payload.form.terms).get(schedule.lane, 0) for expr in loads]
    along = all([step in (0, 1) and not expr.args for step, expr in zip(steps, loads)])
    in_parts = width > column_vectors(lowering) * lowering.width
    return along and in_parts and _one_loop(lowering)


def bands_of_rows(
    lowering: Lowering,
    totals: list[Accumulator],
    lines: list[Partial],
    body: list[Statement],
    block: Bound,
) -> list[Statement]:
    """Bands of whole rows, one after the other: the results of a block wait in its line.

    Prefetching follows what is read in order, or a few rows at once where these are far apart;
    rows that share a page, or all of a block, it does not. So a band is one row where rows are
    short. The order of the additions is that of the registers alone.
    """
    schedule, n = lowering.schedule, lowering.group.domain.reduced_size
    low, lane, place = At(ROW_BLOCKS), schedule.lane, lowering.group.domain.kept
    end = Least(Sum(low, block), n)
    width = lowering.sizes.hint(schedule.extents[lane]) * totals[0].dtype.itemsize
    rows = 1 if width < WIDE_ROW_BYTES else BAND_ROWS
    last = Least(Sum(At(ROW_BANDS), rows), end)
    resumes: list[Statement] = [
        Resume(a, line, ROW_BLOCKS, block, place, ROW_BANDS) for a, line in zip(totals, lines)
    ]
    band = Loop(schedule.inner[0], At(ROW_BANDS), last, 1, body, (0, n))
    saves = _saves(lowering, totals, lines, block)
    columns: list[Statement] = [Reduce(totals, [*resumes, band]), *saves]
    vectors = min(BAND_VECTORS, column_vectors(lowering))
    lanes = lowering.lanes(lane, vectors, columns, wide=True)
    bands: list[Statement] = [Loop(ROW_BANDS, low, end, rows, lanes, (0, n))]
    return [Loop(ROW_BLOCKS, 0, n, block, lowering.nest(schedule.outer[:-1], bands), (0, n))]
