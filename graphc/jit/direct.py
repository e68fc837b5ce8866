"""Calls of a graph on computed tensors without recording them: one native call.

A traced module is usually called with values that are there, and its results are looked at. Then
there is nothing to fuse it with, and recording it, and compiling the recording, would only cost
time. Where a call differs from that it is recorded (`tracing.call_graph`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from graphc.backends.base import Split, build_split
from graphc.backends.llvm.memory import heap
from graphc.backends.llvm.settings import settings
from graphc.frontends.predict import use_native_steps
from graphc.frontends.record import Cell, InferenceCell, recorder
from graphc.ir.graph import Graph, symbols_of
from graphc.tensor import Tensor, wrap

if TYPE_CHECKING:
    from graphc.jit.native_call import Description


class Weights:
    """Where the weights lie, and what is packed of them; one object, since several threads may
    call."""

    def __init__(self, tensors: Sequence[Tensor], cells: list[Cell]) -> None:
        self.cells = cells  # they keep the memory
        self.addresses = [cell.buffer.address for cell in cells]
        self.require_grad = any([cell.requires_grad for cell in cells])
        self.versions = [(t._storage, t._storage.version) for t in tensors]
        self._packed: dict[Split, tuple[list[Any], list[int]]] = {}

    def operands(self, split: Split) -> list[int]:
        """What `split.late` takes after the arguments; packed on the first call."""
        found = self._packed.get(split)
        if found is None:
            found = self._packed[split] = split.pack(self.addresses)
        return found[1]

    def are_current(self) -> bool:
        """Whether nobody has written to them since, and numpy does not see them."""
        for storage, version in self.versions:
            if storage.version != version or storage.export is not None:
                return False
        return True


class DirectCalls:
    """Runs one graph of static sizes on the CPU. `weights` follow the arguments."""

    traced: Any = None  # the class of traced modules, which calls in compiled code too

    def __init__(self, graph: Graph, weights: Sequence[Tensor], single: bool = False) -> None:
        """single: `native_call` gives the one result itself."""
        self.single = single
        self.graph, self.weights = graph, list(weights)
        types = [value.type for value in (*graph.params, *graph.results)]
        self.possible = not symbols_of(graph) and all([t.device == "cpu" for t in types])
        self.types = [param.type for param in graph.params]
        self.results = [
            (v.type, v.type.dtype.itemsize * _count(v.type.shape)) for v in graph.results
        ] if self.possible else []  # fmt: skip
        self._bound: Weights | None = None
        self._splits: dict[tuple[bool, bool], Split] = {}
        self.call: Any = None  # the builtin of `native_call`
        self.description: Description | None = None  # for `call`, after a call in Python
        self._described: Any = None  # what `description` is of

    def run(self, args: Sequence[Any]) -> list[Tensor] | None:
        """The results, computed; None where the call is to be recorded."""
        rec = recorder()
        if self.description is not None:
            found = self.call(self.description, rec, *args)
            if found is not None:
                return [found] if self.single else found
        if not self.possible or not rec.eager or rec.outer is not None or rec.options.verify:
            return None
        modes = rec.modes
        records = modes.grad and not modes.inference
        addresses, cells = [], []
        for tensor, type in zip(args, self.types):
            cell = computed(tensor)
            if cell is None or cell.type is not type or (records and cell.requires_grad):
                return None
            cells.append(cell)  # they stay alive during the call
            addresses.append(cell.buffer.address)
        weights = self._bound
        if weights is None or not weights.are_current():
            weights = self._bound = self._bind()
        if weights is None or (records and weights.require_grad):
            return None
        key = rec.options.exact, settings.winograd
        split = self._splits.get(key)
        if split is None:
            split = self._splits[key] = self._build(rec.options.exact)
        make = InferenceCell if modes.inference else Cell
        made, outputs = [], []
        for type, nbytes in self.results:
            buffer = heap.alloc(nbytes)
            outputs.append(buffer.address)
            made.append(wrap(make(type, buffer)))
        split.late.run([*addresses, *weights.operands(split)], outputs)
        self._describe(split, weights, *key)
        return made

    def _describe(self, split: Split, weights: Weights, exact: bool, winograd: bool) -> None:
        """The next calls need no Python, as long as weights and settings stay."""
        threads = settings.num_threads
        known = split, weights, id(threads)  # by identity, as compiled code compares it
        if self._described == known:
            return
        self._described = known
        use_native_steps()  # (this says so if the interpreter does not permit it)
        from .native_call import Description, is_possible, native_call  # (there is code now)

        types = self.types[: len(self.types) - len(self.weights)]
        operands = weights.operands(split)
        if is_possible(split.late, len(types) + len(operands), len(self.results)):
            self.call = native_call(self.traced)
            self.description = Description(
                split.late, types, self.results, operands, weights.versions, exact=exact,
                winograd=winograd, num_threads=threads, single=self.single, keeps=weights,
                weights_require_grad=weights.require_grad,
            )  # fmt: skip

    def _build(self, exact: bool) -> Split:
        places = range(len(self.types) - len(self.weights), len(self.types))
        return build_split(self.graph, places, exact=exact, winograd=settings.winograd)

    def _bind(self) -> Weights | None:
        """Looks the weights up; None where one is not computed or of another type now."""
        cells = [computed(weight) for weight in self.weights]
        types = self.types[len(self.types) - len(cells) :]
        found = [cell for cell, type in zip(cells, types) if cell is not None and cell.type is type]
        return Weights(self.weights, found) if len(found) == len(cells) else None


def computed(tensor: Any) -> Cell | None:
    """The cell of a tensor that is all of a computed storage which numpy does not see."""
    if not isinstance(tensor, Tensor):
        return None
    storage = tensor._storage
    if storage.export is not None:
        return None
    if tensor._leaf:
        cell = tensor._cell if tensor._seen == storage.version else None
    else:
        cell = None if tensor._chain else storage.cell
    return None if cell is None or cell.buffer is None else cell


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count
