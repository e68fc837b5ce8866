"""A region of a product in the dot form: roles, the transposed copy of a narrow B, the tiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.dot_form import dot_function, dot_tile, tiles_ahead
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.gemm_form import DOT_FEW, GemmProblem
from graphc.backends.llvm.contract.gemm_state import GemmState
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer
from graphc.backends.llvm.contract.prologue import Prologue, mapped_rows, mapped_transposer

# An operand of more bytes is not expected in the second cache: its rows are fetched ahead.
FETCHED_BYTES = 512 << 10


def by_columns(problem: GemmProblem) -> bool:
    """Whether B is the operand of few rows in a tile, and A is read once.

    That is how a B that was transposed into scratch is used; else the smaller of the two.
    """
    m, n = problem.m, problem.n
    return not problem.transpose_b or (n is not None and n <= DOT_FEW and (m is None or m > n))


@dataclass(frozen=True, slots=True)
class _Side:
    """An operand's rows.

    address       of the first; of the scratch for copies where they are computed
    row           elements between rows
    count         how many there are
    result        elements between their results
    first, batch  the first one's number in the operand, and its matrix
    """

    address: str
    row: Index
    count: Index
    result: Index
    prologue: Prologue | None
    first: Index
    batch: Index


def dot_region(
    gemm: GemmState, place: tuple[Index, Index, Index], extent: tuple[Index, Index]
) -> None:
    """The sums of `extent` (rows, columns) from `place` (batch, row, column) on."""
    emitter, vector, problem = gemm.entry, gemm.vector, gemm.problem
    batch, row, column = place
    height, width = extent
    c_at = emitter.add(emitter.mul(row, gemm.n), column)
    a_batch = batch if problem.a_batched else 0
    b_batch = batch if problem.b_batched else 0
    a, a_row = gemm.scratch("a"), gemm.dot_row
    if not gemm.map_a:
        a_at, a_row = emitter.add(row, emitter.mul(a_batch, gemm.m)), gemm.k
        a = vector.address("%a", emitter.mul(a_at, gemm.k), gemm.stored)
    b, b_row = gemm.scratch("b"), gemm.dot_row
    if problem.transpose_b and not gemm.map_b:
        b_at, b_row = emitter.add(column, emitter.mul(b_batch, gemm.n)), gemm.k
        b = vector.address("%b", emitter.mul(b_at, gemm.k), gemm.stored)
    elif not problem.transpose_b:
        b, b_row = _along_k(gemm, b_batch, column, width)
    c_at = emitter.add(c_at, emitter.mul(batch, emitter.mul(gemm.m, gemm.n)))
    c = vector.address("%out", c_at, gemm.stored)
    a_side = _Side(a, a_row, height, gemm.n, gemm.map_a, row, a_batch)
    b_map = gemm.map_b if problem.transpose_b else None
    b_side = _Side(b, b_row, width, 1, b_map, column, b_batch)
    swapped = by_columns(problem)
    few, many = (b_side, a_side) if swapped else (a_side, b_side)
    known = (problem.n, problem.m) if swapped else (problem.m, problem.n)
    if few.prologue:
        _compute(gemm, few, 0, few.count)
    shape = dot_tile(gemm.target, *known)
    if many.prologue and _in_registers(many.prologue, known[0], shape[0]):
        _tiles_of_computed(gemm, shape, few, many, c)
    else:
        batched = problem.a_batched if swapped else problem.b_batched
        matrices = problem.batch if batched else 1
        _tiles(gemm, shape, few, many, c, _fetched(gemm, shape, known, (many, matrices)))


def _in_registers(prologue: Prologue, few: int | None, height: int) -> bool:
    """Whether rows are computed in the tile: it has all of the few, and room for the code."""
    return few is not None and few <= (1 if prologue.long else height)


def _compute(gemm: GemmState, side: _Side, at: Index, count: Index) -> None:
    """`count` rows of a side from `at` on into its scratch, from its prologue."""
    prologue = side.prologue
    assert prologue is not None
    routine = mapped_rows(gemm.builder, gemm.vector, prologue)
    counts: dict[str, Index] = {"rows": count, "count": gemm.k, "to_stride": side.row}
    counts |= {"batch": side.batch, "row": gemm.entry.add(side.first, at), "column": 0}
    pointers = (*(f"%{name}" for name in prologue.operands), side.address)
    routine.call(gemm.entry, pointers, counts)


def _counts(gemm: GemmState, few: _Side, many: _Side) -> dict[str, Index]:
    counts: dict[str, Index] = {"k": gemm.k, "a_row": few.row, "b_row": many.row}
    return counts | {"c_row": few.result, "c_column": many.result}


def _known(counts: Mapping[str, Index]) -> dict[str, int | None]:
    return {name: size if isinstance(size, int) else None for name, size in counts.items()}


def _tiles(
    gemm: GemmState, shape: tuple[int, int], few: _Side, many: _Side, c: str, fetched: int
) -> None:
    """Tiles over all rows of `few` for some rows of `many`, then for the next.

    fetched  how many rows of `many` to come each of them fetches
    """
    emitter, vector = gemm.entry, gemm.vector
    rows, columns = shape
    counts = _counts(gemm, few, many)
    dot = dot_function(gemm.builder, gemm.target, gemm.stored, shape, _known(counts), None, fetched)
    ahead = columns * tiles_ahead(columns, _row_bytes(gemm, many)) if fetched else 0

    def panel(at_many: Index, _carried: Sequence[str]) -> None:
        if many.prologue:
            left = emitter.minimum(emitter.sub(many.count, at_many), columns)
            _compute(gemm, many, at_many, left)
            many_rows = many.address
        else:
            at_row = emitter.mul(at_many, many.row)
            many_rows = vector.address(many.address, at_row, gemm.stored)

        def tile(at_few: Index, _none: Sequence[str]) -> None:
            at = emitter.add(emitter.mul(at_few, few.result), emitter.mul(at_many, many.result))
            pointers = [
                vector.address(few.address, emitter.mul(at_few, few.row), gemm.stored),
                many_rows,
                vector.address(c, at, gemm.stored),
            ]
            if fetched:
                share = emitter.mul(emitter.floor_div(at_few, rows), fetched)
                start = emitter.add(emitter.minimum(share, columns - fetched), ahead)
                at_next = emitter.mul(start, many.row)
                pointers.append(vector.address(many_rows, at_next, gemm.stored))
            exist: dict[str, Index] = {
                "rows": emitter.sub(few.count, at_few),
                "columns": emitter.sub(many.count, at_many),
            }
            dot.call(emitter, pointers, counts | exist)

        emitter.loop(0, few.count, rows, tile)

    emitter.loop(0, many.count, columns, panel)


def _row_bytes(gemm: GemmState, side: _Side) -> int:
    return side.row * gemm.stored.bytes if isinstance(side.row, int) else 0


def _fetched(
    gemm: GemmState,
    shape: tuple[int, int],
    counts: tuple[int | None, int | None],
    many: tuple[_Side, int | None],
) -> int:
    """How many of the rows to come each tile fetches, so that the tiles of one panel fetch one.

    counts  of the few rows and of the many
    many    the side of the many, and its matrices
    """
    side, matrices = many
    rows, columns = shape
    few, count = counts
    if side.prologue or (matrices or 0) * (count or 0) * _row_bytes(gemm, side) <= FETCHED_BYTES:
        return 0
    return -(-columns // -(-few // rows)) if few else columns


def _tiles_of_computed(
    gemm: GemmState, shape: tuple[int, int], few: _Side, many: _Side, c: str
) -> None:
    """One tile has all rows of `few`, so the rows of `many` are computed in its registers."""
    emitter, vector, prologue = gemm.entry, gemm.vector, many.prologue
    assert prologue is not None
    counts = _counts(gemm, few, many)
    del counts["b_row"]
    dot = dot_function(gemm.builder, gemm.target, gemm.stored, shape, _known(counts), prologue)
    computed = tuple([f"%{name}" for name in prologue.operands])

    def tile(at: Index, _carried: Sequence[str]) -> None:
        out = vector.address(c, emitter.mul(at, many.result))
        exist: dict[str, Index] = {
            "rows": few.count,
            "columns": emitter.sub(many.count, at),
            "batch": many.batch,
            "row": emitter.add(many.first, at),
        }
        dot.call(emitter, (few.address, *computed, out), counts | exist)

    emitter.loop(0, many.count, shape[1], tile)


def _along_k(gemm: GemmState, batch: Index, column: Index, width: Index) -> tuple[str, Index]:
    """(address, elements between them) of `width` columns of B along k: a copy, or B where that is
    one column. Of pairs it is one always."""
    emitter, copy = gemm.entry, gemm.scratch("b")
    if gemm.map_b:
        _transpose_computed(gemm, gemm.map_b, (batch, column), width)
        return copy, gemm.dot_row
    at = emitter.add(column, emitter.mul(batch, emitter.mul(gemm.k, gemm.n)))
    b = gemm.vector.address("%b", at, gemm.stored)
    if gemm.pairs:
        return b, 1
    several = emitter.less(1, gemm.n)
    emitter.when(several, lambda: _transpose(gemm, b, copy, width))
    if isinstance(several, bool):
        return copy, gemm.dot_row
    return emitter.value(f"select i1 {several}, ptr {copy}, ptr {b}"), gemm.dot_row


def _transpose_computed(
    gemm: GemmState, prologue: Prologue, place: tuple[Index, Index], width: Index
) -> None:
    """All of k of `width` columns of B from `place` (batch, column) on, each a row of scratch."""
    emitter, vector = gemm.entry, gemm.vector
    routine = mapped_transposer(gemm.builder, vector, prologue)
    side = transpose_lanes(vector)
    pointers = [f"%{name}" for name in prologue.operands]

    def group(k: Index, _carried: Sequence[str]) -> None:
        counts: dict[str, Index] = {
            "rows": emitter.minimum(emitter.sub(gemm.k, k), side),
            "count": width,
            "to_stride": gemm.dot_row,
            "batch": place[0],
            "row": k,
            "column": place[1],
        }
        routine.call(emitter, (*pointers, vector.address(gemm.scratch("b"), k)), counts)

    emitter.loop(0, gemm.k, side, group)


def _transpose(gemm: GemmState, source: str, destination: str, width: Index) -> None:
    """All of k of `width` columns of B, each a row of scratch."""
    emitter, vector = gemm.entry, gemm.vector
    transpose = transposer(gemm.builder, vector, gemm.stored)
    side = transpose_lanes(vector)

    def group(k: Index, _carried: Sequence[str]) -> None:
        counts: dict[str, Index] = {
            "rows": emitter.minimum(emitter.sub(gemm.k, k), side),
            "count": width,
            "from_stride": gemm.n,
            "to_stride": gemm.dot_row,
        }
        there = vector.address(destination, k)
        transpose.call(emitter, (vector.address(source, emitter.mul(k, gemm.n)), there), counts)

    emitter.loop(0, gemm.k, side, group)
