"""The type of buffers in compiled code: an allocation is some 30 ns, where Python takes 400.

A buffer that goes is not destroyed: the object is parked on a list of its size class, with its
block, and is handed out again. The lists and the counters are words of the allocator (`memory`),
which is asked for blocks when a list is empty. The interpreter's lock guards all of it.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from functools import cache

from graphc.backends.llvm import cpython, jit
from graphc.backends.llvm.memory import (
    ALLOCATED,
    KEEP,
    KEPT,
    LISTS,
    OVERFLOW,
    PEAK,
    RESERVE,
    SLAB_LIMIT,
    TYPE,
    WORDS,
    Buffer,
    HeapAllocator,
)
from graphc.backends.llvm.target import host_target

#: Bytes of an object; where its fields are. `_ADDRESS` is an int, `_RAW` the same as a number.
_SIZE_OF_OBJECT = 80
_ADDRESS, RAW_ADDRESS, _NBYTES, _SIZE, _CLASS, _NEXT, _WEAK = 16, 24, 32, 40, 48, 56, 64

_T_OBJECT_EX, _T_PYSSIZET, _READONLY = 16, 19, 1
_TP_DEALLOC, _TP_DOC, _TP_MEMBERS = 52, 56, 72
_DEFAULT, _NOT_BY_CALL = 1 << 18, 1 << 7


class _Member(ctypes.Structure):
    """CPython's PyMemberDef."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class _Slot(ctypes.Structure):
    """CPython's PyType_Slot."""

    _fields_ = [("slot", ctypes.c_int), ("pointer", ctypes.c_void_p)]


class _Spec(ctypes.Structure):
    """CPython's PyType_Spec."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    ]


def _word(name: str, index: int) -> str:
    return f"  %{name} = getelementptr i64, ptr @heap_state, i64 {index}\n"


def _field(name: str, offset: int, owner: str = "object") -> str:
    return f"  %{name} = getelementptr i8, ptr %{owner}, i64 {offset}\n"


#: The size class of %bytes: its size, and the head of its list. As `memory.block_size`.
CLASS_OF = f"""
  %atleast = call i64 @llvm.smax.i64(i64 %bytes, i64 1)
  %last = sub i64 %atleast, 1
  %zeros = call i64 @llvm.ctlz.i64(i64 %last, i1 false)
  %exact = sub i64 61, %zeros
  %shift = call i64 @llvm.smax.i64(i64 %exact, i64 6)
  %eighths = lshr i64 %last, %shift
  %units = add i64 %eighths, 1
  %size = shl i64 %units, %shift
  %above = sub i64 %shift, 6
  %fours = shl i64 %above, 2
  %class = add i64 %fours, %units
  %slot = add i64 %class, {LISTS}
  %head = getelementptr i64, ptr @heap_state, i64 %slot
