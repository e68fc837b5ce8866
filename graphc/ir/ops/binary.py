"""Pointwise ops of two and three operands, and `cast`. All are total: see each op."""

import numpy as np

from ..dtype import BOOL, DType
from ..op import Pointwise, op
from ..schema import (
    Any_,
    Bool,
    Complex,
    DTypeAttr,
    Float,
    Int,
    Number,
    Onnx,
    Real,
    Special,
    Uniform,
)
from .constant import full_like

EDGES = Special("inf -inf nan 0.0 -0.0 1.0 -1.0")


@op("add")
class add(Pointwise):
    """x + y; integers wrap."""

    x: Number
    y: Number
    eval = np.add

    def partials(x, y, out):
        return (1.0, 1.0)

    commutative = True
    onnx = Onnx("Add", 14)
    samples = (Uniform(-4, 4), EDGES)


@op("sub")
class sub(Pointwise):
    """x - y; integers wrap."""

    x: Number
    y: Number
    eval = np.subtract

    def partials(x, y, out):
        return (1.0, -1.0)

    onnx = Onnx("Sub", 14)
    samples = (Uniform(-4, 4), EDGES)


@op("mul")
class mul(Pointwise):
    """x * y; integers wrap."""

    x: Number
    y: Number
    eval = np.multiply

    def partials(x, y, out):
        return (y, x)

    commutative = True
    onnx = Onnx("Mul", 14)
    samples = (Uniform(-4, 4), EDGES)


@op("div")
class div(Pointwise):
    """x / y of floats, correctly rounded."""

    x: Float | Complex
    y: Float | Complex
    eval = np.divide

    def partials(x, y, out):
        return (1.0 / y, -out / y)

    onnx = Onnx("Div", 14)
    cost = 3
    samples = (Uniform(0.5, 4), EDGES)


