"""How reductions combine registers: identities, one step, across lanes, and running along them."""

from __future__ import annotations

from graphc.backends.llvm.vmath.emitter import Vec
from graphc.ir.dims import AnyDim
from graphc.ir.dtype import BOOL, I32, I64, DType
from graphc.passes.loop.ir import Accumulator

from .printer import Printer, Register, vector_of

#: The place of an identity: no element beats another that equals it, so where all that a register
#: has seen are the identity's value it stays, and stands for the first place.
NO_PLACE = -1


def place_dtype(p: Printer, accumulator: Accumulator) -> DType:
    """The type of positions of an arg reduction: i32 where all positions fit."""
    assert accumulator.place is not None
    limit: AnyDim = 0
    for variable, k in accumulator.place.terms:
        limit = limit + k * p.kernel.extents[variable]
    return I32 if isinstance(limit, int) and limit < 1 << 31 else I64


def register_kinds(p: Printer, accumulator: Accumulator) -> list[str]:
    kinds = [p.kind(accumulator.dtype)]
    if accumulator.place is not None:
        kinds.append(p.kind(place_dtype(p, accumulator)))
    return kinds


def identity(p: Printer, accumulator: Accumulator) -> Register:
    """The register that changes nothing."""
    start = p.vec.const(identity_number(accumulator.op, accumulator.dtype), accumulator.dtype).name
    if accumulator.place is None:
        return (start,)
    dtype = place_dtype(p, accumulator)
    return (start, p.vec.const(NO_PLACE, dtype).name)


def identity_number(op: str, dtype: DType) -> float | int | bool:
    if op == "reduce_sum":
        return 0
    if op == "reduce_prod":
        return 1
    lowest = op in ("reduce_max", "arg_max")
    if dtype.kind == "f":
        return float("-inf") if lowest else float("inf")
    if dtype is BOOL:
        return not lowest
    if dtype.kind == "u":
        return 0 if lowest else (1 << dtype.bits) - 1
    return -(1 << dtype.bits - 1) if lowest else (1 << dtype.bits - 1) - 1


def combine(p: Printer, accumulator: Accumulator, a: Register, b: Register) -> Register:
    """a op b, where a comes before b."""
    op, dtype = accumulator.op, accumulator.dtype
    if accumulator.place is not None:
        return _better(p, accumulator, a, b)
    kind = p.kind(dtype)
    if op in ("reduce_sum", "reduce_prod"):
        word = "add" if op == "reduce_sum" else "mul"
        instruction = ("f" if dtype.kind == "f" else "") + word
        return (p.let(f"{instruction} {kind} {a[0]}, {b[0]}"),)
    largest = op == "reduce_max"
    if dtype is BOOL:
        return (p.let(f"{'or' if largest else 'and'} {kind} {a[0]}, {b[0]}"),)
    if dtype.kind != "f":
        relation = ("s" if dtype.kind == "i" else "u") + ("gt" if largest else "lt")
        first = p.let(f"icmp {relation} {kind} {a[0]}, {b[0]}")
        return (p.let(f"select {p.mask_kind} {first}, {kind} {a[0]}, {kind} {b[0]}"),)
    # The comparison is false where either is nan, which takes b; a's nan is put back.
    first = p.let(f"fcmp {'ogt' if largest else 'olt'} {kind} {a[0]}, {b[0]}")
    chosen = p.let(f"select {p.mask_kind} {first}, {kind} {a[0]}, {kind} {b[0]}")
    nan = p.let(f"fcmp uno {kind} {a[0]}, {a[0]}")
    return (p.let(f"select {p.mask_kind} {nan}, {kind} {a[0]}, {kind} {chosen}"),)


def accumulate(p: Printer, accumulator: Accumulator, a: Register, b: Register) -> Register:
    """a op b, where all that is in a comes before b."""
    if accumulator.place is None:
        return combine(p, accumulator, a, b)
    dtype, kind = accumulator.dtype, p.kind(accumulator.dtype)
    take = _beats(p, accumulator, a, b)
    if dtype.kind == "f":
        number = p.let(f"fcmp ord {kind} {a[0]}, {a[0]}")
        take = p.let(f"and {p.mask_kind} {take}, {number}")
    return choose(p, accumulator, f"{p.mask_kind} {take}", b, a)


def _beats(p: Printer, accumulator: Accumulator, a: Register, b: Register) -> str:
    """Where b is better than a, or one of them is nan."""
    dtype, kind = accumulator.dtype, p.kind(accumulator.dtype)
    sign = "s" if dtype.kind == "i" else "u"  # of floats: unordered
    relation = sign + ("gt" if accumulator.op == "arg_max" else "lt")
    compare = "fcmp" if dtype.kind == "f" else "icmp"
    return p.let(f"{compare} {relation} {kind} {b[0]}, {a[0]}")


