"""Matrix products: the loops around the microkernel, and the kernel's entry.

Units of work are (batch, block of columns, block of rows), rows fastest. A call walks its
range by block of columns, so that a block of B is packed once for all rows of the range.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from graphc.backends.llvm.contract.dot_form import dot_function
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.epilogue import Epilogue
from graphc.backends.llvm.contract.finish import finisher
from graphc.backends.llvm.contract.gemm_block import GemmBlock
from graphc.backends.llvm.contract.gemm_schedule import (
    DOT_LEAST_K,
    DOT_MOST_ROWS,
    DOT_TILE,
    DOT_TILE_OF_ONE_ROW,
    GemmProblem,
    GemmSchedule,
    schedule_gemm,
    uses_dot,
)
from graphc.backends.llvm.contract.gemm_state import GemmState
from graphc.backends.llvm.contract.kernel import Kernel
from graphc.backends.llvm.target import Target

# (batch, first column, first row, end of rows)
Region = Callable[[Index, Index, Index, Index], None]


def gemm(
    problem: GemmProblem,
    target: Target,
    *,
    schedule: GemmSchedule | None = None,
    epilogue: Epilogue | None = None,
    b_first: bool = False,
) -> Kernel:
    """The kernel of a matrix product: operands a, b (or b, a), out and the epilogue's.

    The bits of an element depend on its row of A, its column of B, the target, and on whether
    the dot form serves (transposed B, long k, few rows), never on the schedule or the units.
    """
    if epilogue is None:
        return _plain_gemm(problem, target, schedule, b_first)
    schedule = schedule or schedule_gemm(problem, target)
    return _GemmKernel(problem, target, schedule, epilogue, b_first).kernel()


@lru_cache(maxsize=256)
def _plain_gemm(
    problem: GemmProblem, target: Target, schedule: GemmSchedule | None, b_first: bool
) -> Kernel:
    """Equal layers are written once."""
    schedule = schedule or schedule_gemm(problem, target)
    return _GemmKernel(problem, target, schedule, None, b_first).kernel()


class _GemmKernel(GemmState):
    """The entry: units, blocks, and the choice between the two forms."""

    def kernel(self) -> Kernel:
        problem, emitter = self.problem, self.entry
        if not uses_dot(problem, problem.m):
            self._walk(self._column_block)
        elif problem.m is not None and problem.k is not None:
            self._walk(self._dot_block)
            return self._finish(scratch=0)
        else:
            # The form is chosen at run time as it would be for the same sizes, known.
            few = emitter.compare("sle", self.m, DOT_MOST_ROWS)
            long = emitter.compare("sge", self.k, DOT_LEAST_K)
            emitter.when(
                emitter.value(f"and i1 {few}, {long}"),
                lambda: self._walk(self._dot_block),
                lambda: self._walk(self._column_block),
            )
        return self._finish(scratch=self.scratch_bytes)

    def _finish(self, scratch: int) -> Kernel:
        units = self._units()
        return self.builder.finish(
            "gemm",
            self.entry,
            operands=self.operands,
            sizes=self.sizes,
            units=units,
            scratch_bytes=scratch,
        )

    def _units(self) -> int | str:
        """How many units there are, or the function that says so."""
        emitter = Emitter([f"i64 %{name}" for name in self.sizes], result="i64")
        row_blocks, column_blocks = self._blocks(emitter)
        units = emitter.mul(self.batch, emitter.mul(row_blocks, column_blocks))
        if isinstance(units, int):
            return units
        emitter.line(f"ret i64 {units}")
        return self.builder.define("units", emitter)

    def _blocks(self, emitter: Emitter) -> tuple[Index, Index]:
        return (
            emitter.ceil_div(self.m, self.schedule.row_block),
            emitter.ceil_div(self.n, self.schedule.column_block),
        )

    # Loops

    def _walk(self, region: Region) -> None:
        """Blocks of columns of the range of units, each with its range of rows."""
        emitter, schedule = self.entry, self.schedule
        row_blocks, column_blocks = self._blocks(emitter)
        if row_blocks == 0 or column_blocks == 0:
            return

        def block(outer: Index, _carried: Sequence[str]) -> None:
            base = emitter.mul(outer, row_blocks)
            first = emitter.maximum(emitter.sub("%lo", base), 0)
            end = emitter.minimum(emitter.sub("%hi", base), row_blocks)
            row_end = emitter.minimum(emitter.mul(end, schedule.row_block), self.m)
            batch = emitter.floor_div_any(outer, column_blocks)
            column = emitter.mul(
                emitter.remainder(outer, batch, column_blocks), schedule.column_block
            )
            if row_blocks == 1:
                region(batch, column, 0, self.m)
            else:
                region(batch, column, emitter.mul(first, schedule.row_block), row_end)

        if row_blocks == 1:
            emitter.loop("%lo", "%hi", 1, block)
            return

        def walk() -> None:
            low = emitter.floor_div_any("%lo", row_blocks)
            last = emitter.floor_div_any(emitter.sub("%hi", 1), row_blocks)
            emitter.loop(low, emitter.add(last, 1), 1, block)

        emitter.when(emitter.less("%lo", "%hi"), walk)

    def _width(self, column: Index) -> tuple[Index, Index]:
        """(first column, how many) of the block of columns that starts there."""
        if isinstance(self.n, int) and self.n <= self.schedule.column_block:
            return 0, self.n
        rest = self.entry.sub(self.n, column)
        return column, self.entry.minimum(self.schedule.column_block, rest)

    def _column_block(self, batch: Index, column: Index, row: Index, row_end: Index) -> None:
        """Rows [row, row_end) of one block of columns of one matrix."""
        emitter, schedule = self.entry, self.schedule
        column, width = self._width(column)
        if not self.stored.is_half:
            self._k_blocks((batch, column, row), width, row_end)
            return

        def rows(at: Index, _carried: Sequence[str]) -> None:
            end = emitter.minimum(emitter.add(at, schedule.row_block), row_end)
            self._k_blocks((batch, column, at), width, end)
            extent = (emitter.sub(end, at), width)
            self._finish_region(self.scratch("c"), self.c_row, (batch, at, column), extent)

        emitter.loop(row, row_end, schedule.row_block, rows)

    def _k_blocks(self, place: tuple[Index, Index, Index], width: Index, row_end: Index) -> None:
        """All of k over `width` columns and the rows up to `row_end`, from `place` on."""
        emitter, schedule, row = self.entry, self.schedule, place[2]

        def k_block(k: Index, _carried: Sequence[str]) -> None:
            count = emitter.minimum(schedule.k_block, emitter.sub(self.k, k))
            if isinstance(self.k, int) and self.k <= schedule.k_block:
                count = self.k
            block = GemmBlock(self, place, width, (k, count))
            if schedule.pack_b:
                block.pack_b()
            if schedule.columns_first:
                block.columns(lambda at, shape: block.rows(row, row_end, at, shape))
            else:
                block.panels(row, row_end)

        # At least one block, so that a product over nothing is zero.
        emitter.loop(0, emitter.maximum(self.k, 1), schedule.k_block, k_block)

    def _dot_block(self, batch: Index, column: Index, row: Index, row_end: Index) -> None:
        """The same region by sums across lanes."""
        emitter, vector = self.entry, self.vector
        column, width = self._width(column)
        rows, columns = DOT_TILE if self.problem.m != 1 else DOT_TILE_OF_ONE_ROW
        strides = (self.problem.k, self.problem.n)
        dot = dot_function(self.builder, self.target, self.sums, (rows, columns), strides)
        a_row, b_row, c_at = row, column, emitter.mul(batch, emitter.mul(self.m, self.n))
        if self.problem.a_batched:
            a_row = emitter.add(row, emitter.mul(batch, self.m))
        if self.problem.b_batched:
            b_row = emitter.add(column, emitter.mul(batch, self.n))
        a = vector.address("%a", emitter.mul(a_row, self.k))
        b = vector.address("%b", emitter.mul(b_row, self.k))
        c_at = emitter.add(c_at, emitter.add(emitter.mul(row, self.n), column))
        c = vector.address("%out", c_at)
        height = emitter.sub(row_end, row)

        def tile(at_column: Index, at_row: Index) -> None:
            at = emitter.add(emitter.mul(at_row, self.n), at_column)
            pointers = (
                vector.address(a, emitter.mul(at_row, self.k)),
                vector.address(b, emitter.mul(at_column, self.k)),
                vector.address(c, at),
            )
            counts: dict[str, Index] = {
                "k": self.k,
                "c_row": self.n,
                "rows": emitter.sub(height, at_row),
                "columns": emitter.sub(width, at_column),
            }
            dot.call(emitter, pointers, counts)

        def panel(at_column: Index, _carried: Sequence[str]) -> None:
            emitter.loop(0, height, rows, lambda at_row, _none: tile(at_column, at_row))

        emitter.loop(0, width, columns, panel)
        if self.epilogue:
            self._finish_region(c, self.n, (batch, row, column), (height, width))

    def _finish_region(
        self,
        sums: str,
        stride: Index,
        origin: tuple[Index, Index, Index],
        extent: tuple[Index, Index],
    ) -> None:
        """Epilogue and rounding of sums that lie in rows `stride` apart, into the output.

        origin  (batch, row, column) of the first in the output
        extent  (rows, columns)
        """
        emitter, vector = self.entry, self.vector
        batch, row, column = origin
        at_row = emitter.add(emitter.mul(batch, self.m), row)
        into = emitter.add(emitter.mul(at_row, self.n), column)
        out = vector.address("%out", into, self.stored)
        finish = finisher(self.builder, vector, self.sums, self.stored, self.epilogue)
        counts: dict[str, Index] = {"rows": extent[0], "columns": extent[1]}
        counts |= {"from_stride": stride, "to_stride": self.n}
        counts |= {"batch": batch, "row": row, "column": column}
        finish.call(emitter, (sums, out, *(f"%{name}" for name in self.extra)), counts)
