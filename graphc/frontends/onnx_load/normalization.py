"""Loading of normalizations."""

from __future__ import annotations

from typing import Any

from graphc.ir import composite, ops
from graphc.ir.errors import FormatError, UnsupportedError
from graphc.ir.graph import Value

from .item import Item
from .movement import axis_of
from .node import OnnxNode
from .pooling import mean
from .registry import loads


@loads("BatchNormalization")
def batch_normalization(
    g: Any, node: OnnxNode, x: Item, scale: Item, bias: Item, running_mean: Item, var: Item
) -> Value:
    """As in inference: by the stored mean and variance."""
    if node.int("training_mode", 0) or len([o for o in node.outputs if o]) > 1:
        raise UnsupportedError("BatchNormalization in training mode is not supported")
    operands = [g.value(i) for i in (x, running_mean, var, scale, bias)]
    dtype = x.type.dtype
    same = [v if v.type.dtype is dtype else ops.cast(v, dtype=dtype) for v in operands]
    return composite.batch_norm(*same, eps=node.float("epsilon", 1e-5))


@loads("LayerNormalization")
def layer_normalization(
    g: Any, node: OnnxNode, x: Item, scale: Item, bias: Item | None = None
) -> Any:
    """Over the axes from `axis` on; the mean and 1 / deviation are results too."""
    axis = axis_of(node.int("axis", -1), x.rank)
    value, inner = g.value(x), x.shape[axis:]
    weight = g.broadcast_to(scale, inner)
    shift = ops.full_like(0.0, weight) if bias is None else g.broadcast_to(bias, inner)
    eps = node.float("epsilon", 1e-5)
    made = composite.layer_norm(value, weight, shift, eps=eps)
    if len([o for o in node.outputs if o]) <= 1:
        return made
    axes = tuple(range(axis, x.rank))
    centre, deviation = _moments(value, axes, eps)
    kept = (*x.shape[:axis], *[1] * len(axes))
    return made, ops.reshape(centre, shape=kept), ops.reshape(deviation, shape=kept)


def _moments(value: Value, axes: tuple[int, ...], eps: float) -> tuple[Value, Value]:
    """The mean and 1 / sqrt(variance + eps)."""
    centre = mean(value, axes)
    delta = ops.sub(value, ops.expand(centre, shape=value.type.shape, axes=axes))
    variance = mean(ops.mul(delta, delta), axes)
    return centre, ops.rsqrt(ops.add(variance, ops.full_like(eps, variance)))


def _normalized(value: Value, axes: tuple[int, ...], eps: float) -> Value:
    centre, scale = _moments(value, axes, eps)
    shape = value.type.shape
    delta = ops.sub(value, ops.expand(centre, shape=shape, axes=axes))
    return ops.mul(delta, ops.expand(scale, shape=shape, axes=axes))


def _by_channel(g: Any, value: Value, scale: Item, bias: Item) -> Value:
    shape = value.type.shape
    others = tuple([i for i in range(len(shape)) if i != 1])
    scaled = ops.mul(value, ops.expand(g.value(scale), shape=shape, axes=others))
    return ops.add(scaled, ops.expand(g.value(bias), shape=shape, axes=others))


@loads("InstanceNormalization")
def instance_normalization(g: Any, node: OnnxNode, x: Item, scale: Item, bias: Item) -> Value:
    axes = tuple(range(2, x.rank))
    normal = _normalized(g.value(x), axes, node.float("epsilon", 1e-5))
    return _by_channel(g, normal, scale, bias)


@loads("GroupNormalization")
def group_normalization(g: Any, node: OnnxNode, x: Item, scale: Item, bias: Item) -> Value:
    """Opset 18 scales by group, later ones by channel."""
    groups, channels = node.int("num_groups"), x.shape[1]
    if not isinstance(channels, int) or groups < 1 or channels % groups:
        raise FormatError(f"{groups} groups of {channels} channels")
    wide = (x.shape[0], groups, channels // groups, *x.shape[2:])
    grouped = ops.reshape(g.value(x), shape=wide)
    normal = _normalized(grouped, tuple(range(2, len(wide))), node.float("epsilon", 1e-5))
    if scale.shape == (groups,) and groups != channels:
        return ops.reshape(_by_channel(g, normal, scale, bias), shape=x.shape)
    return _by_channel(g, ops.reshape(normal, shape=x.shape), scale, bias)


@loads("LpNormalization")
def lp_normalization(g: Any, node: OnnxNode, x: Item) -> Value:
    axis = axis_of(node.int("axis", -1), x.rank)
    value = g.value(x)
    if node.int("p", 2) == 1:
        norm = ops.reduce_sum(ops.abs_(value), axes=(axis,))
    else:
        norm = ops.sqrt(ops.reduce_sum(ops.mul(value, value), axes=(axis,)))
    safe = ops.select(ops.eq(norm, ops.full_like(0.0, norm)), ops.full_like(1.0, norm), norm)
    return ops.div(value, ops.expand(safe, shape=x.shape, axes=(axis,)))


@loads("LRN")
def local_response(g: Any, node: OnnxNode, x: Item) -> Value:
    """x / (bias + alpha / size * sum of squares over `size` channels around) ** beta."""
    size = node.int("size")
    value = g.value(x)
    if not 1 <= size <= 1 << 16:
        raise FormatError(f"{size} channels")
    low = tuple([(size - 1) // 2 if i == 1 else 0 for i in range(x.rank)])
    high = tuple([size // 2 if i == 1 else 0 for i in range(x.rank)])
    last = (0, *range(2, x.rank), 1)
    squares = ops.permute(ops.pad(ops.mul(value, value), low=low, high=high, value=0), perm=last)
    around = ops.window(squares, sizes=(size,), strides=(1,), dilations=(1,))
    total = ops.reduce_sum(around, axes=(x.rank,))
    total = ops.permute(total, perm=(0, x.rank - 1, *range(1, x.rank - 1)))
    base = total * (node.float("alpha", 1e-4) / size) + node.float("bias", 1.0)
    return ops.div(value, ops.pow_(base, ops.full_like(node.float("beta", 0.75), base)))
