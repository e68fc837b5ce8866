"""Pointwise ops of one operand."""

import math

import numpy as np

from ..dtype import BOOL
from ..op import Pointwise, op
from ..schema import (
    Any_,
    Bool,
    Complex,
    Float,
    Int,
    Number,
    Onnx,
    Real,
    Special,
    Uniform,
    torch_name,
)
from . import special
from .binary import add, div, eq, lt, mul, select, sub  # noqa: F401  (operators of Value)
from .constant import full_like

EDGES = Special("inf -inf nan 0.0 -0.0 1.0 -1.0")


def _zero(moves, node):
    """The derivative of what is piecewise constant: zero, whatever comes, inf and nan included."""
    return [full_like(0.0, node.inputs[0])]


@op("neg")
class neg(Pointwise):
    """-x; the smallest integer wraps."""

    x: Number
    eval = np.negative

    def partials(x, out):
        return (-1.0,)

    onnx = Onnx("Neg", 13)
    torch = torch_name("neg", "negative")
    samples = (Uniform(-4, 4), EDGES)


@op("abs")
class abs_(Pointwise):
    """|x|. Its derivative at 0 is 0."""

    x: Real
    eval = np.abs

    def partials(x, out):
        return (sign(x),)

    onnx = Onnx("Abs", 13)
    torch = torch_name("abs", "absolute")
    samples = (Uniform(-4, 4), EDGES)


@op("sign")
class sign(Pointwise):
    """-1, 0 or 1; 0 for nan, as in torch."""

    x: Real
    pull = push = _zero

    def eval(x):
        return np.where(np.isnan(x), 0, np.sign(x)) if x.dtype.kind not in "iu" else np.sign(x)

    def to_onnx(g, node, x):
        return g.zero_for_nan("Sign", x)

    onnx = Onnx("Sign", 13)
    torch = torch_name("sign")
    samples = (Uniform(-4, 4), EDGES)


@op("floor")
class floor(Pointwise):
    """The largest whole number not above x."""

    x: Float
    eval = np.floor
    pull = push = _zero
    onnx = Onnx("Floor", 13)
    torch = torch_name("floor")
    samples = (Uniform(-4, 4), Special("inf -inf nan 0.0 -0.0 0.5 -0.5 1e30"))


@op("ceil")
class ceil(Pointwise):
    """The smallest whole number not below x."""

    x: Float
    eval = np.ceil
    pull = push = _zero
    onnx = Onnx("Ceil", 13)
    torch = torch_name("ceil")
    samples = (Uniform(-4, 4), Special("inf -inf nan 0.0 -0.0 0.5 -0.5 1e30"))


@op("round")
class round_(Pointwise):
    """The nearest whole number, halves to the even one."""

    x: Float
    eval = np.rint
    pull = push = _zero
    onnx = Onnx("Round", 11)
    samples = (Uniform(-4, 4), Special("inf -inf nan 0.0 -0.0 0.5 1.5 2.5 -0.5 8388609.0"))


@op("trunc")
class trunc(Pointwise):
    """x without its fraction."""

    x: Float
    eval = np.trunc
    pull = push = _zero

    def to_onnx(g, node, x):
        return g.trunc(x)

    torch = torch_name("trunc", "fix")
    samples = (Uniform(-4, 4), Special("inf -inf nan 0.0 -0.0 0.5 -0.5 1e30"))


@op("sqrt")
class sqrt(Pointwise):
    """The square root, correctly rounded; nan below 0."""

    x: Float | Complex
    eval = np.sqrt

    def partials(x, out):
        return (0.5 / out,)

    onnx = Onnx("Sqrt", 13)
    torch = torch_name("sqrt")
    cost = 4
    samples = (Uniform(0.1, 4), Special("inf nan 0.0 -0.0 -1.0"))


