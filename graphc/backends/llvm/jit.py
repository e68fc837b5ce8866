"""IR text to an object, and objects into this process.

The text is compiled as it stands: no optimisation pass runs, and the code generator works at
its first level. Kernels print explicit vectors and tiles, which the passes would not improve.
Objects are position-independent, name their imports, hold no address, and are cached on disk.
"""

import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from graphc.backends.llvm import symbols
from graphc.backends.llvm.cache import DiskCache, cache_key
from graphc.backends.llvm.objectfile import undefined_symbols
from graphc.backends.llvm.settings import settings
from graphc.backends.llvm.target import Target, get_target, runs_here

_CODEGEN_LEVEL = 1

#: Lines of a text from which LLVM does not look for cheaper forms of its addresses: of long texts
#: this takes half of all the time, and nothing that was measured became faster.
_LONG_TEXT = 800


class CodegenError(RuntimeError):
    """IR text that LLVM rejects, or an object that calls what it must not."""


@dataclass(slots=True)
class CompileStats:
    """What compiling has cost in this process. Times are in nanoseconds."""

    compiled: int = 0
    cache_hits: int = 0
    loaded: int = 0
    lines: int = 0
    object_bytes: int = 0
    parse_ns: int = 0
    verify_ns: int = 0
    codegen_ns: int = 0
    load_ns: int = 0

    @property
    def compile_ns(self) -> int:
        """Time from text to object."""
        return self.parse_ns + self.verify_ns + self.codegen_ns

    def snapshot(self) -> "CompileStats":
        """A copy, which does not change any more."""
        return replace(self)

    def since(self, earlier: "CompileStats") -> "CompileStats":
        """What was added after `earlier`, a snapshot."""
        names = CompileStats.__dataclass_fields__
        return CompileStats(**{n: getattr(self, n) - getattr(earlier, n) for n in names})


stats = CompileStats()
object_cache = DiskCache("objects")
lock = threading.RLock()  # held around LLVM, and across a fork
_library_numbers = itertools.count()


@cache
def _llvm() -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()  # for inline assembly
    return binding


@cache
def _all_targets() -> None:
    binding = _llvm()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()


@cache
def _machine(target: Target) -> Any:
    binding = _llvm()
    if target.arch != binding.get_process_triple().partition("-")[0]:
        _all_targets()
    return binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=_CODEGEN_LEVEL,
        reloc="pic",
        codemodel="small",
    )


@cache
def _linker() -> Any:
    binding = _llvm()
    native = binding.Target.from_triple(binding.get_process_triple()).create_target_machine(
        opt=_CODEGEN_LEVEL, reloc="pic", codemodel="small"
    )
    linker = binding.create_lljit_compiler(native, use_jit_link=True)
    keep_for_ever(linker)
    return linker


def keep_for_ever(owner: object) -> None:
    """Keeps what compiled code uses: it runs until the process ends, when Python's modules, and
    with them all lists of what is to be kept, are gone."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


@contextmanager
def _timed(field: str) -> Iterator[None]:
    start = time.perf_counter_ns()
    yield
    setattr(stats, field, getattr(stats, field) + time.perf_counter_ns() - start)


@contextmanager
def _addresses_of(text: str) -> Iterator[None]:
    """Leaves out "loop strength reduction" of a long text. The option is one of the process, which
    other users of LLVM share, so it is set back at once."""
    if text.count("\n") < _LONG_TEXT:
        yield
        return
    _llvm().set_option("graphc", "-disable-lsr=true")
    try:
        yield
    finally:
        _llvm().set_option("graphc", "-disable-lsr=false")


def compile_text(text: str, target: Target | None = None) -> bytes:
    """The object for a module's text, compiled now. Raises CodegenError if LLVM rejects it."""
    target = target or get_target()
    with lock:
        machine = _machine(target)
        try:
            with _timed("parse_ns"):
                module = _llvm().parse_assembly(text, context=_llvm().create_context())
                module.triple = target.triple
                module.data_layout = str(machine.target_data)
            if settings.verify:
                with _timed("verify_ns"):
                    module.verify()
            with _timed("codegen_ns"), _addresses_of(text):
                image = machine.emit_object(module)
        except RuntimeError as error:
            raise CodegenError(f"LLVM rejects the text of a kernel: {error}") from error
        stats.compiled += 1
        stats.lines += text.count("\n")
        stats.object_bytes += len(image)
    return image


