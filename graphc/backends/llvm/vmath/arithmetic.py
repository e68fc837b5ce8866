"""Arithmetic, comparisons and choices: the ops that are one instruction or a few."""

from __future__ import annotations

import re
import struct
from math import copysign, nan

from .emitter import VectorEmitter, vector_op
from .lanes import Lanes
from .scaling import FORMATS


@vector_op("neg")
def neg(e: VectorEmitter, x: Lanes) -> Lanes:
    return -x


@vector_op("abs")
def abs_(e: VectorEmitter, x: Lanes) -> Lanes:
    if x.is_float:
        return x.abs()
    return x if x.type[0] in "ub" else x.lt(0).select(-x, x)


@vector_op("sign")
def sign(e: VectorEmitter, x: Lanes) -> Lanes:
    """0 for nan, as in torch."""
    one, zero = (e.constant(c, x.type) for c in (1, 0))
    positive = x.gt(0).select(one, zero)
    return positive if x.type[0] == "u" else x.lt(0).select(-1, positive)


@vector_op("add")
def add(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x + y


@vector_op("sub")
def sub(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x - y


@vector_op("mul")
def mul(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x * y


@vector_op("div")
def div(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x / y


@vector_op("sqrt")
def sqrt(e: VectorEmitter, x: Lanes) -> Lanes:
    return x.sqrt()


@vector_op("rsqrt")
def rsqrt(e: VectorEmitter, x: Lanes) -> Lanes:
    return 1.0 / x.sqrt()


@vector_op("isnan")
def isnan(e: VectorEmitter, x: Lanes) -> Lanes:
    return x.is_nan()


@vector_op("select")
def select(e: VectorEmitter, condition: Lanes, x: Lanes, y: Lanes) -> Lanes:
    return condition.select(x, y)


@vector_op("eq")
def eq(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x.eq(y)


@vector_op("ne")
def ne(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x.ne(y)


@vector_op("lt")
def lt(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x.lt(y)


@vector_op("le")
def le(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x.le(y)


@vector_op("max")
def max_(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """nan where either is; of zeros of both signs the positive one."""
    if not x.is_float:
        return x | y if x.type == "bool" else x.gt(y).select(x, y)
    for value, other in ((_constant_value(y), x), (_constant_value(x), y)):
        if value is not None and value == value:
            low = other.lt(value) if _is_negative_zero(value) else other.le(value)
            return low.select(value, other)
    # The two selections differ only in zeros, whose bits `and` joins.
    larger = x.gt(y).select(x, y).bits() & y.gt(x).select(y, x).bits()
    return _unordered(x, y).select(nan, larger.bits())


@vector_op("min")
def min_(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """nan where either is; of zeros of both signs the negative one."""
    if not x.is_float:
        return x & y if x.type == "bool" else x.lt(y).select(x, y)
    for value, other in ((_constant_value(y), x), (_constant_value(x), y)):
        if value is not None and value == value:
            positive_zero = value == 0 and not _is_negative_zero(value)
            high = other.gt(value) if positive_zero else other.ge(value)
            return high.select(value, other)
    smaller = x.lt(y).select(x, y).bits() | y.lt(x).select(y, x).bits()
    return _unordered(x, y).select(nan, smaller.bits())


def _unordered(x: Lanes, y: Lanes) -> Lanes:
    return x._binary("fcmp uno", y, "bool")


def _is_negative_zero(value: float) -> bool:
    return value == 0 and copysign(1.0, value) < 0


_SPLAT = re.compile(r"splat \((?:float|double) 0x([0-9A-F]{16})\)")


def _constant_value(x: Lanes) -> float | None:
    """The number that all lanes of a constant are, or None for what is not constant."""
    match = _SPLAT.fullmatch(x.name)
    if match is None:
        return None
    return struct.unpack("<d", struct.pack("<Q", int(match[1], 16)))[0]


@vector_op("fma")
def fma(e: VectorEmitter, x: Lanes, y: Lanes, z: Lanes) -> Lanes:
    """x * y + z with one rounding, on every target."""
    from .exact import fma_f32_in_f64, fma_f64_in_parts

    if not x.is_float:
        return x * y + z
    if e.target.has_fma:
        return e.fma(x, y, z)
    return fma_f32_in_f64(e, x, y, z) if x.type == "f32" else fma_f64_in_parts(e, x, y, z)


@vector_op("nextafter")
def nextafter(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    form = FORMATS[x.type]
    bits = x.bits()
    # Away from zero the bits count up, towards it down.
    away = (x.lt(y) & x.gt(0.0)) | (x.gt(y) & x.lt(0.0))
    stepped = away.select(bits + 1, bits - 1)
    sign_of_y = y.bits() & (-1 << (form.bits - 1))
    stepped = x.eq(0.0).select(sign_of_y | 1, stepped).bits()
    result = x.eq(y).select(y, stepped)
    return _unordered(x, y).select(nan, result)
