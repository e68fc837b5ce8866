"""`Emitter`: the `g` that `to_onnx` facets write ONNX nodes with.

Values are names of ONNX tensors. `g.op("Relu", [x])` appends a node and returns the name of its
output; constants become initializers, equal ones once; a symbolic size becomes Shape and integer
arithmetic, once for each scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
from onnx import NodeProto, TensorProto, helper

from graphc.ir.dims import AnyDim, Dim
from graphc.ir.dtype import BF16, F8E4M3, F8E5M2, I64, DType, from_numpy
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Node
from graphc.ir.types import TensorType

from . import contraction, control_flow, elementary, indexing
from .element_types import FROM_ONNX, ONNX_NAMES, TO_ONNX, signature, widened

_RAW_ONLY = (BF16, F8E4M3, F8E5M2)  # numpy knows them through ml_dtypes: written as bytes


class Scope:
    """The nodes of one ONNX graph, and the sizes that it has computed already."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.nodes: list[NodeProto] = []
        self.sizes: dict[AnyDim, str] = {}


class Emitter:
    """Writes nodes, initializers and sizes. Blocks of control flow open a scope of their own."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.scopes = [Scope(0)]
        self.initializers: dict[str, TensorProto] = {}
        self.dtypes: dict[str, DType] = {}
        self.loc = ""
        self.op_name = ""
        self._constants: dict[tuple, str] = {}
        self._taken: set[str] = set()
        self._counts: dict[str, int] = {}
        # Where the size of a symbol is found: its tensor and axis, the symbol's coefficient and
        # the rest of that axis' size, and the depth of the scope that holds the tensor.
        self._symbols: dict[str, tuple[str, int, int, int, int]] = {}

    def open_scope(self) -> Scope:
        """The scope of a subgraph; its nodes see the tensors of the scopes around it."""
        self.scopes.append(Scope(len(self.scopes)))
        return self.scopes[-1]

    # --- names and nodes ---------------------------------------------------------------------

    def name(self, wanted: str, dtype: DType | None = None) -> str:
        """A fresh tensor name that begins with `wanted`."""
        stem = found = wanted or "value"
        while found in self._taken:
            self._counts[stem] = self._counts.get(stem, 1) + 1
            found = f"{stem}_{self._counts[stem]}"
        self._taken.add(found)
        if dtype is not None:
            self.dtypes[found] = dtype
        return found

    def op(
        self,
        name: str,
        inputs: Sequence[str],
        outputs: int = 1,
        dtypes: Sequence[DType] | None = None,
        **attrs: Any,
    ) -> Any:
        """Appends a node; the name of its output, or a tuple of names where `outputs` is not 1.

        Inputs are cast where the ONNX op does not admit their element type, and its outputs back.
        `dtypes` are those of the outputs, where the schema does not tell.
        """
        used, bound, asked = self._admit(name, list(inputs))
        kinds = dtypes or self._output_dtypes(name, outputs, bound, attrs)
        made = [self.name(name.lower(), dtype) for dtype in kinds]
        self.add(name, used, made, attrs)
        if asked and not dtypes:
            groups = signature(name, self.opset)
            for i, output in enumerate(made):
                back = asked.get(groups.output_group(i))
                if back is not None:
                    made[i] = self.cast(output, back)
        return made[0] if outputs == 1 else tuple(made)

    def add(self, name: str, inputs: list[str], outputs: list[str], attrs: dict[str, Any]) -> None:
        """Appends a node to the current scope, with the source line of what it was made for."""
        node = helper.make_node(name, inputs, outputs, name=self.name(f"{name}_{outputs[0]}"))
        for key, value in attrs.items():
            if value is not None:
                node.attribute.append(attribute(key, value))
        if self.loc:
            node.doc_string = self.loc
        for key, text in (("graphc.op", self.op_name), ("graphc.source", self.loc)):
            if text:
                entry = node.metadata_props.add()
                entry.key, entry.value = key, text
        self.scopes[-1].nodes.append(node)

    def _admit(
        self, name: str, inputs: list[str]
    ) -> tuple[list[str], dict[str, DType], dict[str, DType]]:
        """Inputs as the op admits them; the dtype of each group; the dtype that groups had."""
        types = signature(name, self.opset)
        bound: dict[str, DType] = {}
        asked: dict[str, DType] = {}
        if not types.inputs:
            return inputs, bound, asked
        for i, value in enumerate(inputs):
            group = types.input_group(i)
            dtype = self.dtypes.get(value)
            if not value or dtype is None:
                continue
            wide = widened(dtype, types.admitted[group])
            if wide is None:
                raise UnsupportedError(
                    f"ONNX's {name} takes no {ONNX_NAMES[dtype]} at opset {self.opset} "
                    f"(for the op {self.op_name})",
                    at=self.loc,
                )
            if wide is not dtype:
                inputs[i] = self.cast(value, wide)
                asked.setdefault(group, dtype)
            bound.setdefault(group, wide)
        return inputs, bound, asked

    def _output_dtypes(
        self, name: str, outputs: int, bound: dict[str, DType], attrs: dict[str, Any]
    ) -> list[DType]:
        if name == "Cast":
            return [FROM_ONNX[attrs["to"]]]
        if name == "ConstantOfShape":
            return [FROM_ONNX[attrs["value"].data_type]]
        types = signature(name, self.opset)
        found = []
        for i in range(outputs):
            group = types.output_group(i)
            dtype = bound.get(group)
            if dtype is None:
                (dtype,) = types.admitted[group]  # one type only, or the caller gives `dtypes`
            found.append(dtype)
        return found

    def cast(self, value: str, dtype: DType) -> str:
        """The value in another element type."""
        if self.dtypes.get(value) is dtype:
            return value
        return self.op("Cast", [value], to=TO_ONNX[dtype])

    # --- constants ---------------------------------------------------------------------------

    def constant(self, array: np.ndarray, name: str = "constant") -> str:
        """An initializer that holds the array."""
        array = np.asarray(array)
        dtype = from_numpy(array.dtype)
        key = (dtype, array.shape, array.tobytes())
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = self.name(name, dtype)
            self.initializers[found] = tensor(array, found)
        return found

    def scalar(self, value: bool | int | float | complex, dtype: DType) -> str:
        """An initializer of one number, without axes."""
        return self.constant(np.array(value).astype(dtype.numpy), "scalar")

    def ints(self, values: Iterable[AnyDim]) -> str:
        """A tensor i64[k] of these integers or sizes."""
        return self.dims(tuple(values))

    def full(self, value: bool | int | float | complex, type: TensorType) -> str:
        """A tensor of one number."""
        number = np.array([value]).astype(type.dtype.numpy)
        if not type.shape:
            return self.constant(number.reshape(()), "scalar")
        return self.op("ConstantOfShape", [self.dims(type.shape)], value=tensor(number, "value"))

    def onnx_dtype(self, dtype: DType) -> int:
        """ONNX's number of an element type."""
        return TO_ONNX[dtype]

    # --- sizes -------------------------------------------------------------------------------

    def bind_symbol(self, symbol: str, value: str, axis: int, slope: int, rest: int) -> None:
        """Says that the size of `value` along `axis` is slope * symbol + rest."""
        if symbol not in self._symbols:
            depth = self.scopes[-1].depth
            self._symbols[symbol] = (value, axis, slope, rest, depth)

    def knows(self, symbol: str) -> bool:
        return symbol in self._symbols

    def dims(self, shape: Sequence[AnyDim]) -> str:
        """A tensor i64[rank] of sizes; those that are symbolic are computed."""
        if all(isinstance(d, int) for d in shape):
            return self.constant(np.array(shape, np.int64).reshape(len(shape)), "shape")
        parts: list[str] = []
        run: list[int] = []
        for d in (*shape, None):
            if isinstance(d, int):
                run.append(d)
                continue
            if run:
                parts.append(self.constant(np.array(run, np.int64), "shape"))
                run = []
            if d is not None:
                parts.append(self._size(d))
        return parts[0] if len(parts) == 1 else self.op("Concat", parts, axis=0)

    def dim(self, d: AnyDim) -> str:
        """One size as a tensor i64[]."""
        if isinstance(d, int):
            return self.scalar(d, I64)
        return self.op("Reshape", [self._size(d), self.constant(np.zeros(0, np.int64), "shape")])

    def _size(self, d: Dim) -> str:
        """One symbolic size as i64[1], in the outermost scope where its symbols are known."""
        for symbol in d.symbols:
            if symbol not in self._symbols:
                raise UnsupportedError(
                    f"no input of the exported graph has the size {symbol}", at=self.loc
                )
        scope = self.scopes[max(self._symbols[symbol][4] for symbol in d.symbols)]
        found = scope.sizes.get(d)
        if found is None:
            inner, self.scopes = self.scopes, self.scopes[: scope.depth + 1]
            found = scope.sizes[d] = self._compute_size(d)
            self.scopes = inner
        return found

    def _compute_size(self, d: Dim) -> str:
        total = None
        for monomial, coefficient in sorted(d.terms, key=lambda term: (-len(term[0]), term[0])):
            factors = [self._symbol(name) for name in monomial]
            if coefficient != 1 or not factors:
                factors.append(self.constant(np.array([coefficient], np.int64), "shape"))
            term = factors[0]
            for factor in factors[1:]:
                term = self.op("Mul", [term, factor])
            total = term if total is None else self.op("Add", [total, term])
        assert total is not None  # a Dim has at least one term
        return total

    def _symbol(self, name: str) -> str:
        value, axis, slope, rest, depth = self._symbols[name]
        key = Dim((((name,), 1),))
        sizes = self.scopes[depth].sizes
        found = sizes.get(key)
        if found is None:
            found = self.op("Shape", [value], start=axis, end=axis + 1)
            if rest:
                found = self.op("Sub", [found, self.ints([rest])])
            if slope != 1:
                found = self.op("Div", [found, self.ints([slope])])
            sizes[key] = found
        return found

    # --- what facets of several ops share ----------------------------------------------------

    def reshape(self, x: str, shape: Sequence[AnyDim]) -> str:
        """x in another shape; one symbolic size is left for ONNX to infer."""
        symbolic = [d for d in shape if isinstance(d, Dim)]
        if len(symbolic) == 1 and 0 not in shape:
            inferred = [-1 if isinstance(d, Dim) else d for d in shape]
            return self.op("Reshape", [x, self.ints(inferred)])
        return self.op("Reshape", [x, self.dims(shape)], allowzero=1 if 0 in shape else None)

    def unsqueeze(self, x: str, axes: Sequence[int]) -> str:
        return self.op("Unsqueeze", [x, self.ints(axes)]) if axes else x

    def expand_to(self, x: str, shape: Sequence[AnyDim]) -> str:
        """x repeated to the shape, by ONNX's broadcasting."""
        return self.op("Expand", [x, self.dims(shape)]) if shape else x

    def permute(self, x: str, perm: Sequence[int]) -> str:
        if tuple(perm) == tuple(range(len(perm))):
            return x
        return self.op("Transpose", [x], perm=list(perm))

    def unsupported(self, node: Node, reason: str) -> NoReturn:
        raise UnsupportedError(f"cannot export {node.op.name}: {reason}", at=node.loc)

    dot = contraction.dot
    conv_transpose = contraction.conv_transpose
    conv_grad_weight = contraction.conv_grad_weight
    iota = indexing.iota
    window = indexing.window
    scatter = indexing.scatter
    dynamic_slice = indexing.dynamic_slice
    dynamic_update = indexing.dynamic_update
    cumulative = indexing.cumulative

    if_ = control_flow.if_
    while_ = control_flow.while_
    scan_ = control_flow.scan_
    zero_for_nan = elementary.zero_for_nan
    trunc = elementary.trunc
    log2 = elementary.log2
    log1p = elementary.log1p
    expm1 = elementary.expm1

    # Set by the exporter: writes a block of control flow here, on these operands.
    block: Callable[..., list[str]]


def tensor(array: np.ndarray, name: str) -> TensorProto:
    """A TensorProto with the array's bytes (little-endian)."""
    dtype = from_numpy(array.dtype)
    made = TensorProto()
    made.name = name
    made.data_type = TO_ONNX[dtype]
    made.dims.extend(array.shape)
    if dtype not in _RAW_ONLY:
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    made.raw_data = np.ascontiguousarray(array).tobytes()
    return made


def attribute(key: str, value: Any) -> Any:
    """An AttributeProto of a Python value; a flag becomes 0 or 1, a dtype ONNX's number."""
    if isinstance(value, bool):
        value = int(value)
    elif isinstance(value, DType):
        value = TO_ONNX[value]
    elif isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Dim) or (isinstance(value, list) and _any_symbolic(value)):
        raise UnsupportedError(f"the ONNX attribute {key} cannot hold the symbolic size {value}")
    if isinstance(value, list) and not value:
        return helper.make_attribute(key, value, attr_type=7)  # AttributeProto.INTS
    return helper.make_attribute(key, value)


def _any_symbolic(values: list) -> bool:
    return any(isinstance(v, Dim) for v in values)
