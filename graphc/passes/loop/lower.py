"""From a group to the loop level: one kernel, or two where parallel chunks leave partials."""

from __future__ import annotations

from graphc.ir.dims import AnyDim, product
from graphc.ir.dtype import BF16, BOOL, F16, F32, DType
from graphc.ir.graph import Value

from ..fuse.affine import Affine, Variable, strides
from ..fuse.expr import KEEP_COST, Expr
from ..fuse.group import (
    BLOCK,
    COLUMNS,
    LONG_ROW,
    MAP,
    ROWS,
    SCAN,
    SCATTER,
    STEP,
    Group,
    Output,
    Reduction,
)
from .ir import (
    Accumulate,
    Accumulator,
    At,
    BlockStep,
    Bound,
    Clear,
    ColumnAdd,
    Flush,
    Fold,
    KeptRow,
    Kernel,
    Lanes,
    Least,
    Loop,
    Partial,
    Reduce,
    Result,
    RowBlock,
    RowBlocks,
    Stage,
    Statement,
    Store,
    Sum,
    rows_per_block,
)
from .partial import combining_kernel
from .scan import lower_scan
from .scatter import lower_scatter
from .schedule import BLOCKS, ROW_BLOCKS, Schedule

#: A row of kept values larger than this is computed again in each stage instead.
MAX_KEPT_ROW = 1 << 18


def lower(group: Group, name: str, stored: set[Value]) -> list[Kernel]:
    """The kernels of a group; `stored` are the values that must be in memory afterwards."""
    lowering = Lowering(group, name, stored)
    combining = [
        combining_kernel(value, partial, f"{name}_{k}", group.sizes, lowering.blocks())
        for k, (value, partial) in enumerate(lowering.partials.items())
    ]
    return [lowering.kernel, *combining]


