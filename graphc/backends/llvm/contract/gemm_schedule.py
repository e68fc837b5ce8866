"""How a matrix product is cut up: a record, and the heuristic that fills it in.

A schedule changes speed only: results depend on the form alone, which `gemm_form.py` decides by
the problem's sizes and the target.
"""

import math
from dataclasses import dataclass, replace

from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.gemm_form import (
    DOT_FEW,
    GemmProblem,
    in_pairs,
    is_turned,
    may_serve,
    turn,
)
from graphc.backends.llvm.contract.pairs import pair_step
from graphc.backends.llvm.target import Target
from graphc.passes.products import MOST_PANEL, PANEL_STEP

# Up to this many rows the whole of B is read in place, once.
FEW_ROWS = 4
# A B in place of more bytes comes from memory: for up to so many rows of A, few of its rows at a
# time, so that each is a stream that the processor fetches ahead.
STREAMED_BYTES = 8 << 20
STREAMED_MOST = 32
STREAMED_ROWS = 16
# Bytes of a packed block of B, which stays in the second cache. All of k is in one block where a
# panel of so many bytes holds it: another visit of the output costs more than a longer panel.
PACKED_BYTES = 512 << 10
# A symbolic k is cut into blocks of so many.
SYMBOLIC_K = 1024
# A B of so many bytes is read in place: blocks of its columns stay in the second cache as they are.
# So is a larger one of which up to so many rows of A make use.
STAYS_BYTES = 1536 << 10
IN_PLACE_ROWS = 64
# Both only where a tile reads at least so many bytes of a row; else B may have so many bytes.
WIDE_BYTES = 128
NARROW_STAYS = 256 << 10
# And beside a strip of A.
STAYS_BESIDE = 512 << 10
# Lines that a cache holds of those that lie a multiple of so many bytes apart: the first cache's
# bytes and the second's.
CACHE_WAYS, FIRST_BYTES, SECOND_BYTES = 8, 4 << 10, 128 << 10
# Rows of a transposed A of more bytes are copied, some of k at a time, and about so many columns
# of them at once: of each whole lines are read, and the copy stays in the second cache.
STRIDED_BYTES = 2048
STRIP, STRIP_COLUMNS = 128, 1024
# An A of more bytes comes from beyond the second cache, and a B of more than stays there: tiles
# fetch both ahead, of B the next block if no more rows of A make use of one. Of so many bytes, a
# packed block stays in the cache beside the next one as it is stored.
FAR_BYTES = 1 << 20
AHEAD_ROWS = 256
AHEAD_BYTES = 256 << 10
# Units of work: rows are cut into no more blocks, and columns until there are enough.
MOST_ROW_BLOCKS = 16
ENOUGH_UNITS = 8
# Rows in a unit of the dot form: each unit may transpose its B.
DOT_ROWS = 96

