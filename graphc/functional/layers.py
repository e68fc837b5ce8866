"""The functions of layers: linear, convolution, pooling, norms."""

from __future__ import annotations

import math
from typing import Any

from ..frontends import modes
from ..frontends.function import function
from ..ir import composite, ops
from ..ir.errors import ShapeError
from ..ir.graph import Value
from .linalg import matmul_of
from .promote import operands


@function(register=False)
def linear(input, weight, bias=None):
    """input @ weight.T + bias."""
    x, w = input, weight
    rank, k = len(x.type.shape), w.type.shape[-1]
    if not rank or x.type.shape[-1] != k:
        have = x.type.shape[-1] if rank else "no"
        raise ShapeError(
            f"cannot contract {x.type.text} with {w.type.text}: {have} and {k} differ",
            hint=f"The input has {have} features, the layer takes {k}.",
        )
    if len(w.type.shape) == 1:
        made = matmul_of(x, w)
    else:
        made = ops.dot(x, w, contract=((rank - 1,), (1,)))
    return made if bias is None else ops.add(*operands(made, bias))


@function(register=False)
def bilinear(input1, input2, weight, bias=None):
    """x1 @ weight[o] @ x2 for each output o."""
    r1, r2 = len(input1.type.shape), len(input2.type.shape)
    left = ops.dot(input1, weight, contract=((r1 - 1,), (1,)))  # [..., o, in2]
    lead = tuple(range(r1 - 1))
    made = ops.dot(left, input2, contract=((r1,), (r2 - 1,)), batch=(lead, lead))
    return made if bias is None else ops.add(*operands(made, bias))


# --- convolution -------------------------------------------------------------------------------


def each(value: Any, k: int) -> tuple[int, ...]:
    """One number for each of k axes."""
    if isinstance(value, (tuple, list)):
        found = tuple([int(v) for v in value])
        return found * k if len(found) == 1 else found
    return (int(value),) * k


