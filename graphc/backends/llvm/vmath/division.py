"""The remainder of a division, for floats and integers.

`rem` has the sign of x (C's fmod), `remainder` that of y (Python's %). Both are exact.
"""

from __future__ import annotations

from math import inf, nan

from .emitter import VectorEmitter, vector_op
from .integers import rem_integer
from .lanes import Lanes
from .rounding import trunc
from .scaling import F64_FORMAT


@vector_op("rem")
@vector_op("fmod")
def fmod(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    if not x.is_float:
        return rem_integer(e, x, y)
    return e.helper(f"fmod.{x.type}", _fmod_f32 if x.type == "f32" else _fmod_f64, [x, y], x.type)


@vector_op("remainder")
def remainder(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    rest = fmod(e, x, y)
    if x.type[0] == "u":
        return rest
    other_sign = (rest.lt(0) & y.gt(0)) | (rest.gt(0) & y.lt(0))
    return other_sign.select(rest + y, rest)


def _operands(x: Lanes, y: Lanes) -> tuple[Lanes, Lanes]:
    """|x| and |y|, or 0 and 1 where `_at_edges` decides."""
    regular = x.abs().lt(inf) & y.abs().gt(0.0) & y.abs().lt(inf)
    return regular.select(x, 0.0).abs(), regular.select(y, 1.0).abs()


def _at_edges(x: Lanes, y: Lanes, rest: Lanes) -> Lanes:
    """The remainder with x's sign; nan for infinite x and for y = 0; x for infinite y."""
    rest = y.abs().eq(inf).select(x, rest.copysign(x))
    return (x.abs().lt(inf) & y.abs().gt(0.0)).select(rest, nan)


def _fmod_f32(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """In f64, where quotients of 29 bits are exact: each step takes a multiple of |y| 2**s."""
    start, divisor = (operand.to("f64") for operand in _operands(x, y))

    def step(rest: Lanes) -> list[Lanes]:
        gap = (rest.bits() >> 52) - (divisor.bits() >> 52)  # of the exponents
        power = gap.lt(28).select(0, gap - 28)
        scaled = (divisor.bits() + (power << 52)).bits()
        rest = rest - trunc(e, rest / scaled) * scaled
        return [rest.lt(0.0).select(rest + scaled, rest)]

    (rest,) = e.loop([start], lambda rest: rest.ge(divisor), step)
    return _at_edges(x, y, rest.to("f32"))


def _fmod_f64(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """Long division of the fractions as integers, eleven bits at a time."""
    dividend, divisor = _operands(x, y)
    x_fraction, x_exponent = _integer_parts(dividend)
    y_fraction, y_exponent = _integer_parts(divisor)

    def step(rest: Lanes, gap: Lanes) -> list[Lanes]:
        count = gap.gt(11).select(e.constant(11, "i64"), gap.gt(0).select(gap, 0))
        return [(rest << count.bits("u64"))._binary("urem", y_fraction), gap - count]

    start = [x_fraction._binary("urem", y_fraction), x_exponent - y_exponent]
    rest, _ = e.loop(start, lambda rest, gap: gap.gt(0), step)
    rest = dividend.lt(divisor).select(dividend, _from_parts(rest, y_exponent))
    return _at_edges(x, y, rest)


def _integer_parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """(fraction, exponent) with x = fraction * 2**exponent / 2**1075, as integers."""
    bits = x.bits("u64")
    biased = bits >> 52
    normal = biased.ne(0)
    fraction = bits & ((1 << 52) - 1)
    return (
        normal.select(fraction | (1 << 52), fraction),
        normal.select(biased, 1).bits("i64"),
    )


def _from_parts(fraction: Lanes, exponent: Lanes) -> Lanes:
    """fraction * 2**exponent / 2**1075 for a fraction below 2**53, exactly."""
    has_top = (fraction >> 52).ne(0)
    unit = ((fraction & ((1 << 52) - 1)) | F64_FORMAT.one_bits).bits("f64")
    value = has_top.select(unit, unit - 1.0)  # fraction / 2**52
    # 2**(exponent - 1023), which may be below the normal range, in two steps.
    small = exponent.lt(64)
    power = (small.select(exponent + 64, exponent) << 52).bits("f64")
    product = value * power
    return small.select(product * 2.0**-64, product)
