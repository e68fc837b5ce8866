"""Groups: the anchors and roots that share one kernel, and what the kernel computes.

An *anchor* is a node that owns a kernel: a reduction, a scan, a scatter, a node with a native
kernel. A *root* is a value that must be in memory: a result of the graph, an operand that has to
be a buffer, a value that is cheaper to keep than to compute twice. Every other value is pulled at
an index into whoever reads it. So any grouping of anchors and roots is correct, and the fuser
only decides who shares a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from graphc.ir.dims import AnyDim, product
from graphc.ir.graph import Node, Value

from .affine import (
    Affine,
    Guards,
    Index,
    NotFused,
    SplitVariable,
    Variable,
    add,
    flatten,
    unflatten,
)
from .domain import Domain
from .expr import Access, Expr, ExprTable, forms_of, walk
from .sizes import Sizes

#: A row (or a scan) of this many elements or more is reduced in blocks of BLOCK elements.
LONG_ROW = 32768
BLOCK = 16384
#: Columns of so many elements, of a matrix of so many: each pass over them reads memory.
LONG_COLUMN, LARGE = 1024, 3 << 20
#: A reduction's lane loop takes this many elements a step; its range is cut at multiples only.
STEP = 64

MAP, ROWS, COLUMNS, SCAN, SCATTER, NATIVE = "map", "rows", "columns", "scan", "scatter", "native"

REDUCTIONS = frozenset(["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "arg_reduce"])
SCATTERS = frozenset(["scatter", "dynamic_update"])


@dataclass(slots=True)
class Reduction:
    """A reduced value of a group: `row` over the reduced dims, `column` over the kept ones."""

    value: Value
    how: str
    expr: Expr


@dataclass(slots=True)
class Output:
    """A value that a group writes: one element a point (`full`), or one a row (`row`)."""

    value: Value
    level: str
    place: Affine
    expr: Expr


@dataclass(slots=True)
class Indexed:
    """Where the updates of a scatter go: `place` + sum of stride * index in the result.

    `initial` is what the result starts from: a buffer, or None for zeros.
    """

    indices: list[Expr]
    strides: tuple[AnyDim, ...]
    place: Affine
    mode: str
    initial: Value | None


@dataclass(slots=True)
class Code:
    """What a group computes at the point of its loops, as expressions.

    scanned: where a running reduction writes the element of the present point.
    """

    reductions: list[Reduction] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    indexed: Indexed | None = None
    scanned: Affine | None = None

    def roots(self) -> list[Expr]:
        found = [r.expr for r in self.reductions] + [o.expr for o in self.outputs]
        return found + (self.indexed.indices if self.indexed else [])


class Group:
    """Members of one kernel.

    kind: `map` (all points are alike), `rows` (the last dim is reduced: lanes run along it),
    `columns` (the last dim is kept: lanes run across results), `scan`, `scatter`, or `native`
    (one node with a kernel of its own).
    `reductions` lists (value, how) with how in row, column, scan, scatter; `outputs` lists
    (value, level) with level in full, row. `after` is the set of
    groups that must have run, as a bit mask over group numbers. `lanes` is the width of the
    target's vectors.
    """

    def __init__(
        self, number: int, kind: str, domain: Domain, sizes: Sizes, lanes: int = 16
    ) -> None:
        self.number, self.kind, self.sizes, self.lanes = number, kind, sizes, lanes
        self.domain = domain
        self.reductions: list[tuple[Value, str]] = []
        self.outputs: list[tuple[Value, str]] = []
        self.node: Node | None = None
        self.operands: list[Value] = []  # what a native node reads
        self.is_check = False
        self.after = 0  # bit set of the groups, by number, whose results this one needs
        self.leaves = 0  # bit set of the buffers of the graph that it reads, directly or not
        self.code = Code()
        self.clear()

    def __repr__(self) -> str:
        return f"<Group {self.number} {self.kind} {self.domain.sizes}>"

    def clear(self) -> None:
        """Forgets the expressions; their variables may have been numbered anew."""
        self.table = ExprTable()
        self.memo: dict[tuple[Value, Index, Guards], Expr] = {}
        self.pulled: dict[Value, None] = {}
        self._places: dict[tuple[Affine, tuple[AnyDim, ...]], Index] = {}

    def mark(self) -> tuple[int, int, int]:
        return len(self.table), len(self.memo), len(self.pulled)

    def rewind(self, mark: tuple[int, int, int]) -> None:
        """Forgets the expressions made since `mark`."""
        self.table.truncate(mark[0])
        while len(self.memo) > mark[1]:
            self.memo.popitem()
        while len(self.pulled) > mark[2]:
            self.pulled.popitem()

    def members(self) -> list[Value]:
        return [v for v, _ in self.reductions] + [v for v, _ in self.outputs]

    def reads(self) -> list[Value]:
        """The values that it reads from memory."""
        found = [expr.payload.buffer for expr in self.table if expr.op == "load"]
        if self.code.indexed is not None and self.code.indexed.initial is not None:
            found.append(self.code.indexed.initial)
        return [*dict.fromkeys([*found, *self.operands])]

    def load(self, buffer: Value, index: Index, guards: Guards) -> Expr:
        access = Access(buffer, flatten(index, buffer.type.shape), guards)
        return self.table.make("load", (), access, buffer.type.dtype)

    def build(self, puller: Puller) -> None:
        """Pulls every member; starts again where a reshape needs a variable split."""
        while True:
            try:
                self.code = self._pull_members(puller)
                return
            except SplitVariable as wanted:
                self.domain.split(wanted.variable, wanted.inner)
                self.clear()

    def _pull_members(self, puller: Puller) -> Code:
        code = Code()
        for value, how in self.reductions:
            code.reductions.append(Reduction(value, how, self.pull_reduced(puller, value)))
            if how == "scatter":
                update = reduced_operand(value)
                at = self.index_at(self.domain.full, update.type.shape)
                code.indexed = puller.scatter_places(self, value, at)
            elif how == "scan":
                code.scanned = flatten(self._scan_index(value), value.type.shape)
        for value, level in self.outputs:
            place = self.place_of(level)
            index = self.index_at(place, value.type.shape)
            code.outputs.append(Output(value, level, place, puller(self, value, index, ())))
        return code

    def pull_reduced(self, puller: Puller, value: Value) -> Expr:
        """The operand of a reduction, scan or scatter at the point of the loops."""
        if self.kind == SCAN:
            return puller(self, reduced_operand(value), self._scan_index(value), ())
        operand = reduced_operand(value)
        return puller(self, operand, self.index_at(self.domain.full, operand.type.shape), ())

    def _scan_index(self, value: Value) -> Index:
        """The element that a scan is at: from the end of the axis where it runs in reverse."""
        node, shape = value.node, value.type.shape
        assert node is not None
        index = list(self.index_at(self.domain.full, shape))
        if node.attrs["reverse"]:
            axis = node.attrs["axis"]
            index[axis] = add(Affine(shape[axis] - 1), index[axis], -1)
        return tuple(index)

    def place_of(self, level: str) -> Affine:
        return self.domain.full if level == "full" else self.domain.kept

    def index_at(self, place: Affine, shape: tuple[AnyDim, ...]) -> Index:
        found = self._places.get((place, shape))
        if found is None:
            found = unflatten(place, shape, self.domain.extents, self.sizes)
            self._places[place, shape] = found
        return found


class Puller:
    """Computes a value at an index inside a group, down to buffers (see `pull`)."""

    def __call__(self, group: Group, value: Value, index: Index, guards: Guards) -> Expr:
        raise NotImplementedError

    def scatter_places(self, group: Group, value: Value, update: Index) -> Indexed:
        raise NotImplementedError


def reduced_operand(value: Value) -> Value:
    """The operand whose elements an anchor goes through."""
    node = value.node
    assert node is not None
    if node.op.name == "scatter":
        return node.inputs[2]
    return node.inputs[1] if node.op.name == "dynamic_update" else node.inputs[0]


def is_anchor(node: Node) -> bool:
    """Whether the node owns a kernel: a reduction over some axis, a scan, a scatter."""
    name = node.op.name
    if name in REDUCTIONS:
        return bool(reduced_axes(node))
    return name == "cumulative" or name in SCATTERS


def reduced_axes(node: Node) -> tuple[int, ...]:
    """The axes that a reduction goes over."""
    if node.op.name == "arg_reduce":
        return (node.attrs["axis"],)
    return node.attrs["axes"]


#: Expressions times elements of a short row: more would be too much text.
MAX_SHORT_TEXT = 600


def has_short_rows(group: Group) -> bool:
    """Whether the rows are shorter than a vector has lanes, so that each lane takes a row.

    The elements of a row are then registers, and its axis may be split in any way.
    """
    n = group.domain.reduced_size
    return isinstance(n, int) and n < group.lanes and may_be_in_lanes(group)


def may_be_in_lanes(group: Group) -> bool:
    """Whether a lane can take a row, which has the bits that a row along the lanes has.

    Rows of up to STEP elements go this way where they are no run in memory: windows, mostly.
    """
    domain, n = group.domain, group.domain.reduced_size
    if group.kind != ROWS or not isinstance(n, int) or not 2 <= n < STEP:
        return False
    return (
        domain.reduced == frozenset([len(domain.sizes) - 1])
        and all([how == "row" for _, how in group.reductions])
        and group.sizes.hint(domain.kept_size) >= group.lanes
        and len(group.table) * n <= MAX_SHORT_TEXT
    )


def check_lane_axis(group: Group, members: Callable[[], Mapping[Value, Expr]]) -> None:
    """Refuses a split of the lane axis of a reduction that would change its tree.

    The axis may be in pieces only where they merge back into one loop, at least for what is
    computed in the loops of reductions, or where the inner part is a multiple of STEP elements and
    the axis is not long enough to go in blocks. members: what each reduction and output computes.
    """
    domain = group.domain
    last = len(domain.sizes) - 1
    variables = domain.variables[last]
    if group.kind not in (ROWS, SCAN) or last not in domain.reduced or len(variables) == 1:
        return
    if has_short_rows(group) or in_whole_steps(group, domain.extents[variables[-1]]):
        return
    cut = _cut(group.table, domain, variables)
    whole = in_whole_steps(group, product([domain.extents[v] for v in variables[cut:]]))
    if not cut or whole or may_be_in_lanes(group):
        return
    rows = group.kind == ROWS and all([how == "row" for _, how in group.reductions])
    if not rows or has_guards(group.table):
        raise NotFused("would split the lane axis of a reduction")
    if _cut(walk(_beside_reductions(group, members())), domain, variables):
        raise NotFused("would split the lane axis of a reduction")


def _beside_reductions(group: Group, members: Mapping[Value, Expr]) -> list[Expr]:
    """What is computed in the stages that reduce: later ones have loops of their own."""
    stage: dict[Value, int] = {}
    for value, expr in members.items():
        stage[value] = 1 + max([stage[read] for read in expr.reads], default=-1)
    reducing = {stage[value] for value, _ in group.reductions}
    return [expr for value, expr in members.items() if stage[value] in reducing]


def in_whole_steps(group: Group, inner: AnyDim) -> bool:
    """Whether runs of `inner` elements of the lane axis make the tree of the whole axis."""
    short = group.sizes.below(group.domain.sizes[-1], LONG_ROW)
    return short and group.sizes.divides(STEP, inner)


def _cut(exprs: Iterable[Expr], domain: Domain, variables: list[Variable]) -> int:
    """Of the innermost neighbours that do not merge the place of the right one, else 0."""
    cut = 0
    for expr in exprs:
        for form in forms_of(expr):
            coefficients = dict(form.terms)
            for k in range(len(variables) - 1, cut, -1):
                inner = coefficients.get(variables[k], 0) * domain.extents[variables[k]]
                if coefficients.get(variables[k - 1], 0) != inner:
                    cut = k
                    break
    return cut


def has_guards(exprs: Iterable[Expr]) -> bool:
    return any([e.op == "guard" or (e.op == "load" and e.payload.guards) for e in exprs])


def check_stages_apart(group: Group, is_reduction: bool, level: str, expr: Expr) -> None:
    """Keeps later stages out of kernels whose stages share nothing in cache.

    Those of one long row run in parallel apart; those of long columns read memory in its order.
    """
    if not expr.reads:
        return
    domain, sizes = group.domain, group.sizes
    if group.kind == ROWS and (is_reduction or level == "full"):
        if domain.kept_size == 1 and not sizes.below(domain.size, LONG_ROW):
            raise NotFused("one long row: its stages are apart")
    if has_long_columns(group):
        raise NotFused("long columns: its stages are apart")


def has_long_columns(group: Group) -> bool:
    """Whether the caches do not hold what a step of the lanes reads of the columns of a matrix."""
    domain, hint = group.domain, group.sizes.hint
    long = group.kind == COLUMNS and hint(domain.reduced_size) >= LONG_COLUMN
    return long and len(domain.reduced) == 1 and hint(domain.size) >= LARGE
