"""Cuts a graph in two: what follows from its weights alone, and what each call computes.

The first half runs when the weights change. What crosses the cut is in memory, so a broadcast or
a reshape does not cross: it is free where it is read, and stays on the side of its reader. So does
what is larger than the weights that it comes from: masks, tables of positions; and a weight that is
widened for a product of few rows, whose time is that of reading it: it is read narrow, and widened
by the product's kernel (`fuse.prologue`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.build import Builder, dead_code
from graphc.ir.dims import product
from graphc.ir.dtype import F16, F32
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Pointwise

_FREE = frozenset(["expand", "reshape", "full", "const", "iota"])
#: What crosses has at most this many elements for each one of the weights that it comes from: the
#: transformed kernels of Winograd's algorithm have four, and whole panels of them up to twice that.
_MOST_GROWTH = 8
#: Rows of a product that reads its weight once, in registers; the least k of sums across lanes; how
#: much narrower the weight is; and the most arithmetic that widens it.
_FEW_ROWS, _LEAST_K, _NARROWER, _MOST_WORK = 4, 32, 1.75, 8


@dataclass(frozen=True, slots=True)
class Halves:
    """
    early    (weights) -> what crosses; None where nothing does
    late     (the other parameters, the weights that it needs, what crosses) -> results
    weights  the places among the weights of those that `late` takes
    """

    early: Graph | None
    late: Graph
    weights: list[int]


def hoist(graph: Graph, weights: Sequence[int]) -> Halves:
    """The halves of a graph, of which the parameters `weights` seldom change."""
    held = [graph.params[place] for place in weights]
    others = [param for place, param in enumerate(graph.params) if place not in set(weights)]
    origin = {param: _count(param) for param in held}  # elements of weights behind each value
    early: list[Node] = []
    late: list[Node] = []
    for node in graph.nodes:
        if _is_foreseen(node) and all([value in origin for value in node.inputs]):
            early.append(node)
            total = sum([origin[value] for value in node.inputs])
            origin.update(dict.fromkeys(node.outputs, total))
        else:
            late.append(node)
    crossing, copied = _cross(graph, late, origin, _widening(graph, origin))
    stays = copied.union(late)
    nodes = [node for node in graph.nodes if node in stays]
    read = {value for node in nodes for value in node.inputs} | set(graph.results)
    needed = [place for place, param in enumerate(held) if param in read]
    params = [*others, *[held[place] for place in needed]]
    first = dead_code(Graph(held, early, crossing)) if crossing else None
    return Halves(first, _with_params(graph, params, crossing, nodes), needed)


def _with_params(
    graph: Graph, params: Sequence[Value], more: Sequence[Value], nodes: Sequence[Node]
) -> Graph:
    """The nodes with the graph's results, where the values `more` are parameters as well."""
    if not more:
        return Graph(params, nodes, graph.results)
    with Builder(params) as builder:
        new = {param: param for param in params}
        new.update(
            {value: builder.param(value.type, f"packed.{k}") for k, value in enumerate(more)}
        )
        for node in nodes:
            builder.loc = node.loc
            inputs = tuple([new[value] for value in node.inputs])
            made = builder.emit(node.op, inputs, node.attrs, node.blocks, node)
            new.update(zip(node.outputs, made, strict=True))
        return builder.graph([new[value] for value in graph.results])


def foreseen_values(graph: Graph, weights: Sequence[int]) -> set[Value]:
    """What follows from the parameters `weights` and from constants."""
    known = {graph.params[place] for place in weights}
    for node in graph.nodes:
        if _is_foreseen(node) and known.issuperset(node.inputs):
            known.update(node.outputs)
    return known


def weight_values(graph: Graph, weights: Sequence[int]) -> set[Value]:
    """What follows from the parameters `weights` alone."""
    known = {graph.params[place] for place in weights}
    for node in graph.nodes:
        if node.inputs and _is_foreseen(node) and known.issuperset(node.inputs):
            known.update(node.outputs)
    return known


def _is_foreseen(node: Node) -> bool:
    return node.op.pure and not node.blocks


def _cross(
    graph: Graph,
    late: Collection[Node],
    origin: Mapping[Value, float],
    widening: Collection[Node],
) -> tuple[list[Value], set[Node]]:
    """The values that the late half reads from memory, and the nodes that it computes itself.

    widening: nodes that it computes anyway.
    """
    crossing: dict[Value, None] = {}
    copied: set[Node] = set()
    waiting = [value for node in late for value in node.inputs if value in origin]
    waiting += [value for value in graph.results if value in origin]
    while waiting:
        value = waiting.pop()
        node = value.node
        if node is None or value in crossing or node in copied:
            continue
        free = node.op.name in _FREE or node in widening
        if free or _count(value) > _MOST_GROWTH * origin[value]:
            copied.add(node)
            waiting += node.inputs
        else:
            crossing[value] = None
    return list(crossing), copied


def _widening(graph: Graph, origin: Collection[Value]) -> set[Node]:
    """The nodes between narrow weights and the products of few rows that read them widened."""
    readers: dict[Value, int] = {}
    for value in [*graph.results, *[value for node in graph.nodes for value in node.inputs]]:
        readers[value] = readers.get(value, 0) + 1
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op.name == "dot" and _has_few_rows(node):
            weight = node.inputs[1]
            if weight in origin and readers[weight] == 1:
                found.update(_chain_from_narrow(weight))
    return found


def _has_few_rows(node: Node) -> bool:
    """Whether a product has few rows, and both of its operands run along k."""
    x, w = node.inputs
    rank = len(x.type.shape)
    along = node.attrs["contract"] == ((rank - 1,), (1,)) and node.attrs["batch"] == ((), ())
    if not along or len(w.type.shape) != 2 or node.outputs[0].type.dtype is not F32:
        return False
    k = w.type.shape[1]
    rows = product(x.type.shape[:-1])
    return isinstance(rows, int) and rows <= _FEW_ROWS and isinstance(k, int) and k >= _LEAST_K


def _chain_from_narrow(weight: Value) -> list[Node]:
    """The pointwise nodes that make a weight of much narrower ones; none where there is else.

    Not of float16: targets without an instruction for it take many steps to widen one.
    """
    nodes: dict[Node, None] = {}
    sources: dict[Value, None] = {}
    waiting, work = [weight], 0
    while waiting:
        value = waiting.pop()
        node = value.node
        if node is None or node.op.name == "const":
            if value.type.dtype is F16:
                return []
            sources[value] = None
        elif node not in nodes:
            if isinstance(node.op, Pointwise):
                work += node.op.cost
            elif node.op.name not in _FREE:
                return []
            nodes[node] = None
            waiting += node.inputs
    narrow = sum([_count(value) * value.type.dtype.itemsize for value in sources])
    wide = _count(weight) * weight.type.dtype.itemsize
    return list(nodes) if work <= _MOST_WORK and wide >= _NARROWER * narrow else []


def _count(value: Value) -> float:
    count = 1.0
    for size in value.type.shape:
        count *= size if isinstance(size, int) else float("inf")
    return count
