"""Row programs: lanes run along the reduced axis, one pass over the row for each stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.ir.dims import product
from graphc.ir.dtype import BOOL

from ..fuse.affine import Affine, Variable, strides
from ..fuse.expr import KEEP_COST, Expr, cost_of
from ..fuse.group import BLOCK, LONG_ROW, STEP, in_whole_steps
from .ir import (
    Accumulate,
    Accumulator,
    At,
    BlockStep,
    Bound,
    KeptRow,
    Lanes,
    Least,
    Loop,
    Reduce,
    Stage,
    Statement,
    Store,
    Sum,
    ToLine,
)
from .partial import column_add
from .schedule import BLOCKS

if TYPE_CHECKING:
    from .lower import Lowering

#: A row of kept values larger than this is computed again in each stage instead.
MAX_KEPT_ROW = 1 << 18
#: Results of so many bytes go past the caches, which would not hold them until somebody reads.
STREAMED = 24 << 20
#: Bytes of a row that shares lines with others from which on that pays.
LONG_STREAM = 8192
#: Bytes of a line of memory, and of the least vector that such a store writes.
LINE, LEAST_PART = 64, 16


def row_program(lowering: Lowering) -> list[Statement]:
    """All stages of one row."""
    return [Stage(k, row_stage(lowering, k)) for k in range(lowering.stages)]


def row_stage(lowering: Lowering, stage: int) -> list[Statement]:
    """One pass over the row: reductions, outputs and column sums that can be had by now."""
    members = lowering.members(stage)
    statements: list[Statement] = []
    if members:
        totals, body = stage_body(lowering, stage)
        if totals:
            statements += _reduction(lowering, totals, body)
            statements += [lowering.result(a, across=True) for a in totals]
        else:
            lanes = _streamed(lowering, body) or lowering.lanes(lowering.schedule.lane, 1, body)
            statements += lowering.nest(lowering.schedule.inner[:-1], lanes)
    return statements + lowering.row_stores(stage, one_lane=True)


def _streamed(lowering: Lowering, body: list[Statement]) -> list[Statement] | None:
    """The lanes of a stage whose results go past the caches, whole lines a step; None elsewhere.

    They do not where another kernel reads them, which finds much in the third cache, and where
    there is arithmetic to wait for, not memory. Rows that share lines have lanes of their own up to
    their first whole line; short ones stay as they are.
    """
    stores = [statement for statement in body if isinstance(statement, Store)]
    bytes_of = {store.value.type.dtype.itemsize for store in stores}
    if len(stores) < len(body) or len(bytes_of) > 1 or _is_dear(lowering):
        return None
    if not lowering.unread.issuperset([store.value for store in stores]):
        return None
    size, sizes, schedule = bytes_of.pop(), lowering.sizes, lowering.schedule
    written = sizes.hint(lowering.group.domain.size) * size * len(stores)
    if written < STREAMED or lowering.width * size < LEAST_PART:
        return None
    line, lane = LINE // size, schedule.lane
    vectors, n = max(1, line // lowering.width), schedule.extents[lane]
    before = [term for term in schedule.form(stores[0].place).terms if term[0] != lane]
    if all([sizes.divides(line, stride) for _, stride in before]):
        lanes = lowering.lanes(lane, vectors, body)
    elif sizes.hint(n) * size >= LONG_STREAM and len(schedule.pieces(lane)) == 1:
        first = Least(ToLine(Affine(0, tuple(before)), line), n)
        lanes = [
            Lanes(lane, 0, first, 1, body, (0, n)),
            Lanes(lane, first, n, vectors, body, (0, n)),
        ]
    else:
        return None
    for store in stores:
        store.streamed = True
    return lanes


def _is_dear(lowering: Lowering) -> bool:
    """Whether some op on the points of a row costs what is worth keeping."""
    lanes = lowering.kernel.lanes
    dear = [expr for expr in lowering.schedule.exprs if cost_of(expr.op) >= KEEP_COST]
    return any([not lanes.isdisjoint(expr.variables) for expr in dear])


def stage_body(lowering: Lowering, stage: int) -> tuple[list[Accumulator], list[Statement]]:
    """The accumulators of a stage, and what happens at each point of the row."""
    members = lowering.members(stage)
    totals = [lowering.accumulator(r, _registers(lowering)) for r in members.rows]
    body: list[Statement] = []
    body += [Accumulate(a, r.expr) for a, r in zip(totals, members.rows)]
    body += [lowering.store(output) for output in members.outputs]
    body += [column_add(lowering, r) for r in members.columns]
    return totals, body


def _along(lowering: Lowering) -> list[Variable]:
    """The loops of the lane axis."""
    domain, schedule = lowering.group.domain, lowering.schedule
    last = set(domain.variables[len(domain.sizes) - 1])
    return [v for v in schedule.inner if v in last] or [schedule.lane]


def _registers(lowering: Lowering) -> int:
    extent = product([lowering.schedule.extents[v] for v in _along(lowering)])
    return 1 if isinstance(extent, int) and extent < STEP else 4


def _reduction(
    lowering: Lowering, totals: list[Accumulator], body: list[Statement]
) -> list[Statement]:
    """The loops of a reduction along the lanes, in the tree that its shape fixes.

    Each run along the last axis collects in its own accumulators, which are folded into the
    total; a run of LONG_ROW or more goes in blocks of BLOCK. An axis that later stages have in
    pieces is whole here, unless its pieces are whole steps.
    """
    schedule, along = lowering.schedule, _along(lowering)
    around = [v for v in schedule.inner if v not in along]
    unroll = totals[0].registers
    n = lowering.group.domain.sizes[-1]
    long = not lowering.sizes.below(n, LONG_ROW)
    apart = in_whole_steps(lowering.group, schedule.extents[schedule.lane]) or len(along) == 1
    parts = totals
    if around or long:
        parts, body = lowering.with_parts(totals, body)
    if long:
        step, lanes = block_lanes(lowering, unroll, body)
        run: list[Statement] = [Loop(BLOCKS, 0, n, step, lowering.folded(totals, parts, [lanes]))]
    elif apart:
        run = lowering.nest(along[:-1], lowering.lanes(schedule.lane, unroll, body))
    else:
        run = [Lanes(schedule.lane, 0, n, unroll, body, (0, n))]
    if not apart:  # the lanes run on through the other pieces, which follow in memory
        for variable in along[:-1]:
            run = [Loop(variable, 0, 1, 1, run, (0, 1))]
    if around and not long:
        run = lowering.folded(totals, parts, run)
    return [Reduce(totals, lowering.nest(around, run))]


def block_lanes(lowering: Lowering, unroll: int, body: list[Statement]) -> tuple[Bound, Lanes]:
    """One block of a long row, and the length of blocks."""
    n = lowering.group.domain.sizes[-1]
    fixed = lowering.sizes.at_most(LONG_ROW, n)
    step: Bound = BLOCK if fixed else BlockStep(n, LONG_ROW, BLOCK)
    low = At(BLOCKS)
    high = Least(Sum(low, step), n)
    return step, Lanes(lowering.schedule.lane, low, high, unroll, body, (0, n))


def keep_rows(lowering: Lowering) -> None:
    """Dear values that several stages read stay in scratch for the length of a row."""
    kernel, extents = lowering.kernel, lowering.schedule.extents
    inner = lowering.schedule.inner
    n = product([extents[v] for v in inner])
    if lowering.stages == 1 or lowering.sizes.hint(n) * 4 > MAX_KEPT_ROW:
        return
    readers = _stages_that_read(lowering)
    along = set(inner)
    kept = {
        expr
        for expr, stages in readers.items()
        if len(stages) > 1
        and expr.cost >= KEEP_COST
        and expr.dtype is not BOOL
        and not along.isdisjoint(expr.variables)
        and not expr.variables.isdisjoint(kernel.lanes)
    }
    inside = {arg for expr in kept for arg in expr.args if readers[arg] == readers[expr]}
    terms = sorted(zip(inner, strides([extents[v] for v in inner])))
    kernel.row = Affine(0, tuple(terms))
    for expr in sorted(kept - inside, key=lambda e: e.id):
        kernel.kept[expr] = KeptRow(kernel.scratch, min(readers[expr]))
        kernel.scratch = kernel.scratch + (n + STEP) * 8


def _stages_that_read(lowering: Lowering) -> dict[Expr, set[int]]:
    readers: dict[Expr, set[int]] = {}

    def visit(expr: Expr, stage: int) -> None:
        known = readers.setdefault(expr, set())
        if stage not in known:
            known.add(stage)
            for arg in expr.args:
                visit(arg, stage)

    code = lowering.group.code
    for reduction in code.reductions:
        visit(reduction.expr, lowering.stage[reduction.value])
    for output in code.outputs:
        if output.level == "full":
            visit(output.expr, lowering.stage[output.value])
    return readers
