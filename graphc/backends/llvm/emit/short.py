"""Rows in lanes: the elements of a row one after the other, each a register."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from graphc.backends.llvm.vmath.emitter import memory_element
from graphc.passes.fuse.affine import Variable
from graphc.passes.loop.ir import ShortReduce, ShortStore

from . import combine as c
from .access import active_lanes, address, gather_constant, store_vector
from .printer import Binding, Printer, Register, Scope
from .values import operand, value

Points = list[tuple[Variable, int]]


@contextmanager
def _at_point(p: Printer, points: Points, number: int, places: tuple[int, ...]) -> Iterator[None]:
    """Inside, the variables of the row have these values; what is computed there is kept."""
    parent = p.scopes[-1]
    scopes = parent.cache.setdefault("points", {})
    scope = scopes.get(number)
    if scope is None:
        scope = scopes[number] = Scope(parent.label, lines=parent.lines)
    p.scopes.append(scope)
    for (variable, _), place in zip(points, places):
        p.env[variable] = Binding(str(place), p.depth, (place, place + 1))
    try:
        yield
    finally:
        p.scopes.pop()


def _each_point(p: Printer, points: Points) -> Iterator[int]:
    """Goes through the elements of a row in order."""
    places = product(*[range(extent) for _, extent in points])
    for number, place in enumerate(places):
        with _at_point(p, points, number, place):
            yield number


def print_short_reduce(p: Printer, s: ShortReduce) -> None:
    """The tree of a row program over registers: absent lanes are left out."""
    a = s.accumulator
    registers: list[Register] = []
    for number in _each_point(p, s.points):
        element = operand(p, a, s.expr, 0)
        if number < p.width:
            registers.append(element)
        else:  # as the next vector of a row along the lanes
            lane = number % p.width
            registers[lane] = c.combine(p, a, registers[lane], element)
    distance = p.width // 2
    while distance:
        for j in range(min(distance, len(registers))):
            if j + distance < len(registers):
                registers[j] = c.combine(p, a, registers[j], registers[j + distance])
        del registers[distance:]
        distance //= 2
    total = registers[0]
    if a.op == "reduce_sum" and a.dtype.kind == "f":
        total = c.combine(p, a, c.identity(p, a), total)  # 0 + x, which is never -0.0
    p.registers[a] = [total]


def print_short_store(p: Printer, s: ShortStore) -> None:
    """Rows lie one after the other: a tile puts their elements into that order."""
    dtype = s.value.type.dtype
    kind, vector = memory_element(dtype), p.vec.memory_type(dtype)
    n = 1
    for _, extent in s.points:
        n *= extent
    slot = p.slot(kind, n * p.width)
    pointer = ""
    for number in _each_point(p, s.points):
        if number == 0:
            pointer = address(p, p.buffer(s.value), s.place, kind, 0)
        packed = p.vec.pack(value(p, s.expr, 0))
        at = p.element(slot, str(number * p.width), kind)
        p.do(f"store {vector} {packed}, ptr {at}, align {dtype.itemsize}")
    count = None if p.mask is None else p.mul(active_lanes(p), str(n))
    for k in range(n):
        places = [divmod(k * p.width + lane, n) for lane in range(p.width)]
        name = gather_constant(p, slot, dtype, [j * p.width + row for row, j in places])
        mask = None if count is None else c.lanes_below(p, count, k * p.width)
        store_vector(p, p.element(pointer, str(k * p.width), kind), name, dtype, mask)
