"""From a graph to code that runs: fusion, loops, text, memory, entry."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from weakref import WeakValueDictionary

import numpy as np

from graphc.backends.llvm import jit
from graphc.backends.llvm.assemble import Compiler, KernelReport, Options, nodes_of
from graphc.backends.llvm.emit.program import FORK, Call, Program
from graphc.backends.llvm.entry import Entry, make_entry
from graphc.backends.llvm.memory import ScratchPool
from graphc.backends.llvm.pool import get_num_threads
from graphc.backends.llvm.target import Target, get_target
from graphc.ir.dims import Facts, evaluate_dim
from graphc.ir.errors import BoundsError, DivisionError
from graphc.ir.graph import Graph, symbols_of
from graphc.ir.interpret import as_array, bind_sizes
from graphc.passes.checks import Check
from graphc.passes.fuse.plan import Refusal
from graphc.passes.loop.parallel import CHUNKS
from graphc.passes.memory import ALIGNMENT, align

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
) -> Executable:
    """Compiles a graph of tensors for the CPU.

    dims: facts of symbolic dims. apart: no fusion (results have the same bits). fork: nanoseconds
    of estimated work from which a region of kernels runs on several threads. Raises
    UnsupportedError, with the op and its line, for what has no lowering.
    """
    return load(prepare(graph, target, exact, name, dims, apart, fork))


def prepare(
    graph: Graph,
    target: Target | str | None = None,
    exact: bool = True,
    name: str = "graph",
    dims: Mapping[str, Facts] | None = None,
    apart: bool = False,
    fork: float = FORK,
) -> Compiler:
    """A compile up to the text: its plan, kernels and text, for any target. See `compile_graph`."""
    chosen = target if isinstance(target, Target) else get_target(target)
    threads = min(CHUNKS, get_num_threads())
    options = Options(chosen, exact, apart, fork, threads, dims or {})
    compiler = Compiler(graph, name, options)
    compiler.run()
    return compiler


def load(compiler: Compiler) -> Executable:
    """The machine code of a compile. Raises CodegenError for the target of another machine."""
    start = time.perf_counter_ns()
    kernels = load_kernels(compiler.calls, compiler.target)
    code = jit.load(compiler.entry_text, ["run"], kernels, compiler.target)
    compiler.stats.code_ns = time.perf_counter_ns() - start
    return Executable(compiler, compiler.program, code)


_kernels: WeakValueDictionary[tuple[str, str], jit.Code] = WeakValueDictionary()


def load_kernels(calls: Sequence[Call], target: Target) -> dict[str, jit.Code]:
    """The machine code of kernels, by exported name. Each distinct text is compiled once."""
    found: dict[str, jit.Code] = {}
    for call in calls:
        if call.name in found:
            continue
        key = (call.name, target.fingerprint)
        code = _kernels.get(key)
        if code is None:
            blocks = {block.name: load_block(block, target) for block in call.blocks}
            code = jit.load(call.module, call.exports, blocks, target)
            _kernels[key] = code
        found.update(dict.fromkeys(call.exports, code))
    return found


def load_block(program: Program, target: Target) -> jit.Code:
    """The machine code of the program of a block."""
    calls = [call for region in program.regions for call in region]
    return jit.load(program.entry(), [program.name], load_kernels(calls, target), target)


class Executable:
    """A compiled graph.

    kernels: what each kernel is; refusals: edges that were not fused, with reasons and bytes;
    arena_bytes: memory of one call (of a static graph); compile_stats: where the time went.
    entry: the builtin, called with the addresses of inputs, outputs, arena and constants
    (`constant_addresses`), then the sizes and `threads`; it returns None, or the number of a
    failed check, which `raise_failure` turns into the error.
    """

    def __init__(self, compiler: Compiler, program: Program, code: jit.Code) -> None:
        self.name, self.target, self._program = compiler.name, compiler.target, program
        self.kernels: list[KernelReport] = compiler.reports
        self.refusals: list[Refusal] = compiler.plan.refusals
        self.compile_stats = compiler.stats
        self._source, self._params = compiler.source, compiler.source.params
        self.symbols = symbols_of(compiler.source)
        self._checks: list[Check] = compiler.checks
        self._constants = compiler.constants
        self.constant_addresses = tuple([array.ctypes.data for array in self._constants])
        self._slots, self._quotients = program.arena.slots, program.quotients
        self._scratch = [call.scratch for region in program.regions for call in region]
        self._arenas: dict[tuple[int, ...], ScratchPool] = {}
        pointers = len(compiler.source.params) + len(compiler.source.results)
        pointers += 1 + len(self._constants)
        self.threads = compiler.options.threads
        work = sum([call.work for region in program.regions for call in region])
        self.entry: Entry = make_entry(
            code,
            "run",
            pointers,
            len(self.symbols) + 1,
            self.name,
            release_gil=work > LONG_CALL,
        )

    @property
    def text(self) -> str:
        """The LLVM text of the entry and all kernels in one module."""
        return self._program.text()

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena of a graph without symbolic dims."""
        return self.arena_size(())

    def arena_size(self, sizes: Sequence[int]) -> int:
        """Bytes of the arena, scratch included, where the symbols have these sizes."""
        env = dict(zip(self.symbols, sizes, strict=True))
        for name, (dividend, divisor) in self._quotients.items():
            env[name] = evaluate_dim(dividend, env) // divisor
        total = sum([align(evaluate_dim(slot, env)) for slot in self._slots])
        scratch = max([evaluate_dim(size, env) for size in self._scratch], default=0)
        return total + align(scratch) * self.threads + ALIGNMENT

    def arena(self, sizes: Sequence[int] = ()) -> ScratchPool:
        """The arenas for calls with these sizes; each call leases one."""
        key = tuple(sizes)
        found = self._arenas.get(key)
        if found is None:
            found = self._arenas[key] = ScratchPool(self.arena_size(key))
        return found

    def run(self, inputs: Sequence[int], outputs: Sequence[int], sizes: Sequence[int] = ()) -> None:
        """Runs on contiguous row-major tensors given by address.

        sizes: of the symbols of the parameters' shapes, in the order of `symbols`. Raises
        BoundsError for an index out of range and DivisionError for an integer division by zero.
        """
        pool = self.arena(sizes)
        arena = pool.take()
        try:
            failed = self.entry(
                *inputs,
                *outputs,
                arena.address,
                *self.constant_addresses,
                *sizes,
                self.threads,
            )
        finally:
            pool.give(arena)
        if failed is not None:
            self.raise_failure(failed)

    def raise_failure(self, number: int) -> None:
        """Raises the error of the check of that number."""
        check = self._checks[number - 1]
        if check.kind == "division":
            raise DivisionError("ZeroDivisionError", at=check.node.loc)
        raise BoundsError(
            f"an index is out of bounds for dimension {check.node.attrs['axis']} "
            f"with size {check.size} in {check.node.op.name}",
            at=check.node.loc,
        )

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Runs on numpy arrays and returns new ones; for tests and tools."""
        given = [
            np.ascontiguousarray(as_array(array, param)).reshape(np.shape(array))
            for array, param in zip(arrays, self._params, strict=True)
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
