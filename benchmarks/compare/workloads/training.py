"""Steps of training: forward, backward and update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..workload import Arrays, Training, Workload, filled
from . import language, vision

SYMBOLS = 65


def images(batch: int, shape: tuple[int, ...]) -> Callable[[], Arrays]:
    """Images and labels of ten classes."""

    def make() -> Arrays:
        random = np.random.default_rng(0)
        return random.standard_normal((batch, *shape), np.float32), random.integers(0, 10, batch)

    return make


def text(batch: int, length: int) -> Callable[[], Arrays]:
    """Symbols, and those one later."""

    def make() -> Arrays:
        symbols = np.random.default_rng(0).integers(0, SYMBOLS, (batch, length + 1))
        return np.ascontiguousarray(symbols[:, :-1]), np.ascontiguousarray(symbols[:, 1:])

    return make


def perceptron(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def small_cnn(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def sgd(torch: Any, parameters: Any) -> Any:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9)


def adam(torch: Any, parameters: Any) -> Any:
    return torch.optim.Adam(parameters, lr=1e-3)


def classified(
    build: Callable[[Any], Any], optimizer: Callable[..., Any]
) -> Callable[[Any], Training]:
    """`make` of a workload that trains by cross entropy over the last axis."""

    def make(torch: Any) -> Training:
        model = filled(torch, build(torch))

        def loss(model: Any, inputs: Any, labels: Any) -> Any:
            scores = model(inputs)
            rows = scores.reshape(-1, scores.shape[-1])
            return torch.nn.functional.cross_entropy(rows, labels.reshape(-1))

        return Training(model, optimizer(torch, model.parameters()), loss)

    return make


def jax_perceptron(jax: Any) -> Any:
    """(first state, step) of the perceptron by SGD with momentum."""
    jnp, random, weights = jax.numpy, np.random.default_rng(1), []
    for a, b in ((64, 128), (128, 128), (128, 10)):
        w = random.standard_normal((b, a), np.float32) / np.float32(np.sqrt(a))
        weights += [w, random.standard_normal(b, np.float32) * np.float32(0.1)]
    first = [jnp.asarray(w) for w in weights]

    def loss(w: Any, x: Any, labels: Any) -> Any:
        for layer in range(3):
            x = (jax.nn.relu(x) if layer else x) @ w[2 * layer].T + w[2 * layer + 1]
        return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], 1).mean()

    def step(state: Any, x: Any, labels: Any) -> Any:
        w, speed = state
        found, gradients = jax.value_and_grad(loss)(w, x, labels)
        speed = [0.9 * v + g for v, g in zip(speed, gradients)]
        return ([p - 0.01 * v for p, v in zip(w, speed)], speed), found

    return (first, [jnp.zeros_like(w) for w in first]), step


NETWORKS: dict[str, tuple[Callable[[], Arrays], Callable[[Any], Any]]] = {
    "mlp": (images(32, (64,)), perceptron),
    "small-cnn": (images(32, (1, 28, 28)), small_cnn),
    "resnet18-32x32": (
        images(16, (3, 32, 32)),
        lambda torch: vision.resnet(torch, (2, 2, 2, 2), False, classes=10, small=True),
    ),
    "nanogpt": (text(16, 64), language.gpt),
    "lstm-language": (text(16, 64), language.lstm_language),
}
UPDATES = {"sgd": sgd, "adam": adam}

WORKLOADS = [
    Workload(
        f"training/{name}-{update}", inputs, classified(build, optimizer), kind="training",
        jax=jax_perceptron if (name, update) == ("mlp", "sgd") else None, tolerance=0.005,
    )
    for name, (inputs, build) in NETWORKS.items()
    for update, optimizer in UPDATES.items()
]  # fmt: skip
