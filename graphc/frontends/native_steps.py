"""Predicted steps in compiled code: what `predict` and `updates` do, without Python.

A program that repeats itself takes, at each step, the state that followed the last time. To see
that it may, and to make the step's cell, storage and tensor, is a few loads and comparisons of
slots. Here they are, for the usual tensors: whole, computed or on this tape, on memory that numpy
does not see; what differs from that in anything is left to Python, which is told by None.

Nothing is held that could go away: an allocation may run the collector, and that any Python. So
objects are made first, then the recorder is looked at again, and then the step is taken.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from ..backends.llvm import cpython, jit
from ..backends.llvm.object_text import DECLARATIONS, TYPE_OF, FunctionText, table
from ..backends.llvm.target import host_target
from . import native_cells
from .function import tensors
from .native_cells import Layout, layout
from .record import CUT_WHERE_IT_RECURS

MOST_ARGUMENTS = 16


def _predict(to: Layout) -> str:
    """`predict(recorder, function, args, kwargs)`: the tensor of a step that was predicted, or its
    cell where the function makes a view; None where it was not."""
    f = to.function("ptr @predict(ptr %self, ptr %given, i64 %n)")
    slots, values = f.array("i64", MOST_ARGUMENTS), f.array("ptr", MOST_ARGUMENTS)
    place, key = f.local("i64", "0"), f.local("ptr", "null")
    rec, function, args, kwargs = [f.load("%given", 8 * i) for i in range(4)]
    count = f.call("PyTuple_Size", f"ptr {args}")
    named = f.call("PyDict_Size", f"ptr {kwargs}")
    total = f.value(f"add i64 {count}, {named}")
    f.unless(f.compare("sle", total, str(MOST_ARGUMENTS)), "unusual")
    with f.loop(count) as i:
        value = f.call("PyTuple_GetItem", f"ptr {args}", f"i64 {i}")
        f.store(f"ptr {value}", values, f.value(f"mul i64 {i}, 8"))
    with f.loop(named) as i:
        at = f.value(f"mul i64 {f.value(f'add i64 {i}, {count}')}, 8")
        f.call("PyDict_Next", f"ptr {kwargs}", f"ptr {place}", f"ptr {key}",
               f"ptr {f.at(values, at)}")  # fmt: skip
    tape = f.get(rec, "Recorder.tape")
    sizes = f.call("PyDict_Size", f"ptr {f.get(tape, 'Tape.sizes')}")
    f.unless(f.compare("eq", sizes, "0"), "unusual")
    _slots_of_all(f, rec, tape, values, slots, total, "unusual", others=True)
    state = f.get(rec, "Recorder.state")
    following = f.get(state, "State.next")
    operands = f.get(following, "State.operands")
    f.unless(f.has_type(operands, "tuple"), "unusual")
    f.unless(f.same(f.get(following, "State.parent"), state), "unusual")
    is_named = f.value(f"zext i1 {f.compare('ne', named, '0')} to i64")
    last = f.value(f"add i64 {f.value(f'add i64 {total}, {is_named}')}, 1")
    size = f.call("PyTuple_Size", f"ptr {operands}")
    f.unless(f.compare("eq", size, f.value(f"add i64 {last}, 1")), "unusual")
    f.unless(f.same(f.call("PyTuple_GetItem", f"ptr {operands}", "i64 0"), function), "unusual")
    word = f.get(f.get(rec, "Recorder.modes"), "Modes.known")
    noted = f.call("PyTuple_GetItem", f"ptr {operands}", f"i64 {last}")
    f.unless(f.same(noted, word), "unusual")
    with f.loop(total) as i:
        at = f.value(f"mul i64 {i}, 8")
        slot = f.load(slots, at, "i64")
        part = f.call("PyTuple_GetItem", f"ptr {operands}",
                      f"i64 {f.value(f'add i64 {i}, 1')}")  # fmt: skip
        tensor, other, after = [f.new_label(x) for x in ("tensor", "other", "after")]
        f.branch(f.compare("sge", slot, "0"), tensor, other)
        f.begin(tensor)
        f.unless(f.has_type(part, "int"), "unusual")
        f.unless(f.compare("eq", f.number(part), slot), "unusual")
        f.go(after)
        f.begin(other)
        value = f.load(values, at)
        f.unless(f.call("equal", f"ptr {part}", f"ptr {value}"), "unusual")
        f.go(after)
        f.begin(after)
    f.unless(f.compare("ne", named, "0"), "take")
    names = f.call("PyTuple_GetItem", f"ptr {operands}", f"i64 {f.value(f'sub i64 {last}, 1')}")
    f.unless(f.has_type(names, "tuple"), "unusual")
    f.line(f"store i64 0, ptr {place}")
    with f.loop(named) as i:
        f.call("PyDict_Next", f"ptr {kwargs}", f"ptr {place}", f"ptr {key}", "ptr null")
        name = f.call("PyTuple_GetItem", f"ptr {names}", f"i64 {i}")
        f.unless(f.same(name, f.load(key)), "unusual")
    f.label("take")
    _take(f, to, rec, tape, state, following)
    f.begin("unusual")
    _give_none(f)
    return f.text


def _slots_of_all(
    f: FunctionText, rec: str, tape: str, values: str, slots: str, count: str, unusual: str,
    others: bool,
) -> None:  # fmt: skip
    """The slots of the tensors among `values`; -1 for what is none, if there may be `others`.

    All are read before the first becomes a parameter, as in any call; and what is read is read
    again then, since what `refreshed` makes may have run anything.
    """
    for pass_ in ("read", "enter"):
        if pass_ == "enter":
            f.unless(f.same(f.get(rec, "Recorder.tape"), tape), unusual)
        with f.loop(count) as i:
            at = f.value(f"mul i64 {i}, 8")
            value = f.load(values, at)
            cls = f.load(value, TYPE_OF)
            is_tensor, other, after = [f.new_label(x) for x in ("tensor", "other", "after")]
            derived = f.call("PyType_IsSubtype", f"ptr {cls}", f"ptr {f.constant('Tensor')}")
            f.branch(f.compare("ne", derived, "0", "i32"), is_tensor, other)
            f.begin(is_tensor)
            cell = f.call("cell_of", f"ptr {value}")
            f.when(f.same(cell, "null"), unusual)
            if pass_ == "enter":
                slot = f.call("slot_of", f"ptr {rec}", f"ptr {tape}", f"ptr {cell}")
                f.when(f.compare("slt", slot, "0"), unusual)
                f.store(f"i64 {slot}", slots, at)
            f.go(after)
            f.begin(other)
            if not others:
                f.go(unusual)
            else:
                f.store("i64 -1", slots, at)
                f.go(after)
            f.begin(after)


def _take(f: FunctionText, to: Layout, rec: str, tape: str, state: str, following: str) -> None:
    """The end of `predict`: makes what the step gives, and goes on to the state."""
    cells = f.get(tape, "Tape.cells")
    count = f.call("PyList_Size", f"ptr {cells}")
    for held in (following, tape):
        f.call("Py_IncRef", f"ptr {held}")
    types, grads = f.get(following, "State.types"), f.get(following, "State.grads")
    kind = f.call("PyTuple_GetItem", f"ptr {types}", "i64 0")
    grad = f.is_constant(f.call("PyTuple_GetItem", f"ptr {grads}", "i64 0"), "True")
    none = f.constant("None")
    history = f.value(f"select i1 {grad}, ptr {tape}, ptr {none}")
    number = f.call("PyLong_FromSsize_t", f"i64 {count}")
    f.when(f.same(number, "null"), "drop")
    cell = f.call(
        "make_cell", f"ptr {f.get(following, 'State.cell_class')}", f"ptr {kind}", f"ptr {tape}",
        f"ptr {number}", f"i1 {grad}", f"ptr {history}", f"ptr {none}",
    )  # fmt: skip
    f.call("Py_DecRef", f"ptr {number}")
    f.when(f.same(cell, "null"), "drop")
    made = f.local("ptr", cell)
    f.branch(f.is_constant(f.get(following, "State.extra"), "None"), "whole", "view")
    f.begin("whole")
    tensor = f.call("make_tensor", f"ptr {cell}")
    f.when(f.same(tensor, "null"), "drop.cell")
    f.store(f"ptr {tensor}", made)
    f.go("made")
    f.begin("view")
    f.call("Py_IncRef", f"ptr {cell}")
    f.go("made")
    f.begin("made")
    result = f.load(made)
    f.unless(f.same(f.get(rec, "Recorder.tape"), tape), "drop.both")
    f.unless(f.same(f.get(rec, "Recorder.state"), state), "drop.both")
    now = f.call("PyList_Size", f"ptr {cells}")
    f.unless(f.compare("eq", now, count), "drop.both")
    failed = f.call("PyList_Append", f"ptr {cells}", f"ptr {cell}")
    f.when(f.compare("ne", failed, "0", "i32"), "drop.both")
    depth = f.number(f.get(following, "State.depth"))
    f.call("Py_DecRef", f"ptr {cell}")
    f.call("Py_DecRef", f"ptr {tape}")
    f.put_owned(following, rec, "Recorder.state")
    f.when(f.compare("sge", depth, str(CUT_WHERE_IT_RECURS)), "cut")
    f.label("end")
    f.result(f"ptr {result}")
    f.begin("cut")
    done = f.call_method(rec, "cut_if_long")
    f.when(f.same(done, "null"), "failed")
    f.call("Py_DecRef", f"ptr {done}")
    f.go("end")
    f.begin("failed")
    f.call("Py_DecRef", f"ptr {result}")
    f.result("ptr null")
    f.begin("drop.both")
    f.call("Py_DecRef", f"ptr {result}")
    f.go("drop.cell")
    f.begin("drop.cell")
    f.call("Py_DecRef", f"ptr {cell}")
    f.go("drop")
    f.begin("drop")
    for held in (following, tape):
        f.call("Py_DecRef", f"ptr {held}")
    f.go("unusual")


def _slots(to: Layout) -> str:
    """`slots(recorder, tensors)`: a tuple of the slots of a list of tensors; None where Python has
    to see."""
    return _slots_in(to, "slots", lambda f, tensor: f.call("cell_of", f"ptr {tensor}"))


def _slots_of_cells(to: Layout) -> str:
    """`slots_of_cells(recorder, cells)`: the same of cells."""
    return _slots_in(to, "slots_of_cells", lambda f, cell: cell)


def _slots_in(to: Layout, name: str, cell_of: Callable[[FunctionText, str], str]) -> str:
    f = to.function(f"ptr @{name}(ptr %self, ptr %given, i64 %n)")
    rec, given = [f.load("%given", 8 * i) for i in range(2)]
    tape = f.get(rec, "Recorder.tape")
    sizes = f.call("PyDict_Size", f"ptr {f.get(tape, 'Tape.sizes')}")
    f.unless(f.compare("eq", sizes, "0"), "unusual")
    count = f.call("PyList_Size", f"ptr {given}")

    def cell_at(i: str) -> str:
        return cell_of(f, f.call("PyList_GetItem", f"ptr {given}", f"i64 {i}"))

    with f.loop(count) as i:
        cell = cell_at(i)
        f.when(f.same(cell, "null"), "unusual")
    found = f.call("PyTuple_New", f"i64 {count}")
    f.when(f.same(found, "null"), "unusual")
    f.unless(f.same(f.get(rec, "Recorder.tape"), tape), "drop")
    with f.loop(count) as i:  # read again: an allocation may have run anything
        cell = cell_at(i)
        f.when(f.same(cell, "null"), "drop")
        slot = f.call("slot_of", f"ptr {rec}", f"ptr {tape}", f"ptr {cell}")
        f.when(f.compare("slt", slot, "0"), "drop")
        number = f.call("PyLong_FromSsize_t", f"i64 {slot}")
        f.when(f.same(number, "null"), "drop")
        f.call("PyTuple_SetItem", f"ptr {found}", f"i64 {i}", f"ptr {number}")
    f.result(f"ptr {found}")
    f.begin("drop")
    f.call("Py_DecRef", f"ptr {found}")
    f.go("unusual")
    f.begin("unusual")
    _give_none(f)
    return f.text


def _give_none(f: FunctionText) -> None:
    """The end of a function that leaves it to Python."""
    f.call("PyErr_Clear")
    none = f.constant("None")
    f.call("Py_IncRef", f"ptr {none}")
    f.result(f"ptr {none}")


def _take_all(to: Layout) -> str:
    """`take(recorder, state)`: the recording goes on to a state that is known; its cells."""
    f = to.function("ptr @take(ptr %self, ptr %given, i64 %n)")
    rec, state = [f.load("%given", 8 * i) for i in range(2)]
    tape = f.get(rec, "Recorder.tape")
    cells, none = f.get(tape, "Tape.cells"), f.constant("None")
    types, grads = f.get(state, "State.types"), f.get(state, "State.grads")
    first = f.call("PyList_Size", f"ptr {cells}")
    count = f.call("PyTuple_Size", f"ptr {types}")
    made = f.call("PyList_New", f"i64 {count}")
    f.when(f.same(made, "null"), "failed")
    with f.loop(count) as i:
        kind = f.call("PyTuple_GetItem", f"ptr {types}", f"i64 {i}")
        grad = f.is_constant(f.call("PyTuple_GetItem", f"ptr {grads}", f"i64 {i}"), "True")
        history = f.value(f"select i1 {grad}, ptr {tape}, ptr {none}")
        number = f.call("PyLong_FromSsize_t", f"i64 {f.value(f'add i64 {first}, {i}')}")
        f.when(f.same(number, "null"), "drop")
        cell = f.call(
            "make_cell", f"ptr {f.get(state, 'State.cell_class')}", f"ptr {kind}", f"ptr {tape}",
            f"ptr {number}", f"i1 {grad}", f"ptr {history}", f"ptr {none}",
        )  # fmt: skip
        f.call("Py_DecRef", f"ptr {number}")
        f.when(f.same(cell, "null"), "drop")
        f.call("PyList_SetItem", f"ptr {made}", f"i64 {i}", f"ptr {cell}")
    f.unless(f.same(f.get(rec, "Recorder.tape"), tape), "moved")
    now = f.call("PyList_Size", f"ptr {cells}")
    f.unless(f.compare("eq", now, first), "moved")
    end = f.value(f"add i64 {first}, {count}")
    failed = f.call(
        "PyList_SetSlice", f"ptr {cells}", f"i64 {first}", f"i64 {end}", f"ptr {made}"
    )  # fmt: skip
    f.when(f.compare("ne", failed, "0", "i32"), "drop")
    f.put(state, rec, "Recorder.state")
    f.result(f"ptr {made}")
    f.begin("moved")  # the collector ran Python that recorded: once more, after it
    f.call("Py_DecRef", f"ptr {made}")
    f.line("%again = tail call ptr @take(ptr %self, ptr %given, i64 %n)")
    f.result("ptr %again")
    f.begin("drop")
    f.call("Py_DecRef", f"ptr {made}")
    f.go("failed")
    f.begin("failed")
    f.result("ptr null")
    return f.text


def _wrap(to: Layout) -> str:
    """`wrap(cell)`: a tensor on a storage of its own."""
    f = to.function("ptr @wrap(ptr %self, ptr %given, i64 %n)")
    cell = f.load("%given")
    f.result(f"ptr {f.call('make_tensor', f'ptr {cell}')}")
    return f.text


def _held(to: Layout) -> str:
    """`held(cells)`: the places of those that are not computed and that others hold as well."""
    f = to.function("ptr @held(ptr %self, ptr %given, i64 %n)")
    cells = f.load("%given")
    count, none = f.call("PyList_Size", f"ptr {cells}"), f.constant("None")
    found = f.local("i64", "0")
    for pass_ in ("count", "fill"):
        if pass_ == "fill":
            places = f.call("PyTuple_New", f"i64 {f.load(found, 0, 'i64')}")
            f.when(f.same(places, "null"), "failed")
            size = f.load(found, 0, "i64")
            f.store("i64 0", found)
        with f.loop(count) as i:
            cell = f.call("PyList_GetItem", f"ptr {cells}", f"i64 {i}")
            held, after = f.new_label("held"), f.new_label("after")
            f.unless(f.compare("ugt", f.load(cell, 0, "i32"), "1", "i32"), after)
            f.branch(f.same(f.get(cell, "Cell.buffer"), none), held, after)
            f.begin(held)
            at = f.load(found, 0, "i64")
            if pass_ == "fill":
                f.unless(f.compare("slt", at, size), "changed")
                number = f.call("PyLong_FromSsize_t", f"i64 {i}")
                f.when(f.same(number, "null"), "drop")
                f.call("PyTuple_SetItem", f"ptr {places}", f"i64 {at}", f"ptr {number}")
            f.store(f"i64 {f.value(f'add i64 {at}, 1')}", found)
            f.go(after)
            f.begin(after)
    f.unless(f.compare("eq", f.load(found, 0, "i64"), size), "changed")
    f.result(f"ptr {places}")
    f.begin("changed")  # the tuple's allocation ran Python that dropped some
    f.call("Py_DecRef", f"ptr {places}")
    f.line("%again = tail call ptr @held(ptr %self, ptr %given, i64 %n)")
    f.result("ptr %again")
    f.begin("drop")
    f.call("Py_DecRef", f"ptr {places}")
    f.go("failed")
    f.begin("failed")
    f.result("ptr null")
    return f.text


def _settle(to: Layout) -> str:
    """`settle(cells, places, buffers)`: the cells at these places are computed; how many were, from
    the first on: Python has to see to the one that follows."""
    f = to.function("ptr @settle(ptr %self, ptr %given, i64 %n)")
    cells, places, buffers = [f.load("%given", 8 * i) for i in range(3)]
    none, done = f.constant("None"), f.local("i64", "0")
    with f.loop(f.call("PyList_Size", f"ptr {places}")) as i:
        f.store(f"i64 {i}", done)
        slot = f.number(f.call("PyList_GetItem", f"ptr {places}", f"i64 {i}"))
        cell = f.call("PyList_GetItem", f"ptr {cells}", f"i64 {slot}")
        f.unless(f.same(f.get(cell, "Cell.buffer"), none), "end")
        buffer = f.call("PyList_GetItem", f"ptr {buffers}", f"i64 {i}")
        f.put(buffer, cell, "Cell.buffer")  # in this order: other threads may look
        f.put(none, cell, "Cell.tape")
        f.store(f"i64 {f.value(f'add i64 {i}, 1')}", done)
    f.label("end")
    number = f.call("PyLong_FromSsize_t", f"i64 {f.load(done, 0, 'i64')}")
    f.result(f"ptr {number}")
    return f.text


def _mark(to: Layout) -> str:
    """`i1 @mark(cell, writer)`: as `tensor._mark`; false with an error set where it fails."""
    f = to.function("internal i1 @mark(ptr %cell, ptr %by)")
    known = f.get("%cell", "Cell.written")
    f.branch(f.is_constant(known, "None"), "new", "set")
    f.begin("new")
    f.call("Py_IncRef", "ptr %cell")  # the allocation may run anything
    made = f.call("PyType_GenericAlloc", f"ptr {f.constant('Written')}", "i64 0")
    f.when(f.same(made, "null"), "failed")
    f.fill(made, {"Written.by": "%by"}, ())
    f.put_owned(made, "%cell", "Cell.written")
    f.call("Py_DecRef", "ptr %cell")
    f.result("i1 true")
    f.begin("set")
    f.put("%by", known, "Written.by")
    f.result("i1 true")
    f.begin("failed")
    f.call("Py_DecRef", "ptr %cell")
    f.result("i1 false")
    return f.text


def _write(to: Layout) -> str:
    """`write(recorder, cells, tensors)`: gives tensors new values where no gradient is recorded.

    Returns how many, from the first on: Python has to see to the one that follows.
    """
    f = to.function("ptr @write(ptr %self, ptr %given, i64 %n)")
    rec, cells, tensors = [f.load("%given", 8 * i) for i in range(3)]
    none, done = f.constant("None"), f.local("i64", "0")
    false = f.constant("False")
    eager = f.call("PyObject_IsTrue", f"ptr {f.get(rec, 'Recorder.eager')}")
    kept = [f.local("ptr", "null") for _ in range(3)]  # what one write holds
    with f.loop(f.call("PyList_Size", f"ptr {cells}")) as i:
        f.store(f"i64 {i}", done)
        cell = f.call("PyList_GetItem", f"ptr {cells}", f"i64 {i}")
        tensor = f.call("PyList_GetItem", f"ptr {tensors}", f"i64 {i}")
        storage = f.get(tensor, "Tensor._storage")
        f.when(f.same(storage, "null"), "unusual")
        chain = f.call("PyTuple_Size", f"ptr {f.get(tensor, 'Tensor._chain')}")
        f.unless(f.compare("eq", chain, "0"), "unusual")
        f.unless(f.same(f.get(tensor, "Tensor._detached"), none), "unusual")
        f.unless(f.same(f.get(storage, "Storage.export"), none), "unusual")
        old = f.get(storage, "Storage.cell")
        f.unless(f.same(f.get(cell, "Cell.type"), f.get(old, "Cell.type")), "unusual")
        for one, field in ((old, "inference"), (cell, "inference"), (old, "requires_grad"),
                           (cell, "requires_grad")):  # fmt: skip
            f.unless(f.same(f.get(one, f"Cell.{field}"), false), "unusual")
        for place, held in zip(kept, (old, storage)):
            f.call("Py_IncRef", f"ptr {held}")
            f.store(f"ptr {held}", place)
        _write_one(f, rec, storage, old, cell, eager, kept[2])
        for place in kept:
            held = f.load(place)
            f.store("ptr null", place)
            f.call("Py_DecRef", f"ptr {held}")
        f.store(f"i64 {f.value(f'add i64 {i}, 1')}", done)
    f.go("unusual")
    f.begin("unusual")
    number = f.call("PyLong_FromSsize_t", f"i64 {f.load(done, 0, 'i64')}")
    f.result(f"ptr {number}")
    f.begin("failed")
    for place in kept:
        f.call("Py_DecRef", f"ptr {f.load(place)}")  # (null is nothing to it)
    f.result("ptr null")
    return f.text


def _write_one(
    f: FunctionText, rec: str, storage: str, old: str, cell: str, eager: str, mark: str
) -> None:
    """As `Storage.write(cell, cell)`; goes to "failed" with an error set. `mark` is where the
    caller finds what it gives up."""
    none = f.constant("None")
    by = f.call("PyTuple_New", "i64 2")
    f.when(f.same(by, "null"), "failed")
    f.store(f"ptr {by}", mark)
    identity = f.call("PyLong_FromVoidPtr", f"ptr {f.get(cell, 'Cell.tape')}")
    f.when(f.same(identity, "null"), "failed")
    slot = f.get(cell, "Cell.slot")
    f.call("Py_IncRef", f"ptr {slot}")
    f.call("PyTuple_SetItem", f"ptr {by}", "i64 0", f"ptr {identity}")
    f.call("PyTuple_SetItem", f"ptr {by}", "i64 1", f"ptr {slot}")
    f.unless(f.call("mark", f"ptr {old}", f"ptr {by}"), "failed")
    leaf, written = f.get(storage, "Storage.leaf"), f.new_label("written")
    there = f.new_label("there")
    f.branch(f.same(leaf, none), written, there)
    f.begin(there)
    owner = f.call("PyWeakref_GetObject", f"ptr {leaf}")
    f.when(f.same(owner, none), written)
    own = f.get(owner, "Tensor._cell")
    f.when(f.same(own, none), written)
    f.unless(f.call("mark", f"ptr {own}", f"ptr {by}"), "failed")
    f.label(written)
    held, set_ = f.new_label("held"), f.new_label("set")
    f.branch(f.compare("ne", eager, "0", "i32"), set_, held)
    f.begin(held)
    buffer = f.get(old, "Cell.buffer")
    before = f.value(f"select i1 {f.same(buffer, none)}, ptr {none}, ptr {old}")
    earlier = f.get(rec, "Recorder.written")
    known = f.call("PyDict_SetDefault", f"ptr {earlier}", f"ptr {storage}", f"ptr {before}")
    f.when(f.same(known, "null"), "failed")
    f.label(set_)
    version = f.number(f.get(storage, "Storage.version"))
    number = f.call("PyLong_FromSsize_t", f"i64 {f.value(f'add i64 {version}, 1')}")
    f.when(f.same(number, "null"), "failed")
    f.put(cell, storage, "Storage.cell")
    f.put_owned(number, storage, "Storage.version")


PARTS = (
    *native_cells.PARTS, _predict, _slots, _slots_of_cells, _take_all, _mark, _write, _wrap, _held,
    _settle,
)  # fmt: skip
EXPORTS = ("held", "predict", "settle", "slots", "slots_of_cells", "take", "wrap", "write")


def module_text(to: Layout) -> str:
    """The text of all functions."""
    head = f"@constants = external global [{len(to.objects)} x ptr]\n" + DECLARATIONS
    return head + "\n".join([part(to) for part in PARTS])


def load(tensor: type, storage: type) -> dict[str, Callable[..., Any]]:
    """The functions as builtins. They stay with the process."""
    to = layout(tensor, storage)
    objects = list(to.objects.values())
    memory = table(objects)
    address = ctypes.addressof(memory)
    code = jit.load(module_text(to), EXPORTS, {"constants": address}, target=host_target())
    code.keep()
    jit.keep_for_ever((objects, memory))
    return {name: cpython.builtin(code[name], name, code) for name in EXPORTS}


@cache
def fault() -> str | None:
    """Why the functions cannot be trusted on this interpreter; None when they can."""
    problem = cpython.fault()
    if problem is not None:
        return problem
    try:
        layout(tensors.cls, tensors.storage)
    except TypeError as error:
        return str(error)
    return None
