"""graph -> ONNX ModelProto."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from graphc.ir.dims import Dim
from graphc.ir.errors import FormatError, ShapeError, UnsupportedError
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Pointwise
from graphc.ir.ops import broadcast_shapes
from graphc.ir.types import TensorType
from graphc.passes.expand import expansion

from .control_flow import value_info
from .emitter import Emitter, tensor
from .patterns import match
from .prune import needed, reads, without_copies

OLDEST_OPSET, NEWEST_OPSET, DEFAULT_OPSET = 18, 24, 20
_IR_VERSION = {21: 10, 22: 10, 23: 11, 24: 12}  # nodes have metadata since version 10


@dataclass(frozen=True)
class Names:
    """What the parameters and results of the exported graph are called; empty: by the graph."""

    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()


def export_graph(
    graph: Graph,
    *,
    name: str = "main",
    names: Names = Names(),
    weights: Mapping[str, np.ndarray] | None = None,
    opset: int = DEFAULT_OPSET,
    weights_as_inputs: bool = False,
    keep_weights: bool = True,
) -> ModelProto:
    """The ONNX model of a graph, in the standard domain.

    Parameters whose name stands in `weights` become initializers, the others inputs. With
    `weights_as_inputs` initializers are listed as inputs too, so that a caller may override them;
    without `keep_weights` they are inputs only. Nodes keep their source line as `doc_string` and
    in `metadata_props`. UnsupportedError where the standard domain lacks an op or a dtype.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UnsupportedError(
            f"opset {opset} is not supported: graphc exports opsets {OLDEST_OPSET} to "
            f"{NEWEST_OPSET}"
        )
    exporter = Exporter(opset)
    bound = dict(weights or {})
    free = [p for p in graph.params if p.name not in bound]
    for param in graph.params:
        if not isinstance(param.type, TensorType):
            raise UnsupportedError(f"cannot export the input {param.name}: it is no tensor")
    inputs = exporter.declare_inputs(free, names.inputs)
    stored = [p for p in graph.params if p.name in bound]
    exporter.declare_weights(stored, bound, keep_weights)
    if weights_as_inputs or not keep_weights:
        inputs += [value_info(exporter.env[p], p.type) for p in stored]
    exporter.bind_symbols(graph.params)
    outputs = exporter.results(graph, names.outputs)
    return exporter.model(name, inputs, outputs, opset)


