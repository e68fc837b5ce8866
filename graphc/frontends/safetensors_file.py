"""Read and write safetensors files as numpy arrays, bfloat16 and float8 included.

The `safetensors` package is an extra of graphc: pip install graphc[safetensors].
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType

import numpy as np

from ..ir import dtype as ir_dtype
from ..ir.dtype import DType
from ..ir.errors import FormatError

# What the format calls the element types.
_CODES: dict[str, DType] = {
    "F64": ir_dtype.F64,
    "F32": ir_dtype.F32,
    "F16": ir_dtype.F16,
    "BF16": ir_dtype.BF16,
    "F8_E4M3": ir_dtype.F8E4M3,
    "F8_E5M2": ir_dtype.F8E5M2,
    "I64": ir_dtype.I64,
    "I32": ir_dtype.I32,
    "I16": ir_dtype.I16,
    "I8": ir_dtype.I8,
    "U8": ir_dtype.U8,
    "U16": ir_dtype.U16,
    "U32": ir_dtype.U32,
    "U64": ir_dtype.U64,
    "BOOL": ir_dtype.BOOL,
    "C64": ir_dtype.C64,
}


def load_file(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Name -> array of every tensor in the file; FormatError for a malformed one."""
    with open(path, "rb") as stream:
        return load(stream.read())


def load(data: bytes) -> dict[str, np.ndarray]:
    """Name -> array of every tensor in the bytes of a file."""
    package = _package()
    try:
        entries = package.deserialize(data)
    except package.SafetensorError as error:
        raise FormatError(f"the safetensors file is malformed ({str(error)[:300]})") from error
    return {name: _array(name, entry) for name, entry in entries}


def save_file(
    tensors: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write name -> array; TypeError for an element type that the format lacks."""
    data = save(tensors, metadata)
    with open(path, "wb") as stream:
        stream.write(data)


def save(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a file of name -> array."""
    _package()
    from safetensors.numpy import save as write

    known = {dtype.numpy for dtype in _CODES.values()}
    little = {}
    for name, array in tensors.items():
        if array.dtype.newbyteorder("=") not in known:
            raise TypeError(f"safetensors has no element type for {name}, which is {array.dtype}")
        order = array.dtype.newbyteorder("<")
        little[name] = np.asarray(array, order, order="C")
    return write(little, dict(metadata) if metadata else None)


def _array(name: str, entry: dict) -> np.ndarray:
    dtype = _CODES.get(entry["dtype"])
    if dtype is None:
        raise FormatError(f"the tensor {name} has the element type {entry['dtype']}")
    data = entry["data"]
    data = bytearray(data) if isinstance(data, bytes) else data  # arrays are to be writable
    return np.frombuffer(data, dtype.numpy).reshape(entry["shape"])


def _package() -> ModuleType:
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(
            "safetensors files need the safetensors package: pip install safetensors"
        ) from error
    return safetensors
