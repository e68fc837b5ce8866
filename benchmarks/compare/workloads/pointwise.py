"""Elementwise chains at three sizes, losses, and random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..workload import Arrays, normal
from .op import op

CHAINS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "multiply-add-relu": (
        lambda t, x, y: (x * y + x).relu(),
        lambda j, x, y: j.nn.relu(x * y + x),
    ),
    "gelu": (
        lambda t, x, y: t.nn.functional.gelu(x + y) * y,
        lambda j, x, y: j.nn.gelu(x + y, approximate=False) * y,
    ),
    "gate": (
        lambda t, x, y: x.sigmoid() * y.tanh() + x,
        lambda j, x, y: j.nn.sigmoid(x) * j.numpy.tanh(y) + x,
    ),
    "log-exp": (
        lambda t, x, y: (x.exp() + 1).log() * y,
        lambda j, x, y: j.numpy.log(j.numpy.exp(x) + 1) * y,
    ),
    "sine": (
        lambda t, x, y: x.sin() * y.cos() + (x * x + 1).sqrt(),
        lambda j, x, y: j.numpy.sin(x) * j.numpy.cos(y) + j.numpy.sqrt(x * x + 1),
    ),
}
SIZES = {"1e3": 1000, "1e5": 100_000, "1e7": 10_000_000}


def logits() -> Arrays:
    """Logits for 1,000 classes and labels."""
    random = np.random.default_rng(0)
    return random.standard_normal((256, 1000), np.float32), random.integers(0, 1000, 256)


def probabilities() -> Arrays:
    random = np.random.default_rng(0)
    return random.standard_normal(100_000, np.float32), random.random(100_000, np.float32)


def seed() -> Arrays:
    return (np.array(5),)


def jax_cross_entropy(j: Any, x: Any, labels: Any) -> Any:
    rows = j.nn.log_softmax(x)
    return -j.numpy.take_along_axis(rows, labels[:, None], 1).mean()


def jax_binary(j: Any, x: Any, p: Any) -> Any:
    return (j.numpy.maximum(x, 0) - x * p + j.numpy.log1p(j.numpy.exp(-abs(x)))).mean()


KEPT = "a trace keeps the numbers that were drawn"
DRAWN = dict.fromkeys(("graphc.jit", "onnxruntime", "openvino", "tinygrad"), KEPT)

WORKLOADS = [
    *[
        op(f"{name}-{size}", normal((n,), (n,)), torch, jax)
        for name, (torch, jax) in CHAINS.items()
        for size, n in SIZES.items()
    ],
    op(
        "cross-entropy", logits,
        lambda t, x, labels: t.nn.functional.cross_entropy(x, labels), jax_cross_entropy,
    ),
    op(
        "cross-entropy-gradient", logits,
        lambda t, x, labels: t.autograd.grad(t.nn.functional.cross_entropy(x, labels), x)[0],
        lambda j, x, labels: j.grad(lambda x: jax_cross_entropy(j, x, labels))(x),
        kind="gradient",
    ),
    op(
        "binary-cross-entropy", probabilities,
        lambda t, x, p: t.nn.functional.binary_cross_entropy_with_logits(x, p), jax_binary,
    ),
    op(
        "mse-loss", normal((1_000_000,), (1_000_000,)),
        lambda t, x, y: t.nn.functional.mse_loss(x, y),
        lambda j, x, y: ((x - y) ** 2).mean(),
    ),
    op(
        "huber-loss", normal((100_000,), (100_000,)),
        lambda t, x, y: t.nn.functional.huber_loss(x, y),
        lambda j, x, y: j.numpy.where(
            abs(x - y) < 1, 0.5 * (x - y) ** 2, abs(x - y) - 0.5
        ).mean(),
    ),
    op(
        "where-clamp", normal((100_000,), (100_000,)),
        lambda t, x, y: t.where(x > y, x, y * 2).clamp(-1, 1),
        lambda j, x, y: j.numpy.where(x > y, x, y * 2).clip(-1, 1),
    ),
    op(
        "randn-1e6", seed, lambda t, s: t.randn(1_000_000),
        lambda j, s: j.random.normal(j.random.PRNGKey(s), (1_000_000,)),
        statistics=True, absent=DRAWN, tolerance=0.01,
    ),
    op(
        "rand-1e6", seed, lambda t, s: t.rand(1_000_000),
        lambda j, s: j.random.uniform(j.random.PRNGKey(s), (1_000_000,)),
        statistics=True, absent=DRAWN, tolerance=0.01,
    ),
    op(
        "randint-1e5", seed, lambda t, s: t.randint(0, 1000, (100_000,)),
        lambda j, s: j.random.randint(j.random.PRNGKey(s), (100_000,), 0, 1000),
        statistics=True, absent=DRAWN, tolerance=0.02,
    ),
]  # fmt: skip
