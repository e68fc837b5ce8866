"""Compiled graphs of another processor, linked into programs that qemu's user mode runs.

An executable holds a graph's module, the thread pool and a driver. The driver reads from its
standard input a header of i64 (`_HEADER`), the table of the entry, and the bytes of the inputs and
constants; it writes what the entry returned and the bytes of the results. Debian's packages
`qemu-user`, `binutils-aarch64-linux-gnu` and `libc6-arm64-cross` have all that is needed.
"""

import itertools
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Template

import numpy as np
import pytest

from graphc.backends.llvm import float_control, jit, pool, symbols
from graphc.backends.llvm.assemble import Compiler, Options
from graphc.backends.llvm.emit.program import FORK
from graphc.backends.llvm.image import image_of
from graphc.backends.llvm.objectfile import undefined_symbols
from graphc.backends.llvm.target import TARGETS, host_target, runs_here
from graphc.ir.dims import evaluate_dim
from graphc.ir.graph import Graph, symbols_of
from graphc.ir.interpret import as_array, bind_sizes
from graphc.passes.memory import ALIGNMENT, align

TARGET = TARGETS["aarch64"]
_LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")
_EMULATOR, _LINKER = "qemu-aarch64", "aarch64-linux-gnu-ld"
_TIMEOUT_S = 120


def missing() -> str:
    """What this machine lacks to link and run such programs; "" where it has all."""
    if host_target().arch != "x86_64":
        return f"aarch64 code is emulated on x86-64 only, not on {host_target().arch}"
    lacking = [name for name in (_EMULATOR, _LINKER) if shutil.which(name) is None]
    if not (_LIBRARIES / "libc.so.6").exists():
        lacking.append(str(_LIBRARIES / "libc.so.6"))
    if not lacking:
        return ""
    return f"no {', '.join(lacking)}: CONTRIBUTING.md says how to install them"


needed = pytest.mark.skipif(bool(missing()), reason=missing() or "all is there")
#: Levels of instructions for `parametrize` that run in an emulator, beside those that run here.
LEVELS = [] if runs_here(TARGET) else [pytest.param(TARGET.name, marks=needed)]

# Bytes of memory, of what is read into it, and where the results are and their bytes; entries of
# the table; threads of the pool; bits of the floating-point control word to set.
_HEADER = ("MEMORY", "READ", "FROM", "WRITE", "ENTRIES", "THREADS", "FLUSH")


def _transfer(name: str, call: str, end: int, code: int) -> str:
    """The text of a function that reads or writes all of some memory, or ends with the code."""
    return f"""
define internal void @{name}(ptr %memory, i64 %bytes) nounwind {{
entry:
  br label %head
head:
  %at = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %at, %bytes
  br i1 %more, label %body, label %out
body:
  %place = getelementptr i8, ptr %memory, i64 %at
  %left = sub i64 %bytes, %at
  %count = call i64 @{call}(i32 {end}, ptr %place, i64 %left)
  %next = add i64 %at, %count
  %some = icmp sgt i64 %count, 0
  br i1 %some, label %head, label %failed
failed:
  call void @_exit(i32 {code})
  unreachable
out:
  ret void
}}
"""


_DRIVER = Template(
    _transfer("get", "read", 0, 3)
    + _transfer("put", "write", 1, 4)
    + """
declare i64 @read(i32, ptr, i64)
declare i64 @write(i32, ptr, i64)
declare void @_exit(i32)
declare ptr @aligned_alloc(i64, i64)
declare i64 @run(ptr)
declare void @pool_configure(i64, i64)
declare void @pool_reset()
define void @_start() nounwind {
entry:
  %header = alloca [$COUNT x i64], align 16
  call void @get(ptr %header, i64 $HEADER_BYTES)
$LOADS
  %memory = call ptr @aligned_alloc(i64 $ALIGNMENT, i64 %MEMORY)
  %base = ptrtoint ptr %memory to i64
  %table = alloca i64, i64 %ENTRIES, align 16
  %offsets = alloca i64, i64 %ENTRIES, align 16
  %table_bytes = mul i64 %ENTRIES, 8
  call void @get(ptr %table, i64 %table_bytes)
  call void @get(ptr %offsets, i64 %table_bytes)
  call void @get(ptr %memory, i64 %READ)
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %k, %ENTRIES
  br i1 %more, label %body, label %go
body:
  %slot = getelementptr i64, ptr %table, i64 %k
  %mark = getelementptr i64, ptr %offsets, i64 %k
  %value = load i64, ptr %slot
  %is_offset = load i64, ptr %mark
  %start = mul i64 %base, %is_offset
  %entered = add i64 %value, %start
  store i64 %entered, ptr %slot
  %next = add i64 %k, 1
  br label %head
go:
  call void @pool_reset()
  call void @pool_configure(i64 %THREADS, i64 2000)
  %plain = call i32 @get_control()
  %flush = trunc i64 %FLUSH to i32
  %control = or i32 %plain, %flush
  call void @set_control(i32 %control)
  %result = call i64 @run(ptr %table)
  call void @set_control(i32 %plain)
  store i64 %result, ptr %header
  call void @put(ptr %header, i64 8)
  %results = getelementptr i8, ptr %memory, i64 %FROM
  call void @put(ptr %results, i64 %WRITE)
  call void @_exit(i32 0)
  unreachable
}
"""
)


