"""lgamma = log |gamma| and its derivative digamma, computed in f64.

At most 4 ulp for x > 0. For x < 0 the reflection subtracts: 4 ulp of max(1, |result|) for lgamma,
6 for digamma.
"""

from __future__ import annotations

from math import inf, nan, pi

from .emitter import VectorEmitter, vector_op
from .lanes import Lanes
from .logarithm import log_positive
from .precision import in_f64
from .rounding import round_even
from .trigonometric import cos_reduced, sin_reduced

CENTRE = 1.75
LGAMMA = (  # lgamma(x) / ((x - 1) (x - 2)) in x - CENTRE, for x in [1, 2.5]
    -1.6591740122725625e-07,
    2.7419204865525655e-07,
    6.038467680898506e-08,
    -1.9521562313891538e-08,
    -7.932994964568414e-07,
    1.3277133800033128e-06,
    -1.737959319477687e-06,
    3.3092246526422903e-06,
    -6.502797291141681e-06,
    1.2019595126647467e-05,
    -2.2263314063406534e-05,
    4.168880116798046e-05,
    -7.846510410113464e-05,
    0.00014851936266792104,
    -0.00028319021488993707,
    0.0005448967334363942,
    -0.0010605661060692061,
    0.002095533894936108,
    -0.004226194124614535,
    0.008776370424804735,
    -0.01905395783027326,
    0.04452044719851499,
    -0.1194815866252426,
    0.4501393121092563,
)
DIGAMMA = (  # digamma(x) / (x - DIGAMMA_ZERO) in the same
    -1.317420058054999e-06,
    2.0830298544424878e-06,
    1.1621836619135873e-06,
    -1.251726772049067e-06,
    -5.567742677941275e-06,
    8.533839930502567e-06,
    -7.646307957826518e-06,
    1.4464349541013601e-05,
    -2.9728963922477506e-05,
    5.141086357254163e-05,
    -8.817878717846288e-05,
    0.00015458834231750555,
    -0.00027114133898268244,
    0.00047472863516326064,
    -0.0008314888913929154,
    0.001457368354008437,
    -0.0025566874049592074,
    0.004491814245811325,
    -0.007910468716199876,
    0.013985786156680594,
    -0.024890048491268267,
    0.044799654453493994,
    -0.08228558635573888,
    0.1571201133520353,
    -0.3262546278681059,
    0.8581832171262995,
)
DIGAMMA_ZERO = (1.4616321449683622, 9.549995429965697e-17)
# Stirling's series: B(2k) / (2k (2k - 1)) and B(2k) / 2k in 1/x**2, the highest power first.
STIRLING = (
    -0.029550653594771242,
    0.00641025641025641,
    -0.0019175269175269176,
    0.0008417508417508417,
    -0.0005952380952380953,
    0.0007936507936507937,
    -0.002777777777777778,
    0.08333333333333333,
)
STIRLING_DERIVATIVE = (
    -0.4432598039215686,
    0.08333333333333333,
    -0.021092796092796094,
    0.007575757575757576,
    -0.004166666666666667,
    0.003968253968253968,
    -0.008333333333333333,
    0.08333333333333333,
)
HALF_LOG_TWO_PI = 0.9189385332046728


@vector_op("lgamma")
@in_f64
def lgamma(e: VectorEmitter, x: Lanes) -> Lanes:
    return e.helper("lgamma.f64", _lgamma, [x], "f64")


def _lgamma(e: VectorEmitter, x: Lanes) -> Lanes:
    magnitude = x.abs()
    tiny, infinite = magnitude.lt(2.0**-60), magnitude.eq(inf)
    safe = (tiny | infinite).select(1.0, magnitude)
    positive = _lgamma_positive(e, safe)
    sine, _ = _sin_cos_pi(e, safe)
    reflected = log_positive(e, pi / (sine.abs() * safe)) - positive
    pole = round_even(e, safe).eq(safe)
    result = x.lt(0.0).select(pole.select(inf, reflected), positive)
    small = tiny & magnitude.gt(0.0)
    result = tiny.select(-log_positive(e, small.select(magnitude, 1.0)), result)
    result = (infinite | magnitude.eq(0.0)).select(inf, result)
    return x.is_nan().select(nan, result)


