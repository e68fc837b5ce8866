"""Numeric verification of compiled code: every kernel against the reference interpreter.

A kernel is called on what the interpreter computed, in memory of its own: operands and results
stand between guards of nan, results and scratch begin as nan. So it shows when a kernel reads or
writes beside its buffers, leaves an element out, or computes another value: a wrong index, halo,
overlap or tail mask. It runs whole, and in the pieces that threads would take; and, where it may
write a result over an operand, once more for each such pair, which has to give the same bits. Then
the program runs as one, in an arena of nan, and the memory plan is checked by itself.

Symbolic sizes are small ones, then ones longer than vectors.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.backends.llvm import jit
from graphc.backends.llvm.assemble import Compiler, KernelReport
from graphc.backends.llvm.compile import Executable, load, prepare
from graphc.backends.llvm.emit.printer import Buffer
from graphc.backends.llvm.emit.program import THREADS, Call
from graphc.backends.llvm.guarded import Guarded
from graphc.backends.llvm.image import ENTRY, image_of
from graphc.backends.llvm.program_check import check_program
from graphc.backends.llvm.regions import buffer_bytes
from graphc.ir.dims import AnyDim, Dim, Facts, evaluate_dim
from graphc.ir.errors import GraphcError, VerifyError
from graphc.ir.graph import Graph, Node, Value
from graphc.passes.loop.ir import BlockStep, Partial, RowBlock, rows_per_block
from graphc.passes.loop.parallel import CHUNKS
from graphc.passes.numeric import Samples, all_values, sample_inputs
from graphc.passes.sensitivity import Room

log = logging.getLogger("graphc.verify")

#: Sizes of symbolic dims in the second run: a vector and a rest, and more than one vector.
LONG_SIZES = (37, 19, 66, 23, 50)


def compile_verified(
    graph: Graph,
    *,
    numeric: bool = True,
    name: str = "graph",
    dims: Mapping[str, Facts] | None = None,
    exact: bool = True,
    sizes: Mapping[str, int] | None = None,
) -> Executable:
    """As `compile_graph`, with the plan checked and (`numeric`) every kernel run.

    VerifyError names the kernel, the node and the source line that are wrong.
    """
    compiler = prepare(graph, exact=exact, name=name, dims=dims, sizes=sizes)
    check_program(compiler.program)
    executable = load(compiler)
    if numeric:
        for sample in _samples(graph, dims or {}):
            _check_on(compiler, executable, sample)
    return executable


def _samples(graph: Graph, dims: Mapping[str, Facts]) -> Iterator[Samples]:
    small = sample_inputs(graph, dims)
    yield small
    if small.sizes:
        yield sample_inputs(graph, dims, small=LONG_SIZES)


def _check_on(compiler: Compiler, executable: Executable, samples: Samples) -> None:
    within = Samples(tuple([_as_real(array) for array in samples.arrays]), samples.sizes)
    try:
        meant = all_values(compiler.source, samples)
        known = all_values(compiler.graph, within)
    except (GraphcError, ArithmeticError, ValueError, IndexError) as error:
        log.warning("numeric verification of kernels did not run: %s", error)
        return
    _check_rewrites(compiler, samples, meant, known)
    wrong = KernelCheck(compiler, known, samples.sizes).first_wrong()
    if wrong is None:
        wrong = _program_wrong(compiler, executable, samples, known)
    if wrong is not None:
        raise wrong.error(compiler, known, samples.sizes)


def _as_real(array: Any) -> Any:
    """Complex numbers as kernels see them: pairs along a last axis."""
    if not isinstance(array, np.ndarray) or array.dtype.kind != "c":
        return array
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(array.real.dtype).reshape(*array.shape, 2)


def _check_rewrites(
    compiler: Compiler, samples: Samples, meant: Mapping[Value, Any], known: Mapping[Value, Any]
) -> None:
    """What the backend itself rewrites, before it fuses."""
    source = compiler.source
    room = Room(source.nodes, meant, samples.sizes)
    for number, (was, now) in enumerate(zip(source.results, compiler.graph.results)):
        found = known[now]
        if was.type.dtype.kind == "c":
            found = np.ascontiguousarray(found).view(was.type.dtype.numpy)[..., 0]
        at = room.first_outside(was, found)
        if at is not None:
            raise VerifyError(
                f"the backend's rewrites change result {number} ({_op_of(was)}): the graph "
                f"{_difference(meant[was], found, at)}",
                at=was.node.loc if was.node else "",
            )


def _op_of(value: Value) -> str:
    return value.node.op.name if value.node is not None else "a parameter"


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a kernel (None: with the program), and the value on which it shows."""

    report: KernelReport | None
    value: Value | None
    problem: str

    def error(
        self, compiler: Compiler, known: Mapping[Value, Any], sizes: Mapping[str, int]
    ) -> VerifyError:
        if self.report is None:
            node = self.value.node if self.value is not None else None
            what = "all kernels are right, but the program as a whole (its memory plan or order)"
            return VerifyError(f"{what} {self.problem}", at=node.loc if node else "")
        node = self._origin(compiler, known, sizes)
        count = len(self.report.nodes)
        nodes = ", ".join(dict.fromkeys([n.op.name for n in self.report.nodes][:12]))
        message = f"the kernel {self.report.name} ({count} nodes: {nodes}) {self.problem}"
        loc = "\n".join(self.report.locs[:3])
        if node is not None:
            at = compiler.graph.nodes.index(node) if node in compiler.graph.nodes else -1
            message += f"\nfirst at node {at} ({node.op.name})"
            loc = node.loc
        return VerifyError(message, at=loc, hint="The graph before fusion is right.")

    def _origin(
        self, compiler: Compiler, known: Mapping[Value, Any], sizes: Mapping[str, int]
    ) -> Node | None:
        """The first node of the kernel that is wrong by itself, else the one that shows it."""
        assert self.report is not None
        place = {node: k for k, node in enumerate(compiler.graph.nodes)}
        for node in sorted(self.report.nodes, key=lambda n: place.get(n, -1)):
            if node.inputs and is_wrong_alone(compiler, node, known, sizes):
                return node
        return self.value.node if self.value is not None else None


