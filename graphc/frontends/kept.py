"""Entries whose weights stay the same from run to run: they are packed once, not in each run.

A network that is only evaluated runs the same entry with the same weights again and again. After a
few such runs the entry is compiled a second time, in two halves (`backends.base.build_split`): what
packs the weights, and what each run computes. The bits stay. A run with other weights takes the
first code again.

Whether weights are the same is a comparison of cells: what a cell holds does not change (memory
that numpy sees gets a new cell). The cells are not held here: when a weight goes, so does what was
packed.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, Any

from ..backends.base import Split, build_split
from ..backends.llvm.settings import settings
from ..ir.graph import Graph, Node, Value, symbols_of

if TYPE_CHECKING:
    from .record import Cell

log = logging.getLogger("graphc.weights")

#: Runs with the same weights, one after the other, from which on they are packed.
OFTEN = 4
#: Multiply-adds with weights that make it worth while.
LEAST_WORK = 1 << 22
_CONVOLUTIONS = frozenset(["conv", "conv_grad_input"])
_VIEWS = frozenset(["permute", "reshape", "cast", "detach"])


def weight_places(graph: Graph) -> list[int]:
    """The parameters that products and convolutions read as weights, and those of one axis that
    go with them; nothing where that is little work or sizes are symbols."""
    if symbols_of(graph):
        return []
    work, roots, data = 0, set(), set()
    for node in graph.nodes:
        if node.op.name in _CONVOLUTIONS or node.op.name == "dot":
            data.add(_root(node.inputs[0]))
            root = _root(node.inputs[1])
            if root is not None:
                roots.add(root)
                work += _multiplies(node)
    if work < LEAST_WORK:
        return []
    return [
        place
        for place, param in enumerate(graph.params)
        if (param in roots and param not in data) or len(getattr(param.type, "shape", (0, 0))) == 1
    ]


def _root(value: Value) -> Value | None:
    """The parameter that the value shows."""
    while value.node is not None and value.node.op.name in _VIEWS:
        value = value.node.inputs[0]
    return value if value.node is None else None


def _multiplies(node: Node) -> int:
    """Multiply-adds of a product or a convolution."""
    out, weight = node.outputs[0].type.shape, node.inputs[1].type.shape
    if node.op.name == "dot":
        terms = [weight[axis] for axis in node.attrs["contract"][1]]
    else:
        out = node.inputs[0].type.shape if node.op.name == "conv_grad_input" else out
        terms = weight[1:]
    count = 1
    for size in (*out, *terms):
        count *= size
    return count


@dataclass(frozen=True, slots=True)
class Bound:
    """Weights that are packed: their cells, the memory of the panels, and what `late` takes."""

    cells: list[weakref.ref[Cell]]
    memory: list[Any]
    operands: list[int]


class KeptWeights:
    """Watches the weights of an entry. `run` is called by one thread or several."""

    def __init__(self, graph: Graph, places: Sequence[int], exact: bool) -> None:
        self.graph, self.places, self.exact = graph, list(places), exact
        self.others = [k for k in range(len(graph.params)) if k not in set(places)]
        self._split: Split | None = None
        self._seen: list[int] = []  # ids of the cells of the last run: held by nobody here
        self._times = 0
        self._bound: Bound | None = None

    def run(self, operands: Sequence[Cell], outputs: Sequence[int]) -> bool:
        """Computes the outputs with packed weights; False where they are not packed."""
        cells = [operands[k] for k in self.places]
        bound = self._bound
        if bound is None or not all(map(is_, cells, [ref() for ref in bound.cells])):
            bound = self._watched(cells)
            if bound is None:
                return False
        given = [operands[k].buffer.address for k in self.others]
        assert self._split is not None
        self._split.late.run(given + bound.operands, outputs)
        return True

    def _watched(self, cells: list[Cell]) -> Bound | None:
        """Counts runs with the same weights; packs them when they have come often."""
        self._bound = None  # what was packed is given back
        seen = [id(cell) for cell in cells]
        if seen != self._seen:
            self._seen, self._times = seen, 1
            return None
        self._times += 1
        if self._times < OFTEN:
            return None
        if self._split is None:
            log.info("%d weights stay the same: they are packed ahead from now on", len(cells))
            winograd = settings.winograd and not self.exact
            self._split = build_split(self.graph, self.places, exact=self.exact, winograd=winograd)
        memory, operands = self._split.pack([cell.buffer.address for cell in cells])
        refs = [weakref.ref(cell, self._release) for cell in cells]
        self._bound = bound = Bound(refs, memory, operands)
        return bound

    def _release(self, _cell: Any) -> None:
        """A weight is gone: what was packed is of no use."""
        self._bound = None
