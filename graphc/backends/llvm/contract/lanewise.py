"""Elementwise steps between products: elementary functions, comparisons, sums across lanes."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.packing import shuffle
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.vmath import Vec, VectorEmitter
from graphc.backends.llvm.vmath.emitter import literal
from graphc.ir.dtype import DTYPES


def constant(vector: Vector, number: float) -> str:
    """All lanes."""
    kind = vector.element
    return f"splat ({kind.llvm} {literal(number, kind.name)})"


def elementary(vector: Vector, op: str, value: str) -> str:
    """A pointwise op of one operand, as maps compute it."""
    emitter, dtype = vector.emitter, DTYPES[vector.element.name]
    expand = VectorEmitter(vector.target, vector.lanes, prefix=emitter.name("m") + ".")
    made = expand.emit(op, [Vec(value, dtype)], dtype)
    emitter.lines += expand.lines
    emitter.declares |= expand.declarations
    emitter.helpers |= expand.helpers
    return made.name


def binary(vector: Vector, instruction: str, a: str, b: str) -> str:
    return vector.emitter.value(f"{instruction} {vector.type} {a}, {b}")


def select(vector: Vector, mask: str, chosen: str, other: str) -> str:
    kind = vector.type
    return vector.emitter.value(
        f"select {vector.mask_type} {mask}, {kind} {chosen}, {kind} {other}"
    )


def equal(vector: Vector, a: str, b: str) -> str:
    """The mask of equal lanes; nan equals nothing."""
    return vector.emitter.value(f"fcmp oeq {vector.type} {a}, {b}")


def larger(vector: Vector, a: str, b: str) -> str:
    """The larger of both; b where a is nan."""
    return select(vector, vector.emitter.value(f"fcmp ogt {vector.type} {a}, {b}"), a, b)


def lower_lanes(vector: Vector, number: Index, first: int) -> str:
    """The mask of the lanes whose number, counted from `first`, is below `number`."""
    emitter, lanes = vector.emitter, vector.lanes
    if isinstance(number, int):
        narrow = str(number)
    else:
        narrow = emitter.value(f"trunc i64 {number} to i32")
    kind = f"<{lanes} x i32>"
    one = emitter.value(f"insertelement {kind} poison, i32 {narrow}, i64 0")
    spread = emitter.value(f"shufflevector {kind} {one}, {kind} poison, {kind} zeroinitializer")
    steps = "<" + ", ".join(f"i32 {first + lane}" for lane in range(lanes)) + ">"
    return emitter.value(f"icmp slt {kind} {steps}, {spread}")


def first_lane(vector: Vector, value: str) -> str:
    return vector.emitter.value(f"extractelement {vector.type} {value}, i64 0")


def largest_lane(vector: Vector, value: str) -> str:
    """The largest lane, in all lanes; nan is left out where any lane is a number."""
    half = vector.lanes // 2
    while half:
        turned = [(lane + half) % vector.lanes for lane in range(vector.lanes)]
        value = larger(vector, value, shuffle(vector, value, value, turned))
        half //= 2
    return value


def sum_of_lanes(vector: Vector, value: str) -> str:
    """The sum of all lanes, in all lanes, by a tree."""
    half = vector.lanes // 2
    while half:
        turned = [(lane + half) % vector.lanes for lane in range(vector.lanes)]
        value = vector.add(value, shuffle(vector, value, value, turned))
        half //= 2
    return value


def sums_in_lanes(vector: Vector, values: Sequence[str]) -> tuple[str, str]:
    """The sums of the lanes of some values, at most as many as there are lanes, a power of two: a
    vector of these in their order, and its type."""
    lanes, count, half = vector.lanes, len(values), len(values) // 2
    rows = list(values)
    while half:  # a lane at place n, counted in groups of `count`, belongs to value n at the end
        upper = [lane if lane & half == 0 else lanes + lane - half for lane in range(lanes)]
        lower = [lane + half if lane & half == 0 else lanes + lane for lane in range(lanes)]
        rows = [
            vector.add(shuffle(vector, a, b, upper), shuffle(vector, a, b, lower))
            for a, b in zip(rows[: len(rows) // 2], rows[len(rows) // 2 :])
        ]
        half //= 2
    emitter, kind, made = vector.emitter, vector.element.llvm, rows[0]
    while lanes > count:
        lanes //= 2
        halves = [", ".join(f"i32 {n + at}" for n in range(lanes)) for at in (0, lanes)]
        wide, narrow = f"<{2 * lanes} x {kind}>", f"<{lanes} x {kind}>"
        low, high = (
            emitter.value(f"shufflevector {wide} {made}, {wide} poison, <{lanes} x i32> <{half}>")
            for half in halves
        )
        made = emitter.value(f"fadd {narrow} {low}, {high}")
    return made, f"<{count} x {kind}>"
