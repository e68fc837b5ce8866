"""What is read at one place of each row is computed for that place alone.

`pick(x - expand(m), i)` becomes `pick(x, i) - m`: the picked element needs what its row was
computed from, and not the whole matrix in memory. So the loss of a log-softmax reads the scores,
and nobody writes their logarithms.

A pick goes through pointwise ops as long as these depend on what is repeated along its axis, as
the statistics of rows are, or on nothing but parameters. Ahead of that it stops: what a product
leaves is in memory in its last form, with all that its kernel does after it.
"""

from __future__ import annotations

from graphc.ir.build import Builder
from graphc.ir.graph import Attrs, Graph, Node, Value
from graphc.ir.op import OPS, Pointwise

#: Ops that are computed for picked elements; where it were more, the pick stays where it is.
MOST = 32

Axes = frozenset[int]
_NONE: Axes = frozenset()


def sink_picks(graph: Graph) -> Graph:
    """The graph, of CORE ops and picks, with picks as far up as they go; in blocks too."""
    if not _has_picks(graph):
        return graph
    sources = _Sources(graph)
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = dict(zip(graph.params, graph.params))
        for node in graph.nodes:
            builder.loc = node.loc
            inputs = tuple([new[value] for value in node.inputs])
            if node.op.name == "pick":
                made: tuple[Value, ...] = (_picked(node, sources, new),)
            else:
                blocks = tuple([sink_picks(block) for block in node.blocks])
                made = builder.emit(node.op, inputs, node.attrs, blocks, node)
            new.update(zip(node.outputs, made))
        return builder.graph([new[value] for value in graph.results])


def _has_picks(graph: Graph) -> bool:
    return any([n.op.name == "pick" or any(map(_has_picks, n.blocks)) for n in graph.nodes])


def _is_total(node: Node) -> bool:
    """Pointwise, and never an error: those of elements that are not picked must not be lost."""
    return isinstance(node.op, Pointwise) and node.op.name not in ("quo", "rem")


class _Sources:
    """What pointwise values are computed from.

    repeated: the axes along which something is repeated that is no constant. alone: values of
    nothing but parameters and constants.
    """

    def __init__(self, graph: Graph) -> None:
        self.repeated: dict[Value, Axes] = {}
        self.alone: set[Value] = set(graph.params)
        for node in graph.nodes:
            value, name = node.outputs[0] if node.outputs else None, node.op.name
            if value is None:
                continue
            alone = all([operand in self.alone for operand in node.inputs])
            if _is_total(node):
                axes = [self.repeated.get(operand, _NONE) for operand in node.inputs]
                self.repeated[value] = frozenset().union(*axes)
            elif name == "expand":
                source = node.inputs[0].node
                if source is None or source.inputs:
                    self.repeated[value] = frozenset(node.attrs["axes"])
            elif name not in ("full", "iota", "const"):
                continue
            if alone:
                self.alone.add(value)

    def goes_through(self, value: Value, axis: int) -> bool:
        """Whether a pick along the axis goes on to the operands of the value."""
        node = value.node
        if node is None or node.op.name == "const":
            return False
        if _is_total(node):
            return axis in self.repeated[value] or value in self.alone
        if node.op.name == "expand":
            return axis in node.attrs["axes"]
        return node.op.name == "full" or (node.op.name == "iota" and node.attrs["axis"] != axis)


def _picked(pick: Node, sources: _Sources, new: dict[Value, Value]) -> Value:
    """The value of a pick; `new` are the values that stand for those of the old graph."""
    (x, index), axis = pick.inputs, pick.attrs["axis"]
    found: dict[Value, Value] = {}
    cone = _cone(x, sources, axis)
    for value in cone or [x]:
        node = value.node
        if cone is None or node is None or not sources.goes_through(value, axis):
            found[value] = OPS["pick"](new[value], new[index], axis=axis)
        elif isinstance(node.op, Pointwise):
            operands = tuple([found[operand] for operand in node.inputs])
            (found[value],) = Builder.current().emit(node.op, operands, node.attrs)
        else:
            operands = tuple([new[operand] for operand in node.inputs])
            attrs = _without(node, axis)
            (found[value],) = Builder.current().emit(node.op, operands, attrs)
    return found[x]


def _without(node: Node, axis: int) -> Attrs:
    """The attributes of an expand, a full or an iota without an axis of its result."""
    attrs = dict(node.attrs.items())
    shape = attrs["shape"]
    attrs["shape"] = shape[:axis] + shape[axis + 1 :]
    if node.op.name == "expand":
        attrs["axes"] = tuple([a - (a > axis) for a in attrs["axes"] if a != axis])
    elif node.op.name == "iota":
        attrs["axis"] -= attrs["axis"] > axis
    return Attrs.of(attrs)


def _cone(x: Value, sources: _Sources, axis: int) -> list[Value] | None:
    """What is computed for the picked elements, operands first; None where that is too much."""
    order: list[Value] = []
    seen: set[Value] = set()
    stack = [(x, False)]
    while stack:
        value, done = stack.pop()
        if done:
            order.append(value)
        elif value not in seen:
            seen.add(value)
            if len(seen) > MOST:
                return None
            stack.append((value, True))
            node = value.node
            if (
                node is not None
                and isinstance(node.op, Pointwise)
                and sources.goes_through(value, axis)
            ):
                stack += [(operand, False) for operand in node.inputs]
    return order