def _paddings(padding: Any, kernel: Any, dilation: tuple, stride: tuple, k: int) -> tuple:
    if padding == "valid":
        return ((0, 0),) * k
    if padding == "same":
        if any([s != 1 for s in stride]):
            raise RuntimeError("padding='same' is not supported for strided convolutions")
        spans = [(n - 1) * d for n, d in zip(kernel, dilation, strict=True)]
        return tuple([(s // 2, s - s // 2) for s in spans])
    return tuple([(p, p) for p in each(padding, k)])


def _with_bias(made: Value, bias: Value | None) -> Value:
    if bias is None:
        return made
    rank = len(made.type.shape)
    wide = ops.expand(bias, shape=made.type.shape, axes=tuple([i for i in range(rank) if i != 1]))
    return ops.add(made, wide)


def _batched(input: Value, k: int) -> tuple[Value, bool]:
    rank = len(input.type.shape)
    if rank == k + 1:
        return ops.reshape(input, shape=(1, *input.type.shape)), True
    if rank != k + 2:
        raise ShapeError(
            f"Expected {k + 1}D (unbatched) or {k + 2}D (batched) input to conv{k}d, "
            f"but got input of size: {list(input.type.shape)}"
        )
    return input, False


def _convolution(input, weight, bias, stride, padding, dilation, groups, k):
    x, alone = _batched(input, k)
    stride, dilation = each(stride, k), each(dilation, k)
    pads = _paddings(padding, weight.type.shape[2:], dilation, stride, k)
    made = ops.conv(x, weight, stride=stride, padding=pads, dilation=dilation, groups=groups)
    made = _with_bias(made, bias)
    return ops.reshape(made, shape=made.type.shape[1:]) if alone else made


@function(register=False)
def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation over sequences: input[n, c, l], weight[o, c / groups, k]."""
    return _convolution(input, weight, bias, stride, padding, dilation, groups, 1)


@function(register=False)
def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation over images: input[n, c, h, w], weight[o, c / groups, kh, kw]."""
    return _convolution(input, weight, bias, stride, padding, dilation, groups, 2)


@function(register=False)
def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation over volumes."""
    return _convolution(input, weight, bias, stride, padding, dilation, groups, 3)


@function
def conv_tbc(input, weight, bias, pad=0):
    """Convolution over the first axis: input[l, n, c], weight[k, c, o]."""
    x, w = ops.permute(input, perm=(1, 2, 0)), ops.permute(weight, perm=(2, 1, 0))
    return ops.permute(_convolution(x, w, bias, 1, pad, 1, 1, 1), perm=(2, 0, 1))


def _transposed(input, weight, bias, stride, padding, output_padding, groups, dilation, k):
    x, alone = _batched(input, k)
    stride, dilation = each(stride, k), each(dilation, k)
    padding, extra = each(padding, k), each(output_padding, k)
    size = tuple(
        [
            (n - 1) * s - 2 * p + d * (m - 1) + e + 1
            for n, s, p, d, m, e in zip(
                x.type.shape[2:], stride, padding, dilation, weight.type.shape[2:], extra,
                strict=True,
            )
        ]
    )  # fmt: skip
    made = ops.conv_grad_input(
        x, weight, size=size, stride=stride, padding=tuple([(p, p) for p in padding]),
        dilation=dilation, groups=groups,
    )  # fmt: skip
    made = _with_bias(made, bias)
    return ops.reshape(made, shape=made.type.shape[1:]) if alone else made


@function(register=False)
def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1,
                     dilation=1):  # fmt: skip
    """The transpose of conv1d: weight[c, o / groups, k]."""
    return _transposed(input, weight, bias, stride, padding, output_padding, groups, dilation, 1)


@function(register=False)
def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1,
                     dilation=1):  # fmt: skip
    """The transpose of conv2d: weight[c, o / groups, kh, kw]."""
    return _transposed(input, weight, bias, stride, padding, output_padding, groups, dilation, 2)


@function(register=False)
def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1,
                     dilation=1):  # fmt: skip
    """The transpose of conv3d."""
    return _transposed(input, weight, bias, stride, padding, output_padding, groups, dilation, 3)


# --- norms -------------------------------------------------------------------------------------


@function(register=False)
def _layer_norm(input, weight, bias, shape, eps):
    k = len(shape)
    if tuple(input.type.shape[len(input.type.shape) - k :]) != tuple(shape):
        raise ShapeError(
            f"Given normalized_shape={list(shape)}, expected input with shape [*, "
            f"{', '.join(map(str, shape))}], but got input of size{list(input.type.shape)}"
        )
    like = input.type
    w = ops.full(1.0, like.dtype, shape, like.device) if weight is None else weight
    b = ops.full(0.0, like.dtype, shape, like.device) if bias is None else bias
    return composite.layer_norm(input, w, b, eps=eps)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-05):
    """Normalises the last axes, then scales and shifts."""
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    return _layer_norm(input, weight, bias, shape, float(eps))


@function(register=False, floats=False)
def _rms_norm(input, weight, k, eps):
    rank = len(input.type.shape)
    axes = tuple(range(rank - k, rank))
    total = ops.reduce_sum(ops.mul(input, input), axes=axes)
    mean = ops.div(total, composite.normalize.count(input, axes))
    scale = ops.rsqrt(ops.add(mean, ops.full_like(eps, mean)))
    made = ops.mul(input, ops.expand(scale, shape=input.type.shape, axes=axes))
    if weight is None:
        return made
    return ops.mul(made, ops.broadcast_to(weight, made.type.shape))


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """Divides by the root of the mean square of the last axes."""
    from .._public import finfo

    k = 1 if isinstance(normalized_shape, int) else len(normalized_shape)
    return _rms_norm(input, weight, k, finfo(input.dtype).eps if eps is None else float(eps))


@function(register=False)
def _normalize(input, weight, bias, axes, channel, eps):
    """(x - mean) / sqrt(var + eps) over axes; also the statistics, for running averages."""
    mean, var, delta = composite.moments(input, axes)
    scale = ops.rsqrt(ops.add(var, ops.full_like(eps, var)))
    made = ops.mul(delta, ops.expand(scale, shape=input.type.shape, axes=axes))
    return _scaled(made, weight, bias, channel), mean, var


def _scaled(x: Value, weight: Value | None, bias: Value | None, channel: int) -> Value:
    axes = tuple([i for i in range(len(x.type.shape)) if i != channel])
    if weight is not None:
        x = ops.mul(x, ops.expand(weight, shape=x.type.shape, axes=axes))
    if bias is not None:
        x = ops.add(x, ops.expand(bias, shape=x.type.shape, axes=axes))
    return x


@function(register=False)
def _batch_norm_inference(input, mean, var, weight, bias, eps):
    like = mean
    w = ops.full_like(1.0, like) if weight is None else weight
    b = ops.full_like(0.0, like) if bias is None else bias
    return composite.batch_norm(input, mean, var, w, b, eps=eps)


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False,
               momentum=0.1, eps=1e-05):  # fmt: skip
    """Normalises each channel over batch and space; in training the running averages move."""
    if not training:
        return _batch_norm_inference(input, running_mean, running_var, weight, bias, float(eps))
    count = input.numel() // max(input.shape[1], 1)
    if count <= 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}"
        )
    axes = tuple([i for i in range(len(input.shape)) if i != 1])
    made, mean, var = _normalize(input, weight, bias, axes, 1, float(eps))
    if running_mean is not None:
        before = modes.set_grad(False)
        try:
            unbiased = var.detach() * (count / (count - 1))
            running_mean._write(_moved(running_mean, mean.detach(), momentum))
            running_var._write(_moved(running_var, unbiased, momentum))
        finally:
            modes.set_grad(before)
    return made


@function(register=False)
def _moved(running, new, momentum):
    """(1 - momentum) * running + momentum * new."""
    m = operands(running, momentum, dtype=running.type.dtype)[1]
    keep = ops.sub(ops.full_like(1.0, m), m)
    return ops.add(ops.mul(running, keep), ops.mul(ops.cast(new, dtype=running.type.dtype), m))


@function(register=False)
def _group_norm(input, groups, weight, bias, eps):
    n, c, *rest = input.type.shape
    if isinstance(c, int) and c % groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input "
            f"of shape {list(input.type.shape)} and num_groups={groups}"
        )
    x = ops.reshape(input, shape=(n, groups, c // groups, *rest))
    axes = tuple(range(2, len(x.type.shape)))
    _, var, delta = composite.moments(x, axes)
    scale = ops.rsqrt(ops.add(var, ops.full_like(eps, var)))
    made = ops.mul(delta, ops.expand(scale, shape=x.type.shape, axes=axes))
    return _scaled(ops.reshape(made, shape=input.type.shape), weight, bias, 1)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-05):
    """Normalises groups of channels of each example."""
    return _group_norm(input, num_groups, weight, bias, float(eps))


def instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None,
                  use_input_stats=True, momentum=0.1, eps=1e-05):  # fmt: skip
    """Normalises each channel of each example."""
    if not use_input_stats:
        return _batch_norm_inference(input, running_mean, running_var, weight, bias, float(eps))
    axes = tuple(range(2, len(input.shape)))
    made, mean, var = _normalize(input, weight, bias, axes, 1, float(eps))
    if running_mean is not None:
        count = math.prod(input.shape[2:])
        before = modes.set_grad(False)
        try:
            running_mean._write(_moved(running_mean, mean.detach().mean(0), momentum))
            spread = var.detach().mean(0) * (count / (count - 1))
            running_var._write(_moved(running_var, spread, momentum))
        finally:
            modes.set_grad(before)
    return made


def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """Divides by the norm along dim."""
    size = input.norm(p, dim, keepdim=True).clamp(min=eps)
    made = input / size.expand(input.shape)
    return made if out is None else out._write_out(made)


def local_response_norm(input, size, alpha=0.0001, beta=0.75, k=1.0):
    """Divides by a power of the sum of squares over neighbouring channels."""
    from .pooling import avg_pool2d

    n, c, *rest = input.shape
    squares = (input * input).reshape(n, 1, c, -1)
    from .padding import pad

    padded = pad(squares, (0, 0, size // 2, (size - 1) // 2))
    mean = avg_pool2d(padded, (size, 1), stride=1).reshape(n, c, *rest)
    return input / (mean * alpha + k).pow(beta)
