"""Questions about sizes that may be symbols.

An answer holds for every size that the symbols may stand for. Where there is none, asking is an
error, and the call is recorded with static sizes instead.
"""

from __future__ import annotations

from ..frontends.symbolic import SMALLEST
from ..ir.dims import AnyDim, Dim, Facts, compare
from ..ir.errors import ShapeError


def at_most(a: AnyDim, b: AnyDim) -> bool:
    """a <= b; ShapeError where that depends on the sizes."""
    if isinstance(a, int) and isinstance(b, int):
        return a <= b
    names = {name for d in (a, b) if isinstance(d, Dim) for name in d.symbols}
    found = compare(a, b, dict.fromkeys(names, Facts(lo=SMALLEST)))
    if found is None:
        raise ShapeError(f"whether {a} <= {b} depends on sizes that are symbols")
    return found


def same(a: AnyDim, b: AnyDim) -> bool:
    """a == b; ShapeError where that depends on the sizes."""
    return a == b or (at_most(a, b) and at_most(b, a))


def clamped(place: AnyDim, n: AnyDim) -> AnyDim:
    """A bound of a slice as Python takes it: from the end where negative, kept in [0, n]."""
    if isinstance(place, int) and place < 0:
        place = n + place
    if not at_most(0, place):
        return 0
    return place if at_most(place, n) else n
