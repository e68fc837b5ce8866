"""What frontends know of a backend: a graph in, an `Executable` out.

An executable's `run(inputs, outputs, sizes)` takes addresses of contiguous row-major memory.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ..ir.dims import Facts
from ..ir.graph import Graph
from ..ir.interpret import evaluate


class Executable(Protocol):
    """A compiled graph. Re-entrant: several threads may run one at the same time."""

    def run(
        self, inputs: Sequence[int], outputs: Sequence[int], sizes: Sequence[int] = ()
    ) -> None: ...


class ReferenceExecutable:
    """Runs a graph on the reference interpreter: for tests and numeric verification."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: Sequence[int], outputs: Sequence[int], sizes: Sequence[int] = ()) -> None:
        arrays = [
            view(address, p.type.dtype.numpy, p.type.shape)
            for address, p in zip(inputs, self.graph.params, strict=True)
        ]
        results = evaluate(self.graph, *arrays)
        for address, value, array in zip(outputs, self.graph.results, results, strict=True):
            view(address, value.type.dtype.numpy, value.type.shape)[...] = array


def view(address: int, dtype: np.dtype, shape: tuple) -> np.ndarray:
    """The memory at an address as an array; it does not own the memory."""
    count = 1
    for n in shape:
        count *= n
    if not count:
        return np.empty(shape, dtype)
    raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype, count).reshape(shape)


def compile_graph(
    graph: Graph, name: str = "graph", dims: Mapping[str, Facts] | None = None
) -> Executable:
    """Compiles for the CPU, or for the reference interpreter where `settings.backend` says so."""
    if settings.backend == "reference":
        return ReferenceExecutable(graph)
    from .llvm.compile import compile_graph as compile_for_cpu

    return compile_for_cpu(graph, name=name, dims=dims)


class Settings:
    """backend: "llvm", or "reference" for the numpy interpreter (tests only)."""

    __slots__ = ("backend",)

    def __init__(self) -> None:
        self.backend = os.environ.get("GRAPHC_BACKEND", "llvm")


settings = Settings()
