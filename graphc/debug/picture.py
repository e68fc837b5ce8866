"""What a drawing shows: items and links, made from a graph or from the kernels of its plan.

Weights, constants and what is computed from them alone are not items of their own: they stand as
a short formula in the item that reads them, so that a picture shows the flow of data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.ir.graph import Graph, Node, Value, show
from graphc.ir.types import TensorType

from .family import CONTROL, INPUT, RESULT, Family, family_of

LONGEST_FORMULA = 30
LONGEST_ATTRS = 34
_SIGNS = {"add": "+", "sub": "−", "mul": "×", "div": "/"}
#: Attributes that the type of the result shows already.
_TOLD_BY_TYPE = frozenset(["shape", "dtype", "device", "data", "size", "value"])
#: What most nodes have, and so says nothing.
_USUAL = {"groups": 1, "batch": ((), ())}


@dataclass(eq=False, slots=True)
class Item:
    """A box: `title` (op), `note` (weights, constants), `detail` (attributes), `type`, `loc`.

    text: the line of the IR. inside: what a kernel or a node with blocks contains. entry: a value
    that comes from outside of the picture, or a result that leaves it.
    """

    title: str
    family: Family
    note: str = ""
    detail: str = ""
    type: str = ""
    loc: str = ""
    text: str = ""
    inside: Picture | None = None
    number: int = -1


@dataclass(eq=False, slots=True)
class Port:
    """Where a value enters or leaves a kernel."""

    value: Value


@dataclass(frozen=True, slots=True)
class Link:
    """A value that flows from one item to another, or through a port of a kernel."""

    source: Item
    target: Item
    value: Value
    source_port: Port | None = None
    target_port: Port | None = None


@dataclass(eq=False, slots=True)
class Picture:
    """Items in an order in which each follows what it reads."""

    title: str = ""
    items: list[Item] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    entries: list[tuple[Port, Item]] = field(default_factory=list)
    exits: list[tuple[Item, Port]] = field(default_factory=list)

    def walk(self) -> Iterable[Item]:
        """All items, those inside of others too."""
        for item in self.items:
            yield item
            if item.inside is not None:
                yield from item.inside.walk()

    def number(self) -> Picture:
        """Gives each item its number."""
        for number, item in enumerate(self.walk()):
            item.number = number
        return self


# --- names and formulas --------------------------------------------------------------------------


class Names:
    """The names that the text form gives the values, and the formulas of what is constant."""

    def __init__(self, graph: Graph, weights: Collection[str] = (), fold: bool = True) -> None:
        self.fold = fold
        self.name: dict[Value, str] = {}
        used: set[str] = set()
        for value in _values(graph):
            text = value.name or str(len(self.name))
            while text in used:
                text = f"{text}.{len(self.name)}"
            used.add(text)
            self.name[value] = text
        self.weights = {p for p in graph.params if p.name and p.name in weights}
        self.formulas: dict[Value, str] = {}

    def __getitem__(self, value: Value) -> str:
        return self.name.get(value, value.name or "?")

    def is_constant(self, node: Node) -> bool:
        """Whether all that the node reads are weights and constants."""
        if not self.fold or node.blocks or not node.op.pure or len(node.outputs) != 1:
            return False
        return all(value in self.formulas for value in node.inputs)

    def note_weights(self) -> None:
        for value in self.weights if self.fold else ():
            self.formulas[value] = self[value]

    def note(self, node: Node) -> None:
        """Keeps the formula of a constant node."""
        self.formulas[node.outputs[0]] = self._formula(node)

    def _formula(self, node: Node) -> str:
        name, args = node.op.name, [self.formulas[value] for value in node.inputs]
        if name == "full":
            value = node.attrs["value"]
            return f"{value:.6g}" if isinstance(value, float) else show(value)
        if not args:
            return name
        if family_of(node.op).name == "movement" and len(args) == 1:
            return args[0]
        if name in _SIGNS and len(args) == 2:
            left, right = (f"({a})" if " " in a and "(" not in a else a for a in args)
            return f"{left} {_SIGNS[name]} {right}"
        return f"{name}({', '.join(args)})"

    def operands(self, node: Node) -> str:
        """The operands that are constant, as a note beside the op's name."""
        constant = [value in self.formulas for value in node.inputs]
        if not any(constant):
            return ""
        first = constant.index(True)
        if all(constant[first:]) or node.op.commutative:
            shown = [self.formulas[value] for value in node.inputs if value in self.formulas]
        elif node.op.name in _SIGNS:
            shown = [f"{self.formulas[node.inputs[0]]} {_SIGNS[node.op.name]} ·"]
        else:
            shown = [self.formulas.get(value, "·") for value in node.inputs]
        return shorten(_common_prefix(shown), LONGEST_FORMULA)


