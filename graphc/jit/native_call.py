"""A call of a graph on computed tensors in compiled code: builtins for all graphs.

They are given a description of the graph's code and weights, and do what `direct.DirectCalls.run`
does: look whether all is usual, find the operands' memory, take memory for the results and the
arena, call the code and wrap the results. Where something is unusual, or a check of the graph
fails, `call` gives None, and Python does the call; `traced`, the `__call__` of traced modules,
has it done.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from graphc.backends.llvm import cpython, jit
from graphc.backends.llvm.compile import Executable
from graphc.backends.llvm.memory import ALIGNMENT, Buffer, HeapAllocator, heap
from graphc.backends.llvm.native_buffer import RAW_ADDRESS
from graphc.backends.llvm.object_text import DECLARATIONS, TYPE_OF, FunctionText, offset_of, table
from graphc.backends.llvm.settings import Settings, settings
from graphc.backends.llvm.target import host_target
from graphc.frontends import native_cells, native_steps
from graphc.frontends.execute import BuildOptions
from graphc.frontends.native_cells import Layout
from graphc.frontends.record import last_thread, of_thread
from graphc.ir.types import TensorType
from graphc.tensor import Storage, Tensor

#: Beyond that many words a table is left to Python: it lies on the stack.
MOST_WORDS = 1024
#: An arena of so many bytes lies on the stack too.
SMALL_ARENA = 1024
CALL_DOC = """__call__($self, /, *args, **kwargs)
--

Runs the graph on other inputs of the same types."""
#: Words of a description, in order.
_WORDS = (
    "arguments", "results", "words", "code", "exact", "winograd", "num_threads", "releases",
    "arena", "arena_at", "weights", "weights_grad", "types", "result_types", "result_bytes",
    "results_at", "template", "storages", "versions", "single",
)  # fmt: skip
_PLACES = {name: 8 * i for i, name in enumerate(_WORDS)}


class Description:
    """What the builtin knows of a graph; it keeps the memory, the code and the weights."""

    __slots__ = ("_keeps", "address", "single")

    def __init__(
        self,
        code: Executable,
        types: Sequence[TensorType],
        results: Sequence[tuple[TensorType, int]],
        weights: Sequence[int],
        versions: Sequence[tuple[Storage, int]],
        *,
        exact: bool,
        winograd: bool,
        num_threads: int,
        weights_require_grad: bool,
        single: bool,
        keeps: Any,
    ) -> None:
        """types: of the arguments, then `weights` follow by address. results: types and bytes.
        exact, winograd, num_threads: the settings that it holds for, objects that are compared.
        versions: of storages: the description holds as long as they stay. single: the one result
        is given itself, not a list of one."""
        n_fixed = len(types) + len(weights)
        constants, arena = code.constant_addresses, code.arena()
        template = [0] * len(types) + [*weights] + [0] * (len(results) + 1)
        template += [*constants, arena.threads]
        arrays = {
            "types": table(list(types)),
            "result_types": table([type for type, _ in results]),
            "result_bytes": (ctypes.c_int64 * len(results))(*[n for _, n in results]),
            "template": (ctypes.c_uint64 * len(template))(*template),
            "storages": table([storage for storage, _ in versions]),
            "versions": (ctypes.c_int64 * len(versions))(*[n for _, n in versions]),
        }
        values = {
            "arguments": len(types), "results": len(results), "words": len(template),
            "code": code.code_address, "exact": id(exact), "winograd": id(winograd),
            "num_threads": id(num_threads), "releases": code.releases_lock, "arena": arena.nbytes,
            "arena_at": 8 * (n_fixed + len(results)), "weights": len(versions),
            "weights_grad": weights_require_grad, "results_at": n_fixed, "single": single,
        }  # fmt: skip
        values |= {name: ctypes.addressof(array) for name, array in arrays.items()}
        words = (ctypes.c_uint64 * len(_WORDS))(*[int(values[name]) for name in _WORDS])
        self.address, self.single = ctypes.addressof(words), single
        self._keeps = (code, types, results, versions, arrays, words, num_threads, keeps)


def is_possible(code: Any, operands: int, results: int) -> bool:
    """Whether a graph's code can be called in this way."""
    if not isinstance(code, Executable) or heap.native_type is None:
        return False
    if native_steps.fault() is not None:
        return False  # (the user was warned: see `predict.use_native_steps`)
    words = operands + results + len(code.constant_addresses) + 2  # the arena, and threads
    return not code.symbols and words <= MOST_WORDS


