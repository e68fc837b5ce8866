"""The entry of a compiled graph: `i64 @run(ptr table)`, which calls kernels in regions.

The table holds addresses (inputs, outputs, arena, constants), then sizes and the number of threads
that the arena has scratch for, each as an i64. `run` finds where every buffer is, and does one
region after the other (a long entry in parts, each a function); the kernels of a region do not
touch what another of them writes. A region with enough work is one job of the pool, cut into chunks
that the shapes fix, unless there is one thread only: then each kernel is one call. After a region
that computed checks, their flags are looked at: `run` returns the number of the first one that is
set, and 0 at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphc.ir.dims import AnyDim, Dim, symbol
from graphc.passes.assembled import Assembled
from graphc.passes.loop.ir import Bound
from graphc.passes.loop.parallel import CHUNKS
from graphc.passes.memory import ALIGNMENT, ArenaPlan

from .job import JobText, Pieces
from .printer import Buffer
from .sizes import RUN_TIME_BOUNDS, ceiling, extreme, is_number, run_time_bound

#: Nanoseconds of estimated work from which a region is worth a fork.
FORK = 6000.0
#: A symbol of every program: the threads of a call, which kernels with blocks pass on.
THREADS = symbol("threads__")
#: Kernels called by one function: LLVM's time for a function grows faster than its length.
PART = 64


@dataclass(slots=True, eq=False)
class Call:
    """One kernel of a program: the function, its arguments, and how it may be cut.

    sizes: the i64 arguments. units: how many units of work there are, or the name of the function
    of the sizes that says so; unit: how many stay together. reads, writes: the buffers, checks
    that have to be looked at before included. work: estimated nanoseconds; where sizes are symbolic
    they are `points` times `point_ns` at run time. over: (result, operand) where the result may be
    written over the operand. blocks: the programs that it calls; status:
    where it leaves the number of a check that failed in one of them.
    """

    name: str
    functions: Sequence[tuple[str, str]]
    declares: Sequence[str]
    buffers: Sequence[Buffer]
    sizes: Sequence[AnyDim] = ()
    units: AnyDim | str = 1
    unit: Bound = 1
    scratch: AnyDim = 0
    reads: frozenset[Buffer] = frozenset()
    writes: frozenset[Buffer] = frozenset()
    work: float = 0.0
    points: AnyDim = 0
    point_ns: float = 0.0
    over: tuple[tuple[Buffer, Buffer], ...] = ()
    blocks: tuple[Program, ...] = ()
    status: Buffer | None = None

    @property
    def module(self) -> str:
        """The text of the kernel as a module of its own."""
        called = [f"declare i64 @{block.name}(ptr)" for block in self.blocks]
        return "\n".join([*self.declares, *called, *[text for _, text in self.functions]]) + "\n"

    @property
    def exports(self) -> list[str]:
        return [self.name, self.units] if isinstance(self.units, str) else [self.name]


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
    threads_position: int
    quotients: Mapping[str, tuple[AnyDim, int]] = field(default_factory=dict)
    flags: Mapping[Buffer, int] = field(default_factory=dict)
    copies: Sequence[Copy] = ()
    fork: float = FORK
    name: str = "run"
    assembled: Assembled = field(default_factory=Assembled)

    def position_of(self, name: str) -> int:
        """Where the table holds a symbol."""
        if name in THREADS.symbols:
            return self.threads_position
        return self.symbol_positions[name]

    def entry(self) -> str:
        """The module of the entry `run`, which imports the kernels."""
        text = _ProgramText(self)
        body = text.body()
        return "\n".join([*self._kernel_declares(), *sorted(text.declares), *body]) + "\n"

    def text(self) -> str:
        """One module of the entry and all kernels: for tools, and for other targets."""
        functions: dict[str, str] = {}
        declares: set[str] = set()
        self._collect(functions, declares)
        return "\n".join([*sorted(declares), *functions.values()]) + "\n"

    def _collect(self, functions: dict[str, str], declares: set[str]) -> None:
        for region in self.regions:
            for call in region:
                functions.update(call.functions)
                declares.update(call.declares)
                for block in call.blocks:
                    block._collect(functions, declares)
        text = _ProgramText(self)
        functions[self.name] = "\n".join(text.body())
        declares.update(text.declares)

    def _kernel_declares(self) -> list[str]:
        found: dict[str, None] = {}
        for region in self.regions:
            for call in region:
                sizes = ["i64"] * len(call.sizes)
                kinds = ["ptr"] * (len(call.buffers) + 1) + ["i64", "i64", *sizes]
                found[f"declare void @{call.name}({', '.join(kinds)})"] = None
                if isinstance(call.units, str):
                    found[f"declare i64 @{call.units}({', '.join(sizes)})"] = None
        return list(found)


def _parts(regions: Sequence[Sequence[Call]]) -> list[list[Sequence[Call]]]:
    """The regions in lists of about PART kernels, at least one list."""
    parts: list[list[Sequence[Call]]] = [[]]
    kernels = 0
    for region in regions:
        if kernels > PART:
            parts.append([])
            kernels = 0
        parts[-1].append(region)
        kernels += len(region)
    return parts


class _ProgramText:
    def __init__(self, program: Program) -> None:
        self.program = program
        scratches = {call.scratch for region in program.regions for call in region}
        self.scratches = sorted(scratches, key=str)
        self.lines: list[str] = []
        self.stack: list[str] = []
        self.jobs: list[str] = []
        self.count = 0
        self.known: dict = {}
        self.pointers: dict[Buffer, str] = {}
        self.declares: set[str] = set()

    # --- lines and sizes ---------------------------------------------------------------------

    def let(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %e{self.count} = {text}")
        return f"%e{self.count}"

    def declare(self, text: str) -> None:
        self.declares.add("declare " + text)

    def slot(self, position: int, kind: str) -> str:
        address = self.let(f"getelementptr i64, ptr %T, i64 {position}")
        return self.let(f"load {kind}, ptr {address}, align 8")

    def size(self, size: AnyDim) -> str:
        if size.__class__ is int:
            return str(size)
        found = self.known.get(size)
        if found is None:
            assert isinstance(size, Dim)
            found = self.known[size] = self._polynomial(size)
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
        found = self.known.get(name)
        if found is None:
            quotient = self.program.quotients.get(name)
            if quotient is None:
                found = self.slot(self.program.position_of(name), "i64")
            else:
                dividend = self.size(quotient[0])
                found = self.let(f"sdiv i64 {dividend}, {quotient[1]}")
            self.known[name] = found
        return found

    def bound(self, bound: Bound) -> str:
        if not isinstance(bound, RUN_TIME_BOUNDS):
            return self.size(bound)  # type: ignore[arg-type]
        found = self.known.get(bound)
        if found is None:
            found = self.known[bound] = run_time_bound(self, bound)
        return found

    # --- the module --------------------------------------------------------------------------

    def body(self) -> list[str]:
        """The jobs and the entry; a long entry calls its parts in turn."""
        program = self.program
        parts = _parts(program.regions)
        if len(parts) == 1:
            entry = self._function(program.name, parts[0], program.copies)
            return [*self.jobs, entry]
        functions = []
        calls = [f"define i64 @{program.name}(ptr %T) nounwind {{", "entry:"]
        for number, regions in enumerate(parts):
            name, last = f"{program.name}_part{number}", number == len(parts) - 1
            copies = program.copies if last else ()
            functions.append(self._function(name, regions, copies, "internal "))
            calls += [
                f"  %failed{number} = call i64 @{name}(ptr %T)",
                f"  %fine{number} = icmp eq i64 %failed{number}, 0",
                f"  br i1 %fine{number}, label %on{number}, label %off{number}",
                f"off{number}:",
                f"  ret i64 %failed{number}",
                f"on{number}:",
            ]
        return [*self.jobs, *functions, "\n".join([*calls, "  ret i64 0", "}"])]

    def _function(
        self,
        name: str,
        regions: Sequence[Sequence[Call]],
        copies: Sequence[Copy],
        linkage: str = "",
    ) -> str:
        self.lines, self.stack, self.known = [], [], {}
        self._arena()
        for region in regions:
            self.pointers = {}  # an address is found anew in each region: few live at a time
            self._region(region)
            self._look_at_flags(region)
        for copy in copies:
            self._copy(copy)
        head = [f"define {linkage}i64 @{name}(ptr %T) nounwind {{", "entry:", *self.stack]
        return "\n".join([*head, *self.lines, "  ret i64 0", "}"])

    def _arena(self) -> None:
        """Where each slot starts: after the one before, aligned."""
        program = self.program
        base = self.slot(program.arena_position, "ptr")
        starts, offset = [], "0"
        for size in program.arena.slots:
            starts.append(offset)
            offset = self._after(offset, self.size(size))
        self.arena, self.starts = base, starts
        self.scratch = self.let(f"getelementptr i8, ptr {base}, i64 {offset}")
        self.scratch_step = self._largest_scratch()

    def _sum(self, a: str, b: str) -> str:
        if is_number(a) and is_number(b):
            return str(int(a) + int(b))
        return self.let(f"add nsw i64 {a}, {b}")

    def _after(self, offset: str, size: str) -> str:
        """The next aligned place."""
        end = self._sum(offset, size)
        if is_number(end):
            return str(-(-int(end) // ALIGNMENT) * ALIGNMENT)
        return self.let(f"and i64 {self._sum(end, str(ALIGNMENT - 1))}, {-ALIGNMENT}")

    def _largest_scratch(self) -> str:
        largest = "0"
        for size in self.scratches:
            largest = extreme(self, "smax", largest, self.size(size))
        return self._after("0", largest)

    def pointer(self, buffer: Buffer) -> str:
        found = self.pointers.get(buffer)
        if found is None:
            program = self.program
            place = program.arena.places.get(buffer)
            if buffer in program.assembled.within:
                whole, offset = program.assembled.within[buffer]
                found = self.let(f"getelementptr i8, ptr {self.pointer(whole)}, i64 {offset}")
            elif place is None:
                found = self.slot(program.table[buffer], "ptr")
            else:
                at = self._sum(self.starts[place.slot], str(place.offset))
                found = self.let(f"getelementptr i8, ptr {self.arena}, i64 {at}")
            self.pointers[buffer] = found
        return found

    # --- regions -----------------------------------------------------------------------------

    def _region(self, region: Sequence[Call]) -> None:
        pieces = [self._pieces(call) for call in region]
        work = sum([call.work for call in region])
        if work < self.program.fork or all([piece.chunks == "1" for piece in pieces]):
            self._whole(region, pieces)
            return
        number = len(self.jobs)
        alone = self.let(f"icmp eq i64 {self.size(THREADS)}, 1")
        self.lines.append(f"  br i1 {alone}, label %alone{number}, label %several{number}")
        self.lines.append(f"alone{number}:")
        self._whole(region, pieces)
        self.lines += [f"  br label %joined{number}", f"several{number}:"]
        self._job(region, pieces)
        self.lines += [f"  br label %joined{number}", f"joined{number}:"]

    def _whole(self, region: Sequence[Call], pieces: Sequence[Pieces]) -> None:
        """Each kernel in one call: what it packs for a chunk, it packs once."""
        for call, piece in zip(region, pieces):
            arguments = [*piece.pointers, f"ptr {self.scratch}", "i64 0"]
            arguments += [f"i64 {piece.units}", *piece.sizes]
            self.lines.append(f"  call void @{call.name}({', '.join(arguments)})")

    def _job(self, region: Sequence[Call], pieces: Sequence[Pieces]) -> None:
        """The chunks of all kernels as one job of the pool."""
        order = sorted(zip(region, pieces), key=lambda pair: -pair[0].work)  # long ones first
        job = JobText(f"{self.program.name}_job{len(self.jobs)}", self.scratch, self.scratch_step)
        total = "0"
        for call, piece in order:
            job.add(call.name, piece, total)
            total = self._sum(total, piece.chunks)
        self.jobs.append(job.function())
        context = f"%context{len(self.jobs)}"
        self.stack.append(f"  {context} = alloca i64, i64 {max(1, len(job.context))}, align 64")
        for position, (kind, name) in enumerate(job.context):
            address = self.let(f"getelementptr i64, ptr {context}, i64 {position}")
            self.lines.append(f"  store {kind} {name}, ptr {address}, align 8")
        self.declare("void @graphc_parallel_within(ptr, ptr, i64, i64)")
        self.lines.append(
            f"  call void @graphc_parallel_within(ptr @{job.name}, ptr {context}, i64 {total}, "
            f"i64 {self.size(THREADS)})"
        )

    def _pieces(self, call: Call) -> Pieces:
        """How a kernel is cut: at most CHUNKS pieces of whole units, fixed by the sizes."""
        sizes = [f"i64 {self.size(size)}" for size in call.sizes]
        pointers = [f"ptr {self.pointer(buffer)}" for buffer in call.buffers]
        if isinstance(call.units, str):
            units = self.let(f"call i64 @{call.units}({', '.join(sizes)})")
        else:
            units = self.size(call.units)
        if units == "1" or call.work < self.program.fork / 2:
            return Pieces(pointers, sizes, units, units, "1")
        unit = self.bound(call.unit)
        together = ceiling(self, ceiling(self, units, unit), str(CHUNKS))
        grain = extreme(self, "smax", self._product(together, unit), "1")
        if not isinstance(call.points, int) and call.point_ns > 0:
            limit = int(self.program.fork / 2 / call.point_ns)
            few = self.let(f"icmp slt i64 {self.size(call.points)}, {limit}")
            whole = extreme(self, "smax", units, "1")
            grain = self.let(f"select i1 {few}, i64 {whole}, i64 {grain}")
        chunks = ceiling(self, units, grain)
        return Pieces(pointers, sizes, units, grain, chunks)

    def _product(self, a: str, b: str) -> str:
        if is_number(a) and is_number(b):
            return str(int(a) * int(b))
        return self.let(f"mul nsw i64 {a}, {b}")

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
            if call.status is not None:
                self._look_at_status(self.pointer(call.status))

    def _look_at_status(self, pointer: str) -> None:
        """A check that failed in a block ends the call with its number."""
        status = self.let(f"load i64, ptr {pointer}, align 8")
        fine = self.let(f"icmp eq i64 {status}, 0")
        label = self.count
        self.lines.append(f"  br i1 {fine}, label %on{label}, label %off{label}")
        self.lines += [f"off{label}:", f"  ret i64 {status}", f"on{label}:"]

    def _copy(self, copy: Copy) -> None:
        self.declare("void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        target = self.slot(copy.target, "ptr")
        self.lines.append(
            f"  call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {self.pointer(copy.source)}, "
            f"i64 {self.size(copy.size)}, i1 false)"
        )
