"""Large updates in parts, so that old and new values of all parameters are not in memory together.

An optimizer's step replaces weights and moments: its graph falls into pieces that share numbers
only, one a parameter. Run as one, it would allocate all new values while all old ones are held. Run
in parts, each gives back what it replaced, and the next part's results go there; where a kernel
reads an old value at the place of the new one only, and nobody else has the old one, the new one is
written over it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..backends.base import Executable
from ..backends.llvm.memory import Buffer, heap
from ..ir.build import dead_code
from ..ir.graph import Graph, Node, Value, effects_in
from ..ir.types import TensorType

if TYPE_CHECKING:
    from .record import Cell

#: Bytes of results from which a graph is run in parts, and the least of a part.
LEAST_BYTES = 64 << 20
PART_BYTES = 4 << 20
MOST_PARTS = 48
#: Elements of a parameter that pieces may share, as they share a learning rate.
SHARED_ELEMENTS = 1024


@dataclass(frozen=True, slots=True)
class Part:
    """Some results of a graph, computed by themselves.

    results: their places among the graph's; params: the places of the parameters that they need;
    last: those of them that no later part reads; sizes: bytes of the results.
    """

    results: Sequence[int]
    params: Sequence[int]
    last: Sequence[int]
    sizes: Sequence[int]
    executable: Executable

    @property
    def given(self) -> list[tuple[int, int]]:
        """(result, parameter), places in the part, where the result may overwrite the parameter."""
        last = set(self.last)
        return [(k, p) for k, p in self.executable.given if self.params[p] in last]

    def run(self, operands: Sequence[Buffer]) -> list[Buffer]:
        """New buffers with the results, from those of the parameters."""
        made = [heap.alloc(size) for size in self.sizes]
        self.executable.run(
            [buffer.address for buffer in operands], [buffer.address for buffer in made]
        )
        return made

    def run_over(
        self, operands: Sequence[Buffer], made: Sequence[Buffer], written: list[object]
    ) -> None:
        """Computes into these buffers, some being operands: see `Executable.run_over`."""
        self.executable.run_over(
            [buffer.address for buffer in operands], [buffer.address for buffer in made], written
        )


def parts_of(
    graph: Graph, sizes: Sequence[int], build: Callable[[Graph], Executable]
) -> list[Part]:
    """The parts of a graph of static sizes; none where it is better run as one.

    sizes: bytes of its results. build: compiles one graph.
    """
    if sum(sizes) < LEAST_BYTES or effects_in([graph]):
        return []
    pieces = _pieces(graph)
    place, count = _packed(graph, pieces, sizes)
    if count < 2:
        return []
    results: list[list[int]] = [[] for _ in range(count)]
    for k, value in enumerate(graph.results):
        results[place[pieces.get(value, -1)]].append(k)
    graphs = _graphs(graph, pieces, place, results)
    known = {param: k for k, param in enumerate(graph.params)}
    params = [[known[param] for param in part.params] for part in graphs]
    found: list[Part] = []
    later: set[int] = set()
    for k in reversed(range(len(graphs))):
        last = [place for place in params[k] if place not in later]
        later.update(params[k])
        given = [sizes[i] for i in results[k]]
        found.append(Part(results[k], params[k], last, given, build(graphs[k])))
    return found[::-1]


def refresh_leaf(cell: Cell) -> None:
    """Lets a leaf go from the cell of the value that it had, to that of the one it was given.

    It would do so when it is next read, and hold the old value until then.
    """
    leaf = cell.owner() if cell.owner is not None else None
    if leaf is None or leaf._cell is not cell:
        return
    storage = leaf._storage
    if storage.export is None and storage.cell.buffer is not None:
        leaf._read()


def is_alone(cells: Sequence[Any], slot: int) -> bool:
    """Whether nobody but the tape, and a leaf that was written since, has a parameter's value."""
    cell = cells[slot]
    leaf = cell.owner() if cell.owner is not None else None
    held = 3  # by the tape, by this name and by the call below
    if leaf is not None:
        storage = leaf._storage
        if storage.export is not None or leaf._chain or leaf._seen == storage.version:
            return False
        held += (leaf._cell is cell) + (storage.leaf_cell is cell)
    del leaf
    return sys.getrefcount(cell) == held and sys.getrefcount(cell.buffer) == 2


def _packed(
    graph: Graph, pieces: dict[Value, int], sizes: Sequence[int]
) -> tuple[dict[int, int], int]:
    """The part of each piece, and how many parts there are: each has some bytes of results."""
    nbytes: dict[int, int] = {}
    for value, size in zip(graph.results, sizes, strict=True):
        piece = pieces.get(value, -1)
        nbytes[piece] = nbytes.get(piece, 0) + size
    limit = max(PART_BYTES, sum(sizes) // MOST_PARTS)
    place, part, filled = {}, 0, 0
    for piece, size in nbytes.items():
        if filled and filled + size > limit:
            part, filled = part + 1, 0
        place[piece] = part
        filled += size
    return place, part + 1


def _pieces(graph: Graph) -> dict[Value, int]:
    """The piece that a value belongs to: values that depend on one large parameter are in one.

    What depends on no large parameter belongs to none, and each part computes it for itself; if
    that is much work it is a piece of its own.
    """
    parent: list[int] = []

    def root(piece: int) -> int:
        while parent[piece] != piece:
            parent[piece] = piece = parent[parent[piece]]
        return piece

    pieces: dict[Value, int] = {}

    def begin(values: Sequence[Value]) -> None:
        pieces.update(dict.fromkeys(values, len(parent)))
        parent.append(len(parent))

    for param in graph.params:
        if _elements(param) > SHARED_ELEMENTS:
            begin([param])
    for node in graph.nodes:
        joined = {root(pieces[value]) for value in node.inputs if value in pieces}
        if joined:
            first = min(joined)
            for piece in joined:
                parent[piece] = first
            pieces.update(dict.fromkeys(node.outputs, first))
        elif node.blocks or (node.op.dear and _elements(node.outputs[0]) > SHARED_ELEMENTS):
            begin(node.outputs)
    return {value: root(piece) for value, piece in pieces.items()}


def _elements(value: Value) -> int:
    assert isinstance(value.type, TensorType) and value.type.is_static
    return math.prod([d for d in value.type.shape if isinstance(d, int)])


def _graphs(
    graph: Graph, pieces: dict[Value, int], place: dict[int, int], results: Sequence[Sequence[int]]
) -> list[Graph]:
    """The graph of each part, with the parameters that it reads."""
    nodes: list[list[Node]] = [[] for _ in results]
    for node in graph.nodes:
        piece = pieces.get(node.outputs[0])
        if piece is None:
            for part in nodes:
                part.append(node)
        elif piece in place:
            nodes[place[piece]].append(node)
    made = []
    for part, wanted in zip(nodes, results, strict=True):
        whole = dead_code(Graph(graph.params, part, [graph.results[k] for k in wanted]))
        used = {value for node in whole.nodes for value in node.inputs}.union(whole.results)
        params = [param for param in whole.params if param in used]
        made.append(Graph(params, whole.nodes, whole.results))
    return made
