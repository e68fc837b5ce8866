"""Losses."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..frontends.function import function
from ..ir import composite, ops
from ..ir.dtype import I64
from ..ir.errors import ShapeError
from ..ir.graph import Value
from .pointwise import where
from .promote import operands
from .reduce import count_of


def _reduction(size_average: Any, reduce: Any, reduction: str) -> str:
    """torch's old arguments, still accepted."""
    if size_average is not None or reduce is not None:
        average = True if size_average is None else size_average
        reduce = True if reduce is None else reduce
        return ("mean" if average else "sum") if reduce else "none"
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def _reduced(x: Value, reduction: str) -> Value:
    if reduction == "none":
        return x
    axes = tuple(range(len(x.type.shape)))
    total = ops.reduce_sum(x, axes=axes)
    if reduction == "sum":
        return total
    n = count_of(x, axes)
    if isinstance(n, int):
        return ops.div(total, ops.full_like(n, total))
    size = ops.cast(ops.dim_value(n, total.type.shape), dtype=total.type.dtype)
    return ops.div(total, size)


def _mean_of_tensor(x: Any, reduction: str) -> Any:
    return {"none": lambda: x, "mean": x.mean, "sum": x.sum}[reduction]()


# --- classification ----------------------------------------------------------------------------


def _nll(logp: Value, target: Value, weight: Value | None, ignore_index: int, reduction: str):
    axis = 1 if len(logp.type.shape) > 1 else 0
    if logp.type.shape[:axis] + logp.type.shape[axis + 1 :] != target.type.shape:
        raise ShapeError(
            f"nll_loss of {logp.type.text} with targets {target.type.text}: the target must have "
            "the shape of the input without its class dimension",
            hint="A target of class numbers has shape [N], the input [N, C].",
        )
    t = ops.cast(target, dtype=I64)
    skipped = ops.eq(t, ops.full_like(ignore_index, t))
    safe = ops.select(skipped, ops.full_like(0, t), t)
    picked = ops.neg(composite.pick(logp, safe, axis=axis))
    zero = ops.full_like(0.0, picked)
    if weight is None:
        scale = ops.select(skipped, zero, ops.full_like(1.0, picked))
    else:
        scale = ops.select(skipped, zero, ops.gather(weight, safe, axis=0))
        picked = ops.mul(picked, scale)
    losses = ops.select(skipped, zero, picked)
    if reduction == "none":
        return losses
    axes = tuple(range(len(losses.type.shape)))
    total = ops.reduce_sum(losses, axes=axes)
    if reduction == "sum":
        return total
    return ops.div(total, ops.reduce_sum(scale, axes=axes))


@function(register=False)
def _nll_loss(input, target, weight, ignore_index, reduction):
    return _nll(input, target, weight, ignore_index, reduction)


def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None,
             reduction="mean"):  # fmt: skip
    """Minus the log-probability of the target class."""
    return _nll_loss(
        input, target, weight, ignore_index, _reduction(size_average, reduce, reduction)
    )


@function(register=False, floats=False)
def _cross_entropy(input, target, weight, ignore_index, reduction, smoothing):
    axis = 1 if len(input.type.shape) > 1 else 0
    logp = composite.log_softmax(input, axis=axis)
    if target.type.dtype.kind == "f":
        return _soft_cross_entropy(logp, target, weight, reduction, smoothing, axis)
    loss = _nll(logp, target, weight, ignore_index, reduction)
    if not smoothing:
        return loss
    n = logp.type.shape[axis]
    t = ops.cast(target, dtype=I64)
    skipped = ops.eq(t, ops.full_like(ignore_index, t))
    weighted = logp
    if weight is not None:
        around = tuple([i for i in range(len(logp.type.shape)) if i != axis])
        weighted = ops.mul(logp, ops.expand(weight, shape=logp.type.shape, axes=around))
    smooth = ops.neg(ops.reduce_sum(weighted, axes=(axis,)))
    zero = ops.full_like(0.0, smooth)
    smooth = ops.select(skipped, zero, smooth)
    if reduction != "none":
        axes = tuple(range(len(smooth.type.shape)))
        total = ops.reduce_sum(smooth, axes=axes)
        if reduction == "mean":
            safe = ops.select(skipped, ops.full_like(0, t), t)
            one = ops.full_like(1.0, smooth)
            scale = one if weight is None else ops.gather(weight, safe, axis=0)
            total = ops.div(total, ops.reduce_sum(ops.select(skipped, zero, scale), axes=axes))
        smooth = total
    part = ops.full_like(smoothing / n, smooth)
    return ops.add(ops.mul(loss, ops.full_like(1 - smoothing, loss)), ops.mul(smooth, part))


