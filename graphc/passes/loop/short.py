"""Short rows: fewer elements than a vector has lanes, or windows: a row in each lane.

Each element of the rows is a register. The reduction is the tree that the lanes of a row program
form, over registers; so a result has the same bits in either form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..fuse.group import has_short_rows, may_be_in_lanes
from .ir import ShortReduce, ShortStore, Stage, Statement

if TYPE_CHECKING:
    from .lower import Lowering


def short_rows(lowering: Lowering) -> list[Statement] | None:
    """The program for rows in lanes, or None where rows are long, or few, or columns are summed."""
    group, schedule, kernel = lowering.group, lowering.schedule, lowering.kernel
    windows = len(schedule.inner) > 1 and may_be_in_lanes(group)
    if not (windows or has_short_rows(group)) or not schedule.outer:
        return None
    row = schedule.outer[-1]
    kernel.lanes = frozenset([row])
    body: list[Statement] = [Stage(k, _stage(lowering, k)) for k in range(lowering.stages)]
    lanes = lowering.lanes(row, 1, body, wide=True)
    return lowering.nest(schedule.outer[:-1], lanes)


def _stage(lowering: Lowering, stage: int) -> list[Statement]:
    members, schedule = lowering.members(stage), lowering.schedule
    inner = [(variable, schedule.extents[variable]) for variable in schedule.inner]
    points = [(variable, extent) for variable, extent in inner if isinstance(extent, int)]
    statements: list[Statement] = []
    for reduction in members.rows:
        total = lowering.accumulator(reduction, 0)
        statements.append(ShortReduce(total, reduction.expr, points))
        statements.append(lowering.result(total, across=False))
    statements += lowering.row_stores(stage, one_lane=False)
    for output in members.outputs:
        statements.append(ShortStore(output.value, output.place, output.expr, points))
    return statements
