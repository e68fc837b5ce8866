"""The functions that compiled code may call, and their addresses in this process.

The code generator turns some operations that a processor lacks into calls of a C library
(`floorf`, `__truncsfhf2`, ...), whose results differ between systems. So an object is loaded
only if each symbol that it does not define is on one of the lists here, or imported by name.
"""

import ctypes
import os
from functools import cache
from importlib import import_module

LIBRARY = frozenset({"memcpy", "memmove", "memset"})

C_API_FUNCTIONS = frozenset(
    {
        "PyDict_GetItemWithError",
        "PyDict_Next",
        "PyDict_SetDefault",
        "PyDict_SetItem",
        "PyDict_Size",
        "PyErr_Clear",
        "PyErr_Fetch",
        "PyErr_Format",
        "PyErr_Occurred",
        "PyErr_Restore",
        "PyErr_WriteUnraisable",
        "PyEval_RestoreThread",
        "PyEval_SaveThread",
        "PyFloat_AsDouble",
        "PyList_Append",
        "PyList_GetItem",
        "PyList_New",
        "PyList_SetItem",
        "PyList_SetSlice",
        "PyList_Size",
        "PyLong_AsLongLong",
        "PyLong_AsSsize_t",
        "PyLong_AsVoidPtr",
        "PyLong_FromLongLong",
        "PyLong_FromSsize_t",
        "PyLong_FromVoidPtr",
        "PyObject_CallFunctionObjArgs",
        "PyObject_CallMethodObjArgs",
        "PyObject_ClearWeakRefs",
        "PyObject_Free",
        "PyObject_GetAttr",
        "PyObject_IsTrue",
        "PyObject_RichCompareBool",
        "PyObject_Vectorcall",
        "PyThreadState_Get",
        "PyThreadState_GetID",
        "PyTuple_GetItem",
        "PyTuple_New",
        "PyTuple_SetItem",
        "PyTuple_Size",
        "PyType_GenericAlloc",
        "PyType_IsSubtype",
        "PyWeakref_GetObject",
        "Py_DecRef",
        "Py_IncRef",
        "_Py_NewReference",
    }
)
C_API_DATA = frozenset({"PyExc_TypeError", "_Py_NoneStruct"})

SYSTEM = frozenset(
    {
        "pthread_create",
        "pthread_join",
        "pthread_sigmask",
        "sched_yield",
        "sigfillset",
        "syscall",
    }
)

# Functions compiled at run time, by the module whose `address(name)` compiles them.
RUNTIME = {
    "graphc_parallel": "graphc.backends.llvm.pool",
    "graphc_parallel_within": "graphc.backends.llvm.pool",
    "graphc_mt_fill_u32": "graphc.backends.llvm.rng",
    "graphc_mt_uniform_f32": "graphc.backends.llvm.rng",
    "graphc_mt_uniform_f64": "graphc.backends.llvm.rng",
    "graphc_mt_bernoulli_u8": "graphc.backends.llvm.rng",
    "graphc_mt_normal_f32": "graphc.backends.llvm.rng",
    "graphc_mt_normal_f64": "graphc.backends.llvm.rng",
}

ALLOWED = LIBRARY | C_API_FUNCTIONS | C_API_DATA | SYSTEM | frozenset(RUNTIME)


@cache
def _library() -> ctypes.CDLL:
    return ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)


def address_of(name: str) -> int:
    """The address of an allowed symbol. Raises KeyError for a name that is not allowed."""
    if name in RUNTIME:
        return import_module(RUNTIME[name]).address(name)
    return _address_in_process(name)


@cache
def _address_in_process(name: str) -> int:
    if name in C_API_DATA:
        return ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, name))
    if name in C_API_FUNCTIONS:
        function = getattr(ctypes.pythonapi, name)
    elif name in LIBRARY or name in SYSTEM:
        function = getattr(_library(), name)
    else:
        raise KeyError(name)
    address = ctypes.cast(function, ctypes.c_void_p).value
    if not address:
        raise RuntimeError(f"the symbol {name} has no address")
    return address
