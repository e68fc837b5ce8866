"""Recording: eager operations become a path in a trie of traces.

A `State` is a node of the trie: the trace so far, and the IR nodes that its last step added. A
step is looked up by its key (function, operand slots, static arguments); on a hit nothing is
inferred or built. A `Cell` is a value of the running program: pending in a tape (a slot), or
materialised (a buffer). `Recorder.flush` computes the cells that somebody still holds.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ir import ops
from ..ir.build import Builder
from ..ir.dtype import BOOL, C128, F64, I64
from ..ir.errors import GraphcError
from ..ir.graph import Attrs, Graph, Node, Value
from ..ir.types import TensorType
from . import execute, modes, symbolic
from .locate import user_location, user_site
from .steps import steps

log = logging.getLogger("graphc.sizes")

LEARNED = 8  # after so many hits it is known which places of a program use a parameter's type
CUT_AT = 3072  # steps after which a tape is flushed in any case
CUT_WHERE_IT_RECURS = 1024  # steps after which it is flushed where a place of it comes again


# What `requires_grad` is, which counts as true, where no derivative leads on from a value: of views
# made under no_grad. What is computed from it requires grad, and its gradient is lost.
ENDS = "ends"


class Cell:
    """One immutable value of the running program.

    `tape` and `slot` say where it stands in a recording; `buffer` holds it once it is computed.
    `grad_fn` is None for constants and leaves, else where its derivative comes from.
    """

    __slots__ = (
        "__weakref__", "buffer", "grad_fn", "hooks", "inference", "owner", "requires_grad",
        "retain", "slot", "tape", "type", "written",
    )  # fmt: skip

    def __init__(self, type: TensorType, buffer: Any = None, requires_grad: Any = False) -> None:
        self.type, self.buffer = type, buffer
        self.requires_grad = requires_grad  # or ENDS
        self.inference = False  # made in inference mode: it cannot be saved for a backward
        self.slot = -1
        self.tape: Tape | None = None
        self.grad_fn: Any = None
        self.hooks: Any = None
        self.retain: Any = None  # runs after the hooks: what `retain_grad` asked for
        self.written: Any = None  # shared with its views: whether the memory was written since
        self.owner: Any = None  # of a leaf: a weak reference to its tensor

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    def beside(self, type: TensorType, buffer: Any, requires_grad: Any = False) -> Cell:
        """A computed cell on the same memory: of inference mode where this one is."""
        return (InferenceCell if self.inference else Cell)(type, buffer, requires_grad)


class InferenceCell(Cell):
    """A cell that was made in inference mode."""

    __slots__ = ()

    def __init__(self, type: TensorType, buffer: Any = None, requires_grad: Any = False) -> None:
        super().__init__(type, buffer, requires_grad)
        self.inference = True


def cell_class() -> type[Cell]:
    """What cells are made now."""
    return InferenceCell if modes.inference() else Cell


class State:
    """A trace: its parent and one more step. `values` are the step's outputs in the IR."""

    __slots__ = (
        "after", "cell_class", "depth", "edges", "entries", "extra", "grads", "hits", "is_param",
        "key", "next", "nodes", "numbers", "operands", "params", "parent", "patterns", "refused",
        "site",
        "slots", "types", "unshared", "values",
    )  # fmt: skip

    def __init__(
        self,
        parent: State | None,
        key: Any,
        nodes: Sequence[Node] = (),
        values: Sequence[Value] = (),
        grads: Sequence[bool] = (),
        is_param: bool = False,
        extra: Any = None,
    ) -> None:
        self.parent, self.key, self.is_param, self.extra = parent, key, is_param, extra
        self.nodes, self.values, self.grads = tuple(nodes), tuple(values), tuple(grads)
        self.types = tuple([value.type for value in values])
        self.cell_class = cell_class()
        self.depth: int = parent.depth + 1 if parent else 0
        self.slots: int = (parent.slots if parent else 0) + len(self.values)
        self.edges: dict[Any, State] = {}
        self.numbers: dict[Any, list] = {}
        self.next: State = self  # the state that followed last time: the prediction
        self.operands: Any = None  # (function, slots..., mode) of a step that `Function` predicts
        # The edges that are parameters, by whether they require grad, and by type.
        self.params: dict[Any, dict[TensorType, State]] | None = None
        self.after: Any = None  # the update that followed last time: see `updates`
        # Where the program was: the user's lines, innermost first. Of a parameter: all such places.
        self.site: Any = None
        self.hits = 0  # of a parameter: how often it was met again, as far as that is counted
        self.entries: dict[Any, Any] = {}
        # Nearly all states have none of these, and a long program has many states: no containers.
        self.patterns: tuple[State, ...] = ()  # following parameters with symbolic sizes
        self.refused: frozenset[Any] = frozenset()  # what cannot be recorded here with symbols
        self.unshared = False  # sizes of following parameters equal others by coincidence only

    def path(self) -> list[State]:
        """The states from the root (exclusive) to this one."""
        found, state = [], self
        while state.parent is not None:
            found.append(state)
            state = state.parent
        return found[::-1]


