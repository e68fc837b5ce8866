"""pow, with C's special cases.

x**y = 2**(y log2 x), with log2 x as a sum of two: the error of the logarithm is multiplied by up
to 2**10. The parts are cut so that their products are exact (after fdlibm's e_pow).
"""

from __future__ import annotations

from math import inf, nan

from .emitter import VectorEmitter, vector_op
from .exponential import EXP2
from .integers import pow_integer
from .lanes import Lanes
from .rounding import round_even
from .scaling import power_of_two, round_small, scale, split_exponent

LOG_SERIES = (  # (log(x) - 2 s - 2 s**3/3) 3 / (2 s**5) in s**2, s = (x - 1)/(x + 1)
    0.1795778366149296,
    0.17515657711974578,
    0.20004286640838878,
    0.23076840900700785,
    0.27272728210819247,
    0.3333333332721414,
    0.4285714285716313,
    0.5999999999999998,
)
LOG2_SHORT = (  # log2(x)/s in s**2
    0.2829298097044403,
    0.3199036664892311,
    0.41220930077220697,
    0.5770779418970803,
    0.9617966941149131,
    2.885390081777849,
)
EXP2_SHORT = (  # (2**r - 1)/r on [-1/2, 1/2]
    1.3263010837045088e-06,
    1.5309074647252466e-05,
    0.00015403418302023143,
    0.0013333455322915885,
    0.0096181292142406,
    0.055504109344892326,
    0.24022650695583223,
    0.693147180548567,
)
TWO_THIRDS_LOG2_E = (9.61796700954437255859e-01, -7.02846165095275826516e-09)
LN2_PARTS = (6.93147182464599609375e-01, -1.90465429995776804525e-09)


@vector_op("pow")
def pow_(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    if not x.is_float:
        return pow_integer(e, x, y)
    return e.helper(f"pow.{x.type}", _pow_f32 if x.type == "f32" else _pow_f64, [x, y], x.type)


def _pow_f32(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    """In f64, with a logarithm of 42 bits: 24, and 8 for the size of the exponent."""
    x, y = x.to("f64"), y.to("f64")
    magnitude = x.abs()
    regular = magnitude.gt(0.0) & magnitude.lt(inf)
    k, m = split_exponent(e, regular.select(magnitude, 1.0))
    s = (m - 1.0) / (m + 1.0)
    total = e.mad(e.polynomial(s * s, LOG2_SHORT), s, k) * y
    limit = 256.0  # beyond it f32 is 0 or inf, while f64 is not
    total = total.gt(limit).select(limit, total.lt(-limit).select(-limit, total))
    n = round_small(total)
    t = total - n
    power = e.mad(e.polynomial(t, EXP2_SHORT), t, 1.0) * power_of_two(n)
    return _special_powers(e, x, y, power).to("f32")


def _upper_half(x: Lanes) -> Lanes:
    """x with its last 32 bits zero, so that a product of two such is exact."""
    return (x.bits() & -(1 << 32)).bits()


def _pow_f64(e: VectorEmitter, x: Lanes, y: Lanes) -> Lanes:
    magnitude = x.abs()
    regular = magnitude.gt(0.0) & magnitude.lt(inf)
    high, low = _log2(e, regular.select(magnitude, 1.0))
    # Beyond this |y| every power is 0, 1 or inf; the limit keeps products finite.
    limit = 2.0**70
    bounded = y.gt(limit).select(limit, y.lt(-limit).select(-limit, y))
    y_high = _upper_half(bounded)
    product_low = (bounded - y_high) * high + bounded * low
    product_high = y_high * high
    result = _exp2_sum(e, product_high, product_low)
    return _special_powers(e, x, y, result)


def _log2(e: VectorEmitter, x: Lanes) -> tuple[Lanes, Lanes]:
    """log2(x) as a sum, the first part cut to its upper half, for finite x > 0."""
    n, m = split_exponent(e, x)
    u, total = m - 1.0, m + 1.0
    inverse = 1.0 / total
    s = u * inverse
    s_high = _upper_half(s)
    total_high = _upper_half(total)
    total_low = m - (total_high - 1.0)
    s_low = inverse * ((u - s_high * total_high) - s_high * total_low)
    z = s * s
    r = z * z * e.polynomial(z, LOG_SERIES) + s_low * (s_high + s)
    square = s_high * s_high
    t_high = _upper_half((3.0 + square) + r)
    t_low = r - ((t_high - 3.0) - square)
    u, v = s_high * t_high, s_low * t_high + t_low * s
    p_high = _upper_half(u + v)
    p_low = v - (p_high - u)
    scale_high, scale_low = TWO_THIRDS_LOG2_E
    first = p_high * scale_high
    second = p_high * scale_low + p_low * (scale_high + scale_low)
    log_high = _upper_half((first + second) + n)
    return log_high, second - ((log_high - n) - first)


def _exp2_sum(e: VectorEmitter, high: Lanes, low: Lanes) -> Lanes:
    """2**(high + low)."""
    total = high + low
    least, greatest = -1080.0, 1030.0
    inside = total.gt(least) & total.lt(greatest)
    high, low = inside.select(high, 0.0), inside.select(low, 0.0)
    n = round_small(inside.select(total, 0.0))
    t = (high - n) + low
    p = e.mad(e.polynomial(t, EXP2["f64"]), t, 1.0)
    result = scale(e, p, n)
    result = total.ge(greatest).select(inf, result)
    return total.le(least).select(0.0, result)


def _special_powers(e: VectorEmitter, x: Lanes, y: Lanes, power: Lanes) -> Lanes:
    """What C's pow gives for negative, zero and infinite x and for infinite y and nan."""
    zero, magnitude = e.constant(0.0, "f64"), x.abs()
    whole = round_even(e, y).eq(y)
    half = y * 0.5
    odd = whole & round_even(e, half).ne(half) & y.abs().lt(2.0**53)
    grows = magnitude.gt(1.0) ^ y.lt(0.0)  # for infinite x or y, and for x = 0
    extreme = grows.select(e.constant(inf, "f64"), zero)
    at_edge = magnitude.eq(0.0) | magnitude.eq(inf) | (y.abs().eq(inf) & magnitude.ne(1.0))
    result = at_edge.select(extreme, magnitude.eq(1.0).select(1.0, power))
    negative = x.bits().lt(0)
    result = (negative & odd).select(-result, result)
    undefined = x.lt(0.0) & magnitude.lt(inf) & ~whole
    result = undefined.select(nan, result)
    result = (x.is_nan() | y.is_nan()).select(nan, result)
    return (y.eq(0.0) | x.eq(1.0)).select(1.0, result)
