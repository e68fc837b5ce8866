"""`Compiler`: one compile, from a graph to the text of its kernels and its entry."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphc.backends.llvm.control import ControlCall, control_call
from graphc.backends.llvm.emit.kernel import print_kernel
from graphc.backends.llvm.emit.printer import Buffer
from graphc.backends.llvm.emit.program import Call, Copy, Program
from graphc.backends.llvm.emit.values import knows
from graphc.backends.llvm.native import (
    NATIVE_KERNELS,
    NativeCall,
    claims,
    native_frame,
    native_operands,
    native_uses,
)
from graphc.backends.llvm.regions import (
    buffer_bytes,
    chains_of,
    form_regions,
    in_turn_at_the_peak,
)
from graphc.backends.llvm.target import Target
from graphc.backends.llvm.tune import Tuned, Tuner
from graphc.ir.dims import AnyDim, Facts, product, symbol
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Graph, Node, Value, symbols_of
from graphc.ir.op import Pointwise
from graphc.ir.types import TensorType, Type
from graphc.passes.assembled import NOTHING, Assembled, find_assembled
from graphc.passes.checks import Check, add_checks
from graphc.passes.complex_parts import split_complex
from graphc.passes.expand import expand_composites
from graphc.passes.fuse.epilogue import Epilogue, find_epilogues
from graphc.passes.fuse.fuse import fuse
from graphc.passes.fuse.group import NATIVE, REDUCTIONS, SCATTERS, Group, is_anchor
from graphc.passes.fuse.plan import base_of
from graphc.passes.fuse.prologue import Prologues, find_prologues, reads_of
from graphc.passes.fuse.pull import MOVEMENT
from graphc.passes.fuse.signature import signature
from graphc.passes.fuse.sizes import Sizes
from graphc.passes.in_place import (
    Pair,
    overwritten,
    pairs_of,
    pairs_of_epilogue,
)
from graphc.passes.legalize import legalize
from graphc.passes.loop.ir import Kernel, Partial
from graphc.passes.loop.lower import lower
from graphc.passes.memory import ArenaPlan, plan_memory
from graphc.passes.pack_constants import pack_constants
from graphc.passes.products import prepare_products

from . import attention, channels_last, ordering, products  # noqa: F401  (they register kernels)

#: The kind of a kernel that only packs an operand of the next one.
PACKING = "packed weights"
#: Ops with blocks, each a program that the node's kernel calls.
CONTROL = frozenset(["if", "while", "scan"])
_ANCHORS = frozenset([*REDUCTIONS, *SCATTERS, "cumulative"])


@dataclass(slots=True)
class KernelReport:
    """What `explain` shows of one kernel; in_place: what made the operands that the memory plan
    puts results over."""

    name: str
    kind: str
    nodes: tuple[Node, ...]
    locs: tuple[str, ...]
    text: str
    bytes: AnyDim
    flops: AnyDim
    loops: Kernel | None = None
    tuned: Tuned | None = None
    in_place: tuple[str, ...] = ()


@dataclass(slots=True)
class CompileStats:
    """Nanoseconds of each part, and the size of the text."""

    fuse_ns: int = 0
    lower_ns: int = 0
    emit_ns: int = 0
    code_ns: int = 0
    tune_ns: int = 0
    lines: int = 0
    nodes: int = 0
    kernels: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the code of a graph, besides the graph. See `compile_graph`.

    tune: None, or kernels are tuned, with symbols of these sizes (others: of their hints), and
    candidates run on `threads`; the code itself is for any number of them.
    """

    target: Target
    exact: bool
    apart: bool
    fork: float
    threads: int
    dims: Mapping[str, Facts]
    tune: Mapping[str, int] | None = None


