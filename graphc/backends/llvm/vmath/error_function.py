"""erf, erfc and erfinv."""

from __future__ import annotations

from math import inf, nan

from .emitter import VectorEmitter, vector_op
from .exact import two_product
from .exponential import exp_normal, expm1_reduced, reduce_exp
from .lanes import Lanes
from .logarithm import log_positive
from .precision import in_f64, in_f64_without_fma
from .scaling import FORMATS, scale
from .tables import from_table

# f32: erf(x)/x - 1 in x**2 below 0.9277, and log(erfc(x)) + x = x times a polynomial above.
ERF_F32_SMALL = (-5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1)
ERF_F32_UNIT = 1.28379166e-1
ERF_F32_LARGE = (
    (-1.72853470e-5, 3.83197126e-4),
    (-3.88396438e-3, 2.42546219e-2),
    (-1.06777877e-1, -6.34846687e-1, -1.28717512e-1),
)
# On AVX-512 f32 by tables of one register each: erf(x) = erf(c) + r * slope(r) with r = x - c, for
# the centre c nearest to x; around 0 it is x + x * slope(x). Beyond the last interval it is 1.
ERF_CENTRES = (  # near multiples of 1/4, where erf is almost a float
    0.0, 0.249999717, 0.49999404, 0.74997741, 0.999999106, 1.25003004, 1.5000267, 1.75003982,
    1.99998665, 2.24989414, 2.50015116, 2.75011754, 3.00155544, 3.25038576, 3.50525212, 3.74392128,
)  # fmt: skip
ERF_AT_CENTRES = (
    0.0, 0.27632609, 0.52049464, 0.711141109, 0.842700422, 0.922907233, 0.966108322, 0.986673772,
    0.995321989, 0.998536527, 0.999593377, 0.999899447, 0.999978125, 0.999995708, 0.999999285,
    0.999999881,
)  # fmt: skip
ERF_SLOPES = (  # from the highest power down
    (
        0.111115322, 0.0796125531, 0.00746950461, -0.0527414195, -0.0687712282, -0.0470820442,
        -0.0149955563, 0.0064588259, 0.0129966792, 0.0106388396, 0.00613246439, 0.00277362927,
        0.00102837989, 0.00031856203, 8.41037108e-05, 1.87059613e-05,
    ),
    (
        0.000250951591, 0.126097813, 0.181988671, 0.150105983, 0.0692839548, -0.00570269721,
        -0.0441790074, -0.0479045771, -0.0344351865, -0.0191521645, -0.00867885724, -0.00329277199,
        -0.00105260534, -0.000291751465, -6.72314491e-05, -1.48373865e-05,
    ),
    (
        -0.376138985, -0.309167504, -0.146469235, 0.0267713293, 0.138365686, 0.167534351,
        0.138748303, 0.0901509523, 0.0482255258, 0.0217328146, 0.00834471732, 0.00275869831,
        0.000782418123, 0.000195320346, 4.08388732e-05, 8.32244405e-06,
    ),
    (
        2.09823668e-07, -0.264998972, -0.439383358, -0.482197255, -0.415108353, -0.295638561,
        -0.178386375, -0.0923464298, -0.0413359553, -0.0160768107, -0.005441627, -0.00161111215,
        -0.000414013484, -9.46096698e-05, -1.8234723e-05, -3.45177409e-06,
    ),
    (
        0.128379166, 1.06001425, 0.878787816, 0.642952859, 0.415108234, 0.236503363, 0.118920758,
        0.0527676381, 0.0206680875, 0.00714572147, 0.00217663893, 0.000585898699, 0.000137959694,
        2.91160268e-05, 5.20453204e-06, 9.22482286e-07,
    ),
)  # fmt: skip
ERF_TABLED = 3.875
ERF_F64 = (  # erf(x)/x - 1 in x**2 below 0.9
    -8.497784841792477e-10,
    1.4053170480317343e-08,
    -1.627685161579122e-07,
    1.6455364093780596e-06,
    -1.4925309923357528e-05,
    0.0001205532148611339,
    -0.000854832676735515,
    0.005223977621820572,
    -0.02686617064482882,
    0.1128379167095382,
    -0.3761263890318373,
    0.1283791670955126,
)
ERFC = (  # erfc(x) exp(x**2) (1 + 2 x) in (x - 4)/(x + 4), for x in [0.8, 28]
    3.6545552812821753e-09,
    -1.077468405475096e-08,
    -2.2889925181139555e-08,
    1.061149892608026e-07,
    8.060167525202073e-08,
    -8.226422327014686e-07,
    2.897023311176709e-07,
    5.708426031849288e-06,
    -1.1220253932015563e-05,
    -2.4398790102310067e-05,
    0.00015062117851947807,
    -0.00019925678933058847,
    -0.0007577731985158145,
    0.005031969991919499,
    -0.016197734068063976,
    0.037167515536222974,
    -0.0663303658115262,
    0.09373283499841246,
    -0.1010390660363286,
    0.06809705425469126,
    0.015379652102620081,
    -0.1396211168405625,
    1.2329951186255526,
)
SMALL = 0.9