def _word(f: FunctionText, name: str, type: str = "i64") -> str:
    return f.load("%words", _PLACES[name], type)


def _address_of(to: Layout) -> str:
    """`i64 @address_of(buffer)`: of its memory, whatever made it; -1 where it has none."""
    f = to.function("internal i64 @address_of(ptr %buffer)")
    f.branch(f.has_type("%buffer", "NativeBuffer"), "native", "other")
    f.begin("native")
    f.result(f"i64 {f.load('%buffer', RAW_ADDRESS, 'i64')}")
    f.begin("other")
    f.branch(f.has_type("%buffer", "Buffer"), "python", "foreign")
    f.begin("python")  # from before there was compiled code
    pointer = f.call("PyLong_AsVoidPtr", f"ptr {f.get('%buffer', 'Buffer.address')}")
    f.result(f"i64 {f.value(f'ptrtoint ptr {pointer} to i64')}")
    f.begin("foreign")
    number = f.call("PyObject_GetAttr", "ptr %buffer", f"ptr {f.constant('address')}")
    f.when(f.same(number, "null"), "none")
    address = f.value(f"ptrtoint ptr {f.call('PyLong_AsVoidPtr', f'ptr {number}')} to i64")
    f.call("Py_DecRef", f"ptr {number}")
    f.result(f"i64 {address}")
    f.begin("none")
    f.result("i64 -1")
    return f.text


def _call(to: Layout) -> str:
    """`call(description, recorder, *args)`: the result, or results; None where Python has to."""
    f = to.function("ptr @call(ptr %self, ptr %given, i64 %n)")
    description, rec = [f.load("%given", 8 * i) for i in range(2)]
    args, count = f.at("%given", 16), f.value("sub i64 %n, 2")
    result = f.call("run", f"ptr {description}", f"ptr {rec}", f"ptr {args}", f"i64 {count}")
    f.result(f"ptr {result}")
    return f.text


def _traced(to: Layout) -> str:
    """`TracedModule.__call__`: the same, where the module has a description; else its `_call`."""
    f = to.function("ptr @traced(ptr %self, ptr %given, i64 %n, ptr %names)")
    f.unless(f.same("%names", "null"), "python")
    description = f.get("%self", "TracedModule.native")
    f.when(f.same(description, "null"), "python")
    f.when(f.is_constant(description, "None"), "python")
    rec = f.call("recorder")
    f.when(f.same(rec, "null"), "first")
    f.call("Py_IncRef", f"ptr {description}")  # another thread may replace it
    result = f.call("run", f"ptr {description}", f"ptr {rec}", "ptr %given", "i64 %n")
    f.call("Py_DecRef", f"ptr {description}")
    f.when(f.is_constant(result, "None"), "left")
    f.result(f"ptr {result}")
    f.begin("left")
    f.call("Py_DecRef", f"ptr {result}")
    f.go("python")
    f.begin("first")  # the thread has no recorder yet
    f.call("PyErr_Clear")
    f.go("python")
    f.begin("python")
    method = f.call("PyObject_GetAttr", "ptr %self", f"ptr {f.constant('_call')}")
    f.when(f.same(method, "null"), "failed")
    made = f.call("PyObject_Vectorcall", f"ptr {method}", "ptr %given", "i64 %n", "ptr %names")
    f.call("Py_DecRef", f"ptr {method}")
    f.result(f"ptr {made}")
    f.begin("failed")
    f.result("ptr null")
    return f.text


def _recorder(to: Layout) -> str:
    """`ptr @recorder()`: this thread's, or null; borrowed. That of the last thread is known."""
    f = to.function("internal ptr @recorder()")
    thread = f.call("PyThreadState_GetID", f"ptr {f.call('PyThreadState_Get')}")
    same = f.compare("eq", thread, f.load("@last_thread", 0, "i64"))
    f.branch(same, "known", "other")
    f.begin("known")
    f.result(f"ptr {f.load('@last_thread', 8)}")
    f.begin("other")
    local, name = f.constant("of_thread"), f.constant("recorder")
    found = f.call("PyObject_GetAttr", f"ptr {local}", f"ptr {name}")
    f.when(f.same(found, "null"), "none")
    before = f.load("@last_thread", 8)
    f.store(f"i64 {thread}", "@last_thread")
    f.store(f"ptr {found}", "@last_thread", 8)
    f.when(f.same(before, "null"), "none")
    f.call("Py_DecRef", f"ptr {before}")
    f.go("none")
    f.begin("none")
    f.result(f"ptr {found}")
    return f.text


