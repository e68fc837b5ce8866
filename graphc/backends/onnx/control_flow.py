"""`if`, `while` and `scan` as ONNX's If, Loop and Scan.

graphc's blocks are closed; ONNX's subgraphs see the tensors around them. So a block's operands
need no inputs of the subgraph, except those that change from one step to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from onnx import GraphProto, helper

from graphc.ir.dims import AnyDim
from graphc.ir.dtype import BOOL, I64
from graphc.ir.graph import Graph, Node
from graphc.ir.types import TensorType

from .element_types import TO_ONNX
from .prune import needed

if TYPE_CHECKING:
    from .emitter import Emitter, Scope

_BOOL_SCALAR = TensorType(BOOL)


def if_(g: Emitter, node: Node, predicate: str, *operands: str) -> Any:
    """If; with a predicate of some rank both blocks run, and Where chooses."""
    then, other = node.blocks
    rank = len(node.inputs[0].type.shape)
    if not rank:
        branches = [_subgraph(g, "branch", [], block, operands) for block in (then, other)]
        return _node(g, "If", [predicate], node, then_branch=branches[0], else_branch=branches[1])
    sides = [g.block(block, operands) for block in (then, other)]
    made = []
    for a, b, out in zip(*sides, node.outputs, strict=True):
        inner = range(rank, len(out.type.shape))
        made.append(g.op("Where", [g.unsqueeze(predicate, tuple(inner)), a, b]))
    return tuple(made)


def while_(g: Emitter, node: Node, *state: str) -> Any:
    """Loop without a trip count; the condition runs before it and at the end of its body."""
    condition, body = node.blocks
    (first,) = g.block(condition, state)
    scope = g.open_scope()
    step = _input(g, "step", TensorType(I64))
    go = _input(g, "go", _BOOL_SCALAR)
    carried = [_input(g, "state", v.type) for v in node.outputs]
    after = g.block(body, [c.name for c in carried])
    (again,) = g.block(condition, after)
    types = [_BOOL_SCALAR, *[v.type for v in node.outputs]]
    graph = _close(g, scope, "loop", [step, go, *carried], [again, *after], types)
    return _node(g, "Loop", ["", first, *state], node, body=graph)


def scan_(g: Emitter, node: Node, *operands: str) -> Any:
    """Scan; without rows to scan over, over a range of the length."""
    attrs, block = node.attrs, node.blocks[0]
    n_carry, n_xs = attrs["carry"], attrs["xs"]
    carry, rows = operands[:n_carry], list(operands[n_carry : n_carry + n_xs])
    fixed = operands[n_carry + n_xs :]
    scope = g.open_scope()
    inputs = [_input(g, "state", p.type) for p in block.params[:n_carry]]
    inputs += [_input(g, "row", p.type) for p in block.params[n_carry : n_carry + n_xs]]
    results = g.block(block, [*[i.name for i in inputs], *fixed])
    if not rows:
        inputs.append(_input(g, "step", TensorType(I64)))
    types = [v.type for v in block.results]
    graph = _close(g, scope, "scan", inputs, results, types)
    if not rows:
        ends = [g.scalar(0, I64), g.dim(attrs["length"]), g.scalar(1, I64)]
        rows = [g.op("Range", ends)]
    backward = int(attrs["reverse"])
    directions = {"scan_input_directions": [backward] * len(rows)}
    if len(types) > n_carry:
        directions["scan_output_directions"] = [backward] * (len(types) - n_carry)
    return _node(
        g, "Scan", [*carry, *rows], node, body=graph, num_scan_inputs=len(rows), **directions
    )


def running(
    g: Emitter, name: str, first: str, x: str, type: TensorType, axis: int, reverse: bool
) -> str:
    """The running result of a binary ONNX op along an axis, as Scan."""
    row = type.with_shape((*type.shape[:axis], *type.shape[axis + 1 :]))
    scope = g.open_scope()
    inputs = [_input(g, "state", row), _input(g, "row", row)]
    made = g.op(name, [i.name for i in inputs])
    graph = _close(g, scope, "running", inputs, [made, made], [row, row])
    _, stacked = g.op(
        "Scan",
        [first, x],
        outputs=2,
        dtypes=[type.dtype, type.dtype],
        body=graph,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_output_axes=[axis],
        scan_input_directions=[int(reverse)],
        scan_output_directions=[int(reverse)],
    )
    return stacked


def _node(g: Emitter, name: str, inputs: Sequence[str], node: Node, **attrs: Any) -> Any:
    dtypes = [v.type.dtype for v in node.outputs]
    return g.op(name, inputs, outputs=len(dtypes), dtypes=dtypes, **attrs)


def _input(g: Emitter, name: str, type: TensorType) -> Any:
    return value_info(g.name(name, type.dtype), type)


def _subgraph(
    g: Emitter, name: str, inputs: list, block: Graph, operands: Sequence[str]
) -> GraphProto:
    scope = g.open_scope()
    results = g.block(block, operands)
    return _close(g, scope, name, inputs, results, [v.type for v in block.results])


def _close(
    g: Emitter, scope: Scope, name: str, inputs: list, results: list[str], types: list
) -> GraphProto:
    """The subgraph of the scope. Each result is made there: what comes from outside is copied."""
    made_here = {output for node in scope.nodes for output in node.output}
    outputs = []
    seen: set[str] = set()
    for result, type in zip(results, types, strict=True):
        if result not in made_here or result in seen:
            result = g.op("Identity", [result])
        seen.add(result)
        outputs.append(value_info(result, type))
    g.scopes.pop()
    nodes = needed(scope.nodes, {o.name for o in outputs})
    return helper.make_graph(nodes, g.name(name), inputs, outputs)


def value_info(name: str, type: TensorType) -> Any:
    """The ONNX declaration of a tensor; a symbolic size goes out as its text."""
    return helper.make_tensor_value_info(name, TO_ONNX[type.dtype], shape_of(type.shape))


def shape_of(shape: Sequence[AnyDim]) -> list[int | str]:
    return [d if isinstance(d, int) else str(d) for d in shape]