def is_wrong_alone(
    compiler: Compiler, node: Node, known: Mapping[Value, Any], sizes: Mapping[str, int]
) -> bool:
    """Whether a kernel of this node only is wrong as well."""
    operands = list(dict.fromkeys(node.inputs))
    params = {v: Value(v.type, name=f"x{k}") for k, v in enumerate(operands)}
    types = [v.type for v in node.outputs]
    inputs = tuple([params[v] for v in node.inputs])
    alone = Node(node.op, inputs, types, node.attrs, node.blocks, node.loc)
    graph = Graph(list(params.values()), [alone], list(alone.outputs))
    try:
        small = Compiler(graph, "alone", compiler.options)
        small.run()
        arrays = Samples(tuple([known[v] for v in operands]), sizes)
        values = all_values(small.graph, arrays)
        return KernelCheck(small, values, sizes).first_wrong() is not None
    except (GraphcError, ArithmeticError, ValueError, IndexError, NotImplementedError):
        return False  # it has no kernel by itself, or cannot be evaluated


def _program_wrong(
    compiler: Compiler, executable: Executable, samples: Samples, known: Mapping[Value, Any]
) -> Wrong | None:
    """Runs the whole program in an arena of nan."""
    pool = executable.arena([samples.sizes[name] for name in executable.symbols])
    arena = pool.take()
    np.asarray(arena)[...] = 255
    pool.give(arena)
    if not all([isinstance(array, np.ndarray) for array in samples.arrays]):
        return None
    try:
        found = executable(*samples.arrays)
    except (IndexError, RuntimeError) as error:
        return Wrong(None, None, f"fails: {error}")
    room = Room(compiler.graph.nodes, known, samples.sizes)
    for value, array in zip(compiler.graph.results, found):
        within = _as_real(array)
        at = room.first_outside(value, within)
        if at is not None:
            return Wrong(None, value, _difference(known[value], within, at))
    return None


def _difference(was: np.ndarray, found: np.ndarray, at: int) -> str:
    place = [int(n) for n in np.unravel_index(at, was.shape)] if was.shape else []
    return f"computes {np.ravel(found)[at]} instead of {np.ravel(was)[at]} at {place}"


