"""A restricted pickle interpreter: data in, plain objects out, nothing executed.

It is what `weights_only=True` runs. A pickle is a program for a stack machine; this machine has
only the instructions that build lists, dicts, sets, tuples, numbers and strings, and calls only the
functions in a table that the reader of torch files fills (see torch_file.py).

Costs are bounded by the length of the pickle: an instruction either allocates a constant, or uses
up what it takes from the stack, or pays for the elements that it copies out of a budget. Keys of
dicts and members of sets are numbers, strings or small tuples of those, since hashing a nested
tuple can take exponential time or overflow the C stack.
"""

from __future__ import annotations

import collections
import pickle
import struct
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np

# Names from these modules are refused even where the user allows them, as torch does.
BLOCKED_MODULES = frozenset({"sys", "os", "posix", "nt"})

_MAX_INT_BYTES = 4096
_MAX_KEY_DEPTH = 4
_MAX_KEY_ITEMS = 64
_KEY_TYPES = (str, bytes, int, float, complex, bool, type(None))
_DICT_TYPES = (dict, collections.OrderedDict, collections.Counter)
_ENCODINGS = frozenset({"latin1", "latin-1", "ascii", "utf-8", "utf8"})
# Python 2's names of what is in the table under its Python 3 name; protocol 2 writes these.
_MODULE_RENAMES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "torch.tensor": "torch._tensor",
}


def shorten(value: object, limit: int = 80) -> str:
    """`value` for a message: one printable line, cut at `limit`.

    Names in a file may hold anything. Containers show as their type, since the text of one whose
    parts are shared can be exponentially longer than the file.
    """
    if isinstance(value, type):
        text = f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, str | bytes | BaseException):
        text = str(value)
    else:
        text = f"an object of type {type(value).__qualname__}"
    line = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 3] + "..."