class Compiler:
    """One compile: graph -> plan -> kernels -> program.

    calls: the kernels in order; checks: those of the graph, then those of the blocks of its
    control flow.
    """

    def __init__(self, graph: Graph, name: str, options: Options) -> None:
        self.source, self.name, self.options = graph, name, options
        self.target = options.target
        self.sizes = Sizes(options.dims)
        self.stats = CompileStats()
        self.calls: list[Call] = []
        self._computed: list[tuple[str, tuple[Node, ...], Kernel | None, Tuned | None]] = []
        self._tuner = None if options.tune is None else self._make_tuner(options.tune)
        self.constants: list[np.ndarray] = []
        self._printed: dict[Hashable, tuple[list[Value], list[tuple[Call, Kernel]]]] = {}
        self.constants_of_blocks: dict[Buffer, np.ndarray] = {}
        self.given: dict[Value, Value] = {}  # results, and parameters that they may overwrite

    def _make_tuner(self, sizes: Mapping[str, int]) -> Tuner:
        options = self.options
        facts = {name: Facts(hint=size) for name, size in sizes.items()}
        known = Sizes({**options.dims, **facts})
        known.quotient_symbols = self.sizes.quotient_symbols
        return Tuner(options.target, options.threads, options.fork, known.hint, _calls)

    def run(self) -> None:
        """Does everything up to the text."""
        start = time.perf_counter_ns()
        plain = split_complex(
            expand_composites(self.source, lambda node: claims(node, self.target))
        )
        plain = pack_constants(plain, lambda node: products.panel_columns(node, self.target))
        prepared = prepare_products(legalize(plain))
        self.checked = add_checks(prepared)
        self.checks: list[Check] = list(self.checked.checks)
        self.graph = self.checked.graph
        require_supported(self.graph)
        self.operands = {
            node: native_operands(node)
            for node in self.graph.nodes
            if node.op.name in NATIVE_KERNELS or node.op.name in CONTROL
        }
        self.plan = fuse(
            self.graph,
            self.sizes,
            self.operands,
            self.options.apart,
            self.checked.needed,
            self.target.lanes(32),
        )
        self.epilogues: dict[int, Epilogue] = {}
        self.prologues: dict[int, Prologues] = {}
        self.assembled = NOTHING
        if not self.options.apart:
            self.epilogues = find_epilogues(self.plan, native_frame)
            self.prologues = find_prologues(
                self.plan,
                lambda node: native_uses(node, self.target),
                self.epilogues.values(),
            )
            self.assembled = find_assembled(self.plan, {base_of(v) for v in self.graph.results})
        fused = time.perf_counter_ns()
        self._lower()
        self.program = self._program()
        self.entry_text = self.program.entry()
        if self._tuner is not None:
            self.stats.tune_ns = self._tuner.ns
            self._tuner.report(self.name)
        self.stats.fuse_ns = fused - start
        own = self.stats.lower_ns + self.stats.tune_ns
        self.stats.emit_ns = time.perf_counter_ns() - fused - own
        texts = {call.name: call.module for call in self.calls} | {"": self.entry_text}
        self.stats.lines = sum([text.count("\n") for text in texts.values()])
        self.stats.nodes, self.stats.kernels = len(self.graph.nodes), len(self.calls)

    @property
    def text(self) -> str:
        """The entry and all kernels in one module."""
        return self.program.text()

    def as_block(self) -> Program:
        """The program, with a name of its own: for the graph of a block."""
        digest = hashlib.blake2b(self.entry_text.encode(), digest_size=8).hexdigest()
        return replace(self.program, name=f"block_{digest}")

    # --- kernels -----------------------------------------------------------------------------

    def _lower(self) -> None:
        read: set[Value] = set()
        for group in self.plan.groups:
            for expr in group.table:
                if expr.op == "load":
                    read.add(expr.payload.buffer)
            if group.node is not None:
                read.update(self.operands[group.node])
            if group.number in self.epilogues:
                read.update(self.epilogues[group.number].reads)
            read.update(reads_of(self.prologues.get(group.number, {})))
            if group.code.indexed is not None and group.code.indexed.initial is not None:
                read.add(group.code.indexed.initial)
        results = {base_of(value) for value in self.graph.results}
        stored, unread = results | read, results - read
        if self._tuner is not None:
            self._tuner.total = len([g for g in self.plan.groups if g.kind == NATIVE])
        flag_of = {g.number: g.members()[0] for g in self.plan.groups if g.is_check}
        for group in self.plan.groups:
            if group in self.assembled.groups:
                continue
            before = frozenset([flag_of[n] for n in flag_of if group.after >> n & 1])
            if group.kind != NATIVE:
                self._kernels(group, before, stored, unread)
            elif group.node is not None and group.node.op.name in CONTROL:
                self._control(group.node, before)
            elif group.node is not None:
                self._native(
                    group.node,
                    before,
                    self.epilogues.get(group.number),
                    self.prologues.get(group.number),
                )

    def _kernels(
        self, group: Group, before: frozenset[Value], stored: set[Value], unread: set[Value]
    ) -> None:
        """The kernels of a group; those of an equal group before it are taken for other buffers."""
        key, buffers = signature(group, stored, unread)
        nodes = tuple(nodes_of(group))
        known = self._printed.get(key)
        if known is not None:
            places: dict[Buffer, Buffer] = dict(zip(known[0], buffers))
            for call, kernel in known[1]:
                self._add(_rebound(call, places, before), kernel.kind, nodes, kernel)
            return
        made = []
        start = time.perf_counter_ns()
        target = self.target
        name, width = f"k{len(self.calls)}", target.lanes(32)
        kernels = lower(group, name, stored, unread, width, target.registers)
        self.stats.lower_ns += time.perf_counter_ns() - start
        kernels[0].over = pairs_of(group, kernels[0])
        for kernel in kernels:
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
                frozenset(text.buffers) - writes,
                writes,
                kernel.work,
                kernel.points,
                kernel.point_ns,
                kernel.over,
            )
            made.append((call, kernel))
            self._add(replace(call, reads=call.reads | before), kernel.kind, nodes, kernel)
        self._printed[key] = (buffers, made)

    def _native(
        self,
        node: Node,
        before: frozenset[Value],
        after: Epilogue | None,
        ahead: Prologues | None,
    ) -> None:
        build = NATIVE_KERNELS[node.op.name]
        nodes = (node, *_fused(after, ahead))
        writes: frozenset[Buffer] = frozenset(node.outputs)
        kind = node.op.name
        if ahead is not None:
            built = build(node, self.target, after, ahead)
            kind = f"map, {kind}"
        elif after is None:
            built = build(node, self.target)
        else:
            built = build(node, self.target, after)
        if after is not None:
            written = frozenset([value for value, _ in after.outputs])
            writes = written | writes if after.kept else written
        tuned = None
        if self._tuner is not None:
            built, tuned = self._tuner.choose(built, writes)
        *packing, call = _calls(built, writes, before)
        if after is not None:
            call.over = _over(built, after)
        for pack in packing:
            self._add(pack, PACKING, nodes, None)
        self._add(call, kind if after is None else f"{kind}, map", nodes, None, tuned)

    def fused_into(self, group: Group) -> list[Node]:
        """The nodes that a native kernel computes besides its own: prologues and an epilogue."""
        return _fused(self.epilogues.get(group.number), self.prologues.get(group.number))

    def _control(self, node: Node, before: frozenset[Value]) -> None:
        """A node with blocks: each is compiled, and the node's kernel calls it."""
        blocks = []
        for block in node.blocks:
            compiler = Compiler(block, self.name, self.options)
            compiler.run()
            blocks.append(compiler)
        built: ControlCall = control_call(node, blocks, len(self.checks))
        self.checks += [check for block in blocks for check in block.checks]
        self.constants_of_blocks.update(built.constants)
        call = built.call
        call.reads |= before
        self._add(call, node.op.name, (node,), None)

    def _add(
        self,
        call: Call,
        kind: str,
        nodes: tuple[Node, ...],
        loops: Kernel | None,
        tuned: Tuned | None = None,
    ) -> None:
        self.calls.append(call)
        self._computed.append((kind, nodes, loops, tuned))

    @property
    def reports(self) -> list[KernelReport]:
        """What each of `calls` computes; made when somebody looks."""
        return [
            _report(call, *what, self._in_place(call))
            for call, what in zip(self.calls, self._computed)
        ]

    def _in_place(self, call: Call) -> tuple[str, ...]:
        places = self.program.arena.places
        found = [b for a, b in call.over if a in places and places[a] == places.get(b)]
        return tuple([b.node.op.name for b in found if isinstance(b, Value) and b.node])

    # --- program -----------------------------------------------------------------------------

    def _program(self) -> Program:
        graph, source = self.graph, self.source
        table: dict[Buffer, int] = {value: k for k, value in enumerate(graph.params)}
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
        constants: dict[Buffer, np.ndarray] = {
            node.outputs[0]: node.attrs["data"].array
            for node in graph.nodes
            if node.op.name == "const"
        }
        constants |= self.constants_of_blocks
        self.constants = list(constants.values())
        self.constant_values = list(constants)
        for k, buffer in enumerate(constants):
            table[buffer] = arena_position + 1 + k
        first_symbol = arena_position + 1 + len(constants)
        symbols = {name: first_symbol + k for k, name in enumerate(symbols_of(source))}
        keep = {copy.source for copy in copies}
        regions = form_regions(self.calls, self.assembled)
        regions = in_turn_at_the_peak(regions, table, keep, self.assembled)
        flags = {check.flag: k + 1 for k, check in enumerate(self.checked.checks)}
        params = [param for param in graph.params if param not in keep]
        if not self.checks:  # an error leaves the arguments as they were
            self.given = overwritten(regions, set(params), set(table).difference(graph.params))
        return Program(
            regions,
            table,
            arena_position,
            _arena(regions, table, keep, self.assembled),
            symbols,
            first_symbol + len(symbols),
            self.sizes.quotient_symbols,
            flags,
            copies,
            self.options.fork,
            assembled=self.assembled,
        )