def _run(to: Layout) -> str:
    """`ptr @run(description, recorder, args, count)`; `args` is an array."""
    f = to.function("internal ptr @run(ptr %description, ptr %rec, ptr %args, i64 %given)")
    rec = "%rec"
    address = f.call("PyLong_AsVoidPtr", f"ptr {f.get('%description', 'Description.address')}")
    f.line(f"%words = getelementptr i8, ptr {address}, i64 0")
    held, buffers = f.array("ptr", MOST_WORDS), f.array("ptr", MOST_WORDS)
    count, made, arena = f.local("i64", "0"), f.local("i64", "0"), f.local("ptr", "null")
    operands = f.array("i64", MOST_WORDS)
    records = _is_usual(f, rec)
    n, m = _word(f, "arguments"), _word(f, "results")
    f.unless(f.compare("eq", "%given", n), "unusual")
    refused = f.value(f"and i1 {records}, {f.compare('ne', _word(f, 'weights_grad'), '0')}")
    f.when(refused, "unusual")
    _weights_are_current(f)
    size = f.value(f"shl i64 {_word(f, 'words')}, 3")
    f.line(f"call ptr @memcpy(ptr {operands}, ptr {_word(f, 'template', 'ptr')}, i64 {size})")
    types = _word(f, "types", "ptr")
    with f.loop(n) as i:
        at = f.value(f"shl i64 {i}, 3")
        cell = _computed(f, f.load("%args", at))
        f.unless(f.same(f.get(cell, "Cell.type"), f.load(types, at)), "release")
        plain = f.is_constant(f.get(cell, "Cell.requires_grad"), "False")
        f.unless(f.value(f"or i1 {plain}, {f.value(f'xor i1 {records}, true')}"), "release")
        f.hold(cell)
        f.store(f"ptr {cell}", held, at)
        f.store(f"i64 {f.value(f'add i64 {i}, 1')}", count)
        memory = f.call("address_of", f"ptr {f.get(cell, 'Cell.buffer')}")
        f.when(f.compare("eq", memory, "-1"), "release")
        f.store(f"i64 {memory}", operands, at)
    _allocate_results(f, operands, buffers, made, arena, m)
    code, failed = _word(f, "code", "ptr"), f.local("i64", "0")
    f.branch(f.compare("ne", _word(f, "releases"), "0"), "without.lock", "with.lock")
    for label in ("without.lock", "with.lock"):
        f.begin(label)
        if label == "without.lock":
            thread = f.call("PyEval_SaveThread")
        f.store(f"i64 {f.value(f'call i64 {code}(ptr {operands})')}", failed)
        if label == "without.lock":
            f.call("PyEval_RestoreThread", f"ptr {thread}")
        f.go("after.call")
    f.begin("after.call")
    f.when(f.compare("ne", f.load(failed, 0, "i64"), "0"), "release")  # Python calls, and raises
    result = _wrapped(f, buffers, m)
    _release(f, held, buffers, count, made, arena)
    f.result(f"ptr {result}")
    f.begin("memory.error")
    _release(f, held, buffers, count, made, arena)
    f.result("ptr null")
    f.begin("release")
    _release(f, held, buffers, count, made, arena)
    f.go("unusual")
    f.begin("unusual")
    f.call("PyErr_Clear")
    none = f.constant("None")
    f.call("Py_IncRef", f"ptr {none}")
    f.result(f"ptr {none}")
    return f.text