class WeightsUnpickler:
    """Interprets one pickle.

    data: the pickle. names: what its globals stand for ("torch.Size" -> tuple); those that are
    callable may be called by the pickle with arguments of its choice. allowed: classes and
    functions, or (object, "module.name") pairs, that the user declared safe.
    load_storage: called with the five fields of a storage's persistent id.

    `load()` raises pickle.UnpicklingError for what is not allowed or not a pickle and EOFError for
    a truncated one.
    """

    def __init__(
        self,
        data: bytes,
        names: Mapping[str, object],
        allowed: Iterable[object],
        load_storage: Callable[[tuple], object],
    ) -> None:
        self.data = data
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.load_storage = load_storage
        # Each element of a pickle takes at least one byte; a shared list may be copied a few times.
        self.budget = 4 * len(data) + 1024
        self.allowed = allowed_names(allowed)
        self.names = {**_plain_names(self), **names}
        self.callables = {id(value) for value in self.names.values() if callable(value)}
        self.allowed_ids = {id(value) for value in self.allowed.values()}

    def load(self) -> Any:
        while True:
            opcode = self.take(1)
            if opcode == pickle.STOP:
                return self.pop()
            instruction = _INSTRUCTIONS.get(opcode)
            if instruction is None:
                raise pickle.UnpicklingError(
                    f"unsupported pickle instruction {opcode!r} at byte {self.position - 1}"
                )
            instruction(self)

    # -- reading

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise EOFError(f"the pickle ends at byte {len(self.data)}, inside an object")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def take_int(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def take_line(self) -> str:
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise EOFError("the pickle ends inside a name")
        line = self.data[self.position : end]
        self.position = end + 1
        return self.decode(line)

    def decode(self, text: bytes) -> str:
        try:
            return text.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise pickle.UnpicklingError(f"a string that is not UTF-8: {error.reason}") from error

    # -- the stack

    def pop(self) -> Any:
        if not self.stack:
            raise pickle.UnpicklingError(f"the stack is empty at byte {self.position}")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise pickle.UnpicklingError(f"the stack is empty at byte {self.position}")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise pickle.UnpicklingError(f"no mark is set at byte {self.position}")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def spend(self, elements: int) -> None:
        """Pay for copying so many elements of what is already built."""
        self.budget -= elements
        if self.budget < 0:
            raise pickle.UnpicklingError("the pickle copies the same data over and over")

    # -- what a pickle may name, call and fill

    def find_global(self, module: str, name: str) -> object:
        module = _MODULE_RENAMES.get(module, module)
        full = f"{module}.{name}"
        if module.split(".")[0] in BLOCKED_MODULES:
            raise pickle.UnpicklingError(
                f"Weights only load failed: the file names {shorten(full)}, whose module is "
                "blocked.\nOnly a hostile or a very unusual file does. If you trust its source, "
                "load it with weights_only=False, which can execute code from the file."
            )
        for table in (self.names, self.allowed):
            if full in table:
                return table[full]
        shown = shorten(full.removeprefix("builtins."))
        raise pickle.UnpicklingError(
            f"Weights only load failed: GLOBAL {shown} was not an allowed global by default.\n"
            "If you trust the source of this file, allow it with "
            f"torch.serialization.add_safe_globals([{shown}]),\n"
            "or load with weights_only=False, which can execute code from the file."
        )

    def call(self, function: Any, arguments: Any) -> Any:
        if type(arguments) is not tuple:
            raise pickle.UnpicklingError("the arguments of a call are not a tuple")
        if id(function) not in self.callables and id(function) not in self.allowed_ids:
            raise pickle.UnpicklingError(
                f"Weights only load failed: calling {shorten(function)} is not allowed"
            )
        return function(*arguments)

    def new(self, cls: Any, arguments: Any) -> Any:
        if id(cls) not in self.allowed_ids or not isinstance(cls, type):
            raise pickle.UnpicklingError(
                "Weights only load failed: only classes given to add_safe_globals can be "
                f"created, got {shorten(cls)}"
            )
        if type(arguments) is not tuple:
            raise pickle.UnpicklingError("the arguments of a class are not a tuple")
        return cls.__new__(cls, *arguments)

    def build(self, instance: Any, state: Any) -> None:
        if type(instance) in (collections.OrderedDict, collections.Counter):
            self.set_attributes(instance, state)
        elif isinstance(instance, NumpyType):
            instance.set_state(state)
        elif id(type(instance)) not in self.allowed_ids:
            raise pickle.UnpicklingError(
                "Weights only load failed: only OrderedDict and classes given to add_safe_globals "
                f"can be given a state, got {shorten(type(instance))}"
            )
        elif hasattr(instance, "__setstate__"):
            instance.__setstate__(state)
        else:
            slots = None
            if isinstance(state, tuple) and len(state) == 2:
                state, slots = state
            if state:
                self.set_attributes(instance, state)
            for name, value in (slots or {}).items():
                setattr(instance, name, value)

    def set_attributes(self, instance: Any, state: Any) -> None:
        """Put `state` into the instance's `__dict__`; no property or descriptor runs."""
        if not isinstance(state, dict) or not all(type(name) is str for name in state):
            raise pickle.UnpicklingError("a state that is not a dict of attributes")
        if not hasattr(instance, "__dict__"):
            raise pickle.UnpicklingError(f"{shorten(type(instance))} has no attributes to set")
        self.spend(len(state))
        instance.__dict__.update(state)

    def set_items(self, target: Any, items: list[Any]) -> None:
        if type(target) not in _DICT_TYPES:
            raise pickle.UnpicklingError(f"cannot set items of {shorten(type(target))}")
        if len(items) % 2:
            raise pickle.UnpicklingError("a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            target[checked_key(key)] = value

    def extend(self, target: Any, items: list[Any]) -> None:
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(map(checked_key, items))
        else:
            raise pickle.UnpicklingError(f"cannot append to {shorten(type(target))}")


def allowed_names(allowed: Iterable[object]) -> dict[str, object]:
    """Full name -> object for classes, functions and (object, "module.name") pairs."""
    table: dict[str, object] = {}
    for entry in allowed:
        if isinstance(entry, tuple):
            if len(entry) != 2 or not isinstance(entry[1], str):
                raise TypeError(f"expected (object, 'module.name'), got {shorten(entry)}")
            table[entry[1]] = entry[0]
        elif hasattr(entry, "__module__") and hasattr(entry, "__qualname__"):
            table[f"{entry.__module__}.{entry.__qualname__}"] = entry
        else:
            raise TypeError(f"{shorten(entry)} is neither a class nor a function")
    return table


def checked_key(key: Any, depth: int = 0) -> Hashable:
    """`key` itself if it is cheap and harmless to hash."""
    if isinstance(key, tuple) and depth < _MAX_KEY_DEPTH and len(key) <= _MAX_KEY_ITEMS:
        for item in key:
            checked_key(item, depth + 1)
        return key
    # Exact types, or types with no way to define __hash__ in the file: those given by the caller.
    if isinstance(key, _KEY_TYPES) or _is_interned(key):
        return key
    raise pickle.UnpicklingError(f"a {shorten(type(key))} cannot be a key or the member of a set")


def _is_interned(value: object) -> bool:
    """Whether `value` is hashed by its identity: dtypes, devices, classes."""
    return type(value).__hash__ is object.__hash__ or isinstance(value, np.dtype)


# -- plain types, restricted to arguments that copy no more than was in the file


def _plain_names(machine: WeightsUnpickler) -> dict[str, object]:
    """What every pickle may name: containers, bytes, complex and numpy's scalars."""

    def copied(items: Any, *types: type) -> Any:
        if not isinstance(items, types):
            raise pickle.UnpicklingError(f"cannot make a container of {shorten(type(items))}")
        machine.spend(len(items))
        return items

    def pairs(items: Any) -> list[tuple[Hashable, Any]]:
        if isinstance(items, dict):
            return list(copied(items, dict).items())
        return [(checked_key(key), value) for key, value in copied(items, list, tuple)]

    def ordered_dict(items: Any = ()) -> collections.OrderedDict:
        return collections.OrderedDict(pairs(items))

    def counter(items: Any = ()) -> collections.Counter:
        return collections.Counter(dict(pairs(items)))

    def make_set(items: Any = ()) -> set:
        return set(map(checked_key, copied(items, list, tuple, set, frozenset)))

    def make_frozenset(items: Any = ()) -> frozenset:
        return frozenset(make_set(items))

    def encode(text: Any, encoding: Any = "latin1") -> bytes:
        if type(encoding) is not str or encoding not in _ENCODINGS:
            raise pickle.UnpicklingError(f"cannot encode to {shorten(encoding)}")
        return copied(text, str).encode(encoding)

    def make_bytearray(data: Any = b"", encoding: Any = None) -> bytearray:
        if isinstance(data, str):
            data = encode(data, encoding)
        return bytearray(copied(data, bytes, bytearray))

    def make_complex(real: Any, imaginary: Any = 0.0) -> complex:
        if not all(isinstance(part, int | float) for part in (real, imaginary)):
            raise pickle.UnpicklingError("a complex number whose parts are not numbers")
        return complex(real, imaginary)

    scalar_modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    return {
        "collections.OrderedDict": ordered_dict,
        "collections.Counter": counter,
        "builtins.set": make_set,
        "builtins.frozenset": make_frozenset,
        "builtins.bytearray": make_bytearray,
        "builtins.complex": make_complex,
        "_codecs.encode": encode,
        "numpy.dtype": NumpyType,
        **{f"{module}.scalar": numpy_scalar for module in scalar_modules},
    }


class NumpyType:
    """A numpy dtype while it is being unpickled: plain numbers only."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if not (isinstance(code, str) and code[:1] in tuple("fiubc") and code[1:].isdigit()):
            raise pickle.UnpicklingError(f"the numpy dtype {shorten(code)} is not a plain number")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|", "=")):
            raise pickle.UnpicklingError("a numpy dtype with an unknown state")
        self.dtype = self.dtype.newbyteorder(state[1])


def numpy_scalar(dtype: Any, data: Any) -> np.generic:
    if not isinstance(dtype, NumpyType) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("a numpy scalar without its dtype or data")
    if len(data) != dtype.dtype.itemsize:
        raise pickle.UnpicklingError(f"a numpy {dtype.dtype} of {len(data)} bytes")
    return np.frombuffer(data, dtype.dtype)[0]


# -- the instructions


def _global(machine: WeightsUnpickler) -> None:
    module = machine.take_line()
    machine.push(machine.find_global(module, machine.take_line()))


def _stack_global(machine: WeightsUnpickler) -> None:
    name, module = machine.pop(), machine.pop()
    if type(name) is not str or type(module) is not str:
        raise pickle.UnpicklingError("a global whose name is not a string")
    machine.push(machine.find_global(module, name))


def _reduce(machine: WeightsUnpickler) -> None:
    arguments = machine.pop()
    machine.push(machine.call(machine.pop(), arguments))


def _newobj(machine: WeightsUnpickler) -> None:
    arguments = machine.pop()
    machine.push(machine.new(machine.pop(), arguments))


def _build(machine: WeightsUnpickler) -> None:
    state = machine.pop()
    machine.build(machine.top(), state)


def _persistent_id(machine: WeightsUnpickler) -> None:
    identity = machine.pop()
    if (
        type(identity) is not tuple
        or len(identity) != 5
        or identity[0] not in ("storage", b"storage")
    ):
        raise pickle.UnpicklingError("an external reference that is not a storage")
    machine.push(machine.load_storage(identity))


def _mark(machine: WeightsUnpickler) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _append(machine: WeightsUnpickler) -> None:
    item = machine.pop()
    machine.extend(machine.top(), [item])


def _appends(machine: WeightsUnpickler) -> None:
    items = machine.pop_mark()
    machine.extend(machine.top(), items)


def _setitem(machine: WeightsUnpickler) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items(machine.top(), [key, value])


def _setitems(machine: WeightsUnpickler) -> None:
    items = machine.pop_mark()
    machine.set_items(machine.top(), items)


def _frozenset(machine: WeightsUnpickler) -> None:
    machine.push(frozenset(map(checked_key, machine.pop_mark())))


def _tuple(count: int) -> Callable[[WeightsUnpickler], None]:
    def instruction(machine: WeightsUnpickler) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(items)))

    return instruction


def _get(layout: str) -> Callable[[WeightsUnpickler], None]:
    def instruction(machine: WeightsUnpickler) -> None:
        index = machine.take_int(layout)
        if index not in machine.memo:
            raise pickle.UnpicklingError(f"memo {index} is read before it is written")
        machine.push(machine.memo[index])

    return instruction


def _put(layout: str) -> Callable[[WeightsUnpickler], None]:
    def instruction(machine: WeightsUnpickler) -> None:
        machine.memo[machine.take_int(layout)] = machine.top()

    return instruction


def _memoize(machine: WeightsUnpickler) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _number(layout: str) -> Callable[[WeightsUnpickler], None]:
    return lambda machine: machine.push(machine.take_int(layout))


def _long(layout: str) -> Callable[[WeightsUnpickler], None]:
    def instruction(machine: WeightsUnpickler) -> None:
        length = machine.take_int(layout)
        if length > _MAX_INT_BYTES:
            raise pickle.UnpicklingError(f"an integer of {length} bytes")
        digits = machine.take(length)
        machine.push(int.from_bytes(digits, "little", signed=True))

    return instruction


def _string(layout: str) -> Callable[[WeightsUnpickler], None]:
    return lambda machine: machine.push(machine.decode(machine.take(machine.take_int(layout))))


def _bytes(layout: str) -> Callable[[WeightsUnpickler], None]:
    return lambda machine: machine.push(machine.take(machine.take_int(layout)))


def _value(make: Callable[[], Any]) -> Callable[[WeightsUnpickler], None]:
    return lambda machine: machine.push(make())


_INSTRUCTIONS: dict[bytes, Callable[[WeightsUnpickler], Any]] = {
    pickle.PROTO: lambda machine: machine.take(1),
    pickle.FRAME: lambda machine: machine.take(8),
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: _reduce,
    pickle.NEWOBJ: _newobj,
    pickle.BUILD: _build,
    pickle.BINPERSID: _persistent_id,
    pickle.MARK: _mark,
    pickle.APPEND: _append,
    pickle.APPENDS: _appends,
    pickle.ADDITEMS: _appends,
    pickle.SETITEM: _setitem,
    pickle.SETITEMS: _setitems,
    pickle.FROZENSET: _frozenset,
    pickle.EMPTY_TUPLE: _value(tuple),
    pickle.EMPTY_LIST: _value(list),
    pickle.EMPTY_DICT: _value(dict),
    pickle.EMPTY_SET: _value(set),
    pickle.TUPLE: lambda machine: machine.push(tuple(machine.pop_mark())),
    pickle.TUPLE1: _tuple(1),
    pickle.TUPLE2: _tuple(2),
    pickle.TUPLE3: _tuple(3),
    pickle.NONE: _value(lambda: None),
    pickle.NEWTRUE: _value(lambda: True),
    pickle.NEWFALSE: _value(lambda: False),
    pickle.BINGET: _get("<B"),
    pickle.LONG_BINGET: _get("<I"),
    pickle.BINPUT: _put("<B"),
    pickle.LONG_BINPUT: _put("<I"),
    pickle.MEMOIZE: _memoize,
    pickle.BININT: _number("<i"),
    pickle.BININT1: _number("<B"),
    pickle.BININT2: _number("<H"),
    pickle.BINFLOAT: _number(">d"),
    pickle.LONG1: _long("<B"),
    pickle.LONG4: _long("<I"),
    pickle.BINUNICODE: _string("<I"),
    pickle.SHORT_BINUNICODE: _string("<B"),
    pickle.BINUNICODE8: _string("<Q"),
    pickle.SHORT_BINSTRING: _string("<B"),
    pickle.BINBYTES: _bytes("<I"),
    pickle.SHORT_BINBYTES: _bytes("<B"),
}
