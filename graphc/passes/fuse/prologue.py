"""Maps over a product's operand are computed where the product packs it: casts and scales of
weights, activations, masks.

The kernel of a matrix product copies blocks of an operand into scratch, or can. A map that nobody
else reads, and that reads everything at places which are linear in (batch, row, column) of the
operand, becomes the kernel's *prologue*: what it computes goes to the block, and never to memory.
A block that is packed again, for each block of columns or by each thread, is computed again; so a
prologue is taken where that costs less than the bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.dims import product
from graphc.ir.graph import Node, Value

from .epilogue import MAX_EXPRESSIONS, Epilogue, Frame, Place, linear_places
from .expr import Expr, cost_of, walk
from .group import MAP, NATIVE, ROWS, Group
from .plan import Plan, base_of
from .signature import signature

#: What an element of four bytes costs to write and to read again, an addition being 1, in caches
#: of so many bytes.
IN_CACHES = ((1 << 19, 2.0), (8 << 20, 5.0))
#: The same beyond them; arithmetic is hidden behind the writes.
WRITTEN, READ_AGAIN = 8.0, 3.5
#: Arithmetic in a copy takes so much of what it takes in a kernel of its own, whose loop is wider.
IN_A_COPY = 1.25


@dataclass(frozen=True, slots=True)
class Use:
    """How a product reads an operand.

    frame   how it lies in memory; None where the kernel computes nothing on the way
    times   how often each element is read from there, and would be computed
    copying what the copies cost of an element that is now read in place, in additions
    """

    value: Value
    frame: Frame | None
    times: float = 1.0
    copying: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Prologue:
    """What a product's kernel computes instead of reading `value`; equal ones have equal keys.

    places  of each load
    reads   the buffers, in the order of the kernel's pointers
    """

    value: Value
    frame: Frame
    expr: Expr
    places: dict[Expr, Place]
    reads: tuple[Value, ...]
    nodes: tuple[Node, ...]
    key: tuple

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prologue) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


#: Of one product, by the operand.
Prologues = dict[Value, Prologue]


class _Stays(Exception):
    """The map keeps a kernel of its own; the message says why."""


def find_prologues(
    plan: Plan, uses_of: Callable[[Node], Sequence[Use]], epilogues: Iterable[Epilogue] = ()
) -> dict[int, Prologues]:
    """The prologues of products, by the number of their group. Their maps leave the plan.

    uses_of: how the kernel of a node reads those operands that might be computed on the way.
    epilogues: those of the plan, whose maps have left it; they read operands too.
    """
    found: dict[int, Prologues] = {}
    absorbed: dict[int, int] = {}  # maps, and the groups of their products
    readers: dict[Value, int] | None = None
    results = {base_of(value) for value in plan.graph.results}
    for group in plan.groups:
        if group.kind != NATIVE or group.node is None:
            continue
        computed = [v for v in group.operands if v in plan.owner and plan.owner[v].kind != NATIVE]
        if not computed:
            continue
        readers = _readers(plan, epilogues) if readers is None else readers
        for use in uses_of(group.node):
            if use.value not in computed:
                continue
            owner = plan.owner[use.value]
            try:
                if use.value in results or readers[use.value] > 1:
                    raise _Stays("a product's operand that others read too")
                made = _as_prologue(plan, owner, use)
            except _Stays as stays:
                plan.refuse(group.node, str(stays), use.value)
                continue
            found.setdefault(group.number, {})[use.value] = made
            absorbed[owner.number] = group.number
            plan.owner[use.value] = group
            plan.add_dependencies(group, owner.after)
    if absorbed:
        gone = sum([1 << number for number in absorbed])
        plan.groups = [group for group in plan.groups if not gone >> group.number & 1]
        for group in plan.groups:
            group.after &= ~gone
    return found


def _readers(plan: Plan, epilogues: Iterable[Epilogue]) -> dict[Value, int]:
    """How many kernels read each value from memory; one that reads it twice counts twice."""
    reads = [group.operands if group.kind == NATIVE else group.reads() for group in plan.groups]
    return Counter([value for some in (*reads, *[e.reads for e in epilogues]) for value in some])


def _as_prologue(plan: Plan, group: Group, use: Use) -> Prologue:
    """The map as the prologue of its reader; raises _Stays."""
    frame, value = use.frame, use.value
    if group.kind == ROWS:
        raise _Stays("a product reads rows that need their own sums first")
    if group.kind != MAP:
        raise _Stays(f"a product reads the result of a {group.kind} kernel")
    if frame is None:
        raise _Stays("a product whose kernel reads its operand in place")
    if len(group.outputs) > 1 or group.is_check:
        raise _Stays("a product's operand that is computed with other results")
    (output,) = group.code.outputs
    exprs = walk([output.expr])
    places = None
    if group.domain.size == product(value.type.shape) and len(exprs) <= MAX_EXPRESSIONS:
        places = linear_places(exprs, group.domain, frame)
    if places is None:
        raise _Stays("a product's operand that is read at other places than its own")
    work = _work(exprs, places)
    times = use.times
    if times * work * IN_A_COPY + use.copying > _apart(plan, value, work):
        raise _Stays(_too_dear(use))
    text, _ = signature(group, ())
    reads = tuple(dict.fromkeys([expr.payload.buffer for expr in places]))
    nodes = tuple(dict.fromkeys([v.node for v in [*group.members(), *group.pulled] if v.node]))
    return Prologue(value, frame, output.expr, places, reads, nodes, (text, frame))


def _too_dear(use: Use) -> str:
    again = f"computed {use.times:g} times" if use.times > 1 else "computed in a copy"
    return f"a product's operand, {again}: dearer than its bytes"


def _work(exprs: Sequence[Expr], places: Mapping[Expr, Place]) -> float:
    """What the map computes for each element, and reads; not what it does once a row."""
    along: set[Expr] = set()
    total = 0.0
    for expr in exprs:
        if (expr in places and places[expr][2] != 0) or not along.isdisjoint(expr.args):
            along.add(expr)
            total += 1 if expr in places else cost_of(expr.op)
    return total


def _apart(plan: Plan, value: Value, work: float) -> float:
    """What an element costs in a kernel of its own, until it is read again."""
    item = value.type.dtype.itemsize
    size = plan.sizes.hint(product(value.type.shape)) * item
    for most, cost in IN_CACHES:
        if size <= most:
            return work + cost * item / 4
    return max(work, WRITTEN * item / 4) + READ_AGAIN * item / 4


def reads_of(prologues: Prologues) -> list[Value]:
    """The buffers that a product's prologues read."""
    return [value for prologue in prologues.values() for value in prologue.reads]
