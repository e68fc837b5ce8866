"""How often a product reads each operand from where it lies: what a prologue would compute again.

By the same schedule as the kernel's; a size that is a symbol counts as 256.
"""

from functools import lru_cache

from graphc.backends.llvm.contract.dot_form import dot_tile
from graphc.backends.llvm.contract.gemm_dot import by_columns
from graphc.backends.llvm.contract.gemm_form import (
    DOT_FEW,
    GemmProblem,
    is_turned,
    may_serve,
    turn,
)
from graphc.backends.llvm.contract.gemm_schedule import schedule_gemm
from graphc.backends.llvm.target import Target
from graphc.passes.loop.parallel import CHUNKS

#: What a copy of an element costs that the kernel now reads in place, in additions: by rows, by
#: strips of rows as wide as a tile is high, by blocks of B. And what a map costs more in strips
#: that are copied anyway, which are parts of vectors.
ROWS_COPIED, STRIPS_COPIED, BLOCKS_COPIED = 1.5, 8.0, 5.0
STRIPS_SHARED = 1.5

#: (how often an element is read, what the copies cost that are not made now).
Counts = tuple[float, float]


@lru_cache(maxsize=1024)
def operand_counts(problem: GemmProblem, target: Target) -> tuple[Counts | None, Counts | None]:
    """Of A and of B; None where the kernel computes nothing on the way."""
    turned, dot = is_turned(problem, target), may_serve(problem, target)
    schedule = schedule_gemm(problem, target)
    problem = turn(problem) if turned else problem
    m, n = problem.m or 256, problem.n or 256
    rows, columns = -(-m // schedule.row_block), -(-n // schedule.column_block)
    # The rows of one block of columns are in so many pieces of the work.
    together = -(-(problem.batch or 1) * rows * columns // CHUNKS)
    pieces = max(1, -(-rows // max(together, 1)))
    copy_a = STRIPS_COPIED if problem.transpose_a else ROWS_COPIED
    if schedule.pack_a:
        copy_a = STRIPS_SHARED if problem.transpose_a else 0.0
    a: Counts | None = (columns, columns * copy_a)
    b: Counts | None = (pieces, 0.0 if schedule.pack_b else pieces * BLOCKS_COPIED)
    if dot is not False:
        a, b = _in_dot_form(problem, target, (rows, columns), pieces)
    if dot is None and problem.transpose_b and problem.n is None and (problem.m or m) > DOT_FEW:
        a = None  # the rows that it copies may be any number
    if problem.panel:
        b = None
    return (b, a) if turned else (a, b)


def _in_dot_form(
    problem: GemmProblem, target: Target, blocks: tuple[int, int], pieces: int
) -> tuple[Counts, Counts]:
    """The counts of sums across lanes: of A for each block of columns, of B for each piece."""
    swapped = by_columns(problem)
    few, many = (problem.n, problem.m) if swapped else (problem.m, problem.n)
    whole = few is not None and few <= dot_tile(target, few, many)[0]
    columns = float(blocks[1])
    a = (columns, 0.0 if swapped and whole else columns * ROWS_COPIED)
    in_place = problem.transpose_b and (swapped or not whole)
    return a, (pieces, pieces * ROWS_COPIED if in_place else 0.0)
