"""torch's normal variates: the Box-Muller transform with torch's own arithmetic, bit for bit.

Float32 blocks use the single-precision polynomials of Cephes for log, sin and cos, evaluated with
fused multiply-adds; float64 and single values use the C library. Each step is part of the meaning:
another order or another rounding gives other bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

F32 = np.float32
_CHUNK = 32768  # elements at a time, so that the temporaries of the polynomials stay in the cache
_TWO_PI = 2 * math.pi

_LOG_COEFFICIENTS = [
    F32(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
]
_SIN_COEFFICIENTS = [F32(c) for c in (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)]
_COS_COEFFICIENTS = [
    F32(c) for c in (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
]
# ln 2 and pi/4 as sums of float32 numbers, the first of few bits so that products are exact.
_LN2_HIGH, _LN2_LOW = F32(0.693359375), F32(-2.12194440e-4)
_PI4_PARTS = [F32(c) for c in (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)]
_FOUR_OVER_PI = F32(1.27323954473516)
_SQRT_HALF = F32(0.707106781186547524)


def map_float64(function: Callable[[float], float], values: np.ndarray) -> np.ndarray:
    """A function of the C library at each element. numpy's own loops differ in the last bit."""
    return np.fromiter(map(function, values.tolist()), np.float64, values.size)


def fma32(a: np.ndarray | F32, b: np.ndarray | F32, c: np.ndarray | F32) -> np.ndarray:
    """a * b + c in float32 with one rounding.

    The product is exact in float64, the sum is rounded there. Rounding that once more to float32
    is right unless the float64 sum lies exactly between two float32 numbers, or the result is
    subnormal; there the sum is first rounded to odd, which keeps the direction of what was lost.
    """
    product = np.multiply(np.asarray(a, np.float64), np.asarray(b, np.float64))
    addend = np.asarray(c, np.float64)
    total = product + addend
    result = total.astype(F32)
    if _is_doubtful(total).any():
        at = np.nonzero(_is_doubtful(total))
        addends = np.broadcast_to(addend, total.shape)[at]
        products = np.broadcast_to(product, total.shape)[at]
        result[at] = round_to_odd(products, addends).astype(F32)
    return result


def _is_doubtful(total: np.ndarray) -> np.ndarray:
    """Where a float64 number is halfway between two float32 numbers, or one of them subnormal."""
    between = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    if np.abs(total).min(initial=1.0) < 2.0**-126:
        between |= np.abs(total) < 2.0**-126
    return between


