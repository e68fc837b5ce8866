"""sin, cos and tan for all finite arguments.

x = n pi/2 + r with |r| <= pi/4. Up to a limit n pi/2 is subtracted in parts; a vector with a
larger element takes the slow path of `payne_hanek`, lane by lane, in the same function.
"""

from __future__ import annotations

from .emitter import VectorEmitter, vector_op
from .exact import fast_two_sum, two_product, two_sum
from .lanes import Lanes
from .payne_hanek import reduce_large
from .precision import in_f64_without_fma
from .scaling import FORMATS

TWO_OVER_PI = 0.6366197723675814
# pi/2 in parts. In f64 the first three have 33 bits, so that products with n are exact.
HALF_PI_F32 = (1.570796012878418, 3.1391647326017846e-07, 5.390302529957765e-15)
HALF_PI_F64 = (
    1.57079632673412561417e00,
    6.07710050630396597660e-11,
    2.02226624871116645580e-21,
    8.47842766036889956997e-32,
)
LIMIT = {"f32": 71476.0, "f64": 2.0**19}
SIN = {  # (sin(r)/r - 1) / r**2 in r**2
    "f32": (2.71830481e-06, -0.000198393347, 0.00833332911, -0.166666672),
    "f64": (
        1.58967947853748e-10,
        -2.5050758108541862e-08,
        2.755731369194355e-06,
        -0.00019841269829808152,
        0.008333333333322415,
        -0.16666666666666632,
    ),
}
COS = {  # (cos(r) - 1 + r**2/2) / r**4 in r**2
    "f32": (2.44383791e-05, -0.00138873665, 0.0416666456),
    "f64": (
        -1.1359650616360966e-11,
        2.087572332740104e-09,
        -2.755731435272984e-07,
        2.4801587289483563e-05,
        -0.0013888888888874127,
        0.0416666666666666,
    ),
}


def reduce_half_pi(e: VectorEmitter, x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """(r, t, quadrant) with x = quadrant pi/2 + r + t, t the rounding error of r.

    The quadrant is an integer of the element's width, of which the low two bits matter. For
    infinite x and nan, r is nan. Only in helpers.
    """
    magic = FORMATS[x.type].round_magic
    large = x.abs().ge(LIMIT[x.type])
    inside = large.select(0.0, x)
    shifted = e.mad(inside, TWO_OVER_PI, magic)
    n = shifted - magic
    quadrant = shifted.bits()
    if x.type == "f32":
        r = inside
        for part in HALF_PI_F32:
            r = e.fma(n, -part, r)
        tail = e.constant(0.0, "f32")
    else:
        r, tail = _subtract_parts(e, inside, n)

    def slow() -> list[Lanes]:
        values = reduce_large(e, x)
        return [large.select(s, u) for s, u in zip(values, (r, tail, quadrant), strict=True)]

    reduced, error, turns = e.branch(large, slow, [r, tail, quadrant])
    return reduced, error, turns


def _subtract_parts(e: VectorEmitter, x: Lanes, n: Lanes) -> tuple[Lanes, Lanes]:
    """x - n pi/2 as a sum of two; the products with the first three parts are exact."""
    first, second, third, rest = HALF_PI_F64
    difference = x - n * first  # exact
    r, error = two_sum(difference, -(n * second))
    last, last_error = two_sum(r, -(n * third))
    error = error + last_error - n * rest
    return fast_two_sum(last, error)


def sin_reduced(e: VectorEmitter, r: Lanes, tail: Lanes | None) -> Lanes:
    z = r * r
    p = e.polynomial(z, SIN[r.type])
    cube = p * z
    if tail is None:
        return e.mad(cube, r, r)
    return r + e.mad(cube, r, e.mad(z * -0.5, tail, tail))


def cos_reduced(e: VectorEmitter, r: Lanes, tail: Lanes | None) -> Lanes:
    z = r * r
    p = e.polynomial(z, COS[r.type])
    if tail is None:
        return e.mad(e.mad(p, z, -0.5), z, 1.0)
    half = z * 0.5
    w = 1.0 - half
    return w + (((1.0 - w) - half) + e.mad(z * z, p, -(r * tail)))


def _sine(e: VectorEmitter, x: Lanes, shift: int) -> Lanes:
    r, tail, quadrant = reduce_half_pi(e, x)
    error = None if x.type == "f32" else tail
    quadrant = quadrant + shift if shift else quadrant
    s, c = sin_reduced(e, r, error), cos_reduced(e, r, error)
    value = (quadrant & 1).ne(0).select(c, s)
    top = FORMATS[x.type].bits - 1
    flip = (quadrant & 2) << (top - 1)
    return (value.bits() ^ flip).bits()


@vector_op("sin")
@in_f64_without_fma
def sin(e: VectorEmitter, x: Lanes) -> Lanes:
    def body(e: VectorEmitter, x: Lanes) -> Lanes:
        return x.abs().lt(2.0**-27).select(x, _sine(e, x, 0))

    return e.helper(f"sin.{x.type}", body, [x], x.type)


@vector_op("cos")
@in_f64_without_fma
def cos(e: VectorEmitter, x: Lanes) -> Lanes:
    return e.helper(f"cos.{x.type}", lambda e, x: _sine(e, x, 1), [x], x.type)


@vector_op("tan")
@in_f64_without_fma
def tan(e: VectorEmitter, x: Lanes) -> Lanes:
    return e.helper(f"tan.{x.type}", _tan, [x], x.type)


def _tan(e: VectorEmitter, x: Lanes) -> Lanes:
    """sin / cos, each as a sum of two, with one step that makes up for the division's error."""
    r, tail, quadrant = reduce_half_pi(e, x)
    z = r * r
    cube = e.polynomial(z, SIN[x.type]) * z * r
    s, s_low = fast_two_sum(r, e.mad(z * -0.5, tail, tail) + cube)
    square_low = two_product(e, r, r)[1]
    w, w_low = fast_two_sum(e.constant(1.0, x.type), z * -0.5)
    quartic = e.mad(z * z, e.polynomial(z, COS[x.type]), -(r * tail) - 0.5 * square_low)
    c, c_low = fast_two_sum(w, w_low + quartic)
    odd = (quadrant & 1).ne(0)
    top, top_low = odd.select(-c, s), odd.select(-c_low, s_low)
    bottom, bottom_low = odd.select(s, c), odd.select(s_low, c_low)
    quotient = top / bottom
    product, product_low = two_product(e, quotient, bottom)
    rest = ((top - product) - product_low) + (top_low - quotient * bottom_low)
    return x.abs().lt(2.0**-27).select(x, quotient + rest / bottom)
