"""Rewrite rules, as equations, one file a subject.

What lives here: lists of `Rule`, and matchers by hand for what no equation says (`tiles`,
`pads`). What must not: the matcher (`passes.rewrite`), passes that use the rules (`passes.clean`).
"""

from .algebra import ALGEBRA, NO_DETACH
from .movement import CONTRACTION, MOVEMENT, REDUCTION
from .pads import sum_of_pads
from .tiles import concat_of_slices

RULES = [*ALGEBRA, *MOVEMENT, *REDUCTION, *CONTRACTION]

__all__ = [
    "ALGEBRA",
    "CONTRACTION",
    "MOVEMENT",
    "NO_DETACH",
    "REDUCTION",
    "RULES",
    "concat_of_slices",
    "sum_of_pads",
]
