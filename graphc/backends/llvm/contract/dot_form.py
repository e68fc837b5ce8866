"""Products with transposed B and few rows: lanes along k, then one sum across lanes.

Neither operand is packed: both run along k. A tile of rows and columns shares its loads;
tiles at the edge repeat their last row or column, and write the same values twice. Each
element is `lanes` chains in the order of k, added by a fixed tree.
"""

from collections.abc import Sequence

from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target


def dot_function(
    builder: KernelBuilder,
    target: Target,
    of: Element,
    shape: tuple[int, int],
    strides: tuple[int | None, int | None],
) -> Subroutine:
    """The subroutine of a tile of `shape` (rows, columns): c[i, j] = A's row i . B's row j.

    strides  (k, elements between rows of c), None where only the caller knows
    Pointers a, b, c; indices k, c_row, and the counts `rows` and `columns` that exist.
    """
    rows, columns = shape
    known_k, known_c = strides
    indices = {"k": known_k, "c_row": known_c, "rows": None, "columns": None}
    routine = Subroutine(("a", "b", "c"), indices)
    emitter, values = routine.emitter, routine.values
    vector = Vector(emitter, of, target)
    lanes, k = vector.lanes, values["k"]

    def clipped(count: int, exist: Index) -> list[Index]:
        last = emitter.sub(exist, 1)
        return [emitter.minimum(at, last) for at in range(count)]

    at_rows = clipped(rows, values["rows"])
    at_columns = clipped(columns, values["columns"])
    a_starts = [vector.address("%a", emitter.mul(row, k)) for row in at_rows]
    b_starts = [vector.address("%b", emitter.mul(column, k)) for column in at_columns]

    def step(at: Index, sums: Sequence[str], mask: str | None = None) -> list[str]:
        right = [vector.load(vector.address(start, at), mask) for start in b_starts]
        result = []
        for row, start in enumerate(a_starts):
            left = vector.load(vector.address(start, at), mask)
            for column, value in enumerate(right):
                total = sums[row * columns + column]
                result.append(vector.multiply_add(left, value, total))
        return result

    full = emitter.round_down(k, lanes)
    start = [(vector.type, vector.zero)] * (rows * columns)
    sums: Sequence[str] = emitter.loop(0, full, lanes, step, start)
    rest = emitter.sub(k, full)
    if rest != 0:
        sums = step(full, sums, vector.mask(rest))
    for row, at_row in enumerate(at_rows):
        base = vector.address("%c", emitter.mul(at_row, values["c_row"]))
        for column, at_column in enumerate(at_columns):
            total = vector.sum(sums[row * columns + column])
            emitter.store(of.llvm, total, vector.address(base, at_column), of.bytes)
    routine.define(builder, f"dot{rows}x{columns}")
    return routine
