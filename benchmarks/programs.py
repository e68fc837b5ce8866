"""The programs that are timed: functions of the module that they know as torch.

Each takes `torch`, graphc or PyTorch itself, and returns a function without arguments that does one
round of the work.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
Round = Callable[[], object]


def adds(torch: Any) -> Round:
    """1,000 additions of 16 floats, then a look at the result."""
    x, step = torch.zeros(16), torch.full((16,), 0.5)

    def run() -> object:
        y = x
        for _ in range(1000):
            y = y + step
        return y.tolist()

    return run


def traced_calls(torch: Any, calls: int = 10_000) -> Round:
    """Calls of a traced function of five arrays of 16 floats; a call's result is not kept."""
    a, b, c, d, e = [torch.ones(16) for _ in range(5)]
    call = torch.jit.trace(lambda a, b, c, d, e: a + b * c - d * e, (a, b, c, d, e))

    def run() -> object:
        for _ in range(calls):
            made = call(a, b, c, d, e)
        return made.tolist()

    return run


def runge_kutta(torch: Any) -> Round:
    """300 steps of RK4: sixteen damped pendulums."""
    angle, speed, h = torch.linspace(-1.0, 1.0, 16), torch.zeros(16), 0.01

    def slope(x: Any, v: Any) -> tuple[Any, Any]:
        return v, -(x.sin() + v * 0.1)

    def run() -> object:
        x, v = angle, speed
        for _ in range(300):
            a1, b1 = slope(x, v)
            a2, b2 = slope(x + a1 * (h / 2), v + b1 * (h / 2))
            a3, b3 = slope(x + a2 * (h / 2), v + b2 * (h / 2))
            a4, b4 = slope(x + a3 * h, v + b3 * h)
            x = x + (a1 + a2 * 2.0 + a3 * 2.0 + a4) * (h / 6)
            v = v + (b1 + b2 * 2.0 + b3 * 2.0 + b4) * (h / 6)
        return x.tolist(), v.tolist()

    return run


def perceptron(
    torch: Any, look: str = "never", steps: int = 20, after_numpy: bool = False
) -> Round:
    """Training steps of a three-layer perceptron, 64-128-128-10, at batch 32.

    look: "never", or "before" or "after" backward, by loss.item().
    """
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    if after_numpy:
        model[0].weight.detach().numpy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    images, labels = torch.randn(32, 64), torch.randint(0, 10, (32,))
    step = training_step(torch, model, optimizer, look)

    def run() -> None:
        for _ in range(steps):
            step(images, labels)

    return run


def training_step(torch: Any, model: Any, optimizer: Any, look: str) -> Callable[[Any, Any], None]:
    """One step by cross entropy; `look` as in `perceptron`."""

    def step(images: Any, labels: Any) -> None:
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        if look == "before":
            loss.item()
        optimizer.zero_grad()
        loss.backward()
        if look == "after":
            loss.item()
        optimizer.step()

    return step


def epoch_of_slices(torch: Any, shared: bool) -> Round:
    """An epoch over slices of one array: of a numpy array's own memory (`shared`), or of a copy."""
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    array = np.random.default_rng(0).standard_normal((1440, 64), dtype=np.float32)
    images = torch.from_numpy(array) if shared else torch.tensor(array)
    labels = torch.randint(0, 10, (1440,))
    step = training_step(torch, model, optimizer, "never")

    def run() -> object:
        for start in range(0, 1440, 32):
            step(images[start : start + 32], labels[start : start + 32])
        return array  # its memory stays visible

    return run


def lengths(torch: Any, steps: int = 200) -> Round:
    """Training steps of attention over sequences, with 100 distinct lengths."""
    nn = torch.nn
    torch.manual_seed(0)
    body, head = nn.Linear(32, 96), nn.Linear(32, 10)
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.05)
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(20, 120), steps // 100))
    batches = [(torch.randn(8, int(n), 32), torch.randint(0, 10, (8,))) for n in order]

    def run() -> None:
        for x, labels in batches:
            q, k, v = body(x).chunk(3, -1)
            mixed = (q @ k.transpose(1, 2) * 0.2).softmax(-1) @ v
            loss = nn.functional.cross_entropy(head(mixed.mean(1)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def masked_means(torch: Any) -> Round:
    """x[mask].mean() for 100 masks, each with another number of elements."""
    random = np.random.default_rng(0)
    x, shares = torch.tensor(random.standard_normal(4096, np.float32)), random.random(4096)
    masks = [torch.tensor(shares < 0.2 + 0.006 * i) for i in range(100)]

    def run() -> list[float]:
        return [x[mask].mean().item() for mask in masks]

    return run


def example(torch: Any, name: str) -> types.ModuleType:
    """examples/`name`.py, written for graphc, as a program of `torch`."""
    path = EXAMPLES / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    if torch.__name__ != "graphc":
        for ours in ("import graphc as torch\n", "from graphc import nn\n"):
            if ours not in source:
                raise ValueError(f"{path} has no line {ours!r}")
        source = source.replace("import graphc as torch\n", f"import {torch.__name__} as torch\n")
        source = source.replace("from graphc import nn\n", f"from {torch.__name__} import nn\n")
    module = types.ModuleType(f"{name}_of_{torch.__name__}")
    module.__file__ = str(path)
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def digits_epoch(torch: Any) -> Round:
    """An epoch of the digits network at batch 32, eager, its loss looked at in each step."""
    digits = example(torch, "digits")
    training, _ = digits.read_digits()
    return lambda: digits.train(*training, epochs=1)


def gpt_steps(torch: Any, look: str = "example", steps: int = 3) -> Round:
    """Steps of the character-level GPT at batch 64, clipping and AdamW included.

    look: "example" is as the example does it; "before" and "after" backward as in `perceptron`.
    """
    gpt = example(torch, "gpt")
    if look == "example":
        return lambda: gpt.train(steps=steps)
    torch.manual_seed(0)
    _, symbols = gpt.read_text()
    model = gpt.GPT(len(symbols))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95))
    inputs = torch.randint(0, len(symbols), (64, 32))
    targets = torch.randint(0, len(symbols), (64, 32))

    def run() -> None:
        for _ in range(steps):
            logits = model(inputs)
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            if look == "before":
                loss.item()
            optimizer.zero_grad()
            loss.backward()
            if look == "after":
                loss.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return run
