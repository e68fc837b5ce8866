"""Statements of the loop level as text."""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any

from graphc.backends.llvm.vmath.emitter import Vec, memory_element
from graphc.passes.fuse.expr import walk
from graphc.passes.loop.ir import (
    Accumulate,
    Accumulator,
    At,
    Clear,
    ColumnAdd,
    CopyBuffer,
    Flush,
    Fold,
    Lanes,
    Loop,
    Reduce,
    Result,
    Resume,
    RowTiles,
    SaveRegisters,
    ScanStep,
    Scatter,
    ShortReduce,
    ShortStore,
    Stage,
    Statement,
    Store,
    StoreRegisters,
    TileLoad,
)
from graphc.passes.loop.schedule import PAIR, TILE_LANES

from . import combine as c
from .access import (
    address,
    lane_dependent,
    load_vector,
    store,
    store_one,
    store_streamed,
    store_vector,
    vector_offset,
)
from .printer import Binding, Printer, Register, dtype_of
from .scatter import print_scatter
from .short import print_short_reduce, print_short_store
from .sizes import is_number
from .tiles import print_row_tiles, print_tile_load
from .values import operand, value

#: Loops of at most this many vectors are printed once, under a mask.
SHORT_LOOP = 8

STATEMENTS: dict[type, Callable[[Printer, Any], None]] = {}


def prints(kind: type) -> Callable:
    def declare(function: Callable[[Printer, Any], None]) -> Callable[[Printer, Any], None]:
        STATEMENTS[kind] = function
        return function

    return declare


def block(p: Printer, body: list[Statement]) -> None:
    for statement in body:
        STATEMENTS[type(statement)](p, statement)


# --- loops ---------------------------------------------------------------------------------------


def _updated(body: list[Statement]) -> dict[Accumulator, None]:
    """The accumulators that statements change, in order, without those that start inside."""
    found: dict[Accumulator, None] = {}
    for statement in body:
        if isinstance(statement, Reduce):
            inside = _updated(statement.body)
            found.update({a: None for a in inside if a not in statement.accumulators})
        elif isinstance(statement, (Loop, Lanes, Stage)):
            found.update(_updated(statement.body))
        elif isinstance(statement, (Accumulate, Resume, ScanStep)):
            found[statement.accumulator] = None
        elif isinstance(statement, Fold):
            found[statement.into] = None
        elif isinstance(statement, Flush):
            found[statement.into] = found[statement.source] = None
    return found


def _carried(p: Printer, body: list[Statement]) -> list[Accumulator]:
    """The accumulators that a loop around the body carries."""
    return [a for a in _updated(body) if a in p.registers]


def _pack(p: Printer, accumulators: list[Accumulator]) -> list[tuple[str, str]]:
    return [
        (kind, name)
        for a in accumulators
        for register in p.registers[a]
        for kind, name in zip(c.register_kinds(p, a), register)
    ]


def _unpack(p: Printer, accumulators: list[Accumulator], names: list[str]) -> None:
    rest = iter(names)
    for a in accumulators:
        width = len(c.register_kinds(p, a))
        p.registers[a] = [tuple([next(rest) for _ in range(width)]) for _ in p.registers[a]]


def _run(p: Printer, variable, limits, declared, body: Callable[[], None], carried) -> None:
    """A loop whose body `body` prints; accumulators in `carried` are its phis."""
    names = p.open(variable, limits, declared, _pack(p, carried))
    _unpack(p, carried, names)
    body()
    _unpack(p, carried, p.close([name for _, name in _pack(p, carried)]))


def _clamped(p: Printer, low: str, high: str) -> tuple[str, str]:
    """The part of a parallel loop's range that this call does."""
    low = "%lo" if low == "0" else p.greatest(low, "%lo")
    return low, p.least(high, "%hi")


@prints(Loop)
def _loop(p: Printer, s: Loop) -> None:
    low, high, step = p.bound(s.low), p.bound(s.high), p.bound(s.step)
    if s.parallel:
        low, high = _clamped(p, low, high)
    declared = s.declared or (0, p.kernel.extents.get(s.variable, 0))
    _run(p, s.variable, (low, high, step), declared, lambda: block(p, s.body), _carried(p, s.body))


