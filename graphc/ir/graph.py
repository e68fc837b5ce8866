"""Typed, pure graphs: `Value`, `Node`, `Graph`, `Module`.

A graph is closed: it uses its parameters and its own earlier nodes, nothing else. A block of `if`
or `scan` is a graph too, so every pass works on blocks without a special case. Nothing is changed
after it is built; two graphs may share nodes. What a pass wants to know about uses it counts for
itself, in one walk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .dims import Dim, Facts
from .types import TensorType, Type

if TYPE_CHECKING:
    from .op import Op


class Attrs(dict):
    """A node's attributes, interned by their text, so that comparing two is `is`.

    The text is the key because Python's own equality is wrong here: 0.0 == -0.0, 1 == True and
    nan != nan would merge constants that differ, and keep apart some that do not.
    """

    __slots__ = ("text",)
    text: str
    _all: dict[str, Attrs] = {}

    @staticmethod
    def of(values: Mapping[str, Any]) -> Attrs:
        text = ", ".join([f"{key}={show(value)}" for key, value in values.items()])
        found = Attrs._all.get(text)
        if found is None:
            found = Attrs(values)
            found.text = text
            found = Attrs._all.setdefault(text, found)
        return found

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other


def show(value: Any) -> str:
    """The text of an attribute; the parser reads it back to the same bits."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(show, value)) + (",)" if len(value) == 1 else ")")
    if value is None or isinstance(value, (bool, int, float, Dim)):
        return repr(value)
    if isinstance(value, complex):
        return f"complex({value.real!r}, {value.imag!r})"
    text = getattr(value, "attr_text", None)  # Constant, dtypes
    if text is not None:
        return text
    if value.__class__.__name__ == "DType":
        return value.name
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be an attribute")


def quoted(text: str) -> str:
    """A string literal on one line, whatever the text holds."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        parts = [c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped]
        escaped = "".join(parts)
    return f'"{escaped}"'


NO_ATTRS = Attrs.of({})


class Value:
    """The result of a node, or (where `node` is None) a parameter. Compared by identity."""

    __slots__ = ("index", "name", "node", "type")

    def __init__(self, type: Type, node: Node | None = None, index: int = 0, name: str = ""):
        self.type: Any = type
        self.node, self.index, self.name = node, index, name

    @property
    def shape(self) -> tuple:
        return self.type.shape

    @property
    def dtype(self) -> Any:
        return self.type.dtype

    def __repr__(self) -> str:
        made = self.node.op.name if self.node else "param"
        return f"<Value {self.name or made}: {self.type.text}>"


class Node:
    """One operation. `blocks` are the closed graphs of a control-flow op.

    `loc` is the text of the user's source lines: "mlp.py:12 in forward"; where several lines share
    the node they are joined by " & "; a pass that derived the node adds " via autodiff".
    """

    __slots__ = ("attrs", "blocks", "inputs", "loc", "op", "outputs")

    def __init__(
        self,
        op: Op,
        inputs: tuple[Value, ...],
        types: Sequence[Type],
        attrs: Attrs = NO_ATTRS,
        blocks: tuple[Graph, ...] = (),
        loc: str = "",
    ) -> None:
        self.op, self.inputs, self.attrs, self.blocks, self.loc = op, inputs, attrs, blocks, loc
        self.outputs = tuple([Value(type, self, i) for i, type in enumerate(types)])

    def __repr__(self) -> str:
        return f"<Node {self.op.name} at {self.loc or 'no line'}>"


class Graph:
    """Parameters, nodes in an order in which each follows what it uses, and results."""

    __slots__ = ("__weakref__", "nodes", "params", "results")

    def __init__(self, params: Sequence[Value], nodes: Sequence[Node], results: Sequence[Value]):
        self.params, self.nodes, self.results = tuple(params), tuple(nodes), tuple(results)

    def __str__(self) -> str:
        from .text import print_graph

        return print_graph(self)

    __repr__ = __str__


def has_effect(node: Node) -> bool:
    """Whether running the node can be seen from outside: by its op, or by a node in its blocks."""
    if not node.op.pure:
        return True
    return bool(node.blocks) and effects_in(node.blocks)


def effects_in(graphs: Sequence[Graph]) -> bool:
    return any([has_effect(node) for graph in graphs for node in graph.nodes])


class Module:
    """Named graphs that belong together, the facts of their dims, and named weights.

    `weights` maps a name to an array; a graph's parameter of that name is bound to it.
    """

    __slots__ = ("dims", "graphs", "name", "weights")

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        dims: Mapping[str, Facts] | None = None,
        weights: Mapping[str, Any] | None = None,
        name: str = "",
    ) -> None:
        self.graphs, self.dims = dict(graphs), dict(dims or {})
        self.weights, self.name = dict(weights or {}), name

    def __str__(self) -> str:
        from .text import print_module

        return print_module(self)

    __repr__ = __str__


def symbols_of(graph: Graph) -> tuple[str, ...]:
    """The dim symbols of a graph's parameters, in the order in which they first appear."""
    found: dict[str, None] = {}
    for param in graph.params:
        if isinstance(param.type, TensorType):
            for d in param.type.shape:
                if isinstance(d, Dim):
                    found.update(dict.fromkeys(d.symbols))
    return tuple(found)
