"""Activations: pointwise functions with a meaning of their own."""

import math

from .. import ops
from ..op import op
from ..schema import Float, NumberAttr, Onnx, Real, Special, Uniform, one_of, torch_name
from .base import Composite

EDGES = Special("inf -inf nan 0.0 -0.0 1.0 -1.0")


@op("relu")
class relu(Composite):
    """max(x, 0); nan stays nan. The derivative at 0 is 0."""

    x: Real

    def expand(x):
        zero = ops.full_like(0, x)
        return ops.select(ops.le(x, zero), zero, x)

    onnx = Onnx("Relu", 14)
    torch = torch_name("relu")
    samples = (Uniform(-4, 4), EDGES)


@op("sigmoid")
class sigmoid(Composite):
    """1 / (1 + exp(-x))."""

    x: Float

    def expand(x):
        one = ops.full_like(1.0, x)
        return ops.div(one, ops.add(one, ops.exp(ops.neg(x))))

    def partials(x, out):
        return (out * (1.0 - out),)

    onnx = Onnx("Sigmoid", 13)
    torch = torch_name("sigmoid")
    samples = (Uniform(-4, 4), EDGES)


@op("log_sigmoid")
class log_sigmoid(Composite):
    """log(sigmoid(x)), accurate on both sides."""

    x: Float

    def expand(x):
        zero = ops.full_like(0.0, x)
        return ops.sub(ops.min_(x, zero), ops.log1p(ops.exp(ops.neg(ops.abs_(x)))))

    def partials(x, out):
        return (sigmoid(-x),)

    no_onnx = "goes out as its expansion"
    samples = (Uniform(-4, 4), Special("nan 0.0 50.0 -50.0"))


@op("silu")
class silu(Composite):
    """x * sigmoid(x)."""

    x: Float

    def expand(x):
        return ops.div(x, ops.add(ops.full_like(1.0, x), ops.exp(ops.neg(x))))

    def partials(x, out):
        s = sigmoid(x)
        return (s * (1.0 + x * (1.0 - s)),)

    def to_onnx(g, node, x):
        return g.op("Mul", [x, g.op("Sigmoid", [x])])

    samples = (Uniform(-4, 4), Special("inf nan 0.0 1.0"))


@op("gelu", approximate="none")
class gelu(Composite):
    """x * Phi(x): by erf, or by the tanh approximation."""

    x: Float
    approximate: one_of("none", "tanh")

    def expand(x, approximate):
        half, one = ops.full_like(0.5, x), ops.full_like(1.0, x)
        if approximate == "none":
            gate = ops.erf(ops.mul(x, ops.full_like(math.sqrt(0.5), x)))
            return ops.mul(ops.mul(x, half), ops.add(one, gate))
        scale = ops.full_like(math.sqrt(2 / math.pi), x)
        cube = ops.mul(ops.mul(x, x), x)
        inner = ops.mul(scale, ops.add(x, ops.mul(ops.full_like(0.044715, x), cube)))
        return ops.mul(ops.mul(half, x), ops.add(one, ops.tanh(inner)))

    onnx = Onnx("Gelu", 20, {"approximate": "approximate"})
    samples = (Uniform(-4, 4), Special("nan 0.0 1.0 -1.0"))


@op("softplus", beta=1.0, threshold=20.0)
class softplus(Composite):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold."""

    x: Float
    beta: NumberAttr
    threshold: NumberAttr

    def expand(x, beta, threshold):
        scaled = ops.mul(x, ops.full_like(beta, x)) if beta != 1 else x
        large = ops.lt(ops.full_like(threshold, x), scaled)
        safe = ops.select(large, ops.full_like(0.0, x), scaled)
        low = ops.log1p(ops.exp(safe))
        if beta != 1:
            low = ops.div(low, ops.full_like(beta, x))
        return ops.select(large, x, low)

    no_onnx = "ONNX's Softplus has no beta and no threshold; goes out as its expansion"
    samples = (Uniform(-4, 4), Special("nan 0.0 30.0 -30.0"))


@op("mish")
class mish(Composite):
    """x * tanh(softplus(x))."""

    x: Float

    def expand(x):
        return ops.mul(x, ops.tanh(softplus(x)))

    onnx = Onnx("Mish", 18)
    samples = (Uniform(-4, 4), Special("nan 0.0 1.0 -1.0 30.0"))


@op("tanhshrink")
class tanhshrink(Composite):
    """x - tanh(x)."""

    x: Float

    def expand(x):
        return ops.sub(x, ops.tanh(x))

    no_onnx = "goes out as its expansion"
    samples = (Uniform(-4, 4), Special("nan 0.0 1.0 -1.0"))