class Tape:
    """The cells of one recording, by slot, and the states' values as far as they were needed."""

    __slots__ = (
        "__weakref__", "cells", "cut_sites", "freed", "params", "recorder", "sizes", "state",
        "static", "values", "values_at",
    )  # fmt: skip

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.cells: list[Cell] = []
        self.params: dict[Cell, int] = {}  # computed cells that are parameters here: their slots
        self.state: State | None = None  # what was recorded, once the recording has ended
        self.cut_sites: Any = None  # of a long tape: the places where it may end
        self.freed = 0  # the nodes whose derivatives were taken, without retain_graph
        self.sizes: dict[str, int] = {}  # what the symbols of the trace are in this recording
        self.static = False  # no sizes become symbols: some function cannot take them
        self.values: list[Value] = []
        self.values_at: State | None = None


class Number:
    """A Python number that became a run-time operand: a 0-d value that promotes weakly."""

    __slots__ = ("kind", "value")

    def __init__(self, value: Value, kind: type) -> None:
        self.value, self.kind = value, kind


class Recorder:
    """One thread's recording. `eager` recorders flush; a tracing one only collects a graph."""

    __slots__ = (
        "__dict__",
        "__weakref__",
        "eager",
        "modes",
        "options",
        "outer",
        "state",
        "tape",
        "written",
    )

    def __init__(self, eager: bool = True) -> None:
        self.root = State(None, None)
        self.state = self.root
        self.tape = Tape(self)
        self.eager = eager
        self.thread = threading.get_ident()
        self.outer: Recorder | None = None
        self.modes = modes.of_thread()
        self.on_look: Callable[[Cell], None] | None = None
        self.on_draw: Callable[[], None] | None = None  # called when random numbers are drawn
        # Called where numpy computes a function: its name, and what it is computed from.
        self.on_numpy: Callable[[str, Sequence[Cell]], None] | None = None
        # Of a trace: the buffers of its graph's operands, by identity. To look at one is a look.
        self.operands: dict[int, Any] | None = None
        self.cut_site: Any = None  # where the last long tape was cut
        self.passed: dict[State, set[Any]] = {}  # of long traces: the places before the state
        self.flushes = 0
        self.compiled = 0  # entries that were built
        self.options = execute.BuildOptions()
        # Storages that a recorder that does not flush changed, and what was in them before.
        self.written: dict[Any, Cell | None] = {}

    # --- steps -------------------------------------------------------------------------------

    def slot_of(self, cell: Cell, seen: Sequence[TensorType] = ()) -> int:
        """The cell's slot in this tape; a materialised cell becomes a parameter of the trace.

        seen: what else was in this place, besides what the trace knows.
        """
        tape = self.tape
        found = tape.params.get(cell)
        if found is not None:
            return found
        owner = cell.tape  # read first: another thread's look may take it away
        if cell.buffer is None:
            if owner is tape:
                return cell.slot
            self._compute_elsewhere(cell, owner)
        kind = None if cell.inference else cell.requires_grad
        state = self.state.edges.get(("param", cell.type, kind))
        if state is None:
            state = self._new_param(cell.type, kind, seen)
        elif state.hits < LEARNED:
            state.hits += 1
            state.site.add(user_site())
        slot = state.slots - 1
        try:
            tape.cells.append(cell)
            tape.params[cell] = slot
            self.state.next = state
            self.state = state
        except BaseException:  # an interrupt in between: the parameter is not there
            del tape.cells[self.state.slots :]
            tape.params.pop(cell, None)
            raise
        if cell.tape is None or cell.tape.recorder is self:
            cell.tape, cell.slot = tape, slot  # a hint: other threads may use the cell too
        return slot

    def _compute_elsewhere(self, cell: Cell, tape: Tape | None) -> None:
        """Computes a cell that is pending in another recording, `tape`."""
        if tape is None:
            raise GraphcError("a tensor without a value: its recording was interrupted")
        owner = tape.recorder
        if self.outer is not None and owner.eager and owner.tape is tape and self._owns(owner):
            owner.flush()
        else:
            owner.look(cell)

    def _owns(self, other: Recorder) -> bool:
        """Whether another recorder is of this thread."""
        return other.thread == threading.get_ident()

    def _new_param(self, type: TensorType, grad: Any, others: Sequence[TensorType] = ()) -> State:
        """The state after a parameter of a type that has not been seen here, but `others` were.

        grad: whether it requires grad, or ENDS; None where it was made in inference mode.
        """
        tape, before = self.tape, self.state
        wanted, site = type, user_site()
        if not tape.static:
            for state in before.patterns:
                pattern = state.types[0]
                if (
                    site in state.site  # another place of the program has sizes of its own
                    and pattern.dtype is type.dtype
                    and len(pattern.shape) == len(type.shape)
                    and pattern.device == type.device
                    and state.key[2] is grad
                ):
                    bound = symbolic.matches(pattern, type, tape.sizes)
                    if bound is not None:
                        tape.sizes.update(bound)
                        return state
            seen = [*others] + [
                s.types[0] for k, s in before.edges.items()
                if k[0] == "param" and k[2] is grad and s.types[0].device == type.device
                and site in s.site
            ]  # fmt: skip
            share = bool(tape.sizes) and not grad and not before.unshared
            if (seen and not grad) or share:
                made = symbolic.generalised(type, seen, tape.sizes, len(tape.sizes), share)
                wanted = made or type
        key = ("param", wanted, grad)
        state = before.edges.get(key)
        if state is None:
            state = State(before, key, (), (Value(wanted),), (grad is True,), is_param=True)
            state.site = set()
            before.edges[key] = state
            if before.params is None:
                before.params = {}
            before.params.setdefault(grad, {})[wanted] = state
            if wanted is not type:
                before.patterns += (state,)
        state.site.add(site)
        if wanted is not type:
            bound = symbolic.matches(wanted, type, tape.sizes)
            assert bound is not None
            tape.sizes.update(bound)
        return state

    def guesses_since(self, before: State) -> list[State]:
        """Parameters since `before` whose sizes were taken to be those of earlier ones."""
        found = []
        for state in self.state.path()[before.depth :]:
            parent = state.parent
            if parent is not None and state in parent.patterns:
                earlier = {d for s in parent.path() for t in s.types for d in t.shape}
                if any([d in earlier for d in state.types[0].shape if not isinstance(d, int)]):
                    found.append(state)
        return found

    def go_static(self) -> None:
        """Computes what is pending, and records the next trace with static sizes."""
        self.flush()
        self.tape.static = True

    def number_slot(self, number: Any, device: str = "cpu") -> int:
        """A Python number as a parameter of the trace: f64, i64 or c128, filled at each flush."""
        dtype = {bool: BOOL, int: I64, float: F64, complex: C128}[number.__class__]
        cell = Cell(
            TensorType(dtype, (), device), execute.buffer_of(np.asarray(number, dtype.numpy))
        )
        return self.slot_of(cell)

    def name_size(self, size: int, other: int) -> None:
        """Gives a size from Python a symbol, by a parameter of that many rows without elements.

        other: another size that was in this place.
        """
        types = [TensorType(BOOL, (n, 0)) for n in (size, other)]
        self.slot_of(Cell(types[0], execute.buffer_of(np.empty((0,), np.bool_))), types[1:])

    def refuse(self, state: State, what: Any, name: str, error: Exception) -> None:
        """From now on `what` is recorded at that place with a trace for each size."""
        state.refused |= {what}
        reason = str(error).partition("\n")[0]
        log.info("%s has a trace for each size: %s\n  %s", name, reason, user_location())

    def step(self, key: Any, slots: Sequence[int], build: Callable[..., Any]) -> list[Cell]:
        """Records one step and returns the cells of its outputs.

        build(*values) runs when the step is new, with a builder current, and returns
        (output values, which of them require grad, extra).
        """
        state = self.state.edges.get(key)
        if state is None:
            state = self._extend(key, slots, build)
        before = self.state
        made = steps.take(self, state)
        before.next = state
        return made

    def take(self, state: State) -> list[Cell]:
        """The recording goes on to a state that follows; the cells of its outputs."""
        tape = self.tape
        cells = tape.cells
        made = []
        slot, make = self.state.slots, state.cell_class
        for type, grad in zip(state.types, state.grads):
            cell = make(type, None, grad)
            cell.tape, cell.slot = tape, slot
            if grad:
                cell.grad_fn = tape
            slot += 1
            made.append(cell)
        try:
            cells += made
            self.state = state
        except BaseException:  # an interrupt in between: the step did not happen
            del cells[self.state.slots :]
            raise
        return made

    def values(self) -> list[Value]:
        """The IR value of every slot of the tape so far."""
        tape, state = self.tape, self.state
        if tape.values_at is not state:
            missing: list[State] = []
            while state is not tape.values_at and state.parent is not None:
                missing.append(state)
                state = state.parent
            for later in reversed(missing):
                tape.values += later.values
            tape.values_at = self.state
        return tape.values

    def _extend(self, key: Any, slots: Sequence[int], build: Callable[..., Any]) -> State:
        values = self.values()
        with Builder(loc=user_location()) as builder:
            outputs, grads, extra = build(*[values[slot] for slot in slots])
        state = State(
            self.state, key, builder.nodes, _distinct(builder, outputs), grads, extra=extra
        )
        state.site = user_site()
        self.state.edges[key] = state
        return state

    def step_ends(self) -> None:
        """The end of a backward or of an optimizer's step: eager recordings are flushed here."""
        if self.eager:
            self.flush()

    def cut_if_long(self) -> None:
        """Bounds the tape: a Python loop without a look gives a few traces, not endless ones.

        A long tape is cut at a place that it has been through, and the tapes that follow are cut
        there too: each of them begins with the same step.
        """
        state = self.state
        depth = state.depth
        if depth < CUT_WHERE_IT_RECURS or not self.eager:
            return
        tape = self.tape
        if tape.cut_sites is None:
            passed = self.passed.get(state)
            if passed is None:
                assert state.parent is not None
                passed = {s.site for s in state.parent.path() if not s.is_param}
                self.passed[state] = passed
            tape.cut_sites = {self.cut_site} if self.cut_site in passed else passed
        if depth >= CUT_AT or state.site in tape.cut_sites:
            self.cut_site = state.site
            self.flush()

    # --- looking ------------------------------------------------------------------------------

    def look(self, cell: Cell) -> Any:
        """The buffer of a cell of this recorder, computed if need be."""
        tape = cell.tape
        if cell.buffer is None:
            if tape is not self.tape or self.thread != threading.get_ident():
                self.compute_alone(cell, tape)
            elif self.on_look is not None:
                self.on_look(cell)
            else:
                self.flush()
        return cell.buffer

    def compute_alone(self, cell: Cell, tape: Tape | None) -> None:
        """Computes one cell and leaves the recording as it is.

        For a look from another thread, and for what is left of a recording whose computation
        failed: its other values are not lost with the one that raised.
        """
        state = self.state
        if tape is not None and self.tape is not tape:
            state = tape.state  # type: ignore[assignment]
        if cell.buffer is not None:
            return
        cells = tape.cells if tape is not None else []
        if state is None or tape is None or cell.slot >= len(cells) or cells[cell.slot] is not cell:
            raise GraphcError("a tensor without a value: its recording was interrupted")
        snapshot = Tape(self)
        snapshot.cells, snapshot.sizes = cells, tape.sizes
        live, freed = (cell.slot,), tape.freed
        entry = state.entries.get((live, freed))
        if entry is None or entry.live != [cell.slot]:  # nothing else may be computed here
            entry = execute.Entry(state, live, True, freed, self.options, tape.sizes)
            state.entries[live, freed] = entry
            self.compiled += 1
        entry.run(snapshot)

    def written_cells(self) -> list[Cell]:
        """The present values of the storages that were written while recording."""
        return [storage.cell for storage in self.written if storage.cell.tape is self.tape]

    def finish(self) -> None:
        """The end of a recording that was held back: everything still held is computed."""
        self.flush()
        self.written.clear()

    def flush(self) -> None:
        """Computes the cells that are still held, and starts a new tape."""
        tape, state = self.tape, self.state
        cells = tape.cells
        if not cells and not tape.static:
            return
        tape.state = state
        self.tape, self.state = Tape(self), self.root
        live = steps.held(cells)
        if live:
            self.flushes += 1
            entry = state.entries.get((live, tape.freed)) or self._entry(tape, state, live)
            entry.run(tape, last=True)
        tape.cells, tape.values = [], []
        tape.params, tape.values_at = {}, None

    def _entry(self, tape: Tape, state: State, live: tuple[int, ...]) -> execute.Entry:
        """An entry for live slots: one that computes more than these, or a new one."""
        wanted, freed = set(live), tape.freed
        larger = [
            entry for (slots, of_freed), entry in state.entries.items()
            if of_freed == freed and wanted.issubset(slots)
        ]  # fmt: skip
        if larger:
            entry = larger[0]
        else:
            entry = execute.Entry(state, live, True, freed, self.options, tape.sizes)
            self.compiled += 1
        state.entries[live, freed] = entry
        return entry


