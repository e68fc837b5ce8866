"""Attention."""

from .. import ops
from ..dtype import I64
from ..op import op
from ..schema import Case, Flag, Float, NumberAttr
from .base import Composite
from .normalize import softmax


@op("attention", causal=False)
class attention(Composite):
    """softmax(scale * q @ k^T) @ v over the last two axes; `causal` hides later positions.

    q[..., t, d], k[..., s, d], v[..., s, e] give [..., t, e].
    """

    q: Float
    k: Float
    v: Float
    scale: NumberAttr
    causal: Flag

    def expand(q, k, v, scale, causal):
        n = len(q.type.shape) - 2
        batch = tuple(range(n))
        scores = ops.dot(q, k, contract=((n + 1,), (n + 1,)), batch=(batch, batch))
        scores = ops.mul(scores, ops.full_like(scale, scores))
        if causal:
            shape = scores.type.shape
            rows = ops.iota(shape, n, I64, q.type.device)
            columns = ops.iota(shape, n + 1, I64, q.type.device)
            hidden = ops.lt(rows, columns)
            scores = ops.select(hidden, ops.full_like(float("-inf"), scores), scores)
        weights = softmax(scores, axis=n + 1)
        return ops.dot(weights, v, contract=((n + 1,), (n,)), batch=(batch, batch))

    no_onnx = "goes out as its expansion"
    samples = (
        Case("f32[2, 4, 8]", "f32[2, 5, 8]", "f32[2, 5, 3]", scale=0.35),
        Case("f32[2, 4, 8]", "f32[2, 4, 8]", "f32[2, 4, 8]", scale=0.35, causal=True),
    )
