"""Maps over a product's result are computed where the product stores it: bias, activation,
residual, the step of an optimizer.

A product of a matrix or a convolution has a kernel of its own, whose result is a stack of
matrices [batch, rows, columns]. A map that reads it element by element, and reads everything else
at places that are linear in (batch, row, column), becomes the kernel's *epilogue*: the result
stays in registers and, where nobody else reads it, never goes to memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.dims import AnyDim, Dim, product
from graphc.ir.graph import Node, Value

from .affine import Affine
from .domain import Domain
from .expr import Expr, walk
from .group import MAP, NATIVE, Group
from .plan import Plan, base_of, bits
from .signature import signature

#: Expressions of an epilogue: its text stands once for each vector of a tile, or in a loop.
MAX_EXPRESSIONS = 48
_NOT_HERE = frozenset(["iota", "guard", "size", "reduced"])


@dataclass(frozen=True, slots=True)
class Frame:
    """How a product's result lies in memory: `batch` matrices of rows x columns."""

    batch: AnyDim
    rows: AnyDim
    columns: int

    @property
    def whole(self) -> Place:
        """The place of the element at (batch, row, column)."""
        return (0 if self.batch == 1 else self.rows * self.columns), self.columns, 1, 0


#: The place const + a * batch + b * row + c * column, as (a, b, c, const).
Place = tuple[AnyDim, AnyDim, int, AnyDim]


@dataclass(frozen=True, slots=True, eq=False)
class Epilogue:
    """What a product's kernel computes from its result; equal ones have equal keys.

    result   the product, in memory as `frame` says; `kept` whether it is stored too
    outputs  (value, expression) of what is stored
    places   of each load
    buffers  what is read besides the result, and then what is written
    """

    result: Value
    frame: Frame
    kept: bool
    outputs: tuple[tuple[Value, Expr], ...]
    places: dict[Expr, Place]
    reads: tuple[Value, ...]
    nodes: tuple[Node, ...]
    key: tuple

    @property
    def whole(self) -> Place:
        """The place of the result's own element."""
        return self.frame.whole

    @property
    def own(self) -> tuple[Value, ...]:
        """The operands that are read at the place of the result's own element only."""
        elsewhere = {
            expr.payload.buffer
            for expr, place in self.places.items()
            if not _is_own(place, self.frame)
        }
        return tuple([value for value in self.reads if value not in elsewhere])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Epilogue) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def find_epilogues(plan: Plan, frame_of: Callable[[Node], Frame | None]) -> dict[int, Epilogue]:
    """The epilogues of products, by the number of their group. Their maps leave the plan.

    frame_of: how the result of a node with a kernel of its own lies in memory; None where that
    takes no epilogue.
    """
    readers = _readers(plan)
    results = {base_of(value) for value in plan.graph.results}
    found: dict[int, Epilogue] = {}
    absorbed: dict[int, int] = {}  # maps, and the groups of their products
    for group in plan.groups:
        if group.kind != NATIVE or group.node is None:
            continue
        result = group.node.outputs[0]
        maps = [g for g in readers[result] if g.kind == MAP and not g.is_check]
        frame = frame_of(group.node) if maps else None
        for other in maps:
            if frame is None or other.number in absorbed:
                continue
            kept = result in results or len(readers[result]) > 1
            made = _as_epilogue(plan, other, result, frame, kept, readers, results)
            if made is not None and _may_run_with(plan, other, group):
                found[group.number] = made
                absorbed[other.number] = group.number
                for value in other.members():
                    plan.owner[value] = group
                plan.add_dependencies(group, other.after)
                break
    if found:
        _drop(plan, absorbed)
    return found


def _readers(plan: Plan) -> dict[Value, list[Group]]:
    """The groups that read each value from memory."""
    found: dict[Value, dict[int, Group]] = defaultdict(dict)
    for group in plan.groups:
        for value in group.reads():
            found[value][group.number] = group
    return defaultdict(list, {value: list(groups.values()) for value, groups in found.items()})