def _is_usual(f: FunctionText, rec: str) -> str:
    """Goes to "unusual" where calls are recorded or compiled otherwise; whether gradients are
    recorded."""
    f.unless(f.is_constant(f.get(rec, "Recorder.eager"), "True"), "unusual")
    f.unless(f.is_constant(f.get(rec, "Recorder.outer"), "None"), "unusual")
    options = f.get(rec, "Recorder.options")
    f.unless(f.is_constant(f.get(options, "BuildOptions.verify"), "None"), "unusual")
    exact = f.get(options, "BuildOptions.exact")
    f.unless(f.same(exact, _word(f, "exact", "ptr")), "unusual")
    winograd = f.get(f.constant("settings"), "Settings.winograd")
    f.unless(f.same(winograd, _word(f, "winograd", "ptr")), "unusual")
    num_threads = f.get(f.constant("settings"), "Settings.num_threads")
    f.unless(f.same(num_threads, _word(f, "num_threads", "ptr")), "unusual")
    modes = f.get(rec, "Recorder.modes")
    grad = f.is_constant(f.get(modes, "Modes.grad"), "True")
    inference = f.is_constant(f.get(modes, "Modes.inference"), "True")
    f.line(f"%class = select i1 {inference}, ptr {f.constant('InferenceCell')}, "
           f"ptr {f.constant('Cell')}")  # fmt: skip
    return f.value(f"and i1 {grad}, {f.value(f'xor i1 {inference}, true')}")


def _weights_are_current(f: FunctionText) -> None:
    """Goes to "unusual" where a weight was written since, or numpy sees it."""
    storages, versions = _word(f, "storages", "ptr"), _word(f, "versions", "ptr")
    with f.loop(_word(f, "weights")) as i:
        at = f.value(f"shl i64 {i}, 3")
        storage = f.load(storages, at)
        now = f.number(f.get(storage, "Storage.version"))
        f.unless(f.compare("eq", now, f.load(versions, at, "i64")), "unusual")
        f.unless(f.is_constant(f.get(storage, "Storage.export"), "None"), "unusual")


def _computed(f: FunctionText, tensor: str) -> str:
    """As `direct.computed`; goes to "release" where there is no such cell."""
    own, derived = f.new_label("own"), f.new_label("derived")
    cls = f.load(tensor, TYPE_OF)
    f.branch(f.is_constant(cls, "Tensor"), own, derived)
    f.begin(derived)
    found = f.call("PyType_IsSubtype", f"ptr {cls}", f"ptr {f.constant('Tensor')}")
    f.branch(f.compare("ne", found, "0", "i32"), own, "release")
    f.begin(own)
    storage = f.get(tensor, "Tensor._storage")
    f.when(f.same(storage, "null"), "release")
    f.unless(f.is_constant(f.get(storage, "Storage.export"), "None"), "release")
    leaf, other, after = [f.new_label(hint) for hint in ("leaf", "other", "after")]
    cell = f.local("ptr", "null")
    f.branch(f.is_constant(f.get(tensor, "Tensor._leaf"), "True"), leaf, other)
    f.begin(leaf)
    seen, now = f.get(tensor, "Tensor._seen"), f.get(storage, "Storage.version")
    f.unless(f.compare("eq", f.number(seen), f.number(now)), "release")
    own = f.get(tensor, "Tensor._cell")
    f.when(f.is_constant(own, "None"), "release")
    f.store(f"ptr {own}", cell)
    f.go(after)
    f.begin(other)
    f.unless(f.is_constant(f.get(tensor, "Tensor._chain"), "()"), "release")
    f.store(f"ptr {f.get(storage, 'Storage.cell')}", cell)
    f.go(after)
    f.begin(after)
    return f.load(cell)


def _allocate_results(
    f: FunctionText, operands: str, buffers: str, made: str, arena: str, m: str
) -> None:
    """Memory of the results and of the arena, its addresses among the operands."""
    sizes, first = _word(f, "result_bytes", "ptr"), _word(f, "results_at")
    with f.loop(m) as i:
        at = f.value(f"shl i64 {i}, 3")
        buffer = f.value(f"call ptr @allocate(i64 {f.load(sizes, at, 'i64')})")
        f.when(f.same(buffer, "null"), "memory.error")
        f.store(f"ptr {buffer}", buffers, at)
        f.store(f"i64 {f.value(f'add i64 {i}, 1')}", made)
        place = f.value(f"shl i64 {f.value(f'add i64 {i}, {first}')}, 3")
        f.store(f"i64 {f.load(buffer, RAW_ADDRESS, 'i64')}", operands, place)
    need, place = _word(f, "arena"), _word(f, "arena_at")
    small = f.value(f"ptrtoint ptr {f.array('i8', SMALL_ARENA, ALIGNMENT)} to i64")
    f.store(f"i64 {small}", operands, place)
    f.branch(f.compare("ule", need, str(SMALL_ARENA)), "has.arena", "large.arena")
    f.begin("large.arena")
    scratch = f.value(f"call ptr @allocate(i64 {need})")
    f.when(f.same(scratch, "null"), "memory.error")
    f.store(f"ptr {scratch}", arena)
    f.store(f"i64 {f.load(scratch, RAW_ADDRESS, 'i64')}", operands, place)
    f.label("has.arena")


