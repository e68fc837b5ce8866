"""Bytes of an .onnx file -> ModelProto, and its tensors -> arrays. Nothing in a file is trusted.

Weights in other files are read only from files within the model's own folder.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from graphc.backends.onnx.element_types import FROM_ONNX
from graphc.ir.dtype import BF16, BOOL, C64, C128, F8E4M3, F8E5M2, F16, F32, F64, I64, U64, DType
from graphc.ir.errors import FormatError, UnsupportedError

MOST_AXES = 32
_BITS_IN_INT32 = {F16: "<u2", BF16: "<u2", F8E4M3: "<u1", F8E5M2: "<u1"}


def parse_model(data: bytes) -> ModelProto:
    """The message in these bytes; FormatError where there is none."""
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"not an ONNX file: {_first_line(error)}") from None
    if not model.HasField("graph"):
        raise FormatError("not an ONNX file: it holds no graph")
    _check_texts(model)
    return model


def _check_texts(message: Any) -> None:
    """Protobuf gives a text that is not UTF-8 as bytes: refused before anything looks at it."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            texts = (value,) if isinstance(value, (str, bytes)) else value
            if not all(isinstance(text, str) for text in texts):
                raise FormatError(f"malformed: the text of a field {field.name!r} is not UTF-8")
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in (value,) if hasattr(value, "ListFields") else value:
                _check_texts(part)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def element_type(number: int) -> DType:
    """The dtype of ONNX's number; UnsupportedError for strings, 4-bit types and unknown ones."""
    found = FROM_ONNX.get(number)
    if found is None:
        known = number in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(number) if known else str(number)
        raise UnsupportedError(f"tensors of ONNX's element type {name} are not supported")
    return found


def tensor_array(tensor: TensorProto, folder: Path | None) -> np.ndarray:
    """The contents of a tensor; `folder` is where files that it names may lie."""
    dtype = element_type(tensor.data_type)
    shape = tuple(tensor.dims)
    where = f"the tensor {tensor.name!r}"
    if len(shape) > MOST_AXES or any(n < 0 for n in shape):
        raise FormatError(f"{where} has the shape {list(shape)[:MOST_AXES]}")
    count = 1
    for n in shape:
        count *= n
    if tensor.HasField("segment"):
        raise UnsupportedError(f"{where} is stored in segments")
    if tensor.data_location == TensorProto.EXTERNAL:
        raw = _external_bytes(tensor, folder, count * dtype.itemsize)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
    else:
        return _from_fields(tensor, dtype, count, where).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise FormatError(
            f"{where} holds {len(raw)} bytes, but {dtype.name}{list(shape)} has "
            f"{count * dtype.itemsize}"
        )
    if dtype is BOOL:
        return (np.frombuffer(raw, np.uint8) != 0).reshape(shape)
    return np.frombuffer(raw, dtype.numpy).reshape(shape)


def _from_fields(tensor: TensorProto, dtype: DType, count: int, where: str) -> np.ndarray:
    """The typed fields, which older exporters write instead of bytes."""
    parts = 2 if dtype.kind == "c" else 1
    field: Any = {
        F32: tensor.float_data, C64: tensor.float_data, F64: tensor.double_data,
        C128: tensor.double_data, I64: tensor.int64_data, U64: tensor.uint64_data,
    }.get(dtype, tensor.int32_data)  # fmt: skip
    if dtype.name == "u32":
        field = tensor.uint64_data
    if len(field) != count * parts:
        raise FormatError(f"{where} holds {len(field)} numbers, its shape has {count * parts}")
    if dtype.kind == "c":
        return np.array(field, dtype.to_real().numpy).view(dtype.numpy)
    bits = _BITS_IN_INT32.get(dtype)
    if bits is not None:
        return np.array(field, np.int64).astype(bits).view(dtype.numpy)
    wide = np.array(field, np.uint64 if dtype in (U64,) else None)
    return wide.astype(dtype.numpy)


def _external_bytes(tensor: TensorProto, folder: Path | None, size: int) -> bytes:
    """The bytes that a tensor keeps in another file."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    where = f"the tensor {tensor.name!r}"
    path = _safe_path(entries.get("location", ""), folder, where)
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(size)))
    except ValueError:
        raise FormatError(f"{where}: its place in {path.name} is not a number") from None
    if length != size or offset < 0:
        raise FormatError(f"{where}: {length} bytes at {offset} in {path.name}, needs {size}")
    with path.open("rb") as file:
        if offset + length > os.fstat(file.fileno()).st_size:
            raise FormatError(f"{where}: the file {path.name} ends before byte {offset + length}")
        file.seek(offset)
        return file.read(length)


def _safe_path(location: str, folder: Path | None, where: str) -> Path:
    """A regular file within the model's folder; FormatError for any other place."""
    if folder is None:
        raise FormatError(f"{where} lies in a file, but the model was not read from one")
    parts = {*PurePosixPath(location).parts, *PureWindowsPath(location).parts}
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
    if not location or absolute or ".." in parts or "\0" in location:
        raise FormatError(
            f"{where} names the file {location[:80]!r}: not within the model's folder"
        )
    inside = folder.resolve()
    path = (inside / location).resolve()
    if not path.is_relative_to(inside):
        raise FormatError(f"{where}: {location[:80]!r} is a link out of the model's folder")
    if not path.is_file():
        raise FormatError(f"{where}: there is no file {location[:80]!r} beside the model")
    return path
