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


def _at_edges(x: Lanes, y: Lanes, rest: Lanes) -> Lanes:
    """The remainder with x's sign; nan for infinite x and for y = 0; x for infinite y."""
    defined = x.abs().lt(inf) & y.abs().gt(0.0)
    return defined.select(rest.copysign(x), nan)


def _fmod_f32(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """Subtracts multiples of |y| 2**s, whose quotient has 29 bits, so that f64 is exact."""
    defined = x.abs().lt(inf) & y.abs().gt(0.0) & y.abs().lt(inf)
    divisor = defined.select(y, 1.0).to("f64").abs()
    start = defined.select(x, 0.0).to("f64").abs()

    def step(rest: Lanes) -> list[Lanes]:
        # Divide by |y| 2**s, s a multiple of 28 with a quotient below 2**29.
        gap = (rest.bits() >> 52) - (divisor.bits() >> 52)
        power = gap.lt(28).select(0, gap - 28)
        scaled = (divisor.bits() + (power << 52)).bits()
        rest = rest - trunc(e, rest / scaled) * scaled
        return [rest.lt(0.0).select(rest + scaled, rest)]

    (rest,) = e.loop([start], lambda rest: rest.ge(divisor), step)
    result = _at_edges(x, y, rest.to("f32"))
    return (y.abs().eq(inf) & x.abs().lt(inf)).select(x, result)


def _fmod_f64(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """Long division of the fractions as integers, eleven bits at a time."""
    defined = x.abs().lt(inf) & y.abs().gt(0.0) & y.abs().lt(inf)
    x_fraction, x_exponent = _integer_parts(defined.select(x, 0.0).abs())
    y_fraction, y_exponent = _integer_parts(defined.select(y, 1.0).abs())
    gap = x_exponent - y_exponent
    below = gap.lt(0)
    rest = x_fraction._binary("urem", y_fraction)

    def step(rest: Lanes, gap: Lanes) -> list[Lanes]:
        count = gap.gt(11).select(e.constant(11, "i64"), gap.gt(0).select(gap, 0))
        return [(rest << count.bits("u64"))._binary("urem", y_fraction), gap - count]

    rest, _ = e.loop([rest, gap], lambda rest, gap: gap.gt(0), step)
    result = _at_edges(x, y, _from_parts(e, rest, y_exponent))
    return (
        (below | y.abs().eq(inf)) & x.abs().lt(inf) & y.ne(0.0) & y.is_nan().__invert__()
    ).select(x, result)


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


def _from_parts(e: VectorEmitter, fraction: Lanes, exponent: Lanes) -> Lanes:
    """fraction * 2**exponent / 2**1075 for a fraction below 2**53, exactly."""
    # The fraction over 2**52 in [1, 2) less one, then scaled; small exponents in two steps.
    low = fraction & ((1 << 52) - 1)
    has_top = (fraction >> 52).ne(0)
    unit = (low | F64_FORMAT.one_bits).bits("f64")
    value = has_top.select(unit, unit - 1.0)  # fraction / 2**52
    small = exponent.lt(64)
    first = small.select(exponent + 64, exponent)
    power = (first << 52).bits("f64")
    first_product = value * power * 2.0**0
    return small.select(value * power * 2.0**-64, first_product)