def round_to_odd(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b in float64; where inexact, the neighbour of the true sum whose last bit is 1."""
    total = a + b
    rest = two_sum_rest(a, b, total)
    bits = total.view(np.int64)
    even_inexact = (rest != 0) & ((bits & 1) == 0)
    towards_zero = (rest > 0) != (total > 0)
    step = np.where(towards_zero, np.int64(-1), np.int64(1))
    return np.where(even_inexact, bits + step, bits).view(np.float64)


def two_sum_rest(a: np.ndarray, b: np.ndarray, total: np.ndarray) -> np.ndarray:
    """(a + b) - total exactly, where total is the rounded sum."""
    b_part = total - a
    return (a - (total - b_part)) + (b - b_part)


def fma64(a: np.ndarray, b: float, c: float) -> np.ndarray:
    """a * b + c in float64 with one rounding, if no product or part of it under- or overflows;
    where one overflows, the product is rounded too.

    The product as high + low and the sum of high and c as high + low are exact; the two low parts
    are added rounding to odd, so that the last addition rounds once (Boldo and Melquiond 2008).
    """
    b_all, c_all = np.broadcast_to(np.float64(b), a.shape), np.broadcast_to(np.float64(c), a.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        high = a * b_all
        a_high, b_high = _upper_half(a), _upper_half(b_all)
        a_low, b_low = a - a_high, b_all - b_high
        low = a_low * b_low - (((high - a_high * b_high) - a_low * b_high) - a_high * b_low)
        sum_high = c_all + low
        sum_low = two_sum_rest(c_all, low, sum_high)
        total = high + sum_high
        total_low = two_sum_rest(high, sum_high, total)
        result = total + round_to_odd(sum_low, total_low)
        return np.where(np.isfinite(result), result, high + c_all)


def _upper_half(values: np.ndarray) -> np.ndarray:
    """The upper 26 bits of each float64 (Veltkamp's splitting)."""
    scaled = values * 134217729.0
    return scaled - (scaled - values)


def log32(x: np.ndarray) -> np.ndarray:
    """Cephes' logf for positive normal float32 numbers."""
    bits = x.view(np.int32)
    exponent = ((bits >> 23) - 126).astype(F32)
    mantissa = ((bits & 0x007FFFFF) | 0x3F000000).view(F32)
    below = mantissa < _SQRT_HALF
    exponent = exponent - below.astype(F32)
    # Not 2 m - 1: the two additions are what torch does; both are exact.
    m = (mantissa - F32(1)) + np.where(below, mantissa, F32(0))
    z = m * m
    y = np.broadcast_to(_LOG_COEFFICIENTS[0], m.shape)
    for coefficient in _LOG_COEFFICIENTS[1:]:
        y = fma32(y, m, coefficient)
    y = fma32(y * m, z, exponent * _LN2_LOW)
    y = fma32(-z, F32(0.5), y)
    return fma32(exponent, _LN2_HIGH, m + y)


def sincos32(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cephes' sinf and cosf for float32 numbers in [0, 2 pi]."""
    octant = ((x * _FOUR_OVER_PI).astype(np.int32) + 1) & ~1
    quarter = octant.astype(F32)
    for part in _PI4_PARTS:
        x = fma32(quarter, part, x)
    z = x * x
    c = fma32(_COS_COEFFICIENTS[0], z, _COS_COEFFICIENTS[1])
    c = fma32(c, z, _COS_COEFFICIENTS[2]) * z
    c = fma32(c, z, -(z * F32(0.5))) + F32(1)
    s = fma32(_SIN_COEFFICIENTS[0], z, _SIN_COEFFICIENTS[1])
    s = fma32(s, z, _SIN_COEFFICIENTS[2]) * z
    s = fma32(s, x, x)
    straight = (octant & 2) == 0
    sine, cosine = np.where(straight, s, c), np.where(straight, c, s)
    negative_sine = (octant & 4) != 0
    negative_cosine = ((octant - 2) & 4) == 0
    return np.where(negative_sine, -sine, sine), np.where(negative_cosine, -cosine, cosine)


def blocks32(uniforms: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Normal variates from float32 uniforms, in blocks of 16: the first eight of a block give
    the radius, the others the angle. The size is a multiple of 16; shape (n,) as given."""
    result = np.empty_like(uniforms)
    for start in range(0, uniforms.size, _CHUNK):
        block = uniforms[start : start + _CHUNK].reshape(-1, 2, 8)
        radius = np.sqrt(F32(-2) * log32(np.ascontiguousarray(F32(1) - block[:, 0])))
        sine, cosine = sincos32(F32(_TWO_PI) * block[:, 1])
        out = result[start : start + _CHUNK].reshape(-1, 2, 8)
        out[:, 0] = fma32(radius * cosine, F32(std), F32(mean))
        out[:, 1] = fma32(radius * sine, F32(std), F32(mean))
    return result


def blocks64(uniforms: np.ndarray, mean: float, std: float) -> np.ndarray:
    """The same in float64."""
    block = uniforms.reshape(-1, 2, 8)
    radius = np.sqrt(-2 * map_float64(math.log, (1 - block[:, 0]).ravel()))
    angle = (_TWO_PI * block[:, 1]).ravel()
    cosine = fma64(radius * map_float64(math.cos, angle), std, mean)
    sine = fma64(radius * map_float64(math.sin, angle), std, mean)
    pair = np.stack([cosine.reshape(-1, 8), sine.reshape(-1, 8)], axis=1)
    return pair.reshape(uniforms.shape)


def pairs64(uniforms: np.ndarray) -> np.ndarray:
    """Standard normal variates from pairs of float64 uniforms, in the order of single draws."""
    first, second = uniforms[0::2], uniforms[1::2]
    radius = np.sqrt(-2 * map_float64(math.log1p, -second))
    angle = _TWO_PI * first
    cosine, sine = map_float64(math.cos, angle), map_float64(math.sin, angle)
    return np.stack([radius * cosine, radius * sine], axis=1).reshape(-1)
