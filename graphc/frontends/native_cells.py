"""Cells, storages and tensors in compiled code: how they are read and made.

These functions are called by those of `native_steps`, in one module. What is not usual they leave
to Python: they give null, or -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..backends.llvm.object_text import TYPE_OF, FunctionText, offset_of
from . import modes
from .record import LEARNED, Cell, InferenceCell, Recorder, State, Tape
from .saved import Written


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets of slots by "Class.name", and the objects that the code compares with."""

    fields: dict[str, int]
    objects: dict[str, Any]

    def function(self, signature: str) -> FunctionText:
        places = {name: i for i, name in enumerate(self.objects)}
        return FunctionText(signature, self.fields, places, RESULTS)


#: Results of the functions that stand here.
RESULTS = {
    "cell_of": "ptr", "slot_of": "i64", "make_cell": "ptr", "make_tensor": "ptr", "equal": "i1",
    "refreshed": "ptr", "mark": "i1", "address_of": "i64", "run": "ptr", "recorder": "ptr",
}  # fmt: skip


def layout(tensor: type, storage: type) -> Layout:
    """Where everything lies on this interpreter."""
    fields = {}
    classes = (Cell, Recorder, State, Tape, Written, modes.Modes, tensor, storage)
    for cls in classes:
        for name in cls.__slots__:
            if not name.startswith("__"):
                fields[f"{cls.__name__}.{name}"] = offset_of(cls, name)
    objects = {
        "None": None, "True": True, "False": False, "0": 0, "-1": -1, "()": (), "Cell": Cell,
        "InferenceCell": InferenceCell, "Tensor": tensor, "Storage": storage, "Written": Written,
        "int": int, "str": str, "float": float, "tuple": tuple, "cut_if_long": "cut_if_long",
    }  # fmt: skip
    return Layout(fields, objects)


def _cell_of(to: Layout) -> str:
    """`ptr @cell_of(tensor)`: the cell that `Tensor._read` gives, or null."""
    f = to.function("internal ptr @cell_of(ptr %tensor)")
    storage = f.get("%tensor", "Tensor._storage")
    f.when(f.same(storage, "null"), "unusual")
    f.unless(f.is_constant(f.get(storage, "Storage.export"), "None"), "unusual")
    size = f.call("PyTuple_Size", f"ptr {f.get('%tensor', 'Tensor._chain')}")
    whole = f.compare("eq", size, "0")
    f.branch(f.is_constant(f.get("%tensor", "Tensor._leaf"), "True"), "leaf", "other")
    f.begin("other")
    f.branch(whole, "plain", "view")
    f.begin("plain")
    f.result(f"ptr {f.get(storage, 'Storage.cell')}")
    f.begin("view")
    for field in ("Tensor._origin", "Tensor._detached"):
        f.unless(f.is_constant(f.get("%tensor", field), "None"), "unusual")
    f.unless(f.is_constant(f.get(storage, "Storage.leaf"), "None"), "unusual")
    known = f.get("%tensor", "Tensor._cell")
    f.when(f.is_constant(known, "None"), "unusual")
    grad = f.get(known, "Cell.requires_grad")
    ends = f.value(f"or i1 {f.is_constant(grad, 'True')}, {f.is_constant(grad, 'False')}")
    f.unless(ends, "unusual")
    f.unless(_is_current(f, storage), "unusual")
    f.result(f"ptr {known}")
    f.begin("leaf")
    f.branch(_is_current(f, storage), "kept", "written")
    f.begin("kept")
    own = f.get("%tensor", "Tensor._cell")
    f.when(f.is_constant(own, "None"), "unusual")
    f.result(f"ptr {own}")
    f.begin("written")
    f.unless(whole, "unusual")
    f.result(f"ptr {f.call('refreshed', 'ptr %tensor', f'ptr {storage}')}")
    f.begin("unusual")
    f.result("ptr null")
    return f.text


def _is_current(f: FunctionText, storage: str) -> str:
    """Whether a tensor has seen the last write."""
    seen = f.number(f.get("%tensor", "Tensor._seen"))
    return f.compare("eq", seen, f.number(f.get(storage, "Storage.version")))