def _lgamma_positive(e: VectorEmitter, x: Lanes) -> Lanes:
    """lgamma for finite x >= 2**-60: Stirling's series from 8 on, else moved into [1, 2.5]."""
    moved, product = x, e.constant(1.0, "f64")
    for _ in range(6):
        above = moved.gt(2.5)
        moved = above.select(moved - 1.0, moved)
        product = above.select(product * moved, product)
    low = x.lt(1.0)
    moved = low.select(x + 1.0, moved)
    # x - 1 and x - 2 of the moved x; just x and x - 1 where it was moved up, which is exact.
    first, second = low.select(x, moved - 1.0), low.select(x - 1.0, moved - 2.0)
    offset = low.select(x - (CENTRE - 1.0), moved - CENTRE)
    base = first * second * e.polynomial(offset, LGAMMA)
    logarithm = log_positive(e, low.select(x, x.ge(8.0).select(x, product)))
    near = base + low.select(-logarithm, logarithm)
    inverse = 1.0 / x
    series = inverse * e.polynomial(inverse * inverse, STIRLING)
    far = (x - 0.5) * (logarithm - 1.0) + (series + (HALF_LOG_TWO_PI - 0.5))
    return x.ge(8.0).select(far, near)


@vector_op("digamma")
@in_f64
def digamma(e: VectorEmitter, x: Lanes) -> Lanes:
    return e.helper("digamma.f64", _digamma, [x], "f64")


def _digamma(e: VectorEmitter, x: Lanes) -> Lanes:
    below = x.lt(0.0)
    regular = x.abs().gt(0.0) & x.abs().lt(inf)
    argument = regular.select(below.select(1.0 - x, x), 1.0)
    positive = _digamma_positive(e, argument)
    sine, cosine = _sin_cos_pi(e, x.abs())
    whole = round_even(e, x).eq(x)
    reflected = positive + pi * cosine / whole.select(1.0, sine)
    result = below.select(whole.select(nan, reflected), positive)
    result = x.eq(0.0).select(-(e.constant(inf, "f64").copysign(x)), result)
    result = x.eq(inf).select(inf, result)
    return x.gt(-inf).select(result, nan)


def _digamma_positive(e: VectorEmitter, x: Lanes) -> Lanes:
    """Moved into [1, 2.5] by terms 1/x, which add up as one fraction; the series from 9 on."""
    moved, top, bottom = x, e.constant(0.0, "f64"), e.constant(1.0, "f64")
    for _ in range(7):
        above = moved.gt(2.5)
        moved = above.select(moved - 1.0, moved)
        top = above.select(e.mad(top, moved, bottom), top)
        bottom = above.select(bottom * moved, bottom)
    low = x.lt(1.0)
    moved = low.select(x + 1.0, moved)
    offset = low.select(x - (CENTRE - 1.0), moved - CENTRE)
    zero, zero_low = DIGAMMA_ZERO
    distance = low.select(x - (zero - 1.0), moved - zero) - zero_low
    fraction = low.select(-1.0, top) / low.select(x, bottom)
    near = e.mad(distance, e.polynomial(offset, DIGAMMA), fraction)
    large = x.ge(9.0)
    far = large.select(x, 9.0)
    inverse = 1.0 / far
    z = inverse * inverse
    series = z * e.polynomial(z, STIRLING_DERIVATIVE)
    return large.select(log_positive(e, far) - (0.5 * inverse + series), near)


def _sin_cos_pi(e: VectorEmitter, x: Lanes) -> tuple[Lanes, Lanes]:
    """sin and cos of pi x for x >= 0, up to the sign that both share."""
    f = x - round_even(e, x)
    magnitude = f.abs()
    steep = magnitude.gt(0.25)
    r = steep.select(0.5 - magnitude, magnitude) * pi
    s, c = sin_reduced(e, r, None), cos_reduced(e, r, None)
    return steep.select(c, s).copysign(f), steep.select(s, c)