# Rows of the tile that serves the rest of a symbolic number of rows.
REST_ROWS = 4


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
    strip          rows of a transposed A that are copied at once; 0 for those of a tile
    ahead          what tiles fetch into the second cache meanwhile: "a", the next panel of an A
                   in place; "b", the next block of B as it is stored, with all of k if that is
                   transposed; "ab", both
    """

    rows: int
    vectors: int
    k_block: int
    row_block: int
    column_block: int
    pack_a: bool
    pack_b: bool
    columns_first: bool
    strip: int = 0
    ahead: str = ""


def tile_choices(target: Target) -> tuple[tuple[int, int], ...]:
    """(most rows, vectors) whose sums, B vectors and broadcast fit the registers."""
    if target.registers >= 32:
        return ((14, 2), (8, 3), (6, 4), (24, 1))
    if target.has_fma:
        return ((6, 2), (4, 3), (12, 1))
    return ((4, 2), (8, 1))


def rows_apart(stride: int, span: int = FIRST_BYTES) -> int:
    """Lines `stride` bytes apart that do not drive each other out of the first cache, or of the one
    whose sets repeat after `span` bytes."""
    return CACHE_WAYS * (span // math.gcd(stride, span))


def tile_cost(rows: int, vectors: int, chains: int = 4) -> float:
    """Cycles of a tile for one k: multiply-adds, or loads, or the latency of one chain.

    chains: how many multiply-adds are started in the time that one takes.
    """
    return max(rows * vectors, rows + vectors, chains) + 0.75


def _pieces(size: int, step: int) -> list[tuple[int, int]]:
    """(how many, how large) the full pieces and the rest are."""
    full, rest = divmod(size, step)
    return [(count, piece) for count, piece in ((full, step), (1, rest)) if count and piece]


def _choose_tile(problem: GemmProblem, target: Target, lanes: int) -> tuple[int, int]:
    best: tuple[float, int, int] | None = None
    m, n = problem.m, problem.n
    work = math.prod(size or 64 for size in (problem.batch, m, n, problem.k))
    each_rest = 0.01 if work >= 1 << 22 else 0.05
    stored = element(problem.dtype)
    packed = problem.k is None or problem.transpose_a or stored.is_half
    apart = None if packed else rows_apart((problem.k or 1) * stored.bytes)
    for most, vectors in tile_choices(target):
        if problem.panel % (vectors * lanes):
            continue
        most = most if apart is None else min(most, apart)
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
            # Of equal tiles the wider one reads A less often, and longer pieces of B's rows.
            cost *= 1 + 0.03 / vectors
            if best is None or cost < best[0]:
                best = (cost, rows, vectors)
    assert best is not None
    return best[1], best[2]


def best_panel(problem: GemmProblem, target: Target) -> int:
    """The columns of a panel of B, packed ahead, with which the product takes least time; 0 where
    columns make no whole panels."""
    if in_pairs(problem, target) and target.has_amx:
        return next((size for size in (32, 16) if (problem.n or 1) % size == 0), 0)
    lanes = target.lanes(element(problem.dtype).accumulator.bits)
    m, n = problem.m or 64, problem.n or 0
    best, least = 0, 0.0
    for panel in range(PANEL_STEP, MOST_PANEL + 1, PANEL_STEP):
        for most, vectors in tile_choices(target):
            if n % panel or panel % (vectors * lanes):
                continue
            rows = -(-m // -(-m // most))  # as even as can be
            cost = tile_cost(rows, vectors) * -(-m // rows) / vectors
            if not best or cost < least:
                best, least = panel, cost
    return best


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
    """The schedule for a problem, from measurements on AVX-512 processors.

    That of the turned problem, where it is turned. Where bf16 are multiplied in pairs, k_block
    counts pairs.
    """
    if in_pairs(problem, target):
        return _schedule_pairs(problem, target)
    dot = may_serve(problem, target)
    problem = turn(problem) if is_turned(problem, target) else problem
    stored = element(problem.dtype)
    sums = stored.accumulator
    lanes = target.lanes(sums.bits)
    m, n, k = problem.m, problem.n, problem.k
    rows, vectors = _choose_tile(problem, target, lanes)
    panels = problem.panel > 0
    few_rows = m is not None and m <= FEW_ROWS and not panels
    if few_rows:
        rows, vectors = _wide_tile(m or 0, n, vectors, target, lanes)
    columns = vectors * lanes
    wide = columns * sums.bytes >= WIDE_BYTES
    most_stays = STAYS_BYTES if wide else NARROW_STAYS
    most_stays = min(most_stays, STAYS_BESIDE) if _is_strided(problem) else most_stays
    stays = _stays(problem, most_stays) and not few_rows
    most_rows = max(IN_PLACE_ROWS, 2 * rows) if wide else 2 * rows
    in_place_b = stays or (m is not None and m <= most_rows)
    pack_b = not panels and (stored.is_half or problem.transpose_b or not in_place_b)
    from_memory = not (pack_b or panels or stays) and _bytes_of_b(problem) > STREAMED_BYTES
    ahead_b = not few_rows and _is_fetched_ahead(problem, columns)
    block_bytes = AHEAD_BYTES if pack_b and ahead_b else PACKED_BYTES
    streamed = from_memory and m is not None and m <= STREAMED_MOST
    if streamed:
        most_k = STREAMED_ROWS
    elif few_rows:
        most_k = 64
    elif (
        _is_strided(problem)
        or stored.is_half
        or from_memory
        or not (wide or pack_b or panels)
        or (problem.transpose_a and not wide)
    ):
        # Lines of a transposed A are read again for the next rows: with narrow tiles that is soon.
        most_k = 256 if sums.bytes <= 4 else 128
    else:
        most_k = SYMBOLIC_K if k is None else block_bytes // (sums.bytes * columns)
    k_block = _even(k, most_k)
    pack_a = _packs_a(problem, rows, columns, k_block)
    strips = pack_a and problem.transpose_a and not (stored.is_half or panels)
    if dot:
        row_block, column_block = _dot_blocks(problem)
    elif strips and m and n and k and problem.batch:
        k_block = _even(k, 2 * most_k)  # what the copy has read whole, it need not read again soon
        row_block, column_block = _strip_blocks(m, n, rows, columns)
    else:
        tile = rows, max(columns, problem.panel), k_block
        row_block, column_block = _blocks(problem, tile, pack_b, block_bytes)
    ahead_a = not (pack_a or few_rows or problem.transpose_a) and _bytes_of_a(problem) > FAR_BYTES
    return GemmSchedule(
        rows,
        vectors,
        k_block,
        row_block,
        column_block,
        pack_a,
        pack_b,
        columns_first=not (pack_a or pack_b) and (few_rows or not (stays or streamed)),
        strip=-(-_even(row_block if m else None, STRIP) // rows) * rows if strips else 0,
        ahead="" if dot else "a" * ahead_a + "b" * ahead_b,
    )


def _schedule_pairs(problem: GemmProblem, target: Target) -> GemmSchedule:
    """As for f32 and half of k, but that B is always packed, and A where its rows are no pairs."""
    dot = may_serve(problem, target)
    problem = turn(problem) if is_turned(problem, target) else problem
    step, k, m = pair_step(target), problem.k, problem.m
    steps = None if k is None else -(-k // step) * (step // 2)
    like = replace(problem, dtype="f32", k=steps)
    in_place = k is not None and k % step == 0 and not problem.transpose_a
    lanes = target.lanes(32)
    rows, vectors = _choose_tile(like if in_place else replace(like, k=None), target, lanes)
    few_rows = m is not None and m <= FEW_ROWS and not problem.panel
    if few_rows:
        rows, vectors = _wide_tile(m or 0, problem.n, vectors, target, lanes)
    if target.has_amx:
        rows, vectors = _amx_tile(m, problem.n, problem.panel)
    columns = vectors * lanes
    most_k = SYMBOLIC_K if steps is None else PACKED_BYTES // (4 * columns)
    k_block = -(-_even(steps, most_k) // (step // 2)) * (step // 2)
    # Tiles of AMX are read as fast from lines that drive each other out of the first cache.
    crowded = not target.has_amx and _packs_a(like, rows, columns, k_block)
    pack_a = not in_place or crowded
    blocks = _dot_blocks(problem)
    if not dot:
        blocks = _blocks(like, (rows, max(columns, problem.panel), k_block), not problem.panel)
    return GemmSchedule(rows, vectors, k_block, *blocks, pack_a, not problem.panel, False)


def _amx_tile(m: int | None, n: int | None, panel: int) -> tuple[int, int]:
    """The tile of four registers of sums: as square as rows and columns allow."""
    rows = 32 if m is None else min(max(m, 1), 32)
    vectors = 4 if rows <= 16 else 2
    if panel:
        vectors = math.gcd(vectors, panel // 16)
    return rows, vectors if n is None else max(1, min(vectors, -(-n // 16)))


def _is_fetched_ahead(problem: GemmProblem, columns: int) -> bool:
    """Whether the tiles of a block of B, some `columns` wide, fetch the next one."""
    m, k, of = problem.m, problem.k, element(problem.dtype)
    if m is None or m > AHEAD_ROWS or of.is_half or problem.panel:
        return False
    whole = not problem.transpose_b or (k or 0) * columns * of.bytes <= AHEAD_BYTES
    return whole and _bytes_of_b(problem) > STAYS_BYTES


def _bytes_of_a(problem: GemmProblem) -> int:
    """Of all its matrices; 0 where a size is symbolic."""
    matrices = (problem.batch or 1) if problem.a_batched else 1
    return matrices * (problem.m or 0) * (problem.k or 0) * element(problem.dtype).bytes


def _bytes_of_b(problem: GemmProblem) -> int:
    """Of all its matrices; 0 where a size is symbolic."""
    matrices = (problem.batch or 1) if problem.b_batched else 1
    return matrices * (problem.k or 0) * (problem.n or 0) * element(problem.dtype).bytes


def _stays(problem: GemmProblem, most: int) -> bool:
    """Whether B has `most` bytes, and blocks of its columns stay in the second cache in place."""
    of, n, k = element(problem.dtype), problem.n, problem.k
    if of.is_half or problem.transpose_b or problem.panel or not n or not k:
        return False
    row = n * of.bytes
    return k * row <= most and k <= rows_apart(row, SECOND_BYTES)


def _is_strided(problem: GemmProblem) -> bool:
    """Whether A is transposed, and its rows are long."""
    bytes_ = element(problem.dtype).accumulator.bytes
    return problem.transpose_a and (problem.m is None or problem.m * bytes_ > STRIDED_BYTES)


def _packs_a(problem: GemmProblem, rows: int, columns: int, k_block: int) -> bool:
    """Whether the rows of a tile are copied before use."""
    m, n, of = problem.m, problem.n, element(problem.dtype)
    stride = m if problem.transpose_a else problem.k
    if stride is None or of.is_half:
        return True
    few_rows = m is not None and m <= FEW_ROWS and not problem.panel
    # Lines of a transposed A are rows of k, as many as a block has.
    lines = k_block if problem.transpose_a else rows
    crowded = not few_rows and lines > rows_apart(max(stride, 1) * of.accumulator.bytes)
    if not problem.transpose_a:
        return crowded
    reused = (n is None or n >= 8 * columns) and not problem.panel and not few_rows
    return _is_strided(problem) and (crowded or reused)


def _dot_blocks(problem: GemmProblem) -> tuple[int, int]:
    """(rows, columns) of a unit of work in the dot form: all of the few, a part of the many."""
    m, n = problem.m, problem.n
    rows = 256 if m is None else max(DOT_ROWS, -(-m // MOST_ROW_BLOCKS))
    columns = 1024 if n is None else max(16, -(-n // 256) * 16)
    return rows, max(columns, DOT_FEW)


def _strip_blocks(m: int, n: int, rows: int, columns: int) -> tuple[int, int]:
    """(rows, columns) of a unit of work whose A is copied by strips: wide, since each block of
    columns copies A, and no more of them than are enough, since each block of rows copies B."""
    row_block = -(-max(rows * 4, -(-m // ENOUGH_UNITS)) // rows) * rows
    return row_block, -(-_even(n, STRIP_COLUMNS) // columns) * columns


def _blocks(
    problem: GemmProblem, tile: tuple[int, int, int], pack_b: bool, most: int = PACKED_BYTES
) -> tuple[int, int]:
    """(rows, columns) of a unit of work, for a tile of (rows, columns, k).

    most  bytes of a block of B
    """
    rows, columns, k_block = tile
    m, n = problem.m, problem.n
    row_block = rows * 8
    if m is not None:
        row_block = -(-max(rows * 4, -(-m // MOST_ROW_BLOCKS)) // rows) * rows
    item_bytes = element(problem.dtype).accumulator.bytes
    if m is not None and m <= FEW_ROWS:
        panels = 1024 // columns
    else:
        # The packed block stays in the second cache.
        panels = most // (item_bytes * k_block * columns)
        panels = min(panels, 512 // columns) if pack_b else panels
    panels = max(1, panels)
    if m is not None and n is not None and problem.batch is not None:
        units = problem.batch * -(-m // row_block)
        while panels > 4 and units * -(-n // (panels * columns)) < ENOUGH_UNITS:
            panels = -(-panels // 2)
    return row_block, panels * columns