def _refreshed(to: Layout) -> str:
    """`ptr @refreshed(tensor, storage)`: as `Tensor._refresh_leaf`, of a leaf that is the whole."""
    f = to.function("internal ptr @refreshed(ptr %tensor, ptr %storage)")
    plain, old = f.get("%storage", "Storage.cell"), f.get("%tensor", "Tensor._cell")
    f.when(f.is_constant(old, "None"), "unusual")
    buffer = f.get(plain, "Cell.buffer")
    f.when(f.is_constant(buffer, "None"), "unusual")
    version = f.get("%storage", "Storage.version")
    f.branch(f.same(f.get(old, "Cell.buffer"), buffer), "same", "other")
    f.begin("same")
    f.put(version, "%tensor", "Tensor._seen")
    f.result(f"ptr {old}")
    f.begin("other")
    f.unless(f.is_constant(f.get(plain, "Cell.inference"), "False"), "unusual")
    owner = f.get(old, "Cell.owner")
    f.when(f.is_constant(owner, "None"), "unusual")
    f.unless(f.same(f.call("PyWeakref_GetObject", f"ptr {owner}"), "%tensor"), "unusual")
    held = [f.get(plain, "Cell.type"), buffer, owner, f.get(old, "Cell.hooks"), version]
    for one in held:  # the allocation may run anything
        f.call("Py_IncRef", f"ptr {one}")
    kind, buffer, owner, hooks, version = held
    fresh = f.call(
        "make_cell", f"ptr {f.constant('Cell')}", f"ptr {kind}", f"ptr {f.constant('None')}",
        f"ptr {f.constant('-1')}", "i1 true", f"ptr {f.constant('None')}", f"ptr {buffer}",
    )  # fmt: skip
    f.when(f.same(fresh, "null"), "failed")
    f.put(owner, fresh, "Cell.owner")
    f.put(hooks, fresh, "Cell.hooks")
    f.put(version, "%tensor", "Tensor._seen")
    f.put(fresh, "%storage", "Storage.leaf_cell")
    f.put_owned(fresh, "%tensor", "Tensor._cell")
    for one in held:
        f.call("Py_DecRef", f"ptr {one}")
    f.result(f"ptr {fresh}")
    f.begin("failed")
    for one in held:
        f.call("Py_DecRef", f"ptr {one}")
    f.go("unusual")
    f.begin("unusual")
    f.result("ptr null")
    return f.text


def _make_cell(to: Layout) -> str:
    """`ptr @make_cell(class, type, tape, slot, requires grad, grad_fn, buffer)`: a new cell."""
    f = to.function(
        "internal ptr @make_cell(ptr %class, ptr %type, ptr %tape, ptr %slot, i1 %grad, "
        "ptr %grad_fn, ptr %buffer)"
    )
    made = f.call("PyType_GenericAlloc", "ptr %class", "i64 0")
    f.when(f.same(made, "null"), "failed")
    none, true, false = f.constant("None"), f.constant("True"), f.constant("False")
    grad = f.value(f"select i1 %grad, ptr {true}, ptr {false}")
    is_inference = f.is_constant("%class", "InferenceCell")
    inference = f.value(f"select i1 {is_inference}, ptr {true}, ptr {false}")
    values = {
        "buffer": "%buffer", "grad_fn": "%grad_fn", "hooks": none, "inference": inference,
        "owner": none, "requires_grad": grad, "retain": none, "slot": "%slot", "tape": "%tape",
        "type": "%type", "written": none,
    }  # fmt: skip
    assert {name for name in Cell.__slots__ if not name.startswith("__")} == set(values)
    fields = {f"Cell.{name}": value for name, value in values.items()}
    f.fill(made, fields, (none, grad, inference))
    f.result(f"ptr {made}")
    f.begin("failed")
    f.result("ptr null")
    return f.text


def _make_tensor(to: Layout) -> str:
    """`ptr @make_tensor(cell)`: a new tensor on a new storage that holds the cell."""
    f = to.function("internal ptr @make_tensor(ptr %cell)")
    tensor = f.call("PyType_GenericAlloc", f"ptr {f.constant('Tensor')}", "i64 0")
    f.when(f.same(tensor, "null"), "failed")
    none, zero, false = [f.constant(name) for name in ("None", "0", "False")]
    empty = f.constant("()")
    values = {
        "_base": none, "_cell": none, "_chain": empty, "_detached": none, "_grad": none,
        "_leaf": false, "_origin": none, "_seen": zero,
    }  # fmt: skip
    fields = {f"Tensor.{name}": value for name, value in values.items()}
    f.fill(tensor, fields, (none, zero, false, empty))
    storage = f.call("PyType_GenericAlloc", f"ptr {f.constant('Storage')}", "i64 0")
    f.when(f.same(storage, "null"), "drop")
    values = {
        "cell": "%cell", "export": none, "history": none, "leaf": none, "leaf_cell": none,
        "shown": none, "unseen": zero, "version": zero,
    }  # fmt: skip
    fields = {f"Storage.{name}": value for name, value in values.items()}
    f.fill(storage, fields, (none, zero))
    f.store(f"ptr {storage}", tensor, to.fields["Tensor._storage"])
    f.result(f"ptr {tensor}")
    f.begin("drop")
    f.call("Py_DecRef", f"ptr {tensor}")
    f.go("failed")
    f.begin("failed")
    f.result("ptr null")
    return f.text


