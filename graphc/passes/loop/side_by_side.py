"""How many vectors of a map are computed side by side.

The processor overlaps the steps of a loop as far as it looks ahead, some hundred instructions. A
chain that is longer waits at each of its ops for the one before. Then the loop takes several
vectors a step, whose chains are independent, op by op.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.dtype import BOOL

from ..fuse.expr import Expr, computed, cost_of

#: Additions in a row below which the processor overlaps the steps of the loop by itself.
OVERLAPPED = 64
#: Additions that the processor could do in the time of one that waits for the one before.
AT_ONCE = 8
MOST_VECTORS = 4
#: Expressions of all vectors together: more would be too much text.
MOST_TEXT = 2000


def vectors_side_by_side(roots: Sequence[Expr], registers: int, most: int) -> int:
    """Vectors a step for the values of a map: a power of two, 1 where the chains are short.

    registers: vector registers of the target. most: vectors that the whole loop has.
    """
    exprs = computed(roots)
    chain = longest_chain(exprs)
    if chain < OVERLAPPED:
        return 1
    work = sum([_own_cost(expr) for expr in exprs])
    most = min(
        most, MOST_VECTORS, MOST_TEXT // len(exprs), registers // max(1, most_alive(exprs, roots))
    )
    vectors = 1
    while 2 * vectors <= most and vectors * work < AT_ONCE * chain:
        vectors *= 2
    return vectors


def _own_cost(expr: Expr) -> int:
    return cost_of(expr.op) if expr.args else 0


def longest_chain(exprs: Sequence[Expr]) -> int:
    """The cost of the dearest path through expressions that are listed arguments first."""
    chain: dict[Expr, int] = {}
    for expr in exprs:
        chain[expr] = _own_cost(expr) + max([chain[arg] for arg in expr.args], default=0)
    return max(chain.values(), default=0)


def most_alive(exprs: Sequence[Expr], roots: Sequence[Expr]) -> int:
    """The most registers that hold a value at once, where all are computed in this order.

    Conditions have registers of their own, and what was loaded can be read again.
    """
    last = {arg: number for number, expr in enumerate(exprs) for arg in expr.args}
    last.update(dict.fromkeys(roots, len(exprs)))
    ends: dict[int, int] = {}
    alive = most = 0
    for number, expr in enumerate(exprs):
        alive -= ends.get(number, 0)
        if expr.op not in ("constant", "load") and expr.dtype is not BOOL:
            alive += 1
            ends[last[expr]] = ends.get(last[expr], 0) + 1
        most = max(most, alive)
    return most
