"""Checks of values that are only known when a graph runs: indices, integer divisors.

Each check is a flag, one bool that is True where something is wrong, computed by ops of the IR
before the node that relies on it. Where the range of an index follows from how it is made, there
is nothing to check. An `assert` becomes nothing but its flag.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from graphc.ir.build import Builder
from graphc.ir.dims import AnyDim, Dim
from graphc.ir.dtype import BOOL, DType
from graphc.ir.graph import Attrs, Graph, Node, Value
from graphc.ir.op import OPS
from graphc.ir.types import TensorType

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Check:
    """`flag` is True where the node must not run. kind: `bounds`, `division` or `assert`."""

    flag: Value
    node: Node
    kind: str
    index: Value
    size: AnyDim = 0


@dataclass(slots=True)
class Checked:
    """A graph whose last results are the flags; `needed` maps a node to the flags before it."""

    graph: Graph
    checks: list[Check] = field(default_factory=list)
    needed: dict[Node, list[Value]] = field(default_factory=dict)


def add_checks(graph: Graph) -> Checked:
    """The graph with a flag in front of each node that needs one."""
    intervals = Intervals()
    found = Checked(graph)
    made: dict[tuple, Value | None] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        for kind, value, size in _needs(node):
            key = (kind, value, size)
            if key not in made:
                made[key] = None
                if not _proved(value, intervals, kind, size):
                    inside = inside_of(value, intervals, size) if kind == "bounds" else None
                    flag = made[key] = _flag(nodes, node, kind, value, size, inside)
                    found.checks.append(Check(flag, node, kind, value, size))
            known = made[key]
            if known is not None:
                found.needed.setdefault(node, []).append(known)
        if node.op.name != "assert":
            nodes.append(node)
    if found.checks:
        flags = [check.flag for check in found.checks]
        found.graph = Graph(graph.params, nodes, (*graph.results, *flags))
    return found


def _needs(node: Node) -> list[tuple[str, Value, AnyDim]]:
    """(kind, value, size) of what has to hold of a node's operands."""
    name = node.op.name
    if name in ("gather", "scatter"):
        size = node.inputs[0].type.shape[node.attrs["axis"]]
        return [("bounds", node.inputs[1], size)]
    if name in ("quo", "rem") and node.inputs[1].type.dtype.kind in "iu":
        return [("division", node.inputs[1], 0)]
    if name == "assert":
        return [("assert", node.inputs[0], 0)]
    return []


def _proved(value: Value, intervals: Intervals, kind: str, size: AnyDim) -> bool:
    if any([d == 0 for d in value.type.shape]):
        return True
    if kind == "assert":
        return False
    interval = intervals.of(value)
    if interval is None:
        return False
    low, high = interval
    if kind == "division":
        return low > 0 or high < 0
    return isinstance(size, int) and low >= 0 and high < size


def _flag(
    nodes: list[Node], node: Node, kind: str, value: Value, size: AnyDim, inside: Value | None
) -> Value:
    """Nodes that compute whether any element is wrong, appended to `nodes`.

    inside: a value that is known to be True exactly where the element is right.
    """
    with Builder(loc=node.loc) as builder:
        if inside is not None:
            wrong = OPS["not"](inside)
        elif kind == "division":
            wrong = OPS["eq"](value, _constant(builder, 0, value.type))
        elif kind == "assert":
            wrong = OPS["not"](value)
        else:
            wrong = _outside(builder, value, size)
        axes = tuple(range(len(wrong.type.shape)))
        flag = OPS["reduce_max"](wrong, axes=axes) if axes else wrong
    nodes.extend(builder.nodes)
    return flag


def inside_of(value: Value, intervals: Intervals, size: AnyDim) -> Value | None:
    """The condition that decides alone whether a flat place is in [0, size), if there is one.

    A place is `rest + scale * select(low <= i < high, i, outside)`: where the condition holds it
    is in range, and where it does not it is out of range. The condition reads the index only, so
    its reduction is one loop over memory, whatever the rest varies with.
    """
    found = _selected(value, intervals)
    if found is None or not isinstance(size, int):
        return None
    select, scale, (low, high) = found
    condition, index, other = select.inputs
    limits, outside = _limits(condition, index), intervals.of(other)
    if limits is None or outside is None:
        return None
    right = low + scale * limits[0] >= 0 and high + scale * limits[1] < size
    return condition if right and high + scale * outside[1] < 0 else None