def _common_prefix(names: Sequence[str]) -> str:
    """`1.weight, 1.bias` as `1.{weight, bias}`."""
    stems = {name.rpartition(".")[0] for name in names}
    if len(names) > 1 and len(stems) == 1 and (stem := next(iter(stems))) and " " not in stem:
        return stem + ".{" + ", ".join([name.rpartition(".")[2] for name in names]) + "}"
    return ", ".join(names)


def shorten(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _values(graph: Graph) -> Iterable[Value]:
    yield from graph.params
    for node in graph.nodes:
        yield from node.outputs


def attributes(node: Node) -> str:
    """The attributes that the types do not tell and that are not the usual ones."""
    shown = []
    for key, value in node.attrs.items():
        if key in _TOLD_BY_TYPE or _is_usual(key, value):
            continue
        shown.append(f"{key} {_compact(value)}")
    return shorten("  ".join(shown), LONGEST_ATTRS)


def _is_usual(key: str, value: Any) -> bool:
    if key in _USUAL:
        return value == _USUAL[key]
    if key in ("padding", "low", "start"):
        return all(part in (0, (0, 0)) for part in value)
    if key in ("stride", "strides", "dilation", "dilations", "step"):
        return all(part == 1 for part in value)
    return value is False or value == ""


def _compact(value: Any) -> str:
    """(1, 1) as 1, ((1, 1), (1, 1)) as 1: most are the same along all axes."""
    while isinstance(value, tuple) and value and len(set(value)) == 1:
        value = value[0]
    return str(value).replace(",)", ")") if isinstance(value, (tuple, float)) else show(value)


def type_text(value: Value) -> str:
    return (
        value.type.text.replace(", ", "×")
        if isinstance(value.type, TensorType)
        else str(value.type)
    )


def node_text(node: Node, names: Names) -> str:
    """The node as the text form has it, without its line."""
    inputs = ", ".join(["%" + names[value] for value in node.inputs])
    outputs = ", ".join(["%" + names[value] for value in node.outputs])
    attrs = f" [{shorten(node.attrs.text, 400)}]" if node.attrs.text else ""
    types = ", ".join([value.type.text for value in node.outputs])
    return f"{outputs} = {node.op.name}({inputs}){attrs} : {types}"


# --- graphs --------------------------------------------------------------------------------------


def graph_picture(
    graph: Graph, title: str = "", weights: Collection[str] = (), fold: bool = True
) -> Picture:
    """A graph as it stands: each node an item.

    weights: names of the parameters that are weights. fold: constants are notes, not items.
    """
    names = Names(graph, weights, fold)
    return _graph_picture(graph, title, names).number()


def _graph_picture(graph: Graph, title: str, names: Names) -> Picture:
    picture = Picture(title)
    names.note_weights()
    source: dict[Value, Item] = {}
    for param in graph.params:
        if param not in names.formulas:
            source[param] = item = input_item(param, names)
            picture.items.append(item)
    results = set(graph.results)
    for node in graph.nodes:
        if names.is_constant(node) and node.outputs[0] not in results:
            names.note(node)
            continue
        item = node_item(node, names)
        picture.items.append(item)
        _link_operands(picture, item, node, source)
        source.update(dict.fromkeys(node.outputs, item))
    for k, value in enumerate(graph.results):
        item = result_item(value, k, names)
        picture.items.append(item)
        if value in source:
            picture.links.append(Link(source[value], item, value))
    return picture


def _link_operands(picture: Picture, item: Item, node: Node, source: Mapping[Value, Item]) -> None:
    for value in dict.fromkeys(node.inputs):
        if value in source:
            picture.links.append(Link(source[value], item, value))


def input_item(param: Value, names: Names) -> Item:
    text = f"%{names[param]}: {param.type.text}"
    return Item(names[param], INPUT, type=type_text(param), text=text)


def result_item(value: Value, number: int, names: Names) -> Item:
    note = names.formulas.get(value, "")
    return Item(f"result {number}", RESULT, note=note, text=f"return %{names[value]}")


def node_item(node: Node, names: Names) -> Item:
    item = Item(
        node.op.name,
        CONTROL if node.blocks else family_of(node.op),
        names.operands(node),
        attributes(node),
        ", ".join([type_text(value) for value in node.outputs]),
        node.loc,
        node_text(node, names),
    )
    if node.blocks:
        item.inside = Picture()
        for k, block in enumerate(node.blocks):
            inner = _graph_picture(block, "", Names(block, (), names.fold))
            if len(node.blocks) > 1:
                for part in inner.items:
                    if part.family is RESULT:
                        part.title = f"{part.title} of block {k}"
            item.inside.items += inner.items
            item.inside.links += inner.links
    return item