def _better(p: Printer, accumulator: Accumulator, a: Register, b: Register) -> Register:
    """The better of two (value, place): nan before all, on a tie the smaller place."""
    dtype, kind = accumulator.dtype, p.kind(accumulator.dtype)
    places = p.kind(place_dtype(p, accumulator))
    beats = _beats(p, accumulator, a, b)
    if dtype.kind == "f":
        number = p.let(f"fcmp ord {kind} {a[0]}, {a[0]}")
        beats = p.let(f"and {p.mask_kind} {beats}, {number}")
        equal = p.let(f"fcmp oeq {kind} {a[0]}, {b[0]}")
        other = p.let(f"fcmp uno {kind} {b[0]}, {b[0]}")
        both = p.let(f"select {p.mask_kind} {number}, {p.mask_kind} zeroinitializer, "
                     f"{p.mask_kind} {other}")  # fmt: skip
        equal = p.let(f"or {p.mask_kind} {equal}, {both}")
    else:
        equal = p.let(f"icmp eq {kind} {a[0]}, {b[0]}")
    earlier = p.let(f"icmp slt {places} {b[1]}, {a[1]}")
    tie = p.let(f"and {p.mask_kind} {equal}, {earlier}")
    take = p.let(f"or {p.mask_kind} {beats}, {tie}")
    return choose(p, accumulator, f"{p.mask_kind} {take}", b, a)


def choose(
    p: Printer, accumulator: Accumulator, condition: str, a: Register, b: Register
) -> Register:
    """a where the condition holds (`i1 %x` or `<W x i1> %mask`), else b."""
    return tuple(
        [
            p.let(f"select {condition}, {kind} {x}, {kind} {y}")
            for kind, x, y in zip(register_kinds(p, accumulator), a, b)
        ]
    )


def across_lanes(p: Printer, accumulator: Accumulator, registers: list[Register]) -> Register:
    """All registers and lanes combined, as a tree; every lane holds the result."""
    while len(registers) > 1:
        pairs = zip(registers[::2], registers[1::2])
        registers = [combine(p, accumulator, a, b) for a, b in pairs]
    (total,) = registers
    distance = p.width // 2
    while distance:
        lanes = [lane ^ distance for lane in range(p.width)]
        other = tuple(
            [
                p.shuffle(kind, name, "poison", lanes)
                for kind, name in zip(register_kinds(p, accumulator), total)
            ]
        )
        total = combine(p, accumulator, total, other)
        distance //= 2
    return total


def running(p: Printer, accumulator: Accumulator, register: Register) -> Register:
    """Each lane combined with all lanes before it."""
    ((kind,), (start,)) = register_kinds(p, accumulator), identity(p, accumulator)
    distance = 1
    while distance < p.width:
        lanes = [j - distance if j >= distance else p.width + j for j in range(p.width)]
        moved = _shifted(p, kind, register[0], start, lanes)
        register = combine(p, accumulator, (moved,), register)
        distance *= 2
    return register


def _shifted(p: Printer, kind: str, name: str, start: str, lanes: list[int]) -> str:
    """A shuffle; of f32 on AVX-512 as vpermt2ps: for a shuffle the code generator takes vexpandps,
    which takes Zen 4 eight cycles."""
    if kind != "<16 x float>" or not p.vec.has_avx512:
        return p.shuffle(kind, name, start, lanes)
    function = "@llvm.x86.avx512.vpermi2var.ps.512"
    p.declare(f"{kind} {function}({kind}, <16 x i32>, {kind})")
    places = vector_of([f"i32 {lane}" for lane in lanes])
    return p.let(f"call {kind} {function}({kind} {name}, <16 x i32> {places}, {kind} {start})")


def last_lane(p: Printer, accumulator: Accumulator, register: Register) -> Register:
    """The last lane in all lanes."""
    (kind,) = register_kinds(p, accumulator)
    return (p.shuffle(kind, register[0], "poison", [p.width - 1] * p.width),)


def finished(p: Printer, accumulator: Accumulator, register: Register) -> Vec:
    """The reduction's value in its own dtype."""
    dtype = accumulator.value.type.dtype
    if accumulator.place is not None:
        held = place_dtype(p, accumulator)
        place = p.vec.emit("max", [Vec(register[1], held), p.vec.const(0, held)], held)
        return p.vec.emit("cast", [place], dtype)
    if accumulator.dtype is not dtype:
        return p.vec.emit("cast", [Vec(register[0], accumulator.dtype)], dtype)
    return Vec(register[0], dtype)


def lanes_below(p: Printer, remaining: str, first: int = 0) -> str:
    """The lanes whose number plus `first` is below an i64."""
    count = p.let(f"trunc i64 {remaining} to i32")
    wide = p.vec.splat(count, I32).name
    numbers = vector_of([f"i32 {j + first}" for j in range(p.width)])
    return p.let(f"icmp sgt <{p.width} x i32> {wide}, {numbers}")
