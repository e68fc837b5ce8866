"""Attention, and its gradients from what it keeps of its weights: the sum of each row."""

import math

from .. import ops
from ..dtype import I64
from ..errors import ShapeError
from ..op import op
from ..schema import Case, Flag, Float, NumberAttr, many
from .base import Composite
from .normalize import softmax


def attention_scores(q, k, mask, scale, causal):
    """scale * q @ k^T + mask, where what is hidden is -inf. A mask may be 1 along batch axes."""
    n = len(q.type.shape) - 2
    batch = tuple(range(n))
    scores = ops.dot(q, k, contract=((n + 1,), (n + 1,)), batch=(batch, batch))
    scores = ops.mul(scores, ops.full_like(scale, scores))
    for more in mask:
        _shared_axes(more.type.shape, scores)
        scores = ops.add(scores, ops.broadcast_to(more, scores.type.shape))
    if causal:
        shape = scores.type.shape
        rows = ops.iota(shape, n, I64, q.type.device)
        columns = ops.iota(shape, n + 1, I64, q.type.device)
        scores = ops.select(ops.lt(rows, columns), ops.full_like(-math.inf, scores), scores)
    return scores


def _shared_axes(mask, scores):
    """The batch axes along which a mask of this shape is shared. Raises ShapeError."""
    shape = scores.type.shape
    if len(mask) == len(shape) and mask[-2:] == shape[-2:]:
        shared = [axis for axis, size in enumerate(mask) if size != shape[axis]]
        if all([mask[axis] == 1 for axis in shared]):
            return tuple(shared)
    raise ShapeError(f"attention: a mask of {mask} for scores {scores.type.text}")


def _along_keys(value, scores):
    """A value for each query as one for each score."""
    return ops.expand(value, shape=scores.type.shape, axes=(len(scores.type.shape) - 1,))


def attention_weights(scores, may_be_empty):
    """The softmax of each row; zeros where nothing in it is above -inf, if a row may be so: a mask
    alone leaves rows without keys."""
    axis = len(scores.type.shape) - 1
    weights = softmax(scores, axis=axis)
    if not may_be_empty or scores.type.shape[-1] == 0:
        return weights
    top = ops.detach(ops.reduce_max(scores, axes=(axis,)))
    none = ops.eq(top, ops.full_like(-math.inf, top))
    return ops.select(_along_keys(none, scores), ops.full_like(0.0, weights), weights)


def _apart(more, dropout):
    """The mask and the factors of the weights, each a list of one or none."""
    masks, factors = (more[:-1], more[-1:]) if dropout else (more, ())
    if len(masks) > 1 or (dropout and not factors):
        raise ShapeError(f"attention takes one mask, and factors for dropout, not {len(more)}")
    return masks, factors


def _scaled(weights, factors):
    """The weights times what dropout gives them, if there is any."""
    for factor in factors:
        if factor.type.shape != weights.type.shape:
            text = f"attention: factors {factor.type.text} for weights {weights.type.text}"
            raise ShapeError(text)
        weights = ops.mul(weights, factor)
    return weights


@op("attention", causal=False, dropout=False)
class attention(Composite):
    """softmax(scale * q @ k^T + mask) @ v over the last two axes, and the logarithm of each row's
    sum of exponentials; a row that sees no key is zero, and its logarithm infinite.

    q[..., t, d], k[..., s, d], v[..., s, e] and at most one mask[..., t, s] give [..., t, e] and
    [..., t]; a mask that is 1 along a batch axis is shared there. causal: key s is hidden from
    query t < s. dropout: the last operand is factors [..., t, s] of the weights, after the softmax.
    A kernel may leave out what is hidden, or give it the weight zero: with infinities in v these
    differ.
    """

    q: Float
    k: Float
    v: Float
    more: many(Float)
    scale: NumberAttr
    causal: Flag
    dropout: Flag

    def expand(q, k, v, *more, scale, causal, dropout):
        mask, factors = _apart(more, dropout)
        scores = attention_scores(q, k, mask, scale, causal)
        n, batch = len(scores.type.shape) - 2, tuple(range(len(scores.type.shape) - 2))
        if scores.type.shape[-1] == 0:
            made = ops.dot(scores, v, contract=((n + 1,), (n,)), batch=(batch, batch))
            return [made, ops.full(math.inf, q.type.dtype, q.type.shape[:-1], q.type.device)]
        top = ops.detach(ops.reduce_max(scores, axes=(n + 1,)))
        lowest = ops.full_like(-math.inf, top)
        none = ops.eq(top, lowest)
        weights = _scaled(attention_weights(scores, may_be_empty=bool(mask)), factors)
        made = ops.dot(weights, v, contract=((n + 1,), (n,)), batch=(batch, batch))
        shift = ops.select(none, ops.full_like(0.0, top), top)
        total = ops.exp(ops.sub(scores, _along_keys(shift, scores)))
        total = ops.reduce_sum(total, axes=(n + 1,))
        logs = ops.add(shift, ops.log(ops.select(none, ops.full_like(1.0, total), total)))
        return [made, ops.select(none, ops.neg(lowest), logs)]

    pull_takes_places = True

    def pull(cts, node, places=None):
        (q, k, v, *more), (out, logs), (ct, ct_logs) = node.inputs, node.outputs, cts
        ct = ops.full_like(0.0, out) if ct is None else ct
        # The pull of a softmax takes from each cotangent the row's mean of them; that of the
        # logarithm adds what it is given to all.
        mean = ops.reduce_sum(ops.mul(ct, out), axes=(len(out.type.shape) - 1,))
        if ct_logs is not None:
            mean = ops.sub(mean, ct_logs)
        mask, factors = _apart(more, node.attrs["dropout"])
        of_mask = bool(mask) and (places is None or 3 in places)
        grads = attention_grad(q, k, v, logs, mean, ct, *more, **node.attrs, of_mask=of_mask)
        grads = [*grads, *([None] if mask and not of_mask else [])]
        for factor in factors:
            scores = attention_scores(q, k, mask, node.attrs["scale"], node.attrs["causal"])
            weights, of_kept, _ = _score_grads(scores, v, logs, mean, ct, [factor])
            grads.append(ops.mul(weights, of_kept))
        return grads

    no_onnx = "goes out as its expansion"
    samples = (
        Case("f32[2, 4, 8]", "f32[2, 5, 8]", "f32[2, 5, 3]", scale=0.35),
        Case("f32[2, 4, 8]", "f32[2, 4, 8]", "f32[2, 4, 8]", scale=0.35, causal=True),
        Case("f32[2, 11, 8]", "f32[2, 5, 8]", "f32[2, 5, 3]", "f32[2, 11, 5]", scale=0.35),
        Case("f64[53, 4]", "f64[50, 4]", "f64[50, 9]", scale=0.5, causal=True),
        Case(
            "f64[3, 2, 4, 2]", "f64[3, 2, 5, 2]", "f64[3, 2, 5, 3]", "f64[1, 2, 4, 5]", scale=0.35
        ),
        Case(
            "f32[2, 9, 4]", "f32[2, 5, 4]", "f32[2, 5, 3]", "f32[2, 9, 5]", scale=0.5, causal=True,
            dropout=True,
        ),
        Case(
            "f64[3, 4]", "f64[5, 4]", "f64[5, 3]", "f64[3, 5]", "f64[3, 5]", scale=0.5,
            dropout=True,
        ),
    )  # fmt: skip


