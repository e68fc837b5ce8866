"""Loads that run across the lanes: square tiles, transposed in registers.

Where a load's lanes are far apart, but another loop goes through its memory step by step, a tile
of both loops is loaded along that loop and transposed by shuffles, instead of element by element.
A map reads a tile at once; of rows that are reduced, as many as a vector has lanes are put into
scratch, each whole. They are then reduced one after the other as rows in memory are, so in the
same tree.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from graphc.ir.dims import AnyDim

from ..fuse.affine import Variable
from ..fuse.expr import Expr
from ..fuse.group import ROWS
from .ir import At, Lanes, Least, Loop, RowTiles, Statement, Store, Sum, TileLoad
from .parallel import Candidate
from .rows import LEAST_PART, LINE, row_program
from .schedule import TILE_BLOCK, TILE_LANES, TILE_STEP, Schedule

if TYPE_CHECKING:
    from .lower import Lowering

#: Steps of the outer loop that are done for one vector of lanes before the next.
BLOCK_STEPS = 128
#: Lanes whose tiles of the same steps follow each other where results are streamed.
BLOCK_LANES = 512
#: Results of so many bytes go past the caches, which would not hold them until they are read.
STREAMED = 6 << 20
#: Bytes of a row: of those that have fewer whole lines results are stored as others are.
LEAST_ROW = 128
#: Rows at multiples of so many bytes share the few places of the first cache for an address.
PAGE = 4096
#: Bytes of each row in such a tile. The processor fetches ahead by itself what it reads in parts.
TILE_BYTES = 32
#: Lanes in a unit of a parallel loop.
LANE_UNIT = 64
#: Loops shorter than this are not worth a tile.
LEAST_EXTENT = 8
#: Distances of the lanes of a row at which whole vectors are loaded and shuffled.
NEAR = (-1, 0, 1, 2, 3, 4)
#: Bytes of scratch for as many rows as a vector has lanes: longer rows are read as they are.
MOST_SCRATCH = 1 << 20
#: Tiles side by side: lines that follow each other in memory are read together.
TILES_TOGETHER = 4
#: Tiles of this many loads are text enough.
MOST_LOADS = 4


def tiled_map(lowering: Lowering, stores: list[Store]) -> list[Statement] | None:
    """The loops of a map with tiles, or None where no load runs across the lanes."""
    schedule = lowering.schedule
    found = _across(schedule, (0, 1, -1))
    if schedule.pair is not None or found is None:
        return None
    step, loads = found
    lane, width = schedule.lane, lowering.width
    n = schedule.extents[step]
    schedule.outer.remove(step)
    vectors = _stream(lowering, stores)
    if vectors:
        body = _lanes_inside(lowering, stores, step, loads, vectors)
        return lowering.nest(schedule.outer, [body])
    schedule.extents[TILE_BLOCK] = n
    end = Least(Sum(At(TILE_BLOCK), BLOCK_STEPS), n)
    row_end = Least(Sum(At(TILE_STEP), width), end)
    rows = Loop(step, At(TILE_STEP), row_end, 1, [*stores], (0, n))
    tile = TileLoad(loads, step, TILE_STEP, lane, width)
    tiles = Loop(TILE_STEP, At(TILE_BLOCK), end, width, [tile, rows], (0, n))
    every = schedule.extents[lane]
    lanes = Lanes(lane, 0, every, 1, [tiles], (0, every))
    block = Loop(TILE_BLOCK, 0, n, BLOCK_STEPS, [lanes], (0, n))
    return lowering.nest(schedule.outer, [block])


def _stream(lowering: Lowering, stores: list[Store]) -> int:
    """Marks the stores that go past the caches: how many vectors are a line, 0 where none does."""
    schedule, hint = lowering.schedule, lowering.sizes.hint
    sizes = [store.value.type.dtype.itemsize for store in stores]
    if hint(lowering.group.domain.size) * sum(sizes) < STREAMED:
        return 0
    vectors = 0
    for store, size in zip(stores, sizes):
        row, vector = hint(schedule.extents[schedule.lane]) * size, lowering.width * size
        together = dict(schedule.form(store.place).terms).get(schedule.lane) == 1
        if together and row >= LEAST_ROW and vector >= LEAST_PART:
            store.streamed = True
            vectors = max(vectors, LINE // vector, 1)
    return vectors


def _lanes_inside(
    lowering: Lowering, stores: list[Store], step: Variable, loads: list[Expr], vectors: int
) -> Loop:
    """Tiles of the same steps side by side: a result is written in long pieces of rows.

    The lanes' lines are far apart where they are read, which no prefetching of the processor
    follows.
    """
    schedule = lowering.schedule
    lane, steps = schedule.lane, _steps_of_a_tile(lowering, step, loads)
    n, every = schedule.extents[step], schedule.extents[lane]
    schedule.extents[TILE_LANES], schedule.extents[TILE_STEP] = every, n
    tile = TileLoad(loads, step, TILE_STEP, lane, steps, _ahead(lowering, step, loads[0]))
    row_end = Least(Sum(At(TILE_STEP), steps), n)
    rows = Loop(step, At(TILE_STEP), row_end, 1, [*stores], (0, n))
    end = Least(Sum(At(TILE_LANES), BLOCK_LANES), every)
    lanes = Lanes(lane, At(TILE_LANES), end, vectors, [tile, rows], (0, every), wide=vectors > 1)
    tiles = Loop(TILE_STEP, 0, n, steps, [lanes], (0, n))
    return Loop(TILE_LANES, 0, every, BLOCK_LANES, [tiles], (0, every))


def _steps_of_a_tile(lowering: Lowering, step: Variable, loads: list[Expr]) -> int:
    """Few of long rows, unless a cache has few places for rows so far apart: then all at once."""
    schedule = lowering.schedule
    long = lowering.sizes.hint(schedule.extents[step]) > BLOCK_STEPS
    for load in loads:
        apart = dict(schedule.form(load.payload.form).terms)[schedule.lane]
        long = long and not lowering.sizes.divides(PAGE, apart * load.dtype.itemsize)
    if not long:
        return lowering.width
    return min(lowering.width, TILE_BYTES // min([load.dtype.itemsize for load in loads]))


def _ahead(lowering: Lowering, step: Variable, load: Expr) -> tuple[Variable, int]:
    """What is fetched meanwhile: lines of the same rows, as far ahead as their number leaves time
    for; of short rows, which lie one after the other, rows further on."""
    schedule = lowering.schedule
    if lowering.sizes.hint(schedule.extents[step]) <= BLOCK_STEPS:
        return schedule.lane, 2 * lowering.width
    rows = min(BLOCK_LANES, lowering.sizes.hint(schedule.extents[schedule.lane]))
    lines = 1 + max(1, BLOCK_LANES // rows)
    return step, lines * LINE // load.dtype.itemsize - 1  # the end of a tile's row in its last line


def tile_candidates(lowering: Lowering) -> list[Candidate]:
    """The loops around whole tiles: one inside would make each chunk load the tiles of all."""
    schedule = lowering.schedule
    around: list[Candidate] = [(variable, 1) for variable in schedule.outer]
    if TILE_LANES in schedule.extents:
        return [*around, (TILE_LANES, BLOCK_LANES), (TILE_STEP, lowering.width)]
    if lowering.group.kind == ROWS:
        return [*around, (TILE_BLOCK, lowering.rows_together)]
    return [*around, (TILE_BLOCK, BLOCK_STEPS), (schedule.lane, LANE_UNIT)]


def tiled_rows(lowering: Lowering) -> list[Statement] | None:
    """The loops of rows with tiles, or None where no load runs across them.

    None too where rows are in pieces, or too long for the scratch, or where columns are summed.
    """
    group, schedule, sizes = lowering.group, lowering.schedule, lowering.sizes
    if len(schedule.inner) > 1 or len(schedule.pieces(schedule.lane)) > 1:
        return None
    found = _across(schedule, NEAR)
    if found is None or any([how == "column" for _, how in group.reductions]):
        return None
    step, loads = found
    lane, width, kernel = schedule.lane, lowering.width, lowering.kernel
    n, rows = schedule.extents[lane], schedule.extents[step]
    row_bytes = sum([expr.dtype.itemsize for expr in loads]) * sizes.hint(n)
    if len(loads) > MOST_LOADS or row_bytes * width > MOST_SCRATCH:
        return None
    together, length = width, n + 2 * width
    if isinstance(n, int):
        together *= min(TILES_TOGETHER, max(1, MOST_SCRATCH // (row_bytes * width)))
        length = (-(-n // width) | 1) * width  # rows do not share one set of the first cache
    offsets: list[AnyDim] = []
    for expr in loads:
        offsets.append(kernel.scratch)
        kernel.scratch = kernel.scratch + length * (together * expr.dtype.itemsize)
    schedule.extents[TILE_BLOCK] = schedule.extents[TILE_STEP] = rows
    schedule.outer.remove(step)
    end = Least(Sum(At(TILE_BLOCK), together), rows)
    load = RowTiles(loads, step, TILE_STEP, lane, TILE_BLOCK, length, offsets)
    tiles = Loop(TILE_STEP, At(TILE_BLOCK), end, width, [load], (0, rows))
    each = Loop(step, At(TILE_BLOCK), end, 1, row_program(lowering), (0, rows))
    body: list[Statement] = [Lanes(lane, 0, n, 1, [tiles], (0, n)), each]
    lowering.rows_together = together
    return lowering.nest(schedule.outer, [Loop(TILE_BLOCK, 0, rows, together, body, (0, rows))])


def _across(schedule: Schedule, near: Collection[AnyDim]) -> tuple[Variable, list[Expr]] | None:
    """The loop along which most of such loads are contiguous, and these loads.

    near: distances of lanes that are loaded as they are.
    """
    if schedule.sizes.hint(schedule.extents[schedule.lane]) < 8:
        return None
    votes: dict[Variable, list[Expr]] = {}
    for expr in schedule.exprs:
        if expr.op != "load" or expr.args or expr.payload.guards:
            continue
        terms = dict(schedule.form(expr.payload.form).terms)
        if terms.get(schedule.lane, 0) in near:
            continue
        for variable, k in terms.items():
            long = schedule.sizes.hint(schedule.extents[variable]) >= LEAST_EXTENT
            if k == 1 and long and variable in schedule.outer:
                votes.setdefault(variable, []).append(expr)
    if not votes:
        return None
    step = max(votes, key=lambda variable: len(votes[variable]))
    return step, votes[step]
