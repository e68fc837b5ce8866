"""From a graph to code that runs: fusion, loops, text, memory, entry."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np

from graphc.backends.llvm import jit
from graphc.backends.llvm.emit.kernel import KernelText, print_kernel
from graphc.backends.llvm.emit.printer import Buffer, dtype_of
from graphc.backends.llvm.emit.program import FORK, Call, Copy, Program
from graphc.backends.llvm.emit.values import knows
from graphc.backends.llvm.entry import Entry, make_entry
from graphc.backends.llvm.memory import ScratchPool
from graphc.backends.llvm.pool import get_num_threads
from graphc.backends.llvm.target import Target, get_target
from graphc.ir.dims import AnyDim, Facts, evaluate_dim, product, symbol
from graphc.ir.errors import BoundsError, DivisionError, UnsupportedError
from graphc.ir.graph import Graph, Node, Value, symbols_of
from graphc.ir.interpret import as_array, bind_sizes
from graphc.ir.op import Pointwise
from graphc.ir.types import TensorType
from graphc.passes.checks import Check, add_checks
from graphc.passes.expand import expand_composites
from graphc.passes.fuse.fuse import fuse
from graphc.passes.fuse.group import NATIVE, REDUCTIONS, SCATTERS, Group, is_anchor
from graphc.passes.fuse.plan import Refusal, base_of
from graphc.passes.fuse.pull import MOVEMENT
from graphc.passes.fuse.sizes import Sizes
from graphc.passes.legalize import legalize
from graphc.passes.loop.ir import Kernel, Partial
from graphc.passes.loop.lower import lower
from graphc.passes.loop.parallel import CHUNKS
from graphc.passes.memory import ALIGNMENT, Lifetime, align, plan_memory
from graphc.passes.products import prepare_products

from . import ordering, products  # noqa: F401  (they register kernels)
from .native import NATIVE_KERNELS, native_operands

#: Nanoseconds of estimated work from which other Python threads may run during a call.
LONG_CALL = 20_000.0


@dataclass(slots=True)
class KernelReport:
    """What `explain` shows of one kernel."""

    name: str
    kind: str
    nodes: tuple[Node, ...]
    locs: tuple[str, ...]
    text: str
    bytes: AnyDim
    flops: AnyDim
    loops: Kernel | None = None


@dataclass(slots=True)
class CompileStats:
    """Nanoseconds of each part, and the size of the text."""

    fuse_ns: int = 0
    lower_ns: int = 0
    emit_ns: int = 0
    code_ns: int = 0
    lines: int = 0
    nodes: int = 0
    kernels: int = 0


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
    return prepare(graph, target, exact, name, dims, apart, fork).executable()


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
    compiler = Compiler(graph, chosen, exact, name, dims or {}, apart, fork)
    compiler.run()
    return compiler


class Compiler:
    """One compile: graph -> plan -> kernels -> program -> code."""

    def __init__(
        self,
        graph: Graph,
        target: Target,
        exact: bool,
        name: str,
        dims: Mapping[str, Facts],
        apart: bool,
        fork: float,
    ) -> None:
        self.source, self.target, self.exact, self.name = graph, target, exact, name
        self.apart, self.fork = apart, fork
        self.sizes = Sizes(dims)
        self.stats = CompileStats()
        self.calls: list[Call] = []
        self.reports: list[KernelReport] = []
        self.texts: dict[Group, KernelText] = {}

    def run(self) -> None:
        start = time.perf_counter_ns()
        prepared = prepare_products(legalize(expand_composites(self.source)))
        self.checked = add_checks(prepared)
        self.graph = self.checked.graph
        require_supported(self.graph)
        self.plan = fuse(
            self.graph,
            self.sizes,
            NATIVE_KERNELS,
            native_operands,
            self.apart,
            self.checked.needed,
            self.target.lanes(32),
        )
        fused = time.perf_counter_ns()
        self._lower()
        self.program = self._program()
        self.entry_text = self.program.entry()
        self.stats.fuse_ns = fused - start
        self.stats.emit_ns = time.perf_counter_ns() - fused
        texts = {call.name: call.module for call in self.calls} | {"": self.entry_text}
        self.stats.lines = sum([text.count("\n") for text in texts.values()])
        self.stats.nodes, self.stats.kernels = len(self.graph.nodes), len(self.calls)

    @property
    def text(self) -> str:
        """The entry and all kernels in one module."""
        return self.program.text()

    def executable(self) -> Executable:
        start = time.perf_counter_ns()
        kernels = load_kernels(self.calls, self.target)
        code = jit.load(self.entry_text, ["run"], kernels, self.target)
        self.stats.code_ns = time.perf_counter_ns() - start
        return Executable(self, self.program, code)

    # --- kernels -----------------------------------------------------------------------------

    def _lower(self) -> None:
        stored = {base_of(value) for value in self.graph.results}
        for group in self.plan.groups:
            for expr in group.table:
                if expr.op == "load":
                    stored.add(expr.payload.buffer)
            if group.kind == NATIVE and group.node is not None:
                stored.update(native_operands(group.node))
            if group.code.indexed is not None and group.code.indexed.initial is not None:
                stored.add(group.code.indexed.initial)
        self.stored = stored
        flag_of = {g.number: g.members()[0] for g in self.plan.groups if g.is_check}
        for group in self.plan.groups:
            before = frozenset([flag_of[n] for n in flag_of if group.after >> n & 1])
            if group.kind == NATIVE:
                self._native(group, before)
            else:
                self._kernels(group, before)

    def _kernels(self, group: Group, before: frozenset[Value]) -> None:
        for kernel in lower(group, f"k{len(self.calls)}", self.stored, self.target.lanes(32)):
            text = print_kernel(kernel, self.target, self.sizes)
            writes = frozenset(kernel.writes)
            call = Call(
                text.name,
                text.functions,
                text.declares,
                text.buffers,
                [symbol(name) for name in text.symbols],
                text.units,
                text.unit,
                text.scratch,
                frozenset(text.buffers) - writes | before,
                writes,
                kernel.work,
            )
            self._add(call, kernel.kind, tuple(nodes_of(group)), kernel)

    def _native(self, group: Group, before: frozenset[Value]) -> None:
        node = group.node
        assert node is not None
        built = NATIVE_KERNELS[node.op.name](node, self.target)
        kernel = built.kernel
        writes = frozenset(node.outputs)
        call = Call(
            kernel.name,
            kernel.functions,
            kernel.declares,
            tuple(built.buffers),
            built.sizes,
            kernel.units if built.units is None else built.units,
            1,
            kernel.scratch_bytes if built.scratch is None else built.scratch,
            frozenset(built.buffers) - writes | before,
            writes,
            built.work,
        )
        self._add(call, node.op.name, (node,), None)

    def _add(self, call: Call, kind: str, nodes: tuple[Node, ...], loops: Kernel | None) -> None:
        self.calls.append(call)
        text = "\n".join([text for _, text in call.functions])
        locs = tuple(dict.fromkeys([node.loc for node in nodes if node.loc]))
        size: AnyDim = 0
        for buffer in (*call.reads, *call.writes):
            size = size + buffer_bytes(buffer)
        flops: AnyDim = 0
        for node in nodes:
            if isinstance(node.op, Pointwise):
                flops = flops + product(node.outputs[0].type.shape)
            elif is_anchor(node):
                flops = flops + product(node.inputs[0].type.shape)
        self.reports.append(KernelReport(call.name, kind, nodes, locs, text, size, flops, loops))

    # --- program -----------------------------------------------------------------------------

    def _program(self) -> Program:
        graph, source = self.graph, self.source
        table: dict[Buffer, int] = {}
        for value in graph.params:
            table.setdefault(value, len(table))
        assert len(table) == len(source.params), "a parameter stands twice"
        outputs = len(source.params)
        copies = []
        for number, value in enumerate(graph.results[: len(source.results)]):
            base = base_of(value)
            if base.node is None or base in table or base.node.op.name == "const":
                copies.append(Copy(base, outputs + number, buffer_bytes(base)))
            else:
                table[base] = outputs + number
        arena_position = outputs + len(source.results)
        self.constants: list[np.ndarray] = []
        for node in graph.nodes:
            if node.op.name == "const":
                table[node.outputs[0]] = arena_position + 1 + len(self.constants)
                self.constants.append(node.attrs["data"].array)
        first_symbol = arena_position + 1 + len(self.constants)
        symbols = {name: first_symbol + k for k, name in enumerate(symbols_of(source))}
        regions = form_regions(self.calls)
        flags = {check.flag: k + 1 for k, check in enumerate(self.checked.checks)}
        keep = {copy.source for copy in copies}
        self.arena = plan_memory(lifetimes_of(regions, table, keep))
        return Program(
            regions,
            table,
            arena_position,
            self.arena,
            symbols,
            first_symbol + len(symbols),
            self.sizes.quotient_symbols,
            flags,
            copies,
            self.fork,
        )


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
            code = _kernels[key] = jit.load(call.module, call.exports, target=target)
        found.update(dict.fromkeys(call.exports, code))
    return found


def require_supported(graph: Graph) -> None:
    """Raises UnsupportedError for the first node that has no lowering."""
    for node in graph.nodes:
        name = node.op.name
        if name in NATIVE_KERNELS or name in MOVEMENT or is_anchor_name(node):
            problem = ""
        elif isinstance(node.op, Pointwise) and knows(name):
            problem = ""
        else:
            problem = f"the CPU backend has no code for {name}"
        for value in (*node.inputs, *node.outputs):
            if not isinstance(value.type, TensorType):
                problem = f"{name} has an operand of type {value.type.text}"
            elif value.type.dtype.kind == "c" or value.type.dtype.name.startswith("f8"):
                problem = f"the CPU backend has no code for {name} of {value.type.text}"
        if problem:
            raise UnsupportedError(problem, at=node.loc)


def is_anchor_name(node: Node) -> bool:
    return node.op.name in ANCHOR_NAMES


ANCHOR_NAMES = frozenset([*REDUCTIONS, *SCATTERS, "cumulative"])


def nodes_of(group: Group) -> list[Node]:
    """The nodes whose values a group computes."""
    found = [value.node for value in [*group.members(), *group.pulled] if value.node is not None]
    return list(dict.fromkeys(found))


def buffer_bytes(buffer: Buffer) -> AnyDim:
    if isinstance(buffer, Partial):
        return buffer.lines * buffer.columns * buffer.dtype.itemsize
    return product(buffer.type.shape) * dtype_of(buffer).itemsize


def form_regions(calls: Sequence[Call]) -> list[list[Call]]:
    """Neighbouring kernels that do not touch what another of them writes."""
    regions: list[list[Call]] = []
    read: set[Buffer] = set()
    written: set[Buffer] = set()
    for call in calls:
        conflict = not (
            written.isdisjoint(call.reads)
            and written.isdisjoint(call.writes)
            and read.isdisjoint(call.writes)
        )
        if conflict or not regions:
            regions.append([])
            read, written = set(), set()
        regions[-1].append(call)
        read |= call.reads
        written |= call.writes
    return regions


def lifetimes_of(
    regions: Sequence[Sequence[Call]], table: Mapping[Buffer, int], keep: set[Buffer]
) -> list[Lifetime]:
    """The buffers of the arena, from the region that writes them to the last that reads them."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, region in enumerate(regions):
        for call in region:
            for buffer in (*call.writes, *call.reads):
                if buffer not in table:
                    first.setdefault(buffer, number)
                    last[buffer] = number
    end = len(regions)
    return [
        Lifetime(buffer, buffer_bytes(buffer), start, end if buffer in keep else last[buffer])
        for buffer, start in first.items()
    ]


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
        self._checks: list[Check] = compiler.checked.checks
        self._constants = compiler.constants
        self.constant_addresses = tuple([array.ctypes.data for array in self._constants])
        self._slots, self._quotients = program.arena.slots, program.quotients
        self._scratch = [call.scratch for region in program.regions for call in region]
        self._arenas: dict[tuple[int, ...], ScratchPool] = {}
        pointers = len(compiler.source.params) + len(compiler.source.results)
        pointers += 1 + len(self._constants)
        self.threads = min(CHUNKS, get_num_threads())
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
