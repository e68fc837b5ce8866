"""More of arithmetic: one-sided clamps, integer divisors, complex parts, products of vectors."""

from __future__ import annotations

import math

import numpy as np

from ..frontends.function import composed, function
from ..ir import ops
from ..ir.build import trace
from ..ir.dtype import BOOL, F64, I64
from ..ir.errors import ShapeError, UnsupportedError
from ..ir.graph import Value
from .create import eye
from .linalg import matmul_of, outer
from .pointwise import pow as power
from .promote import axis_of, broadcast, floating, operands


@function
def clamp_min(input, min):
    """The input, at least min."""
    return ops.max_(*operands(input, min))


@function
def clamp_max(input, max):
    """The input, at most max."""
    return ops.min_(*operands(input, max))


@composed
def float_power(input, exponent):
    """input to the power of exponent, in float64."""
    x, y = [v.to(F64) if hasattr(v, "to") else v for v in (input, exponent)]
    if not hasattr(x, "to"):
        x = float(x)
    return power(x, y if hasattr(y, "to") else float(y))


@function
def logaddexp2(input, other):
    """log2(2 ** input + 2 ** other), without overflow."""
    x, y = operands(input, other)
    x, y = floating(x), floating(y)
    top, low = ops.max_(x, y), ops.min_(x, y)
    same = ops.eq(x, y)  # also where both are the same infinity
    delta = ops.select(same, ops.full_like(0.0, x), ops.sub(low, top))
    scale = ops.full_like(1 / math.log(2), top)
    return ops.add(top, ops.mul(ops.log1p(ops.exp2(delta)), scale))


# --- integers ------------------------------------------------------------------------------------


def _any_left(a: Value, b: Value) -> Value:
    left = ops.not_(ops.eq(b, ops.full_like(0, b)))
    axes = tuple(range(len(b.type.shape)))
    count = ops.reduce_sum(ops.cast(left, dtype=I64), axes=axes)
    return ops.lt(ops.full_like(0, count), count)


def _divided(a: Value, b: Value) -> list[Value]:
    """A step of Euclid's algorithm where b is not 0."""
    done = ops.eq(b, ops.full_like(0, b))
    rest = ops.rem(a, ops.select(done, ops.full_like(1, b), b))
    return [ops.select(done, a, b), ops.select(done, b, rest)]


def _gcd(x: Value, y: Value) -> Value:
    if not x.type.dtype.is_integer:
        raise RuntimeError("gcd and lcm are implemented for integers only")
    a, b = ops.abs_(x), ops.abs_(y)
    return ops.while_loop(trace(_any_left, a.type, b.type), trace(_divided, a.type, b.type), a, b)[
        0
    ]


@function
def gcd(input, other):
    """The greatest common divisor of integers."""
    return _gcd(*operands(input, other))


@function
def lcm(input, other):
    """The least common multiple of integers."""
    x, y = operands(input, other)
    divisor = _gcd(x, y)
    zero, one = ops.full_like(0, divisor), ops.full_like(1, divisor)
    safe = ops.select(ops.eq(divisor, zero), one, divisor)
    return ops.abs_(ops.mul(ops.quo(x, safe), y))


# --- complex numbers -----------------------------------------------------------------------------


def _conjugate(x: Value) -> Value:
    return ops.complex_(ops.real(x), ops.neg(ops.imag(x))) if x.type.dtype.kind == "c" else x


@function
def conj(input):
    """The complex conjugate; real tensors are their own."""
    return _conjugate(input)


@function
def conj_physical(input):
    """The complex conjugate, computed."""
    return _conjugate(input)


@function
def angle(input):
    """The angle of complex numbers; of real ones 0, pi where they are negative, nan where nan."""
    if input.type.dtype.kind == "c":
        return ops.atan2(*broadcast(ops.imag(input), ops.real(input)))
    x = floating(input)
    zero = ops.full_like(0.0, x)
    made = ops.select(ops.lt(x, zero), ops.full_like(math.pi, x), zero)
    return ops.select(ops.isnan(x), x, made)


@function
def isreal(input):
    """Where the imaginary part is 0."""
    if input.type.dtype.kind != "c":
        return ops.full(True, BOOL, input.type.shape, input.type.device)
    part = ops.imag(input)
    return ops.eq(part, ops.full_like(0.0, part))


# --- vectors -------------------------------------------------------------------------------------


@function
def vdot(input, other):
    """The inner product of two vectors, the first one conjugated."""
    if len(input.type.shape) != 1 or len(other.type.shape) != 1:
        raise ShapeError(f"vdot takes two vectors, not {input.type.text} and {other.type.text}")
    return matmul_of(_conjugate(input), other)


@function
def ger(input, vec2):
    """outer under its old name."""
    return outer.body(input, vec2)


@function
def cross(input, other, dim=None):
    """The cross product of vectors along a dim of size 3; the first such without dim."""
    x, y = operands(input, other)
    return cross_of(x, y, dim)


def cross_of(x: Value, y: Value, dim: int | None) -> Value:
    shape = x.type.shape
    if dim is None:
        axis = next((i for i, n in enumerate(shape) if n == 3), None)
        if axis is None:
            raise ShapeError(f"no dimension of size 3 in input {x.type.text}")
    else:
        axis = axis_of(dim, len(shape))
        if shape[axis] != 3:
            raise ShapeError(f"cross: dimension {dim} does not have size 3: {x.type.text}")
    order = [ops.const(_places(k), x.type.device) for k in (1, 2)]
    x1, x2 = [ops.gather(x, places, axis=axis) for places in order]
    y1, y2 = [ops.gather(y, places, axis=axis) for places in order]
    return ops.sub(ops.mul(x1, y2), ops.mul(x2, y1))


def _places(shift: int) -> np.ndarray:
    return np.array([(i + shift) % 3 for i in range(3)], np.int64)


@composed
def matrix_power(input, n):
    """Square matrices to the power of n, by repeated squaring. UnsupportedError: n below 0."""
    if len(input.shape) < 2 or input.shape[-1] != input.shape[-2]:
        raise ShapeError(f"matrix_power takes square matrices, not {input._type.text}")
    if n < 0:
        raise UnsupportedError(f"matrix_power with n={n} needs inverses of matrices")
    if n == 0:
        one = eye(input.shape[-1], dtype=input.dtype, device=input.device)
        return one.expand(input.shape).clone()
    square, made = input, None
    while n:
        if n & 1:
            made = square if made is None else made @ square
        n >>= 1
        square = square @ square if n else square
    return made
