"""Whole networks, forward only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..workload import Arrays, Workload, frozen, normal
from . import language, vision


def perceptron(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def jax_perceptron(jax: Any) -> Callable[..., Any]:
    """The same with the same weights, which `filled` draws in this order."""
    random = np.random.default_rng(1)
    weights = []
    for a, b in ((784, 512), (512, 256), (256, 10)):
        w = random.standard_normal((b, a), np.float32) / np.float32(np.sqrt(a))
        weights.append((w, random.standard_normal(b, np.float32) * np.float32(0.1)))

    def run(x: Any) -> Any:
        for number, (w, b) in enumerate(weights):
            x = (jax.nn.relu(x) if number else x) @ w.T + b
        return x

    return run


def network(name: str, shape: tuple[int, ...], build: Callable[[Any], Any], **options: Any) -> Any:
    return Workload(
        f"inference/{name}", normal(shape), lambda torch: frozen(torch, build(torch)), **options
    )


def llama_inputs(batch: int) -> Callable[[], Arrays]:
    """Vectors of tokens, their pasts of 255 tokens, and the rotation of the next one."""
    caches = normal((batch, 1, 512), (4, batch, 8, 255, 64), (4, batch, 8, 255, 64))

    def make() -> Arrays:
        angles = 255 * 10_000 ** (-np.arange(32) / 32)
        return (*caches(), np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32))

    return make


BOTH: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "lenet": ((1, 28, 28), vision.lenet),
    "resnet18": ((3, 224, 224), lambda torch: vision.resnet(torch, (2, 2, 2, 2), False)),
    "resnet50": ((3, 224, 224), lambda torch: vision.resnet(torch, (3, 4, 6, 3), True)),
    "resnext-blocks": (
        (3, 224, 224),
        lambda torch: vision.resnet(torch, (1, 1, 1, 1), True, groups=32),
    ),
    "mobilenet-v2": ((3, 224, 224), vision.mobilenet_v2),
    "vit": ((3, 224, 224), language.vit),
    "unet": ((3, 128, 128), vision.unet),
    "conv-vae": ((3, 64, 64), vision.conv_vae),
    "bert-layer": ((128, 768), language.bert_layer),
    "lstm": ((64, 128), language.lstm_classifier),
}

WORKLOADS = [
    *[network(f"mlp-{n}", (n, 784), perceptron, jax=jax_perceptron) for n in (1, 16)],
    *[
        network(f"{name}-{batch}", (batch, *shape), build)
        for name, (shape, build) in BOTH.items()
        for batch in (1, 16)
    ],
    *[
        Workload(
            f"inference/gpt-{length}-{batch}", normal((batch, length, 384)),
            lambda torch: frozen(torch, language.blocks(torch, 384, 6, 6)),
        )
        for length in (128, 512)
        for batch in (1, 16)
    ],
    *[
        Workload(
            f"inference/llama-step-{batch}", llama_inputs(batch),
            lambda torch: frozen(torch, language.llama_step(torch)),
        )
        for batch in (1, 16)
    ],
]  # fmt: skip
