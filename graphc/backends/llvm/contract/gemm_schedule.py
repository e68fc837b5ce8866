"""How a matrix product is cut up: a record, and the heuristic that fills it in.

A schedule changes speed only. Every form but "dot" adds in the order of k, one chain an
element, so results do not depend on it; whether the "dot" form serves is decided by the
problem's sizes and the target alone.
"""

import math
from dataclasses import dataclass

from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.target import Target

# Rows of A in one call of the dot form, and the number of rows up to which it is used: beyond
# these, transposing B while packing costs less than the sums across lanes.
DOT_TILE = (4, 4)
DOT_TILE_OF_ONE_ROW = (1, 8)
DOT_MOST_ROWS = 24
DOT_LEAST_K = 256

# Up to this many rows the whole of B is read in place, once.
FEW_ROWS = 4
# Bytes of a packed block of B.
PACKED_BYTES = 512 << 10
# Units of work: rows are cut into no more blocks, and columns until there are enough.
MOST_ROW_BLOCKS = 16
ENOUGH_UNITS = 8

# Rows of the tile that serves the rest of a symbolic number of rows.
REST_ROWS = 4


@dataclass(frozen=True, slots=True)
class GemmProblem:
    """out[b, m, n] = sum over k of A[b, m, k] * B[b, k, n], row-major, None for symbolic sizes.

    transpose_a  A is stored as [b, k, m]
    transpose_b  B is stored as [b, n, k]
    a_batched, b_batched  False where one matrix serves every b
    """

    m: int | None
    n: int | None
    k: int | None
    batch: int | None = 1
    dtype: str = "f32"
    transpose_a: bool = False
    transpose_b: bool = False
    a_batched: bool = True
    b_batched: bool = True

    @property
    def sizes(self) -> tuple[str, ...]:
        """The names of the symbolic sizes, in the order of a kernel's arguments."""
        return tuple(name for name in ("batch", "m", "n", "k") if getattr(self, name) is None)


@dataclass(frozen=True, slots=True)
class GemmSchedule:
    """
    rows, vectors  the tile: rows of A by vectors of B's columns
    k_block        k between two visits of a tile of the output
    row_block      rows in one unit of parallel work
    column_block   columns in one unit; with pack_b, of the packed block of B
    pack_a         copy each panel of A (rows x k_block) to scratch
    pack_b         copy each block of B (k_block x column_block) to scratch, by panels
    columns_first  walk a panel of B's columns over all rows before the next
    prefetch       rows of B that the tile fetches ahead
    """

    rows: int
    vectors: int
    k_block: int
    row_block: int
    column_block: int
    pack_a: bool
    pack_b: bool
    columns_first: bool
    prefetch: int = 0


def tile_choices(target: Target) -> tuple[tuple[int, int], ...]:
    """(most rows, vectors) whose sums, B vectors and broadcast fit the registers."""
    if target.registers >= 32:
        return ((14, 2), (8, 3), (6, 4), (24, 1))
    if target.has_fma:
        return ((6, 2), (4, 3), (12, 1))
    return ((4, 2), (8, 1))


def tile_cost(rows: int, vectors: int) -> float:
    """Cycles of a tile for one k: multiply-adds, or loads, or the latency of one chain."""
    return max(rows * vectors, rows + vectors, 4) + 0.75


def uses_dot(problem: GemmProblem, rows: int | None) -> bool:
    """Whether the dot form serves that number of rows (None: whether it may serve some)."""
    if not problem.transpose_b or problem.transpose_a or not element(problem.dtype).floating:
        return False
    if problem.k is not None and problem.k < DOT_LEAST_K:
        return False
    return rows is None or rows <= DOT_MOST_ROWS


def _pieces(size: int, step: int) -> list[tuple[int, int]]:
    """(how many, how large) the full pieces and the rest are."""
    full, rest = divmod(size, step)
    return [(count, piece) for count, piece in ((full, step), (1, rest)) if count and piece]