def _wrapped(f: FunctionText, buffers: str, m: str) -> str:
    """The results as tensors: a list, or the one."""
    result, types = f.local("ptr", "null"), _word(f, "result_types", "ptr")
    single = f.compare("ne", _word(f, "single"), "0")
    none = f.constant("None")
    f.branch(single, "wrap", "list")
    f.begin("list")
    several = f.call("PyList_New", f"i64 {m}")
    f.when(f.same(several, "null"), "memory.error")
    f.store(f"ptr {several}", result)
    f.label("wrap")
    with f.loop(m) as i:
        at = f.value(f"shl i64 {i}, 3")
        cell = f.call(
            "make_cell", "ptr %class", f"ptr {f.load(types, at)}", f"ptr {none}",
            f"ptr {f.constant('-1')}", "i1 false", f"ptr {none}", f"ptr {f.load(buffers, at)}",
        )  # fmt: skip
        f.when(f.same(cell, "null"), "drop")
        tensor = f.call("make_tensor", f"ptr {cell}")
        f.call("Py_DecRef", f"ptr {cell}")
        f.when(f.same(tensor, "null"), "drop")
        one, item, after = [f.new_label(hint) for hint in ("one", "item", "after")]
        f.branch(single, one, item)
        f.begin(one)
        f.store(f"ptr {tensor}", result)
        f.go(after)
        f.begin(item)
        f.call("PyList_SetItem", f"ptr {f.load(result)}", f"i64 {i}", f"ptr {tensor}")
        f.go(after)
        f.begin(after)
    f.go("wrapped")
    f.begin("drop")
    f.when(f.same(f.load(result), "null"), "memory.error")
    f.call("Py_DecRef", f"ptr {f.load(result)}")
    f.go("memory.error")
    f.begin("wrapped")
    return f.load(result)


def _release(f: FunctionText, held: str, buffers: str, count: str, made: str, arena: str) -> None:
    """Gives up what the call holds."""
    for array, number in ((held, count), (buffers, made)):
        with f.loop(f.load(number, 0, "i64")) as i:
            f.drop(f.load(array, f.value(f"shl i64 {i}, 3")))
    there, gone, scratch = f.new_label("there"), f.new_label("gone"), f.load(arena)
    f.branch(f.same(scratch, "null"), gone, there)
    f.begin(there)
    f.call("Py_DecRef", f"ptr {scratch}")
    f.label(gone)


@cache
def native_call(traced: type) -> Callable[..., Any]:
    """The builtin `call`. `traced`, the class of traced modules, gets the other as `__call__`."""
    heap.use_native()
    assert heap.allocate_address, "see `is_possible`"
    to = native_cells.layout(Tensor, Storage)
    for cls in (Description, BuildOptions, Settings):
        for name in cls.__slots__:
            to.fields[f"{cls.__name__}.{name}"] = offset_of(cls, name)
    to.fields["TracedModule.native"] = offset_of(traced, "native")
    to.objects.update({"settings": settings, "of_thread": of_thread})
    to.objects.update({"NativeBuffer": heap.native_type, "Buffer": Buffer})
    to.fields["Buffer.address"] = offset_of(Buffer, "address", HeapAllocator().alloc(1))
    to.objects.update({name: name for name in ("address", "recorder", "_call")})
    objects = list(to.objects.values())
    memory = table(objects)
    head = f"@constants = external global [{len(objects)} x ptr]\n" + DECLARATIONS
    head += "@last_thread = external global [2 x i64]\n"
    head += "declare ptr @allocate(i64)\ndeclare ptr @memcpy(ptr, ptr, i64)\n"
    parts = (*native_cells.PARTS, _address_of, _recorder, _run, _call, _traced)
    imports = {"constants": ctypes.addressof(memory), "allocate": heap.allocate_address}
    imports["last_thread"] = ctypes.addressof(last_thread)
    text = head + "\n".join([part(to) for part in parts])
    code = jit.load(text, ["call", "traced"], imports, target=host_target())
    code.keep()
    traced.__call__ = cpython.method(traced, code["traced"], "__call__", CALL_DOC)
    jit.keep_for_ever((objects, memory))
    return cpython.builtin(code["call"], "call", code)
