"""Functions that CPython calls directly, built at run time. All knowledge of its internals.

A builtin is a PyMethodDef whose function is compiled code, wrapped by PyCFunction_NewEx. Its
`m_self` owns the code and the PyMethodDef: a running call holds a reference to the builtin, so
nothing is unmapped under it. All names used belong to CPython's stable interface, except that
`None` is reached by the symbol of its object.

`fault()` tells why builtins cannot be used here, after trying one.
"""

import ctypes
import sys
import sysconfig
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

from graphc.backends.llvm import jit
from graphc.backends.llvm.target import host_target

ENTRY = "entry"  # the name of the function that `entry_text` defines
_METH_FASTCALL, _METH_O, _METH_KEYWORDS = 0x80, 0x08, 0x02
_TESTED = ((3, 11), (3, 14))

_COUNT_MESSAGE = "a compiled graph takes %zd arguments, but %zd are given"
_DECLARATIONS = f"""
@PyExc_TypeError = external global ptr
@_Py_NoneStruct = external global i8
declare ptr @PyErr_Format(ptr, ptr, ...)
declare ptr @PyErr_Occurred()
declare ptr @PyLong_AsVoidPtr(ptr)
declare i64 @PyLong_AsLongLong(ptr)
declare ptr @PyLong_FromLongLong(i64)
declare void @Py_IncRef(ptr)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
@count_message = private constant [{len(_COUNT_MESSAGE) + 1} x i8] c"{_COUNT_MESSAGE}\\00"
"""


class PyMethodDef(ctypes.Structure):
    """CPython's description of a builtin function."""

    _fields_ = [
        ("ml_name", ctypes.c_char_p),
        ("ml_meth", ctypes.c_void_p),
        ("ml_flags", ctypes.c_int),
        ("ml_doc", ctypes.c_char_p),
    ]


class _Owner:
    """What a builtin keeps alive."""

    __slots__ = ("__weakref__", "code", "definition")

    def __init__(self, code: object, definition: PyMethodDef) -> None:
        self.code = code
        self.definition = definition


def _conversion(kind: str, convert: str, failed: str, first: int, last: int) -> str:
    """A loop that converts the arguments [first, last) to integers in the table.

    `failed` is the value that may mean an error; whether it does, PyErr_Occurred tells.
    """
    return f"""
{kind}.begin:
  br label %{kind}.test
{kind}.test:
  %{kind}.i = phi i64 [ {first}, %{kind}.begin ], [ %{kind}.next, %{kind}.store ]
  %{kind}.more = icmp slt i64 %{kind}.i, {last}
  br i1 %{kind}.more, label %{kind}.convert, label %{kind}.end
{kind}.convert:
  %{kind}.from = getelementptr ptr, ptr %arguments, i64 %{kind}.i
  %{kind}.object = load ptr, ptr %{kind}.from
{convert}
  %{kind}.doubtful = icmp eq i64 %{kind}.value, {failed}
  br i1 %{kind}.doubtful, label %{kind}.ask, label %{kind}.store
{kind}.ask:
  %{kind}.error = call ptr @PyErr_Occurred()
  %{kind}.raised = icmp ne ptr %{kind}.error, null
  br i1 %{kind}.raised, label %fail, label %{kind}.store
{kind}.store:
  %{kind}.to = getelementptr i64, ptr %table, i64 %{kind}.i
  store i64 %{kind}.value, ptr %{kind}.to
  %{kind}.next = add i64 %{kind}.i, 1
  br label %{kind}.test
{kind}.end:"""


def entry_text(symbol: str, pointers: int, integers: int, release_gil: bool) -> str:
    """A module's text that defines `ENTRY`, a METH_FASTCALL function around `i64 @symbol(ptr)`.

    It takes `pointers` addresses and then `integers` signed integers, puts them into a table of
    i64, and calls `symbol` with the table: without the interpreter's lock if `release_gil`.
    It returns the result as an int, or None for 0. It raises TypeError for another number of
    arguments or one that is no integer, OverflowError for one beyond 64 bits.
    """
    count = pointers + integers
    save = "%state = call ptr @PyEval_SaveThread()" if release_gil else ""
    restore = "call void @PyEval_RestoreThread(ptr %state)" if release_gil else ""
    address = """  %p.pointer = call ptr @PyLong_AsVoidPtr(ptr %p.object)
  %p.value = ptrtoint ptr %p.pointer to i64"""
    integer = "  %n.value = call i64 @PyLong_AsLongLong(ptr %n.object)"
    return f"""{_DECLARATIONS}
declare i64 @{symbol}(ptr)
define ptr @{ENTRY}(ptr %self, ptr %arguments, i64 %given) {{
entry:
  %table = alloca [{max(count, 1)} x i64], align 16
  %right = icmp eq i64 %given, {count}
  br i1 %right, label %p.begin, label %miscounted
{_conversion("p", address, "0", 0, pointers)}
  br label %n.begin
{_conversion("n", integer, "-1", pointers, count)}
  {save}
  %result = call i64 @{symbol}(ptr %table)
  {restore}
  %plain = icmp eq i64 %result, 0
  br i1 %plain, label %none, label %number
none:
  call void @Py_IncRef(ptr @_Py_NoneStruct)
  ret ptr @_Py_NoneStruct
number:
  %object = call ptr @PyLong_FromLongLong(i64 %result)
  ret ptr %object
miscounted:
  %type = load ptr, ptr @PyExc_TypeError
  %m = call ptr (ptr, ptr, ...)
    @PyErr_Format(ptr %type, ptr @count_message, i64 {count}, i64 %given)
  br label %fail
fail:
  ret ptr null
}}
"""


