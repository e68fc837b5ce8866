"""Reverse-mode differentiation of recorded programs.

The part of a program that is still pending is differentiated in place, as one more step of the
tape. A part that was flushed is a `Segment`: it kept what its backward needs. A user's own
Function is a segment too, whose backward is Python. Segments are numbered as they are made; the
backward visits them from the latest to the earliest, so every cotangent is complete when used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..ir import ops
from ..ir.errors import GraphcError, UnsupportedError
from ..ir.graph import Node, Value
from ..passes.autodiff import vjp_into
from .record import Cell, Recorder, State, recorder
from .symbolic import replay

_numbers = itertools.count()


class FreedError(GraphcError, RuntimeError):
    """backward through a graph whose saved values were given up."""


def _freed() -> FreedError:
    return FreedError(
        "Trying to backward through the graph a second time (or directly access saved tensors "
        "after they have already been freed). Saved intermediate values of the graph are freed "
        "when you call .backward() or autograd.grad().",
        hint="Specify retain_graph=True if you need to backward through the graph a second time.",
    )


class Differentiable(Protocol):
    """What a cell's `grad_fn` refers to once it is computed."""

    number: int
    inputs: list[Cell]

    def pull(self, cotangents: dict[Cell, Cell], create_graph: bool) -> list[Cell | None]: ...
    def free(self) -> None: ...


class Segment:
    """A flushed trace: its inputs, its residuals, and which cells are its outputs."""

    __slots__ = ("__weakref__", "inputs", "number", "outputs", "residuals", "template")

    def __init__(
        self,
        template: Any,
        params: Sequence[Cell],
        residuals: Sequence[tuple],
        outputs: Sequence[Cell],
    ) -> None:
        self.template, self.number = template, next(_numbers)
        self.inputs = list(params)
        self.residuals: list[Cell] | None = [Cell(type, buffer) for type, buffer in residuals]
        self.outputs = {id(cell): i for i, cell in enumerate(outputs)}
        for cell in outputs:
            cell.grad_fn = self

    def pull(self, cotangents: dict[Cell, Cell], create_graph: bool) -> list[Cell | None]:
        """The cotangents of `inputs`; None for those without a derivative."""
        if self.residuals is None:
            raise _freed()
        template, rec = self.template, recorder()
        by_output: list[Cell | None] = [None] * len(self.outputs)
        for cell, ct in cotangents.items():
            by_output[self.outputs[id(cell)]] = ct
        given = tuple([ct is not None for ct in by_output])
        cts = [ct for ct in by_output if ct is not None]
        if create_graph:
            operands = [*self.inputs, *cts]
            build = _replayed(template, given)
        else:
            operands = [*self.inputs, *self.residuals, *cts]
            build = _from_residuals(template, given)
        slots = [rec.slot_of(cell) for cell in operands]
        key = ("segment", template, create_graph, given, *slots)
        grads = rec.step(key, slots, lambda *values: (*build(*values, create=create_graph), None))
        found: list[Cell | None] = [None] * len(self.inputs)
        for k, cell in zip(template.wanted, grads, strict=True):
            found[k] = cell
        return found

    def free(self) -> None:
        self.residuals = None


def _from_residuals(template: Any, given: tuple[bool, ...]) -> Callable:
    def build(*values: Value, create: bool) -> tuple[list[Value], list[bool]]:
        graph = template.backward
        n_fixed = len(graph.params) - len(given)
        cts = iter(values[n_fixed:])
        places = graph.params[n_fixed:]
        missing = [p for there, p in zip(given, places, strict=True) if not there]
        zeros = iter(_zeros(missing, graph.params[:n_fixed], values))
        seeds = [next(cts) if there else next(zeros) for there in given]
        grads = replay(graph, [*values[:n_fixed], *seeds])
        return [ops.detach(g) for g in grads], [False] * len(grads)

    return build


def _zeros(
    missing: Sequence[Value], params: Sequence[Value], operands: Sequence[Value]
) -> list[Value]:
    """Zeros for cotangents that nobody gave, in the dims of the operands."""
    from ..ir.build import trace

    if not missing:
        return []
    zeros = trace(
        lambda *_: [ops.full(0.0, p.type.dtype, p.type.shape, p.type.device) for p in missing],
        *[p.type for p in params],
    )
    return replay(zeros, operands[: len(params)])


def _replayed(template: Any, given: tuple[bool, ...]) -> Callable:
    """For gradients of gradients: the trace runs again, and is differentiated in place."""

    def build(*values: Value, create: bool) -> tuple[list[Value], list[bool]]:
        from ..ir.build import Builder

        builder, n = Builder.current(), len(template.graph.params)
        outputs = replay(template.graph, values[:n])
        there = [out for out, present in zip(outputs, given, strict=True) if present]
        wanted = [values[k] for k in template.wanted]
        seeds = _summed(there, values[n:])
        found = vjp_into(builder, tuple(builder.nodes), wanted, seeds)
        grads = [ops.full_like(0.0, w) if g is None else g for g, w in zip(found, wanted)]
        return grads, [create] * len(grads)

    return build


def _summed(outputs: Sequence[Value], cts: Sequence[Value]) -> dict[Value, Value]:
    seeds: dict[Value, Value] = {}
    for out, ct in zip(outputs, cts, strict=True):
        seeds[out] = seeds[out] + ct if out in seeds else ct
    return seeds