def _soft_cross_entropy(logp, target, weight, reduction, smoothing, axis):
    n = logp.type.shape[axis]
    t = target
    if smoothing:
        t = ops.add(ops.mul(t, ops.full_like(1 - smoothing, t)), ops.full_like(smoothing / n, t))
    product = ops.mul(logp, t)
    if weight is not None:
        around = tuple([i for i in range(len(logp.type.shape)) if i != axis])
        product = ops.mul(product, ops.expand(weight, shape=logp.type.shape, axes=around))
    losses = ops.neg(ops.reduce_sum(product, axes=(axis,)))
    if reduction == "none":
        return losses
    total = ops.reduce_sum(losses, axes=tuple(range(len(losses.type.shape))))
    if reduction == "sum":
        return total
    rows = math.prod(losses.type.shape)
    return ops.div(total, ops.full_like(rows, total))


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None,
                  reduction="mean", label_smoothing=0.0):  # fmt: skip
    """log_softmax and nll_loss in one; targets are class numbers or probabilities."""
    mode = _reduction(size_average, reduce, reduction)
    return _cross_entropy(input, target, weight, ignore_index, mode, float(label_smoothing))


@function(register=False)
def _bce(input, target, weight, reduction):
    x, t = operands(input, target)
    low = ops.full_like(-100.0, x)
    one = ops.full_like(1.0, x)
    log_x, log_rest = ops.log(x), ops.log(ops.sub(one, x))
    log_x = ops.select(ops.lt(log_x, low), low, log_x)
    log_rest = ops.select(ops.lt(log_rest, low), low, log_rest)
    losses = ops.sub(ops.mul(ops.sub(t, one), log_rest), ops.mul(t, log_x))
    if weight is not None:
        losses = ops.mul(*operands(losses, weight))
    return _reduced(losses, reduction)


def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None,
                         reduction="mean"):  # fmt: skip
    """-(t log x + (1 - t) log(1 - x)), logs kept above -100."""
    if input.shape != target.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}) is deprecated. Please ensure they have the same size."
        )
    return _bce(input, target, weight, _reduction(size_average, reduce, reduction))


@function(register=False)
def _bce_logits(input, target, weight, pos_weight, reduction):
    x, t = operands(input, target)
    one = ops.full_like(1.0, x)
    if pos_weight is None:
        losses = ops.sub(ops.mul(ops.sub(one, t), x), composite.log_sigmoid(x))
    else:
        p = ops.broadcast_to(pos_weight, x.type.shape)
        scale = ops.add(ops.mul(ops.sub(p, one), t), one)
        losses = ops.sub(ops.mul(ops.sub(one, t), x), ops.mul(scale, composite.log_sigmoid(x)))
    if weight is not None:
        losses = ops.mul(*operands(losses, weight))
    return _reduced(losses, reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None,
                                     reduction="mean", pos_weight=None):  # fmt: skip
    """binary_cross_entropy of sigmoid(input), without overflow."""
    if input.shape != target.shape:
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape})"
        )
    mode = _reduction(size_average, reduce, reduction)
    return _bce_logits(input, target, weight, pos_weight, mode)


# --- regression --------------------------------------------------------------------------------


def _warn_broadcast(input: Any, target: Any) -> None:
    if target.shape != input.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size "
            f"({input.shape}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=3,
        )


@function(register=False)
def _mse(input, target, weight, reduction):
    x, t = operands(input, target)
    delta = ops.sub(x, t)
    losses = ops.mul(delta, delta)
    if weight is not None:
        return _weighted(losses, weight, reduction)
    return _reduced(losses, reduction)