@vector_op("erf")
@in_f64_without_fma
def erf(e: VectorEmitter, x: Lanes) -> Lanes:
    if x.type == "f32":
        return _erf_by_tables(e, x) if e.has_avx512 else _erf_f32(e, x)
    return e.helper("erf.f64", _erf_f64, [x], "f64")


def _erf_f32(e: VectorEmitter, x: Lanes) -> Lanes:
    magnitude = x.abs()
    t = magnitude.gt(4.0).select(4.0, magnitude)
    square = t * t
    first, second, rest = ERF_F32_LARGE
    r = e.fma(e.polynomial(t, first), square, e.polynomial(t, second))
    for coefficient in rest:
        r = e.fma(r, t, coefficient)
    large = (1.0 - exp_normal(e, e.fma(r, t, -t))).copysign(x)
    p = e.polynomial(square, (*ERF_F32_SMALL, ERF_F32_UNIT))
    return magnitude.gt(0.927734375).select(large, e.fma(p, x, x))


def _erf_by_tables(e: VectorEmitter, x: Lanes) -> Lanes:
    """At most 1.6 ulp wrong, with a quarter of the multiply-adds of the other way."""
    magnitude = x.abs()
    # The sum ends in the number of the nearest multiple of 1/4.
    index = (magnitude + FORMATS["f32"].round_magic / 4).bits()
    r = magnitude - from_table(e, ERF_CENTRES, index)
    slope = from_table(e, ERF_SLOPES[0], index)
    for coefficients in ERF_SLOPES[1:]:
        slope = e.fma(slope, r, from_table(e, coefficients, index))
    near = magnitude.le(0.125).select(magnitude, from_table(e, ERF_AT_CENTRES, index))
    return magnitude.ge(ERF_TABLED).select(1.0, e.fma(slope, r, near)).copysign(x)


def _erf_f64(e: VectorEmitter, x: Lanes) -> Lanes:
    magnitude = x.abs()
    small = e.mad(e.polynomial(x * x, ERF_F64), x, x)
    t = magnitude.gt(6.0).select(6.0, magnitude)
    large = (1.0 - _erfc_positive(e, t.lt(0.8).select(0.8, t))).copysign(x)
    return magnitude.gt(SMALL).select(large, small)


@vector_op("erfc")
@in_f64
def erfc(e: VectorEmitter, x: Lanes) -> Lanes:
    return e.helper("erfc.f64", _erfc_f64, [x], "f64")


def _erfc_f64(e: VectorEmitter, x: Lanes) -> Lanes:
    magnitude = x.abs()
    t = magnitude.gt(27.5).select(27.5, magnitude)
    tail = _erfc_positive(e, t.lt(0.8).select(0.8, t))
    large = x.lt(0.0).select(2.0 - tail, tail)
    small = x * e.polynomial(x * x, ERF_F64)
    # Above 1/2 the leading one is taken from a half first, which is exact.
    middle = 0.5 - (small + (x - 0.5))
    near = x.gt(0.5).select(middle, 1.0 - (small + x))
    return magnitude.gt(SMALL).select(large, near)