def builtin(address: int, name: str, code: object, of_one: bool = False) -> Callable[..., Any]:
    """A builtin function `name` whose METH_FASTCALL code is at `address`; it keeps `code` alive.

    of_one: the code is METH_O, of one argument.
    """
    flags = _METH_O if of_one else _METH_FASTCALL
    definition = PyMethodDef(name.encode(), address, flags, None)
    return _new_builtin()(ctypes.addressof(definition), _Owner(code, definition), None)


def method(cls: type, address: int, name: str, doc: str) -> Any:
    """A method for a class whose code, at `address`, takes (self, arguments, how many, names of
    those by keyword, or null), as METH_FASTCALL and METH_KEYWORDS have it. It is never unloaded."""
    flags = _METH_FASTCALL | _METH_KEYWORDS
    definition = PyMethodDef(name.encode(), address, flags, doc.encode())
    jit.keep_for_ever((definition, name, doc))
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)
    new_method = make(("PyDescr_NewMethod", ctypes.pythonapi))
    return new_method(cls, ctypes.addressof(definition))


@cache
def _new_builtin() -> Callable[..., Any]:
    kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return kind(("PyCFunction_NewEx", ctypes.pythonapi))


@cache
def fault() -> str | None:
    """Why builtins made here cannot be trusted on this interpreter; None when they can."""
    if sys.implementation.name != "cpython":
        return f"the interpreter is {sys.implementation.name}, not CPython"
    if not _TESTED[0] <= sys.version_info[:2] <= _TESTED[1]:
        return f"CPython {sys.version_info[0]}.{sys.version_info[1]} is not known"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "a free-threaded CPython is not supported"
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return "pointers do not have 64 bits"
    for release_gil in (False, True):
        try:
            problem = _self_test(release_gil)
        except Exception as error:
            problem = f"raises {error!r}"
        if problem:
            return f"a builtin made at run time {problem}"
    return None


_PROBE = """
define i64 @probe(ptr %table) {
  %second = getelementptr i64, ptr %table, i64 1
  %a = load i64, ptr %table
  %b = load i64, ptr %second
  %sum = add i64 %a, %b
  ret i64 %sum
}
"""


def raises(error: type[Exception], function: Callable[..., Any], *arguments: object) -> bool:
    """Whether a builtin raises; for self-tests."""
    clear = ctypes.pythonapi.PyErr_Clear
    try:
        function(*arguments)
        clear()  # a broken builtin returns with an exception set, which would surface anywhere
    except error:
        return True
    return False


def _self_test(release_gil: bool) -> str | None:
    """What a builtin does wrong, or None."""
    probe = jit.load(_PROBE, ["probe"], target=host_target())
    text = entry_text("probe", 1, 1, release_gil)
    code = jit.load(text, [ENTRY], {"probe": probe}, target=host_target())
    function = builtin(code[ENTRY], "probe", code)
    large, negative = 1 << 40, -(1 << 41)
    if function(large, negative) != large + negative or function(5, -5) is not None:
        return "returns a wrong result"
    if not (raises(TypeError, function, 1) and raises(TypeError, function, 1, 2, 3)):
        return "accepts a wrong number of arguments"
    if not (raises(TypeError, function, "1", 2) and raises(TypeError, function, 1, "2")):
        return "accepts a string"
    if not (raises(OverflowError, function, 1 << 70, 2) and function(0, -1) == -1):
        return "converts an integer wrongly"
    before = sys.getrefcount(large), sys.getrefcount(None)
    for _ in range(100):
        function(large, -large)
    after = sys.getrefcount(large), sys.getrefcount(None)
    if after[0] != before[0] or abs(after[1] - before[1]) > 50:  # other threads use None too
        return "counts references wrongly"
    owner = weakref.ref(function.__self__)  # type: ignore[attr-defined]
    del function
    if owner() is not None:
        return "does not let go of its code"
    return None