@prints(Lanes)
def _lanes(p: Printer, s: Lanes) -> None:
    if p.kernel.pair is not None and s.variable == PAIR:
        _pair_lanes(p, s)
        return
    low, high = p.bound(s.low), p.bound(s.high)
    if s.parallel:
        low, high = _clamped(p, low, high)
    step = p.width * s.unroll
    declared = s.declared or (0, p.kernel.extents[s.variable])
    if is_number(low) and is_number(high):
        middle = str(int(low) + (int(high) - int(low)) // step * step)
        whole, rest = int(middle) > int(low), int(middle) < int(high)
    else:
        whole, rest = True, not _divides(p, s, step)
        middle = high if not rest else _last_block(p, low, high, step)
    carried = _carried(p, s.body)
    if whole and rest and not carried and _is_short(p, s, low, high):
        whole, middle = False, low
    if whole:
        body = _wide_body(p, s, s.unroll) if s.wide else _repeated_body(p, s)
        _run(p, s.variable, (low, middle, str(step)), declared, body, carried)
    if rest:
        body = _masked_body(p, s, high)
        _run(p, s.variable, (middle, high, str(p.width)), declared, body, carried)


def _is_short(p: Printer, s: Lanes, low: str, high: str) -> bool:
    """Whether one masked loop serves: half the text, for a few vectors under a mask."""
    if not (p.target.has_masked and is_number(low) and is_number(high)):
        return False
    if any([_at_computed_places(p, part) for part in s.body]):  # dearer under a mask
        return False
    return int(high) - int(low) <= SHORT_LOOP * p.width


def _at_computed_places(p: Printer, s: Statement) -> bool:
    """Whether lanes are read or written one by one, each at a place of its own."""
    if isinstance(s, Scatter):
        return any([lane_dependent(p, index) for index in s.indices])
    if not isinstance(s, Store):
        return False
    return any(
        [
            expr.op == "load" and any([lane_dependent(p, row) for row in expr.args])
            for expr in walk([s.expr])
        ]
    )


def _divides(p: Printer, s: Lanes, step: int) -> bool:
    if s.low == At(TILE_LANES):  # blocks of whole steps
        return p.sizes.divides(step, p.kernel.extents[s.variable])
    plain = not s.parallel and s.declared is not None and s.declared == (s.low, s.high)
    return plain and p.sizes.divides(step, s.declared[1] - s.declared[0])  # type: ignore[index]


def _last_block(p: Printer, low: str, high: str, step: int) -> str:
    """The end of the whole steps between two bounds."""
    count = p.greatest(p.sub(high, low), "0")
    if step & (step - 1) == 0:
        return p.add(low, p.let(f"and i64 {count}, {-step}"))
    return p.add(low, p.mul(p.let(f"sdiv i64 {count}, {step}"), str(step)))


def _repeated_body(p: Printer, s: Lanes) -> Callable[[], None]:
    steps = [[u] for u in range(s.unroll)]
    if all([isinstance(statement, Store) for statement in s.body]):
        steps = [list(range(s.unroll))]

    def body() -> None:
        p.mask = None
        for p.active in steps:
            block(p, s.body)
        p.active = [0]

    return body


def _wide_body(p: Printer, s: Lanes, vectors: int) -> Callable[[], None]:
    def body() -> None:
        outer, p.active, p.wide = (p.active, p.wide), list(range(vectors)), True
        block(p, s.body)
        p.active, p.wide = outer

    return body


def _masked_body(p: Printer, s: Lanes, high: str) -> Callable[[], None]:
    inner = _wide_body(p, s, 1) if s.wide else lambda: block(p, s.body)

    def body() -> None:
        p.active = [0]
        p.mask = c.lanes_below(p, p.sub(high, p.env[s.variable].name))
        inner()
        p.mask = None

    return body


def _pair_lanes(p: Printer, s: Lanes) -> None:
    """Lanes over two variables together: the pattern repeats after a few vectors."""
    outer, inner, extent = p.kernel.pair  # type: ignore[misc]
    vectors = extent // gcd(extent, p.width)
    step = p.width * vectors
    low, high = p.bound(s.low), p.bound(s.high)
    if s.parallel:
        low, high = _clamped(p, low, high)
    size = p.kernel.extents[s.variable]
    middle = (
        _last_block(p, low, high, step)
        if not (is_number(low) and is_number(high))
        else str(int(low) + (int(high) - int(low)) // step * step)
    )

    def bind() -> None:
        counter = p.env[PAIR].name
        row = p.let(f"sdiv i64 {counter}, {extent}")
        p.env[outer] = Binding(row, p.depth, (0, p.kernel.extents[outer]))
        p.env[inner] = Binding("0", p.depth, (0, extent))

    def whole() -> None:
        bind()
        for u in range(vectors):
            p.active = [u]
            block(p, s.body)
        p.active = [0]

    def rest() -> None:
        bind()
        remaining = p.sub(high, p.env[PAIR].name)
        for u in range(vectors):
            p.active = [u]
            p.mask = c.lanes_below(p, remaining, u * p.width)
            block(p, s.body)
        p.mask, p.active = None, [0]

    if middle != low:
        _run(p, s.variable, (low, middle, str(step)), (0, size), whole, [])
    if middle != high:
        _run(p, s.variable, (middle, high, str(step)), (0, size), rest, [])


@prints(Stage)
def _stage(p: Printer, s: Stage) -> None:
    p.stage = s.number
    block(p, s.body)


# --- reductions ----------------------------------------------------------------------------------


@prints(Reduce)
def _reduce(p: Printer, s: Reduce) -> None:
    for accumulator in s.accumulators:
        count = accumulator.registers or len(p.active)
        p.registers[accumulator] = [c.identity(p, accumulator)] * count
    block(p, s.body)


@prints(Accumulate)
def _accumulate(p: Printer, s: Accumulate) -> None:
    accumulator = s.accumulator
    registers = p.registers[accumulator]
    for u in p.active:
        register = operand(p, accumulator, s.expr, u)
        if p.mask is not None and not p.wide:
            start = c.identity(p, accumulator)
            register = c.choose(p, accumulator, f"{p.mask_kind} {p.mask}", register, start)
        k = u % len(registers)
        registers[k] = c.accumulate(p, accumulator, registers[k], register)


@prints(Fold)
def _fold(p: Printer, s: Fold) -> None:
    p.registers[s.into] = [
        c.combine(p, s.into, a, b) for a, b in zip(p.registers[s.into], p.registers[s.source])
    ]


@prints(Flush)
def _flush(p: Printer, s: Flush) -> None:
    last = p.sub(p.bound(s.block), "1")
    rest = p.let(f"and i64 {p.scalar(s.place)}, {last}")
    condition = "i1 " + p.let(f"icmp eq i64 {rest}, 0")
    start = c.identity(p, s.source)
    into, source = p.registers[s.into], p.registers[s.source]
    for k, register in enumerate(source):
        flushed = c.choose(p, s.source, condition, register, start)
        into[k] = c.combine(p, s.into, into[k], flushed)
        source[k] = c.choose(p, s.source, condition, start, register)


@prints(Result)
def _result(p: Printer, s: Result) -> None:
    accumulator = s.accumulator
    registers = p.registers.pop(accumulator)
    if s.across:
        registers = [c.across_lanes(p, accumulator, registers)]
    found = [c.finished(p, accumulator, register) for register in registers]
    p.results[accumulator.value] = found
    p.result_depth[accumulator.value] = p.depth
    if not s.stored:
        return
    if s.across:
        store_one(p, accumulator.value, s.place, found[0])
    else:
        for u, vec in enumerate(found):
            store(p, accumulator.value, s.place, vec, u)


# --- stores --------------------------------------------------------------------------------------


@prints(Store)
def _store(p: Printer, s: Store) -> None:
    if s.one_lane:
        store_one(p, s.value, s.place, value(p, s.expr, 0))
        return
    beside = () if p.wide else p.active[1:]
    if s.streamed and p.mask is None and p.target.arch == "x86_64":
        store_streamed(p, s.value, s.place, [value(p, s.expr, u, beside) for u in p.active])
        return
    for u in p.active:
        store(p, s.value, s.place, value(p, s.expr, u, beside), u)


@prints(StoreRegisters)
def _store_registers(p: Printer, s: StoreRegisters) -> None:
    for u, register in enumerate(p.registers[s.accumulator]):
        vec = c.finished(p, s.accumulator, register)
        store(p, s.accumulator.value, s.place, vec, u)


@prints(SaveRegisters)
def _save_registers(p: Printer, s: SaveRegisters) -> None:
    dtype, kind = s.partial.dtype, memory_element(s.partial.dtype)
    line = _present_line(p, s)
    for u, (name,) in enumerate(p.registers.pop(s.accumulator)):
        step = vector_offset(p, s.place, u) if s.place is not None else u * p.width
        packed = p.vec.pack(Vec(name, dtype))
        store_vector(p, p.element(line, p.size(step), kind), packed, dtype, p.mask)


def _present_line(p: Printer, s: SaveRegisters | Resume) -> str:
    """Where the registers are in the line of the present block."""
    kind, depth = memory_element(s.partial.dtype), p.env[s.block].depth
    cache, key = p.scopes[depth].cache, ("line", s.partial)
    line = cache.get(key)
    if line is None:
        with p.at(depth):
            number = p.let(f"sdiv i64 {p.env[s.block].name}, {p.bound(s.step)}")
            offset = p.mul(number, p.size(s.partial.columns))
            line = p.element(p.buffer(s.partial), offset, kind)
        cache[key] = line
    return line if s.place is None else p.element(line, p.scalar(s.place), kind)


@prints(Resume)
def _resume(p: Printer, s: Resume) -> None:
    accumulator, dtype, kind = s.accumulator, s.partial.dtype, memory_element(s.partial.dtype)
    first = "i1 " + p.let(f"icmp eq i64 {p.env[s.row].name}, {p.env[s.block].name}")
    line = _present_line(p, s)
    registers: list[Register] = []
    for u, start in zip(p.active, p.registers[accumulator], strict=True):
        pointer = p.element(line, p.size(vector_offset(p, s.place, u)), kind)
        before = p.vec.unpack(load_vector(p, pointer, dtype, p.mask), dtype)
        registers.append(c.choose(p, accumulator, first, start, (before.name,)))
    p.registers[accumulator] = registers


@prints(ScanStep)
def _scan_step(p: Printer, s: ScanStep) -> None:
    accumulator = s.accumulator
    (before,) = p.registers[accumulator]
    register = operand(p, accumulator, s.expr, 0)
    if p.mask is not None:
        start = c.identity(p, accumulator)
        register = c.choose(p, accumulator, f"{p.mask_kind} {p.mask}", register, start)
    inside = c.running(p, accumulator, register)
    register = c.combine(p, accumulator, before, inside)
    store(p, accumulator.value, s.place, c.finished(p, accumulator, register), 0)
    # What `register` has in its last lane; this way a step waits for one addition of the last.
    total = c.last_lane(p, accumulator, inside)
    p.registers[accumulator] = [c.combine(p, accumulator, before, total)]


@prints(ColumnAdd)
def _column_add(p: Printer, s: ColumnAdd) -> None:
    """Memory is the accumulator: load, add, store."""
    dtype = dtype_of(s.into)
    kind, vector = memory_element(dtype), p.kind(dtype)
    base = _line_of(p, s) if s.row is not None else p.buffer(s.into)
    for u in p.active:
        vec = value(p, s.expr, u)
        if vec.dtype is not dtype:
            vec = p.vec.emit("cast", [vec], dtype)
        pointer = address(p, base, s.place, kind, u)
        before = load_vector(p, pointer, dtype, p.mask)
        add = "fadd" if dtype.kind == "f" else "add"
        after = p.let(f"{add} {vector} {before}, {vec.name}")
        store_vector(p, pointer, after, dtype, p.mask)


def _line_of(p: Printer, s: ColumnAdd) -> str:
    """The line of the partial for the present row, found once a row."""
    assert s.row is not None
    depth = max([p.env[v].depth for v, _ in p.form(s.row).terms], default=0)
    cache, key = p.scopes[depth].cache, ("line", s.into)
    found = cache.get(key)
    if found is None:
        with p.at(depth):
            number = p.let(f"sdiv i64 {p.scalar(s.row)}, {p.bound(s.block)}")
            offset = p.mul(number, p.size(s.columns))
            found = p.element(p.buffer(s.into), offset, memory_element(dtype_of(s.into)))
        cache[key] = found
    return found


@prints(Clear)
def _clear(p: Printer, s: Clear) -> None:
    base = address(p, p.buffer(s.buffer), s.place, memory_element(dtype_of(s.buffer)), 0)
    width = p.size(s.size * dtype_of(s.buffer).itemsize)
    if s.block != 0:
        block_rows = p.bound(s.block)
        last = p.add(p.let("add nsw i64 %hi, -1"), block_rows)
        first = p.let(f"sdiv i64 %lo, {block_rows}")
        count = p.sub(p.let(f"sdiv i64 {last}, {block_rows}"), first)
        base = p.element(base, p.mul(first, width), "i8")
        width = p.mul(count, width)
    p.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    p.do(f"call void @llvm.memset.p0.i64(ptr {base}, i8 0, i64 {width}, i1 false)")


@prints(CopyBuffer)
def _copy(p: Printer, s: CopyBuffer) -> None:
    width = p.size(s.size * s.into.type.dtype.itemsize)
    p.declare("void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    kind = memory_element(s.into.type.dtype)
    target, source = [address(p, p.buffer(b), s.place, kind, 0) for b in (s.into, s.source)]
    p.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {width}, i1 false)")


@prints(Scatter)
def _scatter(p: Printer, s: Scatter) -> None:
    print_scatter(p, s)


@prints(TileLoad)
def _tile_load(p: Printer, s: TileLoad) -> None:
    print_tile_load(p, s)


@prints(RowTiles)
def _row_tiles(p: Printer, s: RowTiles) -> None:
    print_row_tiles(p, s)


@prints(ShortReduce)
def _short_reduce(p: Printer, s: ShortReduce) -> None:
    print_short_reduce(p, s)


@prints(ShortStore)
def _short_store(p: Printer, s: ShortStore) -> None:
    print_short_store(p, s)
