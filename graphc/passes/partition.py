"""Cuts a joint graph (results and gradients) into a forward with residuals, and a backward.

What to keep is a minimum cut. Every value that the forward could keep is an edge of its bytes;
flow runs from what is too dear to compute twice (products, reductions, loops: a facet of the op)
to what the backward reads. The cheapest set of values that separates the two is kept, the rest is
computed again, each value just before its first reader. Inputs and results of the forward are
there anyway and cost nothing.

The network falls apart into islands, since dear nodes end every path; each is cut on its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from graphc.ir.build import Builder, dead_code
from graphc.ir.dims import Dim, evaluate_dim
from graphc.ir.graph import Graph, Node, Value, has_effect
from graphc.ir.types import TensorType

from .expand import dear_by_expansion
from .maxflow import Network

SIZE_OF_A_SYMBOL = 256  # what a symbolic dim counts as, where no hint says more

# A value at the end of this many cheap nodes counts as dear: a long chain computed again would all
# be alive at once when the backward begins, and nothing would be gained. Measured on a GPT of 9
# layers: 6 keeps 243 MB, 12 keeps 140, 24 keeps 137; a convolution net's backward peaks at 81 MB
# with 12 and at 160 with 24.
MAX_CHAIN = 12


def partition(
    joint: Graph,
    n_inputs: int,
    n_results: int,
    *,
    max_chain: int = MAX_CHAIN,
    passing: Iterable[int] = (),
    hints: Mapping[str, int] | None = None,
) -> tuple[Graph, Graph, list[Value]]:
    """joint: (inputs, cotangents) -> (results, gradients), cut in two:

    forward: (inputs) -> (results, residuals)
    backward: (inputs, residuals, cotangents) -> gradients

    and the values of `joint` that are the residuals, in the order of the nodes. `passing` are the
    inputs that are gone when the backward runs (a loop's carries). `hints` gives sizes of symbolic
    dims. An effect that needs no cotangent runs in the forward only.
    """
    primal = _primal_nodes(joint, n_inputs)
    kept = choose_residuals(
        joint, primal, n_inputs, n_results, max_chain=max_chain, passing=passing, hints=hints
    )
    inputs, cotangents = joint.params[:n_inputs], joint.params[n_inputs:]
    nodes = [node for node in joint.nodes if node in primal]
    forward = dead_code(Graph(inputs, nodes, (*joint.results[:n_results], *kept)))
    with Builder() as builder:
        old = (*inputs, *kept, *cotangents)
        # A passing input that is kept stands twice in `old`: its residual, the later one, counts.
        new = dict(zip(old, [builder.param(v.type, v.name) for v in old]))
        for node in _late_order(_needed(joint, n_results, primal, set(kept)), primal):
            operands = tuple([new[v] for v in node.inputs])
            made = builder.emit(node.op, operands, node.attrs, node.blocks, node)
            for value, copy in zip(node.outputs, made):
                new.setdefault(value, copy)
        backward = builder.graph([new[v] for v in joint.results[n_results:]])
    return forward, backward, kept


def choose_residuals(
    joint: Graph,
    primal: set[Node],
    n_inputs: int,
    n_results: int,
    *,
    max_chain: int = MAX_CHAIN,
    passing: Iterable[int] = (),
    hints: Mapping[str, int] | None = None,
) -> list[Value]:
    """The values for the forward to keep, in the order of the nodes."""
    needed = _needed(joint, n_results, primal, set())
    read_late = {v for node in needed if node not in primal for v in node.inputs}
    read_late.update(joint.results[n_results:])
    costly = {joint.params[i] for i in passing}
    edges: dict[Value, list[Value]] = defaultdict(list)
    sources, sinks = set(costly), costly & read_late
    depth = dict.fromkeys(joint.params, 0)
    for node in needed:
        if node not in primal:
            continue
        chain = 1 + max([depth[v] for v in node.inputs], default=0)
        dear = is_dear(node) or chain > max_chain
        for out in node.outputs:
            depth[out] = 0 if dear else chain
            if dear:
                sources.add(out)
            if out in read_late:
                sinks.add(out)
        if not dear:
            for value in node.inputs:
                if value in costly or value in sources or (value.node and value.node.inputs):
                    edges[value].extend(node.outputs)
    free = set(joint.results[:n_results])
    kept: set[Value] = set()
    for island in _islands(edges, sources, sinks):
        capacity = [0 if v in free else size_of(v, hints) for v in island]
        kept.update(_minimum_cut(island, capacity, edges, sources, sinks))
    values = [*joint.params, *[v for node in joint.nodes for v in node.outputs]]
    return [v for v in values if v in kept]


def is_dear(node: Node) -> bool:
    """Whether the node is worth keeping rather than running twice; effects never run twice."""
    op = node.op
    return op.dear or has_effect(node) or (op.composite and dear_by_expansion(node))


def size_of(value: Value, hints: Mapping[str, int] | None = None) -> int:
    """Bytes; a symbolic dim counts as its hint. What is no tensor counts as one byte."""
    type = value.type
    if not isinstance(type, TensorType):
        return 1
    size: int = type.dtype.itemsize
    for d in type.shape:
        size *= d if isinstance(d, int) else _typical(d, hints or {})
    return size


def _typical(d: Dim, hints: Mapping[str, int]) -> int:
    return evaluate_dim(d, {name: hints.get(name, SIZE_OF_A_SYMBOL) for name in d.symbols})


def _primal_nodes(joint: Graph, n_inputs: int) -> set[Node]:
    """Nodes that do not depend on a cotangent: they can run in the forward."""
    late = set(joint.params[n_inputs:])
    primal = set()
    for node in joint.nodes:
        if late.isdisjoint(node.inputs):
            primal.add(node)
        else:
            late.update(node.outputs)
    return primal


def _needed(joint: Graph, n_results: int, primal: set[Node], stop: set[Value]) -> list[Node]:
    """The nodes that the gradients need where the values in `stop` are given, and late effects."""
    want = set(joint.results[n_results:])
    found = []
    for node in reversed(joint.nodes):
        outputs = node.outputs
        if want.isdisjoint(outputs):
            wanted = False
        else:
            wanted = stop.isdisjoint(outputs) or not want.intersection(outputs) <= stop
        if wanted or (node not in primal and has_effect(node)):
            found.append(node)
            want.update(node.inputs)
    return found[::-1]


def _late_order(nodes: Sequence[Node], primal: set[Node]) -> list[Node]:
    """The same nodes, each primal one moved to just before its first reader.

    In the joint graph's order all that is computed again would run first and be alive at once.
    """
    waiting = {node for node in nodes if node in primal}
    order: list[Node] = []
    for node in nodes:
        if node in primal:
            continue
        todo = [node]
        while todo:
            first = [v.node for v in todo[-1].inputs if v.node is not None and v.node in waiting]
            if first:
                todo += first
            else:
                done = todo.pop()
                if done is node or done in waiting:
                    waiting.discard(done)
                    order.append(done)
    return order + [node for node in nodes if node in waiting]


def _islands(
    edges: Mapping[Value, list[Value]], sources: set[Value], sinks: set[Value]
) -> Iterable[list[Value]]:
    """Connected parts that hold both a source and a sink; elsewhere nothing needs to be kept."""
    neighbours: dict[Value, list[Value]] = defaultdict(list)
    for a, users in edges.items():
        for b in users:
            neighbours[a].append(b)
            neighbours[b].append(a)
    seen: set[Value] = set()
    for start in sources:
        if start in seen:
            continue
        seen.add(start)
        island, todo = [], [start]
        while todo:
            value = todo.pop()
            island.append(value)
            fresh = [v for v in dict.fromkeys(neighbours.get(value, ())) if v not in seen]
            seen.update(fresh)
            todo += fresh
        if not sinks.isdisjoint(island):
            yield island


def _minimum_cut(
    island: Sequence[Value],
    capacity: Sequence[int],
    edges: Mapping[Value, list[Value]],
    sources: set[Value],
    sinks: set[Value],
) -> list[Value]:
    """The cheapest values that lie on every path from a source to a sink.

    A value is two vertices, in (2k) and out (2k + 1), joined by an edge of its bytes.
    """
    if len(island) == 1:
        return list(island)
    number = {value: k for k, value in enumerate(island)}
    source, sink = 2 * len(island), 2 * len(island) + 1
    network = Network(2 * len(island) + 2)
    unlimited = sum(capacity) + 1
    for value, k in number.items():
        network.connect(2 * k, 2 * k + 1, capacity[k])
        for user in edges.get(value, ()):
            network.connect(2 * k + 1, 2 * number[user], unlimited)
        if value in sources:
            network.connect(source, 2 * k, unlimited)
        if value in sinks:
            network.connect(2 * k + 1, sink, unlimited)
    reached = network.source_side(source, sink)
    return [v for v, k in number.items() if reached[2 * k] and not reached[2 * k + 1]]
