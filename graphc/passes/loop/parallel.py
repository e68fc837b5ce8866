"""Which loop of a kernel runs in parallel, and what its units of work are.

The chunks that a kernel is cut into never change a bit: a chunk owns its outputs, or writes
partial results of blocks that the shape fixes.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..fuse.affine import Variable
from ..fuse.sizes import Sizes
from .ir import Bound, Kernel, Lanes, Loop, Reduce, RowBlock, Stage, Statement, rows_per_block

#: A kernel runs in at most this many chunks.
CHUNKS = 16

Candidate = tuple[Variable, Bound]


def run_in_parallel(
    kernel: Kernel, candidates: Iterable[Candidate], sizes: Sizes, always: bool
) -> None:
    """Marks the first loop with enough units of work, else the one with most.

    candidates: variables of loops whose steps are independent, outermost first, each with how many
    steps belong together. always: even a loop of one unit is marked.
    """
    least = 0 if always else 2
    best: tuple[int, Candidate] | None = None
    for variable, unit in candidates:
        loops = _loops_of(kernel.body, variable)
        if not loops:
            continue
        units = sizes.hint(kernel.extents[variable]) // max(1, _hint(unit, sizes))
        if units >= CHUNKS:
            best = units, (variable, unit)
            break
        if units >= least and (best is None or units > best[0]):
            best = units, (variable, unit)
    if best is None:
        return
    variable, unit = best[1]
    for loop in _loops_of(kernel.body, variable):
        loop.parallel = True
    kernel.units, kernel.unit = kernel.extents[variable], unit


def _hint(unit: Bound, sizes: Sizes) -> int:
    if isinstance(unit, RowBlock):
        return rows_per_block(sizes.hint(unit.rows))
    return unit if isinstance(unit, int) else 1


def _loops_of(body: list[Statement], variable: Variable) -> list[Loop | Lanes]:
    found: dict[int, Loop | Lanes] = {}
    for statement in body:
        if isinstance(statement, (Loop, Lanes)) and statement.variable == variable:
            found[id(statement)] = statement
        elif isinstance(statement, (Loop, Lanes, Stage, Reduce)):
            for loop in _loops_of(statement.body, variable):
                found[id(loop)] = loop
    return list(found.values())


def point_cost(cost: int, streams: int) -> float:
    """Nanoseconds of one point on one thread: arithmetic and memory, from measurements."""
    return 0.02 * cost + 0.08 * streams
