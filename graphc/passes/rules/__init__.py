"""Rewrite rules, as equations, one file a subject.

What lives here: lists of `Rule`. What must not: the matcher (`passes.rewrite`), passes that use the
rules (`passes.clean`).
"""

from .algebra import ALGEBRA, NO_DETACH
from .movement import CONTRACTION, MOVEMENT, REDUCTION

RULES = [*ALGEBRA, *MOVEMENT, *REDUCTION, *CONTRACTION]

__all__ = ["ALGEBRA", "CONTRACTION", "MOVEMENT", "NO_DETACH", "REDUCTION", "RULES"]