@op("rsqrt")
class rsqrt(Pointwise):
    """1 / sqrt(x)."""

    x: Float

    def eval(x):
        return (1 / np.sqrt(x)).astype(x.dtype)

    def partials(x, out):
        return (-0.5 * out * out * out,)

    def to_onnx(g, node, x):
        return g.op("Reciprocal", [g.op("Sqrt", [x])])

    torch = torch_name("rsqrt")
    cost = 5
    samples = (Uniform(0.1, 4), Special("inf nan 0.0 -1.0"))


@op("exp")
class exp(Pointwise):
    """e to the x."""

    x: Float | Complex
    eval = np.exp

    def partials(x, out):
        return (out,)

    onnx = Onnx("Exp", 13)
    torch = torch_name("exp")
    cost = 8
    samples = (Uniform(-4, 4), EDGES, Special("88.0 -87.0 -100.0 90.0"))


@op("exp2")
class exp2(Pointwise):
    """2 to the x."""

    x: Float
    eval = np.exp2

    def partials(x, out):
        return (out * math.log(2),)

    def to_onnx(g, node, x):
        return g.op("Pow", [g.scalar(2.0, node.inputs[0].type.dtype), x])

    torch = torch_name("exp2")
    cost = 8
    samples = (Uniform(-4, 4), EDGES)


@op("expm1")
class expm1(Pointwise):
    """exp(x) - 1, accurate near 0."""

    x: Float
    eval = np.expm1

    def partials(x, out):
        return (out + 1.0,)

    def to_onnx(g, node, x):
        return g.expm1(x)

    torch = torch_name("expm1")
    cost = 10
    samples = (Uniform(-1, 1), EDGES, Special("1e-8"))


@op("log")
class log(Pointwise):
    """The natural logarithm; -inf at 0, nan below."""

    x: Float | Complex
    eval = np.log

    def partials(x, out):
        return (1.0 / x,)

    onnx = Onnx("Log", 13)
    torch = torch_name("log")
    cost = 9
    samples = (Uniform(0.1, 4), EDGES)


@op("log2")
class log2(Pointwise):
    """The logarithm to base 2."""

    x: Float
    eval = np.log2

    def partials(x, out):
        return (1.0 / (x * math.log(2)),)

    def to_onnx(g, node, x):
        return g.log2(x)

    torch = torch_name("log2")
    cost = 9
    samples = (Uniform(0.1, 4), EDGES)


@op("log1p")
class log1p(Pointwise):
    """log(1 + x), accurate near 0."""

    x: Float
    eval = np.log1p

    def partials(x, out):
        return (1.0 / (x + 1.0),)

    def to_onnx(g, node, x):
        return g.log1p(x)

    torch = torch_name("log1p")
    cost = 11
    samples = (Uniform(-0.9, 4), EDGES, Special("1e-8"))


@op("sin")
class sin(Pointwise):
    """Sine of radians."""

    x: Float | Complex
    eval = np.sin

    def partials(x, out):
        return (cos(x),)

    onnx = Onnx("Sin", 7)
    torch = torch_name("sin")
    cost = 12
    samples = (Uniform(-4, 4), EDGES, Special("1e5"))


@op("cos")
class cos(Pointwise):
    """Cosine of radians."""

    x: Float | Complex
    eval = np.cos

    def partials(x, out):
        return (-sin(x),)

    onnx = Onnx("Cos", 7)
    torch = torch_name("cos")
    cost = 12
    samples = (Uniform(-4, 4), EDGES, Special("1e5"))


@op("tan")
class tan(Pointwise):
    """Tangent of radians."""

    x: Float
    eval = np.tan

    def partials(x, out):
        return (1.0 + out * out,)

    onnx = Onnx("Tan", 7)
    torch = torch_name("tan")
    cost = 16
    samples = (Uniform(-1, 1), EDGES)


