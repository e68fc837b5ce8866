"""One block of k by one block of columns: its packing, and the tiles that cover it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.element import PAIR
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.gemm_state import GemmState
from graphc.backends.llvm.contract.gemm_tile import TileShape
from graphc.backends.llvm.contract.kernel import Subroutine
from graphc.backends.llvm.contract.packing import (
    column_copier,
    row_copier,
    strip_copier,
    transpose_lanes,
    transposer,
)
from graphc.backends.llvm.contract.pairs import pair_columns, pair_rows, pair_tail
from graphc.backends.llvm.contract.prologue import (
    Prologue,
    mapped_columns,
    mapped_rows,
    mapped_transposer,
)
from graphc.backends.llvm.contract.vector import Vector

# Of the caches.
LINE_BYTES = 64

# (vectors of a panel, the columns that exist in it: None for all)
PanelShape = tuple[int, int | str | None]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one panel.

    at     the first
    tile   rows of the tile that serves them
    count  how many exist
    rest   how many may exist instead of `tile`: 0 if never fewer, None if any number
    """

    at: Index
    tile: int
    count: Index
    rest: int | None


class GemmBlock:
    """One block of k by one block of columns of one matrix."""

    def __init__(
        self,
        gemm: GemmState,
        place: tuple[Index, Index, Index],
        columns: Index,
        k: tuple[Index, Index],
    ) -> None:
        """
        place    (batch, column, row) where the block of columns starts; rows of a block in
                 scratch are counted from there
        columns  how many columns
        k        (the first, how many), in packed elements
        """
        self.gemm, self.emitter, self.vector = gemm, gemm.entry, gemm.vector
        self.batch, self.column, self.row = place
        self.first_row = self.row
        self.width = columns
        self.k, self.count = k
        batch, column = self.batch, self.column
        emitter, problem, stored = self.emitter, gemm.problem, gemm.stored
        m, n, depth = gemm.m, gemm.n, gemm.k
        at_k = emitter.mul(self.k, gemm.each)
        self.depth = self.count  # of k, as stored
        self.line = LINE_BYTES // stored.bytes
        if gemm.pairs:
            self.depth = emitter.minimum(emitter.mul(self.count, 2), emitter.sub(depth, at_k))
        a_at = emitter.mul(at_k, m) if problem.transpose_a else at_k
        b_row, b_column = (column, at_k) if problem.transpose_b else (at_k, column)
        b_at = emitter.add(emitter.mul(b_row, depth if problem.transpose_b else n), b_column)
        if problem.panel:
            b_at = emitter.add(emitter.mul(column, depth), emitter.mul(at_k, problem.panel))
        if problem.a_batched:
            a_at = emitter.add(a_at, emitter.mul(batch, emitter.mul(m, depth)))
        if problem.b_batched:
            b_at = emitter.add(b_at, emitter.mul(batch, emitter.mul(depth, n)))
        self.a = "" if gemm.map_a else self.vector.address("%a", a_at, stored)
        self.b = "" if gemm.map_b else self.vector.address("%b", b_at, stored)
        if gemm.apart:
            self.c = gemm.scratch("c")
        else:
            c_at = emitter.add(emitter.mul(batch, emitter.mul(m, n)), column)
            self.c = self.vector.address("%out", c_at, stored)
            self.first_row = 0
        more: str | bool = False
        if gemm.blocked:
            more = emitter.less(emitter.add(self.k, gemm.schedule.k_block), gemm.steps)
            self._first = self._flag(emitter.less(self.k, 1))
            self._last = emitter.sub(1, self._flag(more))
        self.packed_a, self.packed_b = gemm.scratch("a"), gemm.scratch("b")
        if "b" in gemm.ahead:
            self.next_b = self._next_block_of_b(more)

    # Columns

    def columns(self, body: Callable[[Index, PanelShape], None]) -> None:
        """Panels of the block: body(first column, (vectors, columns that exist))."""
        emitter, gemm = self.emitter, self.gemm
        full = emitter.round_down(self.width, gemm.columns)
        known = gemm.problem.n
        if known is None or known >= gemm.columns:

            def one(at: Index, _carried: Sequence[str]) -> None:
                body(at, (gemm.schedule.vectors, None))

            emitter.loop(0, full, gemm.columns, one)
        if known is None:
            emitter.when(
                emitter.less(full, self.width),
                lambda: body(full, (gemm.schedule.vectors, "run time")),
            )
        elif known % gemm.columns:
            rest = known % gemm.columns
            vectors = -(-rest // self.vector.lanes)
            exist = rest if rest % self.vector.lanes else None
            emitter.when(emitter.less(full, self.width), lambda: body(full, (vectors, exist)))

    def pack_b(self) -> None:
        emitter, gemm, vector = self.emitter, self.gemm, self.vector
        if gemm.map_b:
            self.columns(self._map_panel_of_b)
            return
        if gemm.problem.transpose_b:
            transpose = self._transposer()
            side = transpose_lanes(vector)

        def panel(at: Index, shape: PanelShape) -> None:
            vectors, _ = shape
            there = vector.address(self.packed_b, emitter.mul(at, gemm.schedule.k_block))
            columns = self._existing(at, shape)
            if not gemm.problem.transpose_b:
                source = vector.address(self.b, at, gemm.stored)
                strides = gemm.n, gemm.columns
                self._copy_columns((source, there), columns, vectors, strides)
                return

            def group(first: Index, _carried: Sequence[str]) -> None:
                source = emitter.mul(emitter.add(at, first), gemm.k)
                transpose.call(
                    emitter,
                    (
                        vector.address(self.b, source, gemm.stored),
                        vector.address(there, first),
                    ),
                    {
                        "rows": emitter.minimum(emitter.sub(columns, first), side),
                        "count": emitter.floor_div(self.depth, gemm.each),
                        "from_stride": gemm.k,
                        "to_stride": gemm.columns,
                    },
                )

            emitter.loop(0, columns, side, group)
            if gemm.pairs and not self._whole:
                counts: dict[str, Index] = {"rows": columns, "depth": self.depth}
                counts |= {"count": self.count, "from_stride": gemm.k, "to_stride": gemm.columns}
                tail = pair_tail(gemm.builder, gemm.target, vectors)
                source = vector.address(self.b, emitter.mul(at, gemm.k), gemm.stored)
                tail.call(emitter, (source, there), counts)

        self.columns(panel)

    @property
    def _whole(self) -> bool:
        """Whether pairs are all there is along k."""
        return isinstance(self.gemm.k, int) and self.gemm.k == self.gemm.steps * self.gemm.each

    def _transposer(self) -> Subroutine:
        """Of the stored matrix, for the whole pairs of its rows if there are pairs."""
        gemm = self.gemm
        if not gemm.pairs:
            return transposer(gemm.builder, self.vector, gemm.stored)
        of_pairs = Vector(self.emitter, PAIR, gemm.target)
        return transposer(gemm.builder, of_pairs, PAIR, strides=gemm.stored)

    def _copy_columns(
        self,
        pointers: tuple[str, str],
        columns: Index,
        vectors: int,
        strides: tuple[Index, Index],
    ) -> None:
        """Copy some columns of the rows of k of a stored matrix to packed rows of vectors."""
        gemm = self.gemm
        known = columns if isinstance(columns, int) else None
        counts: dict[str, Index] = {"columns": columns, "count": self.count, "rows": self.depth}
        counts |= {"from_stride": strides[0], "to_stride": strides[1]}
        if gemm.pairs:
            copier = pair_columns(gemm.builder, gemm.target, known, vectors)
        else:
            copier = column_copier(gemm.builder, self.vector, gemm.stored, known, vectors)
        copier.call(self.emitter, pointers, counts)

    def _existing(self, at: Index, shape: PanelShape) -> Index:
        """How many columns of the panel exist."""
        vectors, exist = shape
        if exist == "run time":
            return self.emitter.sub(self.width, at)
        return vectors * self.vector.lanes if exist is None else int(exist)

    # Rows

    def panels(self, row: Index, row_end: Index) -> None:
        """Rows outermost: each panel of A, packed or in place, over all columns."""

        def panel(rows: _Rows) -> None:
            a = self._panel_of_a(rows)
            self.columns(lambda column, shape: self._tile(a, rows, column, shape))

        if not self.gemm.strip:
            self._each_panel(row, row_end, panel)
            return
        emitter, strip = self.emitter, self.gemm.strip

        def some(at: Index, _carried: Sequence[str]) -> None:
            end = emitter.minimum(emitter.add(at, strip), row_end)
            self._pack_strip(at, end)
            self._each_panel(at, end, panel)

        emitter.loop(row, row_end, strip, some)

    def rows(self, row: Index, row_end: Index, column: Index, shape: PanelShape) -> None:
        """Columns outermost: all rows over one panel of columns."""
        self._each_panel(
            row, row_end, lambda rows: self._tile(self._panel_of_a(rows), rows, column, shape)
        )

    def _each_panel(self, row: Index, row_end: Index, body: Callable[["_Rows"], None]) -> None:
        emitter, rows, known = self.emitter, self.gemm.schedule.rows, self.gemm.problem.m
        if known is not None:
            rest = known % rows

            def one(at: Index, _carried: Sequence[str]) -> None:
                left = emitter.sub(row_end, at) if rest else rows
                body(_Rows(at, rows, emitter.minimum(left, rows), rest))

            emitter.loop(row, row_end, rows, one)
            return
        span = emitter.sub(row_end, row)
        full_end = emitter.add(row, emitter.round_down(span, rows))
        emitter.loop(row, full_end, rows, lambda at, _none: body(_Rows(at, rows, rows, 0)))
        step = self.gemm.rest_rows

        def some(at: Index, _carried: Sequence[str]) -> None:
            count = emitter.minimum(emitter.sub(row_end, at), step)
            body(_Rows(at, step, count, None))

        emitter.loop(full_end, row_end, step, some)

    def _pack_strip(self, row: Index, row_end: Index) -> None:
        """The panels of rows [row, row_end) of a transposed A."""
        emitter, gemm, vector = self.emitter, self.gemm, self.vector
        self.strip_row = row
        copier = strip_copier(gemm.builder, vector, gemm.stored, gemm.schedule.rows)
        counts: dict[str, Index] = {"columns": emitter.sub(row_end, row), "count": self.count}
        counts |= {"from_stride": gemm.m, "to_stride": gemm.a_strip}
        source = vector.address(self.a, row, gemm.stored)
        copier.call(emitter, (source, self.packed_a), counts)

    def _panel_in_strip(self, row: Index) -> str:
        """Where the row is in the strip: the first of a panel, or of a part of the last."""
        emitter, gemm = self.emitter, self.gemm
        at = emitter.sub(row, self.strip_row)
        panel = emitter.floor_div(at, gemm.schedule.rows)
        within = emitter.sub(at, emitter.mul(panel, gemm.schedule.rows))
        return self.vector.address(
            self.packed_a, emitter.add(emitter.mul(panel, gemm.a_strip), within)
        )

    def _panel_of_a(self, rows: "_Rows") -> str:
        """The address of A's rows from `at` on, as the tile reads them."""
        emitter, gemm, vector = self.emitter, self.gemm, self.vector
        step = 1 if gemm.problem.transpose_a else gemm.k
        if gemm.map_a:
            self._map_panel_of_a(rows)
            return self.packed_a
        if gemm.strip:
            return self._panel_in_strip(rows.at)
        source = vector.address(self.a, emitter.mul(rows.at, step), gemm.stored)
        if not gemm.schedule.pack_a:
            return source
        if not gemm.problem.transpose_a:
            counts: dict[str, Index] = {"rows": rows.count, "count": self.count}
            counts |= {"depth": self.depth, "from_stride": gemm.k, "to_stride": gemm.a_panel_row}
            if gemm.pairs:
                copier = pair_rows(gemm.builder, gemm.target)
            else:
                copier = row_copier(gemm.builder, vector, gemm.stored)
            copier.call(emitter, (source, self.packed_a), counts)
            return self.packed_a

        def pack(exist: Index) -> None:
            vectors = -(-rows.tile // vector.lanes)
            if gemm.amx:
                self._turn_a(source, exist, vectors * vector.lanes)
                return
            strides = gemm.m, gemm.a_panel_k
            self._copy_columns((source, self.packed_a), exist, vectors, strides)

        self._by_rows(rows, pack)
        return self.packed_a

    def _turn_a(self, source: str, rows: Index, width: int) -> None:
        """Rows of a transposed A in pairs: first [k / 2, width], then turned."""
        emitter, gemm = self.emitter, self.gemm
        of_pairs = Vector(emitter, PAIR, gemm.target)
        copy = of_pairs.address(self.packed_a, gemm.a_turned)
        self._copy_columns((source, copy), rows, width // of_pairs.lanes, (gemm.m, width))
        transpose, side = transposer(gemm.builder, of_pairs, PAIR), transpose_lanes(of_pairs)

        def group(at: Index, _carried: Sequence[str]) -> None:
            here = of_pairs.address(copy, emitter.mul(at, width))
            counts: dict[str, Index] = {"rows": side, "count": rows}
            counts |= {"from_stride": width, "to_stride": gemm.a_panel_row}
            transpose.call(emitter, (here, of_pairs.address(self.packed_a, at)), counts)

        emitter.loop(0, self.count, side, group)

    # Operands that are computed where they are packed

    def _map_panel_of_a(self, rows: "_Rows") -> None:
        """The rows of a tile into scratch, from A's prologue."""
        gemm, vector = self.gemm, self.vector
        prologue = gemm.map_a
        assert prologue is not None
        counts: dict[str, Index] = {"batch": self.batch if gemm.problem.a_batched else 0}
        if not gemm.problem.transpose_a:
            counts |= {"rows": rows.count, "count": self.count, "to_stride": gemm.a_panel_row}
            counts |= {"row": rows.at, "column": self.k}
            self._map(mapped_rows(gemm.builder, vector, prologue), prologue, self.packed_a, counts)
            return
        counts |= {"count": self.count, "to_stride": gemm.a_panel_k}
        counts |= {"row": self.k, "column": rows.at}

        def pack(exist: Index) -> None:
            known = exist if isinstance(exist, int) else None
            vectors = -(-rows.tile // vector.lanes)
            routine = mapped_columns(gemm.builder, vector, prologue, known, vectors)
            self._map(routine, prologue, self.packed_a, counts | {"columns": exist})

        self._by_rows(rows, pack)

    def _map_panel_of_b(self, at: Index, shape: PanelShape) -> None:
        """A panel of B into scratch, from B's prologue."""
        emitter, gemm, vector = self.emitter, self.gemm, self.vector
        prologue = gemm.map_b
        assert prologue is not None
        there = vector.address(self.packed_b, emitter.mul(at, gemm.schedule.k_block))
        columns, first = self._existing(at, shape), emitter.add(self.column, at)
        counts: dict[str, Index] = {"batch": self.batch if gemm.problem.b_batched else 0}
        counts |= {"count": self.count, "to_stride": gemm.columns}
        if not gemm.problem.transpose_b:
            known = columns if isinstance(columns, int) else None
            routine = mapped_columns(gemm.builder, vector, prologue, known, shape[0])
            counts |= {"columns": columns, "row": self.k, "column": first}
            self._map(routine, prologue, there, counts)
            return
        routine = mapped_transposer(gemm.builder, vector, prologue)
        side = transpose_lanes(vector)

        def group(some: Index, _carried: Sequence[str]) -> None:
            rows = emitter.minimum(emitter.sub(columns, some), side)
            place = {"row": emitter.add(first, some), "column": self.k}
            into = vector.address(there, some)
            self._map(routine, prologue, into, counts | {"rows": rows} | place)

        emitter.loop(0, columns, side, group)

    def _map(
        self, routine: Subroutine, prologue: Prologue, there: str, counts: Mapping[str, Index]
    ) -> None:
        pointers = (*(f"%{name}" for name in prologue.operands), there)
        routine.call(self.emitter, pointers, counts)

    def _by_rows(self, rows: "_Rows", body: Callable[[Index], None]) -> None:
        """body(rows that exist), written once for each number that is known."""
        if not rows.rest:
            body(rows.count)
            return
        whole = self.emitter.less(rows.tile - 1, rows.count)
        self.emitter.when(whole, lambda: body(rows.tile), lambda: body(rows.rest))

    def _tile(self, a: str, rows: "_Rows", column: Index, shape: PanelShape) -> None:
        emitter, gemm, vector = self.emitter, self.gemm, self.vector
        vectors, exist = shape
        if gemm.schedule.pack_b:
            b = vector.address(self.packed_b, emitter.mul(column, gemm.schedule.k_block))
        else:
            b = vector.address(self.b, self._column_of_b(column), gemm.stored)
        row = emitter.sub(rows.at, self.first_row)
        c_at = emitter.add(emitter.mul(row, gemm.c_row), column)
        c = vector.address(self.c, c_at, gemm.sums if gemm.apart else gemm.stored)
        indices: dict[str, Index] = {
            "k": self.count,
            "a_row": emitter.floor_div(gemm.k, gemm.each),
            "a_k": gemm.m,
            "b_k": gemm.n,
            "c_row": gemm.c_row,
            "columns": self._existing(column, shape),
            "rows": rows.count,
        }
        if gemm.blocked:
            indices |= {"first": self._first, "last": self._last}
        if gemm.tile_epilogue:
            indices |= {"batch": self.batch, "row": rows.at}
            indices["column"] = emitter.add(self.column, column)
        extra = gemm.extra if gemm.tile_epilogue else ()
        pointers = [a, b, c, *(f"%{name}" for name in extra)]
        if gemm.amx:
            pointers = [a, b, c, gemm.scratch("tile")]
        if "a" in gemm.ahead:
            next_a, indices["next_a_step"] = self._ahead_of_a(rows, a)
            pointers.append(next_a)
        if "b" in gemm.ahead:
            next_b, indices["next_b_step"] = self._ahead_of_b(rows, column)
            pointers.append(next_b)

        def call(count: Index) -> None:
            known = count if isinstance(count, int) else rows.tile
            tile = gemm.tile(TileShape(known, vectors, exist, rest=rows.rest is None))
            tile.call(emitter, pointers, indices)

        self._by_rows(rows, call)

    def _ahead_of_a(self, rows: "_Rows", a: str) -> tuple[str, Index]:
        """(the first line, elements to the next) of the panel of A after these rows."""
        after = self.emitter.mul(self.gemm.k, rows.tile)
        return self.vector.address(a, after, self.gemm.stored), self.line

    def _ahead_of_b(self, rows: "_Rows", column: Index) -> tuple[str, Index]:
        """(the first line, elements to the next) of what a tile fetches of the next block of B.

        Each has as many lines as k has steps: one of each row of a block, or of a transposed B one
        after the other. Tiles that find nothing left fetch the first again.
        """
        emitter, gemm = self.emitter, self.gemm
        above = emitter.floor_div(emitter.sub(rows.at, self.row), rows.tile)
        across = emitter.ceil_div(self.width, gemm.columns)
        number = emitter.add(emitter.mul(above, across), emitter.floor_div(column, gemm.columns))
        at = emitter.mul(number, self.line)
        left = self._flag(emitter.less(at, self.width))
        step = gemm.n
        if gemm.problem.transpose_b:
            at, step = emitter.mul(at, gemm.k), self.line
        place = self.vector.address(self.next_b, emitter.mul(at, left), gemm.stored)
        return place, emitter.mul(step, left)

    def _next_block_of_b(self, more: str | bool) -> str:
        """Where the block of B begins that is used after this one: below it where there is `more`
        of k, else at the top of the columns beside it, or of the next matrix."""
        emitter, gemm, n = self.emitter, self.gemm, self.gemm.n
        row, across = (1, gemm.k) if gemm.problem.transpose_b else (n, 1)
        end = emitter.add(self.column, self.width)
        last = self._flag(emitter.less(n, emitter.add(end, 1)))
        matrix = emitter.mul(gemm.k, n) if gemm.problem.b_batched else 0
        wrapped = emitter.mul(last, emitter.sub(matrix, emitter.mul(end, across)))
        beside = emitter.add(emitter.mul(self.width, across), wrapped)
        top = emitter.sub(beside, emitter.mul(self.k, row))
        below = emitter.mul(self.count, row)
        after = emitter.add(top, emitter.mul(self._flag(more), emitter.sub(below, top)))
        return self.vector.address(self.b, after, gemm.stored)

    def _column_of_b(self, column: Index) -> Index:
        """Where a column of the block begins in a B that is read in place."""
        emitter, panel = self.emitter, self.gemm.problem.panel
        if not panel:
            return column
        first = emitter.round_down(column, panel)
        within = emitter.mul(emitter.sub(column, first), self.gemm.each)
        return emitter.add(emitter.mul(first, self.gemm.k), within)

    def _flag(self, condition: str | bool) -> Index:
        if isinstance(condition, bool):
            return int(condition)
        return self.emitter.value(f"zext i1 {condition} to i64")