class KernelCheck:
    """Runs the kernels of a compile one by one on known values."""

    def __init__(
        self, compiler: Compiler, known: Mapping[Value, Any], sizes: Mapping[str, int]
    ) -> None:
        self.compiler, self.known = compiler, known
        self.sizes = {**sizes, str(THREADS): 1}
        for name, (dividend, divisor) in compiler.program.quotients.items():
            self.sizes[name] = evaluate_dim(dividend, self.sizes) // divisor
        self.codes = _codes(compiler)
        self.partials: dict[Partial, np.ndarray] = {}

    def first_wrong(self) -> Wrong | None:
        """The first kernel that is wrong, and how."""
        for call, report in zip(self.compiler.calls, self.compiler.reports, strict=True):
            whole = self._run(call, pieces=False)
            wrong = self._look(call, report, whole)
            if wrong is None and self._units(call) > 1:
                wrong = self._look(call, report, self._run(call, pieces=True))
            wrong = wrong or self._in_place(call, report, whole)
            if wrong is not None:
                return wrong
            for buffer in call.writes:
                if isinstance(buffer, Partial):
                    self.partials[buffer] = whole[buffer].bytes
        return None

    def _in_place(
        self, call: Call, report: KernelReport, apart: Mapping[Buffer, Guarded]
    ) -> Wrong | None:
        """Whether each result may lie where one of the operands lies that `over` names for it."""
        for pair in call.over:
            memory = self._run(call, pieces=True, over=pair)
            for buffer in call.writes:
                if memory[buffer].is_broken():
                    problem = "writes beside its buffers, one of them an operand's"
                elif memory[buffer].bytes.tobytes() != apart[buffer].bytes.tobytes():
                    problem = f"computes other values where it writes over {_name(pair[1])}"
                else:
                    continue
                return Wrong(report, buffer if isinstance(buffer, Value) else None, problem)
        return None

    def _look(
        self, call: Call, report: KernelReport, memory: Mapping[Buffer, Guarded]
    ) -> Wrong | None:
        for buffer, guarded in memory.items():
            value = buffer if isinstance(buffer, Value) else None
            if guarded.is_broken():
                return Wrong(report, value, "writes beside its buffers")
            if buffer not in call.writes and guarded.has_changed():
                return Wrong(report, value, "writes to what it only reads")
        nodes = [n for n in report.nodes if not all([v in call.reads for v in n.outputs])]
        place = {node: k for k, node in enumerate(self.compiler.graph.nodes)}
        room = Room(sorted(nodes, key=place.__getitem__), self.known, self.sizes)
        for buffer in call.buffers:
            if buffer in call.writes and isinstance(buffer, Value):
                was = self.known[buffer]
                found = memory[buffer].array(was.dtype, was.shape)
                at = room.first_outside(buffer, found)
                if at is not None:
                    return Wrong(report, buffer, _difference(was, found, at))
        return None

    def _size(self, size: AnyDim) -> int:
        return evaluate_dim(size, self.sizes)

    def _units(self, call: Call) -> int:
        if not isinstance(call.units, str):
            return self._size(call.units)
        sizes = [self._size(size) for size in call.sizes]
        address = self.codes[call.name][call.units]
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(sizes))
        return kind(address)(*sizes)

    def _unit(self, call: Call) -> int:
        """How many units stay together."""
        unit = call.unit
        if isinstance(unit, RowBlock):
            return rows_per_block(self._size(unit.rows))
        if isinstance(unit, BlockStep):
            size = self._size(unit.size)
            return max(1, size if size < unit.limit else unit.block)
        if not isinstance(unit, int | Dim):
            raise AssertionError(f"a kernel is cut at {unit}")
        return max(1, self._size(unit))

    def _run(
        self, call: Call, pieces: bool, over: tuple[Buffer, Buffer] | None = None
    ) -> dict[Buffer, Guarded]:
        """The memory of all buffers after a call; over: (result, operand) that share theirs."""
        memory = {buffer: self._memory(call, buffer) for buffer in call.buffers}
        if over is not None:
            memory[over[0]] = memory[over[1]]
        scratch = Guarded(self._size(call.scratch))
        pointers = [memory[buffer].address for buffer in call.buffers]
        sizes = [self._size(size) for size in call.sizes]
        kinds = [ctypes.c_void_p] * (len(pointers) + 1) + [ctypes.c_int64] * (len(sizes) + 2)
        function = ctypes.CFUNCTYPE(None, *kinds)(self.codes[call.name][call.name])
        units = self._units(call)
        grain = units
        if pieces:
            unit = self._unit(call)
            grain = _ceiling(_ceiling(units, unit), CHUNKS) * unit
        for low in reversed(range(0, units, max(grain, 1))):
            scratch.poison()
            high = min(low + grain, units)
            function(*pointers, scratch.address, low, high, *sizes)
        if units == 0:
            function(*pointers, scratch.address, 0, 0, *sizes)
        return memory

    def _memory(self, call: Call, buffer: Buffer) -> Guarded:
        if buffer in call.writes:
            return Guarded(self._size(buffer_bytes(buffer)))
        if isinstance(buffer, Partial):
            return Guarded.holding(self.partials[buffer])
        return Guarded.holding(self.known[buffer])


def _name(buffer: Buffer) -> str:
    node = buffer.node if isinstance(buffer, Value) else None
    return f"the result of {node.op.name}" if node is not None else "a parameter"


def _ceiling(size: int, step: int) -> int:
    return -(-size // step)


def _codes(compiler: Compiler) -> dict[str, jit.Code]:
    """The code of each kernel by its name."""
    found: dict[str, jit.Code] = {}
    for module in image_of(compiler).modules:
        if module.exports[0] != ENTRY:
            imports = {used: found[used] for used in module.imports}
            code = jit.load(module.text, module.exports, imports, compiler.target)
            found.update(dict.fromkeys(module.exports, code))
    return found
