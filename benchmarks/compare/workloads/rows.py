"""Reductions, norms, scans and sorts, by row, by column and over all."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..workload import Arrays, normal
from .op import HARD, op

SQUARE = normal((1024, 1024))


def shuffled() -> Arrays:
    """100,000 distinct numbers."""
    return (np.random.default_rng(0).permutation(100_000).astype(np.float32),)


def shuffled_rows() -> Arrays:
    random = np.random.default_rng(0)
    return (np.stack([random.permutation(1000) for _ in range(256)]).astype(np.float32),)


def scale_and_shift(*shape: int) -> Any:
    """Inputs: a tensor, and a weight and bias for its second or last axis."""
    size = shape[1] if len(shape) == 4 else shape[-1]
    return normal(shape, (size,), (size,))


def jax_layer_norm(j: Any, x: Any, w: Any, b: Any) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / j.numpy.sqrt(variance + 1e-5) * w + b


def jax_batch_norm(j: Any, x: Any, w: Any, b: Any) -> Any:
    mean, variance = (f((0, 2, 3), keepdims=True) for f in (x.mean, x.var))
    return (x - mean) / j.numpy.sqrt(variance + 1e-5) * w[:, None, None] + b[:, None, None]


def jax_topk(j: Any, x: Any) -> Any:
    return tuple(j.lax.top_k(x, 5))


WORKLOADS = [
    op(
        "softmax-1024x512", normal((1024, 512)), lambda t, x: x.softmax(-1),
        lambda j, x: j.nn.softmax(x),
    ),
    op(
        "softmax-64x64", normal((64, 64)), lambda t, x: x.softmax(-1),
        lambda j, x: j.nn.softmax(x),
    ),
    op(
        "softmax-columns", normal((1024, 512)), lambda t, x: x.softmax(0),
        lambda j, x: j.nn.softmax(x, 0),
    ),
    op(
        "softmax-gradient", normal((1024, 512), (1024, 512)),
        lambda t, x, y: t.autograd.grad(x.softmax(-1), x, y.detach())[0],
        lambda j, x, y: j.vjp(j.nn.softmax, x)[1](y)[0], kind="gradient",
    ),
    op(
        "log-softmax", normal((128, 1000)), lambda t, x: x.log_softmax(-1),
        lambda j, x: j.nn.log_softmax(x),
    ),
    op(
        "logsumexp", normal((512, 4096)), lambda t, x: x.logsumexp(-1),
        lambda j, x: j.nn.logsumexp(x, -1),
    ),
    op(
        "layer-norm", scale_and_shift(1024, 768),
        lambda t, x, w, b: t.nn.functional.layer_norm(x, (768,), w, b), jax_layer_norm,
    ),
    op(
        "rms-norm", normal((1024, 768), (768,)),
        lambda t, x, w: t.nn.functional.rms_norm(x, (768,), w, 1e-5),
        lambda j, x, w: x / j.numpy.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w,
    ),
    op(
        "batch-norm", scale_and_shift(16, 64, 28, 28),
        lambda t, x, w, b: t.nn.functional.batch_norm(x, None, None, w, b, training=True),
        jax_batch_norm,
    ),
    op(
        "group-norm", scale_and_shift(16, 64, 28, 28),
        lambda t, x, w, b: t.nn.functional.group_norm(x, 8, w, b),
    ),
    op("sum-rows", SQUARE, lambda t, x: x.sum(1), lambda j, x: x.sum(1)),
    op("sum-columns", SQUARE, lambda t, x: x.sum(0), lambda j, x: x.sum(0)),
    op("sum-all", SQUARE, lambda t, x: x.sum(), lambda j, x: x.sum(), tolerance=0.01),
    op("sum-all-1e7", normal((10_000_000,)), lambda t, x: x.sum(), lambda j, x: x.sum(),
       tolerance=0.01),
    op("max-rows", SQUARE, lambda t, x: x.amax(1), lambda j, x: x.max(1)),
    op("max-columns", SQUARE, lambda t, x: x.amax(0), lambda j, x: x.max(0)),
    op("variance-rows", SQUARE, lambda t, x: x.var(1), lambda j, x: x.var(1, ddof=1)),
    op("variance-columns", SQUARE, lambda t, x: x.var(0), lambda j, x: x.var(0, ddof=1)),
    op("argmax-rows", SQUARE, lambda t, x: x.argmax(1), lambda j, x: x.argmax(1)),
    op("argmax-columns", SQUARE, lambda t, x: x.argmax(0), lambda j, x: x.argmax(0)),
    op("cumsum-rows", SQUARE, lambda t, x: x.cumsum(1), lambda j, x: x.cumsum(1)),
    op("cumsum-columns", SQUARE, lambda t, x: x.cumsum(0), lambda j, x: x.cumsum(0)),
    op(
        "sort-1e5", shuffled, lambda t, x: x.sort(),
        lambda j, x: (j.numpy.sort(x), j.numpy.argsort(x)), floor=HARD,
    ),
    op(
        "sort-rows", shuffled_rows, lambda t, x: x.sort(-1),
        lambda j, x: (j.numpy.sort(x), j.numpy.argsort(x)), floor=HARD,
    ),
    op("topk-rows", shuffled_rows, lambda t, x: x.topk(5), jax_topk, floor=HARD),
    op(
        "pairwise-distances", normal((512, 64), (512, 64)), lambda t, x, y: t.cdist(x, y),
        lambda j, x, y: j.numpy.sqrt(
            j.numpy.maximum((x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T, 0)
        ),
    ),
]  # fmt: skip
