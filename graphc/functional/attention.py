"""Scaled dot-product attention."""

from __future__ import annotations

import math

from ..frontends.function import function
from ..ir import composite, ops
from ..ir.dtype import BF16, BOOL, F16, F32, DType
from ..ir.graph import Value
from .activation import dropout_factors


def _added(mask: Value | None, dtype: DType) -> list[Value]:
    """The mask as a number to add to scores, in a list; where a bool is False that is -inf."""
    if mask is None:
        return []
    if mask.type.dtype is not BOOL:
        return [ops.cast(mask, dtype=dtype)]
    zero = ops.full(0.0, dtype, mask.type.shape, mask.type.device)
    return [ops.select(mask, zero, ops.full_like(-math.inf, zero))]


def _matrices(
    q: Value, k: Value, v: Value, masks: list[Value]
) -> tuple[Value, Value, Value, list[Value]]:
    """The operands with equal batch axes."""
    batch = ops.broadcast_shapes(*[x.type.shape[:-2] for x in (q, k, v)])
    q, k, v = [ops.broadcast_to(x, (*batch, *x.type.shape[-2:])) for x in (q, k, v)]
    scores = (*batch, q.type.shape[-2], k.type.shape[-2])
    return q, k, v, [ops.broadcast_to(x, (*_own(x, batch), *scores[-2:])) for x in masks]


def _own(mask: Value, batch: tuple) -> tuple:
    """The batch axes of a mask, 1 where it is shared: its gradient is summed along those by one
    thread for each matrix of its own. So one that is all matrices' has its own for each head."""
    own = mask.type.shape[:-2]
    own = (*[1] * (len(batch) - len(own)), *own)
    return (*own[:-1], batch[-1]) if batch and all([size == 1 for size in own]) else own


@function(register=False)
def _attention(query, key, value, mask, factors, scale, causal, groups):
    """factors: of the weights, or None. groups: how many heads of queries share one of keys; None
    where each has its own.

    Halves are computed in float32.
    """
    dtype = query.type.dtype
    wide = F32 if dtype in (F16, BF16) else dtype
    q, k, v = [x if wide is dtype else ops.cast(x, dtype=F32) for x in (query, key, value)]
    masks = _added(mask, wide)
    if factors is not None:
        masks.append(factors if wide is dtype else ops.cast(factors, dtype=wide))
    outer = ops.broadcast_shapes(*[x.type.shape[:-3] for x in (q, k, v)]) if groups else ()
    heads, length = k.type.shape[-3:-2], q.type.shape[-2]
    if groups and length == 1 and not causal:
        # The one query of each head of a group is a row of one matrix.
        q, *masks = [_in_groups(x, (*heads, groups), 1) for x in (q, *masks)]
    elif groups:
        q, *masks = [_in_groups(x, (*heads, groups), 2) for x in (q, *masks)]
        k, v = [_in_groups(x, (*heads, 1), 2) for x in (k, v)]
    q, k, v, masks = _matrices(q, k, v, masks)
    dropout = factors is not None
    made = composite.attention(q, k, v, *masks, scale=scale, causal=causal, dropout=dropout)[0]
    if groups:
        made = ops.reshape(made, shape=(*outer, heads[0] * groups, length, v.type.shape[-1]))
    return made if wide is dtype else ops.cast(made, dtype=dtype)


def _in_groups(x: Value, heads: tuple, kept: int) -> Value:
    """x[..., head, row, column] with the heads as (head, place in its group); `kept`: how many of
    the last axes stay."""
    if len(x.type.shape) < 3:
        return x
    *outer, head, row, column = x.type.shape
    if head == 1:
        heads = (1, 1)
    return ops.reshape(x, shape=(*outer, *heads, *(row, column)[2 - kept :]))


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0,
                                 is_causal=False, scale=None, enable_gqa=False):  # fmt: skip
    """softmax(query @ key^T * scale + mask) @ value.

    query: [..., heads, L, E]; key: [..., heads, S, E]; value: [..., heads, S, Ev]; the result is
    [..., heads, L, Ev]. attn_mask: broadcast to [..., heads, L, S]; a bool says what takes part, a
    number is added. A row that no key takes part in is zero. enable_gqa: key and value may have
    fewer heads, each of them for as many heads of query. Scores are never in memory as a whole;
    what dropout (dropout_p > 0) draws for them is, once.

    Raises RuntimeError for a mask beside is_causal, and for heads that do not divide.
    """
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if attn_mask is not None and is_causal:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set "
                           "when is_causal=True")  # fmt: skip
    groups = None
    if enable_gqa:
        heads, shared = query.shape[-3], key.shape[-3]
        if shared != value.shape[-3] or heads % max(shared, 1):
            raise RuntimeError(
                f"Number of heads in key and value must be equal and divide the number of heads in "
                f"query, but got {shared}, {value.shape[-3]} and {heads}"
            )
        groups = heads // max(shared, 1)
    factors = None
    if dropout_p:
        shared = tuple(key.shape[:-2])
        if groups is not None:
            shared = (*shared[:-1], shared[-1] * groups)
        batch = ops.broadcast_shapes(tuple(query.shape[:-2]), shared)
        factors = dropout_factors((*batch, query.shape[-2], key.shape[-2]), dropout_p, query)
    groups = None if groups == 1 else groups
    return _attention(query, key, value, attn_mask, factors, float(factor), is_causal, groups)