def _selected(value: Value, intervals: Intervals) -> tuple[Node, int, Interval] | None:
    """value as `rest + scale * select(...)`: the select, the scale, the range of the rest."""
    node = value.node
    while node is not None and node.op.name in _ALL_ELEMENTS:
        node = node.inputs[0].node
    if node is None or node.op.name not in ("select", "add", "mul"):
        return None
    if node.op.name == "select":
        return node, 1, (0, 0)
    for part, other in (node.inputs, node.inputs[::-1]):
        found, known = _selected(part, intervals), intervals.of(other)
        if found is None or known is None:
            continue
        select, scale, rest = found
        if node.op.name == "add":
            return select, scale, (rest[0] + known[0], rest[1] + known[1])
        if known[0] == known[1] > 0:
            return select, scale * known[0], (rest[0] * known[0], rest[1] * known[0])
    return None


_ALL_ELEMENTS = frozenset(["reshape", "permute", "expand"])


def _limits(condition: Value, index: Value) -> Interval | None:
    """(low, last) where the condition is `low <= index and index <= last`, written with `lt`."""
    node = condition.node
    if node is None or node.op.name != "and":
        return None
    below, above = [part.node for part in node.inputs]
    if below is None or above is None or (below.op.name, above.op.name) != ("le", "lt"):
        return None
    low, high = _number(below.inputs[0]), _number(above.inputs[1])
    if below.inputs[1] is not index or above.inputs[0] is not index or low is None or high is None:
        return None
    return low, high - 1


def own_rows(index: Value, size: AnyDim) -> tuple[int, int] | None:
    """(count, width) where element [i, ...] of an index is in row i of `count` rows of `width`
    places, which are all that there are: if all its elements are in [0, size)."""
    value, intervals = index, Intervals()
    while value.node is not None and value.node.op.name == "reshape":
        value = value.node.inputs[0]
    if not isinstance(size, int) or not value.type.shape:
        return None
    known = _proved(index, intervals, "bounds", size) or inside_of(index, intervals, size)
    count, found = value.type.shape[0], _rows_of(value, intervals) if known else None
    if found is None or not isinstance(count, int) or count * found[0] != size:
        return None
    width, (low, high) = found
    return (count, width) if low >= 0 and high < width else None


def _rows_of(value: Value, intervals: Intervals) -> tuple[int, Interval] | None:
    """value as `scale * (its place along the first axis) + rest`: the scale, the range of the rest,
    where a select of an index that is in range or not is in range."""
    node = value.node
    name = node.op.name if node is not None else ""
    if node is not None and name == "iota" and node.attrs["axis"] == 0:
        return 1, (0, 0)
    if node is not None and name == "select":
        limits = _limits(node.inputs[0], node.inputs[1])
        if limits is not None:
            return 0, limits
    if node is not None and name == "add":
        left, right = [_rows_of(part, intervals) for part in node.inputs]
        if left is None or right is None:
            return None
        return left[0] + right[0], (left[1][0] + right[1][0], left[1][1] + right[1][1])
    if node is not None and name == "mul":
        for part, other in (node.inputs, node.inputs[::-1]):
            found, known = _rows_of(part, intervals), intervals.of(other)
            if found is not None and known is not None and known[0] == known[1] > 0:
                return found[0] * known[0], (found[1][0] * known[0], found[1][1] * known[0])
    interval = intervals.of(value)
    return None if interval is None else (0, interval)


def _number(value: Value) -> int | None:
    node = value.node
    number = node.attrs["value"] if node is not None and node.op.name == "full" else None
    return number if isinstance(number, int) else None


def _outside(builder: Builder, index: Value, size: AnyDim) -> Value:
    """Where an index is negative, or `size` or more."""
    dtype = index.type.dtype
    negative = OPS["lt"](index, _constant(builder, 0, index.type))
    if isinstance(size, int) and size > np.iinfo(dtype.numpy).max:
        return negative
    too_large = OPS["le"](_constant(builder, size, index.type), index)
    return too_large if dtype.kind == "u" else OPS["or"](negative, too_large)


