"""Multi-head attention as a function of its inputs and weights."""

import math

import graphc as torch
from graphc.frontends.locate import warn_at_user_line
from graphc.nn import functional as F

__all__ = ["additive_mask", "multi_head_attention_forward"]


def additive_mask(mask, name, dtype, other=None, other_name=""):
    """Return ``mask`` as a floating tensor to be added to scores; True becomes -inf.

    Args:
        mask: a bool or floating tensor, or None.
        name: the argument's name, for messages.
        dtype: dtype of the result where ``mask`` is bool.
        other: another mask that should have the same dtype, called ``other_name``.

    Raises:
        AssertionError: the mask is of another dtype.
    """
    if mask is None:
        return None
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {name} are supported")
    if other is not None and mask.dtype != other.dtype:
        warn_at_user_line(
            f"Support for mismatched {name} and {other_name} is deprecated. "
            "Use same type for both instead.",
            UserWarning,
        )
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))


def multi_head_attention_forward(
    query,
    key,
    value,
    embed_dim_to_check,
    num_heads,
    in_proj_weight,
    in_proj_bias,
    bias_k,
    bias_v,
    add_zero_attn,
    dropout_p,
    out_proj_weight,
    out_proj_bias,
    training=True,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    use_separate_proj_weight=False,
    q_proj_weight=None,
    k_proj_weight=None,
    v_proj_weight=None,
    static_k=None,
    static_v=None,
    average_attn_weights=True,
    is_causal=False,
):
    """Attention of ``num_heads`` heads with input and output projections.

    Args:
        query: (L, N, E) or (L, E).
        key: (S, N, Ek) or (S, Ek).
        value: (S, N, Ev) or (S, Ev).
        embed_dim_to_check: E.
        num_heads: number of heads; divides E.
        in_proj_weight: (3 * E, E), or None with ``use_separate_proj_weight``.
        in_proj_bias: (3 * E,) or None.
        bias_k: one more key, (1, 1, E), or None.
        bias_v: one more value, (1, 1, E), or None.
        add_zero_attn: whether a key and a value of zeros are added.
        dropout_p: probability with which weights are dropped in training.
        out_proj_weight: (E, E).
        out_proj_bias: (E,) or None.
        key_padding_mask: (N, S) or (S,): True or -inf where a key is left out.
        need_weights: whether the attention weights are returned.
        attn_mask: (L, S) or (N * num_heads, L, S): True or -inf where attention is not allowed.
        static_k: (N * num_heads, S, E / num_heads), used instead of the projected key.
        static_v: as ``static_k`` for the value.
        average_attn_weights: whether returned weights are averaged over heads.
        is_causal: a hint that ``attn_mask`` is the causal mask.

    Returns:
        The output (L, N, E) or (L, E), and the weights (N, L, S), (N, num_heads, L, S) or None.
    """
    batched = _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        query, key, value = (x.unsqueeze(1) for x in (query, key, value))
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask.unsqueeze(0)
    tgt_len, bsz, embed_dim = query.shape
    if embed_dim != embed_dim_to_check:
        raise AssertionError(
            f"was expecting embedding dimension of {embed_dim_to_check}, but got {embed_dim}"
        )
    if embed_dim % num_heads != 0:
        raise AssertionError(f"embed_dim {embed_dim} not divisible by num_heads {num_heads}")
    attn_mask, key_padding_mask, is_causal = _masks(
        attn_mask, key_padding_mask, is_causal, need_weights, query.dtype
    )
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        q, k, v = _project_separately(query, key, value, weights, in_proj_bias)
    else:
        q, k, v = _project_packed(query, key, value, in_proj_weight, in_proj_bias)
    attn_mask = _check_attn_mask(attn_mask, bsz * num_heads, tgt_len, key.shape[0])

    heads = _Heads(bsz, num_heads, embed_dim // num_heads)
    added = 0
    if bias_k is not None or bias_v is not None:
        k, v = _add_bias_key(k, v, bias_k, bias_v, static_k, static_v)
        added += 1
    q = heads.split(q)
    k = heads.split(k) if static_k is None else heads.check_static("static_k", static_k)
    v = heads.split(v) if static_v is None else heads.check_static("static_v", static_v)
    if add_zero_attn:
        zeros = torch.zeros((bsz * num_heads, 1, heads.dim), dtype=k.dtype, device=k.device)
        k = torch.cat([k, zeros], dim=1)
        v = torch.cat([v, zeros], dim=1)
        added += 1
    attn_mask = _joined(attn_mask, key_padding_mask, heads, added, k.size(1))

    dropout = dropout_p if training else 0.0
    if need_weights:
        output, weights = _attend_with_weights(q, k, v, attn_mask, dropout)
        weights = weights.view(bsz, num_heads, tgt_len, k.size(1))
        weights = weights.mean(dim=1) if average_attn_weights else weights
        weights = weights if batched else weights.squeeze(0)
    else:
        output = heads.attend(q, k, v, attn_mask, dropout, is_causal)
        weights = None
    output = output.transpose(0, 1).reshape(tgt_len * bsz, embed_dim)
    output = F.linear(output, out_proj_weight, out_proj_bias).view(tgt_len, bsz, -1)
    return output if batched else output.squeeze(1), weights


def _masks(attn_mask, key_padding_mask, is_causal, need_weights, dtype):
    """Both masks as numbers to add, and whether the kernel makes the causal one itself."""
    if is_causal and attn_mask is None:
        raise RuntimeError(
            "Need attn_mask if specifying the is_causal hint. You may use the Transformer module "
            "method `generate_square_subsequent_mask` to create this mask."
        )
    key_padding_mask = additive_mask(
        key_padding_mask, "key_padding_mask", dtype, attn_mask, "attn_mask"
    )
    if is_causal and key_padding_mask is None and not need_weights:
        return None, None, True
    attn_mask = additive_mask(attn_mask, "attn_mask", dtype)
    return attn_mask, key_padding_mask, is_causal and key_padding_mask is None


def _joined(attn_mask, key_padding_mask, heads, added, src_len):
    """One mask of both, or None; the ``added`` last keys are never left out."""
    if attn_mask is not None and added:
        attn_mask = F.pad(attn_mask, (0, added))
    if key_padding_mask is None:
        return attn_mask
    if added:
        key_padding_mask = F.pad(key_padding_mask, (0, added))
    padding = heads.spread(key_padding_mask, src_len)
    return padding if attn_mask is None else attn_mask + padding


class _Heads:
    """The layout (batch * heads, length, head size) of the projected inputs."""

    def __init__(self, batch, count, dim):
        self.batch = batch
        self.count = count
        self.dim = dim

    def split(self, x):
        """(length, batch, E) to (batch * heads, length, head size)."""
        return x.reshape(x.shape[0], self.batch * self.count, self.dim).transpose(0, 1)

    def check_static(self, name, x):
        if x.size(0) != self.batch * self.count:
            raise AssertionError(
                f"expecting {name}.size(0) of {self.batch * self.count}, but got {x.size(0)}"
            )
        if x.size(2) != self.dim:
            raise AssertionError(f"expecting {name}.size(2) of {self.dim}, but got {x.size(2)}")
        return x

    def spread(self, key_padding_mask, src_len):
        """(batch, S) to (batch * heads, 1, S)."""
        if tuple(key_padding_mask.shape) != (self.batch, src_len):
            raise AssertionError(
                f"Expected key_padding_mask of shape {(self.batch, src_len)}, but got "
                f"{tuple(key_padding_mask.shape)}"
            )
        spread = key_padding_mask.view(self.batch, 1, 1, src_len)
        spread = spread.expand(-1, self.count, -1, -1)
        return spread.reshape(self.batch * self.count, 1, src_len)

    def attend(self, q, k, v, mask, dropout, is_causal):
        if mask is not None:
            if mask.size(0) == 1:
                mask = mask.unsqueeze(0)
            else:
                mask = mask.view(self.batch, self.count, -1, k.size(1))
        q, k, v = (x.reshape(self.batch, self.count, -1, self.dim) for x in (q, k, v))
        output = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
        return output.reshape(self.batch * self.count, -1, self.dim)


def _attend_with_weights(q, k, v, mask, dropout):
    scaled = q * math.sqrt(1.0 / float(q.size(-1)))
    if mask is None:
        scores = torch.bmm(scaled, k.transpose(-2, -1))
    else:
        scores = torch.baddbmm(mask, scaled, k.transpose(-2, -1))
    weights = F.softmax(scores, dim=-1)
    if dropout > 0.0:
        weights = F.dropout(weights, p=dropout)
    return torch.bmm(weights, v), weights


def _project_packed(query, key, value, weight, bias):
    """Project with the rows of one weight, in as few products as the inputs allow."""
    if weight is None:
        raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
    if key.shape != value.shape:
        raise AssertionError(f"key shape {key.shape} does not match value shape {value.shape}")
    if query is key and key is value:
        return F.linear(query, weight, bias).chunk(3, dim=-1)
    size = query.size(-1)
    biases = (None, None, None) if bias is None else bias.chunk(3)
    q = F.linear(query, weight[:size], biases[0])
    if key is value:
        bias_kv = None if bias is None else bias[size:]
        k, v = F.linear(key, weight[size:], bias_kv).chunk(2, dim=-1)
        return q, k, v
    k = F.linear(key, weight[size : 2 * size], biases[1])
    v = F.linear(value, weight[2 * size :], biases[2])
    return q, k, v


def _project_separately(query, key, value, weights, bias):
    for name, weight in zip("qkv", weights, strict=True):
        if weight is None:
            raise AssertionError(f"use_separate_proj_weight is True but {name}_proj_weight is None")
    if key.shape[:2] != value.shape[:2]:
        raise AssertionError(
            f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}"
        )
    biases = (None, None, None) if bias is None else bias.chunk(3)
    inputs = (query, key, value)
    return [F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]