"""

_DECLARATIONS = f"""
@heap_state = external global [{WORDS} x i64]
@_Py_NoneStruct = external global i8
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.ctlz.i64(i64, i1)
declare i64 @PyLong_AsSsize_t(ptr)
declare ptr @PyLong_AsVoidPtr(ptr)
declare ptr @PyErr_Occurred()
declare void @PyErr_Fetch(ptr, ptr, ptr)
declare void @PyErr_Restore(ptr, ptr, ptr)
declare void @PyErr_WriteUnraisable(ptr)
declare ptr @PyObject_CallFunctionObjArgs(ptr, ...)
declare void @PyObject_ClearWeakRefs(ptr)
declare void @PyObject_Free(ptr)
declare ptr @PyType_GenericAlloc(ptr, i64)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare void @_Py_NewReference(ptr)
"""

#: `ptr @allocate(i64 bytes, ptr number)`: a buffer, or null with an error set. number: the bytes as
#: an int, or null.
_ALLOCATE = f"""
declare ptr @PyLong_FromSsize_t(i64)
define ptr @allocate(i64 %bytes) {{
entry:
  %negative = icmp slt i64 %bytes, 0
{CLASS_OF}
  br i1 %negative, label %fresh, label %look
look:
  %parked = load ptr, ptr %head
  %none = icmp eq ptr %parked, null
  br i1 %none, label %fresh, label %pop
pop:
{_field("p.next", _NEXT, "parked")}  %following = load ptr, ptr %p.next
  store ptr %following, ptr %head
  %large = icmp sgt i64 %size, {SLAB_LIMIT}
{_word("p.kept.at", KEPT)}  %p.kept = load i64, ptr %p.kept.at
  %p.off = select i1 %large, i64 %size, i64 0
  %p.left = sub i64 %p.kept, %p.off
  store i64 %p.left, ptr %p.kept.at
  call void @_Py_NewReference(ptr %parked)
  br label %give
fresh:
{_word("type.at", TYPE)}  %type = load ptr, ptr %type.at
  %new = call ptr @PyType_GenericAlloc(ptr %type, i64 0)
  %no.object = icmp eq ptr %new, null
  br i1 %no.object, label %failed, label %reserve
reserve:
{_word("reserve.at", RESERVE)}  %callee = load ptr, ptr %reserve.at
  %number = call ptr @PyLong_FromSsize_t(i64 %bytes)
  %no.number = icmp eq ptr %number, null
  br i1 %no.number, label %undo, label %ask
ask:
  %address = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %callee, ptr %number, ptr null)
  call void @Py_DecRef(ptr %number)
  %no.block = icmp eq ptr %address, null
  br i1 %no.block, label %undo, label %fill
undo:
  call void @PyObject_Free(ptr %new)
  call void @Py_DecRef(ptr %type)
  br label %failed
fill:
{_field("f.address", _ADDRESS, "new")}  store ptr %address, ptr %f.address
  %raw = call ptr @PyLong_AsVoidPtr(ptr %address)
{_field("f.raw", RAW_ADDRESS, "new")}  store ptr %raw, ptr %f.raw
{_field("f.size", _SIZE, "new")}  store i64 %size, ptr %f.size
{_field("f.class", _CLASS, "new")}  store i64 %class, ptr %f.class
  br label %give
give:
  %object = phi ptr [ %parked, %pop ], [ %new, %fill ]
{_field("g.nbytes", _NBYTES)}  store i64 %bytes, ptr %g.nbytes
{_word("allocated.at", ALLOCATED)}  %before = load i64, ptr %allocated.at
  %allocated = add i64 %before, %size
  store i64 %allocated, ptr %allocated.at
{_word("peak.at", PEAK)}  %peak = load i64, ptr %peak.at
  %highest = call i64 @llvm.smax.i64(i64 %peak, i64 %allocated)
  store i64 %highest, ptr %peak.at
  ret ptr %object
failed:
  ret ptr null
}}
"""

_ALLOC = """
define ptr @alloc(ptr %self, ptr %number) {
entry:
  %bytes = call i64 @PyLong_AsSsize_t(ptr %number)
  %doubtful = icmp eq i64 %bytes, -1
  br i1 %doubtful, label %ask, label %go
ask:
  %error = call ptr @PyErr_Occurred()
  %raised = icmp ne ptr %error, null
  br i1 %raised, label %failed, label %go
go:
  %made = call ptr @allocate(i64 %bytes)
  ret ptr %made
failed:
  ret ptr null
}
"""

_DEALLOC = f"""
define void @dealloc(ptr %object) {{
entry:
{_field("weak.at", _WEAK)}  %weak = load ptr, ptr %weak.at
  %unseen = icmp eq ptr %weak, null
  br i1 %unseen, label %park, label %clear
clear:
  call void @PyObject_ClearWeakRefs(ptr %object)
  br label %park
park:
{_field("size.at", _SIZE)}  %size = load i64, ptr %size.at
{_word("allocated.at", ALLOCATED)}  %before = load i64, ptr %allocated.at
  %allocated = sub i64 %before, %size
  store i64 %allocated, ptr %allocated.at
{_field("class.at", _CLASS)}  %class = load i64, ptr %class.at
  %slot = add i64 %class, {LISTS}
  %head = getelementptr i64, ptr @heap_state, i64 %slot
  %parked = load ptr, ptr %head
{_field("next.at", _NEXT)}  store ptr %parked, ptr %next.at
  store ptr %object, ptr %head
  %large = icmp sgt i64 %size, {SLAB_LIMIT}
  br i1 %large, label %count, label %done
count:
{_word("kept.at", KEPT)}  %kept = load i64, ptr %kept.at
  %more = add i64 %kept, %size
  store i64 %more, ptr %kept.at
{_word("keep.at", KEEP)}  %keep = load i64, ptr %keep.at
  %over = icmp sgt i64 %more, %keep
  br i1 %over, label %overflow, label %done
overflow:
  %error = alloca [3 x ptr], align 8
  %error.1 = getelementptr ptr, ptr %error, i64 1
  %error.2 = getelementptr ptr, ptr %error, i64 2
  call void @PyErr_Fetch(ptr %error, ptr %error.1, ptr %error.2)
{_word("overflow.at", OVERFLOW)}  %callee = load ptr, ptr %overflow.at
  %result = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %callee, ptr null)
  %broken = icmp eq ptr %result, null
  br i1 %broken, label %tell, label %drop
tell:
  call void @PyErr_WriteUnraisable(ptr %callee)
  br label %restore
drop:
  call void @Py_DecRef(ptr %result)
  br label %restore
restore:
  %kind = load ptr, ptr %error
  %value = load ptr, ptr %error.1
  %trace = load ptr, ptr %error.2
  call void @PyErr_Restore(ptr %kind, ptr %value, ptr %trace)
  br label %done
done:
  ret void
}}
"""

_DRAIN = f"""
define ptr @drain(ptr %self, ptr %number) {{
entry:
  %bytes = call i64 @PyLong_AsSsize_t(ptr %number)
{CLASS_OF}
  %object = load ptr, ptr %head
  %empty = icmp eq ptr %object, null
  br i1 %empty, label %none, label %take
none:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
take:
{_field("next.at", _NEXT)}  %next = load ptr, ptr %next.at
  store ptr %next, ptr %head
{_field("address.at", _ADDRESS)}  %address = load ptr, ptr %address.at
  call void @PyObject_Free(ptr %object)
{_word("type.at", TYPE)}  %type = load ptr, ptr %type.at
  call void @Py_DecRef(ptr %type)
  ret ptr %address
}}
"""

TEXT = _DECLARATIONS + _ALLOCATE + _ALLOC + _DEALLOC + _DRAIN


def install(allocator: HeapAllocator) -> None:
    """From now on the allocator makes buffers of this type, with the methods of `Buffer`.

    It stays with the process. Buffers that were made before are given back as before.
    """
    words = allocator.words
    code = jit.load(
        TEXT, ["alloc", "allocate", "dealloc", "drain"],
        {"heap_state": ctypes.addressof(words)}, target=host_target(),
    )  # fmt: skip
    code.keep()
    made = _type(code["dealloc"])
    for name in ("__array_interface__", "__repr__", "array"):
        setattr(made, name, Buffer.__dict__[name])
    callees = allocator.block_of, allocator.drop_half
    jit.keep_for_ever((words, made, callees))
    words[RESERVE], words[OVERFLOW] = id(callees[0]), id(callees[1])
    words[TYPE] = id(made)
    allocator.drain = cpython.builtin(code["drain"], "drain", code, of_one=True)
    allocator.allocate_address = code["allocate"]
    allocator.native_type = made
    allocator.alloc = cpython.builtin(  # type: ignore[method-assign]
        code["alloc"], "alloc", code, of_one=True
    )


def _type(dealloc: int) -> type:
    """A new type of objects that `dealloc` parks."""
    members = (_Member * 4)(
        _Member(b"address", _T_OBJECT_EX, _ADDRESS, _READONLY, None),
        _Member(b"nbytes", _T_PYSSIZET, _NBYTES, _READONLY, None),
        _Member(b"_size", _T_PYSSIZET, _SIZE, _READONLY, None),
        _Member(b"__weaklistoffset__", _T_PYSSIZET, _WEAK, _READONLY, None),
    )
    all_members = (_Member * 5)(*members)
    doc = ctypes.create_string_buffer(b"A block of memory from an allocator.")
    slots = (_Slot * 4)(
        _Slot(_TP_DEALLOC, dealloc),
        _Slot(_TP_DOC, ctypes.addressof(doc)),
        _Slot(_TP_MEMBERS, ctypes.addressof(all_members)),
        _Slot(0, None),
    )
    name = b"graphc.backends.llvm.memory.Buffer"
    spec = _Spec(name, _SIZE_OF_OBJECT, 0, _DEFAULT | _NOT_BY_CALL, slots)
    jit.keep_for_ever((all_members, doc, slots, spec, name))
    make = ctypes.pythonapi.PyType_FromSpec
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p]
    return make(ctypes.addressof(spec))


@cache
def fault() -> str | None:
    """Why buffers of this type cannot be trusted on this interpreter; None when they can."""
    problem = cpython.fault()
    if problem is not None:
        return problem
    try:
        problem = _self_test(HeapAllocator(keep_bytes=1 << 16))
    except Exception as error:
        problem = f"raises {error!r}"
    return problem and f"a type of buffers made at run time {problem}"


def _self_test(heap: HeapAllocator) -> str | None:
    """What the type does wrong, or None."""
    install(heap)
    first = heap.alloc(100)
    address = first.address
    once = object()  # what getrefcount says of a local that is held once
    if sys.getrefcount(first) != sys.getrefcount(once):
        return "counts references wrongly"
    if gc.is_tracked(first) or first.nbytes != 100:
        return "makes other objects than expected"
    gone = weakref.ref(first)
    del first
    if gone() is not None or heap.allocated != 0:
        return "does not give buffers back"
    again = heap.alloc(65)
    if sys.getrefcount(again) != sys.getrefcount(once):
        return "counts references wrongly"
    if again.address != address or again.nbytes != 65:
        return "does not hand out what came back"
    if heap.alloc(128).address == address:
        return "hands out a block twice"
    for nbytes in (1, 5000, 50_000, 500_000, 5000):  # beyond what is kept
        heap.alloc(nbytes)
    if heap.allocated != 128 or heap.kept > 1 << 16:
        return "counts bytes wrongly"
    if not cpython.raises(ValueError, heap.alloc, -1):
        return "accepts a negative size"
    if not cpython.raises(TypeError, heap.alloc, "1"):
        return "accepts a string"
    return None
