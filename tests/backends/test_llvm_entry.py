"""Entries: compiled functions as Python callables, by CPython's own protocol and by ctypes."""

import ctypes
import gc
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from graphc.backends.llvm import cpython, entry, jit
from graphc.backends.llvm.entry import make_entry

_GRAPHS = """
define i64 @digits(ptr %table) {
  %t1 = getelementptr i64, ptr %table, i64 1
  %t2 = getelementptr i64, ptr %table, i64 2
  %a = load i64, ptr %table
  %b = load i64, ptr %t1
  %c = load i64, ptr %t2
  %a100 = mul i64 %a, 100
  %b10 = mul i64 %b, 10
  %ab = add i64 %a100, %b10
  %abc = add i64 %ab, %c
  ret i64 %abc
}
define i64 @first(ptr %table) {
  %a = load i64, ptr %table
  ret i64 %a
}
define i64 @nothing(ptr %table) {
  %address = ptrtoint ptr %table to i64
  %low = and i64 %address, 7
  ret i64 %low
}
; raises the first int at the address, then waits until the second is set
define i64 @wait(ptr %table) {
entry:
  %at = load ptr, ptr %table
  %flag = getelementptr i32, ptr %at, i64 1
  store atomic i32 1, ptr %at seq_cst, align 4
  br label %poll
poll:
  %go = load atomic i32, ptr %flag seq_cst, align 4
  %still = icmp eq i32 %go, 0
  br i1 %still, label %poll, label %out
out:
  store atomic i32 2, ptr %at seq_cst, align 4
  ret i64 0
}
"""
KINDS = ("fastcall", "ctypes")


@pytest.fixture(scope="module")
def code():
    return jit.load(_GRAPHS, ["digits", "first", "nothing", "wait"])


def test_this_interpreter_takes_builtins():
    assert cpython.fault() is None
    assert entry.entry_kind() == "fastcall"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("release_gil", [False, True])
def test_arguments_arrive_in_order(code, kind, release_gil):
    for pointers in range(4):
        call = make_entry(
            code, "digits", pointers, 3 - pointers, "digits", release_gil=release_gil, kind=kind
        )
        assert call(1, 2, 3) == 123
        assert call(0, 0, 0) is None
        assert call.__name__ == "digits"


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_are_converted_exactly(code, kind):
    address = make_entry(code, "first", 1, 0, "first", kind=kind)
    integer = make_entry(code, "first", 0, 1, "first", kind=kind)
    for value in (1, -1, (1 << 63) - 1, -(1 << 63), 255, 1 << 40):
        assert address(value) == integer(value) == value
    assert address((1 << 64) - 1) == -1  # the address, as a signed number
    for call, value in [(integer, 1 << 63), (integer, -(1 << 63) - 1), (address, 1 << 64)]:
        with pytest.raises(OverflowError):
            call(value)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments_raise(code, kind):
    call = make_entry(code, "digits", 2, 1, "digits", kind=kind)
    for arguments in [(), (1, 2), (1, 2, 3, 4)]:
        with pytest.raises(TypeError, match=f"takes 3 arguments, but {len(arguments)} are given"):
            call(*arguments)
    for arguments in [("1", 2, 3), (1, 2.0, 3), (1, 2, "3"), (None, 2, 3), (1, 2, 3.0)]:
        with pytest.raises(TypeError):
            call(*arguments)
    with pytest.raises(TypeError, match="keyword"):
        call(1, 2, c=3)
    assert call(1, 2, 3) == 123


@pytest.mark.parametrize("kind", KINDS)
def test_many_and_no_arguments(code, kind):
    assert make_entry(code, "nothing", 0, 0, "nothing", kind=kind)() is None
    wide = make_entry(code, "digits", 300, 200, "wide", kind=kind)
    assert wide(*range(1, 501)) == 123


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_aligned_for_integers(code, kind):
    for count in (1, 2, 3, 9):  # `nothing` returns the low bits of the table's address
        assert make_entry(code, "nothing", count, 0, "nothing", kind=kind)(*[1] * count) is None


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_keeps_its_code_and_nothing_more(kind):
    code = jit.load(_GRAPHS, ["digits"])
    alive = weakref.ref(code)
    call = make_entry(code, "digits", 1, 2, "digits", kind=kind)
    del code
    gc.collect()
    assert alive() is not None and call(1, 2, 3) == 123
    del call
    gc.collect()
    assert alive() is None


