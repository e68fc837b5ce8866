"""The entry of a compiled graph: `i64 @run(ptr table)`, which calls kernels in regions.

The table holds addresses (inputs, outputs, arena, constants), then sizes, each as an i64. `run`
finds where every buffer is, and calls the kernels of one region after the other; the kernels of a
region do not touch what another of them writes. After a region that computed checks, their flags
are looked at: `run` returns the number of the first one that is set, and 0 at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphc.ir.dims import AnyDim, Dim
from graphc.passes.memory import ALIGNMENT, ArenaPlan

from .printer import Buffer


@dataclass(slots=True, eq=False)
class Call:
    """One kernel of a program: the function, its arguments, and how it may be cut.

    sizes: the i64 arguments. units: how many units of work there are, or the name of the function
    of the sizes that says so; grain: units that stay together. reads, writes: the buffers, checks
    that have to be looked at before included. work: estimated nanoseconds.
    """

    name: str
    functions: Sequence[tuple[str, str]]
    declares: Sequence[str]
    buffers: Sequence[Buffer]
    sizes: Sequence[AnyDim] = ()
    units: AnyDim | str = 1
    grain: AnyDim = 1
    scratch: AnyDim = 0
    reads: frozenset[Buffer] = frozenset()
    writes: frozenset[Buffer] = frozenset()
    work: float = 0.0


@dataclass(frozen=True, slots=True)
class Copy:
    """A result that is another buffer: its bytes are copied at the end."""

    source: Buffer
    target: int  # position in the table
    size: AnyDim


@dataclass(slots=True)
class Program:
    """What the entry does. `table` maps the buffers that the caller provides to positions."""

    regions: Sequence[Sequence[Call]]
    table: Mapping[Buffer, int]
    arena_position: int
    arena: ArenaPlan
    symbol_positions: Mapping[str, int]
    quotients: Mapping[str, tuple[AnyDim, int]] = field(default_factory=dict)
    flags: Mapping[Buffer, int] = field(default_factory=dict)
    copies: Sequence[Copy] = ()

    def text(self) -> str:
        """The module of all kernels and the entry `run`."""
        return _ProgramText(self).module()


class _ProgramText:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.lines: list[str] = []
        self.count = 0
        self.sizes: dict = {}
        self.pointers: dict[Buffer, str] = {}
        self.declares: set[str] = set()

    def let(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %e{self.count} = {text}")
        return f"%e{self.count}"

    def slot(self, position: int, kind: str) -> str:
        address = self.let(f"getelementptr i64, ptr %T, i64 {position}")
        return self.let(f"load {kind}, ptr {address}, align 8")

    def module(self) -> str:
        program = self.program
        functions: dict[str, str] = {}
        for region in program.regions:
            for call in region:
                functions.update(call.functions)
                self.declares.update(call.declares)
        self._arena()
        for region in program.regions:
            for call in region:
                self._call(call)
            self._look_at_flags(region)
        for copy in program.copies:
            self._copy(copy)
        entry = ["define i64 @run(ptr %T) nounwind {", "entry:", *self.lines, "  ret i64 0", "}"]
        parts = [*sorted(self.declares), *functions.values(), "\n".join(entry)]
        return "\n".join(parts) + "\n"

    # --- sizes and places --------------------------------------------------------------------

    def size(self, size: AnyDim) -> str:
        if isinstance(size, int):
            return str(size)
        found = self.sizes.get(size)
        if found is None:
            found = self.sizes[size] = self._polynomial(size)
        return found

    def _polynomial(self, size: Dim) -> str:
        total = "0"
        for monomial, factor in size.terms:
            term = str(factor)
            for name in monomial:
                term = self.let(f"mul nsw i64 {term}, {self._symbol(name)}")
            total = self.let(f"add nsw i64 {total}, {term}")
        return total

    def _symbol(self, name: str) -> str:
        found = self.sizes.get(name)
        if found is None:
            quotient = self.program.quotients.get(name)
            if quotient is None:
                found = self.slot(self.program.symbol_positions[name], "i64")
            else:
                dividend = self.size(quotient[0])
                found = self.let(f"sdiv i64 {dividend}, {quotient[1]}")
            self.sizes[name] = found
        return found

    def _arena(self) -> None:
        """Where each slot starts: after the one before, aligned."""
        program = self.program
        base = self.slot(program.arena_position, "ptr")
        starts, offset = [], "0"
        for size in program.arena.slots:
            starts.append(offset)
            offset = self.let(f"add nsw i64 {offset}, {self.size(size)}")
            offset = self.let(f"add nsw i64 {offset}, {ALIGNMENT - 1}")
            offset = self.let(f"and i64 {offset}, {-ALIGNMENT}")
        for buffer, place in program.arena.places.items():
            if place.offset:
                at = self.let(f"add nsw i64 {starts[place.slot]}, {place.offset}")
            else:
                at = starts[place.slot]
            self.pointers[buffer] = self.let(f"getelementptr i8, ptr {base}, i64 {at}")
        self.scratch = self.let(f"getelementptr i8, ptr {base}, i64 {offset}")

    def pointer(self, buffer: Buffer) -> str:
        found = self.pointers.get(buffer)
        if found is None:
            position = self.program.table[buffer]
            found = self.pointers[buffer] = self.slot(position, "ptr")
        return found

    # --- regions -----------------------------------------------------------------------------

    def _call(self, call: Call) -> None:
        arguments = [f"ptr {self.pointer(buffer)}" for buffer in call.buffers]
        sizes = [f"i64 {self.size(size)}" for size in call.sizes]
        if isinstance(call.units, str):
            units = self.let(f"call i64 @{call.units}({', '.join(sizes)})")
        else:
            units = self.size(call.units)
        arguments += [f"ptr {self.scratch}", "i64 0", f"i64 {units}", *sizes]
        self.lines.append(f"  call void @{call.name}({', '.join(arguments)})")

    def _look_at_flags(self, region: Sequence[Call]) -> None:
        for call in region:
            for buffer in call.writes:
                number = self.program.flags.get(buffer)
                if number is None:
                    continue
                flag = self.let(f"load i8, ptr {self.pointer(buffer)}, align 1")
                fine = self.let(f"icmp eq i8 {flag}, 0")
                self.lines.append(f"  br i1 {fine}, label %fine{number}, label %failed{number}")
                self.lines += [f"failed{number}:", f"  ret i64 {number}", f"fine{number}:"]

    def _copy(self, copy: Copy) -> None:
        self.declares.add("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        target = self.slot(copy.target, "ptr")
        self.lines.append(
            f"  call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {self.pointer(copy.source)}, "
            f"i64 {self.size(copy.size)}, i1 false)"
        )
