"""asin, acos, atan and atan2."""

from __future__ import annotations

from math import inf, nan

from .emitter import VectorEmitter, vector_op
from .exact import fast_two_sum, two_product
from .lanes import Lanes
from .precision import in_f64_without_fma

HALF_PI = {"f32": (1.57079637, -4.37113883e-8), "f64": (1.5707963267948966, 6.123233995736766e-17)}
ATAN = {  # (atan(q)/q - 1) / q**2 in q**2, for q in [0, 1]
    "f32": (
        -0.00188284146,
        0.0113208005,
        -0.031949833,
        0.0587505847,
        -0.0845104977,
        0.109690145,
        -0.142675877,
        0.199988797,
        -0.333333105,
    ),
    "f64": (
        1.4293121805969516e-05,
        -0.0001629391478377672,
        0.0008816637255119822,
        -0.0030293063133293003,
        0.007481016925282694,
        -0.014308839687014959,
        0.022426144156051406,
        -0.03027036286087081,
        0.036878418345077,
        -0.0423109181213079,
        0.04727002049860733,
        -0.052549438558471856,
        0.05880860562398323,
        -0.06666462556950581,
        0.07692287385196074,
        -0.09090907690638982,
        0.11111111048872092,
        -0.14285714284130835,
        0.19999999999981644,
        -0.3333333333333328,
    ),
}
ASIN = {  # (asin(x)/x - 1) / x**2 in x**2, for x in [0, 1/2]
    "f32": (0.0421479084, 0.0241937265, 0.0454664826, 0.0749534145, 0.166667506),
    "f64": (
        0.03248904812254863,
        -0.020762606135355716,
        0.021529569287028667,
        0.0037846749198299757,
        0.010757923748867089,
        0.011403239046169661,
        0.013980240732367468,
        0.017351665670331137,
        0.02237221162372426,
        0.030381942844968295,
        0.044642857171231724,
        0.07499999999975175,
        0.16666666666666738,
    ),
}


def _atan_of_ratio(e: VectorEmitter, top: Lanes, bottom: Lanes) -> Lanes:
    """atan(top / bottom) for 0 <= top <= bottom, bottom > 0."""
    q = top / bottom
    z = q * q
    return e.mad(e.polynomial(z, ATAN[q.type]) * z, q, q)


@vector_op("atan")
@in_f64_without_fma
def atan(e: VectorEmitter, x: Lanes) -> Lanes:
    magnitude = x.abs()
    beyond = magnitude.gt(1.0)
    angle = _atan_of_ratio(e, beyond.select(1.0, magnitude), beyond.select(magnitude, 1.0))
    high, low = HALF_PI[x.type]
    return beyond.select(high - (angle - low), angle).copysign(x)


@vector_op("atan2")
@in_f64_without_fma
def atan2(e: VectorEmitter, y: Lanes, x: Lanes) -> Lanes:
    return e.helper(f"atan2.{x.type}", _atan2, [y, x], x.type)


def _atan2(e: VectorEmitter, y: Lanes, x: Lanes) -> Lanes:
    """The angle to the nearer axis, below pi/4, is added to or taken from 0, pi/2 or pi."""
    high, low = y.abs(), x.abs()
    steep = high.gt(low)
    top, bottom = steep.select(low, high), steep.select(high, low)
    infinite = high.eq(inf) & low.eq(inf)
    bottom = (bottom.eq(0.0) | infinite).select(1.0, bottom)
    angle = _atan_of_ratio(e, infinite.select(1.0, top), bottom)
    left = x.bits().lt(0)
    angle = (steep ^ left).select(-angle, angle)
    zero = e.constant(0.0, x.type)
    quarter, quarter_low = HALF_PI[x.type]
    base = steep.select(quarter, left.select(2 * quarter, zero))
    base_low = steep.select(quarter_low, left.select(2 * quarter_low, zero))
    return (base + (angle + base_low)).copysign(y)


def _asin_parts(e: VectorEmitter, magnitude: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """(large, s, t) with asin(a) = s + t if a <= 1/2, and pi/2 - 2 (s + t) in large lanes.

    There asin(a) = pi/2 - 2 asin(sqrt((1 - a)/2)), the root taken as a sum of two.
    """
    large = magnitude.gt(0.5)
    z = large.select((1.0 - magnitude) * 0.5, magnitude * magnitude)
    root = z.sqrt()
    square, square_low = two_product(e, root, root)
    positive = root.gt(0.0)
    root_low = ((z - square) - square_low) / positive.select(root + root, 1.0)
    s = large.select(root, magnitude)
    tail = e.polynomial(z, ASIN[z.type]) * z * s
    return large, s, large.select(tail + root_low, tail)


@vector_op("asin")
@in_f64_without_fma
def asin(e: VectorEmitter, x: Lanes) -> Lanes:
    large, s, t = _asin_parts(e, x.abs())
    quarter, quarter_low = HALF_PI[x.type]
    first, rest = fast_two_sum(e.constant(quarter, x.type), s * -2.0)
    outer = first + (rest + (quarter_low - 2.0 * t))
    result = large.select(outer, s + t)
    return x.abs().gt(1.0).select(nan, result).copysign(x)


@vector_op("acos")
@in_f64_without_fma
def acos(e: VectorEmitter, x: Lanes) -> Lanes:
    large, s, t = _asin_parts(e, x.abs())
    quarter, quarter_low = HALF_PI[x.type]
    negative = x.lt(0.0)
    zero, one, two = (e.constant(c, x.type) for c in (0, 1, 2))
    # pi/2 -+ (s + t) if small; if large, 2 (s + t) for positive x and pi - 2 (s + t) for others.
    factor = large.select(negative.select(-2.0, two), negative.select(one, -1.0))
    base = large.select(negative.select(2 * quarter, zero), quarter)
    base_low = large.select(negative.select(2 * quarter_low, zero), quarter_low)
    first, rest = fast_two_sum(base, factor * s)
    result = first + (rest + e.mad(factor, t, base_low))
    return x.abs().gt(1.0).select(nan, result)
