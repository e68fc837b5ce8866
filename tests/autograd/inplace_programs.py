"""Random programs of operations, views and in-place writes under autograd, for two libraries."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

UNARY = ("exp", "tanh", "sin", "relu", "sigmoid", "abs", "neg")
IN_PLACE = ("tanh_", "sin_", "relu_", "sigmoid_", "neg_", "exp_")


def program(seed: int, library: Any) -> tuple[str, Any]:
    """("error", its kind) or ("gradients", the arrays) of one random program."""
    rng = random.Random(seed)
    numbers = np.random.default_rng(seed)
    leaves = [
        library.tensor(numbers.uniform(0.2, 1, (3, 4)).astype(np.float32), requires_grad=True)
        for _ in range(2)
    ]
    plain = library.tensor(numbers.uniform(0.2, 1, (3, 4)).astype(np.float32))
    pool = [leaves[0] * 1.5, leaves[1] + 0.5, leaves[0], plain]
    try:
        for _ in range(rng.randrange(3, 9)):
            step(rng, library, pool)
        sum(((t * t).sum() for t in pool[-3:] if t.requires_grad), leaves[0].sum()).backward()
    except RuntimeError as error:
        return "error", "modified" if "modified by an inplace" in str(error) else "other"
    return "gradients", [None if t.grad is None else np.array(t.grad.tolist()) for t in leaves]


def step(rng: random.Random, library: Any, pool: list) -> None:
    """One operation on tensors of the pool; those of whole shape are chosen for writes."""
    i, j = rng.randrange(len(pool)), rng.randrange(len(pool))
    x, y = pool[i], pool[j]
    kind = rng.randrange(8)
    if kind == 0:
        pool.append(getattr(x, rng.choice(UNARY))())
    elif kind == 1:
        pool.append(x * y if rng.random() < 0.7 else x / (y * y + 1))
    elif kind == 2:
        pool.append(x + y * 0.5)
    elif kind == 3:
        pool.append((x @ y.t()) @ y * 0.1)
    elif kind == 4 and i not in (2,):
        row = rng.randrange(3)
        x[row].add_(1) if rng.random() < 0.5 else x[row : row + 1].mul_(0.5)
    elif kind == 5 and i not in (2,):
        getattr(x, rng.choice(IN_PLACE))()
    elif kind == 6 and i not in (2,):
        x.mul_(y.detach().clone() if rng.random() < 0.5 else 0.75)
    elif kind == 7:
        x.sum().item()