@op("asin")
class asin(Pointwise):
    """Inverse sine, in radians."""

    x: Float
    eval = np.arcsin

    def partials(x, out):
        return (rsqrt(1.0 - x * x),)

    onnx = Onnx("Asin", 7)
    torch = torch_name("asin", "arcsin")
    cost = 12
    samples = (Uniform(-0.9, 0.9), EDGES)


@op("acos")
class acos(Pointwise):
    """Inverse cosine, in radians."""

    x: Float
    eval = np.arccos

    def partials(x, out):
        return (-rsqrt(1.0 - x * x),)

    onnx = Onnx("Acos", 7)
    torch = torch_name("acos", "arccos")
    cost = 12
    samples = (Uniform(-0.9, 0.9), EDGES)


@op("atan")
class atan(Pointwise):
    """Inverse tangent, in radians."""

    x: Float
    eval = np.arctan

    def partials(x, out):
        return (1.0 / (x * x + 1.0),)

    onnx = Onnx("Atan", 7)
    torch = torch_name("atan", "arctan")
    cost = 12
    samples = (Uniform(-4, 4), EDGES)


@op("sinh")
class sinh(Pointwise):
    """Hyperbolic sine."""

    x: Float
    eval = np.sinh

    def partials(x, out):
        return (cosh(x),)

    onnx = Onnx("Sinh", 9)
    torch = torch_name("sinh")
    cost = 14
    samples = (Uniform(-2, 2), EDGES)


@op("cosh")
class cosh(Pointwise):
    """Hyperbolic cosine."""

    x: Float
    eval = np.cosh

    def partials(x, out):
        return (sinh(x),)

    onnx = Onnx("Cosh", 9)
    torch = torch_name("cosh")
    cost = 14
    samples = (Uniform(-2, 2), EDGES)


@op("tanh")
class tanh(Pointwise):
    """Hyperbolic tangent."""

    x: Float | Complex
    eval = np.tanh

    def partials(x, out):
        return (1.0 - out * out,)

    onnx = Onnx("Tanh", 13)
    torch = torch_name("tanh")
    cost = 12
    samples = (Uniform(-4, 4), EDGES)


@op("asinh")
class asinh(Pointwise):
    """Inverse hyperbolic sine."""

    x: Float
    eval = np.arcsinh

    def partials(x, out):
        return (rsqrt(x * x + 1.0),)

    onnx = Onnx("Asinh", 9)
    torch = torch_name("asinh", "arcsinh")
    cost = 20
    samples = (Uniform(-4, 4), EDGES)


@op("acosh")
class acosh(Pointwise):
    """Inverse hyperbolic cosine; nan below 1."""

    x: Float
    eval = np.arccosh

    def partials(x, out):
        return (rsqrt(x * x - 1.0),)

    onnx = Onnx("Acosh", 9)
    torch = torch_name("acosh", "arccosh")
    cost = 20
    samples = (Uniform(1.1, 4), EDGES)


@op("atanh")
class atanh(Pointwise):
    """Inverse hyperbolic tangent."""

    x: Float
    eval = np.arctanh

    def partials(x, out):
        return (1.0 / (1.0 - x * x),)

    onnx = Onnx("Atanh", 9)
    torch = torch_name("atanh", "arctanh")
    cost = 16
    samples = (Uniform(-0.9, 0.9), EDGES)


@op("erf")
class erf(Pointwise):
    """The error function."""

    x: Float
    eval = special.erf

    def partials(x, out):
        return (exp(-(x * x)) * (2 / math.sqrt(math.pi)),)

    onnx = Onnx("Erf", 13)
    torch = torch_name("erf")
    cost = 12
    samples = (Uniform(-3, 3), EDGES)


@op("erfc")
class erfc(Pointwise):
    """1 - erf(x), accurate for large x."""

    x: Float
    eval = special.erfc

    def partials(x, out):
        return (exp(-(x * x)) * (-2 / math.sqrt(math.pi)),)

    no_onnx = "Sub of Erf would lose the accuracy that the op is for"
    torch = torch_name("erfc")
    cost = 20
    samples = (Uniform(-3, 3), EDGES)