def _score_grads(scores, v, logs, mean, ct, factors):
    """The weights, and the cotangents of what dropout left of them, and of the scores."""
    n = len(scores.type.shape) - 2
    batch = tuple(range(n))
    weights = ops.exp(ops.sub(scores, _along_keys(logs, scores)))
    of_kept = ops.dot(ct, v, contract=((n + 1,), (n + 1,)), batch=(batch, batch))
    rest = ops.sub(_scaled(of_kept, factors), _along_keys(mean, scores))
    return weights, of_kept, ops.mul(weights, rest)


@op("attention_grad", causal=False, dropout=False, of_mask=False)
class attention_grad(Composite):
    """The cotangents of q, k and v of an `attention`, and with of_mask that of its mask, from the
    logarithms that it gave, the cotangent ct[..., t, e] of its result, and for each row the
    mean[..., t] of the cotangents of its scores by their weights. The weights are computed again.
    """

    q: Float
    k: Float
    v: Float
    logs: Float
    mean: Float
    ct: Float
    more: many(Float)
    scale: NumberAttr
    causal: Flag
    dropout: Flag
    of_mask: Flag

    def expand(q, k, v, logs, mean, ct, *more, scale, causal, dropout, of_mask):
        mask, factors = _apart(more, dropout)
        scores = attention_scores(q, k, mask, scale, causal)
        weights, _, of_scores = _score_grads(scores, v, logs, mean, ct, factors)
        weights = _scaled(weights, factors)
        grads = []
        if of_mask:
            (shape,) = [value.type.shape for value in mask]
            shared = _shared_axes(shape, scores)
            summed = ops.reduce_sum(of_scores, axes=shared) if shared else of_scores
            grads = [ops.reshape(summed, shape=shape) if shared else summed]
        of_scores = ops.mul(of_scores, ops.full_like(scale, scores))
        n = len(scores.type.shape) - 2
        batch = tuple(range(n))
        both = (batch, batch)
        of_q = ops.dot(of_scores, k, contract=((n + 1,), (n,)), batch=both)
        of_k = ops.dot(of_scores, q, contract=((n,), (n,)), batch=both)
        return [of_q, of_k, ops.dot(weights, ct, contract=((n,), (n,)), batch=both), *grads]

    no_onnx = "goes out as its expansion"
    samples = (
        Case(
            "f32[2, 4, 8]", "f32[2, 5, 8]", "f32[2, 5, 3]", "f32[2, 4]", "f32[2, 4]",
            "f32[2, 4, 3]", scale=0.35,
        ),
        Case(
            "f64[5, 4]", "f64[7, 4]", "f64[7, 2]", "f64[5]", "f64[5]", "f64[5, 2]", "f64[5, 7]",
            scale=0.5, causal=True,
        ),
        Case(
            "f32[3, 2, 9, 4]", "f32[3, 2, 7, 4]", "f32[3, 2, 7, 2]", "f32[3, 2, 9]", "f32[3, 2, 9]",
            "f32[3, 2, 9, 2]", "f32[1, 2, 9, 7]", scale=0.5, of_mask=True,
        ),
        Case(
            "f32[9, 4]", "f32[7, 4]", "f32[7, 2]", "f32[9]", "f32[9]", "f32[9, 2]", "f32[9, 7]",
            "f32[9, 7]", scale=0.5, dropout=True,
        ),
    )  # fmt: skip
