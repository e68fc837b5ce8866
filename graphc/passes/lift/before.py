"""Products of rows by constants are computed for all rows at once, ahead of the loop."""

from __future__ import annotations

from graphc.ir.graph import Node, Value, has_effect

from .loop import DOT, FIXED, ROW, Finish, Loop, can_batch

#: What is computed from constants alone leaves the loop from this cost of an element on.
DEAR = 8


def lift_before(loop: Loop) -> tuple[Loop, Finish] | None:
    """The loop that is given the products of its rows by its constants."""
    level = loop.levels()
    inside = [v for v in (*loop.row_params, *loop.fixed_params)]
    movable: set[Value] = set(inside)  # may be computed outside
    chosen: list[Value] = []
    for node in loop.block.nodes:
        if has_effect(node) or not movable.issuperset(node.inputs):
            continue
        if not (can_batch(node) or level[node.outputs[0]] == FIXED):
            continue
        movable.update(node.outputs)
        if node.inputs and _is_worth(node, level):
            chosen += node.outputs
    wanted = _read_elsewhere(loop, set(chosen))
    if not wanted:
        return None
    rows: list[tuple[Value, Value]] = []
    fixed: list[tuple[Value, Value]] = []
    for value, (there, has_rows) in zip(wanted, loop.outside(wanted), strict=True):
        (rows if has_rows else fixed).append((value, there))
    n = len(loop.init)
    smaller = loop.with_step(
        carries=loop.carries, results=loop.block.results[n:], rows=rows, fixed=fixed
    )
    return smaller, lambda made: made


def _is_worth(node: Node, level: dict[Value, int]) -> bool:
    if level[node.outputs[0]] == FIXED:
        return bool(node.op.dear or getattr(node.op, "cost", 1) >= DEAR)
    if node.op is not DOT:
        return False
    return sorted([level[v] for v in node.inputs]) == [FIXED, ROW]


def _read_elsewhere(loop: Loop, chosen: set[Value]) -> list[Value]:
    """Those that something reads which is not needed for the chosen alone."""
    read = set(loop.block.results)
    for node in reversed(loop.block.nodes):
        if has_effect(node) or any([v in read and v not in chosen for v in node.outputs]):
            read.update(node.inputs)
    return [v for node in loop.block.nodes for v in node.outputs if v in chosen and v in read]
