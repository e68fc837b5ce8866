"""Code for each combination of sizes, where an op has no code for symbolic ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from ..backends.base import Executable
from ..ir.build import Builder
from ..ir.graph import Graph
from . import symbolic

log = logging.getLogger("graphc.sizes")


class BySize:
    """Runs a graph with symbolic dims by graphs without them, compiled when sizes first come.

    symbols: the names of the sizes that `run` is given. build: compiles one graph.
    """

    def __init__(
        self, graph: Graph, symbols: Sequence[str], build: Callable[[Graph], Executable]
    ) -> None:
        self.graph, self.symbols, self.build = graph, tuple(symbols), build
        self.made: dict[tuple[int, ...], Executable] = {}

    def run(self, inputs: Sequence[int], outputs: Sequence[int], sizes: Sequence[int] = ()) -> None:
        """As Executable.run: contiguous tensors by address."""
        key = tuple(sizes)
        found = self.made.get(key)
        if found is None:
            found = self.made[key] = self.build(self._at(key))
            sizes_text = ", ".join([f"{n} = {v}" for n, v in zip(self.symbols, key, strict=True)])
            log.info("compiled for %s alone: an op has no code for symbolic sizes", sizes_text)
        found.run(inputs, outputs, ())

    def _at(self, sizes: tuple[int, ...]) -> Graph:
        return at_sizes(self.graph, dict(zip(self.symbols, sizes, strict=True)))


def at_sizes(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """The graph with numbers in place of its symbols."""
    with Builder() as builder:
        params = [
            builder.param(symbolic.concrete_type(p.type, sizes), p.name) for p in graph.params
        ]
        return builder.graph(symbolic.replay(graph, params))
