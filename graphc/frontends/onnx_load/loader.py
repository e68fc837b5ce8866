"""`Loader`: walks an ONNX graph and builds the IR's; the `g` that loaders of ops are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, defs

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.dims import AnyDim, Dim, Facts, at_least_zero, is_static, product, symbol
from graphc.ir.dtype import I64
from graphc.ir.errors import FormatError, GraphcError, UnsupportedError
from graphc.ir.graph import Graph, Value
from graphc.ir.interpret import evaluate
from graphc.ir.ops.constant import dim_value

from . import sizes
from .item import MOST_KNOWN, Item
from .node import OnnxNode
from .reading import tensor_array
from .registry import LOADERS

_INLINE_ELEMENTS = 16  # larger constants become weights of the module too
_DEEPEST = 40  # functions and subgraphs within each other


class Block:
    """A closed graph that is being built; what it needs from outside becomes a parameter.

    `fold`: evaluated at once and thrown away; its constants never become weights.
    """

    def __init__(self, outer: Block | None = None, fold: bool = False) -> None:
        self.builder = Builder()
        self.outer, self.fold = outer, fold
        self.values: dict[Item, Value] = {}
        self.captured: list[Item] = []  # in the order of the parameters made for them


class Names:
    """ONNX names in scope: a subgraph sees those around it, a function only its own."""

    def __init__(self, outer: Names | None = None, opsets: dict[str, int] | None = None) -> None:
        self.items: dict[str, Item] = {}
        self.outer = outer
        self.opsets: dict[str, int] = opsets if opsets is not None else outer.opsets  # type: ignore
        self.given: dict[str, Any] = outer.given if outer else {}

    def find(self, name: str) -> Item:
        scope: Names | None = self
        while scope is not None:
            if name in scope.items:
                return scope.items[name]
            scope = scope.outer
        raise FormatError(f"the tensor {name!r} is used before it is computed")


class Loader:
    """Builds the graph of one model."""

    def __init__(self, model: ModelProto, folder: Path | None) -> None:
        self.folder = folder
        self.functions: dict[tuple[str, str], FunctionProto] = {
            (f.domain, f.name): f for f in model.functions
        }
        self.block = Block()
        self.names = Names(opsets={i.domain: i.version for i in model.opset_import})
        self.inputs: set[str] = set()
        self.weights: dict[str, np.ndarray] = {}
        self.facts: dict[str, Facts] = {}
        self.depth = 0
        self._symbols = 0

    # --- walking -----------------------------------------------------------------------------

    def bind_initializers(self, graph: GraphProto) -> None:
        if graph.sparse_initializer:
            raise UnsupportedError("sparse initializers are not supported")
        for tensor in graph.initializer:
            array = tensor_array(tensor, self.folder)
            item = self.names.items[tensor.name] = Item.of_array(array, tensor.name)
            item.is_weight = array.ndim > 0 and item.type.dtype.kind == "f"

    def run(self, nodes: Sequence[NodeProto]) -> None:
        for proto in nodes:
            domain = "" if proto.domain == "ai.onnx" else proto.domain
            opset = self.names.opsets.get(domain, 1)
            node = OnnxNode(proto, opset, self.folder, self.names.given)
            outer, self.block.builder.loc = self.block.builder.loc, node.loc
            made = self._checked_outputs(node, domain)
            self.block.builder.loc = outer
            for name, item in zip(node.outputs, made):
                if name and item is not None:
                    self.names.items[name] = item

    def _checked_outputs(self, node: OnnxNode, domain: str) -> Sequence[Item | None]:
        """The outputs of a node; what goes wrong there names the node."""
        items: list[Item | None] = []
        try:
            items += [self.names.find(name) if name else None for name in node.proto.input]
            return self._outputs(node, domain, items)
        except GraphcError as error:
            if error.at:
                raise
            raise self._at_node(error, node, items) from error
        except _MALFORMED as error:
            text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise FormatError(f"malformed: {text}", at=node.label) from error

    def _at_node(
        self, error: GraphcError, node: OnnxNode, items: Sequence[Item | None]
    ) -> GraphcError:
        """The same error, naming the node. Shapes that do not fit are an error of the file, where
        no size is open and none was assumed to be large or small."""
        assumed = any(facts != Facts() for facts in self.facts.values())
        waits = assumed or isinstance(error, SymbolicSizeError)
        if waits or any(item is not None and not is_static(item.shape) for item in items):
            if not isinstance(error, FormatError):
                hint = "Give the sizes of the inputs in `shapes`."
                return SymbolicSizeError(error.message, at=node.label, hint=hint)
        kind = UnsupportedError if isinstance(error, UnsupportedError) else FormatError
        return kind(error.message, at=node.label, hint=error.hint)

    def _outputs(
        self, node: OnnxNode, domain: str, items: list[Item | None]
    ) -> Sequence[Item | None]:
        if node.opset < 7 and node.int("broadcast", 0) and node.type != "Gemm":
            items[1] = self._placed(node, items[0], items[1])
        function = self.functions.get((node.domain, node.type))
        if function is not None:
            return self._call(function, node, items)
        load = LOADERS.get(node.type) if not domain else None
        if load is None:
            return self._call(self._body(node, domain, items), node, items)
        known = sizes.compute(node, items)
        if known is not None:
            return [known]
        if (
            items
            and node.type not in _BLOCKS
            and all(i is None or i.is_small_constant for i in items)
        ):
            folded = self._fold(load, node, items)
            if folded is not None:
                return folded
        return self.items(load(self, node, *items))

    def _placed(self, node: OnnxNode, x: Item | None, y: Item | None) -> Item:
        """Before opset 7 an attribute says at which axis of x the axes of y begin."""
        if x is None or y is None:
            raise FormatError("an operand is missing")
        after = x.rank - y.rank - node.int("axis", x.rank - y.rank)
        if after < 0:
            raise FormatError(f"{y.type.text} does not lie within {x.type.text}")
        return self.item(ops.reshape(self.value(y), shape=(*y.shape, *[1] * after)))

    def items(self, made: Any) -> list[Item]:
        return [self.item(part) for part in (made if isinstance(made, (tuple, list)) else (made,))]

    def item(self, made: Value | Item) -> Item:
        if isinstance(made, Item):
            return made
        item = Item(made.type)
        self.block.values[item] = made
        return item

    def _fold(self, load: Any, node: OnnxNode, items: list) -> list[Item] | None:
        """What a node of constants gives, computed now; None where that is large or unknown."""
        with self.open_block(fold=True) as block:
            values = [self.value(item) for item in self.items(load(self, node, *items))]
            graph = block.builder.graph(values)
        if graph.params or not _is_little_work(graph):
            return None
        return [Item.of_array(array) for array in evaluate(graph)]

    @contextmanager
    def open_block(self, fold: bool = False) -> Iterator[Block]:
        """A block within the present one, current in the `with`."""
        outer = self.block
        self.block = Block(outer, fold or outer.fold)
        self.block.builder.loc = outer.builder.loc
        try:
            with self.block.builder:
                yield self.block
        finally:
            self.block = outer

    @contextmanager
    def deeper(self) -> Iterator[None]:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise FormatError(f"functions and subgraphs are nested more than {_DEEPEST} deep")
        try:
            yield
        finally:
            self.depth -= 1

    # --- functions ---------------------------------------------------------------------------

    def _body(self, node: OnnxNode, domain: str, items: list) -> FunctionProto:
        """The ONNX standard's own definition of an op that no loader knows."""
        body = standard_body(node.type, domain, node.opset)
        if body is None:
            body = _typed_body(node, items)
        if body is None:
            raise UnsupportedError(f"the ONNX op {node.type} is not supported")
        return body

    def _call(self, function: FunctionProto, node: OnnxNode, items: list) -> list[Item | None]:
        outer = self.names
        opsets = {i.domain: i.version for i in function.opset_import}
        self.names = Names(opsets={**outer.opsets, **opsets})
        self.names.given = _function_attributes(function, node)
        for name, item in zip(function.input, items):
            if item is not None:
                self.names.items[name] = item
        try:
            with self.deeper():
                self.run(_without_absent(function, self.names.items))
                pairs = zip(function.output, node.outputs)  # an output may be left out
                return [self.names.find(mine) if name else None for mine, name in pairs]
        finally:
            self.names = outer

    # --- values ------------------------------------------------------------------------------

    def value(self, item: Item) -> Value:
        """The item as a value of the present block."""
        block = self.block
        found = block.values.get(item)
        if found is None:
            found = block.values[item] = self._materialize(item, block)
        return found

    def _materialize(self, item: Item, block: Block) -> Value:
        small = item.array is not None and item.array.size <= _INLINE_ELEMENTS
        if item.array is not None and (block.fold or (small and not item.is_weight)):
            if not item.shape:
                return ops.full(item.array.item(), item.type.dtype)
            return ops.const(item.array)
        if item.array is None and item.entries is not None:
            return self._from_entries(item)
        if block.outer is not None:
            block.captured.append(item)
        else:
            self.weights[self._weight_name(item)] = item.array  # type: ignore[assignment]
        return block.builder.param(item.type, item.name)

    def _weight_name(self, item: Item) -> str:
        if item.array is None:
            raise FormatError("a tensor is used outside of the subgraph that computes it")
        wanted = item.name or "constant"
        name, count = wanted, 1
        while name in self.weights or name in self.inputs:
            count += 1
            name = f"{wanted}_{count}"
        item.name = name
        return name

    def _from_entries(self, item: Item) -> Value:
        entries = item.entries
        assert entries is not None
        if not item.shape:
            made = dim_value(entries.item())
        else:
            parts = [dim_value(d, (1,)) for d in entries.ravel().tolist()]
            made = ops.concat(*parts, axis=0) if len(parts) > 1 else parts[0]
            if len(item.shape) != 1:
                made = ops.reshape(made, shape=item.shape)
        dtype = item.type.dtype
        return made if dtype is I64 else ops.cast(made, dtype=dtype)

    def captured_values(self, block: Block) -> list[Value]:
        """The values of the present block that a block within it took from outside."""
        return [self.value(item) for item in block.captured]

    # --- what loaders ask --------------------------------------------------------------------

    def sizes(self, item: Item, what: str) -> tuple[AnyDim, ...]:
        """The entries of an integer tensor that a shape depends on."""
        if item.entries is None:
            raise UnsupportedError(f"{what} is computed from data: its numbers are not known")
        return tuple(item.entries.ravel().tolist())

    def ints(self, item: Item, what: str) -> tuple[int, ...]:
        found = self.sizes(item, what)
        if not is_static(found):
            raise UnsupportedError(f"{what} depends on a symbolic size")
        return found  # type: ignore[return-value]

    def number(self, item: Item, what: str) -> Any:
        """The number of a constant of one element."""
        if item.array is None or item.array.size != 1:
            raise UnsupportedError(f"{what} is not a constant number")
        return item.array.reshape(()).item()

    def broadcast(self, *items: Item) -> list[Value]:
        """Values of one shape, by ONNX's (numpy's) rule."""
        shape = ops.broadcast_shapes(*[item.shape for item in items])
        return [self.broadcast_to(item, shape) for item in items]

    def broadcast_to(self, item: Item, shape: tuple) -> Value:
        if item.array is not None and item.array.size == 1 and shape:
            return ops.full(item.array.reshape(()).item(), item.type.dtype, shape)
        return ops.broadcast_to(self.value(item), shape)

    def is_ordered(self, low: AnyDim, high: AnyDim) -> bool | None:
        """low <= high for all sizes that were not excluded; None where that is not known."""
        return at_least_zero(high - low, self.facts)

    def assume_order(self, low: AnyDim, high: AnyDim) -> None:
        """Makes low <= high a fact of the one symbol that it depends on, where it is not one yet.

        UnsupportedError where it depends on several symbols, or can never hold.
        """
        room = high - low
        known = self.is_ordered(low, high)
        if known:
            return
        if known is None and isinstance(room, Dim) and len(room.symbols) == 1:
            (name,) = room.symbols
            terms = dict(room.terms)
            slope, rest = terms.pop((name,), 0), terms.pop((), 0)
            old = self.facts.get(name, Facts())
            if slope > 0 and not terms:
                self.facts[name] = replace(old, lo=max(old.lo, -(rest // slope)))
                return
            if slope < 0 and not terms:
                top = rest // -slope
                self.facts[name] = replace(old, hi=top if old.hi is None else min(old.hi, top))
                return
        raise UnsupportedError(f"whether {low} is at most {high} is not known")

    def fresh_symbol(self, stem: str) -> Dim:
        """A size that no other tensor has."""
        self._symbols += 1
        name = f"{stem}{self._symbols}"
        self.facts[name] = Facts()
        return symbol(name)


_BLOCKS = ("If", "Loop", "Scan")


def _is_little_work(graph: Graph) -> bool:
    """Static, and at most a few thousand elements at every step."""
    for node in graph.nodes:
        for value in node.outputs:
            count: Any = product(value.type.shape)
            if isinstance(count, Dim) or count > 16 * MOST_KNOWN:
                return False
    counts: list[Any] = [product(value.type.shape) for value in graph.results]
    return all(count <= MOST_KNOWN for count in counts)


# What Python and numpy raise where an attribute or operand is of a wrong kind, number or size.
_MALFORMED = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError,
    RecursionError, MemoryError,
)  # fmt: skip


class SymbolicSizeError(UnsupportedError):
    """A model that loads only where sizes are numbers; they can be given."""


def standard_body(name: str, domain: str, opset: int) -> FunctionProto | None:
    """The function by which the ONNX standard defines an op, where that needs no types."""
    try:
        schema: Any = defs.get_schema(name, opset, domain)
    except defs.SchemaError:
        return None
    return schema.function_body if schema.has_function else None


def _typed_body(node: OnnxNode, items: list) -> FunctionProto | None:
    """The definition of an op whose function depends on the types of its operands."""
    from graphc.backends.onnx.control_flow import value_info

    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        schema: Any = defs.get_schema(node.type, node.opset, "")
    except defs.SchemaError:
        return None
    if not schema.has_context_dependent_function:
        return None
    types = [
        value_info("", item.type).type.SerializeToString() if item is not None else b""
        for item in items
    ]
    body = FunctionProto()
    body.ParseFromString(
        schema.get_context_dependent_function(node.resolved().SerializeToString(), types)
    )
    return body if body.node else None


def _function_attributes(function: FunctionProto, node: OnnxNode) -> dict[str, Any]:
    """The caller's attributes over the function's defaults, and the schema's for standard ops."""
    given: dict[str, Any] = {}
    if not function.domain or function.domain == "ai.onnx":
        for name, attr in _schema_defaults(function.name, node.opset).items():
            given[name] = attr
    defaults = NodeProto(op_type=function.name, attribute=function.attribute_proto)
    given.update(OnnxNode(defaults, node.opset, node.folder).given())
    given.update(node.given())
    return given


def _schema_defaults(name: str, opset: int) -> dict[str, Any]:
    try:
        schema = defs.get_schema(name, opset, "")
    except defs.SchemaError:
        return {}
    attributes = [a.default_value for a in schema.attributes.values() if a.default_value.name]
    proto = NodeProto(op_type=name, attribute=attributes)
    return OnnxNode(proto, opset, None).given()


def _without_absent(function: FunctionProto, items: dict[str, Item]) -> list[NodeProto]:
    """The body's nodes, with inputs that the caller leaves out made absent in them as well."""
    absent = {name for name in function.input if name not in items}
    if not absent:
        return list(function.node)
    nodes = []
    for proto in function.node:
        if absent.isdisjoint(proto.input):
            nodes.append(proto)
            continue
        copy = NodeProto()
        copy.CopyFrom(proto)
        for i, name in enumerate(copy.input):
            if name in absent:
                copy.input[i] = ""
        nodes.append(copy)
    return nodes