def _as_epilogue(
    plan: Plan,
    group: Group,
    result: Value,
    frame: Frame,
    kept: bool,
    readers: Mapping[Value, list[Group]],
    results: set[Value],
) -> Epilogue | None:
    """The map as an epilogue of the product, or None where it is none."""
    domain = group.domain
    if domain.size != product(result.type.shape) or len(group.table) > 4 * MAX_EXPRESSIONS:
        return None
    exprs = walk(group.code.roots())
    places = linear_places(exprs, domain, frame) if len(exprs) <= MAX_EXPRESSIONS else None
    if places is None:
        return None
    for expr, place in places.items():
        if expr.payload.buffer is result and not _is_own(place, frame):
            return None
    outputs = [
        (output.value, output.expr)
        for output in group.code.outputs
        if output.value in results or readers[output.value]
    ]
    dtype = result.type.dtype
    if not outputs or not (kept or any([value.type.dtype is dtype for value, _ in outputs])):
        return None
    if not kept:  # the first goes where the product's own result would go
        first = next(i for i, (value, _) in enumerate(outputs) if value.type.dtype is dtype)
        outputs.insert(0, outputs.pop(first))
    text, buffers = signature(group, ())
    reads = dict.fromkeys([expr.payload.buffer for expr in places])
    reads.pop(result, None)
    stored = {value for value, _ in outputs}
    key = (
        text, kept, frame,
        tuple([k for k, value in enumerate(buffers) if value in stored]),
        buffers.index(result), buffers.index(outputs[0][0]),
    )  # fmt: skip
    nodes = tuple(dict.fromkeys([v.node for v in [*group.members(), *group.pulled] if v.node]))
    return Epilogue(result, frame, kept, tuple(outputs), places, tuple(reads), nodes, key)


def linear_places(exprs: Sequence[Expr], domain: Domain, frame: Frame) -> dict[Expr, Place] | None:
    """The places of all loads; None where one is not linear, or the code needs a loop's index."""
    places: dict[Expr, Place] = {}
    for expr in exprs:
        if expr.op in _NOT_HERE:
            return None
        if expr.op == "load":
            access = expr.payload
            if expr.args or access.guards:
                return None
            place = place_in(access.form, domain, frame)
            if place is None:
                return None
            places[expr] = place
    return places


def _is_own(place: Place, frame: Frame) -> bool:
    """Whether a place is that of the result's own element, whatever the factors of no index."""
    own = zip((frame.batch, frame.rows, frame.columns), place, frame.whole)
    return place[3] == 0 and all([n == 1 or a == b for n, a, b in own])


def place_in(form: Affine, domain: Domain, frame: Frame) -> Place | None:
    """A form over the domain's variables as a place that is linear in batch, row and column.

    Each variable counts along one of them, or along several that lie one after the other.
    """
    units = [1, frame.columns]
    if frame.batch != 1 and isinstance(frame.rows, int):
        units.append(frame.rows * frame.columns)
    factors: list[AnyDim | None] = [None, None, None]
    given = dict(form.terms)
    for variable, stride in domain.full.terms:
        extent = domain.extents[variable]
        if extent == 1:
            continue
        if not isinstance(stride, int):
            return None
        level = max([i for i, unit in enumerate(units) if unit <= stride])
        steps, rest = divmod(stride, units[level])
        factor, odd = _divided(given.get(variable, 0), steps)
        if rest or odd:
            return None
        end = stride * extent if isinstance(extent, int) else None
        while True:
            if factors[level] not in (None, factor):
                return None
            factors[level] = factor
            level += 1
            if level == len(units) or (end is not None and end <= units[level]):
                break
            factor = factor * (units[level] // units[level - 1])
    column, row, batch = [0 if factor is None else factor for factor in factors]
    if column not in (0, 1) or isinstance(column, Dim):
        return None
    return batch, row, column, form.const


def _divided(factor: AnyDim, steps: int) -> tuple[AnyDim, bool]:
    """factor / steps, and whether that is not whole."""
    if isinstance(factor, int):
        return factor // steps, factor % steps != 0
    return (factor, False) if steps == 1 else (0, True)


def _may_run_with(plan: Plan, group: Group, product_group: Group) -> bool:
    """Whether nothing that the map needs needs the product."""
    bit = 1 << product_group.number
    return not any([plan.closure[n] & bit for n in bits(group.after & ~bit)])


def _drop(plan: Plan, absorbed: Mapping[int, int]) -> None:
    """The maps leave the plan: what waited for one waits for the product that computes it."""
    gone = sum([1 << number for number in absorbed])
    written = {
        value.node for group in plan.groups if gone >> group.number & 1 for value in group.members()
    }
    plan.groups = [group for group in plan.groups if not gone >> group.number & 1]
    for group in plan.groups:
        for number in bits(group.after & gone):
            group.after |= 1 << absorbed[number]
        group.after &= ~(gone | 1 << group.number)
    plan.groups = plan.in_order()
    plan.refusals = [
        refusal
        for refusal in plan.refusals
        if not (refusal.reason == "the result of a native kernel" and refusal.node in written)
    ]