def _erfc_positive(e: VectorEmitter, x: Lanes) -> Lanes:
    """erfc(x) for x in [0.8, 28]."""
    q = (x - 4.0) / (x + 4.0)
    g = e.polynomial(q, ERFC)
    square, square_low = two_product(e, x, x)
    n, r = reduce_exp(e, -square)
    grown = e.mad(g, expm1_reduced(e, r - square_low), g)
    return scale(e, grown / e.mad(x, 2.0, 1.0), n)


# Wichura's rational approximations of the normal quantile (AS 241), the highest power first.
CENTRAL = (
    (
        2509.0809287301226727,
        33430.575583588128105,
        67265.770927008700853,
        45921.953931549871457,
        13731.693765509461125,
        1971.5909503065514427,
        133.14166789178437745,
        3.387132872796366608,
    ),
    (
        5226.495278852854561,
        28729.085735721942674,
        39307.89580009271061,
        21213.794301586595867,
        5394.1960214247511077,
        687.1870074920579083,
        42.313330701600911252,
        1.0,
    ),
)
TAIL = (
    (
        7.7454501427834140764e-4,
        0.0227238449892691845833,
        0.24178072517745061177,
        1.27045825245236838258,
        3.64784832476320460504,
        5.7694972214606914055,
        4.6303378461565452959,
        1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9,
        5.475938084995344946e-4,
        0.0151986665636164571966,
        0.14810397642748007459,
        0.68976733498510000455,
        1.6763848301838038494,
        2.05319162663775882187,
        1.0,
    ),
)
FAR_TAIL = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        0.0012426609473880784386,
        0.026532189526576123093,
        0.29656057182850489123,
        1.7848265399172913358,
        5.4637849111641143699,
        6.6579046435011037772,
    ),
    (
        2.04426310338993978564e-15,
        1.4215117583164458887e-7,
        1.8463183175100546818e-5,
        7.868691311456132591e-4,
        0.0148753612908506148525,
        0.13692988092273580531,
        0.59983220655588793769,
        1.0,
    ),
)
SQRT_HALF = 0.7071067811865476
HALF_SQRT_PI = 0.886226925452758


@vector_op("erfinv")
def erfinv(e: VectorEmitter, x: Lanes) -> Lanes:
    """The normal quantile of (x + 1)/2, over sqrt(2); at most 4 ulp."""
    if x.type == "f32":
        return e.helper("erfinv.quantile", _quantile, [x.to("f64")], "f64").to("f32")
    return e.helper("erfinv.f64", _erfinv_f64, [x], "f64")


def _erfinv_f64(e: VectorEmitter, x: Lanes) -> Lanes:
    """One Newton step, on erf or where that is near 1 on erfc."""
    start = e.helper("erfinv.quantile", _quantile, [x], "f64")
    usual = x.abs().lt(1.0)
    y = usual.select(start.abs(), 0.0)
    target = x.abs()
    gap = target.lt(0.5).select(erf(e, y) - target, (1.0 - target) - erfc(e, y))
    refined = e.mad(gap * -HALF_SQRT_PI, exp_normal(e, y * y), y)
    return usual.select(refined.copysign(x), start)


def _quantile(e: VectorEmitter, x: Lanes) -> Lanes:
    half = x * 0.5
    r = 0.180625 - half * half
    central = half * e.polynomial(r, CENTRAL[0]) / e.polynomial(r, CENTRAL[1])
    outside = 0.5 - half.abs()
    depth = (-log_positive(e, outside.gt(0.0).select(outside, 0.25))).sqrt()
    near, far = depth - 1.6, depth - 5.0
    tail = e.polynomial(near, TAIL[0]) / e.polynomial(near, TAIL[1])
    far_tail = e.polynomial(far, FAR_TAIL[0]) / e.polynomial(far, FAR_TAIL[1])
    outer = depth.gt(5.0).select(far_tail, tail).copysign(x)
    result = half.abs().le(0.425).select(central, outer) * SQRT_HALF
    result = x.abs().eq(1.0).select(e.constant(inf, "f64").copysign(x), result)
    return x.abs().le(1.0).select(result, nan)