@op("erfinv")
class erfinv(Pointwise):
    """The inverse of erf on (-1, 1)."""

    x: Float
    eval = special.erfinv

    def partials(x, out):
        return (exp(out * out) * (math.sqrt(math.pi) / 2),)

    no_onnx = "the standard domain has no inverse error function"
    torch = torch_name("erfinv")
    cost = 14
    samples = (Uniform(-0.9, 0.9), Special("1.0 -1.0 nan 2.0 0.0"))


@op("lgamma")
class lgamma(Pointwise):
    """log |gamma(x)|."""

    x: Float
    eval = special.lgamma

    def partials(x, out):
        return (digamma(x),)

    no_onnx = "the standard domain has no gamma function"
    torch = torch_name("lgamma")
    cost = 40
    samples = (Uniform(0.2, 6), Special("inf nan 0.0 -1.0 1.0 2.0"))


@op("digamma")
class digamma(Pointwise):
    """The derivative of lgamma."""

    x: Float
    eval = special.digamma
    no_derivative = "polygamma of order 1 is not an op yet"
    no_onnx = "the standard domain has no gamma function"
    torch = torch_name("digamma")
    cost = 40
    samples = (Uniform(0.2, 6), Special("inf nan 1.0"))


@op("not")
class not_(Pointwise):
    """Logical not of bool, bitwise not of integers."""

    x: Bool | Int

    def eval(x):
        return np.logical_not(x) if x.dtype == bool else np.invert(x)

    no_derivative = "takes no floats"

    def to_onnx(g, node, x):
        return g.op("Not" if node.inputs[0].type.dtype is BOOL else "BitwiseNot", [x])

    torch = torch_name("bitwise_not")
    samples = (Uniform(-4, 4),)


@op("popcount")
class popcount(Pointwise):
    """How many bits are set."""

    x: Int

    def eval(x):
        return np.bitwise_count(x.view(f"u{x.dtype.itemsize}"))

    no_derivative = "takes no floats"
    no_onnx = "the standard domain has no population count"
    samples = (Uniform(-4, 4),)


@op("isnan")
class isnan(Pointwise):
    """True where x is not a number."""

    x: Float
    result_dtype = BOOL
    eval = np.isnan
    no_derivative = "its result is bool"
    onnx = Onnx("IsNaN", 13)
    torch = torch_name("isnan", inplace=False)
    samples = (Uniform(-4, 4), EDGES)


@op("real")
class real(Pointwise):
    """The real part of a complex tensor, in the real dtype of that size."""

    x: Complex

    def result(x):
        return x.with_dtype(x.dtype.to_real())

    eval = np.real

    def transpose(ct, node, i):
        from .binary import complex_

        return complex_(ct, full_like(0.0, ct))

    linear = (0,)
    no_onnx = "ONNX has no complex arithmetic"
    samples = (Uniform(-4, 4),)


@op("imag")
class imag(Pointwise):
    """The imaginary part of a complex tensor, in the real dtype of that size."""

    x: Complex

    def result(x):
        return x.with_dtype(x.dtype.to_real())

    eval = np.imag

    def transpose(ct, node, i):
        from .binary import complex_

        return complex_(full_like(0.0, ct), -ct)

    linear = (0,)
    no_onnx = "ONNX has no complex arithmetic"
    samples = (Uniform(-4, 4),)


@op("detach")
class detach(Pointwise):
    """The identity, through which no derivative passes."""

    x: Any_

    def eval(x):
        return x

    no_derivative = "stops derivatives: that is its meaning"
    flat = True
    onnx = Onnx("Identity", 13)
    samples = (Uniform(-4, 4),)


# Every op that this file declares, under the name of its class.
__all__ = [name for name, value in globals().items() if isinstance(value, Pointwise)]
