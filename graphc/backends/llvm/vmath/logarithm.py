"""log and what is made of it: log2 log10 log1p asinh acosh atanh.

x = 2**k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)). In f32 log(1 + f) is a polynomial in f, in
f64 one in s**2 with s = f / (2 + f).
"""

from __future__ import annotations

from math import inf, nan

from .emitter import VectorEmitter, vector_op
from .exponential import LN2
from .lanes import Lanes
from .precision import in_f64, in_f64_without_fma
from .scaling import split_exponent

LOG_F32 = (  # (log(1 + f) - f + f**2/2) / f**3
    0.0675333217,
    -0.116709523,
    0.118821628,
    -0.124060079,
    0.142205209,
    -0.166680053,
    0.200020641,
    -0.250000089,
    0.333333135,
)
LOG1P_F32 = (  # the same on [-1/4, 1/2]
    0.0378002487,
    -0.0912882537,
    0.117011562,
    -0.127251551,
    0.142757669,
    -0.166554645,
    0.199996397,
    -0.250001609,
    0.333333403,
)
LOG_F64 = (  # (log((1 + s)/(1 - s)) - 2 s) / s**3 in s**2
    0.14793511945448765,
    0.15314331563206424,
    0.18183551574224327,
    0.22222198862372555,
    0.2857142873902431,
    0.39999999999433405,
    0.6666666666666731,
)
LN2_F64 = 0.6931471805599453
# Logarithms to other bases: 1/ln(base) and log_base(2), each a short part and the rest.
BASES = {
    "log2": (1.44269504072144627571e00, 1.67517131648865118353e-10, 1.0, 0.0),
    "log10": (
        4.34294481878168880939e-01,
        2.50829467116452752298e-11,
        3.01029995663611771306e-01,
        3.69423907715893078616e-13,
    ),
}
BASES_F32 = {
    "log2": (1.44269502, 1.92596299e-8, 1.0, 0.0),
    "log10": (0.434294492, -1.01030500e-8, 0.301025391, 4.60503907e-6),
}


def _log_tail(e: VectorEmitter, f: Lanes) -> tuple[Lanes, Lanes]:
    """(half, rest) with log(1 + f) = f - half + rest, where half = f**2 / 2."""
    half = f * f * 0.5
    if f.type == "f32":
        return half, e.polynomial(f, LOG_F32) * f * (f * f)
    s = f / (f + 2.0)
    z = s * s
    return half, s * (half + z * e.polynomial(z, LOG_F64))


def _at_edges(x: Lanes, result: Lanes) -> Lanes:
    """A logarithm's values at and below zero, at inf and nan."""
    result = x.eq(0.0).select(-inf, result)
    result = x.lt(inf).select(result, x)
    return x.lt(0.0).select(nan, result)


@vector_op("log")
@in_f64_without_fma
def log(e: VectorEmitter, x: Lanes) -> Lanes:
    return _at_edges(x, log_positive(e, x))


def log_positive(e: VectorEmitter, x: Lanes, correction: Lanes | None = None) -> Lanes:
    """log(x) + correction for finite x > 0; the correction is small."""
    k, m = split_exponent(e, x)
    f = m - 1.0
    half, rest = _log_tail(e, f)
    high, low = LN2[x.type]
    if x.type == "f32":
        total = f + e.fma(f * f, -0.5, e.fma(k, low, rest))
        return e.fma(k, high, total)
    rest = e.mad(k, low, rest)
    if correction is not None:
        rest = rest + correction
    return e.mad(k, high, f - (half - rest))


def _log_to_base(e: VectorEmitter, x: Lanes, base: str) -> Lanes:
    k, m = split_exponent(e, x)
    f = m - 1.0
    half, rest = _log_tail(e, f)
    if x.type == "f32":
        inverse, inverse_low, unit, unit_low = BASES_F32[base]
        tail = e.fma(f, inverse_low, (rest - half) * inverse)
        tail = e.fma(k, unit_low, tail) if unit_low else tail
        return _at_edges(x, e.fma(k, unit, e.fma(f, inverse, tail)))
    inverse, inverse_low, unit, unit_low = BASES[base]
    high = ((f - half).bits() & -(1 << 32)).bits()  # products with `inverse` are exact
    low = ((f - high) - half) + rest
    product = high * inverse
    tail = e.mad(low + high, inverse_low, low * inverse)
    tail = e.mad(k, unit_low, tail) if unit_low else tail
    whole = k * unit if unit != 1.0 else k
    total = whole + product
    return _at_edges(x, total + (tail + ((whole - total) + product)))


@vector_op("log2")
@in_f64_without_fma
def log2(e: VectorEmitter, x: Lanes) -> Lanes:
    return _log_to_base(e, x, "log2")


@vector_op("log10")
@in_f64_without_fma
def log10(e: VectorEmitter, x: Lanes) -> Lanes:
    return _log_to_base(e, x, "log10")


@vector_op("log1p")
@in_f64_without_fma
def log1p(e: VectorEmitter, x: Lanes) -> Lanes:
    result = _log1p_f32(e, x) if x.type == "f32" else _log1p_f64(e, x)
    result = x.eq(-1.0).select(-inf, result)
    result = x.lt(-1.0).select(nan, result)
    result = x.lt(inf).select(result, x)
    return x.abs().lt(2.0**-26 if x.type == "f32" else 2.0**-55).select(x, result)


def _log1p_f64(e: VectorEmitter, x: Lanes) -> Lanes:
    total = 1.0 + x
    lost = x.gt(1.0).select(1.0 - (total - x), x - (total - 1.0))
    return log_positive(e, total, lost / total)


def _log1p_f32(e: VectorEmitter, x: Lanes) -> Lanes:
    """log(1 + x) = k ln 2 + log(1 + f), f = x / 2**k + (1 / 2**k - 1) in [-1/4, 1/2]."""
    exponent = ((1.0 + x).bits() - 0x3F400000) & -0x800000
    quarter = ((0x40800000 - exponent).bits()) * 0.25  # 2**-k, which may be 2**-128
    f = e.fma(x, quarter, quarter - 1.0)
    square = f * f
    p = e.polynomial(f, LOG1P_F32) * f * square
    k = exponent.to("f32") * 2.0**-23
    high, low = LN2["f32"]
    total = f + e.fma(square, -0.5, e.fma(k, low, p))
    return e.fma(k, high, total)


@vector_op("asinh")
@in_f64
def asinh(e: VectorEmitter, x: Lanes) -> Lanes:
    magnitude = x.abs()
    inside = magnitude.gt(2.0**28).select(1.0, magnitude)
    square = inside * inside
    small = log1p(e, inside + square / (1.0 + (square + 1.0).sqrt()))
    result = magnitude.gt(2.0**28).select(log(e, magnitude) + LN2_F64, small)
    return magnitude.lt(2.0**-28).select(x, result.copysign(x))


@vector_op("acosh")
@in_f64
def acosh(e: VectorEmitter, x: Lanes) -> Lanes:
    large = x.gt(2.0**28)
    t = large.select(1.0, x) - 1.0
    small = log1p(e, t + (2.0 * t + t * t).sqrt())
    result = large.select(log(e, x) + LN2_F64, small)
    return x.lt(1.0).select(nan, result)


@vector_op("atanh")
@in_f64
def atanh(e: VectorEmitter, x: Lanes) -> Lanes:
    magnitude = x.abs()
    double = magnitude + magnitude
    result = 0.5 * log1p(e, double / (1.0 - magnitude))
    return magnitude.lt(2.0**-28).select(x, result.copysign(x))
