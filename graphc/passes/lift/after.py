"""Products by constants that no later step needs are computed after the loop, for all rows.

A row that a step gives back as it is is no result of the loop at all.
"""

from __future__ import annotations

from graphc.ir.graph import Value, has_effect

from .loop import DOT, FIXED, Finish, Loop, can_batch


def lift_after(loop: Loop) -> tuple[Loop, Finish] | None:
    """The loop without the products that only stacked results need."""
    n, block = len(loop.init), loop.block
    lifted = _liftable(loop)
    given_back = {*lifted, *loop.row_params}
    places = [i for i, v in enumerate(block.results) if i >= n and v in given_back]
    if not places:
        return None
    level = loop.levels()
    given: dict[Value, None] = {}
    for node in block.nodes:
        if not lifted.isdisjoint(node.outputs):
            given.update(dict.fromkeys([v for v in node.inputs if v not in lifted]))
    inside = [v for v in given if level[v] != FIXED and v not in loop.row_params]
    ys = [v for v in block.results[n:] if v not in given_back]
    ys += [v for v in inside if v not in ys]
    smaller = loop.with_step(carries=loop.carries, results=ys)

    def finish(made: list[Value]) -> list[Value]:
        rows = dict(zip(ys, made[n:], strict=True))
        wanted = [block.results[i] for i in places]
        found = loop.outside(wanted, [(v, rows[v]) for v in inside])
        stacked = dict(zip(wanted, [value for value, _ in found], strict=True))
        return [*made[:n], *[stacked[v] if v in stacked else rows[v] for v in block.results[n:]]]

    return smaller, finish


def _liftable(loop: Loop) -> set[Value]:
    """Products by constants, and all that is computed from them."""
    n, block, level = len(loop.init), loop.block, loop.levels()
    kept = set(block.results[:n])  # what the next step needs, and what has to stay with it
    for node in reversed(block.nodes):
        if has_effect(node) or not kept.isdisjoint(node.outputs):
            kept.update([*node.outputs, *node.inputs])
    stays = _all_that_feeds_what_stays(loop, kept)
    lifted: set[Value] = set()
    for node in block.nodes:
        if not stays.isdisjoint(node.outputs):
            continue
        follows = not lifted.isdisjoint(node.inputs)
        if follows or (node.op is DOT and [level[v] for v in node.inputs].count(FIXED) == 1):
            lifted.update(node.outputs)
    return lifted


def _all_that_feeds_what_stays(loop: Loop, kept: set[Value]) -> set[Value]:
    """The values that cannot be computed after the loop: also those that feed a node which is
    better left in it."""
    stays = set(kept)
    for node in reversed(loop.block.nodes):
        if not can_batch(node) or not stays.isdisjoint(node.outputs):
            stays.update([*node.outputs, *node.inputs])
    return stays
