"""Activations and dropout with noise: rrelu, feature_alpha_dropout, gumbel_softmax."""

from __future__ import annotations

import math

import numpy as np

from ..ir.dtype import F64
from ..ir.errors import UnsupportedError
from ..tensor import Tensor, from_array
from .activation import (
    _check_p,
    _finish,
    _masked,
    celu,
    dropout,
    elu,
    hardtanh,
    leaky_relu,
    relu,
    selu,
    softmax,
)
from .activation import threshold as _threshold
from .create import zeros_like
from .random import draw, rand


def rrelu(input, lower=0.125, upper=1.0 / 3, training=False, inplace=False):
    """The input where it is positive, else the input times a slope between lower and upper.

    In training each slope is drawn uniformly; else it is the mean of the bounds.
    """
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    negative = (input <= 0).detach()
    there = negative._array()
    slopes = np.ones(there.shape, input.dtype.numpy)
    drawn = rand(int(there.sum()), dtype=F64)._array()  # torch draws doubles, only where needed
    slopes[there] = (drawn * (upper - lower) + lower).astype(slopes.dtype)
    return _finish(_masked(input, from_array(slopes)), input, inplace)


def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """alpha_dropout of whole channels: the first two axes."""
    _check_p(p)
    if not training or p == 0:
        return input
    if p == 1:
        return _finish(input * 0, input, inplace)
    shape = tuple(input.shape[:2]) + (1,) * (len(input.shape) - 2)
    kept = np.asarray(draw(None, "dropout_mask", math.prod(shape), p)).reshape(shape)
    alpha = 1.7580993408473766
    a = 1.0 / math.sqrt((alpha * alpha * p + 1) * (1 - p))
    dtype = input.dtype.numpy
    shift = ((kept.astype(dtype) - 1) * (alpha * a) + alpha * a * p).astype(dtype)
    scaled = (kept.astype(dtype) * a).astype(dtype)
    return _finish(_masked(input, from_array(scaled)) + from_array(shift), input, inplace)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """Samples of the Gumbel-softmax distribution.

    With `hard` they are one-hot vectors, whose gradient is that of the soft sample.
    """
    noise = -zeros_like(logits.detach()).exponential_().log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.detach().max(dim, keepdim=True)[1]
    one_hot = zeros_like(logits.detach()).scatter(dim, index, 1.0)
    return one_hot - soft.detach() + soft


# --- in place ------------------------------------------------------------------------------------


def relu_(input):
    """relu, written into the input."""
    return relu(input, inplace=True)


def elu_(input, alpha=1.0):
    """elu, written into the input."""
    return elu(input, alpha, inplace=True)


def selu_(input):
    """selu, written into the input."""
    return selu(input, inplace=True)


def celu_(input, alpha=1.0):
    """celu, written into the input."""
    return celu(input, alpha, inplace=True)


def leaky_relu_(input, negative_slope=0.01):
    """leaky_relu, written into the input."""
    return leaky_relu(input, negative_slope, inplace=True)


def hardtanh_(input, min_val=-1.0, max_val=1.0):
    """hardtanh, written into the input."""
    return hardtanh(input, min_val, max_val, inplace=True)


def threshold_(input, threshold, value):
    """threshold, written into the input."""
    return _threshold(input, threshold, value, inplace=True)


def rrelu_(input, lower=0.125, upper=1.0 / 3, training=False, generator=None):
    """rrelu, written into the input."""
    if generator is not None:
        raise UnsupportedError("rrelu_ with a generator of its own")
    return rrelu(input, lower, upper, training, inplace=True)


def dropout_(input: Tensor, p: float, train: bool) -> Tensor:
    """dropout, written into the input."""
    return dropout(input, p, train, inplace=True)