def forget(guesses: Sequence[State]) -> None:
    """Drops parameters of a step that failed with symbols: sizes were equal by coincidence.

    They are not taken as equal there again.
    """
    for state in guesses:
        parent = state.parent
        assert parent is not None
        parent.unshared = True
        parent.patterns = tuple([s for s in parent.patterns if s is not state])
        parent.edges.pop(state.key, None)
        if parent.params is not None:
            parent.params.get(state.key[2], {}).pop(state.key[1], None)


def _distinct(builder: Builder, outputs: Sequence[Value]) -> list[Value]:
    """Outputs as values of this step: an operand that is returned becomes a node of its own."""
    own = {value for node in builder.nodes for value in node.outputs}
    found: list[Value] = []
    for value in outputs:
        if value not in own or value in found:
            same = Attrs.of({"shape": value.type.shape})
            node = Node(ops.reshape, (value,), [value.type], same, loc=builder.loc)
            builder.nodes.append(node)
            value = node.outputs[0]
        found.append(value)
    return found


of_thread = _thread = threading.local()  # its `recorder`, once there is one
#: Of compiled code: the thread that it looked up last, by the number of its state, and the address
#: of that thread's recorder, which it holds. 0: none.
last_thread = (ctypes.c_uint64 * 2)()


def recorder() -> Recorder:
    """The recorder of this thread."""
    found = getattr(_thread, "recorder", None)
    if found is None:
        found = _thread.recorder = Recorder()
    return found