def _arena(
    regions: list[list[Call]],
    table: Mapping[Buffer, int],
    keep: set[Buffer],
    assembled: Assembled,
) -> ArenaPlan:
    """A place for each buffer of the arena; some lie where an operand of theirs lay."""
    lifetimes, first = chains_of(regions, table, keep, assembled)
    plan = plan_memory(lifetimes)
    plan.places.update({result: plan.places[root] for result, root in first.items()})
    return plan


def _fused(after: Epilogue | None, ahead: Prologues | None) -> list[Node]:
    found = [node for prologue in (ahead or {}).values() for node in prologue.nodes]
    return found if after is None else [*found, *after.nodes]


def _calls(
    built: NativeCall, writes: frozenset[Buffer], before: frozenset[Value] = frozenset()
) -> list[Call]:
    """The calls of a native kernel, and ahead of it of the one that packs for it."""
    call = _call(built, writes, before)
    if built.before is None:
        return [call]
    return [_call(built.before, frozenset([built.before.buffers[-1]]), before), call]


def _call(built: NativeCall, writes: frozenset[Buffer], before: frozenset[Value]) -> Call:
    """The call of a native kernel that writes these buffers, after those checks."""
    kernel = built.kernel
    return Call(
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
        built.points,
        built.point_ns,
    )


