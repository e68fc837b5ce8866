"""The loops of a group: which variables merge, which one the lanes run along, where to cut.

Two neighbouring variables of one class are one loop where every index form of the group treats
them so. A guard on one variable cuts its range, so that inside each piece the guard is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from graphc.ir.dims import AnyDim

from ..fuse.affine import Affine, Guard, Variable
from ..fuse.expr import Expr, forms_of, walk
from ..fuse.group import LONG_ROW, MAP, ROWS, SCAN, SCATTER, STEP, Group
from .ir import Bound, Least, RoundDown, Sum

#: Names of loops that are no variable of the domain.
ONE_LANE = -1  # lanes over a single point
PAIR = -2  # lanes over the last two variables together
BLOCKS = -3  # blocks of a long row
ROW_BLOCKS = -4  # blocks of rows of a column sum
TILE_BLOCK = -5  # blocks of the loop along which tiles are loaded
TILE_STEP = -6  # tiles in a block
ROW_BANDS = -7  # bands of rows of a block of a column sum
TILE_LANES = -8  # blocks of lanes that tiles are made for, one step of tiles after the other

#: Ranges are cut at guards only in kernels of at most this many expressions.
MAX_CUT_EXPRESSIONS = 150
#: More than two cuts (a concatenation has one between any two parts) are made up to so many
#: expressions of all pieces together: each piece is text of its own, without the other parts.
#: Lanes are text for whole vectors, for the rest, and for both unrolled.
MAX_CUT_TEXT, MAX_CUT_LANES = 600, 120
#: Last extents for which the lanes run over the last two variables together.
PAIR_EXTENTS = frozenset([2, 3, 4, 5, 6, 7, 8, 10, 12])

Piece = tuple[Bound, Bound, tuple[AnyDim, AnyDim]]


class Schedule:
    """Loop variables of a group after merging: `outer`, `inner` (reduced), and the lane."""

    def __init__(self, group: Group) -> None:
        self.group, self.sizes = group, group.sizes
        domain = group.domain
        self.extents: dict[Variable, AnyDim] = dict(enumerate(domain.extents))
        self.exprs = walk(group.code.roots())
        self.guards: list[Guard] = self._guards()
        self._coefficients = [dict(form.terms) for form in self._forms()]
        self.dropped: set[Variable] = set()
        outer, inner = domain.variables_of(reduced=False), domain.variables_of(reduced=True)
        if group.kind == SCATTER:
            outer, inner = inner, []
        self.outer, self.inner = self._merge(outer), self._merge(inner)
        self.pair: tuple[Variable, Variable, int] | None = None
        self.lanes_inside = group.kind in (MAP, ROWS, SCATTER) or (
            group.kind == SCAN and domain.last_is_reduced
        )
        self._choose_lane()

    def _guards(self) -> list[Guard]:
        found: list[Guard] = []
        for expr in self.exprs:
            if expr.op == "guard":
                found.extend(expr.payload)
            elif expr.op == "load":
                found.extend(expr.payload.guards)
        return list(dict.fromkeys(found))

    def _forms(self) -> list[Affine]:
        """Every index form that a merged loop has to serve."""
        group, domain = self.group, self.group.domain
        forms = [form for expr in self.exprs for form in forms_of(expr)]
        if group.code.indexed is not None:
            return [*forms, group.code.indexed.place]
        forms.append(domain.full)
        forms.extend([output.place for output in group.code.outputs])
        if group.code.reductions:
            forms.extend([domain.kept, domain.along])
        return forms

    def _merge(self, variables: list[Variable]) -> list[Variable]:
        merged = list(variables)
        for k in range(len(merged) - 1, 0, -1):
            left, right = merged[k - 1], merged[k]
            extent = self.extents[right]
            if all([c.get(left, 0) == c.get(right, 0) * extent for c in self._coefficients]):
                self.extents[right] = extent * self.extents[left]
                self.dropped.add(left)
                del merged[k - 1]
        return merged

    def _choose_lane(self) -> None:
        if self.group.kind in (MAP, SCATTER):
            self._pair_lanes()
            self.inner, self.outer = self.outer[-1:], self.outer[:-1]
        chosen = self.inner if self.lanes_inside else self.outer
        if not chosen:
            self.extents[ONE_LANE] = 1
            chosen.append(ONE_LANE)
        self.lane = chosen[-1]

    def _pair_lanes(self) -> None:
        """A short last axis: lanes run over it and the one before, in a constant pattern."""
        if self.group.kind != MAP or len(self.outer) < 2 or len(self.exprs) >= 60:
            return
        first, second = self.outer[-2:]
        extent = self.extents[second]
        static = all(
            [c.get(v, 0).__class__ is int for c in self._coefficients for v in (first, second)]
        )
        if extent in PAIR_EXTENTS and static:
            assert isinstance(extent, int)
            self.pair = (first, second, extent)
            self.extents[PAIR] = self.extents[first] * extent
            self.outer[-2:] = [PAIR]

    @property
    def lane_variables(self) -> frozenset[Variable]:
        return frozenset(self.pair[:2]) if self.pair else frozenset([self.lane])

    def form(self, form: Affine) -> Affine:
        """The form without variables that were merged into others."""
        if not self.dropped:
            return form
        return Affine(form.const, tuple([t for t in form.terms if t[0] not in self.dropped]))

    # --- pieces --------------------------------------------------------------------------------

    def pieces(self, variable: Variable) -> list[Piece]:
        """The range of a variable, cut where guards on it change.

        The lane axis of a reduction is cut at multiples of STEP only, or around one block that
        is computed with the guard as a mask: its tree must not depend on what was fused.
        """
        n = self.extents[variable]
        cuts = self._cuts(variable, n)
        if variable == self.lane and self.group.kind in (ROWS, SCAN):
            if not self.sizes.below(n, LONG_ROW):
                cuts = []
            elif len(cuts) == 1 and not self.sizes.divides(STEP, cuts[0]):
                if self.group.kind == ROWS and len(self.exprs) <= 60:
                    return self._around(cuts[0], n)
                cuts = []
            else:
                cuts = [cut for cut in cuts if self.sizes.divides(STEP, cut)]
        few = len(cuts) <= 2 and len(self.exprs) <= MAX_CUT_EXPRESSIONS
        if not few and not self._has_little_text(variable, cuts, n):
            cuts = []
        ordered = self.sizes.ordered(cuts) or []
        ends = [0, *ordered, n]
        return [(low, high, (low, high)) for low, high in pairwise(ends)]

    def _has_little_text(self, variable: Variable, cuts: Sequence[AnyDim], n: AnyDim) -> bool:
        """Whether the pieces hold few expressions, without the parts that are elsewhere."""
        whole = [end for end in (*cuts, n) if isinstance(end, int)]
        if len(cuts) <= 2 or len(whole) <= len(cuts) or len(cuts) > MAX_CUT_TEXT:
            return False
        spans = {
            expr: [self._ends(guard, variable) for guard in expr.payload]
            for expr in self.exprs
            if expr.op == "guard"
        }
        left = MAX_CUT_LANES if variable == self.lane else MAX_CUT_TEXT
        for low, high in pairwise([0, *sorted(whole)]):
            left -= self._count_in(low, high, spans, left)
            if left < 0:
                return False
        return True

    def _count_in(self, low: int, high: int, spans: dict[Expr, list], most: int) -> int:
        """The expressions that a piece needs; more than `most` where it needs so many."""
        seen: set[Expr] = set()
        todo = self.group.code.roots()
        while todo and len(seen) <= most:
            expr = todo.pop()
            if expr in seen:
                continue
            if expr.op == "select" and expr.args[0].op == "guard":
                holds = _holds(spans[expr.args[0]], low, high)
                if holds is not None:
                    todo.append(expr.args[1 if holds else 2])
                    continue
            seen.add(expr)
            todo += expr.args
        return len(seen)

    def _ends(self, guard: Guard, variable: Variable) -> tuple[AnyDim, AnyDim] | None:
        """From where to where along a variable the guard holds, where it is about that alone."""
        form = self.form(guard.form)
        if len(form.terms) != 1 or form.terms[0][0] != variable:
            return None
        if form.terms[0][1] == 1:
            return guard.low - form.const, guard.high - form.const
        if form.terms[0][1] == -1:
            return form.const - guard.high + 1, form.const - guard.low + 1
        return None

    def _cuts(self, variable: Variable, n: AnyDim) -> list[AnyDim]:
        if self.pair is not None and variable == PAIR:
            return []
        found: dict[AnyDim, None] = {}
        for guard in self.guards:
            cuts = self._ends(guard, variable) or ()
            for cut in cuts:
                inside = self.sizes.at_most(0, cut) and self.sizes.at_most(cut, n)
                if cut != 0 and cut != n and inside:
                    found[cut] = None
        return list(found)

    def _around(self, cut: AnyDim, n: AnyDim) -> list[Piece]:
        """Straight blocks before and after a cut, and the block with the cut as a masked one."""
        if isinstance(cut, int) and isinstance(n, int):
            floor = cut // STEP * STEP
            end = min(floor + STEP, n)
            pieces: list[Piece] = [(0, floor, (0, cut)), (floor, end, (0, n)), (end, n, (cut, n))]
            return [piece for piece in pieces if piece[0] != piece[1]]
        below: Bound = RoundDown(cut, STEP)
        above = Least(Sum(below, STEP), n)
        return [(0, below, (0, cut)), (below, above, (0, n)), (above, n, (cut, n))]


def _holds(spans: Sequence[tuple[AnyDim, AnyDim] | None], low: int, high: int) -> bool | None:
    """Whether guards that hold in these spans hold in all of a piece; None where that is open."""
    every = True
    for span in spans:
        if span is None or not isinstance(span[0], int) or not isinstance(span[1], int):
            every = False
        elif span[1] <= low or high <= span[0]:
            return False
        elif span[0] > low or high > span[1]:
            every = False
    return True if every else None
