"""The `Builder` makes the nodes of one graph; every pass is a walk that builds a graph anew.

A node that exists already is returned, not made twice (common subexpressions cost nothing), and
rewrite rules run where a node is about to be made, on inputs that are simple already: one walk
from the parameters to the results reaches the fixed point.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .graph import NO_ATTRS, Attrs, Graph, Node, Value, effects_in, has_effect
from .types import Type

if TYPE_CHECKING:
    from .op import Op

Rule = Callable[[tuple[Value, ...], Attrs], "tuple[Value, ...] | None"]
_thread = threading.local()


class Builder:
    """`with Builder() as b:` makes b current: calling an op builds its node there.

    `simplify` maps an op to functions of (inputs, attrs) that return replacements or None.
    """

    __slots__ = ("_made", "_outer", "_simplify", "loc", "nodes", "params")

    def __init__(
        self,
        params: Iterable[Value] = (),
        simplify: Mapping[Op, Sequence[Rule]] | None = None,
        loc: str = "",
    ) -> None:
        self.params: list[Value] = list(params)
        self.nodes: list[Node] = []
        self.loc = loc
        self._made: dict[tuple, tuple[Value, ...]] = {}
        self._simplify = simplify or {}
        self._outer: Builder | None = None

    @staticmethod
    def current() -> Builder:
        found = getattr(_thread, "builder", None)
        if found is None:
            raise RuntimeError("an op was called outside of a builder: use `with Builder():`")
        return found

    def __enter__(self) -> Builder:
        self._outer = getattr(_thread, "builder", None)
        _thread.builder = self
        return self

    def __exit__(self, *_: object) -> None:
        _thread.builder = self._outer

    def param(self, type: Type, name: str = "") -> Value:
        value = Value(type, name=name)
        self.params.append(value)
        return value

    def emit(
        self,
        op: Op,
        inputs: tuple[Value, ...],
        attrs: Attrs = NO_ATTRS,
        blocks: tuple[Graph, ...] = (),
        origin: Node | None = None,
    ) -> tuple[Value, ...]:
        """The outputs of `op` on `inputs`; `origin` is the node whose place this one takes."""
        key = (op, inputs, attrs, blocks)
        made = self._made.get(key)
        if made is not None:
            return made
        for rule in self._simplify.get(op, ()):
            made = rule(inputs, attrs)
            if made is not None:
                break
        else:
            if origin is not None and origin.inputs == inputs and origin.blocks == blocks:
                node = origin
            else:
                types = [value.type for value in inputs]
                if (
                    origin is not None
                    and origin.op is op
                    and origin.attrs is attrs
                    and origin.blocks == blocks
                    and types == [value.type for value in origin.inputs]
                ):
                    types = [value.type for value in origin.outputs]  # as inferred before
                else:
                    types = op.infer(attrs, types, blocks)
                node = Node(op, inputs, types, attrs, blocks, origin.loc if origin else self.loc)
            self.nodes.append(node)
            made = node.outputs
        if op.pure and not (blocks and effects_in(blocks)):
            self._made[key] = made
        return made

    def graph(self, results: Iterable[Value]) -> Graph:
        """The closed graph of what the results and the effects need."""
        return dead_code(Graph(self.params, self.nodes, tuple(results)))

    def replay(self, graph: Graph, arguments: Iterable[Value]) -> list[Value]:
        """Builds `graph` again on other arguments: inlining, and the walk of every pass."""
        new: dict[Value, Value] = dict(zip(graph.params, arguments, strict=True))
        outer_loc = self.loc
        for node in graph.nodes:
            inputs = tuple([new.get(value, value) for value in node.inputs])
            self.loc = node.loc  # also for what a rule makes in its place
            made = self.emit(node.op, inputs, node.attrs, node.blocks, node)
            if made is not node.outputs:
                new.update(zip(node.outputs, made, strict=True))
        self.loc = outer_loc
        return [new.get(value, value) for value in graph.results]


def trace(
    function: Callable[..., Any],
    *types: Type,
    names: Sequence[str] = (),
    simplify: Mapping[Op, Sequence[Rule]] | None = None,
) -> Graph:
    """The closed graph of a Python function over values."""
    with Builder(simplify=simplify) as builder:
        params = [builder.param(t, names[i] if i < len(names) else "") for i, t in enumerate(types)]
        results = function(*params)
        return builder.graph(results if isinstance(results, (tuple, list)) else (results,))


def dead_code(graph: Graph) -> Graph:
    """Keeps what the results and the effects need, in one backward walk."""
    live = set(graph.results)
    kept = []
    for node in reversed(graph.nodes):
        if not live.isdisjoint(node.outputs) or has_effect(node):
            kept.append(node)
            live.update(node.inputs)
    if len(kept) == len(graph.nodes):
        return graph
    return Graph(graph.params, kept[::-1], graph.results)
