"""Kernels of `if`, `while` and `scan`: functions that call the programs of their blocks.

A block is a program of its own, `i64 @block(ptr table)`; the node's kernel fills its table. What
goes around a loop is never copied but at its end: two sets of buffers take turns. A check that
fails in a block ends the node; its number, among those of all blocks, goes to a status word that
the entry looks at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphc.backends.llvm.emit.printer import Buffer
from graphc.backends.llvm.emit.program import THREADS, Call, Program
from graphc.backends.llvm.regions import buffer_bytes
from graphc.ir.dims import AnyDim, symbol
from graphc.ir.dtype import I64
from graphc.ir.graph import Node, Value, symbols_of
from graphc.passes.fuse.plan import base_of
from graphc.passes.loop.ir import Partial
from graphc.passes.memory import ALIGNMENT, align

if TYPE_CHECKING:
    from graphc.backends.llvm.assemble import Compiler

#: Estimated nanoseconds of a node with blocks: enough to let other Python threads run.
WORK = 50_000.0


@dataclass(slots=True)
class ControlCall:
    """The kernel of a node with blocks, and the constants of its blocks as buffers."""

    call: Call
    constants: dict[Buffer, np.ndarray]


@dataclass(frozen=True, slots=True)
class Block:
    """A compiled block: its program, where its arena lies in scratch, its first check."""

    compiler: Compiler
    program: Program
    arena: AnyDim
    first_check: int


def control_call(node: Node, compilers: Sequence[Compiler], first_check: int) -> ControlCall:
    """The call of a control-flow node. `first_check`: how many checks come before its own."""
    return _Control(node, compilers, first_check).build()


class _Control:
    def __init__(self, node: Node, compilers: Sequence[Compiler], first_check: int) -> None:
        self.node = node
        self.lines: list[str] = []
        self.stack: list[str] = []
        self.count = 0
        self.buffers: dict[Buffer, str] = {}
        self.symbols: dict[str, None] = {}
        self.scratch: AnyDim = 0
        self.constants: dict[Buffer, np.ndarray] = {}
        self.blocks = []
        for compiler in compilers:
            arena = self._reserve(_arena_bytes(compiler.program))
            self.blocks.append(Block(compiler, compiler.as_block(), arena, first_check))
            first_check += len(compiler.checks)
        self.status = Partial("status", I64, 1, 1)

    def _reserve(self, size: AnyDim) -> AnyDim:
        """Room in scratch."""
        start = self.scratch
        room = align(size) if isinstance(size, int) else size + ALIGNMENT
        self.scratch = self.scratch + room
        return start

    # --- text --------------------------------------------------------------------------------

    def let(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %c{self.count} = {text}")
        return f"%c{self.count}"

    def label(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def buffer(self, buffer: Buffer) -> str:
        if buffer not in self.buffers:
            self.buffers[buffer] = f"%P{len(self.buffers)}"
        return self.buffers[buffer]

    def size(self, size: AnyDim) -> str:
        if isinstance(size, int):
            return str(size)
        total = "0"
        for monomial, factor in size.terms:
            term = str(factor)
            for name in monomial:
                self.symbols[name] = None
                term = self.let(f"mul nsw i64 {term}, %s_{name}")
            total = self.let(f"add nsw i64 {total}, {term}")
        return total

    def at(self, base: str, offset: AnyDim | str) -> str:
        where = offset if isinstance(offset, str) else self.size(offset)
        return self.let(f"getelementptr i8, ptr {base}, i64 {where}")

    def aligned(self, offset: AnyDim) -> str:
        """Scratch from the first aligned place on."""
        if isinstance(offset, int):
            return self.at("%S", offset)
        above = self.let(f"add nsw i64 {self.size(offset)}, {ALIGNMENT - 1}")
        return self.at("%S", self.let(f"and i64 {above}, {-ALIGNMENT}"))

    # --- pieces ------------------------------------------------------------------------------

    def call_block(self, block: Block, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Runs a block; where one of its checks fails the node is over."""
        program = block.program
        constants = [self.buffer(value) for value in block.compiler.constant_values]
        arena = self.aligned(block.arena)
        pointers = [*inputs, *outputs, arena, *constants]
        names = list(symbols_of(block.compiler.source))
        sizes = [self.size(symbol(name)) for name in names]
        table = f"%table{len(self.stack)}"
        self.stack.append(f"  {table} = alloca i64, i64 {len(pointers) + len(sizes) + 1}, align 8")
        values = [f"ptr {name}" for name in pointers] + [f"i64 {name}" for name in sizes]
        for place, value in enumerate([*values, f"i64 {self.size(THREADS)}"]):
            address = self.let(f"getelementptr i64, ptr {table}, i64 {place}")
            self.lines.append(f"  store {value}, ptr {address}, align 8")
        code = self.let(f"call i64 @{program.name}(ptr {table})")
        if block.compiler.checks:
            fine, failed = self.label("fine"), self.label("failed")
            good = self.let(f"icmp eq i64 {code}, 0")
            self.lines += [f"  br i1 {good}, label %{fine}, label %{failed}", f"{failed}:"]
            number = self.let(f"add nsw i64 {code}, {block.first_check}")
            status = self.buffer(self.status)
            self.lines += [f"  store i64 {number}, ptr {status}, align 8", "  ret void"]
            self.lines.append(f"{fine}:")

    def copy(self, into: str, source: str, size: AnyDim) -> None:
        self.lines.append(
            f"  call void @llvm.memcpy.p0.p0.i64(ptr {into}, ptr {source}, "
            f"i64 {self.size(size)}, i1 false)"
        )

    def carried_loop(
        self,
        first: Sequence[str],
        outputs: Sequence[Value],
        step: Callable[[str, Sequence[str], Sequence[str], Callable[[], None]], str],
    ) -> None:
        """A loop whose values are in two sets of buffers in turn, and at the end in `outputs`.

        step(counter, present, next, end) prints a round: it calls `end` after its branch
        to the end, in the block that goes on, and returns the label of that block.
        """
        final = [self.buffer(value) for value in outputs]
        spare = [self.aligned(self._reserve(buffer_bytes(value))) for value in outputs]
        head, start, done = self.label("head"), self.label("start"), self.label("done")
        self.lines += [f"  br label %{start}", f"{start}:", f"  br label %{head}", f"{head}:"]
        counter = self.label("%i")
        names = [self.label("%p") for _ in final]
        place = len(self.lines)
        odd = self.let(f"and i64 {counter}, 1")
        is_odd = self.let(f"icmp eq i64 {odd}, 1")
        following = [
            self.let(f"select i1 {is_odd}, ptr {a}, ptr {b}") for a, b in zip(spare, final)
        ]
        last = step(counter, names, following, done)
        more = self.let(f"add nsw i64 {counter}, 1")
        phis = [f"  {counter} = phi i64 [ 0, %{start} ], [ {more}, %{last} ]"]
        phis += [
            f"  {name} = phi ptr [ {a}, %{start} ], [ {b}, %{last} ]"
            for name, a, b in zip(names, first, following)
        ]
        self.lines[place:place] = phis
        self.lines += [f"  br label %{head}", f"{done}:"]
        for name, target, value in zip(names, final, outputs):
            away, join = self.label("away"), self.label("join")
            same = self.let(f"icmp eq ptr {name}, {target}")
            self.lines += [f"  br i1 {same}, label %{join}, label %{away}", f"{away}:"]
            self.copy(target, name, buffer_bytes(value))
            self.lines += [f"  br label %{join}", f"{join}:"]

    # --- ops ---------------------------------------------------------------------------------

    def build(self) -> ControlCall:
        for block in self.blocks:
            values = block.compiler.constant_values
            self.constants.update(zip(values, block.compiler.constants))
        checked = any([block.compiler.checks for block in self.blocks])
        if checked:
            self.lines.append(f"  store i64 0, ptr {self.buffer(self.status)}, align 8")
        getattr(self, f"_{self.node.op.name}")()
        return ControlCall(self._finish(checked), self.constants)

    def _finish(self, checked: bool) -> Call:
        node = self.node
        arguments = [f"ptr noalias {name}" for name in self.buffers.values()]
        arguments += ["ptr noalias %S", "i64 %lo", "i64 %hi"]
        arguments += [f"i64 %s_{name}" for name in self.symbols]
        lines = [*self.stack, *self.lines, "  ret void", "}"]
        body = f"({', '.join(arguments)}) nounwind {{\nentry:\n" + "\n".join(lines) + "\n"
        programs = {block.program.name: block.program for block in self.blocks}
        name = f"{node.op.name}_{hashlib.blake2b(body.encode(), digest_size=8).hexdigest()}"
        writes: set[Buffer] = set(node.outputs)
        if checked:
            writes.add(self.status)
        return Call(
            name,
            ((name, f"define void @{name}{body}"),),
            ("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",),
            tuple(self.buffers),
            [symbol(name) for name in self.symbols],
            1,
            1,
            self.scratch,
            frozenset(self.buffers) - writes,
            frozenset(writes),
            WORK,
            blocks=tuple(programs.values()),
            status=self.status if checked else None,
        )

    def _if(self) -> None:
        predicate, *operands = [self.buffer(base_of(value)) for value in self.node.inputs]
        outputs = [self.buffer(value) for value in self.node.outputs]
        bit = self.let(f"load i8, ptr {predicate}, align 1")
        holds = self.let(f"icmp ne i8 {bit}, 0")
        then, other, join = self.label("then"), self.label("else"), self.label("join")
        self.lines.append(f"  br i1 {holds}, label %{then}, label %{other}")
        for label, block in zip((then, other), self.blocks):
            self.lines.append(f"{label}:")
            self.call_block(block, operands, outputs)
            self.lines.append(f"  br label %{join}")
        self.lines.append(f"{join}:")

    def _while(self) -> None:
        condition, body = self.blocks
        first = [self.buffer(base_of(value)) for value in self.node.inputs]
        flag = self.aligned(self._reserve(ALIGNMENT))

        def step(counter, present, following, done: str) -> str:
            self.call_block(condition, present, [flag])
            bit = self.let(f"load i8, ptr {flag}, align 1")
            holds = self.let(f"icmp ne i8 {bit}, 0")
            go, after = self.label("go"), self.label("after")
            self.lines += [f"  br i1 {holds}, label %{go}, label %{done}", f"{go}:"]
            self.call_block(body, present, following)
            self.lines += [f"  br label %{after}", f"{after}:"]
            return after

        self.carried_loop(first, self.node.outputs, step)

    def _scan(self) -> None:
        node, attrs = self.node, self.node.attrs
        carry, xs = attrs["carry"], attrs["xs"]
        operands = [self.buffer(base_of(value)) for value in node.inputs]
        rows = [_row_bytes(value) for value in node.inputs[carry : carry + xs]]
        stacked = node.outputs[carry:]
        length = self.size(attrs["length"])
        row_sizes = [self.size(size) for size in rows]
        stack_sizes = [self.size(_row_bytes(value)) for value in stacked]
        stack_pointers = [self.buffer(value) for value in stacked]

        def step(counter, present, following, done: str) -> str:
            more = self.let(f"icmp slt i64 {counter}, {length}")
            go, after = self.label("go"), self.label("after")
            self.lines += [f"  br i1 {more}, label %{go}, label %{done}", f"{go}:"]
            at = counter
            if attrs["reverse"]:
                last = self.let(f"sub nsw i64 {length}, {counter}")
                at = self.let(f"sub nsw i64 {last}, 1")

            def row(pointer: str, size: str) -> str:
                return self.at(pointer, self.let(f"mul nsw i64 {at}, {size}"))

            inside = [row(p, n) for p, n in zip(operands[carry : carry + xs], row_sizes)]
            outside = [row(p, n) for p, n in zip(stack_pointers, stack_sizes)]
            inputs = [*present, *inside, *operands[carry + xs :]]
            self.call_block(self.blocks[0], inputs, [*following, *outside])
            self.lines += [f"  br label %{after}", f"{after}:"]
            return after

        self.carried_loop(operands[:carry], node.outputs[:carry], step)


def _row_bytes(value: Value) -> AnyDim:
    size: AnyDim = value.type.dtype.itemsize
    for d in value.type.shape[1:]:
        size = size * d
    return size


def _arena_bytes(program: Program) -> AnyDim:
    """No less than the arena of one call of a block."""
    total: AnyDim = ALIGNMENT
    for slot in program.arena.slots:
        total = total + (align(slot) if isinstance(slot, int) else slot + ALIGNMENT)
    scratch = {call.scratch for region in program.regions for call in region}
    static = max([size for size in scratch if isinstance(size, int)], default=0)
    total = total + align(static) * THREADS
    for size in scratch:
        if not isinstance(size, int):
            total = total + (size + ALIGNMENT) * THREADS
    return total