def _constant(builder: Builder, number: AnyDim, like: TensorType) -> Value:
    """A constant that may be a symbolic size."""
    full = OPS["full"]
    if isinstance(number, int):
        attrs = {"value": number, "dtype": like.dtype, "shape": like.shape}
        return builder.emit(full, (), full.attrs_of(attrs))[0]
    attrs = Attrs.of({"value": number, "dtype": like.dtype, "shape": like.shape, "device": "cpu"})
    node = Node(full, (), [like], attrs, (), builder.loc)
    builder.nodes.append(node)
    return node.outputs[0]


class Intervals:
    """The least and greatest element of integer values, where they follow from how it is made."""

    def __init__(self) -> None:
        self._known: dict[Value, Interval | None] = {}

    def of(self, value: Value) -> Interval | None:
        if value not in self._known:
            self._known[value] = None  # what follows is no recursion without end
            self._known[value] = self._find(value)
        return self._known[value]

    def _find(self, value: Value) -> Interval | None:
        node = value.node
        if node is None or value.type.dtype.kind not in "iu" or value.type.dtype is BOOL:
            return None
        name = node.op.name
        if name in _SAME_ELEMENTS:
            return self.of(node.inputs[0])
        if name in _MADE:
            return _MADE[name](node, value)
        if name in _COMBINED:
            parts = [self.of(operand) for operand in node.inputs[-2:]]
            low_high = _COMBINED[name](*parts)
            return low_high if low_high and _fits(low_high, value.type.dtype) else None
        if name == "cast" and node.inputs[0].type.dtype.kind in "iu":
            found = self.of(node.inputs[0])
            return found if found and _fits(found, value.type.dtype) else None
        return None


_SAME_ELEMENTS = frozenset(["reshape", "permute", "expand", "slice", "flip", "gather", "detach"])


def _of_full(node: Node, value: Value) -> Interval | None:
    number = node.attrs["value"]
    return None if isinstance(number, Dim) else (int(number), int(number))


def _of_data(node: Node, value: Value) -> Interval | None:
    array = node.attrs["data"].array
    return (int(array.min()), int(array.max())) if array.size else None


def _of_iota(node: Node, value: Value) -> Interval | None:
    size = value.type.shape[node.attrs["axis"]]
    return (0, max(size - 1, 0)) if isinstance(size, int) else None


def _of_place(node: Node, value: Value) -> Interval | None:
    """Positions along an axis: an arg reduction, the places of a sort or its first ones."""
    if node.op.name in ("sort", "topk") and value.index == 0:
        return None
    size = node.inputs[0].type.shape[node.attrs["axis"]]
    return (0, max(size - 1, 0)) if isinstance(size, int) else None


_MADE = {
    "full": _of_full,
    "const": _of_data,
    "iota": _of_iota,
    "arg_reduce": _of_place,
    "sort": _of_place,
    "topk": _of_place,
}


def _added(a: Interval | None, b: Interval | None) -> Interval | None:
    return (a[0] + b[0], a[1] + b[1]) if a and b else None


def _subtracted(a: Interval | None, b: Interval | None) -> Interval | None:
    return (a[0] - b[1], a[1] - b[0]) if a and b else None


def _multiplied(a: Interval | None, b: Interval | None) -> Interval | None:
    if not (a and b):
        return None
    products = [x * y for x in a for y in b]
    return min(products), max(products)


def _either(a: Interval | None, b: Interval | None) -> Interval | None:
    return (min(a[0], b[0]), max(a[1], b[1])) if a and b else None


def _larger(a: Interval | None, b: Interval | None) -> Interval | None:
    if a and b:
        return max(a[0], b[0]), max(a[1], b[1])
    return None


def _smaller(a: Interval | None, b: Interval | None) -> Interval | None:
    if a and b:
        return min(a[0], b[0]), min(a[1], b[1])
    return None


_COMBINED = {
    "add": _added,
    "sub": _subtracted,
    "mul": _multiplied,
    "select": _either,
    "max": _larger,
    "min": _smaller,
}


def _fits(interval: Interval, dtype: DType) -> bool:
    info = np.iinfo(dtype.numpy)
    return int(info.min) <= interval[0] and interval[1] <= int(info.max)
