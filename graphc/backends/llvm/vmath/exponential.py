"""exp and what is made of it: exp2 expm1 sigmoid tanh sinh cosh.

x = n ln 2 + r with |r| <= ln(2)/2, and exp(r) = 1 + r + r**2 q(r) by a minimax polynomial. On
AVX-512 f32 takes n in sixteenths, the powers of two from a table in one register, and a cubic.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .emitter import VectorEmitter, vector_op
from .lanes import Lanes
from .precision import in_f64, in_f64_without_fma
from .scaling import FORMATS, power_of_two, round_small, scale
from .tables import from_table

Parts = Callable[[Lanes], tuple[Lanes, Lanes]]

LOG2_E = 1.4426950408889634
# The first part has trailing zeros, so that n times it is exact.
LN2 = {
    "f32": (0.693359375, -2.12194440e-4),
    "f64": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
EXP = {  # (exp(r) - 1 - r) / r**2 on [-ln(2)/2, ln(2)/2]
    "f32": (0.00139504741, 0.00836882088, 0.041666206, 0.166665196, 0.5),
    "f64": (
        2.0923528143261732e-09,
        2.510866922626025e-08,
        2.7557246390439673e-07,
        2.7557245352273452e-06,
        2.480158735508608e-05,
        0.00019841269884874433,
        0.0013888888888870694,
        0.008333333333322191,
        0.04166666666666669,
        0.16666666666666677,
        0.5,
    ),
}
EXP2 = {  # (2**r - 1) / r on [-1/2, 1/2]
    "f32": (0.000154756519, 0.00133990461, 0.00961800665, 0.0555033199, 0.240226507, 0.693147182),
    "f64": (
        4.4572888485287555e-10,
        7.073691300670353e-09,
        1.0178047234241812e-07,
        1.321543590059346e-06,
        1.5252733865285603e-05,
        0.00015403530455644434,
        0.0013333558146382007,
        0.009618129107595547,
        0.05550410866482172,
        0.24022650695910128,
        0.6931471805599453,
    ),
}
EXP_SIXTEENTH = (1 / 6, 0.5)  # the same as EXP on [-ln(2)/32, ln(2)/32]
ROOTS = [2.0 ** (j / 16) for j in range(16)]
ROOT_ERRORS = [root - float(np.float32(root)) for root in ROOTS]
TANH = {  # (tanh(x)/x - 1) / x**2 in x**2, below TANH_SMALL
    "f32": (-0.00571706286, 0.0206505992, -0.0537435003, 0.133314908, -0.333332837),
    "f64": (
        7.230931099739238e-06,
        -3.258417307811891e-05,
        9.367579198367446e-05,
        -0.00023808692915873686,
        0.0005897980597615632,
        -0.001455799541903419,
        0.0035921244124397875,
        -0.00886323527838112,
        0.02186948852506336,
        -0.053968253967968914,
        0.1333333333333297,
        -0.3333333333333333,
    ),
}
SINH = (  # (sinh(x)/x - 1) / x**2 in x**2, for f64 in [0, 1]
    7.758444040096543e-13,
    1.6057271824785115e-10,
    2.505212294707261e-08,
    2.755731915857302e-06,
    0.0001984126984142567,
    0.00833333333333316,
    0.16666666666666669,
)
TANH_SMALL = {"f32": 0.625, "f64": 0.5625}
# Below the first exp rounds to 0, from the second on to inf.
EXP_RANGE = {"f32": (-103.9722, 89.0), "f64": (-745.14, 710.0)}
EXP2_RANGE = {"f32": (-150.1, 129.0), "f64": (-1075.1, 1025.0)}


def reduce_exp(e: VectorEmitter, x: Lanes) -> tuple[Lanes, Lanes]:
    """(n, r) with x = n ln 2 + r, n integral; x within EXP_RANGE or nan."""
    high, low = LN2[x.type]
    n = round_small(x * LOG2_E)
    return n, e.mad(n, -low, e.mad(n, -high, x))


def expm1_reduced(e: VectorEmitter, r: Lanes) -> Lanes:
    """exp(r) - 1 for |r| <= ln(2)/2."""
    return e.mad(e.polynomial(r, EXP[r.type]), r * r, r)


def exp_parts(e: VectorEmitter, x: Lanes, precise: bool = False) -> tuple[Lanes, Lanes]:
    """(p, n) with exp(x) = p * 2**n as `scale` takes them; x within EXP_RANGE or nan.

    precise: 0.8 ulp at most instead of 1.1
    """
    if not (e.has_avx512 and x.type == "f32"):
        n, r = reduce_exp(e, x)
        return 1.0 + expm1_reduced(e, r), n
    magic = FORMATS["f32"].round_magic / 16
    shifted = e.fma(x, LOG2_E, magic)
    n = shifted - magic
    high, low = LN2["f32"]
    r = e.fma(n, -low, e.fma(n, -high, x))
    q = e.fma(e.polynomial(r, EXP_SIXTEENTH), r * r, r)
    root = from_table(e, ROOTS, shifted.bits())
    if precise:
        return root + e.fma(root, q, from_table(e, ROOT_ERRORS, shifted.bits())), n
    return e.fma(root, q, root), n


def exp_normal(e: VectorEmitter, x: Lanes) -> Lanes:
    """exp(x) where it is a normal number (or x nan)."""
    p, n = exp_parts(e, x)
    return scale(e, p, n) if e.has_avx512 else p * power_of_two(n)


def _scaled(e: VectorEmitter, x: Lanes, limits: tuple[float, float], parts: Parts) -> Lanes:
    """`scale` of what `parts` makes of x: 0 below the first of the limits, inf above the second.

    A result that underflows to zero by arithmetic costs a microcode assist, so it is chosen. On
    AVX-512 the instruction does that by its mask, whatever its operands are there.
    """
    least, greatest = limits
    low = x.lt(least)
    inside = x if e.has_avx512 else low.select(0.0, x)
    scaled = scale(e, *parts(inside.gt(greatest).select(greatest, inside)))
    return (~low).select(scaled, 0.0) if e.has_avx512 else low.select(0.0, scaled)


@vector_op("exp")
@in_f64_without_fma
def exp(e: VectorEmitter, x: Lanes) -> Lanes:
    return _exp(e, x, precise=False)


def _exp(e: VectorEmitter, x: Lanes, precise: bool) -> Lanes:
    return _scaled(e, x, EXP_RANGE[x.type], lambda x: exp_parts(e, x, precise))


@vector_op("exp2")
@in_f64_without_fma
def exp2(e: VectorEmitter, x: Lanes) -> Lanes:
    def parts(x: Lanes) -> tuple[Lanes, Lanes]:
        n = round_small(x)
        r = x - n
        return e.mad(e.polynomial(r, EXP2[x.type]), r, 1.0), n

    return _scaled(e, x, EXP2_RANGE[x.type], parts)


@vector_op("expm1")
@in_f64_without_fma
def expm1(e: VectorEmitter, x: Lanes) -> Lanes:
    inside = x.lt(-40.0).select(-40.0, x)
    greatest = EXP_RANGE[x.type][1]
    n, r = reduce_exp(e, inside.gt(greatest).select(greatest, inside))
    half = power_of_two(n - 1.0)  # twice it may overflow where the result does not
    result = 2.0 * e.mad(half, expm1_reduced(e, r), half - 0.5)
    return x.abs().lt(2.0**-26 if x.type == "f32" else 2.0**-55).select(x, result)


@vector_op("sigmoid")
@in_f64_without_fma
def sigmoid(e: VectorEmitter, x: Lanes) -> Lanes:
    z = _exp(e, -x.abs(), precise=True)
    total = 1.0 + z
    top = x.ge(0.0).select(1.0, z)
    if x.type == "f64":
        return top / total
    # One step that makes up for the roundings of the sum and of the division.
    inverse = 1.0 / total
    quotient = top * inverse
    rest = e.fma(-quotient, total, top)
    rest = e.fma(-quotient, z - (total - 1.0), rest)
    return e.fma(rest, inverse, quotient)


@vector_op("tanh")
@in_f64_without_fma
def tanh(e: VectorEmitter, x: Lanes) -> Lanes:
    magnitude = x.abs()
    double = magnitude + magnitude
    inside = double.gt(40.0).select(40.0, double)
    large = (1.0 - 2.0 / (exp_normal(e, inside) + 1.0)).copysign(x)
    square = x * x
    small = e.mad(e.polynomial(square, TANH[x.type]) * square, x, x)
    # The polynomial gives 0.0 for -0.0.
    return magnitude.gt(TANH_SMALL[x.type]).select(large, small).copysign(x)


def _half_exp(e: VectorEmitter, magnitude: Lanes) -> Lanes:
    """exp(x) / 2, which overflows only where cosh does."""
    p, n = exp_parts(e, magnitude.gt(711.0).select(711.0, magnitude))
    return scale(e, p, n - 1.0)


@vector_op("cosh")
@in_f64
def cosh(e: VectorEmitter, x: Lanes) -> Lanes:
    half = _half_exp(e, x.abs())
    return half + 0.25 / half


@vector_op("sinh")
@in_f64
def sinh(e: VectorEmitter, x: Lanes) -> Lanes:
    magnitude = x.abs()
    half = _half_exp(e, magnitude)
    large = (half - 0.25 / half).copysign(x)
    z = x * x
    small = e.mad(e.polynomial(z, SINH) * z, x, x)
    return magnitude.gt(1.0).select(large, magnitude.gt(0.0).select(small, x))
