"""Text of compiled functions that read and make Python objects whose fields are slots.

A slot lies at a fixed offset of its object; where, an instance with a marker in the slot tells. A
`FunctionText` prints one function, instruction by instruction. Memory of locals is on the stack, so
that loops need no phi; the code generator keeps what counts in registers anyway.
"""

from __future__ import annotations

import ctypes
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

TYPE_OF = 8  # the offset of an object's type
#: None, small ints and their kind live for ever from Python 3.12 on, and are not counted. Of the
#: word that counts references the upper half has other uses there.
SINGLETONS_ARE_COUNTED = sys.version_info < (3, 12)
COUNT = "i64" if SINGLETONS_ARE_COUNTED else "i32"

#: What the functions may call, by name: (result, arguments).
C_API = {
    "PyDict_GetItemWithError": ("ptr", "ptr, ptr"),
    "PyDict_Next": ("i32", "ptr, ptr, ptr, ptr"),
    "PyDict_SetDefault": ("ptr", "ptr, ptr, ptr"),
    "PyDict_SetItem": ("i32", "ptr, ptr, ptr"),
    "PyDict_Size": ("i64", "ptr"),
    "PyErr_Clear": ("void", ""),
    "PyEval_RestoreThread": ("void", "ptr"),
    "PyEval_SaveThread": ("ptr", ""),
    "PyFloat_AsDouble": ("double", "ptr"),
    "PyList_Append": ("i32", "ptr, ptr"),
    "PyList_GetItem": ("ptr", "ptr, i64"),
    "PyList_New": ("ptr", "i64"),
    "PyList_SetItem": ("i32", "ptr, i64, ptr"),
    "PyList_SetSlice": ("i32", "ptr, i64, i64, ptr"),
    "PyList_Size": ("i64", "ptr"),
    "PyLong_AsSsize_t": ("i64", "ptr"),
    "PyLong_AsVoidPtr": ("ptr", "ptr"),
    "PyLong_FromSsize_t": ("ptr", "i64"),
    "PyLong_FromVoidPtr": ("ptr", "ptr"),
    "PyObject_GetAttr": ("ptr", "ptr, ptr"),
    "PyObject_IsTrue": ("i32", "ptr"),
    "PyObject_RichCompareBool": ("i32", "ptr, ptr, i32"),
    "PyObject_Vectorcall": ("ptr", "ptr, ptr, i64, ptr"),
    "PyThreadState_Get": ("ptr", ""),
    "PyThreadState_GetID": ("i64", "ptr"),
    "PyTuple_GetItem": ("ptr", "ptr, i64"),
    "PyTuple_New": ("ptr", "i64"),
    "PyTuple_SetItem": ("i32", "ptr, i64, ptr"),
    "PyTuple_Size": ("i64", "ptr"),
    "PyType_GenericAlloc": ("ptr", "ptr, i64"),
    "PyType_IsSubtype": ("i32", "ptr, ptr"),
    "PyWeakref_GetObject": ("ptr", "ptr"),
    "Py_DecRef": ("void", "ptr"),
    "Py_IncRef": ("void", "ptr"),
}
DECLARATIONS = "".join(
    [f"declare {result} @{name}({arguments})\n" for name, (result, arguments) in C_API.items()]
)
DECLARATIONS += "declare ptr @PyObject_CallMethodObjArgs(ptr, ptr, ...)\n"