class Exporter:
    """Walks a graph and writes each node with the emitter."""

    def __init__(self, opset: int) -> None:
        self.g = Emitter(opset)
        self.g.block = self.block
        self.env: dict[Value, str] = {}
        self.uses: Counter[Value] = Counter()  # how many nodes of the present graph read a value
        self.declared: dict[str, TensorType] = {}

    # --- inputs ------------------------------------------------------------------------------

    def declare_inputs(self, params: Sequence[Value], names: Sequence[str]) -> list:
        if len(names) > len(params):
            raise FormatError(f"{len(names)} input names are given for {len(params)} inputs")
        made = []
        for i, param in enumerate(params):
            wanted = names[i] if i < len(names) else param.name or f"input_{i}"
            self.env[param] = self.g.name(wanted, param.type.dtype)
            made.append(value_info(self.env[param], param.type))
        return made

    def declare_weights(
        self, params: Sequence[Value], weights: Mapping[str, np.ndarray], keep: bool
    ) -> None:
        for param in params:
            array = np.asarray(weights[param.name])
            if array.dtype != param.type.dtype.numpy or array.shape != param.type.shape:
                raise ShapeError(
                    f"the weight {param.name} is {array.dtype}{list(array.shape)}, but the graph "
                    f"takes {param.type.text}"
                )
            found = self.env[param] = self.g.name(param.name, param.type.dtype)
            if keep:
                self.g.initializers[found] = tensor(array, found)

    def bind_symbols(self, params: Sequence[Value]) -> None:
        """Finds for each symbol an axis of a parameter whose size is linear in it alone."""
        for param in params:
            for axis, d in enumerate(param.type.shape):
                if isinstance(d, Dim) and len(d.symbols) == 1:
                    (symbol,) = d.symbols
                    terms = dict(d.terms)
                    slope, rest = terms.pop((symbol,), 0), terms.pop((), 0)
                    if slope and not terms:
                        self.g.bind_symbol(symbol, self.env[param], axis, slope, rest)

    # --- nodes -------------------------------------------------------------------------------

    def inline(self, graph: Graph, operands: Sequence[str]) -> list[str]:
        """Writes the nodes of a closed graph here, on these operands."""
        outer = self.env, self.uses
        self.env = dict(zip(graph.params, operands, strict=True))
        self.uses = uses_of(graph)
        for node in graph.nodes:
            self.write(node)
        found = [self.env[value] for value in graph.results]
        self.env, self.uses = outer
        return found

    def block(self, graph: Graph, operands: Sequence[str]) -> list[str]:
        """Writes a block of control flow, whose nodes have lines of their own."""
        outer = self.g.loc, self.g.op_name
        self.g.loc = self.g.op_name = ""
        found = self.inline(graph, operands)
        self.g.loc, self.g.op_name = outer
        return found

    def write(self, node: Node) -> None:
        g = self.g
        outer = g.loc, g.op_name
        if not g.op_name:  # inside an expansion the composite's line and name stay
            g.loc, g.op_name = node.loc, node.op.name
        elif node.loc and not g.loc:
            g.loc = node.loc
        made = self._outputs(node)
        for value, output in zip(node.outputs, made, strict=True):
            self.env[value] = output
            if isinstance(value.type, TensorType):
                g.dtypes[output] = value.type.dtype
                if len(g.scopes) == 1:
                    self.declared[output] = value.type
        if node.op.name == "compact":
            (count,) = node.attrs["size"][:1]
            if isinstance(count, Dim) and len(count.symbols) == 1:
                g.bind_symbol(count.symbols[0], made[0], 0, 1, 0)
        g.loc, g.op_name = outer

    def _outputs(self, node: Node) -> Sequence[str]:
        op, g = node.op, self.g
        whole = match(self, node)
        if whole is not None:
            return (whole,)
        inputs = [self.env[value] for value in node.inputs]
        facet: Any = getattr(op, "to_onnx", None)
        late = op.onnx is not None and op.onnx.since > g.opset
        if facet is not None and not late:
            return _tuple(facet(g, node, *inputs))
        if op.onnx is not None and not late:
            return self._plain(node, inputs)
        if op.composite:
            return self.inline(expansion(node), inputs)
        reason = f"{op.onnx.name} needs opset {op.onnx.since}" if op.onnx else op.no_onnx
        raise UnsupportedError(f"cannot export {op.name}: {reason}", at=node.loc)

    def _plain(self, node: Node, inputs: list[str]) -> Sequence[str]:
        """The op that the facet names, with the attributes that it maps."""
        facet: Any = node.op.onnx
        attrs = {key: node.attrs[mine] for key, mine in facet.attrs.items()}
        if isinstance(node.op, Pointwise) and len(inputs) > 1:
            inputs = self._broadcast(node, inputs)
        return _tuple(self.g.op(facet.name, inputs, outputs=len(node.outputs), **attrs))

    def _broadcast(self, node: Node, inputs: list[str]) -> list[str]:
        """Leaves expansions of operands to ONNX's broadcasting, where the shape comes out."""
        small = [self._unexpanded(value) for value in node.inputs]
        shape = node.outputs[0].type.shape
        for i, value in enumerate(node.inputs):
            if _broadcasts([s for s, _ in small], shape):
                break
            small[i] = (value.type.shape, None)  # this operand has to bring its whole shape
        return [name if make is None else make() for name, (_, make) in zip(inputs, small)]

    def _unexpanded(self, value: Value) -> tuple[tuple, Callable[[], str] | None]:
        """The shape of what an operand repeats, and what writes that; None: the operand itself."""
        node, shape = value.node, value.type.shape
        if node is None or not shape:
            return shape, None
        if node.op.name == "full":
            return (), lambda: self.g.scalar(node.attrs["value"], value.type.dtype)
        if node.op.name == "dim":
            return (), lambda: self.g.dim(node.attrs["size"])
        if node.op.name != "expand":
            return shape, None
        axes = node.attrs["axes"]
        first = next((i for i in range(len(shape)) if i not in axes), len(shape))
        inner = tuple([a - first for a in axes if a >= first])
        small = tuple([1 if i in axes else d for i, d in enumerate(shape)][first:])
        return small, lambda: self.g.unsqueeze(self.env[node.inputs[0]], inner)

    # --- the model ---------------------------------------------------------------------------

    def results(self, graph: Graph, names: Sequence[str]) -> list:
        """Writes all nodes; the outputs' declarations, each under its own name."""
        if len(names) > len(graph.results):
            raise FormatError(f"{len(names)} output names for {len(graph.results)} results")
        taken = []
        for i, value in enumerate(graph.results):
            wanted = names[i] if i < len(names) else value.name or f"output_{i}"
            taken.append(self.g.name(wanted, value.type.dtype))
        self.uses = uses_of(graph)
        for node in graph.nodes:
            self.write(node)
        made = []
        for value, name in zip(graph.results, taken, strict=True):
            self.g.add("Identity", [self.env[value]], [name], {})
            made.append(value_info(name, value.type))
        return made

    def model(self, name: str, inputs: list, outputs: list, opset: int) -> ModelProto:
        nodes = without_copies(self.g.scopes[0].nodes, {o.name for o in outputs})
        nodes = needed(nodes, {o.name for o in outputs})
        used = {i for node in nodes for i in reads(node)} | {i.name for i in inputs}
        initializers = [t for n, t in self.g.initializers.items() if n in used]
        made = {o for node in nodes for o in node.output} - {o.name for o in outputs}
        infos = [value_info(n, t) for n, t in self.declared.items() if n in made]
        graph = helper.make_graph(
            nodes, name, inputs, outputs, initializer=initializers, value_info=infos
        )
        from graphc import __version__

        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=_IR_VERSION.get(opset, 10),
            producer_name="graphc",
            producer_version=__version__,
        )


def uses_of(graph: Graph) -> Counter[Value]:
    """How often each value is read, as an operand or a result."""
    found = Counter(value for node in graph.nodes for value in node.inputs)
    found.update(graph.results)
    return found


def _tuple(made: Any) -> Sequence[str]:
    return (made,) if isinstance(made, str) else made


def _broadcasts(shapes: Sequence[tuple], shape: tuple) -> bool:
    """Whether numpy's broadcasting makes `shape` of these."""
    try:
        return broadcast_shapes(*shapes) == shape
    except ShapeError:
        return False