def push_recorder(inner: Recorder) -> None:
    """Makes `inner` this thread's recorder until `pop_recorder`."""
    inner.outer = recorder()
    _thread.recorder = inner
    last_thread[0] = 0


def pop_recorder() -> None:
    _thread.recorder = recorder().outer
    last_thread[0] = 0


def value_of(cell: Cell) -> Any:
    """The buffer of a cell, whoever recorded it."""
    if cell.buffer is None:
        tape = cell.tape
        if tape is None:
            if cell.buffer is None:  # (it is set before the tape is taken away)
                raise GraphcError("a tensor without a value: its recording was interrupted")
        else:
            tape.recorder.look(cell)
    return cell.buffer


def looked_at(cell: Cell) -> Any:
    """The buffer of a cell that the program looks at: the recorder is told in every case."""
    buffer = value_of(cell)
    rec = recorder()
    if rec.operands and id(buffer) in rec.operands and rec.on_look is not None:
        rec.on_look(cell)
    return buffer


def is_traced(cell: Cell) -> bool:
    """Whether a trace that is being made holds the cell as an operand or as one of its values."""
    rec = recorder()
    return rec.operands is not None and (cell.tape is rec.tape or id(cell.buffer) in rec.operands)


def path_graph(state: State, results: Sequence[Value]) -> tuple[Graph, list[int]]:
    """The graph of a trace, and the slot of each of its parameters."""
    params, slots, nodes, at = [], [], [], 0
    for step in state.path():
        if step.is_param:
            params.append(step.values[0])
            slots.append(at)
        nodes += step.nodes
        at += len(step.values)
    return Graph(params, nodes, results), slots
