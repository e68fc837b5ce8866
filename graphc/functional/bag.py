"""Sums, means and maxima over bags of a table's rows: embedding_bag."""

from __future__ import annotations

from typing import Any

from ..frontends.function import function
from ..ir import ops
from ..ir.dtype import I64
from ..ir.errors import UnsupportedError
from ..ir.graph import Value
from .embed import embedding
from .promote import to_dtype


def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False,
                  mode="mean", sparse=False, per_sample_weights=None, include_last_offset=False,
                  padding_idx=None):  # fmt: skip
    """The rows of weight at input, reduced ("sum", "mean", "max") over each bag.

    input [B, L]: bags of one size. input [n] with offsets [B]: bag b begins at offsets[b]. Rows
    padding_idx count for nothing.
    """
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum or mean or max")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported "
            f"for mode='sum' (got mode='{mode}')."
        )
    if scale_grad_by_freq or sparse:
        raise UnsupportedError("embedding_bag with scale_grad_by_freq=True or sparse=True")
    count = None
    if len(input.shape) == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch "
                "of fixed length sequences."
            )
        count = input.shape[0]
        offsets = _regular(input)
    elif len(input.shape) != 1:
        raise ValueError(
            f"input has to be 1D or 2D Tensor, but got Tensor of dimension {len(input.shape)}"
        )
    elif offsets is None:
        raise ValueError("offsets has to be a 1D Tensor but got None")
    else:
        if len(offsets.shape) != 1:
            raise ValueError("offsets has to be a 1D Tensor")
        count = offsets.shape[0] - (1 if include_last_offset else 0)
    if per_sample_weights is not None and per_sample_weights.shape != input.shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then "
            f"it must have the same shape as the input ({input.shape})"
        )
    rows = embedding(input, weight, padding_idx, max_norm, norm_type)
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    return _bags(rows, input, offsets, per_sample_weights, count, mode, padding_idx)


@function(register=False)
def _regular(input):
    """The offsets of bags of one size."""
    count, length = input.type.shape
    places = ops.iota((count,), 0, I64, input.type.device)
    return ops.mul(places, ops.full_like(length, places))


@function(register=False)
def _bags(rows, input, offsets, weights, count, mode, padding_idx):
    width = rows.type.shape[-1]
    n = 1
    for d in input.type.shape:
        n = n * d
    x = ops.reshape(rows, shape=(n, width))
    labels = to_dtype(ops.reshape(input, shape=(n,)), I64)
    places = ops.iota((n,), 0, I64, x.type.device)
    begins = to_dtype(offsets, I64)
    bag = ops.sub(ops.searchsorted(begins, places, right=True), ops.full_like(1, places))
    if weights is not None:
        w = ops.reshape(weights, shape=(n,))
        x = ops.mul(x, ops.expand(w, shape=(n, width), axes=(1,)))
    counted = ops.full_like(1, bag)
    if padding_idx is not None:
        is_padding = ops.eq(labels, ops.full_like(padding_idx, labels))
        counted = ops.select(is_padding, ops.full_like(0, counted), counted)
        wide = ops.expand(is_padding, shape=(n, width), axes=(1,))
        neutral = float("-inf") if mode == "max" else 0.0
        x = ops.select(wide, ops.full_like(neutral, x), x)
    return _reduced(x, bag, counted, count, mode)


def _reduced(x: Value, bag: Value, counted: Value, count: Any, mode: str) -> Value:
    width, dtype, device = x.type.shape[1], x.type.dtype, x.type.device
    zeros = ops.full(0, I64, (count,), device)
    sizes = ops.scatter(zeros, bag, counted, axis=0, mode="add")
    start = ops.full(float("-inf") if mode == "max" else 0.0, dtype, (count, width), device)
    made = ops.scatter(start, bag, x, axis=0, mode="max" if mode == "max" else "add")
    wide = ops.expand(sizes, shape=(count, width), axes=(1,))
    if mode == "max":
        empty = ops.eq(wide, ops.full_like(0, wide))
        return ops.select(empty, ops.full_like(0.0, made), made)
    if mode == "mean":
        divisor = ops.cast(ops.max_(wide, ops.full_like(1, wide)), dtype=dtype)
        return ops.div(made, divisor)
    return made