def offset_of(cls: type, name: str, instance: Any = None) -> int:
    """Where a slot of a class lies in its instances. Raises TypeError where that is not plain.

    instance: one whose slot holds what no other holds; else a new one is made.
    """
    marker = object() if instance is None else getattr(instance, name)
    if instance is None:
        instance = object.__new__(cls)
        object.__setattr__(instance, name, marker)  # (the class may be frozen)
    size = cls.__basicsize__ // 8
    words = (ctypes.c_void_p * size).from_address(id(instance))
    found = [i for i in range(TYPE_OF // 8 + 1, size) if words[i] == id(marker)]
    if len(found) != 1:
        raise TypeError(f"{cls.__name__}.{name} is no slot")
    return found[0] * 8


class FunctionText:
    """The text of one function while it is printed.

    fields: offsets by "Class.name". constants: places in the table `@constants` by name.
    """

    def __init__(
        self,
        signature: str,
        fields: dict[str, int],
        constants: dict[str, int],
        functions: dict[str, str],
    ) -> None:
        """functions: results of the functions of the module that this one may call."""
        self.lines = [f"define {signature} {{", "entry:"]
        self._fields, self._constants = fields, constants
        self._results = {name: result for name, (result, _) in C_API.items()} | functions
        self._count = 0

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def value(self, text: str) -> str:
        """The name of an instruction's value."""
        self._count += 1
        name = f"%v{self._count}"
        self.line(f"{name} = {text}")
        return name

    def new_label(self, hint: str) -> str:
        self._count += 1
        return f"{hint}{self._count}"

    def label(self, name: str) -> None:
        """Here a block begins, where the one before goes on."""
        self.line(f"br label %{name}")
        self.lines.append(f"{name}:")

    def begin(self, name: str) -> None:
        """Here a block begins; the one before has ended."""
        self.lines.append(f"{name}:")

    def go(self, label: str) -> None:
        self.line(f"br label %{label}")

    def branch(self, condition: str, then: str, otherwise: str) -> None:
        self.line(f"br i1 {condition}, label %{then}, label %{otherwise}")

    def unless(self, condition: str, label: str) -> None:
        """Goes to the label where the condition does not hold."""
        following = self.new_label("go")
        self.branch(condition, following, label)
        self.begin(following)

    def when(self, condition: str, label: str) -> None:
        """Goes to the label where the condition holds."""
        following = self.new_label("go")
        self.branch(condition, label, following)
        self.begin(following)

    def result(self, text: str) -> None:
        self.line(f"ret {text}")

    def call(self, name: str, *arguments: str) -> str:
        """Calls a function; arguments with their types, "ptr %x"."""
        result = self._results[name]
        text = f"call {result} @{name}({', '.join(arguments)})"
        if result == "void":
            self.line(text)
            return ""
        return self.value(text)

    # --- memory --------------------------------------------------------------------------------

    def at(self, pointer: str, offset: int | str) -> str:
        return self.value(f"getelementptr i8, ptr {pointer}, i64 {offset}")

    def load(self, pointer: str, offset: int | str = 0, type: str = "ptr") -> str:
        return self.value(f"load {type}, ptr {self.at(pointer, offset)}")

    def store(self, value: str, pointer: str, offset: int | str = 0) -> None:
        """value: with its type."""
        self.line(f"store {value}, ptr {self.at(pointer, offset)}")

    def local(self, type: str, value: str) -> str:
        """The address of a variable on the stack that has this value now."""
        name = self.array(type, 1)
        self.line(f"store {type} {value}, ptr {name}")
        return name

    def array(self, type: str, count: int, align: int = 8) -> str:
        """The address of so many variables on the stack."""
        self._count += 1
        name = f"%l{self._count}"
        self.lines.insert(2, f"  {name} = alloca [{count} x {type}], align {align}")  # at the top
        return name

    def get(self, owner: str, field: str) -> str:
        """A slot of an object: a borrowed reference."""
        return self.load(owner, self._fields[field])

    def hold(self, value: str, times: int = 1) -> None:
        """Py_IncRef of an object that is none of those which live for ever."""
        count = self.value(f"load {COUNT}, ptr {value}")
        self.line(f"store {COUNT} {self.value(f'add {COUNT} {count}, {times}')}, ptr {value}")

    def drop(self, value: str) -> None:
        """Py_DecRef of the same."""
        last, others, after = [self.new_label(hint) for hint in ("last", "others", "dropped")]
        count = self.value(f"load {COUNT}, ptr {value}")
        self.branch(self.compare("eq", count, "1", COUNT), last, others)
        self.begin(last)
        self.call("Py_DecRef", f"ptr {value}")
        self.go(after)
        self.begin(others)
        self.line(f"store {COUNT} {self.value(f'sub {COUNT} {count}, 1')}, ptr {value}")
        self.go(after)
        self.begin(after)

    def put(self, value: str, owner: str, field: str) -> None:
        """Replaces a slot of an object by an object that others hold."""
        self.call("Py_IncRef", f"ptr {value}")
        self.put_owned(value, owner, field)

    def put_owned(self, value: str, owner: str, field: str) -> None:
        """The same, of a reference that is given away."""
        place = self.at(owner, self._fields[field])
        old = self.value(f"load ptr, ptr {place}")
        self.line(f"store ptr {value}, ptr {place}")
        self.call("Py_DecRef", f"ptr {old}")

    def fill(self, owner: str, values: dict[str, str], singletons: Collection[str]) -> None:
        """Puts objects that others hold into slots that are empty: field -> object.

        singletons: those of the objects that are None, True, False, a small int or ().
        """
        for field, value in values.items():
            self.store(f"ptr {value}", owner, self._fields[field])
        for value, times in Counter(values.values()).items():
            if value not in singletons:
                for _ in range(times):
                    self.call("Py_IncRef", f"ptr {value}")
            elif SINGLETONS_ARE_COUNTED:
                self.hold(value, times)

    def constant(self, name: str) -> str:
        """An object of the table: a borrowed reference."""
        return self.load("@constants", 8 * self._constants[name])

    def call_method(self, owner: str, name: str) -> str:
        """Calls a method without arguments; its name is in the table."""
        callee = f"call ptr (ptr, ptr, ...) @PyObject_CallMethodObjArgs(ptr {owner}"
        return self.value(f"{callee}, ptr {self.constant(name)}, ptr null)")

    # --- comparisons ---------------------------------------------------------------------------

    def same(self, a: str, b: str) -> str:
        return self.value(f"icmp eq ptr {a}, {b}")

    def is_constant(self, a: str, name: str) -> str:
        return self.same(a, self.constant(name))

    def has_type(self, a: str, name: str) -> str:
        """Whether an object is of just that type."""
        return self.is_constant(self.load(a, TYPE_OF), name)

    def compare(self, how: str, a: str, b: str, type: str = "i64") -> str:
        return self.value(f"icmp {how} {type} {a}, {b}")

    def number(self, value: str) -> str:
        """An int as i64; -1 where it is none, with an error set."""
        return self.call("PyLong_AsSsize_t", f"ptr {value}")

    @contextmanager
    def loop(self, count: str) -> Iterator[str]:
        """A loop of so many rounds: the number of the round."""
        names = [self.new_label(hint) for hint in ("loop", "body", "after")]
        variable = self.local("i64", "0")
        self.label(names[0])
        at = self.value(f"load i64, ptr {variable}")
        self.branch(self.compare("slt", at, count), names[1], names[2])
        self.begin(names[1])
        yield at
        self.line(f"store i64 {self.value(f'add i64 {at}, 1')}, ptr {variable}")
        self.go(names[0])
        self.begin(names[2])

    @property
    def text(self) -> str:
        return "\n".join([*self.lines, "}", ""])


def table(objects: Sequence[Any]) -> Any:
    """The memory of `@constants`: the addresses of objects, which the caller keeps."""
    return (ctypes.c_void_p * len(objects))(*[id(one) for one in objects])
