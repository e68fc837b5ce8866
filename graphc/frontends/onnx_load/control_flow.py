"""Loading of If, Loop and Scan into closed blocks.

A subgraph sees the tensors around it; a block is closed. What a subgraph takes from outside
becomes a parameter of the block, and an operand of the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import GraphProto

from graphc.ir import ops
from graphc.ir.build import Builder, trace
from graphc.ir.dims import AnyDim, Dim, is_static
from graphc.ir.dtype import BOOL, I64
from graphc.ir.errors import FormatError, GraphcError, UnsupportedError
from graphc.ir.graph import Graph, Value
from graphc.ir.types import TensorType

from .item import Item
from .loader import Block, Loader, Names, SymbolicSizeError
from .movement import axis_of
from .node import OnnxNode
from .registry import loads


class Subgraph:
    """A subgraph read into a block: its parameters, results, and what it took from outside."""

    def __init__(self, block: Block, inputs: list[Value], results: list[Item]) -> None:
        self.block, self.inputs, self.results = block, inputs, results
        self.values: list[Value] = []

    @property
    def outside(self) -> list[Item]:
        return self.block.captured

    def closed(self, captured: Sequence[Item], results: Sequence[Value]) -> Graph:
        """The graph whose parameters are the inputs, then one for each captured item."""
        builder = self.block.builder
        own = dict(zip(self.block.captured, builder.params[len(self.inputs) :], strict=True))
        params = [*self.inputs]
        for item in captured:
            params.append(own[item] if item in own else Value(item.type, name=item.name))
        graph = builder.graph(results)
        return Graph(params, graph.nodes, graph.results)


def read(
    g: Loader, graph: GraphProto, types: Sequence[TensorType], known: dict[int, Item]
) -> Subgraph:
    """Reads a subgraph whose inputs have these types; `known` gives inputs that are constants."""
    if len(graph.input) != len(types):
        raise FormatError(f"a subgraph takes {len(graph.input)} inputs, not {len(types)}")
    outer = g.names
    with g.deeper(), g.open_block() as block:
        g.names = Names(outer)
        try:
            inputs = []
            for i, (declared, type) in enumerate(zip(graph.input, types)):
                value = block.builder.param(type, declared.name)
                inputs.append(value)
                item = known.get(i)
                g.names.items[declared.name] = item if item is not None else g.item(value)
            g.bind_initializers(graph)
            g.run(graph.node)
            results = [g.names.find(output.name) for output in graph.output]
            made = Subgraph(block, inputs, results)
            made.values = [g.value(item) for item in results]
        finally:
            g.names = outer
    return made


def _symbols(graph: Graph) -> set[str]:
    found: set[str] = set()
    for node in graph.nodes:
        for value in node.outputs:
            found |= _dims_symbols(value.type.shape)
    return found


def _dims_symbols(shape: Sequence[AnyDim]) -> set[str]:
    return {name for d in shape if isinstance(d, Dim) for name in d.symbols}


def _with_sizes(graphs: list[Graph]) -> tuple[list[Graph], list[Value]]:
    """Blocks learn sizes from their parameters: one more parameter for each size they lack."""
    lacking: set[str] = set()
    for graph in graphs:
        known = {s for p in graph.params for s in _dims_symbols(p.type.shape)}
        lacking |= _symbols(graph) - known
    carriers = [ops.full(False, BOOL, (Dim((((name,), 1),)),)) for name in sorted(lacking)]
    wide = [
        Graph([*graph.params, *[Value(v.type) for v in carriers]], graph.nodes, graph.results)
        for graph in graphs
    ]
    return (wide if carriers else graphs), carriers


@loads("If")
def if_(g: Loader, node: OnnxNode, predicate: Item) -> Any:
    """A predicate that is known chooses while loading.

    Models switch between branches by the rank or the sizes of their inputs: a branch that does not
    fit the sizes at hand becomes one that raises where it is taken.
    """
    names = ("then_branch", "else_branch")
    if predicate.array is not None and predicate.array.size == 1:
        return _chosen(g, node.graph(names[0] if predicate.array.item() else names[1]))
    sides = [_read_or_error(g, node.graph(name)) for name in names]
    built = [side for side in sides if isinstance(side, Subgraph)]
    if not built:
        raise sides[0]  # type: ignore[misc]
    captured = list(dict.fromkeys([item for side in built for item in side.outside]))
    types = [value.type for value in built[0].values]
    if types != [value.type for value in built[-1].values]:
        raise _types_differ(built)
    graphs = [
        side.closed(captured, side.values)
        if isinstance(side, Subgraph)
        else _that_raises(g, side, captured, types)
        for side in sides
    ]
    graphs, carriers = _with_sizes(graphs)
    operands = [*[g.value(item) for item in captured], *carriers]
    return ops.cond(_scalar(g.value(predicate)), graphs[0], graphs[1], *operands)


def _read_or_error(g: Loader, graph: GraphProto) -> Subgraph | GraphcError:
    """A branch, or why it cannot be built; an error where it might be for given sizes."""
    facts = dict(g.facts)
    try:
        return read(g, graph, [], {})
    except SymbolicSizeError:
        raise
    except GraphcError as error:
        g.facts = facts
        return error


def _that_raises(
    g: Loader, error: GraphcError, captured: Sequence[Item], types: Sequence[Any]
) -> Graph:
    """A block that raises when it runs; its results have the types of the other branch."""
    text = f"the branch of an If that is taken does not fit these sizes: {error.message}"
    params = [Value(item.type, name=item.name) for item in captured]
    with Builder(params, loc=g.block.builder.loc) as builder:
        ops.assert_op(ops.full(False, BOOL), text=f"{text}\n  {error.at}")
        return builder.graph([ops.full(0, type.dtype, type.shape) for type in types])


def _types_differ(sides: Sequence[Subgraph]) -> UnsupportedError:
    """Types that differ for open sizes may be equal for given ones."""
    types = [[value.type for value in side.values] for side in sides]
    a, b = [", ".join(t.text for t in side) for side in types]
    message = f"the branches give different types: ({a}) and ({b})"
    if all(is_static(t.shape) for side in types for t in side):
        return UnsupportedError(message)
    return SymbolicSizeError(message, hint="Give the sizes of the inputs in `shapes`.")


def _scalar(value: Value) -> Value:
    """A condition or count, which may have one axis of one element."""
    return ops.reshape(value, shape=()) if value.type.shape else value


def _chosen(g: Loader, graph: GraphProto) -> tuple[Item, ...]:
    outer = g.names
    with g.deeper():
        g.names = Names(outer)
        try:
            g.bind_initializers(graph)
            g.run(graph.node)
            return tuple([g.names.find(output.name) for output in graph.output])
        finally:
            g.names = outer


@loads("Loop")
def loop(g: Loader, node: OnnxNode, trips: Item | None, go: Item | None, *state: Item) -> Any:
    """A known number of steps becomes a scan, another loop a while."""
    body = node.graph("body")
    types = [TensorType(I64), TensorType(BOOL), *[item.type for item in state]]
    always = go is None or (go.array is not None and bool(go.array.item()))
    known = {1: Item.of_array(np.array(True))} if always else {}
    inner = read(g, body, types, known)
    again = inner.results[0]
    runs_on = again.array is not None and bool(again.array.item())
    for item, value in zip(state, inner.values[1:]):
        if value.type is not item.type:
            raise UnsupportedError(
                f"a value changes its type from {item.type.text} to {value.type.text} in a loop"
            )
    if always and runs_on and trips is not None and trips.entries is not None:
        return _counted(g, inner, trips.entries.item(), state)
    if len(inner.values) - 1 > len(state):
        raise UnsupportedError("a loop of unknown length that collects results is not supported")
    return _conditional(g, inner, trips, go, state)


def _counted(g: Loader, inner: Subgraph, length: AnyDim, state: Sequence[Item]) -> Any:
    step, _, *carried = inner.inputs
    captured = inner.outside
    graph = inner.closed(captured, inner.values[1:])
    rest = graph.params[len(inner.inputs) :]
    graphs, carriers = _with_sizes([Graph([*carried, step, *rest], graph.nodes, graph.results)])
    length = max(length, 0) if isinstance(length, int) else length
    steps = ops.iota((length,), 0, I64)
    fixed = [*[g.value(item) for item in captured], *carriers]
    return ops.scan(graphs[0], [g.value(i) for i in state], [steps], fixed, length=length)


def _conditional(
    g: Loader, inner: Subgraph, trips: Item | None, go: Item | None, state: Sequence[Item]
) -> Any:
    """while (go and step < trips); what comes from outside is carried along unchanged."""
    captured = inner.outside
    body = inner.closed(captured, inner.values)
    first_go = ops.full(True, BOOL) if go is None else _scalar(g.value(go))
    last = ops.full(2**63 - 1, I64) if trips is None else _scalar(g.value(trips))
    (body,), carriers = _with_sizes([body])
    outside = [*[g.value(item) for item in captured], *carriers]
    operands = [ops.full(0, I64), first_go, last, *[g.value(i) for i in state], *outside]
    types = [v.type for v in operands]
    n = len(state)

    def condition(step: Value, on: Value, end: Value, *rest: Value) -> Value:
        return ops.and_(on, ops.lt(step, end))

    def advance(step: Value, on: Value, end: Value, *rest: Value) -> list[Value]:
        made = Builder.current().replay(body, [step, on, *rest])
        return [ops.add(step, ops.full_like(1, step)), _scalar(made[0]), end, *made[1:], *rest[n:]]

    made = ops.while_loop(trace(condition, *types), trace(advance, *types), *operands)
    return made[3 : 3 + n]


@loads("Scan")
def scan(g: Loader, node: OnnxNode, *operands: Item) -> Any:
    """Since opset 9: states, then rows along `scan_input_axes`, backwards where directions say."""
    if node.opset < 9:
        raise UnsupportedError("Scan of opset 8 is not supported")
    count = node.int("num_scan_inputs")
    n = len(operands) - count
    if count < 1 or n < 0:
        raise FormatError(f"Scan over {count} of {len(operands)} operands")
    axes = node.ints("scan_input_axes", [0] * count)
    directions = node.ints("scan_input_directions", [0] * count)
    rows = []
    for item, axis, backward in zip(operands[n:], axes, directions, strict=True):
        rows.append(_turned(g.value(item), axis_of(axis, item.rank), 0, bool(backward)))
    types = [item.type for item in operands[:n]]
    types += [row.type.with_shape(row.type.shape[1:]) for row in rows]
    inner = read(g, node.graph("body"), types, {})
    captured = inner.outside
    graphs, carriers = _with_sizes([inner.closed(captured, inner.values)])
    fixed = [*[g.value(item) for item in captured], *carriers]
    length = rows[0].type.shape[0]
    made = ops.scan(graphs[0], [g.value(i) for i in operands[:n]], rows, fixed, length=length)
    outputs = len(made) - n
    out_axes = node.ints("scan_output_axes", [0] * outputs)
    out_directions = node.ints("scan_output_directions", [0] * outputs)
    stacked = []
    for value, axis, backward in zip(made[n:], out_axes, out_directions, strict=True):
        place = axis_of(axis, len(value.type.shape))
        stacked.append(_turned(value, 0, place, bool(backward)))
    return (*made[:n], *stacked)


def _turned(value: Value, source: int, target: int, backward: bool) -> Value:
    """The axis `source` moved to `target`, and reversed."""
    if backward:
        value = ops.flip(value, axes=(source,))
    if source == target:
        return value
    order = [i for i in range(len(value.type.shape)) if i != source]
    order.insert(target, source)
    return ops.permute(value, perm=tuple(order))
