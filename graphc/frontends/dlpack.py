"""DLPack: tensors shared with other libraries without a copy, by ctypes.

A producer gives a capsule with a DLManagedTensor; whoever takes it renames the capsule and calls
the deleter when it no longer needs the memory. What graphc has given away is kept alive in `_given`
until then.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np

from ..ir.dtype import DTYPES, DType
from .views import row_major

CPU = 1
_NAME, _USED = b"dltensor", b"used_dltensor"
_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_BFLOAT = 4


class _Device(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int32), ("id", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    """A DLManagedTensor."""


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))

_api = ctypes.pythonapi
_new = _api.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_pointer = _api.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_rename = _api.PyCapsule_SetName
_rename.argtypes = (ctypes.py_object, ctypes.c_char_p)
_is_valid = _api.PyCapsule_IsValid
_is_valid.argtypes = (ctypes.py_object, ctypes.c_char_p)
# In a capsule's destructor its reference count is 0 already, so it is passed as a plain address.
_address_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", _api)
)
_address_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", _api)
)

_given: dict[int, tuple] = {}


@_Deleter
def _delete(managed: Any) -> None:
    _given.pop(ctypes.addressof(managed.contents), None)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _destroy(capsule: int) -> None:
    if _address_is_valid(capsule, _NAME):  # nobody took it
        _given.pop(_address_pointer(capsule, _NAME), None)


def capsule_of(array: np.ndarray, dtype: DType) -> Any:
    """A capsule with the array's memory, which stays alive as long as the capsule is in use."""
    rank = array.ndim
    shape = (ctypes.c_int64 * rank)(*array.shape)
    strides = (ctypes.c_int64 * rank)(*[s // array.itemsize for s in array.strides])
    code = _BFLOAT if dtype.name == "bf16" else _CODES[dtype.kind]
    tensor = _DLTensor(
        array.ctypes.data, _Device(CPU, 0), rank, _DataType(code, 8 * array.itemsize, 1), shape,
        strides, 0,
    )  # fmt: skip
    managed = _Managed(tensor, None, _delete)
    address = ctypes.addressof(managed)
    _given[address] = managed, shape, strides, array
    return _new(address, _NAME, ctypes.cast(_destroy, ctypes.c_void_p))


def memory_of(capsule: Any) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """A flat array on a capsule's memory, and the sizes and strides of what it shows.

    TypeError for a capsule that was taken before.
    """
    if not _is_valid(capsule, _NAME):
        raise TypeError("from_dlpack takes an object with __dlpack__, or a capsule not yet used")
    managed = _Managed.from_address(_pointer(capsule, _NAME))
    tensor = managed.tensor
    if tensor.device.type != CPU:
        raise BufferError(f"from_dlpack: the memory is on a device of kind {tensor.device.type}")
    dtype = _dtype_of(tensor.dtype)
    shape = tuple([tensor.shape[i] for i in range(tensor.ndim)])
    steps = row_major(shape)
    if tensor.strides:
        steps = tuple([tensor.strides[i] for i in range(tensor.ndim)])
    itemsize = dtype.itemsize
    extent = 1 + sum([(n - 1) * s for n, s in zip(shape, steps, strict=True)])
    count = 0 if 0 in shape else extent
    if min(steps, default=0) < 0:
        raise BufferError("from_dlpack: the memory has negative strides")
    memory: Any = ctypes.c_char * (count * itemsize)
    memory = memory.from_address((tensor.data or 0) + tensor.byte_offset) if count else b""
    _rename(capsule, _USED)
    if count:
        weakref.finalize(memory, _release, managed)
    else:
        _release(managed)
    return np.frombuffer(memory, dtype.numpy, count), shape, steps


def _release(managed: _Managed) -> None:
    if managed.deleter:
        managed.deleter(ctypes.byref(managed))


def _dtype_of(found: _DataType) -> DType:
    for dtype in DTYPES.values():
        if dtype.name.startswith("f8"):
            continue
        code = _BFLOAT if dtype.name == "bf16" else _CODES.get(dtype.kind)
        if (code, 8 * dtype.numpy.itemsize, 1) == (found.code, found.bits, found.lanes):
            return dtype
    raise BufferError(f"from_dlpack: no element type has code {found.code} and {found.bits} bits")