def assembly(text: str, target: Target | None = None) -> str:
    """The machine code for a module's text as assembly, for people to read."""
    target = target or get_target()
    with lock:
        machine = _machine(target)
        try:
            module = _llvm().parse_assembly(text, context=_llvm().create_context())
            module.triple = target.triple
            module.data_layout = str(machine.target_data)
            return machine.emit_assembly(module)
        except RuntimeError as error:
            raise CodegenError(f"LLVM rejects the text of a kernel: {error}") from error


def compile_object(text: str, target: Target | None = None) -> bytes:
    """The object for a module's text, from the disk if it was compiled before."""
    target = target or get_target()
    key = cache_key("object", text, target.fingerprint, str(_CODEGEN_LEVEL))
    image = object_cache.get(key)
    if image is not None:
        stats.cache_hits += 1
        return image
    image = compile_text(text, target)
    object_cache.put(key, image)
    return image


class Code:
    """Loaded machine code. It stays in memory while this handle, or code that imports it, lives.

    addresses  the exported symbols: name -> address; `code[name]` is short for it
    """

    __slots__ = ("__weakref__", "_keeps", "_tracker", "addresses")

    def __init__(
        self, addresses: Mapping[str, int], tracker: object, keeps: tuple[object, ...]
    ) -> None:
        self.addresses = addresses
        self._tracker = tracker
        self._keeps = keeps

    def __getitem__(self, name: str) -> int:
        return self.addresses[name]

    def keep(self) -> None:
        """Never unload this code."""
        keep_for_ever(self)


def load_object(
    image: bytes, exports: Iterable[str], imports: Mapping[str, "int | Code"] | None = None
) -> Code:
    """Link an object into this process.

    exports  names that it defines, whose addresses are wanted
    imports  names that it uses: an address, or the code that exports the name; those in
             `symbols.ALLOWED` need not be given

    Raises CodegenError if the object uses a name that is neither imported nor allowed.
    """
    imports = imports or {}
    used = undefined_symbols(image)
    if unknown := used - imports.keys() - symbols.ALLOWED:
        raise CodegenError(
            f"compiled code would call {', '.join(sorted(unknown))}, which it must not: "
            "the target lacks an operation that has to be expanded first"
        )
    builder = _llvm().JITLibraryBuilder().add_object_img(image)
    for name in sorted(used):
        given = imports.get(name)
        if given is None:
            address = symbols.address_of(name)
        else:
            address = given[name] if isinstance(given, Code) else given
        builder.import_symbol(name, address)
    exports = tuple(exports)
    for name in exports:
        builder.export_symbol(name)
    with lock, _timed("load_ns"):
        try:
            tracker = builder.link(_linker(), f"graphc{next(_library_numbers)}")
        except RuntimeError as error:
            raise CodegenError(f"an object cannot be linked: {error}") from error
        stats.loaded += 1
    keeps = tuple(code for code in imports.values() if isinstance(code, Code))
    return Code({name: tracker[name] for name in exports}, tracker, keeps)


def load(
    text: str,
    exports: Iterable[str],
    imports: Mapping[str, "int | Code"] | None = None,
    target: Target | None = None,
) -> Code:
    """Compile a module's text (or find it on the disk) and link it into this process.

    Raises CodegenError as `compile_text` and `load_object` do, and for a target whose
    instructions this machine does not have.
    """
    target = target or get_target()
    if not runs_here(target):
        raise CodegenError(f"this machine cannot run code for the target {target.name}")
    return load_object(compile_object(text, target), exports, imports)


def _hold_for_fork() -> None:
    """A child must not inherit a lock that a thread, which it does not have, was holding."""
    lock.acquire()
    binding = _binding_lock()
    if binding is not None:
        binding.__enter__()


def _release_after_fork() -> None:
    binding = _binding_lock()
    if binding is not None:
        binding.__exit__(None, None, None)
    lock.release()


@cache
def _binding_lock() -> Any:
    """llvmlite's own lock, which it takes around each call of LLVM. It is not public."""
    from llvmlite.binding import ffi

    return getattr(ffi.lib, "_lock", None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold_for_fork,
        after_in_parent=_release_after_fork,
        after_in_child=_release_after_fork,
    )
