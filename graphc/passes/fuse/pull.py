"""Pulling: a value computed at an index, inside the group of whoever reads it.

Movement ops are arithmetic on the index; pad and concat add guards; gather becomes a load at an
index that is itself an expression; pointwise ops become expressions. It ends at buffers: graph
parameters, constants and members of other groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from graphc.ir.dims import AnyDim, Dim
from graphc.ir.dtype import I64, DType
from graphc.ir.graph import Node, Value
from graphc.ir.op import Pointwise

from .affine import (
    ZERO,
    Affine,
    Guard,
    Guards,
    Index,
    NoCommonFactor,
    NotFused,
    add,
    flatten,
    reshaped,
    scale,
    shift,
    strides,
    within,
)
from .expr import Access, Expr
from .group import REDUCTIONS, Group, Indexed, Puller, reduced_axes
from .plan import base_of

if TYPE_CHECKING:
    from .plan import Plan

PullOp = Callable[["Pull", Group, Node, Index, Guards], Expr]
MOVEMENT: dict[str, PullOp] = {}


def moves(name: str) -> Callable[[PullOp], PullOp]:
    """Declares how the op of that name is pulled."""

    def declare(function: PullOp) -> PullOp:
        MOVEMENT[name] = function
        return function

    return declare


class Pull(Puller):
    """The puller of one plan; `plan.wanted` collects the values that would have to be buffers."""

    __slots__ = ("plan",)

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __call__(self, group: Group, value: Value, index: Index, guards: Guards = ()) -> Expr:
        key = (value, index, guards)
        found = group.memo.get(key)
        if found is None:
            found = group.memo[key] = self._pull(group, value, index, guards)
            group.pulled[value] = None
        return found

    def _pull(self, group: Group, value: Value, index: Index, guards: Guards) -> Expr:
        plan, node = self.plan, value.node
        if plan.is_buffer(value, group):
            return group.load(value, index, guards)
        assert node is not None, "parameters are buffers"
        if value in plan.kept:
            self._check_own_place(group, value, index)
        name = node.op.name
        move = MOVEMENT.get(name)
        if move is not None:
            return move(self, group, node, index, guards)
        if isinstance(node.op, Pointwise):
            args = tuple([self(group, operand, index, guards) for operand in node.inputs])
            return group.table.make(name, args, node.attrs or None, value.type.dtype)
        if name in REDUCTIONS and not reduced_axes(node):
            return self._over_nothing(group, node, index, guards)
        if plan.owner.get(value) is not group:
            raise NotFused("the result of another kernel")
        if name not in REDUCTIONS:
            raise NotFused(f"the result of {name} is complete only after its kernel")
        if (value, "row") not in group.reductions:
            raise NotFused("a column sum is complete only after the loop")
        if flatten(index, value.type.shape) != group.domain.kept:
            raise NotFused("a row's result is read at another row")
        return group.table.make("reduced", (), value, value.type.dtype)

    def _check_own_place(self, group: Group, value: Value, index: Index) -> None:
        """Refuses to compute a kept value of this group elsewhere than where it is stored."""
        for member, level in group.outputs:
            if member is value:
                if index != group.index_at(group.place_of(level), value.type.shape):
                    raise NotFused("read at other places, which are complete after its kernel")
                return

    def scatter_places(self, group: Group, value: Value, update: Index) -> Indexed:
        """Where the element of the updates at index `update` goes."""
        node = value.node
        assert node is not None
        shape, source = value.type.shape, node.inputs[0]
        initial = None if is_zero(source) else base_of(source)
        if initial is not None:
            self.buffer(group, initial)
        steps = strides(shape)
        if node.op.name == "dynamic_update":
            limits = zip(shape, node.inputs[1].type.shape)
            starts = [
                self._clamped(group, start, size - width)
                for start, (size, width) in zip(node.inputs[2:], limits)
            ]
            return Indexed(starts, tuple(steps), flatten(update, shape), "set", initial)
        axis, position = node.attrs["axis"], node.inputs[1]
        rank = len(position.type.shape)
        row = self(group, position, update[axis : axis + rank], ())
        rest = update[:axis] + (ZERO,) + update[axis + rank :]
        return Indexed([row], (steps[axis],), flatten(rest, shape), node.attrs["mode"], initial)

    def _clamped(self, group: Group, start: Value, last: AnyDim) -> Expr:
        """A computed start as i64, moved into [0, last]."""
        table = group.table
        found = self(group, start, (), ())
        if found.dtype is not I64:
            found = table.make("cast", (found,), None, I64)
        low = table.make("max", (found, table.constant(0, I64)), None, I64)
        high = table.make("size", (), last, I64)
        return table.make("min", (low, high), None, I64)

    def _over_nothing(self, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
        """A reduction over no axes is its operand (a sum of it is 0 + x)."""
        operand = self(group, node.inputs[0], index, guards)
        if node.op.name != "reduce_sum":
            return operand
        zero = group.table.constant(0, operand.dtype)
        return group.table.make("add", (operand, zero), None, operand.dtype)

    def buffer(self, group: Group, value: Value) -> None:
        """Refuses to go on unless the value is in memory."""
        if not self.plan.is_buffer(value, group):
            self.plan.want(value)
            raise NotFused("what is read at computed places must be a buffer")


def is_zero(value: Value) -> bool:
    """Whether the value is a constant whose bytes are all zero."""
    node = value.node
    if node is None or node.op.name != "full":
        return False
    number = node.attrs["value"]
    if isinstance(number, Dim):
        return False
    return number == 0 and not str(number).startswith("-")


@moves("reshape")
def _reshape(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    (source,), shape = node.inputs, node.outputs[0].type.shape
    if pull.plan.is_buffer(source, group):
        access = Access(source, flatten(index, shape), guards)
        return group.table.make("load", (), access, source.type.dtype)
    try:
        extents, sizes = group.domain.extents, group.sizes
        inner = reshaped(index, shape, source.type.shape, extents, sizes)
    except NoCommonFactor:
        pull.plan.want(source)
        raise
    return pull(group, source, inner, guards)


@moves("permute")
def _permute(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    moved = [ZERO] * len(index)
    for place, axis in enumerate(node.attrs["perm"]):
        moved[axis] = index[place]
    return pull(group, node.inputs[0], tuple(moved), guards)


@moves("expand")
def _expand(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    new = node.attrs["axes"]
    kept = tuple([form for axis, form in enumerate(index) if axis not in new])
    return pull(group, node.inputs[0], kept, guards)


@moves("slice")
def _slice(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    attrs = node.attrs
    steps = attrs.get("step") or (1,) * len(index)
    moved = [shift(scale(form, k), lo) for form, lo, k in zip(index, attrs["start"], steps)]
    return pull(group, node.inputs[0], tuple(moved), guards)


@moves("flip")
def _flip(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    axes, shape = node.attrs["axes"], node.outputs[0].type.shape
    moved = [
        add(Affine(shape[axis] - 1), form, -1) if axis in axes else form
        for axis, form in enumerate(index)
    ]
    return pull(group, node.inputs[0], tuple(moved), guards)


@moves("pad")
def _pad(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    (source,), attrs, dtype = node.inputs[:1], node.attrs, node.outputs[0].type.dtype
    inner, outer = source.type.shape, node.outputs[0].type.shape
    moved = tuple([shift(form, -1 * low) for form, low in zip(index, attrs["low"])])
    inside = tuple([Guard(form, 0, d) for form, d, size in zip(moved, inner, outer) if d != size])
    table = group.table
    if not inside:
        return pull(group, source, moved, guards)
    extents, sizes = group.domain.extents, group.sizes
    narrow = tuple([within(form, d, extents, sizes) for form, d in zip(moved, inner)])
    value = pull(group, source, narrow, guards + inside)
    fill = table.constant(attrs["value"], dtype)
    return table.make("select", (table.guard(inside), value, fill), None, dtype)


@moves("concat")
def _concat(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    axis, extents, sizes = node.attrs["axis"], group.domain.extents, group.sizes
    found: list[tuple[AnyDim, Expr]] = []  # where each part that is not empty begins
    start: AnyDim = 0
    for part in node.inputs:
        size = part.type.shape[axis]
        if size != 0:
            moved = list(index)
            moved[axis] = shift(index[axis], -1 * start)
            inside = (Guard(moved[axis], 0, size),)
            moved[axis] = within(moved[axis], size, extents, sizes)
            found.append((start, pull(group, part, tuple(moved), guards + inside)))
        start = start + size
    dtype = node.outputs[0].type.dtype
    if not found:
        return group.table.constant(0, dtype)  # (nothing reads an empty one)
    return _choose(group, index[axis], found, dtype)


def _choose(group: Group, form: Affine, parts: Sequence[tuple[AnyDim, Expr]], dtype: DType) -> Expr:
    """The part that the form is in, by halves: a piece of a loop then looks at few guards."""
    if len(parts) == 1:
        return parts[0][1]
    middle = len(parts) // 2
    first, second = parts[0][0], parts[middle][0]
    before = (Guard(shift(form, -1 * first), 0, second - first),)
    sides = [_choose(group, form, half, dtype) for half in (parts[:middle], parts[middle:])]
    return group.table.make("select", (group.table.guard(before), *sides), None, dtype)


@moves("full")
def _full(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    number, dtype = node.attrs["value"], node.outputs[0].type.dtype
    if isinstance(number, Dim):
        return group.table.make("size", (), number, dtype)
    return group.table.constant(number, dtype)


@moves("dim")
def _dim(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    size, dtype = node.attrs["size"], node.outputs[0].type.dtype
    return group.table.make("size", (), size, dtype)


@moves("detach")
@moves("graft")
def _first_operand(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    return pull(group, node.inputs[0], index, guards)


@moves("const")
def _const(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    return group.load(node.outputs[0], index, guards)


@moves("iota")
def _iota(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    axis = node.attrs["axis"]
    return group.table.make("iota", (), index[axis], node.outputs[0].type.dtype)


@moves("gather")
def _gather(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    """out[i..., j...] = source[index[i...], j...], along `axis` of the source."""
    source, position = base_of(node.inputs[0]), node.inputs[1]
    pull.buffer(group, source)
    axis = node.attrs["axis"]
    rank = len(position.type.shape)
    place = index[axis : axis + rank]
    rest = index[:axis] + (ZERO,) + index[axis + rank :]
    row = pull(group, position, place, guards)
    shape = node.inputs[0].type.shape
    access = Access(source, flatten(rest, shape), guards, (strides(shape)[axis],))
    return group.table.make("load", (row,), access, source.type.dtype)


@moves("window")
def _window(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    """The last axes of the source by (place of the window) * stride + (place in it) * dilation."""
    attrs = node.attrs
    count = len(attrs["sizes"])
    lead = len(index) - 2 * count
    moved = list(index[:lead])
    for k, (stride, dilation) in enumerate(zip(attrs["strides"], attrs["dilations"])):
        outer, inner = index[lead + k], index[lead + count + k]
        moved.append(add(scale(outer, stride), inner, dilation))
    return pull(group, node.inputs[0], tuple(moved), guards)


@moves("dynamic_slice")
def _dynamic_slice(pull: Pull, group: Group, node: Node, index: Index, guards: Guards) -> Expr:
    source, shape = base_of(node.inputs[0]), node.inputs[0].type.shape
    pull.buffer(group, source)
    starts = [
        pull._clamped(group, start, size - width)
        for start, size, width in zip(node.inputs[1:], shape, node.attrs["sizes"])
    ]
    access = Access(source, flatten(index, shape), guards, tuple(strides(shape)))
    return group.table.make("load", tuple(starts), access, source.type.dtype)