def test_references_are_balanced(code):
    call = make_entry(code, "digits", 1, 2, "digits", kind="fastcall")
    value = 1 << 50
    before = sys.getrefcount(value)
    for _ in range(1000):
        call(value, value, value)
        with pytest.raises(OverflowError):
            call(value, value, 1 << 80)
    assert sys.getrefcount(value) == before


@pytest.mark.parametrize("kind", KINDS)
def test_code_that_runs_outlives_its_entry(kind):
    """Other threads run meanwhile, and dropping every reference does not unmap the code."""
    code = jit.load(_GRAPHS, ["wait"])
    alive = weakref.ref(code)
    flags = np.zeros(2, np.int32)
    calls = [make_entry(code, "wait", 1, 0, "wait", release_gil=True, kind=kind)]
    del code
    thread = threading.Thread(target=lambda: calls.pop()(flags.ctypes.data))
    thread.start()
    deadline = time.perf_counter() + 20
    while flags[0] == 0 and time.perf_counter() < deadline:
        time.sleep(0.001)
    assert flags[0] == 1 and not calls
    gc.collect()
    assert alive() is not None
    flags[1] = 1
    thread.join(20)
    assert flags[0] == 2 and not thread.is_alive()
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("kind", KINDS)
def test_entries_are_reentrant(code, kind):
    call = make_entry(code, "digits", 1, 2, "digits", release_gil=True, kind=kind)
    faults = []

    def work(number):
        for _ in range(2000):
            if call(number, number, number) != 111 * number:
                faults.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_ctypes_takes_over_where_builtins_fail(code, monkeypatch):
    entry.entry_kind.cache_clear()
    monkeypatch.setattr(cpython, "fault", lambda: "a reason")
    try:
        with pytest.warns(RuntimeWarning, match="through ctypes: a reason"):
            call = make_entry(code, "digits", 1, 2, "digits")
        assert call(1, 2, 3) == 123
        assert entry.entry_kind() == "ctypes"
    finally:
        entry.entry_kind.cache_clear()


_BREAKS = {
    "counts references": ("call void @Py_IncRef(ptr @_Py_NoneStruct)", ""),
    "wrong number of arguments": ("icmp eq i64 %given, 2", "icmp sge i64 %given, 2"),
    "accepts a string": (
        "%p.raised = icmp ne ptr %p.error, null",
        "%p.raised = icmp eq i64 0, 1",
    ),
    "wrong result": ("%plain = icmp eq i64 %result, 0", "%plain = icmp eq i64 0, 1"),
}


@pytest.mark.parametrize("problem", _BREAKS)
def test_the_self_test_finds_a_broken_builtin(monkeypatch, problem):
    if problem == "counts references" and sys.version_info >= (3, 12):
        pytest.skip("None is immortal")
    right = cpython.entry_text
    old, new = _BREAKS[problem]
    assert old in right("probe", 1, 1, False)
    monkeypatch.setattr(cpython, "entry_text", lambda *a: right(*a).replace(old, new))
    spare = [None] * 1000  # a broken builtin drops references to None
    cpython.fault.cache_clear()
    try:
        assert problem in cpython.fault()
    finally:
        monkeypatch.undo()
        cpython.fault.cache_clear()
    assert len(spare) == 1000 and cpython.fault() is None


def test_builtins_name_themselves(code):
    call = make_entry(code, "digits", 1, 2, "forward", kind="fastcall")
    assert "forward" in repr(call) and call.__name__ == "forward"
    assert ctypes.sizeof(cpython.PyMethodDef) == 32
