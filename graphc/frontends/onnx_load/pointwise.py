"""Loading of elementwise ops whose attributes or versions need more than their facet says."""

from __future__ import annotations

import math
from typing import Any

from graphc.ir import composite, ops
from graphc.ir.dtype import BOOL
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Value

from .item import Item
from .node import OnnxNode
from .reading import element_type
from .registry import loads


@loads("Identity", "Dropout")
def identity(g: Any, node: OnnxNode, x: Item, *options: Item | None) -> Any:
    """Dropout as in inference: nothing is dropped."""
    training = options[1] if len(options) > 1 else None
    if training is not None and g.number(training, "training_mode"):
        raise UnsupportedError("Dropout in training mode is not supported")
    if len(node.outputs) < 2 or node.type == "Identity":
        return x
    return x, ops.full(True, BOOL, x.shape)


@loads("Cast")
def cast(g: Any, node: OnnxNode, x: Item) -> Value:
    return _as(g.value(x), element_type(node.int("to")))


@loads("CastLike")
def cast_like(g: Any, node: OnnxNode, x: Item, like: Item) -> Value:
    return _as(g.value(x), like.type.dtype)


def _as(value: Value, kind: Any) -> Value:
    return value if value.type.dtype is kind else ops.cast(value, dtype=kind)


@loads("Reciprocal")
def reciprocal(g: Any, node: OnnxNode, x: Item) -> Value:
    return 1.0 / g.value(x)


@loads("Sign")
def sign(g: Any, node: OnnxNode, x: Item) -> Value:
    return ops.sign(g.value(x))


@loads("Sum", "Max", "Min", "Mean")
def variadic(g: Any, node: OnnxNode, *xs: Item) -> Value:
    """The sum, extreme or mean of any number of operands."""
    op = {"Sum": ops.add, "Mean": ops.add, "Max": ops.max_, "Min": ops.min_}[node.type]
    first, *rest = g.broadcast(*xs)
    for value in rest:
        first = op(first, value)
    return first / len(xs) if node.type == "Mean" else first


@loads("Greater", "GreaterOrEqual")
def greater(g: Any, node: OnnxNode, x: Item, y: Item) -> Value:
    a, b = g.broadcast(x, y)
    return (ops.lt if node.type == "Greater" else ops.le)(b, a)


@loads("Not", "BitwiseNot")
def not_(g: Any, node: OnnxNode, x: Item) -> Value:
    return ops.not_(g.value(x))


@loads("And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor")
def logical(g: Any, node: OnnxNode, x: Item, y: Item) -> Value:
    name = node.type.removeprefix("Bitwise")
    return {"And": ops.and_, "Or": ops.or_, "Xor": ops.xor}[name](*g.broadcast(x, y))


@loads("BitShift")
def shift(g: Any, node: OnnxNode, x: Item, y: Item) -> Value:
    op = ops.shl if node.text("direction") == "LEFT" else ops.shr
    return op(*g.broadcast(x, y))


@loads("Pow")
def power(g: Any, node: OnnxNode, x: Item, y: Item) -> Value:
    """The base decides the element type of the result; a float exponent computes in floats.

    Squares and cubes are products, as in torch and onnxruntime: a power costs 30 times as much.
    """
    if x.type.dtype.kind == "f" and y.array is not None and y.array.size == 1 and y.rank <= x.rank:
        value, exponent = g.value(x), y.array.item()
        if exponent == 2:
            return ops.mul(value, value)
        if exponent == 3:
            return ops.mul(ops.mul(value, value), value)
    a, b = g.broadcast(x, y)
    kind = a.type.dtype
    if kind.kind != "f" and b.type.dtype.kind == "f":
        return ops.cast(ops.pow_(ops.cast(a, dtype=b.type.dtype), b), dtype=kind)
    return ops.pow_(a, _as(b, kind))


@loads("Mod")
def modulo(g: Any, node: OnnxNode, x: Item, y: Item) -> Value:
    """fmod=1: the remainder has the sign of x; else that of y, as in Python."""
    a, b = g.broadcast(x, y)
    rest = ops.rem(a, b)
    if node.int("fmod", 0):
        return rest
    zero = ops.full_like(0, rest)
    wrong = ops.xor(ops.lt(rest, zero), ops.lt(b, zero))
    return ops.select(ops.and_(wrong, ops.not_(ops.eq(rest, zero))), ops.add(rest, b), rest)


