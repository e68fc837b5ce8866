"""What a workload is: a program of torch, its inputs, and what is expected of it."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Groups in the order of the report, each a module of `workloads`.
GROUPS = ("inference", "trained", "training", "micro", "scripts")
#: Where graphc should be against the best peer: each workload at least, and the group's mean.
FLOORS = {"inference": 0.9, "trained": 0.9, "training": 0.9, "micro": 0.8, "scripts": 0.8}
GOALS = {"inference": 1.25, "trained": 1.25, "training": 1.3, "micro": 1.3, "scripts": 1.2}

Arrays = tuple[np.ndarray, ...]


class NotThere(Exception):
    """A contender has no version of a workload, or it needs what is not there; why."""


@dataclass(frozen=True)
class Training:
    """Steps of training: `loss(*batch)` forward, then backward and an update by `optimizer`."""

    model: Any
    optimizer: Any
    loss: Callable[..., Any]  # loss(model, *batch)


@dataclass(frozen=True)
class Workload:
    """One program, whoever runs it.

    name       "group/name"
    inputs     the arrays that it is given, the same ones for each contender
    make       make(torch) gives function(*tensors) or an nn.Module: what is timed. For training
               it gives a `Training`.
    jax        jax(jax) gives function(*arrays), where the workload was written for it
    kind       "forward" (no gradients), "gradient" (the function calls autograd), "training",
               or "onnx" (`make` is not used; `file` gives the path of a model)
    floor      the least ratio of the best peer's time to graphc's; None for the group's
    tolerance  the largest difference allowed, as a part of the largest magnitude
    absent     contender -> why it does not run this
    statistics whether only mean and standard deviation are compared, as for random numbers
    """

    name: str
    inputs: Callable[[], Arrays]
    make: Callable[[Any], Any] = lambda torch: None
    jax: Callable[[Any], Callable[..., Any]] | None = None
    kind: str = "forward"
    floor: float | None = None
    tolerance: float = 1e-3
    absent: dict[str, str] = field(default_factory=dict)
    statistics: bool = False
    file: Callable[[], str] | None = None

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]

    def examples(self) -> Arrays:
        """Inputs for tracing: other numbers, so that a trace that keeps them is found wrong."""
        numbers = [
            a * (a * a.dtype.type(0.1) + a.dtype.type(0.5)) if a.dtype.kind == "f" else a
            for a in self.inputs()
        ]  # a positive definite matrix stays one
        return tuple(numbers)

    @property
    def least(self) -> float:
        """The floor of its ratio."""
        return FLOORS.get(self.group, 0.0) if self.floor is None else self.floor


def module_of(group: str) -> str:
    """The module with the workloads of a group."""
    return f"{__package__}.workloads.{group}"


def workloads_in(module: str) -> dict[str, Workload]:
    """The workloads of a module by name: its list WORKLOADS."""
    return {w.name: w for w in importlib.import_module(module).WORKLOADS}


def chosen(patterns: Sequence[str], modules: Sequence[str]) -> list[tuple[str, Workload]]:
    """(module, workload) for each that a pattern names: a group, a name, its last part, a glob.

    ValueError for a pattern that fits nothing.
    """
    every = [(module, w) for module in modules for w in workloads_in(module).values()]
    if not patterns:
        return every
    found: list[tuple[str, Workload]] = []
    for pattern in patterns:
        fits = [pair for pair in every if matches(pair[1].name, pattern)]
        if not fits:
            raise ValueError(f"no workload fits {pattern!r}")
        found += [pair for pair in fits if pair not in found]
    return found


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern names a workload."""
    group, _, last = name.partition("/")
    return pattern in (group, last) or fnmatch.fnmatch(name, pattern)


def normal(*shapes: Sequence[int], seed: int = 0) -> Callable[[], Arrays]:
    """Inputs of standard normal float32 numbers."""

    def make() -> Arrays:
        random = np.random.default_rng(seed)
        return tuple([random.standard_normal(shape, np.float32) for shape in shapes])

    return make


def filled(torch: Any, model: Any) -> Any:
    """A module whose parameters are the same numbers for every library, from numpy.

    Matrices and kernels are scaled by their fan in, vectors are near 1 (weights) or 0 (biases).
    """
    random = np.random.default_rng(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            array = random.standard_normal(shape, np.float32)
            if len(shape) > 1:
                array /= np.float32(np.sqrt(np.prod(shape[1:])))
            else:
                array = array * np.float32(0.1) + np.float32(not name.endswith("bias"))
            parameter.copy_(torch.tensor(array))
    return model


def frozen(torch: Any, model: Any) -> Any:
    """A filled module for inference: evaluation mode, no gradients."""
    return filled(torch, model).eval().requires_grad_(False)