def _over(built: NativeCall, after: Epilogue) -> tuple[Pair, ...]:
    """Which results of a product's kernel may be written over what its epilogue reads."""
    names, buffers = built.kernel.operands, built.buffers
    results = [buffers[names.index(name)] for name in built.kernel.over]
    return pairs_of_epilogue(after, results, buffers[: names.index("out")])


def _rebound(call: Call, places: dict[Buffer, Buffer], before: frozenset[Value]) -> Call:
    """The same kernel on other buffers; partial ones are made anew, once for all its kernels."""
    for buffer in call.buffers:
        if buffer not in places and isinstance(buffer, Partial):
            places[buffer] = replace(buffer)
    return replace(
        call,
        buffers=tuple([places[buffer] for buffer in call.buffers]),
        reads=frozenset([places[buffer] for buffer in call.reads]) | before,
        writes=frozenset([places[buffer] for buffer in call.writes]),
        over=tuple([(places[a], places[b]) for a, b in call.over]),
    )


def _report(
    call: Call,
    kind: str,
    nodes: tuple[Node, ...],
    loops: Kernel | None,
    tuned: Tuned | None,
    in_place: tuple[str, ...],
) -> KernelReport:
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
    return KernelReport(call.name, kind, nodes, locs, text, size, flops, loops, tuned, in_place)


def require_supported(graph: Graph) -> None:
    """Raises UnsupportedError for the first node that has no lowering."""
    fine: set[Type] = set()
    for node in graph.nodes:
        name, op = node.op.name, node.op
        problem = ""
        known = name in NATIVE_KERNELS or name in MOVEMENT or name in _ANCHORS or name in CONTROL
        if not known and not (isinstance(op, Pointwise) and knows(name)):
            problem = f"the CPU backend has no code for {name}"
        for value in (*node.inputs, *node.outputs):
            if value.type in fine:
                continue
            if not isinstance(value.type, TensorType):
                problem = f"{name} has an operand of type {value.type.text}"
            elif value.type.dtype.kind == "c" or value.type.dtype.name.startswith("f8"):
                problem = f"the CPU backend has no code for {name} of {value.type.text}"
            else:
                fine.add(value.type)
        if problem:
            raise UnsupportedError(problem, at=node.loc)


def nodes_of(group: Group) -> list[Node]:
    """The nodes whose values a group computes."""
    found = [value.node for value in [*group.members(), *group.pulled] if value.node is not None]
    return list(dict.fromkeys(found))