@loads("Clip")
def clip(g: Any, node: OnnxNode, x: Item, low: Any = None, high: Any = None) -> Value:
    value = g.value(x)
    for bound, name, op in ((low, "min", ops.max_), (high, "max", ops.min_)):
        if node.opset < 11:
            number = node.float(name, None)
            if number is not None:
                value = op(value, ops.full_like(number, value))
        elif bound is not None:
            value = op(value, g.broadcast_to(bound, x.shape))
    return value


@loads("IsInf")
def is_inf(g: Any, node: OnnxNode, x: Item) -> Value:
    value = g.value(x)
    signs = [
        number
        for name, number in (("detect_positive", math.inf), ("detect_negative", -math.inf))
        if node.int(name, 1)
    ]
    found = [ops.eq(value, ops.full_like(number, value)) for number in signs]
    if not found:
        return ops.full(False, BOOL, x.shape)
    return found[0] if len(found) == 1 else ops.or_(*found)


@loads("LeakyRelu", "PRelu", "ThresholdedRelu")
def rectified(g: Any, node: OnnxNode, x: Item, slope: Any = None) -> Value:
    value = g.value(x)
    zero = ops.full_like(0, value)
    if node.type == "ThresholdedRelu":
        alpha = ops.full_like(node.float("alpha", 1.0), value)
        return ops.select(ops.lt(alpha, value), value, zero)
    if node.type == "PRelu" and node.opset < 7 and slope.shape != (1,):  # one for each channel
        others = tuple([i for i in range(x.rank) if i != 1])
        scale = ops.expand(g.value(slope), shape=x.shape, axes=others)
    elif node.type == "PRelu":
        scale = g.broadcast_to(slope, x.shape)
    else:
        scale = ops.full_like(node.float("alpha", 0.01), value)
    return ops.select(ops.lt(value, zero), ops.mul(scale, value), value)


@loads("Elu", "Selu", "Celu")
def exponential_unit(g: Any, node: OnnxNode, x: Item) -> Value:
    """gamma * x above 0, gamma * alpha * (exp(x) - 1) below; Celu divides its x by alpha."""
    value = g.value(x)
    alpha = node.float("alpha", 1.6732632423543772 if node.type == "Selu" else 1.0)
    gamma = node.float("gamma", 1.0507009873554805) if node.type == "Selu" else 1.0
    zero = ops.full_like(0.0, value)
    inner = ops.min_(value, zero)
    if node.type == "Celu":
        inner = inner / alpha
    below = ops.mul(ops.full_like(alpha, value), ops.expm1(inner))
    made = ops.select(ops.lt(value, zero), below, value)
    return made if gamma == 1.0 else ops.mul(made, ops.full_like(gamma, made))


@loads("HardSigmoid", "HardSwish")
def hard_sigmoid(g: Any, node: OnnxNode, x: Item) -> Value:
    value = g.value(x)
    swish = node.type == "HardSwish"
    alpha = 1 / 6 if swish else node.float("alpha", 0.2)
    beta = 0.5 if swish else node.float("beta", 0.5)
    line = value * alpha + beta
    gate = ops.max_(ops.full_like(0.0, value), ops.min_(ops.full_like(1.0, value), line))
    return ops.mul(value, gate) if swish else gate


@loads("Softplus")
def softplus(g: Any, node: OnnxNode, x: Item) -> Value:
    """log(1 + exp(x)), without overflow."""
    value = g.value(x)
    tail = ops.log1p(ops.exp(ops.neg(ops.abs_(value))))
    return ops.add(ops.max_(value, ops.full_like(0.0, value)), tail)


@loads("Softsign")
def softsign(g: Any, node: OnnxNode, x: Item) -> Value:
    value = g.value(x)
    return ops.div(value, ops.abs_(value) + 1.0)


@loads("Gelu")
def gelu(g: Any, node: OnnxNode, x: Item) -> Value:
    return composite.gelu(g.value(x), approximate=node.text("approximate", "none"))
