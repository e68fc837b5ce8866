"""Losses over several classes or labels at once, and the loss of a projection."""

from __future__ import annotations

from typing import Any

from ..ir.errors import ShapeError
from .activation import logsigmoid
from .layers import linear
from .loss import _mean_of_tensor, _reduction, cross_entropy
from .pointwise import where


def _check_rows(input: Any, target: Any, shape: Any, name: str) -> None:
    if len(input.shape) not in (1, 2) or tuple(target.shape) != tuple(shape):
        raise ShapeError(
            f"{name} of an input of size {list(input.shape)} with targets of size "
            f"{list(target.shape)}: the targets must have size {list(shape)}"
        )


def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None,
                      reduction="mean"):  # fmt: skip
    """The mean over classes i of max(0, margin - input[target] + input[i]) ** p, i != target."""
    mode = _reduction(size_average, reduce, reduction)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    _check_rows(input, target, input.shape[:-1], "multi_margin_loss")
    place = target.unsqueeze(-1)
    distance = (margin - input.gather(-1, place) + input).clamp(min=0)
    losses = distance if p == 1 else distance * distance
    if weight is not None:
        losses = losses * weight[target].unsqueeze(-1)
    losses = losses.scatter(-1, place, 0.0)
    return _mean_of_tensor(losses.sum(-1) / input.shape[-1], mode)


def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """max(0, 1 - input[t] + input[i]) over targets t and other classes i; -1 ends the targets."""
    mode = _reduction(size_average, reduce, reduction)
    _check_rows(input, target, input.shape, "multilabel_margin_loss")
    valid = (target >= 0).long().cumprod(-1)
    labels = target * valid
    is_target = input.detach().mul(0).scatter_add(-1, labels, valid.to(input.dtype)) > 0
    distance = 1 - input.gather(-1, labels).unsqueeze(-1) + input.unsqueeze(-2)
    counted = valid.bool().unsqueeze(-1) & ~is_target.unsqueeze(-2)
    losses = where(counted, distance.clamp(min=0), 0.0).sum((-1, -2))
    return _mean_of_tensor(losses / input.shape[-1], mode)


def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None,
                                reduction="mean"):  # fmt: skip
    """The mean over labels of the binary cross-entropy of sigmoid(input)."""
    mode = _reduction(size_average, reduce, reduction)
    losses = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        losses = losses * weight
    return _mean_of_tensor(losses.sum(-1) / input.shape[-1], mode)


def linear_cross_entropy(input, linear_weight, target, *, linear_bias=None, weight=None,
                         reduction="mean", ignore_index=None, label_smoothing=0.0,
                         options=None):  # fmt: skip
    """cross_entropy of linear(input, linear_weight, linear_bias). `options` is accepted."""
    logits = linear(input, linear_weight, linear_bias)
    ignored = -100 if ignore_index is None else ignore_index
    return cross_entropy(
        logits, target, weight, ignore_index=ignored, reduction=reduction,
        label_smoothing=label_smoothing,
    )  # fmt: skip