def _weighted(losses: Value, weight: Value, reduction: str) -> Value:
    w = ops.broadcast_to(weight, losses.type.shape)
    losses = ops.mul(losses, w)
    if reduction != "mean":
        return _reduced(losses, reduction)
    axes = tuple(range(len(losses.type.shape)))
    return ops.div(ops.reduce_sum(losses, axes=axes), ops.reduce_sum(w, axes=axes))


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The squared difference."""
    _warn_broadcast(input, target)
    return _mse(input, target, weight, _reduction(size_average, reduce, reduction))


@function(register=False)
def _l1(input, target, weight, reduction):
    losses = ops.abs_(ops.sub(*operands(input, target)))
    if weight is not None:
        return _weighted(losses, weight, reduction)
    return _reduced(losses, reduction)


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """The absolute difference."""
    _warn_broadcast(input, target)
    return _l1(input, target, weight, _reduction(size_average, reduce, reduction))


@function(register=False, floats=False)
def _smooth_l1(input, target, beta, reduction):
    size = ops.abs_(ops.sub(*operands(input, target)))
    if not beta:
        return _reduced(size, reduction)
    b, half = ops.full_like(beta, size), ops.full_like(0.5, size)
    near = ops.div(ops.mul(ops.mul(half, size), size), b)
    far = ops.sub(size, ops.mul(half, b))
    return _reduced(ops.select(ops.lt(size, b), near, far), reduction)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """Squared within beta of 0, absolute beyond."""
    _warn_broadcast(input, target)
    return _smooth_l1(input, target, beta, _reduction(size_average, reduce, reduction))


@function(register=False, floats=False)
def _huber(input, target, delta, reduction):
    size = ops.abs_(ops.sub(*operands(input, target)))
    d, half = ops.full_like(delta, size), ops.full_like(0.5, size)
    near = ops.mul(ops.mul(half, size), size)
    far = ops.mul(d, ops.sub(size, ops.mul(half, d)))
    return _reduced(ops.select(ops.le(size, d), near, far), reduction)


def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """Squared within delta of 0, absolute beyond."""
    _warn_broadcast(input, target)
    if weight is not None:
        losses = _huber(input, target, delta, "none") * weight
        return (
            losses.sum() / weight.expand(losses.shape).sum()
            if reduction == "mean"
            else (_mean_of_tensor(losses, reduction))
        )
    return _huber(input, target, delta, reduction)


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """target * (log target - input), the input being log-probabilities."""
    if reduction == "batchmean":
        losses = kl_div(input, target, reduction="sum", log_target=log_target)
        return losses / input.shape[0]
    mode = _reduction(size_average, reduce, reduction)
    losses = (
        target.exp() * (target - input) if log_target else target.xlogy(target) - target * input
    )
    return _mean_of_tensor(losses, mode)


def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-target * input))."""
    mode = _reduction(size_average, reduce, reduction)
    return _mean_of_tensor((-target * input).exp().log1p(), mode)


def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None,
                         reduction="mean"):  # fmt: skip
    """input where target is 1, max(0, margin - input) where it is -1."""
    mode = _reduction(size_average, reduce, reduction)
    far = where(target == -1, (margin - input).clamp(min=0), 0.0)
    near = where(target == 1, input, 0.0)
    return _mean_of_tensor(near + far, mode)


def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None,
                        reduction="mean"):  # fmt: skip
    """max(0, -target * (input1 - input2) + margin)."""
    mode = _reduction(size_average, reduce, reduction)
    return _mean_of_tensor((-target * (input1 - input2) + margin).clamp(min=0), mode)


def cosine_similarity(x1, x2, dim=1, eps=1e-08):
    """The cosine of the angle between vectors along dim."""
    dot = (x1 * x2).sum(dim)
    n1, n2 = x1.norm(2, dim).clamp(min=eps), x2.norm(2, dim).clamp(min=eps)
    return dot / (n1 * n2)


def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None,
                          reduction="mean"):  # fmt: skip
    """1 - cos where target is 1, max(0, cos - margin) where it is -1."""
    mode = _reduction(size_average, reduce, reduction)
    dim = len(input1.shape) - 1
    eps = 1e-12
    s1, s2 = (input1 * input1).sum(dim) + eps, (input2 * input2).sum(dim) + eps
    cos = (input1 * input2).sum(dim) / (s1 * s2).sqrt()
    near = where(target == 1, 1 - cos, 0.0)
    far = where(target == -1, (cos - margin).clamp(min=0), 0.0)
    return _mean_of_tensor(near + far, mode)


def pairwise_distance(x1, x2, p=2.0, eps=1e-06, keepdim=False):
    """The p-norm of x1 - x2 + eps along the last axis."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-06, swap=False,
                        size_average=None, reduce=None, reduction="mean"):  # fmt: skip
    """max(0, d(anchor, positive) - d(anchor, negative) + margin)."""
    mode = _reduction(size_average, reduce, reduction)

    def distance(a: Any, b: Any) -> Any:
        return pairwise_distance(a, b, p, eps)

    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=margin, swap=swap,
        reduction=mode,
    )  # fmt: skip


def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None,
                                      margin=1.0, swap=False, reduction="mean"):  # fmt: skip
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) with a distance of one's own."""
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = far.minimum(distance(positive, negative))
    return _mean_of_tensor((near - far + margin).clamp(min=0), _reduction(None, None, reduction))


def gaussian_nll_loss(input, target, var, full=False, eps=1e-06, reduction="mean"):
    """Minus the log-likelihood under normal distributions of given variances."""
    if (var < 0).any().item():
        raise ValueError("var has negative entry/entries")
    if var.shape != input.shape and var.shape == input.shape[:-1]:
        var = var.unsqueeze(-1)
    var = var.clamp(min=eps)
    losses = 0.5 * (var.log() + (input - target) ** 2 / var)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return _mean_of_tensor(losses, _reduction(None, None, reduction))


def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-08,
                     reduce=None, reduction="mean"):  # fmt: skip
    """Minus the log-likelihood under Poisson distributions."""
    mode = _reduction(size_average, reduce, reduction)
    losses = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        approx = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        losses = losses + where(target > 1, approx, 0.0)
    return _mean_of_tensor(losses, mode)