def _driver_text() -> str:
    loads = [
        f"  %at{name} = getelementptr i64, ptr %header, i64 {k}\n"
        f"  %{name} = load i64, ptr %at{name}"
        for k, name in enumerate(_HEADER)
    ]
    count = len(_HEADER)
    filled = _DRIVER.substitute(
        COUNT=count, HEADER_BYTES=8 * count, LOADS="\n".join(loads), ALIGNMENT=ALIGNMENT
    )
    return filled + float_control.TEXT[TARGET.arch]


@cache
def _fixed_parts() -> list[bytes]:
    pool_text = pool.pool_text(TARGET.arch, "linux")
    return [jit.compile_object(text, TARGET) for text in (_driver_text(), pool_text)]


class Emulated:
    """A graph compiled for aarch64. A call runs it in an emulator of its own on numpy arrays.

    folder: where its files may be; threads: of the pool; fork: see `compile_graph`. `result` is
    what the entry returned last: 0, or the number of a check that failed.
    """

    _numbers = itertools.count()

    def __init__(self, graph: Graph, folder: Path, threads: int = 1, fork: float = FORK) -> None:
        self.graph, self.threads, self.result = graph, threads, 0
        options = Options(TARGET, exact=True, apart=False, fork=fork, threads=threads, dims={})
        compiler = Compiler(graph, "graph", options)
        compiler.run()
        self.image = image_of(compiler)
        self.path = folder / f"program{next(self._numbers)}"
        _link([jit.compile_text(compiler.text, TARGET), *_fixed_parts()], self.path)

    def __call__(self, *arrays: np.ndarray, flush: bool = False) -> list[np.ndarray]:
        """The results; flush: whether denormals are flushed to zero."""
        given = [
            np.ascontiguousarray(as_array(array, param)).reshape(np.shape(array))
            for array, param in zip(arrays, self.graph.params, strict=True)
        ]
        sizes: dict[str, int] = {}
        bind_sizes(self.graph, [array.shape for array in given], sizes)
        made = [
            np.empty([evaluate_dim(d, sizes) for d in value.type.shape], value.type.dtype.numpy)
            for value in self.graph.results
        ]
        answer = self._run(self._message(given, made, sizes, flush))
        self.result = int(np.frombuffer(answer[:8], np.int64)[0])
        at = 8
        for array in made:
            found = np.frombuffer(answer, np.uint8, array.nbytes, at)
            array.reshape(-1).view(np.uint8)[:] = found
            at += align(array.nbytes)
        return made

    def _message(
        self,
        given: Sequence[np.ndarray],
        made: Sequence[np.ndarray],
        sizes: dict[str, int],
        flush: bool,
    ) -> bytes:
        """What the driver reads: the header, the table and the bytes of inputs and constants.

        Addresses in the table are offsets into the driver's memory, which holds the inputs and
        constants, then the results, then the arena.
        """
        read = (*given, *self.image.constants)
        places = [0]
        for array in (*read, *made):
            places.append(places[-1] + align(array.nbytes))
        results, arena = places[len(read)], places[-1]
        memory = arena + align(self.image.arena_size(sizes, self.threads))
        addresses = [
            *places[: len(given)],
            *places[len(read) : -1],
            arena,
            *places[len(given) : len(read)],
        ]
        numbers = [*[sizes[name] for name in symbols_of(self.graph)], self.threads]
        marks = [1] * len(addresses) + [0] * len(numbers)
        control = float_control.FLUSH_BITS[TARGET.arch] if flush else 0
        header = [memory, results, results, arena - results, len(marks), self.threads, control]
        sent = [array.tobytes().ljust(align(array.nbytes), b"\0") for array in read]
        words = np.array([*header, *addresses, *numbers, *marks], np.int64)
        return b"".join([words.tobytes(), *sent])

    def _run(self, message: bytes) -> bytes:
        done = subprocess.run(
            [_EMULATOR, str(self.path)], input=message, capture_output=True, timeout=_TIMEOUT_S
        )
        if done.returncode:
            raise RuntimeError(f"the program ended with {done.returncode}: {done.stderr!r}")
        return done.stdout


def _link(objects: Sequence[bytes], path: Path) -> None:
    used: frozenset[str] = undefined_symbols(objects[0])
    unknown = used - symbols.ALLOWED
    assert not unknown, f"code for {TARGET.name} calls {sorted(unknown)}"
    files = []
    for k, image in enumerate(objects):
        files.append(path.with_suffix(f".{k}.o"))
        files[-1].write_bytes(image)
    libraries = ["-dynamic-linker", str(_LIBRARIES / "ld-linux-aarch64.so.1")]
    libraries += ["-rpath", str(_LIBRARIES), str(_LIBRARIES / "libc.so.6")]
    libraries += ["-rpath-link", str(_LIBRARIES)]
    command = [_LINKER, "-o", str(path), *map(str, files), *libraries]
    subprocess.run(command, check=True, capture_output=True, text=True)
