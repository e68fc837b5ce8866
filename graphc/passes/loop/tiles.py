"""Maps whose loads run across the lanes: square tiles, transposed in registers.

Where a load's lanes are far apart, but another loop goes through its memory step by step, a tile
of both loops is loaded along that loop and transposed by shuffles, instead of element by element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fuse.affine import Variable
from ..fuse.expr import Expr
from .ir import At, Lanes, Least, Loop, Statement, Sum, TileLoad
from .parallel import Candidate
from .schedule import TILE_BLOCK, TILE_STEP, Schedule

if TYPE_CHECKING:
    from .lower import Lowering

#: Steps of the outer loop that are done for one vector of lanes before the next.
BLOCK_STEPS = 128
#: Lanes in a unit of a parallel loop.
LANE_UNIT = 64
#: Loops shorter than this are not worth a tile.
LEAST_EXTENT = 8


def tiled_map(lowering: Lowering, stores: list[Statement]) -> list[Statement] | None:
    """The loops of a map with tiles, or None where no load runs across the lanes."""
    schedule = lowering.schedule
    found = _across(schedule)
    if found is None:
        return None
    step, loads = found
    lane, width = schedule.lane, lowering.width
    n = schedule.extents[step]
    schedule.extents[TILE_BLOCK] = n
    schedule.outer.remove(step)
    end = Least(Sum(At(TILE_BLOCK), BLOCK_STEPS), n)
    row_end = Least(Sum(At(TILE_STEP), width), end)
    rows = Loop(step, At(TILE_STEP), row_end, 1, stores, (0, n))
    tile = TileLoad(loads, step, TILE_STEP, lane)
    tiles = Loop(TILE_STEP, At(TILE_BLOCK), end, width, [tile, rows], (0, n))
    lanes = Lanes(lane, 0, schedule.extents[lane], 1, [tiles], (0, schedule.extents[lane]))
    block = Loop(TILE_BLOCK, 0, n, BLOCK_STEPS, [lanes], (0, n))
    return lowering.nest(schedule.outer, [block])


def tile_candidates(lowering: Lowering) -> list[Candidate]:
    """The loops around whole tiles: one inside would make each chunk load the tiles of all."""
    schedule = lowering.schedule
    around: list[Candidate] = [(variable, 1) for variable in schedule.outer]
    return [*around, (TILE_BLOCK, BLOCK_STEPS), (schedule.lane, LANE_UNIT)]


def _across(schedule: Schedule) -> tuple[Variable, list[Expr]] | None:
    """The loop along which most of such loads are contiguous, and these loads."""
    if schedule.pair is not None or schedule.sizes.hint(schedule.extents[schedule.lane]) < 8:
        return None
    votes: dict[Variable, list[Expr]] = {}
    for expr in schedule.exprs:
        if expr.op != "load" or expr.args or expr.payload.guards:
            continue
        terms = dict(schedule.form(expr.payload.form).terms)
        if terms.get(schedule.lane, 0) in (0, 1, -1):
            continue
        for variable, k in terms.items():
            long = schedule.sizes.hint(schedule.extents[variable]) >= LEAST_EXTENT
            if k == 1 and long and variable in schedule.outer:
                votes.setdefault(variable, []).append(expr)
    if not votes:
        return None
    step = max(votes, key=lambda variable: len(votes[variable]))
    return step, votes[step]
