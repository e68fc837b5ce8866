"""Entries: the compiled form of a trace for one set of live values, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends.base import build, check_backward, check_halves, settings
from ..backends.llvm.memory import Buffer, heap
from ..ir.build import dead_code
from ..ir.dims import Dim, Facts, evaluate_dim
from ..ir.errors import UnsupportedError
from ..ir.graph import Graph, Value, symbols_of
from ..ir.types import TensorType
from ..passes.clean import clean
from ..passes.partition import partition
from .by_size import BySize
from .kept import KeptWeights, weight_places
from .parts import Part, is_alone, parts_of, refresh_leaf
from .saved import Saved, Written, kept_nodes, saved_values, upstream
from .steps import steps
from .symbolic import SMALLEST, concrete_type

if TYPE_CHECKING:
    from .record import State, Tape
    from .segment import Structure


def buffer_of(array: np.ndarray) -> Buffer:
    """A buffer with a copy of an array's contents."""
    buffer = heap.alloc(array.nbytes)
    if array.nbytes:
        buffer.array(array.dtype, array.shape)[...] = array
    return buffer


class NoMemory:
    """The buffer of a tensor on the device "meta": it has a shape, and no contents."""

    __slots__ = ()
    address = nbytes = 0

    def array(self, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")


NOTHING: Any = NoMemory()


class SegmentTemplate:
    """What a flushed trace keeps, so that a later backward can run: see `segment.Segment`.

    graph      of the whole trace: (params) -> (outputs that require grad)
    wanted     the params for which gradients are wanted
    needs      the params that the backward reads, or whose sizes it may have to know
    backward   (`needs`, residuals, cotangents of the outputs) -> gradients of `wanted`
    """

    def __init__(self, graph: Graph, wanted: Sequence[int], verify: str | None = None) -> None:
        from ..passes.autodiff import vjp

        check_backward(graph, wanted, verify)
        self.graph, self.wanted = graph, list(wanted)
        seeds = range(len(graph.results))
        joint = clean(vjp(graph, self.wanted, list(seeds)))
        n = len(graph.params)
        self.forward, backward, self.residuals = partition(joint, n, len(graph.results))
        check_halves(joint, self.forward, backward, n, verify)
        live = {value for node in backward.nodes for value in node.inputs}
        live.update(backward.results)
        params, symbolic = backward.params, bool(symbols_of(graph))
        self.needs = [k for k in range(n) if symbolic or params[k] in live]
        operands = [*[params[k] for k in self.needs], *params[n:]]
        self.backward = Graph(operands, backward.nodes, backward.results)
        self._structure: Structure | None = None

    @property
    def structure(self) -> Structure:
        """What is known of the outputs: which nodes keep values, what depends on what."""
        if self._structure is None:
            from .segment import Structure

            self._structure = Structure(self.graph, self.wanted)
        return self._structure


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How entries are compiled; see `backends.base.build`."""

    exact: bool = True
    verify: str | None = None


def _params_with_a_path(graph: Graph) -> set[Value]:
    """The parameters from which a derivative leads to a result: the others get none, not zeros."""
    reached = set(graph.results)
    for node in reversed(graph.nodes):
        if not node.op.flat and not reached.isdisjoint(node.outputs):
            reached.update([value for value in node.inputs if _is_number(value.type)])
    return reached.intersection(graph.params)


def _is_number(type: Any) -> bool:
    return isinstance(type, TensorType) and type.dtype.kind in "fc"


class Entry:
    """Runs one trace for one set of live slots."""

    kept: KeptWeights | None = None  # where no derivative is wanted
    parts: Sequence[Part] = ()  # of a large update

    def __init__(
        self,
        state: State,
        live: Sequence[int],
        with_template: bool = True,
        freed: int = 0,
        options: BuildOptions = BuildOptions(),
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """sizes: of the symbols, in the first run."""
        from .record import path_graph

        self.options, self.first_sizes = options, sizes

        values, grads, origins = [], [], []
        for step in state.path():
            values += step.values
            grads += step.grads
            origins += [step.is_param] * len(step.values)
        outputs = [values[i] for i in live]
        graph, slots = path_graph(state, outputs)
        seeds = [i for i in live if grads[i] and not origins[i]] if with_template else []
        # Outputs whose derivatives were taken already, and the parameters that these were for.
        self.freed: dict[int, list[int]] = {}
        if freed and seeds:
            wanted = {p: i for p, i in zip(graph.params, slots) if grads[i]}
            kept, ways = kept_nodes(graph.nodes, wanted), upstream(graph.nodes, wanted)
            for i in seeds:
                if kept.get(values[i], 0) & freed:
                    reached = ways.get(values[i], 0)
                    self.freed[i] = [slot for slot in wanted.values() if reached >> slot & 1]
            seeds = [i for i in seeds if i not in self.freed]
        self.template: SegmentTemplate | None = None
        self.refused: list[tuple[int, UnsupportedError]] = []  # outputs without a derivative
        self.saved: list[tuple[Saved, int]] = []  # what torch would save, and the nodes that do
        self.param_slots = slots
        results = list(outputs)
        if seeds:
            seeds = self._derive(graph, values, grads, seeds)
        self.seed_slots: list[int] = seeds
        if self.template is not None:
            places = {node: i for i, node in enumerate(self.template.graph.nodes)}
            self.saved = [(s, s.mask(places)) for s in saved_values(state.path())]
            graph, results = self._with_residuals(graph, outputs, seeds, live)
        self.live = list(live)
        self._compile(dead_code(Graph(graph.params, graph.nodes, results)))

    def _derive(self, graph: Graph, values, grads, seeds: list[int]) -> list[int]:
        """Makes the template of these outputs; returns those that have a derivative."""
        from .segment import Segment  # (it imports recording, which imports this)

        self.segment_class = Segment
        try:
            self.template = self._template(graph, values, grads, seeds)
            return seeds
        except UnsupportedError as error:
            if len(seeds) == 1:
                self.refused.append((seeds[0], error))
                return []
        found = []
        for seed in seeds:  # each alone: an op without derivative concerns what depends on it
            try:
                self._template(graph, values, grads, [seed])
                found.append(seed)
            except UnsupportedError as error:
                self.refused.append((seed, error))
        if found:
            self.template = self._template(graph, values, grads, found)
        return found

    def _template(self, graph: Graph, values, grads, seeds: list[int]) -> SegmentTemplate:
        whole = Graph(graph.params, graph.nodes, [values[i] for i in seeds])
        leading = _params_with_a_path(whole)
        pairs = enumerate(zip(graph.params, self.param_slots, strict=True))
        wanted = [k for k, (param, slot) in pairs if grads[slot] and param in leading]
        return SegmentTemplate(dead_code(whole), wanted, self.options.verify)

    def _with_residuals(self, graph: Graph, outputs, seeds, live):
        """The trace's graph with the template's forward in place, so that residuals come out."""
        from ..ir.build import Builder

        template = self.template
        assert template is not None
        with Builder(graph.params) as builder:
            plain = builder.replay(graph, graph.params)
            forward = builder.replay(template.forward, graph.params)
        extra = forward[len(seeds) :]
        return Graph(builder.params, builder.nodes, ()), [*plain, *extra]

    def _compile(self, graph: Graph) -> None:
        self.types: list[TensorType] = [value.type for value in graph.results]
        real = [value for value in graph.results if value.type.device != "meta"]
        self.all_real = len(real) == len(graph.results) and bool(real)
        if not self.all_real:
            graph = dead_code(Graph(graph.params, graph.nodes, real))
        used = {value for node in graph.nodes for value in node.inputs}
        used.update(graph.results)
        used |= _that_name_sizes(graph, used)
        used_params = [k for k, p in enumerate(graph.params) if p in used]
        self.inputs = [self.param_slots[k] for k in used_params]
        self.graph = Graph([graph.params[k] for k in used_params], graph.nodes, graph.results)
        self.symbols = symbols_of(self.graph)
        self.sizes = [_nbytes(t, {}) for t in self.types] if not self.symbols else []
        facts = {name: Facts(lo=SMALLEST) for name in self.symbols}
        if not self.graph.nodes and not self.graph.results:
            return  # nothing has memory
        options = {"exact": self.options.exact, "verify": self.options.verify}
        _native_steps()
        if self.template is None and self.options.verify is None:
            places = weight_places(self.graph)
            self.kept = KeptWeights(self.graph, places, self.options.exact) if places else None
        derived = self.template or self.freed or self.refused  # `run` needs all cells after it
        if self.all_real and not (derived or self.kept or self.symbols):
            self.parts = parts_of(self.graph, self.sizes, partial(build, **options))
            if self.parts:
                return
        try:
            self.executable = build(self.graph, dims=facts, sizes=self.first_sizes, **options)
        except UnsupportedError:
            if not self.symbols:
                raise
            self.executable = BySize(self.graph, self.symbols, partial(build, **options))

    def outputs(self, tape: Tape) -> list[Buffer]:
        """New buffers with the values of the graph's results."""
        if not self.all_real:
            return self._outputs_with_memory(tape)
        cells = tape.cells
        operands = [cells[slot].buffer for slot in self.inputs]
        if self.parts:
            found = {}
            for part in self.parts:
                made = part.run([operands[k] for k in part.params])
                found.update(zip(part.results, made, strict=True))
            return [found[k] for k in range(len(self.types))]
        if not self.symbols:
            buffers = [heap.alloc(n) for n in self.sizes]
            sizes: Sequence[int] = ()
            if self.kept is not None:
                given = [cells[slot] for slot in self.inputs]
                if self.kept.run(given, [buffer.address for buffer in buffers]):
                    return buffers
        else:
            buffers = [heap.alloc(_nbytes(t, tape.sizes)) for t in self.types]
            sizes = [tape.sizes[name] for name in self.symbols]
        self.executable.run(
            [buffer.address for buffer in operands], [buffer.address for buffer in buffers], sizes
        )
        return buffers

    def _outputs_with_memory(self, tape: Tape) -> list[Buffer]:
        """As `outputs`, where some results are on the device "meta": nothing is computed there."""
        operands = [tape.cells[slot].buffer for slot in self.inputs]
        buffers = [
            NOTHING if t.device == "meta" else heap.alloc(_nbytes(t, tape.sizes))
            for t in self.types
        ]
        real = [buffer.address for buffer in buffers if buffer is not NOTHING]
        if real or self.graph.nodes:
            sizes = [tape.sizes[name] for name in self.symbols]
            self.executable.run([buffer.address for buffer in operands], real, sizes)
        return buffers

    def run(self, tape: Tape, last: bool = False) -> None:
        """Computes the live cells, and keeps what a later backward needs.

        last: nobody uses the tape any more, which lets go of what was read as soon as it can.
        """
        cells = tape.cells
        if self.parts and last:
            self._run_in_parts(tape)
            buffers: Sequence[Buffer] = ()
        else:
            buffers = self.outputs(tape)
        done = steps.settle(cells, self.live, buffers) if buffers and not self.symbols else 0
        for slot, buffer in zip(self.live[done:], buffers[done:]):
            _give(cells[slot], buffer, tape)
        if self.template is not None:
            kept = self.types[len(self.live) :]
            if self.symbols:
                kept = [concrete_type(t, tape.sizes) for t in kept]
            residuals = zip(kept, buffers[len(self.live) :], strict=True)
            params = [cells[slot] for slot in self.param_slots]
            seeds = [cells[slot] for slot in self.seed_slots]
            self.segment_class(self.template, params, residuals, seeds).saved = self._marks(tape)
        if self.freed:
            from .segment import NoBackward, freed_error

            for slot, params in self.freed.items():
                cells[slot].grad_fn = NoBackward(freed_error, [cells[i] for i in params])
        if self.refused:
            from .segment import NoBackward

            for slot, error in self.refused:
                cells[slot].grad_fn = NoBackward(error.again)

    def _run_in_parts(self, tape: Tape) -> None:
        """An interrupt between parts leaves the tape so that `compute_alone` can do the rest."""
        cells: list[Any] = tape.cells
        tape.params.clear()
        for part in self.parts:
            slots = [self.inputs[k] for k in part.params]
            over = {k: slots[p] for k, p in part.given if is_alone(cells, slots[p])}
            operands = [cells[slot].buffer for slot in slots]
            if over:
                made = self._run_over(tape, part, operands, over)
            else:
                made = part.run(operands)
            del operands
            for k, buffer in zip(part.results, made, strict=True):
                _give(cells[self.live[k]], buffer, tape)
            for k in part.last:
                slot = self.inputs[k]
                refresh_leaf(cells[slot])
                cells[slot] = None

    def _run_over(
        self, tape: Tape, part: Part, operands: list[Buffer], over: Mapping[int, int]
    ) -> list[Buffer]:
        """A part with results in the memory of parameters; over: result -> slot of the parameter.

        The results have that memory before they are computed: another thread that looks at them
        meanwhile finds what it would find of memory that is being written, and computes nothing.
        """
        cells, written = tape.cells, list[object]()
        made = [
            cells[over[k]].buffer if k in over else heap.alloc(n) for k, n in enumerate(part.sizes)
        ]
        results = [cells[self.live[k]] for k in part.results]
        try:
            for k, slot in over.items():
                _give(results[k], made[k], tape)
                cells[slot].buffer = None
            part.run_over(operands, made, written)
        finally:
            for k, slot in over.items():
                if not written:
                    cells[slot].buffer = made[k]
                    results[k].buffer, results[k].tape = None, tape
        return made

    def _marks(self, tape: Tape) -> list[tuple[Saved, int, Written]]:
        """For the saved values that were written, or that somebody can still write: their marks."""
        found = []
        for one, mask in self.saved:
            cell = tape.cells[one.slot]
            mark = cell.written
            if mark is None:
                if cell.buffer is None:
                    continue
                mark = cell.written = Written()
            if mark.by is None or one.written_by_another(mark.by, id(tape)):
                found.append((one, mask, mark))
        return found


def _native_steps() -> None:
    """There will be compiled code in any case: steps are recorded by such code too."""
    from .predict import use_native_steps  # (it imports recording, which imports this)

    if settings.backend == "llvm":
        use_native_steps()


def _give(cell: Any, buffer: Buffer, tape: Tape) -> None:
    """A computed value to its cell, unless it has one: an entry may compute more than is needed."""
    if cell.buffer is not None:
        return
    if not cell.type.is_static:
        cell.type = concrete_type(cell.type, tape.sizes)
    cell.buffer = buffer  # in this order: other threads may look
    cell.tape = None


def _that_name_sizes(graph: Graph, used: set[Value]) -> set[Value]:
    """Params that nothing reads, but whose shapes bind a symbol that some other shape has."""
    needed: set[str] = set()
    for value in (*graph.results, *[v for node in graph.nodes for v in node.outputs]):
        needed |= _symbols(value)
    for param in graph.params:
        if param in used:
            needed -= _symbols(param)
    found = set()
    for param in graph.params:
        if needed & _symbols(param):
            needed -= _symbols(param)
            found.add(param)
    return found


def _symbols(value: Value) -> set[str]:
    if not isinstance(value.type, TensorType) or value.type.is_static:
        return set()
    return {name for d in value.type.shape if isinstance(d, Dim) for name in d.symbols}


def _nbytes(type: TensorType, sizes: Mapping[str, int]) -> int:
    count = type.dtype.itemsize
    for d in type.shape:
        count *= d if isinstance(d, int) else evaluate_dim(d, sizes)
    return count


def array_of(buffer: Any, type: TensorType) -> np.ndarray:
    """A numpy view of a computed value."""
    return buffer.array(type.dtype.numpy, type.shape)