def _add_bias_key(k, v, bias_k, bias_v, static_k, static_v):
    if bias_k is None or bias_v is None:
        raise AssertionError("bias_k and bias_v must both be set, or both be None")
    if static_k is not None or static_v is not None:
        raise AssertionError("bias cannot be added to static key or value.")
    batch = k.shape[1]
    return (
        torch.cat([k, bias_k.repeat(1, batch, 1)]),
        torch.cat([v, bias_v.repeat(1, batch, 1)]),
    )


def _check_attn_mask(mask, rows, tgt_len, src_len):
    """Return the mask with three dimensions."""
    if mask is None:
        return None
    wanted = {2: (tgt_len, src_len), 3: (rows, tgt_len, src_len)}
    if mask.dim() not in wanted:
        raise RuntimeError(f"attn_mask's dimension {mask.dim()} is not supported")
    if tuple(mask.shape) != wanted[mask.dim()]:
        raise RuntimeError(
            f"The shape of the {mask.dim()}D attn_mask is {mask.shape}, but should be "
            f"{wanted[mask.dim()]}."
        )
    return mask.unsqueeze(0) if mask.dim() == 2 else mask


def _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads):
    """Check the numbers of dimensions; return whether the input is batched."""
    dims = query.dim()
    if dims not in (2, 3):
        raise AssertionError(
            f"query should be unbatched 2D or batched 3D tensor but received {dims}-D query tensor"
        )
    kind = "batched" if dims == 3 else "unbatched"
    if key.dim() != dims or value.dim() != dims:
        raise AssertionError(
            f"For {kind} ({dims}-D) `query`, expected `key` and `value` to be {dims}-D but found "
            f"{key.dim()}-D and {value.dim()}-D tensors respectively"
        )
    if key_padding_mask is not None and key_padding_mask.dim() != dims - 1:
        raise AssertionError(
            f"For {kind} ({dims}-D) `query`, expected `key_padding_mask` to be `None` or "
            f"{dims - 1}-D but found {key_padding_mask.dim()}-D tensor instead"
        )
    if attn_mask is not None and attn_mask.dim() not in (2, 3):
        raise AssertionError(
            f"For {kind} ({dims}-D) `query`, expected `attn_mask` to be `None`, 2-D or 3-D but "
            f"found {attn_mask.dim()}-D tensor instead"
        )
    if dims == 2 and attn_mask is not None and attn_mask.dim() == 3:
        expected = (num_heads, query.shape[0], key.shape[0])
        if tuple(attn_mask.shape) != expected:
            raise AssertionError(
                f"Expected `attn_mask` shape to be {expected} but got {attn_mask.shape}"
            )
    return dims == 3
