"""ONNX's element types, and which of them an ONNX op admits.

The schemas that the onnx package ships say which element types an op takes at an opset. Where a
graph's dtype is not among them (int8 in ReduceSum, bool in Max), the op runs in a wider one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from onnx import TensorProto, defs

from graphc.ir.dtype import (
    BF16,
    BOOL,
    C64,
    C128,
    F8E4M3,
    F8E5M2,
    F16,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    DType,
)

ONNX_NAMES: dict[DType, str] = {
    F32: "float", F64: "double", F16: "float16", BF16: "bfloat16",
    F8E4M3: "float8e4m3fn", F8E5M2: "float8e5m2",
    I8: "int8", I16: "int16", I32: "int32", I64: "int64",
    U8: "uint8", U16: "uint16", U32: "uint32", U64: "uint64",
    BOOL: "bool", C64: "complex64", C128: "complex128",
}  # fmt: skip
TO_ONNX: dict[DType, int] = {
    dtype: TensorProto.DataType.Value(name.upper()) for dtype, name in ONNX_NAMES.items()
}
FROM_ONNX: dict[int, DType] = {number: dtype for dtype, number in TO_ONNX.items()}
_BY_TYPE_TEXT = {f"tensor({name})": dtype for dtype, name in ONNX_NAMES.items()}

# Types that hold every value of the first, narrowest first. Unsigned 64-bit integers have none.
WIDER: dict[DType, tuple[DType, ...]] = {
    F8E4M3: (F16, F32), F8E5M2: (F16, F32), F16: (F32, F64), BF16: (F32, F64), F32: (F64,),
    I8: (I32, I64), I16: (I32, I64), I32: (I64,),
    U8: (I32, I64), U16: (I32, I64), U32: (I64,),
    BOOL: (U8, I32, I64, F32),
}  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """The element types of an ONNX op: for each input and output a group, and what groups admit.

    A group is a type variable of the schema ("T"); inputs and outputs that share it have one
    element type. The last input or output repeats where `variadic` says so.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    admitted: dict[str, frozenset[DType]]

    def input_group(self, i: int) -> str:
        return self.inputs[min(i, len(self.inputs) - 1)]

    def output_group(self, i: int) -> str:
        return self.outputs[min(i, len(self.outputs) - 1)]


@lru_cache(maxsize=1024)
def signature(name: str, opset: int) -> Signature:
    """The signature of an op of the standard domain at an opset."""
    schema = defs.get_schema(name, opset, "")
    admitted = {
        constraint.type_param_str: _dtypes(constraint.allowed_type_strs)
        for constraint in schema.type_constraints
    }
    for formal in (*schema.inputs, *schema.outputs):
        if formal.type_str not in admitted:
            admitted[formal.type_str] = _dtypes([formal.type_str])
    return Signature(
        tuple(formal.type_str for formal in schema.inputs),
        tuple(formal.type_str for formal in schema.outputs),
        admitted,
    )


def _dtypes(texts: Sequence[str]) -> frozenset[DType]:
    return frozenset(_BY_TYPE_TEXT[text] for text in texts if text in _BY_TYPE_TEXT)


def widened(dtype: DType, admitted: frozenset[DType]) -> DType | None:
    """The narrowest admitted type that holds every value of `dtype`; None where there is none."""
    if dtype in admitted:
        return dtype
    return next((wide for wide in WIDER.get(dtype, ()) if wide in admitted), None)
