"""Updates at computed places, in the order of the points."""

from __future__ import annotations

from graphc.backends.llvm.vmath.emitter import Vec, VectorEmitter, memory_element
from graphc.ir.dtype import BOOL, I64
from graphc.passes.loop.ir import Scatter

from .access import (
    active_lanes,
    address,
    first_lane,
    index_vector,
    lane_dependent,
    lane_stride,
    load_vector,
    store_vector,
    widen_to_i64,
)
from .printer import Printer
from .values import value

#: The loop over the lanes of one vector.
LANE_LOOP = -9

_POINTWISE = {"add": "add", "mul": "mul", "max": "max", "min": "min"}


def print_scatter(p: Printer, s: Scatter) -> None:
    """A row of the result at a time where lanes run along it, else one lane after the other."""
    along = not any([lane_dependent(p, index) for index in s.indices])
    if along and lane_stride(p, s.place, 0) == 1:
        _whole_vector(p, s)
    else:
        _lane_by_lane(p, s)


def _updated(vec: VectorEmitter, op: str, before: Vec, update: Vec) -> Vec:
    if op == "set":
        return update
    if update.dtype is BOOL:  # add and max are `or`, mul and min are `and`
        return vec.emit("or" if op in ("add", "max") else "and", [before, update], BOOL)
    return vec.emit(_POINTWISE[op], [before, update], update.dtype)


def _whole_vector(p: Printer, s: Scatter) -> None:
    dtype = s.value.type.dtype
    kind = memory_element(dtype)
    row = "0"
    for index, stride in zip(s.indices, s.strides):
        row = p.add(row, p.mul(first_lane(p, value(p, index, 0)), p.size(stride)))
    update = value(p, s.expr, 0)
    pointer = address(p, p.buffer(s.value), s.place, kind, 0, row)
    if s.op != "set":
        before = p.vec.unpack(load_vector(p, pointer, dtype, p.mask), dtype)
        update = _updated(p.vec, s.op, before, update)
    store_vector(p, pointer, p.vec.pack(update), dtype, p.mask)


def _lane_by_lane(p: Printer, s: Scatter) -> None:
    """One lane after the other, in order."""
    dtype, vec = s.value.type.dtype, p.vec
    kind = memory_element(dtype)
    places = index_vector(p, s.place, 0, I64)
    for index, stride in zip(s.indices, s.strides):
        wide = widen_to_i64(p, value(p, index, 0))
        if stride != 1:
            wide = p.let(f"mul {p.kind(I64)} {wide}, {p.size_vector(stride, I64)}")
        places = p.let(f"add {p.kind(I64)} {places}, {wide}")
    updates = vec.pack(value(p, s.expr, 0))
    if p.mask is None:
        for lane in range(p.width):
            place = p.let(f"extractelement {p.kind(I64)} {places}, i64 {lane}")
            update = p.let(f"extractelement {vec.memory_type(dtype)} {updates}, i64 {lane}")
            _one_lane(p, s, place, update)
        return
    # How many lanes there are is known when the code runs: they go through memory.
    place_slots, update_slots = p.slot("i64", p.width), p.slot(kind, p.width)
    p.do(f"store {p.kind(I64)} {places}, ptr {place_slots}, align 8")
    p.do(f"store {vec.memory_type(dtype)} {updates}, ptr {update_slots}, align {dtype.itemsize}")
    p.open(LANE_LOOP, ("0", active_lanes(p), "1"), (0, p.width), [])
    lane = p.env[LANE_LOOP].name
    place = p.let(f"load i64, ptr {p.element(place_slots, lane, 'i64')}, align 8")
    slot = p.element(update_slots, lane, kind)
    _one_lane(p, s, place, p.let(f"load {kind}, ptr {slot}, align {dtype.itemsize}"))
    p.close([])


def _one_lane(p: Printer, s: Scatter, place: str, update: str) -> None:
    dtype = s.value.type.dtype
    kind = memory_element(dtype)
    pointer = p.element(p.buffer(s.value), place, kind)
    if s.op != "set":
        update = _scalar_update(p, s, pointer, update)
    p.do(f"store {kind} {update}, ptr {pointer}, align {dtype.itemsize}")


def _scalar_update(p: Printer, s: Scatter, pointer: str, update: str) -> str:
    """One element, as a vector of one."""
    dtype = s.value.type.dtype
    kind = memory_element(dtype)
    single = VectorEmitter(p.target, 1, p.vec.prefix)
    single.lines, single.declarations, single.helpers = (
        p.vec.lines,
        p.vec.declarations,
        p.vec.helpers,
    )
    single._count = p.vec._count
    before = p.let(f"load {kind}, ptr {pointer}, align {dtype.itemsize}")
    single._count = p.vec._count
    operands = []
    for name in (before, update):
        wide = single.fresh()
        single.lines.append(f"  {wide} = insertelement <1 x {kind}> poison, {kind} {name}, i64 0")
        operands.append(single.unpack(wide, dtype))
    packed = single.pack(_updated(single, s.op, *operands))
    p.vec._count = single._count
    return p.let(f"extractelement <1 x {kind}> {packed}, i64 0")
