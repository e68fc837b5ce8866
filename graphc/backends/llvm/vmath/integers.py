"""Integer ops: division, shifts, bits and powers. None can trap, whatever its operands."""

from __future__ import annotations

from .emitter import VectorEmitter, vector_op
from .lanes import BITS, Lanes


@vector_op("and")
def and_(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x & y


@vector_op("or")
def or_(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x | y


@vector_op("xor")
def xor(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    return x ^ y


@vector_op("not")
def not_(e: VectorEmitter, x: Lanes) -> Lanes:
    return ~x


@vector_op("popcount")
def popcount(e: VectorEmitter, x: Lanes) -> Lanes:
    return x._intrinsic("ctpop")


@vector_op("shl")
def shl(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """0 for a count below 0 or of the width or more."""
    width = BITS[x.type]
    inside = y.bits(f"u{width}").lt(width)
    return inside.select(x << inside.select(y, 0), 0)


@vector_op("shr")
def shr(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """The sign for a count below 0 or of the width or more; 0 if unsigned."""
    width = BITS[x.type]
    inside = y.bits(f"u{width}").lt(width)
    if x.type[0] == "i":
        return x >> inside.select(y, width - 1)
    return inside.select(x >> inside.select(y, 0), 0)


@vector_op("quo")
def quo(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """The quotient rounded towards 0; x for y = 0 (which others report); MIN / -1 = MIN."""
    y = y.eq(0).select(1, y)
    width = BITS[x.type]
    if width < 64:
        # A quotient of integers is further from the next integer than a float of twice their
        # width, and a half, rounds.
        wide = "f32" if width <= 16 else "f64"
        quotient = x.to(wide) / y.to(wide)
        if width < 32:
            return quotient.to("i32").to(x.type)
        if x.type == "u32":
            return quotient.to("i64").to("u32")
        return quotient.ge(2.0**31).select(-(2.0**31), quotient).to("i32")
    if x.type[0] == "u":
        return x._binary("udiv", y)
    overflow = x.eq(-(2**63)) & y.eq(-1)
    return x._binary("sdiv", overflow.select(1, y))


def rem_integer(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """What `quo` leaves, with the sign of x; 0 for y = 0."""
    y = y.eq(0).select(1, y)
    return x - quo(e, x, y) * y


def pow_integer(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """x ** y, wrapping. A negative exponent gives 0, except for the bases 1 and -1."""
    return e.helper(f"pow.{x.type}", _pow_by_squaring, [x, y], x.type)


def _pow_by_squaring(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    unsigned = f"u{BITS[y.type]}"
    negative = y.lt(0) if y.type[0] == "i" else None
    rest = y if negative is None else negative.select(0, y)

    def step(result: Lanes, power: Lanes, rest: Lanes) -> list[Lanes]:
        odd = (rest & 1).ne(0)
        return [odd.select(result * power, result), power * power, rest >> 1]

    start = [e.constant(1, x.type), x, rest.bits(unsigned)]
    result, _, _ = e.loop(start, lambda result, power, rest: rest.ne(0), step)
    if negative is None:
        return result
    unit = (y & 1).ne(0).select(x, 1)  # for x = 1 and -1
    outside = (x.eq(1) | x.eq(-1)).select(unit, 0)
    return negative.select(outside, result)