def _choose_tile(problem: GemmProblem, target: Target, lanes: int) -> tuple[int, int]:
    best: tuple[float, int, int] | None = None
    m, n = problem.m, problem.n
    work = math.prod(size or 64 for size in (problem.batch, m, n, problem.k))
    each_rest = 0.01 if work >= 1 << 22 else 0.05
    for most, vectors in tile_choices(target):
        for rows in range(1, most + 1):
            m_pieces = [(1, rows)] if m is None else _pieces(m, rows)
            n_pieces = [(1, vectors * lanes)] if n is None else _pieces(n, vectors * lanes)
            cost = 0.0
            for row_count, r in m_pieces:
                for column_count, c in n_pieces:
                    cost += row_count * column_count * tile_cost(r, -(-c // lanes))
            done = sum(i * r for i, r in m_pieces) * sum(i * c for i, c in n_pieces)
            # A rest costs a microkernel of its own: worth it for a gain of some percent.
            cost *= (1 + each_rest * (len(m_pieces) + len(n_pieces))) / max(done, 1)
            if best is None or cost < best[0]:
                best = (cost, rows, vectors)
    assert best is not None
    return best[1], best[2]


def _wide_tile(m: int, n: int | None, vectors: int, target: Target, lanes: int) -> tuple[int, int]:
    """The tile of a few rows: all of them, and as many columns as the registers hold."""
    rows = max(m, 1)
    vectors = max(vectors, target.registers // 2 // rows)
    if n is not None:
        vectors = max(1, min(vectors, -(-n // lanes)))
    return rows, vectors


def _even(size: int | None, block: int) -> int:
    """About `block`, so that it cuts `size` evenly; all of it if it is not much larger."""
    if size is None:
        return block
    if size <= block * 3 // 2:
        return max(size, 1)
    return -(-size // -(-size // block))


def schedule_gemm(problem: GemmProblem, target: Target) -> GemmSchedule:
    """The schedule for a problem, from measurements on AVX-512 processors."""
    stored = element(problem.dtype)
    sums = stored.accumulator
    lanes = target.lanes(sums.bits)
    m, n, k = problem.m, problem.n, problem.k
    rows, vectors = _choose_tile(problem, target, lanes)
    few_rows = m is not None and m <= FEW_ROWS
    if few_rows:
        rows, vectors = _wide_tile(m or 0, n, vectors, target, lanes)
    columns = vectors * lanes
    k_block = _even(k, 64 if few_rows else 256 if sums.bytes <= 4 else 128)
    in_place_b = few_rows or (m is not None and m <= 2 * rows)
    pack_b = stored.is_half or problem.transpose_b or not in_place_b
    # Rows whose distance is a multiple of 4096 bytes share one set of the first cache.
    a_row = m if problem.transpose_a else k
    aliased = a_row is not None and a_row * sums.bytes % 4096 == 0
    reused = n is None or n >= 8 * columns
    pack_a = a_row is None or stored.is_half or (not few_rows and (aliased or reused))
    row_block, column_block = _blocks(problem, target, (rows, columns, k_block), pack_b)
    return GemmSchedule(
        rows,
        vectors,
        k_block,
        row_block,
        column_block,
        pack_a,
        pack_b,
        columns_first=not pack_a and not pack_b,
    )


def _blocks(
    problem: GemmProblem, target: Target, tile: tuple[int, int, int], pack_b: bool
) -> tuple[int, int]:
    """(rows, columns) of a unit of work, for a tile of (rows, columns, k)."""
    rows, columns, k_block = tile
    m, n = problem.m, problem.n
    if m is not None and problem.k is not None and uses_dot(problem, m):
        return DOT_MOST_ROWS, 1024 if n is None else max(16, -(-n // 256) * 16)
    row_block = rows * 8
    if m is not None:
        row_block = -(-max(rows * 4, -(-m // MOST_ROW_BLOCKS)) // rows) * rows
    item_bytes = element(problem.dtype).accumulator.bytes
    if m is not None and m <= FEW_ROWS:
        panels = 1024 // columns
    else:
        # The packed block stays in the second cache.
        panels = PACKED_BYTES // (item_bytes * k_block * columns)
        panels = min(panels, 512 // columns) if pack_b else panels
    panels = max(1, panels)
    if m is not None and n is not None and problem.batch is not None:
        units = problem.batch * -(-m // row_block)
        while panels > 4 and units * -(-n // (panels * columns)) < ENOUGH_UNITS:
            panels = -(-panels // 2)
    return row_block, panels * columns
