"""A region of a product in the dot form: roles, the transposed copy of a narrow B, the tiles."""

from collections.abc import Sequence

from graphc.backends.llvm.contract.dot_form import dot_function, dot_tile
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.gemm_form import DOT_FEW, GemmProblem
from graphc.backends.llvm.contract.gemm_state import GemmState
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer


def by_columns(problem: GemmProblem) -> bool:
    """Whether B is the operand of few rows in a tile, and A is read once.

    That is how a B that was transposed into scratch is used; else the smaller of the two.
    """
    m, n = problem.m, problem.n
    return not problem.transpose_b or (n is not None and n <= DOT_FEW and (m is None or m > n))


def dot_region(
    gemm: GemmState, place: tuple[Index, Index, Index], extent: tuple[Index, Index]
) -> None:
    """The sums of `extent` (rows, columns) from `place` (batch, row, column) on."""
    emitter, vector, problem = gemm.entry, gemm.vector, gemm.problem
    batch, row, column = place
    height, width = extent
    a_at, b_at, c_at = row, column, emitter.add(emitter.mul(row, gemm.n), column)
    if problem.a_batched:
        a_at = emitter.add(a_at, emitter.mul(batch, gemm.m))
    a = vector.address("%a", emitter.mul(a_at, gemm.k), gemm.stored)
    if problem.transpose_b:
        if problem.b_batched:
            b_at = emitter.add(b_at, emitter.mul(batch, gemm.n))
        b, b_row = vector.address("%b", emitter.mul(b_at, gemm.k), gemm.stored), gemm.k
    else:
        if problem.b_batched:
            b_at = emitter.add(b_at, emitter.mul(batch, emitter.mul(gemm.k, gemm.n)))
        b = vector.address("%b", b_at, gemm.stored)
        b, b_row = (b, 1) if gemm.pairs else (_along_k(gemm, b, width), gemm.dot_row)
    c_at = emitter.add(c_at, emitter.mul(batch, emitter.mul(gemm.m, gemm.n)))
    c = vector.address("%out", c_at, gemm.stored)
    a_side, b_side = (a, gemm.k, height, gemm.n), (b, b_row, width, 1)
    swapped = by_columns(problem)
    few, many = (b_side, a_side) if swapped else (a_side, b_side)
    known = (problem.n, problem.m) if swapped else (problem.m, problem.n)
    _tiles(gemm, dot_tile(gemm.target, *known), few, many, c)


# (address, elements between rows, how many rows, elements between their results)
Side = tuple[str, Index, Index, Index]


def _tiles(gemm: GemmState, shape: tuple[int, int], few: Side, many: Side, c: str) -> None:
    """Tiles over all rows of `few` for some rows of `many`, then for the next."""
    emitter, vector = gemm.entry, gemm.vector
    rows, columns = shape
    counts: dict[str, Index] = {"k": gemm.k, "a_row": few[1], "b_row": many[1]}
    counts |= {"c_row": few[3], "c_column": many[3]}
    strides = {name: size if isinstance(size, int) else None for name, size in counts.items()}
    dot = dot_function(gemm.builder, gemm.target, gemm.stored, (rows, columns), strides)

    def panel(at_many: Index, _carried: Sequence[str]) -> None:
        def tile(at_few: Index, _none: Sequence[str]) -> None:
            at = emitter.add(emitter.mul(at_few, few[3]), emitter.mul(at_many, many[3]))
            pointers = (
                vector.address(few[0], emitter.mul(at_few, few[1]), gemm.stored),
                vector.address(many[0], emitter.mul(at_many, many[1]), gemm.stored),
                vector.address(c, at, gemm.stored),
            )
            exist: dict[str, Index] = {
                "rows": emitter.sub(few[2], at_few),
                "columns": emitter.sub(many[2], at_many),
            }
            dot.call(emitter, pointers, counts | exist)

        emitter.loop(0, few[2], rows, tile)

    emitter.loop(0, many[2], columns, panel)


def _along_k(gemm: GemmState, b: str, width: Index) -> str:
    """The address of `width` columns of B along k: a copy, or B where that is one column."""
    emitter, copy = gemm.entry, gemm.scratch("b")
    several = emitter.less(1, gemm.n)
    emitter.when(several, lambda: _transpose(gemm, b, copy, width))
    if isinstance(several, bool):
        return copy
    return emitter.value(f"select i1 {several}, ptr {copy}, ptr {b}")


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
