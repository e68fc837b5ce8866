"""Error-free transformations, and a fused multiply-add for targets that have none."""

from __future__ import annotations

from math import inf

from .emitter import VectorEmitter
from .lanes import Lanes


def two_sum(x: Lanes, y: Lanes) -> tuple[Lanes, Lanes]:
    """(s, t) with s = x + y rounded and s + t = x + y exactly."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def fast_two_sum(x: Lanes, y: Lanes) -> tuple[Lanes, Lanes]:
    """`two_sum` for |x| >= |y|."""
    total = x + y
    return total, y - (total - x)


def two_product(e: VectorEmitter, x: Lanes, y: Lanes) -> tuple[Lanes, Lanes]:
    """(p, t) with p = x * y rounded and p + t = x * y exactly, for f64 below 2**990."""
    product = x * y
    if e.target.has_fma:
        return product, e.fma(x, y, -product)
    x_high, x_low = _halves(x)
    y_high, y_low = _halves(y)
    error = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    return product, error


def _halves(x: Lanes) -> tuple[Lanes, Lanes]:
    """Veltkamp's splitting of an f64 into two parts of 26 bits."""
    shifted = x * (2.0**27 + 1.0)
    high = shifted - (shifted - x)
    return high, x - high


def to_odd(value: Lanes, error: Lanes) -> Lanes:
    """The f64 value + error rounded to odd, of which a later rounding makes the right one."""
    bits = value.bits()
    even = (bits & 1).eq(0)
    outwards = (error.gt(0.0) & value.gt(0.0)) | (error.lt(0.0) & value.lt(0.0))
    inwards = (error.gt(0.0) & value.lt(0.0)) | (error.lt(0.0) & value.gt(0.0))
    stepped = outwards.select(bits + 1, inwards.select(bits - 1, bits))
    return even.select(stepped, bits).bits()


def fma_f32_in_f64(e: VectorEmitter, x: Lanes, y: Lanes, z: Lanes) -> Lanes:
    """The product is exact in f64; rounding the sum to odd makes the second rounding right."""
    product = x.to("f64") * y.to("f64")
    total, error = two_sum(product, z.to("f64"))
    return to_odd(total, error).to("f32")


def fma_f64_in_parts(e: VectorEmitter, x: Lanes, y: Lanes, z: Lanes) -> Lanes:
    """Boldo and Melquiond's emulation. A product beyond 2**990, or below 2**-900 in magnitude,
    may round twice."""
    high, low = two_product(e, x, y)
    middle, middle_error = two_sum(z, low)
    total, total_error = two_sum(high, middle)
    rest, rest_error = two_sum(middle_error, total_error)
    result = total + to_odd(rest, rest_error)
    # Zeros get their sign, and infinities and nan arise, as in the plain sum.
    regular = result.abs().gt(0.0) & result.abs().lt(inf)
    return regular.select(result, x * y + z)
