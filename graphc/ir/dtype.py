"""Element types. `DType` objects are interned: compare them with `is`.

`F32.name` is the IR's short name, "f32"; `repr(F32)` is "torch.float32", which is what users see.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from .errors import DTypeError


class DType:
    """One element type: its names, its numpy type and its kind.

    kind: "f" float, "i" signed and "u" unsigned integer, "b" bool, "c" complex.
    """

    __slots__ = ("itemsize", "kind", "name", "numpy", "torch_name")

    def __init__(self, name: str, torch_name: str, numpy: Any, kind: str) -> None:
        self.name, self.torch_name, self.kind = name, torch_name, kind
        self.numpy = np.dtype(numpy)
        self.itemsize = self.numpy.itemsize

    @property
    def is_floating_point(self) -> bool:
        return self.kind == "f"

    @property
    def is_complex(self) -> bool:
        return self.kind == "c"

    @property
    def is_signed(self) -> bool:
        return self.kind in "fic"

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers; bool is not one of them."""
        return self.kind in "iu"

    @property
    def bits(self) -> int:
        return self.itemsize * 8

    def to_real(self) -> DType:
        return {C64: F32, C128: F64}.get(self, self)

    def to_complex(self) -> DType:
        return {F32: C64, F64: C128}.get(self, self)

    def __repr__(self) -> str:
        return f"torch.{self.torch_name}"

    def __reduce__(self) -> tuple:
        return dtype, (self.name,)

    def __copy__(self) -> DType:
        return self

    def __deepcopy__(self, memo: Any) -> DType:
        return self


F64 = DType("f64", "float64", np.float64, "f")
F32 = DType("f32", "float32", np.float32, "f")
F16 = DType("f16", "float16", np.float16, "f")
BF16 = DType("bf16", "bfloat16", ml_dtypes.bfloat16, "f")
F8E4M3 = DType("f8e4m3", "float8_e4m3fn", ml_dtypes.float8_e4m3fn, "f")
F8E5M2 = DType("f8e5m2", "float8_e5m2", ml_dtypes.float8_e5m2, "f")
I64 = DType("i64", "int64", np.int64, "i")
I32 = DType("i32", "int32", np.int32, "i")
I16 = DType("i16", "int16", np.int16, "i")
I8 = DType("i8", "int8", np.int8, "i")
U8 = DType("u8", "uint8", np.uint8, "u")
U16 = DType("u16", "uint16", np.uint16, "u")
U32 = DType("u32", "uint32", np.uint32, "u")
U64 = DType("u64", "uint64", np.uint64, "u")
BOOL = DType("bool", "bool", np.bool_, "b")
C64 = DType("c64", "complex64", np.complex64, "c")
C128 = DType("c128", "complex128", np.complex128, "c")

DTYPES: dict[str, DType] = {
    d.name: d
    for d in (
        F64, F32, F16, BF16, F8E4M3, F8E5M2, I64, I32, I16, I8, U8, U16, U32, U64, BOOL, C64, C128,
    )
}  # fmt: skip
_BY_NUMPY = {d.numpy: d for d in DTYPES.values()}


def dtype(name: str) -> DType:
    """The element type of that short name; DTypeError where there is none."""
    found = DTYPES.get(name)
    if found is None:
        raise DTypeError(f"no element type is called {name!r}; there are {', '.join(DTYPES)}")
    return found


def from_numpy(np_dtype: object) -> DType:
    """The element type of a numpy dtype; TypeError, as in torch, where there is none."""
    found = _BY_NUMPY.get(np.dtype(np_dtype))  # type: ignore[call-overload]
    if found is None:
        raise TypeError(
            f"can't convert np.ndarray of type {np_dtype}. The supported types are: float64, "
            "float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, uint32, "
            "uint16, uint8, and bool."
        )
    return found


# torch's promotion: the category decides first, then the size within it.
_ORDER = {d: i for i, d in enumerate((BOOL, U8, I8, I16, I32, I64, F16, BF16, F32, F64, C64, C128))}


def promote(a: DType, b: DType) -> DType:
    """The common element type of two, as torch.promote_types."""
    if a is b:
        return a
    if a not in _ORDER or b not in _ORDER:
        return _promote_rare(a, b)
    low, high = (a, b) if _ORDER[a] < _ORDER[b] else (b, a)
    if high.kind == "c":
        return C128 if low is F64 else high
    if high.kind == "f":
        return F32 if low.kind == "f" and {low, high} == {F16, BF16} else high
    return I16 if {low, high} == {U8, I8} else high


def _promote_rare(a: DType, b: DType) -> DType:
    """The wide unsigned types promote with floats alone, float8 with nothing, as in torch."""
    for x, y in ((a, b), (b, a)):
        if x in _ORDER and x.kind == "f" and y.kind == "u":
            return x
    raise DTypeError(
        f"Promotion for {a!r} and {b!r} is not supported, attempted to promote {a!r} and {b!r}"
    )