def _safe(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The divisor with 0 replaced by 1; a zero divisor is an error."""
    if np.any(y == 0):
        raise ZeroDivisionError("integer division by zero")
    return y


@op("quo")
class quo(Pointwise):
    """The integer quotient, rounded towards 0. Division by zero is an error; the smallest integer
    over -1 wraps."""

    x: Int
    y: Int

    def eval(x, y):
        y = _safe(x, y)
        floored = np.floor_divide(x, y)
        return floored + ((floored < 0) & (floored * y != x)).astype(x.dtype)

    no_derivative = "takes no floats"
    onnx = Onnx("Div", 14)
    cost = 6
    samples = (Uniform(1, 9),)


@op("rem")
class rem(Pointwise):
    """What `quo` leaves, with the sign of x (C's fmod). Integer division by zero is an error."""

    x: Real
    y: Real

    def eval(x, y):
        return np.fmod(x, y if x.dtype.kind not in "iu" else _safe(x, y))

    def partials(x, y, out):
        return (1.0, -trunc_div(x, y))

    def to_onnx(g, node, x, y):
        return g.op("Mod", [x, y], fmod=1)

    cost = 6
    samples = (Uniform(1, 9),)


def trunc_div(x, y):
    from .unary import trunc

    return trunc(x / y)


@op("pow")
class pow_(Pointwise):
    """x to the y, with C's special cases: pow(x, 0) = 1 and pow(1, y) = 1 even for nan. Integers:
    a negative exponent gives 0, except for the bases 1 and -1."""

    x: Real
    y: Real

    def eval(x, y):
        if x.dtype.kind not in "iu":
            return np.power(x, y)
        low = np.power(x, np.maximum(y, 0))
        unit = np.where(x == 1, 1, np.where(x == -1, np.where(y % 2 == 0, 1, -1), 0))
        return np.where(y < 0, unit, low).astype(x.dtype)

    def partials(x, y, out):
        from .unary import log

        zero = full_like(0.0, x)
        dx = select(eq(y, zero), zero, y * pow_(x, y - 1.0))
        dy = select(and_(eq(x, zero), le(zero, y)), zero, out * log(x))
        return (dx, dy)

    onnx = Onnx("Pow", 15)
    cost = 18
    samples = (Uniform(0.5, 3), EDGES)


@op("max")
class max_(Pointwise):
    """The larger; nan where either is nan; max(-0.0, 0.0) = 0.0. Ties share the derivative."""

    x: Real | Bool
    y: Real | Bool

    def eval(x, y):
        if x.dtype.kind == "b":
            return np.logical_or(x, y)
        larger = np.maximum(x, y)
        if x.dtype.kind in "iu":
            return larger
        zeros = (x == 0) & (y == 0)
        return np.where(zeros, np.where(np.signbit(x), y, x), larger)

    def pull(cts, node):
        return _share((cts[0], cts[0]), node)

    def push(tangents, node):
        return _shared_tangent(tangents, node)

    commutative = True
    onnx = Onnx("Max", 13)
    samples = (Uniform(-4, 4), EDGES)


@op("min")
class min_(Pointwise):
    """The smaller; nan where either is nan; min(-0.0, 0.0) = -0.0. Ties share the derivative."""

    x: Real | Bool
    y: Real | Bool

    def eval(x, y):
        if x.dtype.kind == "b":
            return np.logical_and(x, y)
        smaller = np.minimum(x, y)
        if x.dtype.kind in "iu":
            return smaller
        zeros = (x == 0) & (y == 0)
        return np.where(zeros, np.where(np.signbit(x), x, y), smaller)

    def pull(cts, node):
        return _share((cts[0], cts[0]), node)

    def push(tangents, node):
        return _shared_tangent(tangents, node)

    commutative = True
    onnx = Onnx("Min", 13)
    samples = (Uniform(-4, 4), EDGES)


def _share(parts, node):
    """The part of each operand that the extreme takes: all of it where it is one, half where both
    are; where either is nan both pass, as in torch."""
    x, y = node.inputs
    low, high = (x, y) if node.op is max_ else (y, x)
    tie, below, above = eq(x, y), lt(low, high), lt(high, low)
    shares = []
    for part, lost in zip(parts, (below, above), strict=True):
        half = select(tie, part * 0.5, part)
        shares.append(select(lost, full_like(0.0, part), half))
    return shares


def _shared_tangent(tangents, node):
    parts = [full_like(0.0, v) if t is None else t for t, v in zip(tangents, node.inputs)]
    a, b = _share(parts, node)
    return [a + b]


@op("atan2")
class atan2(Pointwise):
    """The angle of the point (y, x), in radians: atan2(y, x) in C's order of arguments."""

    x: Float
    y: Float
    eval = np.arctan2

    def partials(y, x, out):
        square = x * x + y * y
        zero = full_like(0.0, square)
        inverse = select(eq(square, zero), zero, 1.0 / square)  # 0 at the origin, as in torch
        return (x * inverse, -y * inverse)

    no_onnx = "the standard domain has no atan2"
    cost = 14
    samples = (Uniform(0.5, 4), EDGES)


@op("nextafter")
class nextafter(Pointwise):
    """The next representable number after x in the direction of y."""

    x: Float
    y: Float
    eval = np.nextafter
    no_derivative = "its steps have no useful derivative; torch has none either"
    no_onnx = "the standard domain has no nextafter"
    cost = 6
    samples = (Uniform(-4, 4), EDGES)


@op("and")
class and_(Pointwise):
    """Logical and of bool, bitwise and of integers."""

    x: Bool | Int
    y: Bool | Int
    eval = np.bitwise_and
    no_derivative = "takes no floats"
    commutative = True

    def to_onnx(g, node, x, y):
        return g.op("And" if node.inputs[0].type.dtype is BOOL else "BitwiseAnd", [x, y])

    samples = (Uniform(-9, 9),)


@op("or")
class or_(Pointwise):
    """Logical or of bool, bitwise or of integers."""

    x: Bool | Int
    y: Bool | Int
    eval = np.bitwise_or
    no_derivative = "takes no floats"
    commutative = True

    def to_onnx(g, node, x, y):
        return g.op("Or" if node.inputs[0].type.dtype is BOOL else "BitwiseOr", [x, y])

    samples = (Uniform(-9, 9),)


@op("xor")
class xor(Pointwise):
    """Logical exclusive or of bool, bitwise of integers."""

    x: Bool | Int
    y: Bool | Int
    eval = np.bitwise_xor
    no_derivative = "takes no floats"
    commutative = True

    def to_onnx(g, node, x, y):
        return g.op("Xor" if node.inputs[0].type.dtype is BOOL else "BitwiseXor", [x, y])

    samples = (Uniform(-9, 9),)


@op("shl")
class shl(Pointwise):
    """x shifted left by y bits; a shift of the width or more, or below 0, gives 0."""

    x: Int
    y: Int

    def eval(x, y):
        width = x.dtype.itemsize * 8
        outside = (y < 0) | (y >= width)
        return np.where(outside, 0, np.left_shift(x, np.where(outside, 0, y))).astype(x.dtype)

    no_derivative = "takes no floats"
    no_onnx = "ONNX's BitShift takes unsigned integers only"
    samples = (Uniform(0, 7),)


@op("shr")
class shr(Pointwise):
    """x shifted right by y bits, keeping the sign; a shift beyond the width leaves the sign."""

    x: Int
    y: Int

    def eval(x, y):
        width = x.dtype.itemsize * 8
        outside = (y < 0) | (y >= width)
        filled = np.right_shift(x, np.full_like(x, width - 1)) if x.dtype.kind == "i" else 0
        return np.where(outside, filled, np.right_shift(x, np.where(outside, 0, y))).astype(x.dtype)

    no_derivative = "takes no floats"
    no_onnx = "ONNX's BitShift takes unsigned integers only"
    samples = (Uniform(0, 7),)


@op("eq")
class eq(Pointwise):
    """x == y; nan equals nothing."""

    x: Any_
    y: Any_
    eval = np.equal
    result_dtype = BOOL
    no_derivative = "its result is bool"
    commutative = True
    onnx = Onnx("Equal", 13)
    samples = (Uniform(-2, 2), EDGES)


@op("lt")
class lt(Pointwise):
    """x < y; False where either is nan."""

    x: Real | Bool
    y: Real | Bool
    eval = np.less
    result_dtype = BOOL
    no_derivative = "its result is bool"
    onnx = Onnx("Less", 13)
    samples = (Uniform(-2, 2), EDGES)


@op("le")
class le(Pointwise):
    """x <= y; False where either is nan."""

    x: Real | Bool
    y: Real | Bool
    eval = np.less_equal
    result_dtype = BOOL
    no_derivative = "its result is bool"
    onnx = Onnx("LessOrEqual", 16)
    samples = (Uniform(-2, 2), EDGES)


@op("complex")
class complex_(Pointwise):
    """The complex tensor of a real and an imaginary part."""

    x: Float
    y: Float

    def result(x, y):
        return Pointwise.result(complex_, x, y).with_dtype(x.dtype.to_complex())

    def eval(x, y):
        out = np.empty(x.shape, np.result_type(x.dtype, np.complex64))
        out.real, out.imag = x, y  # x + 1j * y would make nan of an infinite part
        return out

    linear = (0, 1)

    def transpose(ct, node, i):
        from .unary import imag, real

        return real(ct) if i == 0 else -imag(ct)

    no_onnx = "ONNX has no complex arithmetic"
    samples = (Uniform(-4, 4),)


@op("select")
class select(Pointwise):
    """x where the condition holds, else y. Its derivative is a select as well, never a product
    with a mask: 0 * inf is nan, and a masked branch often holds an inf."""

    condition: Bool
    x: Any_
    y: Any_
    mixed = 1
    linear = (1, 2)

    def eval(condition, x, y):
        return np.where(condition, x, y)

    def transpose(ct, node, i):
        zero = full_like(0.0, ct)
        condition = node.inputs[0]
        return select(condition, ct, zero) if i == 1 else select(condition, zero, ct)

    onnx = Onnx("Where", 16)
    samples = (Uniform(-4, 4), EDGES)


@op("fma")
class fma(Pointwise):
    """x * y + z with one rounding."""

    x: Float
    y: Float
    z: Float

    def eval(x, y, z):
        if x.dtype == np.float64:
            return np.vectorize(_fma, otypes=[np.float64])(x, y, z) if x.size else x
        wide = x.astype(np.float64) * y.astype(np.float64)
        return _round_odd_sum(wide, z.astype(np.float64)).astype(x.dtype)

    def partials(x, y, z, out):
        return (y, x, 1.0)

    no_onnx = "the standard domain has no fused multiply-add"
    samples = (Uniform(-4, 4),)


def _fma(x: float, y: float, z: float) -> float:
    """One rounding of the exact rational result."""
    from fractions import Fraction
    from math import isfinite

    if not (isfinite(x) and isfinite(y) and isfinite(z)):
        return x * y + z
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    return float(exact) if exact else x * y + z


def _round_odd_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b in float64, its last bit made sticky, so that a second rounding to float32 is right."""
    total = a + b
    bb = total - a
    error = (a - (total - bb)) + (b - bb)
    bits = total.view(np.int64)
    sticky = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(sticky, bits + step, bits).view(np.float64)


@op("graft")
class graft(Pointwise):
    """x with the derivative of y: what a write that derivatives do not see makes of y."""

    x: Any_
    y: Any_

    def eval(x, y):
        return x

    def partials(x, y, out):
        return (None, 1.0)

    surrogate = True

    def to_onnx(g, node, x, y):
        return g.op("Identity", [x])

    samples = (Uniform(-4, 4), EDGES)


@op("cast")
class cast(Pointwise):
    """x in another element type. Floats to integers as on x86: towards 0, and the smallest integer
    for what does not fit; integers wrap; anything but 0 is True."""

    x: Any_
    dtype: DTypeAttr

    def result(x, dtype):
        return x.with_dtype(dtype)

    def eval(x, dtype: DType):
        if dtype is BOOL:
            return x != 0
        if dtype.kind in "iu" and x.dtype.kind not in "iub":
            return _to_integer(x, dtype)
        if x.dtype.kind == "c" and dtype.kind != "c":
            x = x.real
        return x.astype(dtype.numpy)

    linear = (0,)

    def transpose(ct, node, i):
        return cast(ct, dtype=node.inputs[0].type.dtype)

    def to_onnx(g, node, x):
        return g.op("Cast", [x], to=g.onnx_dtype(node.attrs["dtype"]))

    samples = (Uniform(-4, 4),)


def _to_integer(x: np.ndarray, dtype: DType) -> np.ndarray:
    wide = np.trunc(x.real.astype(np.float64))
    bits = 64 if dtype.itemsize == 8 else 32
    low = -(2.0 ** (bits - 1))
    fits = (wide >= low) & (wide < -low)
    as_int = np.where(fits, wide, low).astype(np.int64)
    return as_int.astype(dtype.numpy)
