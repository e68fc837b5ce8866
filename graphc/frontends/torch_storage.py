"""How torch's files name element types and storages."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..ir import dtype as ir_dtype
from ..ir.dtype import DType

# Storages that have a class per element type; the class is what the file names.
TYPED_STORAGES: dict[str, DType] = {
    "FloatStorage": ir_dtype.F32,
    "DoubleStorage": ir_dtype.F64,
    "HalfStorage": ir_dtype.F16,
    "BFloat16Storage": ir_dtype.BF16,
    "LongStorage": ir_dtype.I64,
    "IntStorage": ir_dtype.I32,
    "ShortStorage": ir_dtype.I16,
    "CharStorage": ir_dtype.I8,
    "ByteStorage": ir_dtype.U8,
    "BoolStorage": ir_dtype.BOOL,
    "ComplexFloatStorage": ir_dtype.C64,
    "ComplexDoubleStorage": ir_dtype.C128,
}
STORAGE_NAMES: dict[DType, str] = {dtype: name for name, dtype in TYPED_STORAGES.items()}


@dataclass(frozen=True)
class StorageType:
    """A storage class as a pickle names it. `dtype` is None for UntypedStorage (bytes)."""

    name: str
    dtype: DType | None

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(np.uint8) if self.dtype is None else self.dtype.numpy


@dataclass(eq=False)
class LoadedStorage:
    """A storage out of a file.

    data: what tensors are made on: a flat numpy array, or what `place_storage` returned.
    location: the device that the file names, such as "cpu" or "cuda:0".
    """

    data: object
    dtype: DType | None
    numel: int
    location: str


@functools.cache
def dtypes_by_torch_name() -> dict[str, DType]:
    """ "float32" -> F32 and so on, for all element types of the IR."""
    found = (value for value in vars(ir_dtype).values() if isinstance(value, DType))
    return {dtype.torch_name: dtype for dtype in found}


@functools.cache
def dtype_of_numpy(dtype: np.dtype) -> DType:
    """The element type of arrays of `dtype`; TypeError if torch has none such."""
    for candidate in dtypes_by_torch_name().values():
        if candidate.numpy == dtype:
            return candidate
    raise TypeError(f"torch has no element type for numpy's {dtype}")