def gradients(
    roots: Sequence[Cell],
    cotangents: Sequence[Cell],
    wanted: Sequence[Cell] = (),
    *,
    retain_graph: bool,
    create_graph: bool,
) -> dict[Cell, Cell]:
    """The gradient of sum(roots * cotangents) for every leaf reached, and for the `wanted` cells.

    Keys are cells; a cell without a path has no entry. Hooks of a cell run when its gradient is
    complete.
    """
    known: dict[Cell, Cell] = {}
    rec = recorder()
    pending_roots: list[tuple[Cell, Cell]] = []
    for cell, ct in zip(roots, cotangents, strict=True):
        if cell.grad_fn is not None and cell.tape is rec.tape:
            pending_roots.append((cell, ct))
        else:
            _accumulate(known, cell, ct)
    if pending_roots:
        inside = [c for c in wanted if c.tape is rec.tape and c.grad_fn is rec.tape]
        for cell, ct in _pull_tape(rec, pending_roots, inside, create_graph):
            _accumulate(known, cell, ct)
        for cell, ct in pending_roots:
            if cell in wanted and cell not in known:
                known[cell] = ct
    _visit_segments(known, retain_graph, create_graph)
    return known


def _visit_segments(known: dict[Cell, Cell], retain_graph: bool, create_graph: bool) -> None:
    waiting: dict[Any, list[Cell]] = {}
    seen: set[Cell] = set()

    def enqueue(cell: Cell) -> None:
        if cell not in seen and hasattr(cell.grad_fn, "pull"):
            seen.add(cell)
            waiting.setdefault(cell.grad_fn, []).append(cell)

    for cell in list(known):
        enqueue(cell)
    while waiting:
        segment = max(waiting, key=lambda s: s.number)
        outputs = waiting.pop(segment)
        for cell in outputs:
            _run_hooks(known, cell)
        found = segment.pull({cell: known[cell] for cell in outputs}, create_graph)
        for cell, ct in zip(segment.inputs, found, strict=True):
            if ct is not None:
                _accumulate(known, cell, ct)
                enqueue(cell)
        if not retain_graph:
            segment.free()
    for cell in known:
        if cell.grad_fn is None:
            _run_hooks(known, cell)


def _run_hooks(known: dict[Cell, Cell], cell: Cell) -> None:
    for hook in list((cell.hooks or {}).values()):
        known[cell] = hook(known[cell])


def _accumulate(known: dict[Cell, Cell], cell: Cell, ct: Cell) -> None:
    known[cell] = add_cells(known[cell], ct) if cell in known else ct


def add_cells(a: Cell, b: Cell) -> Cell:
    """a + b, recorded."""
    rec = recorder()
    slots = [rec.slot_of(a), rec.slot_of(b)]
    grad = a.requires_grad or b.requires_grad
    build = lambda x, y: ((ops.add(x, y),), (grad,), None)  # noqa: E731
    return rec.step(("add_gradients", *slots), slots, build)[0]


def _pull_tape(
    rec: Recorder, roots: Sequence[tuple[Cell, Cell]], inside: Sequence[Cell], create_graph: bool
) -> list[tuple[Cell, Cell]]:
    """Differentiates the tape from `roots` to its parameters that require grad, and `inside`."""
    tape = rec.tape
    slots = [cell.slot for cell, _ in roots]
    slots += [rec.slot_of(ct) for _, ct in roots]
    wanted = [cell for cell in tape.cells if cell.requires_grad and cell.grad_fn is not tape]
    wanted += inside
    slots += [cell.slot for cell in wanted]
    n = len(roots)
    key = ("backward", create_graph, n, *slots)
    reached: list[int] = []

    def build(*values: Value) -> tuple[list[Value], list[bool], Any]:
        nodes = path_nodes(rec.state)
        seeds = _summed(values[:n], values[n : 2 * n])
        from ..ir.build import Builder

        found = vjp_into(Builder.current(), nodes, values[2 * n :], seeds)
        reached.extend(i for i, g in enumerate(found) if g is not None)
        grads = [g for g in found if g is not None]
        if not create_graph:
            grads = [ops.detach(g) for g in grads]
        return grads, [create_graph] * len(grads), tuple(reached)

    made = rec.step(key, slots, build)
    return [(wanted[i], cell) for i, cell in zip(rec.state.extra, made, strict=True)]


def path_nodes(state: State) -> list[Node]:
    nodes: list[Node] = []
    for step in state.path():
        nodes += step.nodes
    return nodes


class FunctionSegment:
    """A user's autograd.Function: its backward is Python, run each time."""

    __slots__ = ("__weakref__", "_backward", "freed", "inputs", "label", "number", "outputs")

    def __init__(
        self,
        inputs: Sequence[Cell],
        outputs: Sequence[Cell],
        backward: Callable[[list[Cell | None], bool], list[Cell | None]],
    ) -> None:
        self.number, self.inputs, self._backward = next(_numbers), list(inputs), backward
        self.outputs = {id(cell): i for i, cell in enumerate(outputs)}
        self.freed, self.label = False, ""
        for cell in outputs:
            cell.grad_fn = self

    def pull(self, cotangents: dict[Cell, Cell], create_graph: bool) -> list[Cell | None]:
        if self.freed:
            raise _freed()
        by_output: list[Cell | None] = [None] * len(self.outputs)
        for cell, ct in cotangents.items():
            by_output[self.outputs[id(cell)]] = ct
        found = self._backward(by_output, create_graph)
        if len(found) != len(self.inputs):
            raise UnsupportedError(
                f"a backward returned {len(found)} gradients for {len(self.inputs)} inputs"
            )
        return found

    def free(self) -> None:
        self.freed = True
