"""Write torch files: what torch.save would write, so that torch.load(weights_only=True) reads it.

A pickle refers to classes by name. The names of torch's functions are written as they are, since
torch need not be installed; so the pickler is Python's own one written in Python, whose methods can
be overridden.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from ..ir.dtype import DType
from .torch_storage import STORAGE_NAMES, dtype_of_numpy

PROTOCOL = 2
_ALIGNMENT = 64
_LOCAL_HEADER = 30
_ZIP64_EXTRA = 20
_ZIP64_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as a file holds it: a view of a storage.

    storage_key: equal for tensors that share a storage. array: the whole storage, flat; its dtype
    is the tensor's. offset, stride: in elements.
    """

    storage_key: Hashable
    array: np.ndarray
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool = False
    is_parameter: bool = False


@dataclass(frozen=True)
class TorchName:
    """Something that the file refers to by its name in torch, such as ("torch", "float32")."""

    module: str
    name: str


@dataclass(frozen=True)
class TorchCall:
    """Something that torch makes by a call, such as torch.device("cpu")."""

    function: TorchName
    arguments: tuple


Description = TensorRecord | TorchName | TorchCall | None


def save_file(
    obj: Any,
    target: str | os.PathLike[str] | IO[bytes],
    *,
    describe_tensor: Callable[[Any], Description],
    protocol: int = PROTOCOL,
) -> None:
    """Write `obj` to a path or a binary file, in torch's zip format.

    describe_tensor(value): called for each value that is not a plain Python object; returns a
    TensorRecord for a tensor or parameter, a TorchName or TorchCall for another value that torch
    knows under its own name (dtypes, devices, sizes), None for anything else, which is pickled as
    Python does. IR dtypes need no description.

    Raises RuntimeError if tensors share a storage under different dtypes, as torch does, TypeError
    for an element type that torch lacks, pickle.PicklingError for what cannot be pickled.
    """
    data = io.BytesIO()
    pickler = _TorchPickler(data, describe_tensor, protocol)
    pickler.dump(obj)
    if isinstance(target, str | os.PathLike):
        root = os.path.splitext(os.path.basename(os.fspath(target)))[0] or "archive"
        with open(target, "wb") as stream:
            _write_archive(stream, root, data.getvalue(), pickler.storages)
    elif hasattr(target, "seekable") and target.seekable():
        _write_archive(target, "archive", data.getvalue(), pickler.storages)
    else:
        whole = io.BytesIO()
        _write_archive(whole, "archive", data.getvalue(), pickler.storages)
        target.write(whole.getbuffer())


@dataclass
class _Storages:
    """The storages of one file, in the order of their first use."""

    arrays: list[np.ndarray] = field(default_factory=list)
    numbers: dict[Hashable, int] = field(default_factory=dict)

    def number(self, record: TensorRecord) -> int:
        found = self.numbers.setdefault(record.storage_key, len(self.arrays))
        if found == len(self.arrays):
            self.arrays.append(record.array)
        elif self.arrays[found].dtype != record.array.dtype:
            raise RuntimeError(
                "Cannot save multiple tensors or storages that view the same data as different "
                "types"
            )
        return found


@dataclass(frozen=True)
class _StorageReference:
    """Stands for a storage in the pickle; written as its persistent id."""

    identity: tuple


# Python objects that are never tensors: asking about each would cost more than writing them.
_PLAIN = (
    str,
    int,
    float,
    bool,
    bytes,
    tuple,
    list,
    dict,
    type(None),
    type,
    collections.OrderedDict,
)