class Lowering:
    """Lowers one group. `stage[value]` is the pass over the row in which a member is computed."""

    def __init__(self, group: Group, name: str, stored: set[Value]) -> None:
        self.group, self.stored, self.sizes = group, stored, group.sizes
        self.schedule = schedule = Schedule(group)
        code = group.code
        self.kernel = Kernel(
            name,
            group.kind,
            [],
            schedule.extents,
            frozenset(schedule.dropped),
            schedule.lane_variables,
            schedule.pair,
        )
        self.partials: dict[Value, Partial] = {}
        self.clears: list[Statement] = []
        for reduction in code.reductions:
            if reduction.how == "column":
                self._prepare_column(reduction)
        self.kernel.writes = self._writes()
        self.stage: dict[Value, int] = {}
        members: list[Reduction | Output] = [*code.reductions, *code.outputs]
        for member in members:
            earlier = [self.stage[read] for read in member.expr.reads]
            self.stage[member.value] = 1 + max(earlier, default=-1)
        self.stages = max(self.stage.values(), default=0) + 1
        self.kernel.body = self._body()

    def _body(self) -> list[Statement]:
        schedule, kind = self.schedule, self.group.kind
        if kind == MAP:
            stores: list[Statement] = [self._store(o) for o in self.group.code.outputs]
            lanes = self._lanes(schedule.lane, 1, stores)
            return self.nest(schedule.outer, lanes)
        if kind == ROWS:
            self._keep_rows()
            return self.clears + self.nest(schedule.outer, self._row_program())
        if kind == COLUMNS:
            return self.nest(schedule.outer[:-1], self._column_program())
        if kind == SCAN:
            return lower_scan(self)
        assert kind == SCATTER
        return lower_scatter(self)

    # --- loops ---------------------------------------------------------------------------------

    def nest(self, variables: list[Variable], body: list[Statement]) -> list[Statement]:
        """Scalar loops over variables, outermost first; each piece of a range is a loop."""
        for variable in reversed(variables):
            body = [
                Loop(variable, low, high, 1, body, declared)
                for low, high, declared in self.schedule.pieces(variable)
            ]
        return body

    def _lanes(
        self, variable: Variable, unroll: int, body: list[Statement], wide: bool = False
    ) -> list[Statement]:
        return [
            Lanes(variable, low, high, unroll, body, declared, wide)
            for low, high, declared in self.schedule.pieces(variable)
        ]

    def _store(self, output: Output, one_lane: bool = False) -> Store:
        return Store(output.value, output.place, output.expr, one_lane)

    # --- rows: lanes along the reduced axis ----------------------------------------------------

    def _row_program(self) -> list[Statement]:
        return [Stage(k, self._row_stage(k)) for k in range(self.stages)]

    def _members(self, stage: int) -> tuple[list[Reduction], list[Reduction], list[Output]]:
        code = self.group.code
        found = [r for r in code.reductions if self.stage[r.value] == stage]
        rows = [r for r in found if r.how == "row"]
        columns = [r for r in found if r.how == "column"]
        outputs = [o for o in code.outputs if self.stage[o.value] == stage and o.level == "full"]
        return rows, columns, outputs

    def _row_stage(self, stage: int) -> list[Statement]:
        rows, columns, outputs = self._members(stage)
        statements: list[Statement] = []
        if rows or columns or outputs:
            totals = [self.accumulator(r, self._row_registers()) for r in rows]
            body: list[Statement] = []
            body += [Accumulate(a, r.expr) for a, r in zip(totals, rows)]
            body += [self._store(output) for output in outputs]
            body += [self._column_add(r) for r in columns]
            if rows:
                statements += self._row_reduction(totals, body)
                statements += [self._result(a, across=True) for a in totals]
            else:
                lanes = self._lanes(self.schedule.lane, 1, body)
                statements += self.nest(self.schedule.inner[:-1], lanes)
        statements += [
            self._store(output, one_lane=True)
            for output in self.group.code.outputs
            if output.level == "row" and self.stage[output.value] == stage + 1
        ]
        return statements

    def _row_registers(self) -> int:
        extent = self.schedule.extents[self.schedule.lane]
        return 1 if isinstance(extent, int) and extent < STEP else 4

    def _row_reduction(self, totals: list[Accumulator], body: list[Statement]) -> list[Statement]:
        """The loops of a reduction along the lanes, in the tree that its shape fixes.

        Each run along the last axis collects in its own accumulators, which are folded into the
        total; a run of LONG_ROW or more goes in blocks of BLOCK.
        """
        schedule, domain = self.schedule, self.group.domain
        last = set(domain.variables[len(domain.sizes) - 1])
        along = [v for v in schedule.inner if v in last] or [schedule.lane]
        around = [v for v in schedule.inner if v not in along]
        unroll = totals[0].registers
        n = domain.sizes[-1]
        long = not self.sizes.below(n, LONG_ROW)
        if not around and not long:
            run = self.nest(along[:-1], self._lanes(schedule.lane, unroll, body))
            return [Reduce(totals, run)]
        parts, body = _with_parts(totals, body)
        if long:
            assert along == [schedule.lane], "a long lane axis is neither split nor cut"
            step: Bound = (
                BLOCK if self.sizes.at_most(LONG_ROW, n) else BlockStep(n, LONG_ROW, BLOCK)
            )
            low = At(BLOCKS)
            high = Least(Sum(low, step), n)
            lanes = Lanes(schedule.lane, low, high, unroll, body, (0, n))
            run = [Loop(BLOCKS, 0, n, step, _folded(totals, parts, [lanes]))]
        else:
            inner = self.nest(along[:-1], self._lanes(schedule.lane, unroll, body))
            run = _folded(totals, parts, inner)
        return [Reduce(totals, self.nest(around, run))]

    def _keep_rows(self) -> None:
        """Dear values that several stages read stay in scratch for the length of a row."""
        inner = self.schedule.inner
        n = product([self.schedule.extents[v] for v in inner])
        if self.stages == 1 or self.sizes.hint(n) * 4 > MAX_KEPT_ROW:
            return
        readers = self._stages_that_read()
        along = set(inner)
        kept = {
            expr
            for expr, stages in readers.items()
            if len(stages) > 1
            and expr.cost >= KEEP_COST
            and expr.dtype is not BOOL
            and not along.isdisjoint(expr.variables)
            and not expr.variables.isdisjoint(self.kernel.lanes)
        }
        inside = {arg for expr in kept for arg in expr.args if readers[arg] == readers[expr]}
        extents = [self.schedule.extents[v] for v in inner]
        terms = sorted(zip(inner, strides(extents)))
        self.kernel.row = Affine(0, tuple(terms))
        for expr in sorted(kept - inside, key=lambda e: e.id):
            self.kernel.kept[expr] = KeptRow(self.kernel.scratch, min(readers[expr]))
            self.kernel.scratch = self.kernel.scratch + (n + STEP) * 8

    def _stages_that_read(self) -> dict[Expr, set[int]]:
        readers: dict[Expr, set[int]] = {}

        def visit(expr: Expr, stage: int) -> None:
            known = readers.setdefault(expr, set())
            if stage not in known:
                known.add(stage)
                for arg in expr.args:
                    visit(arg, stage)

        for reduction in self.group.code.reductions:
            visit(reduction.expr, self.stage[reduction.value])
        for output in self.group.code.outputs:
            if output.level == "full":
                visit(output.expr, self.stage[output.value])
        return readers

    # --- column sums beside a row program ------------------------------------------------------

    def _prepare_column(self, reduction: Reduction) -> None:
        """Floats go to partial sums of blocks of rows, in the tree of a column sum alone."""
        domain, value = self.group.domain, reduction.value
        rows = domain.kept_size
        dtype = accumulation_dtype("reduce_sum", reduction.expr.dtype)
        few = isinstance(rows, int) and rows <= rows_per_block(rows)
        if dtype is value.type.dtype and (few or dtype.kind != "f"):
            self.clears.append(Clear(value, domain.reduced_size))
            return
        if isinstance(rows, int):
            lines: AnyDim = -(-rows // rows_per_block(rows))
        else:
            lines = self.sizes.floor_divide(rows, 32) + 1
        partial = Partial(f"{self.kernel.name}_part", dtype, domain.reduced_size, lines)
        self.partials[value] = partial
        self.clears.append(Clear(partial, domain.reduced_size * lines))

    def _column_add(self, reduction: Reduction) -> ColumnAdd:
        domain, partial = self.group.domain, self.partials.get(reduction.value)
        if partial is None:
            return ColumnAdd(reduction.value, domain.along, reduction.expr)
        rows = domain.kept_size
        block: Bound = rows_per_block(rows) if isinstance(rows, int) else RowBlock(rows)
        return ColumnAdd(
            partial, domain.along, reduction.expr, domain.kept, block, domain.reduced_size
        )

    def blocks(self) -> Bound | None:
        """The number of blocks of rows, where it is not known before the call."""
        rows = self.group.domain.kept_size
        return None if isinstance(rows, int) else RowBlocks(rows)

    def _writes(self) -> list[Value | Partial]:
        group = self.group
        written: list[Value | Partial] = [value for value, _ in group.outputs]
        for value, how in group.reductions:
            if how != "row" or value in self.stored:
                written.append(self.partials.get(value, value))
        return written

    # --- columns: lanes across results ---------------------------------------------------------

    def _column_program(self) -> list[Statement]:
        schedule = self.schedule
        extent = self.sizes.hint(schedule.extents[schedule.lane])
        cost = sum([root.cost for root in self.group.code.roots()])
        unroll = 8 if cost <= 8 else 4 if cost <= 20 else 2
        unroll = min(unroll, max(1, extent // 16))
        body: list[Statement] = [Stage(k, self._column_stage(k)) for k in range(self.stages)]
        return self._lanes(schedule.lane, unroll, body, wide=True)

    def _column_stage(self, stage: int) -> list[Statement]:
        rows, _, outputs = self._members(stage)
        statements: list[Statement] = []
        if rows or outputs:
            totals = [self.accumulator(r, 0) for r in rows]
            body: list[Statement] = [Accumulate(a, r.expr) for a, r in zip(totals, rows)]
            stores: list[Statement] = [self._store(output) for output in outputs]
            if rows:
                statements += self._column_reduction(totals, body, stores)
                statements += [self._result(a, across=False) for a in totals]
            else:
                statements += self.nest(self.schedule.inner, stores)
        statements += [
            self._store(output)
            for output in self.group.code.outputs
            if output.level == "row" and self.stage[output.value] == stage + 1
        ]
        return statements

    def _column_reduction(
        self, totals: list[Accumulator], body: list[Statement], stores: list[Statement]
    ) -> list[Statement]:
        """Rows in order, in blocks whose totals are added: the error grows with the root."""
        n = self.group.domain.reduced_size
        inner = self.schedule.inner
        floats = [a for a in totals if a.op == "reduce_sum" and a.dtype.kind == "f"]
        if not floats or (isinstance(n, int) and n <= rows_per_block(n)):
            return [Reduce(totals, self.nest(inner, body + stores))]
        block: Bound = rows_per_block(n) if isinstance(n, int) else RowBlock(n)
        parts, body = _with_parts(totals, body)
        if len(inner) == 1 and len(self.schedule.pieces(inner[0])) == 1:
            low = At(ROW_BLOCKS)
            rows = Loop(inner[0], low, Least(Sum(low, block), n), 1, body + stores, (0, n))
            run: list[Statement] = _folded(totals, parts, [rows])
            return [Reduce(totals, [Loop(ROW_BLOCKS, 0, n, block, run)])]
        place = self.group.domain.along
        flushes: list[Statement] = [Flush(t, p, place, block) for t, p in zip(totals, parts)]
        run = self.nest(inner, flushes + body + stores)
        folds: list[Statement] = [Fold(t, p) for t, p in zip(totals, parts)]
        return [Reduce(totals, [Reduce(parts, run), *folds])]

    # --- accumulators --------------------------------------------------------------------------

    def accumulator(self, reduction: Reduction, registers: int) -> Accumulator:
        value, dtype = reduction.value, reduction.expr.dtype
        assert value.node is not None
        op = value.node.op.name
        if op == "arg_reduce":
            kind = value.node.attrs["mode"]
            return Accumulator(value, f"arg_{kind}", dtype, registers, self.group.domain.along)
        return Accumulator(value, op, accumulation_dtype(op, dtype), registers)

    def _result(self, accumulator: Accumulator, across: bool) -> Result:
        stored = accumulator.value in self.stored
        return Result(accumulator, across, self.group.domain.kept, stored)


def accumulation_dtype(op: str, dtype: DType) -> DType:
    """Narrow floats are summed in f32 and rounded once at the end."""
    if dtype in (F16, BF16) and op in ("reduce_sum", "reduce_prod", "cumulative"):
        return F32
    return dtype


def _with_parts(
    totals: list[Accumulator], body: list[Statement]
) -> tuple[list[Accumulator], list[Statement]]:
    """The same updates on accumulators of their own, which are to be folded into the totals."""
    parts = {a: Accumulator(a.value, a.op, a.dtype, a.registers, a.place) for a in totals}
    changed: list[Statement] = [
        Accumulate(parts[s.accumulator], s.expr) if isinstance(s, Accumulate) else s for s in body
    ]
    return list(parts.values()), changed


def _folded(
    totals: list[Accumulator], parts: list[Accumulator], run: list[Statement]
) -> list[Statement]:
    folds: list[Statement] = [Fold(total, part) for total, part in zip(totals, parts)]
    return [Reduce(parts, run), *folds]