def _slot_of(to: Layout) -> str:
    """`i64 @slot_of(recorder, tape, cell)`: as `predict.slot_of`; -1 where Python has to see."""
    f = to.function("internal i64 @slot_of(ptr %rec, ptr %tape, ptr %cell)")
    cells = f.get("%tape", "Tape.cells")
    count = f.call("PyList_Size", f"ptr {cells}")
    owner = f.get("%cell", "Cell.tape")
    f.branch(f.same(owner, "%tape"), "here", "elsewhere")
    f.begin("here")
    slot = f.number(f.get("%cell", "Cell.slot"))
    f.unless(f.compare("ult", slot, count), "unusual")
    f.unless(f.same(f.call("PyList_GetItem", f"ptr {cells}", f"i64 {slot}"), "%cell"), "unusual")
    f.result(f"i64 {slot}")
    f.begin("elsewhere")
    params = f.get("%tape", "Tape.params")
    known = f.call("PyDict_GetItemWithError", f"ptr {params}", "ptr %cell")
    f.branch(f.same(known, "null"), "new", "known")
    f.begin("known")
    f.result(f"i64 {f.number(known)}")
    f.begin("new")
    f.when(f.is_constant(f.get("%cell", "Cell.buffer"), "None"), "unusual")
    state = f.get("%rec", "Recorder.state")
    known = f.get(state, "State.params")
    f.when(f.is_constant(known, "None"), "unusual")
    inference = f.is_constant(f.get("%cell", "Cell.inference"), "True")
    grad, none = f.get("%cell", "Cell.requires_grad"), f.constant("None")
    kind = f.value(f"select i1 {inference}, ptr {none}, ptr {grad}")
    by_type = f.call("PyDict_GetItemWithError", f"ptr {known}", f"ptr {kind}")
    f.when(f.same(by_type, "null"), "unusual")
    type_ = f.get("%cell", "Cell.type")
    following = f.call("PyDict_GetItemWithError", f"ptr {by_type}", f"ptr {type_}")
    f.when(f.same(following, "null"), "unusual")
    hits = f.number(f.get(following, "State.hits"))
    f.unless(f.compare("sge", hits, str(LEARNED)), "unusual")
    number = f.call("PyLong_FromSsize_t", f"i64 {count}")
    f.when(f.same(number, "null"), "unusual")
    failed = f.compare(
        "ne", f.call("PyList_Append", f"ptr {cells}", "ptr %cell"), "0", "i32"
    )  # fmt: skip
    f.when(failed, "drop")
    added = f.call("PyDict_SetItem", f"ptr {params}", "ptr %cell", f"ptr {number}")
    f.when(f.compare("ne", added, "0", "i32"), "undo")
    f.put(following, state, "State.next")
    f.put(following, "%rec", "Recorder.state")
    f.when(f.is_constant(owner, "None"), "hint")  # other threads may use the cell too
    f.branch(f.same(f.get(owner, "Tape.recorder"), "%rec"), "hint", "done")
    f.begin("hint")
    f.put("%tape", "%cell", "Cell.tape")
    f.put(number, "%cell", "Cell.slot")
    f.go("done")
    f.begin("done")
    f.call("Py_DecRef", f"ptr {number}")
    f.result(f"i64 {count}")
    f.begin("undo")
    end = f.value(f"add i64 {count}, 1")
    f.call("PyList_SetSlice", f"ptr {cells}", f"i64 {count}", f"i64 {end}", "ptr null")
    f.go("drop")
    f.begin("drop")
    f.call("Py_DecRef", f"ptr {number}")
    f.go("unusual")
    f.begin("unusual")
    f.result("i64 -1")
    return f.text


def _equal(to: Layout) -> str:
    """`i1 @equal(part, value)`: whether an argument is what `predict._part` noted of one."""
    f = to.function("internal i1 @equal(ptr %part, ptr %value)")
    f.unless(f.has_type("%part", "tuple"), "no")
    cls = f.call("PyTuple_GetItem", "ptr %part", "i64 0")
    f.unless(f.same(f.load("%value", TYPE_OF), cls), "no")
    noted = f.call("PyTuple_GetItem", "ptr %part", "i64 1")
    f.when(f.is_constant(cls, "float"), "float")
    f.when(f.same("%value", noted), "yes")
    f.when(f.is_constant(cls, "int"), "compare")
    f.when(f.is_constant(cls, "str"), "compare")
    f.unless(f.is_constant(cls, "tuple"), "no")
    with f.loop(f.call("PyTuple_Size", "ptr %value")) as i:  # of ints: True is no 1 here
        item = f.call("PyTuple_GetItem", "ptr %value", f"i64 {i}")
        f.unless(f.has_type(item, "int"), "no")
    f.go("compare")
    f.begin("compare")
    same = f.call("PyObject_RichCompareBool", "ptr %value", f"ptr {noted}", "i32 2")
    f.result(f"i1 {f.compare('eq', same, '1', 'i32')}")
    f.begin("float")
    a = f.call("PyFloat_AsDouble", "ptr %value")
    b = f.call("PyFloat_AsDouble", f"ptr {noted}")
    bits = [f.value(f"bitcast double {x} to i64") for x in (a, b)]  # -0.0 is not 0.0
    f.result(f"i1 {f.compare('eq', *bits)}")
    f.begin("yes")
    f.result("i1 true")
    f.begin("no")
    f.result("i1 false")
    return f.text


PARTS = (_make_cell, _make_tensor, _refreshed, _cell_of, _slot_of, _equal)
