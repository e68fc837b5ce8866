"""Rules of convolutions: examples become rows of the batch, or groups of channels."""

from __future__ import annotations

from typing import Any

from graphc.ir import ops
from graphc.ir.dims import AnyDim
from graphc.ir.graph import Value

from .walk import RULES, Made, each_example, emit, widen_all


def conv(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    """conv(x, w) and conv_grad_input(ct, w): where only the images are mapped, they are more
    images; where the weights are, each example is a group of channels."""
    if not which[1]:
        images = inputs[0]
        n = images.type.shape[1]
        flat = ops.reshape(images, shape=(count * n, *images.type.shape[2:]))
        (made,) = emit(node, [flat, inputs[1]])
        return [ops.reshape(made, shape=(count, n, *made.type.shape[1:]))], [True]
    if not isinstance(count, int):
        return each_example(node, inputs, which, count)
    images, weights = widen_all(inputs, which, count)
    groups = node.attrs["groups"] * count
    (made,) = emit(node, [_channels(images), _rows(weights)], groups=groups)
    return [_examples(made, count)], [True]


def conv_grad_weight(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    if not isinstance(count, int):
        return each_example(node, inputs, which, count)
    ct, x = widen_all(inputs, which, count)
    groups = node.attrs["groups"] * count
    (made,) = emit(node, [_channels(ct), _channels(x)], groups=groups)
    rows, *rest = made.type.shape
    return [ops.reshape(made, shape=(count, rows // count, *rest))], [True]


def _channels(x: Value) -> Value:
    """[count, n, c, *spatial] as [n, count * c, *spatial]."""
    count, n, c, *spatial = x.type.shape
    order = (1, 0, 2, *range(3, 3 + len(spatial)))
    return ops.reshape(ops.permute(x, perm=order), shape=(n, count * c, *spatial))


def _rows(w: Value) -> Value:
    """[count, o, ...] as [count * o, ...]."""
    count, o, *rest = w.type.shape
    return ops.reshape(w, shape=(count * o, *rest))


def _examples(x: Value, count: int) -> Value:
    """[n, count * c, *spatial] as [count, n, c, *spatial]."""
    n, channels, *spatial = x.type.shape
    apart = ops.reshape(x, shape=(n, count, channels // count, *spatial))
    return ops.permute(apart, perm=(1, 0, 2, *range(3, 3 + len(spatial))))


RULES[ops.conv] = RULES[ops.conv_grad_input] = conv
RULES[ops.conv_grad_weight] = conv_grad_weight
