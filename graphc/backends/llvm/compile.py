"""From a graph to code that runs: fusion, loops, text, memory, entry."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Mapping, Sequence
from itertools import starmap

import numpy as np

from graphc.backends.llvm.assemble import Compiler, CompileStats, KernelReport, Options, nodes_of
from graphc.backends.llvm.emit.program import FORK
from graphc.backends.llvm.entry import Entry, make_entry
from graphc.backends.llvm.image import (
    ENTRY,
    Image,
    find_image,
    image_key,
    image_of,
    keep_image,
    load_image,
)
from graphc.backends.llvm.memory import ScratchPool
from graphc.backends.llvm.pool import default_threads
from graphc.backends.llvm.settings import settings
from graphc.backends.llvm.target import Target, get_target
from graphc.ir.build import dead_code
from graphc.ir.dims import Facts, evaluate_dim
from graphc.ir.errors import AssertError, BoundsError, DivisionError, GraphcError
from graphc.ir.graph import Graph, symbols_of
from graphc.ir.interpret import as_array, bind_sizes, evaluate
from graphc.passes.checks import Check
from graphc.passes.fuse.plan import Refusal
from graphc.passes.loop.parallel import CHUNKS

#: Nanoseconds of estimated work from which other Python threads may run during a call.
LONG_CALL = 20_000.0


def compile_graph(
    graph: Graph,
    *,
    target: Target | str | None = None,
    exact: bool = True,
    name: str = "graph",
    dims: Mapping[str, Facts] | None = None,
    apart: bool = False,
    fork: float = FORK,
    sizes: Mapping[str, int] | None = None,
) -> Executable:
    """Compiles a graph of tensors for the CPU.

    dims: facts of symbolic dims. apart: no fusion (results have the same bits). fork: nanoseconds
    of estimated work from which a region of kernels runs on several threads. sizes: of symbols,
    with which kernels are tuned where `settings.autotune` is on. Raises
    UnsupportedError, with the op and its line, for what has no lowering.
    """
    options = _options(target, exact, dims, apart, fork, sizes)
    key = image_key(graph, options)
    image = find_image(key)
    if image is not None:
        return Executable(graph, name, options, image)
    compiler = Compiler(graph, name, options)
    compiler.run()
    made = load(compiler)
    keep_image(key, made.image)
    return made


def _options(
    target: Target | str | None,
    exact: bool,
    dims: Mapping[str, Facts] | None,
    apart: bool,
    fork: float,
    sizes: Mapping[str, int] | None = None,
) -> Options:
    chosen = target if isinstance(target, Target) else get_target(target)
    tune = (sizes or {}) if settings.autotune else None
    threads = _threads(settings.num_threads)
    return Options(chosen, exact, apart, fork, threads, dims or {}, tune)


def _threads(setting: int) -> int:
    """How many threads a call may use: a kernel is cut into no more than CHUNKS."""
    return min(CHUNKS, setting or default_threads())


def prepare(
    graph: Graph,
    target: Target | str | None = None,
    exact: bool = True,
    name: str = "graph",
    dims: Mapping[str, Facts] | None = None,
    apart: bool = False,
    fork: float = FORK,
    sizes: Mapping[str, int] | None = None,
) -> Compiler:
    """A compile up to the text: its plan, kernels and text, for any target. See `compile_graph`."""
    compiler = Compiler(graph, name, _options(target, exact, dims, apart, fork, sizes))
    compiler.run()
    return compiler


def load(compiler: Compiler) -> Executable:
    """The machine code of a compile. Raises CodegenError for the target of another machine."""
    return Executable(
        compiler.source, compiler.name, compiler.options, image_of(compiler), compiler
    )


class Executable:
    """A compiled graph. A call runs on as many threads as `settings.num_threads` says by then.

    kernels: what each kernel is; refusals: edges that were not fused, with reasons and bytes;
    arena_bytes: memory of one call (of a static graph); compile_stats: where the time went.
    entry: the builtin, called with the addresses of inputs, outputs, arena and constants
    (`constant_addresses`), then the sizes and the threads that the arena has scratch for; it
    returns None, or the number of a failed check, which `raise_failure` turns into the error.
    code_address: of the function behind it, which takes a table of the same; releases_lock: whether
    other Python threads run meanwhile.
    given: (result, parameter) where a caller may pass one address for both, and loses the argument.
    """

    def __init__(
        self,
        graph: Graph,
        name: str,
        options: Options,
        image: Image,
        compiler: Compiler | None = None,
    ) -> None:
        self.name, self.target, self.image = name, options.target, image
        self.symbols = symbols_of(graph)
        self.constant_addresses = tuple([array.ctypes.data for array in image.constants])
        self._source, self._options, self._compiler = graph, options, compiler
        # By sizes and the number of threads; where there are no symbols by the number alone.
        self._arenas: dict[int | tuple[int, ...], ScratchPool] = {}
        self._arenas_threads = 0
        start = time.perf_counter_ns()
        code = load_image(image, options.target)
        self._code_ns = time.perf_counter_ns() - start
        self.code_address = code[ENTRY]
        self.releases_lock = image.work > LONG_CALL
        self.given: Sequence[tuple[int, int]] = image.given
        pointers = len(graph.params) + len(graph.results) + 1 + len(image.constants)
        self.entry: Entry = make_entry(
            code,
            ENTRY,
            pointers,
            len(self.symbols) + 1,
            name,
            release_gil=self.releases_lock,
        )

    @property
    def compiler(self) -> Compiler:
        """The compile, done again where the code came from the disk."""
        if self._compiler is None:
            self._compiler = Compiler(self._source, self.name, self._options)
            self._compiler.run()
        return self._compiler

    @property
    def kernels(self) -> list[KernelReport]:
        return self.compiler.reports

    @property
    def refusals(self) -> list[Refusal]:
        return self.compiler.plan.refusals

    @property
    def compile_stats(self) -> CompileStats:
        stats = self.compiler.stats
        stats.code_ns = self._code_ns
        return stats

    @property
    def text(self) -> str:
        """The LLVM text of the entry and all kernels in one module."""
        return self.compiler.text

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena of a graph without symbolic dims."""
        return self.arena_size(())

    def arena_size(self, sizes: Sequence[int]) -> int:
        """Bytes of the arena, scratch included, where the symbols have these sizes."""
        return self._arena_size(sizes, _threads(settings.num_threads))

    def _arena_size(self, sizes: Sequence[int], threads: int) -> int:
        return self.image.arena_size(dict(zip(self.symbols, sizes, strict=True)), threads)

    def arena(self, sizes: Sequence[int] = ()) -> ScratchPool:
        """The arenas for calls with these sizes on as many threads as there are now; each call
        leases one."""
        count = settings.num_threads
        key = (*sizes, count) if sizes else count
        found = self._arenas.get(key)
        if found is None:
            if count != self._arenas_threads:  # the others' memory is not wanted any more
                self._arenas, self._arenas_threads = {}, count
            threads = _threads(count)
            nbytes = self._arena_size(sizes, threads)
            found = self._arenas[key] = ScratchPool(nbytes, threads=threads)
        return found

    def run(self, inputs: Sequence[int], outputs: Sequence[int], sizes: Sequence[int] = ()) -> None:
        """Runs on contiguous row-major tensors given by address.

        sizes: of the symbols of the parameters' shapes, in the order of `symbols`. Raises
        BoundsError for an index out of range, DivisionError for an integer division by zero and
        AssertError where an assert of the graph does not hold.
        """
        pool = self._arenas.get(settings.num_threads) if not sizes else None  # nearly all calls
        if pool is None:
            pool = self.arena(sizes)
        arena = pool.take()
        try:
            failed = self.entry(
                *inputs,
                *outputs,
                arena.address,
                *self.constant_addresses,
                *sizes,
                pool.threads,
            )
        finally:
            pool.give(arena)
        if failed is not None:
            self.raise_failure(failed, inputs, sizes)

    def run_over(
        self, inputs: Sequence[int], outputs: Sequence[int], written: list[object]
    ) -> None:
        """As `run` of a static graph, some outputs being inputs of `given`.

        Such a graph checks nothing. Whatever is raised, an interrupt for one, `written` has an
        element if the results are there, and is empty if the inputs are as they were.
        """
        pool = self.arena()
        arena = pool.take()
        arguments = (
            *inputs, *outputs, arena.address, *self.constant_addresses, pool.threads,
        )  # fmt: skip
        try:
            written.extend(starmap(self.entry, (arguments,)))  # no interrupt comes in between
        finally:
            pool.give(arena)

    def raise_failure(self, number: int, inputs: Sequence[int], sizes: Sequence[int]) -> None:
        """Raises the error of the check of that number, in a call with these inputs and sizes."""
        check = self.compiler.checks[number - 1]
        if check.kind == "division":
            raise DivisionError("ZeroDivisionError", at=check.node.loc)
        if check.kind == "assert":
            raise AssertError(check.node.attrs["text"], at=check.node.loc)
        size, index = check.size, "an index"
        if check in self.compiler.checked.checks:  # those of blocks have sizes of their own
            known = dict(zip(self.symbols, sizes, strict=True))
            size = evaluate_dim(check.size, known)
            index = self._wrong_index(check, size, inputs, known)
        raise BoundsError(
            f"{index} is out of bounds for dimension {check.node.attrs['axis']} with size {size} "
            f"in {check.node.op.name}",
            at=check.node.loc,
        )

    def _wrong_index(
        self, check: Check, size: int, inputs: Sequence[int], sizes: Mapping[str, int]
    ) -> str:
        """The first index outside of [0, size), which the interpreter finds."""
        whole = self.compiler.graph
        graph = dead_code(Graph(whole.params, whole.nodes, [check.index]))
        arrays = []
        for address, param in zip(inputs, graph.params, strict=True):
            shape = [evaluate_dim(d, sizes) for d in param.type.shape]
            dtype = param.type.dtype.numpy
            memory = (ctypes.c_byte * (math.prod(shape) * dtype.itemsize)).from_address(address)
            arrays.append(np.frombuffer(memory, dtype).reshape(shape))
        try:
            (found,) = evaluate(graph, *arrays)
        except (GraphcError, IndexError):  # another index, on which this one depends
            return "an index"
        wrong = found[(found < 0) | (found >= size)]
        return f"index {wrong.flat[0]}" if wrong.size else "an index"

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Runs on numpy arrays and returns new ones; for tests and tools."""
        given = [
            np.ascontiguousarray(as_array(array, param)).reshape(np.shape(array))
            for array, param in zip(arrays, self._source.params, strict=True)
        ]
        sizes: dict[str, int] = {}
        bind_sizes(self._source, [array.shape for array in given], sizes)
        made = [
            np.empty([evaluate_dim(d, sizes) for d in value.type.shape], value.type.dtype.numpy)
            for value in self._source.results
        ]
        self.run(
            [array.ctypes.data for array in given],
            [array.ctypes.data for array in made],
            [sizes[name] for name in self.symbols],
        )
        return made


__all__ = ["Compiler", "Executable", "KernelReport", "compile_graph", "load", "nodes_of", "prepare"]
