"""Layouts for the whole graph: convolutions with channels last, and all between them as well.

Kernels of convolutions read and write channels-last memory without turning anything around. So
each convolution that the backend wants becomes one of a permuted input, its result a permute of
that; and the permutes sink through pointwise ops, movement, and reductions that do not care for the
order, until they meet the next convolution's and cancel. The graph stays as it was where more would
be moved by the permutes that are left than the kernels of its convolutions would have moved. Bits
stay, but for those of Winograd's algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphc.ir.build import Builder
from graphc.ir.composite.layout import (
    conv_depthwise_last,
    conv_grad_input_last,
    conv_groups_last,
    conv_last,
    first,
    packed,
    packed_groups,
    packed_taps,
)
from graphc.ir.composite.winograd import conv_winograd, winograd_weight
from graphc.ir.graph import Attrs, Graph, Node, Value
from graphc.ir.op import OPS, Pointwise
from graphc.ir.ops.movement import inverse

from .clean import clean
from .pipeline import Context, Pass

Perm = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Packing:
    """How a convolution wants its weight: `width` channels of its result in a panel, and the
    order of the kernel's taps (None: as they are). winograd: by that algorithm, which rounds in
    other places. depthwise: each channel by itself, whose weights lie with channels last. groups:
    a panel has the results of whole groups."""

    width: int
    order: tuple[int, ...] | None = None
    winograd: bool = False
    depthwise: bool = False
    groups: bool = False


#: How the backend wants the weight of a node, or None: its own layout is better.
PackingOf = Callable[[Node], "Packing | None"]

_REDUCTIONS = frozenset(["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"])
_CONVOLUTIONS = frozenset(["conv", "conv_grad_input"])
_PACKED = frozenset(
    "conv_last conv_grad_input_last conv_winograd conv_depthwise_last conv_groups_last".split()
)
_VIEWERS = frozenset([*_REDUCTIONS, "permute", "pad", "slice", "flip", "window", "reshape"])
_KEEP_AXES = frozenset(["pad", "slice", "flip"])
#: A size that is a symbol counts as this many.
_SOME = 16


@dataclass(frozen=True)
class ChannelsLast(Pass):
    """Convolutions with channels last, as the backend wants them."""

    packing_of: PackingOf
    name: ClassVar[str] = "channels last"
    error: ClassVar[str] = "reorder"

    def run(self, graph: Graph, context: Context) -> Graph:
        return channels_last(graph, self.packing_of)


def channels_last(graph: Graph, packing_of: PackingOf) -> Graph:
    """The graph with its convolutions channels last, where that pays; else itself."""
    convolutions = [node for node in graph.nodes if node.op.name in _CONVOLUTIONS]
    wanted = {node: packing_of(node) for node in convolutions}
    chosen = {node: packing for node, packing in wanted.items() if packing is not None}
    if not chosen:
        return graph
    walk = _Walk(graph, chosen)
    made = clean(walk.run())
    # The other kernels of depthwise convolutions and of small groups turn nothing around.
    alone = [node for node, packing in chosen.items() if packing.depthwise or packing.groups]
    turned = sum([turned_around(node) for node in chosen if node not in alone])
    return made if _moved(made) - _moved(graph) <= turned else graph


def _moved(graph: Graph) -> int:
    """Elements that permutes move from memory to memory, but for those that pack weights.

    A permute that a pointwise op or a reduction reads is how that reads: it moves nothing.
    """
    packs = _makers([n.inputs[1] for n in graph.nodes if n.op.name in _PACKED])
    in_memory = set(graph.results)
    for node in graph.nodes:
        if not isinstance(node.op, Pointwise) and node.op.name not in _VIEWERS:
            in_memory.update(node.inputs)
    return sum(
        [
            elements(node.outputs[0])
            for node in graph.nodes
            if node.op.name == "permute" and node not in packs and node.outputs[0] in in_memory
        ]
    )


def _makers(values: list[Value]) -> set[Node]:
    """The nodes that the values come from."""
    found: set[Node] = set()
    while values:
        node = values.pop().node
        if node is not None and node not in found:
            found.add(node)
            values += node.inputs
    return found


def turned_around(node: Node) -> int:
    """Elements that the kernel of a convolution would turn around itself."""
    return elements(node.inputs[0]) + elements(node.outputs[0])


def elements(value: Value) -> int:
    """How many elements a value has, about where sizes are symbols."""
    count = 1
    for size in value.type.shape:
        count *= size if isinstance(size, int) else _SOME
    return count


def _any_order(node: Node, perm: Perm) -> bool:
    """Whether a reduction over the turned axes has the same bits: an extreme, or one over last axes
    that stay where they are."""
    axes, rank = node.attrs["axes"], len(perm)
    stay = axes == tuple(range(rank - len(axes), rank)) and all([perm[i] == i for i in axes])
    return stay or node.op.name in ("reduce_max", "reduce_min")


class _Walk:
    """Builds the graph anew; values may exist in another order of their axes.

    new     values as they were
    turned  (value u, perm), where the old value is permute(u, perm)
    """

    def __init__(self, graph: Graph, chosen: dict[Node, Packing]) -> None:
        self.graph, self.chosen = graph, chosen
        self.new: dict[Value, Value] = {}
        self.turned: dict[Value, tuple[Value, Perm]] = {}

    def run(self) -> Graph:
        with Builder(self.graph.params) as self.builder:
            self.new.update(zip(self.graph.params, self.graph.params))
            for node in self.graph.nodes:
                self.builder.loc = node.loc
                self._node(node)
            return self.builder.graph([self.plain(value) for value in self.graph.results])

    def plain(self, value: Value) -> Value:
        """The value with its axes in their old order."""
        found = self.new.get(value)
        if found is None:
            moved, perm = self.turned[value]
            found = self.new[value] = OPS["permute"](moved, perm=perm)
        return found

    def moved(self, value: Value, perm: Perm) -> Value:
        """u, where the value is permute(u, perm)."""
        held = self.turned.get(value)
        if held is not None and held[1] == perm:
            return held[0]
        return OPS["permute"](self.plain(value), perm=inverse(perm))

    def _node(self, node: Node) -> None:
        if node in self.chosen:
            self._conv(node, self.chosen[node])
            return
        perms = [self.turned[value][1] for value in node.inputs if value in self.turned]
        name = node.op.name
        if perms and isinstance(node.op, Pointwise) and len(node.outputs) == 1:
            inputs = [self.moved(value, perms[0]) for value in node.inputs]
            self._turn(node, self._emit(node, inputs, node.attrs), perms[0])
        elif name in _REDUCTIONS and perms and _any_order(node, perms[0]):
            self._reduce(node, perms[0])
        elif perms and name == "concat":
            inputs = [self.moved(value, perms[0]) for value in node.inputs]
            axis = perms[0][node.attrs["axis"]]
            self._turn(node, self._emit(node, inputs, {"axis": axis}), perms[0])
        else:
            self._plain(node)
            if perms:
                self._as_view(node, perms[0])

    def _conv(self, node: Node, packing: Packing) -> None:
        x, w = node.inputs
        outputs, inputs, *kernel = w.type.shape
        attrs, groups = dict(node.attrs), node.attrs["groups"]
        x, w = self.moved(x, first(len(kernel))), self.plain(w)
        if packing.depthwise:
            rank = len(kernel)
            del attrs["groups"]
            w = OPS["reshape"](w, shape=(outputs, *kernel))
            made = conv_depthwise_last(x, OPS["permute"](w, perm=(*range(1, rank + 1), 0)), **attrs)
        elif packing.winograd:
            u = winograd_weight(w, width=packing.width, back=False)
            made = conv_winograd(x, u, outputs=outputs, padding=attrs["padding"])
        elif packing.groups:
            made = conv_groups_last(x, packed_groups(w, packing.width), **attrs)
        elif node.op.name == "conv":
            made = conv_last(x, packed(w, packing.width, groups), outputs=outputs, **attrs)
        else:
            assert packing.order is not None
            attrs |= {"kernel": tuple(kernel), "order": packing.order}
            panels = packed_taps(w, packing.width, packing.order, groups)
            made = conv_grad_input_last(x, panels, outputs=inputs * groups, **attrs)
        self._turn(node, made, first(len(kernel)))

    def _plain(self, node: Node) -> None:
        inputs = tuple([self.plain(value) for value in node.inputs])
        made = self.builder.emit(node.op, inputs, node.attrs, node.blocks, node)
        self.new.update(zip(node.outputs, made))

    def _emit(self, node: Node, inputs: Sequence[Value], attrs: Attrs | dict) -> Value:
        return node.op(*inputs, **attrs)

    def _turn(self, node: Node, made: Value, perm: Perm) -> None:
        out = node.outputs[0]
        if perm == tuple(range(len(perm))):
            self.new[out] = made
        else:
            self.turned[out] = made, perm

    def _reduce(self, node: Node, perm: Perm) -> None:
        axes = node.attrs["axes"]
        kept = [perm[i] for i in range(len(perm)) if i not in axes]
        attrs = {**node.attrs, "axes": tuple(sorted([perm[i] for i in axes]))}
        made = self._emit(node, [self.moved(node.inputs[0], perm)], attrs)
        self._turn(node, made, tuple([sorted(kept).index(axis) for axis in kept]))

    def _as_view(self, node: Node, perm: Perm) -> None:
        """The result of a movement op is a view: what reads it may as well read it turned."""
        if len(node.outputs) != 1:
            return
        (out,), shape = node.outputs, node.inputs[0].type.shape
        after = out.type.shape
        if node.op.name == "window":
            perm = (*perm, *range(len(perm), len(after)))
        elif node.op.name == "reshape":
            same = 0
            while same < min(len(shape), len(after)) and shape[same] == after[same]:
                same += 1
            if sorted(perm[:same]) != list(range(same)):
                return
            if list(perm[same:]) != list(range(same, len(perm))):
                return
            perm = (*perm[:same], *range(same, len(after)))
        elif node.op.name not in _KEEP_AXES:
            return
        self.turned[out] = OPS["permute"](self.new[out], perm=inverse(perm)), perm