class _TorchPickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes tensors as calls of torch._utils and storages as persistent ids."""

    def __init__(
        self, stream: IO[bytes], describe: Callable[[Any], Description], protocol: int
    ) -> None:
        if not 2 <= protocol <= 4:
            raise ValueError(f"pickle_protocol must be 2, 3 or 4, got {protocol}")
        super().__init__(stream, protocol)
        self.describe = describe
        self.storages = _Storages()

    def persistent_id(self, obj: Any) -> tuple | None:
        return obj.identity if type(obj) is _StorageReference else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        kind = type(obj)
        if kind in _PLAIN or kind is _StorageReference or id(obj) in self.memo:
            super().save(obj, save_persistent_id)
        elif kind is TorchName:
            self.write_name(obj)
        elif kind is DType:
            self.write_name(TorchName("torch", obj.torch_name))
        else:
            description = self.describe(obj)
            if description is None:
                super().save(obj, save_persistent_id)
            elif isinstance(description, TorchName):
                self.write_name(description)
            else:
                call = description
                if isinstance(description, TensorRecord):
                    call = self.tensor_call(description)
                self.write_call(call)
                self.memoize(obj)

    def write_name(self, name: TorchName) -> None:
        self.write(pickle.GLOBAL + f"{name.module}\n{name.name}\n".encode())

    def write_call(self, call: TorchCall) -> None:
        self.write_name(call.function)
        self.save(call.arguments)
        self.write(pickle.REDUCE)

    def save_torch_call(self, call: TorchCall) -> None:
        """A call inside the arguments of another; not memoized, since nothing refers to it."""
        self.write_call(call)

    dispatch = {**pickle._Pickler.dispatch, TorchCall: save_torch_call}  # type: ignore[attr-defined]

    def tensor_call(self, record: TensorRecord) -> TorchCall:
        """The call of torch._utils that makes the tensor."""
        array = record.array
        if array.ndim != 1 or not array.flags.c_contiguous:
            raise ValueError("the array of a TensorRecord is a whole storage: flat, contiguous")
        dtype = dtype_of_numpy(array.dtype)
        typed = STORAGE_NAMES.get(dtype)
        storage_type = TorchName("torch", typed) if typed else _UNTYPED
        count = array.size if typed else array.nbytes
        key = str(self.storages.number(record))
        storage = _StorageReference(("storage", storage_type, key, "cpu", count))
        hooks = collections.OrderedDict()
        requires_grad = record.requires_grad and not record.is_parameter
        view = (record.offset, tuple(record.size), tuple(record.stride))
        arguments = (storage, *view, requires_grad, hooks)
        if typed:
            call = TorchCall(TorchName("torch._utils", "_rebuild_tensor_v2"), arguments)
        else:
            rebuild = TorchName("torch._utils", "_rebuild_tensor_v3")
            call = TorchCall(rebuild, (*arguments, TorchName("torch", dtype.torch_name)))
        if record.is_parameter:
            rebuild = TorchName("torch._utils", "_rebuild_parameter")
            call = TorchCall(rebuild, (call, record.requires_grad, collections.OrderedDict()))
        return call


_UNTYPED = TorchName("torch.storage", "UntypedStorage")


def _write_archive(stream: IO[bytes], root: str, data: bytes, storages: _Storages) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        _write_record(archive, stream, f"{root}/data.pkl", data)
        _write_record(archive, stream, f"{root}/byteorder", sys.byteorder.encode())
        for number, array in enumerate(storages.arrays):
            _write_record(archive, stream, f"{root}/data/{number}", array.view(np.uint8).data)
        _write_record(archive, stream, f"{root}/version", b"3\n")


def _write_record(
    archive: zipfile.ZipFile, stream: IO[bytes], name: str, data: bytes | memoryview
) -> None:
    """One entry, whose bytes begin at a multiple of 64 so that the file can be mapped."""
    size = memoryview(data).nbytes
    needs_zip64 = size > _ZIP64_LIMIT
    entry = zipfile.ZipInfo(name)
    entry.file_size = size
    begin = stream.tell() + _LOCAL_HEADER + len(name.encode()) + _ZIP64_EXTRA * needs_zip64 + 4
    padding = -begin % _ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    with archive.open(entry, "w", force_zip64=needs_zip64) as record:
        record.write(data)
