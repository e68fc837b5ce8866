"""Complex values as pairs of real ones, so that no backend has to know complex numbers.

A parameter or result of complex type is the same memory seen as real numbers with a last axis of
two. Inside, each complex value is its real and its imaginary part; ops that move or select
elements do so with both, arithmetic is written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir.build import Builder
from graphc.ir.data import Data
from graphc.ir.dtype import BOOL, DType
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import OPS, constant_like
from graphc.ir.types import TensorType

Pair = tuple[Any, Any]  # two values: their operators are those of the ops
Operand = Any  # a Value or a Pair
Rule = Callable[..., Operand]
RULES: dict[str, Rule] = {}


def splits(*names: str) -> Callable[[Rule], Rule]:
    """Declares how ops work on pairs: the rule takes the operands, and attributes by name."""

    def declare(rule: Rule) -> Rule:
        for name in names:
            RULES[name] = rule
        return rule

    return declare


def is_complex(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype.kind == "c"


def split_complex(graph: Graph) -> Graph:
    """The graph on real values only. Blocks of control flow are left as they are."""
    values = [v for node in graph.nodes for v in (*node.inputs, *node.outputs)]
    if not any([is_complex(v) for v in (*graph.params, *graph.results, *values)]):
        return graph
    params = [_real_param(p) if is_complex(p) else p for p in graph.params]
    with Builder(params) as builder:
        new: dict[Value, Operand] = {
            old: _parts(param) if is_complex(old) else param
            for old, param in zip(graph.params, params)
        }
        for node in graph.nodes:
            builder.loc = node.loc
            inputs = [new[value] for value in node.inputs]
            if any([is_complex(v) for v in (*node.inputs, *node.outputs)]):
                new[node.outputs[0]] = _split(node, inputs)
            else:
                plain = tuple([x for x in inputs if isinstance(x, Value)])
                made = builder.emit(node.op, plain, node.attrs, node.blocks, node)
                new.update(zip(node.outputs, made))
        return builder.graph([_joined(new[value]) for value in graph.results])


def _real_param(param: Value) -> Value:
    type = param.type
    return Value(TensorType(type.dtype.to_real(), (*type.shape, 2), type.device), name=param.name)


def _parts(param: Value) -> Pair:
    """The two parts of memory in which they alternate."""
    shape = param.type.shape[:-1]
    ones, zeros = (1,) * (len(shape) + 1), (0,) * len(shape)
    found = []
    for k in (0, 1):
        start, stop = (*zeros, k), (*shape, k + 1)
        part = OPS["slice"](param, start=start, stop=stop, step=ones)
        found.append(OPS["reshape"](part, shape=shape))
    return found[0], found[1]


def _joined(value: Operand) -> Value:
    if isinstance(value, Value):
        return value
    shape = value[0].type.shape
    parts = [OPS["reshape"](part, shape=(*shape, 1)) for part in value]
    return OPS["concat"](*parts, axis=len(shape))


def _split(node: Node, inputs: list[Operand]) -> Operand:
    rule = RULES.get(node.op.name)
    if rule is None:
        raise UnsupportedError(f"{node.op.name} of complex numbers has no code", at=node.loc)
    attrs = dict(node.attrs)
    if node.op.name in ("full", "const", "cast"):
        return rule(*inputs, type=node.outputs[0].type, **attrs)
    return rule(*inputs, name=node.op.name, **attrs)


def _both(name: str, x: Pair, *rest: Any, **attrs: Any) -> Pair:
    return OPS[name](x[0], *rest, **attrs), OPS[name](x[1], *rest, **attrs)


# --- movement and constants ----------------------------------------------------------------------


@splits(
    "reshape", "permute", "expand", "slice", "flip", "window", "detach", "gather", "dynamic_slice",
    "reduce_sum", "neg", "copy_to",
)  # fmt: skip
def _same_with_each(x: Pair, *rest: Value, name: str, **attrs: Any) -> Pair:
    return _both(name, x, *rest, **attrs)


@splits("add", "sub")
def _part_by_part(x: Pair, y: Pair, name: str) -> Pair:
    return OPS[name](x[0], y[0]), OPS[name](x[1], y[1])


@splits("concat")
def _concat(*xs: Pair, name: str, axis: int) -> Pair:
    real, imaginary = zip(*xs)
    return OPS[name](*real, axis=axis), OPS[name](*imaginary, axis=axis)


@splits("pad")
def _pad(x: Pair, name: str, low: tuple, high: tuple, value: complex) -> Pair:
    number = complex(value)
    return (
        OPS[name](x[0], low=low, high=high, value=number.real),
        OPS[name](x[1], low=low, high=high, value=number.imag),
    )


@splits("scatter")
def _scatter(x: Pair, index: Value, updates: Pair, name: str, axis: int, mode: str) -> Pair:
    if mode not in ("add", "set"):
        raise UnsupportedError(f"scatter by {mode} of complex numbers has no code")
    return (
        OPS[name](x[0], index, updates[0], axis=axis, mode=mode),
        OPS[name](x[1], index, updates[1], axis=axis, mode=mode),
    )


@splits("dynamic_update")
def _dynamic_update(x: Pair, update: Pair, *starts: Value, name: str) -> Pair:
    return OPS[name](x[0], update[0], *starts), OPS[name](x[1], update[1], *starts)


@splits("select")
def _select(condition: Value, x: Pair, y: Pair, name: str) -> Pair:
    return OPS[name](condition, x[0], y[0]), OPS[name](condition, x[1], y[1])


@splits("full")
def _full(type: TensorType, value: complex, dtype: DType, shape: tuple, device: str) -> Pair:
    number, real = complex(value), type.dtype.to_real()
    made = [
        OPS["full"](value=part, dtype=real, shape=shape, device=device)
        for part in (number.real, number.imag)
    ]
    return made[0], made[1]


@splits("const")
def _const(type: TensorType, data: Data, device: str) -> Pair:
    parts = [np.ascontiguousarray(part) for part in (data.array.real, data.array.imag)]
    made = [OPS["const"](data=Data(part), device=device) for part in parts]
    return made[0], made[1]


@splits("cast")
def _cast(x: Operand, type: TensorType, dtype: DType) -> Operand:
    target = type.dtype
    if isinstance(x, Value):
        real = OPS["cast"](x, dtype=target.to_real())
        return real, constant_like(0.0, real)
    if target.kind == "c":
        return _both("cast", x, dtype=target.to_real())
    if target is BOOL:
        return OPS["or"](*_both("cast", x, dtype=BOOL))
    return OPS["cast"](x[0], dtype=target)


@splits("real")
def _real(x: Pair, name: str) -> Value:
    return x[0]


@splits("imag")
def _imag(x: Pair, name: str) -> Value:
    return x[1]


@splits("complex")
def _complex(x: Value, y: Value, name: str) -> Pair:
    return x, y


@splits("eq")
def _eq(x: Pair, y: Pair, name: str) -> Value:
    return OPS["and"](OPS["eq"](x[0], y[0]), OPS["eq"](x[1], y[1]))


# --- arithmetic ----------------------------------------------------------------------------------


@splits("mul")
def _mul(x: Pair, y: Pair, name: str = "mul") -> Pair:
    (a, b), (c, d) = x, y
    return a * c - b * d, a * d + b * c


@splits("div")
def _div(x: Pair, y: Pair, name: str = "div") -> Pair:
    """Scaled by the larger part of the divisor, so that its square does not overflow."""
    (a, b), (c, d) = x, y
    wide = OPS["le"](OPS["abs"](d), OPS["abs"](c))
    large, small = OPS["select"](wide, c, d), OPS["select"](wide, d, c)
    ratio = small / large
    scale = large + small * ratio
    real = OPS["select"](wide, a + b * ratio, a * ratio + b) / scale
    imaginary = OPS["select"](wide, b - a * ratio, b * ratio - a) / scale
    return real, imaginary


@splits("dot")
def _dot(x: Pair, y: Pair, name: str, **attrs: Any) -> Pair:
    def product(a: Value, b: Value) -> Any:
        return OPS["dot"](a, b, **attrs)

    (a, b), (c, d) = x, y
    return product(a, c) - product(b, d), product(a, d) + product(b, c)


@splits("cumulative")
def _cumulative(x: Pair, name: str, axis: int, mode: str, reverse: bool) -> Pair:
    if mode != "sum":
        raise UnsupportedError(f"a running {mode} of complex numbers has no code")
    return _both(name, x, axis=axis, mode=mode, reverse=reverse)


def _length(x: Pair) -> Value:
    """|x|, scaled by the larger part."""
    a, b = OPS["abs"](x[0]), OPS["abs"](x[1])
    large, small = OPS["max"](a, b), OPS["min"](a, b)
    zero, one = constant_like(0.0, a), constant_like(1.0, a)
    empty = OPS["eq"](large, zero)
    ratio = small / OPS["select"](empty, one, large)
    return OPS["select"](empty, zero, large * OPS["sqrt"](ratio * ratio + one))


@splits("sqrt")
def _sqrt(x: Pair, name: str) -> Pair:
    """The root with a real part of 0 or more."""
    a, b = x
    zero = constant_like(0.0, a)
    half = OPS["sqrt"]((_length(x) + OPS["abs"](a)) * constant_like(0.5, a))
    none = OPS["eq"](half, zero)
    other = b / OPS["select"](none, constant_like(1.0, a), half + half)
    right = OPS["le"](zero, a)
    below = OPS["lt"](b, zero)
    real = OPS["select"](right, half, OPS["abs"](other))
    signed = OPS["select"](below, -half, half)
    return real, OPS["select"](right, other, signed)


@splits("exp")
def _exp(x: Pair, name: str) -> Pair:
    size = OPS["exp"](x[0])
    return size * OPS["cos"](x[1]), size * OPS["sin"](x[1])


@splits("log")
def _log(x: Pair, name: str) -> Pair:
    return OPS["log"](_length(x)), OPS["atan2"](x[1], x[0])


@splits("sin")
def _sin(x: Pair, name: str) -> Pair:
    a, b = x
    return OPS["sin"](a) * OPS["cosh"](b), OPS["cos"](a) * OPS["sinh"](b)


@splits("cos")
def _cos(x: Pair, name: str) -> Pair:
    a, b = x
    return OPS["cos"](a) * OPS["cosh"](b), -(OPS["sin"](a) * OPS["sinh"](b))


@splits("tanh")
def _tanh(x: Pair, name: str) -> Pair:
    """tanh(a + ib) = (tanh a (1 + tan² b) + i tan b (1 - tanh² a)) / (1 + tanh² a tan² b)."""
    t, s = OPS["tanh"](x[0]), OPS["tan"](x[1])
    one = constant_like(1.0, t)
    below = one + t * t * s * s
    return t * (one + s * s) / below, s * (one - t * t) / below
