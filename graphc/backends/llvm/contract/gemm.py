"""Matrix products: the loops around the microkernel, and the kernel's entry.

Units of work are (batch, block of columns, block of rows), rows fastest. A call walks its
range by block of columns, so that a block of B is packed once for all rows of the range.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from graphc.backends.llvm.contract.amx_tile import configure, release
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.epilogue import Epilogue
from graphc.backends.llvm.contract.finish import finisher
from graphc.backends.llvm.contract.gemm_block import GemmBlock
from graphc.backends.llvm.contract.gemm_dot import dot_region
from graphc.backends.llvm.contract.gemm_form import GemmProblem, either
from graphc.backends.llvm.contract.gemm_schedule import GemmSchedule, schedule_gemm
from graphc.backends.llvm.contract.gemm_state import NONE, GemmState, Prologues
from graphc.backends.llvm.contract.kernel import Kernel
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer
from graphc.backends.llvm.target import Target

# (batch, first column, first row, end of rows)
Region = Callable[[Index, Index, Index, Index], None]


def gemm(
    problem: GemmProblem,
    target: Target,
    *,
    schedule: GemmSchedule | None = None,
    epilogue: Epilogue | None = None,
    prologues: Prologues = NONE,
    b_first: bool = False,
) -> Kernel:
    """The kernel of a matrix product: operands a, b (or b, a), out and the epilogue's.

    prologues: of a and of b; the kernel then has the prologue's operands instead.

    The bits of an element depend on its row of A, its column of B, the target and the form
    (`gemm_form.py`: sums across lanes for few rows or columns and a long k, by the sizes and
    layouts alone, known or symbolic), never on the schedule or the units.
    """
    if epilogue is None and prologues == NONE:
        return _plain_gemm(problem, target, schedule, b_first)
    schedule = schedule or schedule_gemm(problem, target)
    return _GemmKernel(problem, target, schedule, epilogue, prologues, b_first).kernel()


@lru_cache(maxsize=256)
def _plain_gemm(
    problem: GemmProblem, target: Target, schedule: GemmSchedule | None, b_first: bool
) -> Kernel:
    """Equal layers are written once."""
    schedule = schedule or schedule_gemm(problem, target)
    return _GemmKernel(problem, target, schedule, None, NONE, b_first).kernel()


class _GemmKernel(GemmState):
    """The entry: units, blocks, and the choice between the two forms."""

    def kernel(self) -> Kernel:
        emitter = self.entry
        emitter.when(
            self.dot, lambda: self._walk(self._dot_block), lambda: self._walk(self._column_block)
        )
        units = self._units()
        return self.builder.finish(
            "gemm",
            self.entry,
            operands=self.operands,
            sizes=self.sizes,
            units=units,
            scratch_bytes=self.scratch_bytes,
            over=self.over,
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
        if not self.apart:
            self._k_blocks((batch, column, row), width, row_end)
            if self.turned and self.epilogue:
                self._finish_in_place((batch, row, column), (emitter.sub(row_end, row), width))
            return

        def rows(at: Index, _carried: Sequence[str]) -> None:
            end = emitter.minimum(emitter.add(at, schedule.row_block), row_end)
            self._k_blocks((batch, column, at), width, end, emitter.less(at, emitter.add(row, 1)))
            extent = (emitter.sub(end, at), width)
            if self.turned:
                self._transpose_out((batch, at, column), extent)
            else:
                self._finish_region(self.scratch("c"), (batch, at, column), extent)

        emitter.loop(row, row_end, schedule.row_block, rows)

    def _k_blocks(
        self,
        place: tuple[Index, Index, Index],
        width: Index,
        row_end: Index,
        first: bool | str = True,
    ) -> None:
        """All of k over `width` columns and the rows up to `row_end`, from `place` on.

        first  whether these are the first rows: for others an only block of B is still packed
        """
        emitter, schedule, row = self.entry, self.schedule, place[2]

        packs = either(emitter, first, emitter.less(schedule.k_block, self.steps))

        def k_block(k: Index, _carried: Sequence[str]) -> None:
            count = emitter.minimum(schedule.k_block, emitter.sub(self.steps, k))
            if isinstance(self.steps, int) and self.steps <= schedule.k_block:
                count = self.steps
            block = GemmBlock(self, place, width, (k, count))
            if schedule.pack_b:
                emitter.when(packs, block.pack_b)
            if schedule.columns_first:
                block.columns(lambda at, shape: block.rows(row, row_end, at, shape))
            else:
                block.panels(row, row_end)

        if self.amx:
            configure(emitter, self.builder, schedule.rows)
        # At least one block, so that a product over nothing is zero.
        emitter.loop(0, emitter.maximum(self.steps, 1), schedule.k_block, k_block)
        if self.amx:
            release(emitter)

    def _dot_block(self, batch: Index, column: Index, row: Index, row_end: Index) -> None:
        """The same region by sums across lanes."""
        column, width = self._width(column)
        extent = (self.entry.sub(row_end, row), width)
        dot_region(self, (batch, row, column), extent)
        if self.epilogue:
            self._finish_in_place((batch, row, column), extent)

    def _transpose_out(
        self, origin: tuple[Index, Index, Index], extent: tuple[Index, Index]
    ) -> None:
        """Sums of a turned product from scratch into the output, whose columns are their rows."""
        emitter, vector = self.entry, self.vector
        batch, row, column = origin
        transpose = transposer(self.builder, vector, self.sums, into=self.stored, exact=True)
        side = transpose_lanes(vector)
        at_row = emitter.add(emitter.mul(batch, self.n), column)
        out = vector.address("%out", emitter.add(emitter.mul(at_row, self.m), row), self.stored)

        def some(at: Index, _carried: Sequence[str]) -> None:
            counts: dict[str, Index] = {
                "rows": emitter.minimum(emitter.sub(extent[0], at), side),
                "count": extent[1],
                "from_stride": self.c_row,
                "to_stride": self.m,
            }
            here = vector.address(self.scratch("c"), emitter.mul(at, self.c_row))
            transpose.call(emitter, (here, vector.address(out, at, self.stored)), counts)

        emitter.loop(0, extent[0], side, some)
        if self.epilogue:
            self._finish_in_place(origin, extent)

    def _finish_in_place(
        self, origin: tuple[Index, Index, Index], extent: tuple[Index, Index]
    ) -> None:
        """The epilogue over sums that lie in the output."""
        batch, row, column = origin
        if self.turned:
            origin, extent = (batch, column, row), (extent[1], extent[0])
        self._finish_region(None, origin, extent)

    def _finish_region(
        self,
        scratch: str | None,
        origin: tuple[Index, Index, Index],
        extent: tuple[Index, Index],
    ) -> None:
        """Epilogue and rounding of sums, into the output.

        scratch  where they lie; None for in the output
        origin   (batch, row, column) of the first in the output
        extent   (rows, columns)
        """
        emitter, vector = self.entry, self.vector
        batch, row, column = origin
        height, width = (self.n, self.m) if self.turned else (self.m, self.n)
        at_row = emitter.add(emitter.mul(batch, height), row)
        into = emitter.add(emitter.mul(at_row, width), column)
        out = vector.address("%out", into, self.stored)
        finish = finisher(self.builder, vector, self.sums, self.stored, self.epilogue)
        counts: dict[str, Index] = {"rows": extent[0], "columns": extent[1]}
        counts |= {"from_stride": self.c_row if scratch else width, "to_stride": width}
        counts |= {"batch": batch, "row": row, "column": column}
        finish.call(emitter, (scratch or out, out, *(f"%{name}" for name in self.extra)), counts)
