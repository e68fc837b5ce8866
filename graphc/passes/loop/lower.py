"""From a group to the loop level: one kernel, or more where chunks leave partial results."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir.graph import Value

from ..fuse.affine import Variable
from ..fuse.group import (
    BLOCK,
    COLUMNS,
    LONG_ROW,
    MAP,
    ROWS,
    SCAN,
    SCATTER,
    Group,
    Output,
    Reduction,
)
from .columns import column_program, column_vectors, results_by_blocks
from .dtypes import accumulation_dtype
from .ir import (
    Accumulate,
    Accumulator,
    BlockCount,
    Bound,
    Fold,
    Kernel,
    Lanes,
    Loop,
    Partial,
    Reduce,
    Result,
    SaveRegisters,
    Stage,
    Statement,
    Store,
    block_rows,
    rows_per_block,
)
from .parallel import Candidate, point_cost, run_in_parallel
from .partial import Partials, prepare_columns, total_of_lines
from .rows import block_lanes, keep_rows, row_program, row_stage, stage_body
from .scan import lower_scan
from .scatter import lower_scatter, row_width
from .schedule import BLOCKS, ROW_BLOCKS, Schedule
from .short import short_rows
from .side_by_side import vectors_side_by_side
from .tiles import tile_candidates, tiled_map, tiled_rows

#: Lanes in a unit of a parallel lane loop.
LANE_UNIT = 256


def lower(
    group: Group, name: str, stored: set[Value], unread: set[Value], width: int, registers: int
) -> list[Kernel]:
    """The kernels of a group, in order.

    stored: the values that must be in memory afterwards. unread: those of them that no kernel of
    the program reads. width: lanes of a vector. registers: how many vectors the target holds.
    """
    lowering = Lowering(group, name, stored, unread, width, registers)
    return [*lowering.kernels, *lowering.partials.combining_kernels()]


@dataclass(slots=True)
class Members:
    """What a stage computes: reductions of rows, column sums, outputs of every point."""

    rows: list[Reduction]
    columns: list[Reduction]
    outputs: list[Output]

    def __bool__(self) -> bool:
        return bool(self.rows or self.columns or self.outputs)


class Lowering:
    """Lowers one group. `stage[value]` is the pass over the row in which a member is computed."""

    def __init__(
        self,
        group: Group,
        name: str,
        stored: set[Value],
        unread: set[Value],
        width: int,
        registers: int,
    ) -> None:
        self.group, self.sizes = group, group.sizes
        self.stored, self.unread = stored, unread
        self.width, self.registers = width, registers
        self.schedule = Schedule(group)
        self.partials = Partials(name, group.sizes)
        self.lines: list[Partial] = []  # what waits between rows, for nobody else
        self.tiled: list[Statement] | None = None
        self.rows_together = 1  # which tiles put into scratch
        self.stage: dict[Value, int] = {}
        members: list[Reduction | Output] = [*group.code.reductions, *group.code.outputs]
        for member in members:
            earlier = [self.stage[read] for read in member.expr.reads]
            self.stage[member.value] = 1 + max(earlier, default=-1)
        self.stages = max(self.stage.values(), default=0) + 1
        self.kernel = self._new_kernel(name)
        self.kernels = [self.kernel]
        if not self._long_row():
            self.kernel.body = self._body()
            chunked = bool(self.partials.lines)  # chunks own lines of partials: say which
            run_in_parallel(self.kernel, self._candidates(), self.sizes, chunked)
            self.kernel.writes = self._writes()
        self._estimate()

    def _new_kernel(self, name: str) -> Kernel:
        schedule = self.schedule
        return Kernel(
            name,
            self.group.kind,
            [],
            schedule.extents,
            frozenset(schedule.dropped),
            schedule.lane_variables,
            schedule.pair,
        )

    def _body(self) -> list[Statement]:
        schedule, kind = self.schedule, self.group.kind
        if kind == MAP:
            stores = [self.store(o) for o in self.group.code.outputs]
            self.tiled = tiled_map(self, stores)
            if self.tiled is not None:
                return self.tiled
            most = self.sizes.hint(schedule.extents[schedule.lane]) // self.width
            vectors = vectors_side_by_side(self.group.code.roots(), self.registers, most)
            return self.nest(schedule.outer, self.lanes(schedule.lane, vectors, [*stores]))
        if kind == ROWS:
            short = short_rows(self)
            if short is not None:
                return short
            keep_rows(self)
            self.tiled = tiled_rows(self)
            if self.tiled is not None:
                return self.tiled
            clears = prepare_columns(self, self.partials)
            return clears + self.nest(schedule.outer, row_program(self))
        if kind == COLUMNS:
            blocks = results_by_blocks(self, self.partials)
            if blocks is not None:
                schedule.extents[ROW_BLOCKS] = self.group.domain.reduced_size
                return blocks
            return self.nest(schedule.outer[:-1], column_program(self))
        if kind == SCAN:
            return lower_scan(self)
        assert kind == SCATTER
        return lower_scatter(self)

    # --- parallel loops ------------------------------------------------------------------------

    @property
    def rows_in_chunks(self) -> bool:
        """Whether column sums go to the lines of blocks that single chunks own."""
        columns = [r for r in self.group.code.reductions if r.how == "column"]
        floats = all([accumulation_dtype("", r.expr.dtype).kind == "f" for r in columns])
        rows = self.group.domain.kept_size
        many = not isinstance(rows, int) or rows > rows_per_block(rows)
        return len(self.schedule.outer) == 1 and floats and many

    def _candidates(self) -> list[Candidate]:
        """Loops whose steps are independent, with the steps that belong together."""
        schedule, kind, domain = self.schedule, self.group.kind, self.group.domain
        found: list[Candidate] = []
        if kind == ROWS and any([how == "column" for _, how in self.group.reductions]):
            if self.rows_in_chunks:
                found.append((schedule.outer[0], block_rows(domain.kept_size)))
            return found
        if kind == COLUMNS and self.partials.lines:
            return [(ROW_BLOCKS, block_rows(domain.reduced_size))]
        if kind == ROWS and not self.kernel.lanes.isdisjoint(schedule.outer):  # rows in lanes
            found += [(v, 1) for v in schedule.outer[:-1]]
            found.append((schedule.outer[-1], 64))
            return found
        if self.tiled is not None:
            return tile_candidates(self)
        if kind in (MAP, ROWS) or (kind == SCAN and schedule.lanes_inside):
            found += [(v, 1) for v in schedule.outer]
        elif kind == SCATTER and row_width(self) is not None:
            found.append((schedule.outer[0], 1))
        elif kind in (COLUMNS, SCAN):
            found += [(v, 1) for v in schedule.outer[:-1]]
        if kind == MAP:
            found.append((schedule.lane, self._lane_unit()))
        elif kind == COLUMNS:
            found.append((schedule.lane, max(self.width * column_vectors(self), 64)))
        elif kind == SCAN and not schedule.lanes_inside:
            found.append((schedule.lane, 64))
        return found

    def _lane_unit(self) -> int:
        if self.schedule.pair is None:
            return LANE_UNIT
        return self.schedule.pair[2] * self.width * 4

    def _writes(self) -> list[Value | Partial]:
        group = self.group
        written: list[Value | Partial] = [*self.lines, *[value for value, _ in group.outputs]]
        for value, how in group.reductions:
            if how != "row" or value in self.stored or value in self.partials.lines:
                written.append(self.partials.lines.get(value, value))
        return written

    def _estimate(self) -> None:
        exprs = self.schedule.exprs
        streams = sum([expr.op == "load" for expr in exprs]) + len(self.group.outputs)
        cost = sum([root.cost for root in self.group.code.roots()])
        kernel, points = self.kernel, self.group.domain.size
        kernel.points, kernel.point_ns = points, point_cost(cost, streams)
        kernel.work = self.sizes.hint(points) * kernel.point_ns

    # --- one long row --------------------------------------------------------------------------

    def _long_row(self) -> bool:
        """A reduction of everything: blocks in parallel leave their registers, then one total."""
        group, domain = self.group, self.group.domain
        n = domain.size
        if group.kind != ROWS or len(domain.sizes) != 1 or self.sizes.hint(n) < LONG_ROW:
            return False
        totals, body = stage_body(self, 0)
        if self.sizes.below(n, LONG_ROW) or any([a.place is not None for a in totals]):
            return False
        if not totals or any([how == "column" for _, how in group.reductions]):
            return False
        step, lanes = block_lanes(self, totals[0].registers, body)
        lines = self.sizes.floor_divide(n, BLOCK) + 1
        saved: dict[Accumulator, Partial] = {}
        for total in totals:
            columns = total.registers * self.width
            saved[total] = Partial(f"{self.kernel.name}_part", total.dtype, columns, lines)
        saves: list[Statement] = [
            SaveRegisters(total, partial, BLOCKS, step, None) for total, partial in saved.items()
        ]
        block: list[Statement] = [Reduce(totals, [lanes]), *saves]
        self.schedule.extents[BLOCKS] = n
        first = self.kernel
        first.body = [Loop(BLOCKS, 0, n, step, block, (0, n), parallel=True)]
        first.units, first.unit = n, step
        outputs = self.members(0).outputs
        first.writes = [*saved.values(), *[output.value for output in outputs]]
        self.kernels.append(self._total_kernel(saved, step))
        return True

    def _total_kernel(self, saved: dict[Accumulator, Partial], step: Bound) -> Kernel:
        kernel = self._new_kernel(f"{self.kernel.name}_total")
        kernel.kind = "total"
        statements: list[Statement] = []
        for total, partial in saved.items():
            count = self.blocks_of_long_row(step)
            statements.append(Reduce([total], [total_of_lines(total, partial, count)]))
            statements.append(self.result(total, across=True))
        statements += self.row_stores(0, one_lane=True)
        stages: list[Statement] = [Stage(0, statements)]
        stages += [Stage(k, row_stage(self, k)) for k in range(1, self.stages)]
        kernel.body = stages
        columns = next(iter(saved.values())).columns
        kernel.extents = {0: next(iter(saved.values())).lines, 1: columns}
        kernel.lanes, kernel.dropped = frozenset([1]), frozenset()
        now = {output.value for output in self.members(0).outputs}
        kernel.writes = [value for value in self._writes() if value not in now]
        return kernel

    def blocks_of_long_row(self, step: Bound) -> Bound:
        n = self.group.domain.size
        if isinstance(n, int) and isinstance(step, int):
            return -(-n // step)
        return BlockCount(n, step)

    # --- what programs are made of -------------------------------------------------------------

    def nest(self, variables: list[Variable], body: list[Statement]) -> list[Statement]:
        """Scalar loops over variables, outermost first; each piece of a range is a loop."""
        for variable in reversed(variables):
            body = [
                Loop(variable, low, high, 1, body, declared)
                for low, high, declared in self.schedule.pieces(variable)
            ]
        return body

    def lanes(
        self, variable: Variable, unroll: int, body: list[Statement], wide: bool = False
    ) -> list[Statement]:
        """Lanes along a variable; each piece of its range is a loop."""
        return [
            Lanes(variable, low, high, unroll, body, declared, wide)
            for low, high, declared in self.schedule.pieces(variable)
        ]

    def members(self, stage: int) -> Members:
        code = self.group.code
        found = [r for r in code.reductions if self.stage[r.value] == stage]
        outputs = [o for o in code.outputs if self.stage[o.value] == stage and o.level == "full"]
        return Members(
            [r for r in found if r.how == "row"],
            [r for r in found if r.how == "column"],
            outputs,
        )

    def store(self, output: Output, one_lane: bool = False) -> Store:
        return Store(output.value, output.place, output.expr, one_lane)

    def row_stores(self, stage: int, one_lane: bool) -> list[Statement]:
        """The outputs of whole rows that the results of this stage complete."""
        return [
            self.store(output, one_lane)
            for output in self.group.code.outputs
            if output.level == "row" and self.stage[output.value] == stage + 1
        ]

    def accumulator(self, reduction: Reduction, registers: int) -> Accumulator:
        value, dtype = reduction.value, reduction.expr.dtype
        assert value.node is not None
        op = value.node.op.name
        if op == "arg_reduce":
            kind = value.node.attrs["mode"]
            return Accumulator(value, f"arg_{kind}", dtype, registers, self.group.domain.along)
        return Accumulator(value, op, accumulation_dtype(op, dtype), registers)

    def result(self, accumulator: Accumulator, across: bool) -> Result:
        stored = accumulator.value in self.stored
        return Result(accumulator, across, self.group.domain.kept, stored)

    @staticmethod
    def with_parts(
        totals: list[Accumulator], body: list[Statement]
    ) -> tuple[list[Accumulator], list[Statement]]:
        """The same updates on accumulators of their own, to be folded into the totals."""
        parts = {a: Accumulator(a.value, a.op, a.dtype, a.registers, a.place) for a in totals}
        changed: list[Statement] = [
            Accumulate(parts[s.accumulator], s.expr) if isinstance(s, Accumulate) else s
            for s in body
        ]
        return list(parts.values()), changed

    @staticmethod
    def folded(
        totals: list[Accumulator], parts: list[Accumulator], run: list[Statement]
    ) -> list[Statement]:
        folds: list[Statement] = [Fold(total, part) for total, part in zip(totals, parts)]
        return [Reduce(parts, run), *folds]
