"""Segments: parts of a recorded program that were computed, and can still be differentiated.

A flushed trace is a `Segment`: it kept what its backward needs. A user's own Function is one too,
whose backward is Python. A segment's output that another of its outputs depends on needs care
where a hook must see its gradient, or the user asks for it: there the segment is cut.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from ..ir import ops
from ..ir.build import Builder
from ..ir.errors import GraphcError, UnsupportedError
from ..ir.graph import Graph, Value, symbols_of
from ..passes.autodiff import vjp_into
from .record import Cell, recorder
from .saved import Saved, Written, kept_nodes, modified_error, upstream
from .steps import steps
from .symbolic import replay

_numbers = itertools.count()
Cuts = tuple[Cell, ...]
Leads = Callable[[Cell], bool] | None  # None: all do
Past = list[weakref.ref[Cell]]


def past(inputs: Sequence[Cell]) -> Past:
    """Inputs that are given up: they tell whether a freed graph led to what is asked for."""
    return [weakref.ref(cell) for cell in inputs]


def alive(inputs: Past) -> list[Cell] | None:
    """The inputs again; None where one of them is gone, and what it was computed from with it."""
    found = [ref() for ref in inputs]
    return None if None in found else found  # type: ignore[return-value]


class FreedError(GraphcError, RuntimeError):
    """backward through a graph whose saved values were given up."""


def freed_error() -> FreedError:
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

    def cuts(self, given: Iterable[Cell], special: Callable[[Cell], bool]) -> list[Cell]:
        """Outputs that are special and that a given output depends on."""
        ...

    def place(self, cell: Cell) -> int:
        """Which output a cell is; later ones depend on earlier ones."""
        ...

    def inputs_of(self, cell: Cell) -> Iterable[Cell] | None:
        """The inputs from which a derivative leads to an output; None where that is not known."""
        ...

    def check(self, given: Iterable[Cell], leads: Leads) -> None:
        """Raises where what the derivatives of outputs need is gone or was written: on the ways
        to those inputs that lead to where gradients are wanted."""
        ...

    def pull(
        self, cotangents: dict[Cell, Cell], create_graph: bool, cuts: Cuts = ()
    ) -> list[Cell | None]:
        """The cotangents of `inputs`; None for those without a derivative."""
        ...

    def pull_to(
        self, target: Cell, cotangents: dict[Cell, Cell], create_graph: bool, cuts: Cuts
    ) -> Cell | None:
        """What later outputs give to the cotangent of an output."""
        ...

    def free(self, given: Iterable[Cell], leads: Leads) -> None:
        """Gives up what `check` asks for."""
        ...


class Structure:
    """What is known of a template's outputs: computed once, when first asked for."""

    def __init__(self, graph: Graph, wanted: Sequence[int]) -> None:
        self.graph = graph
        self._kept: dict[tuple[int, ...], list[int]] = {}
        self.kept_by_all = self.kept(tuple(wanted))
        found = upstream(graph.nodes, {value: i for i, value in enumerate(graph.results)})
        self.upstream = [found.get(v, 0) & ~(1 << i) for i, v in enumerate(graph.results)]
        # Of each output: from which of the wanted params a derivative leads to it.
        starts = {graph.params[k]: i for i, k in enumerate(wanted)}
        reached = upstream(graph.nodes, starts)
        self.reached = [reached.get(v, 0) for v in graph.results]
        self.static = not symbols_of(graph)
        self._cut: dict[tuple[int, ...], Graph] = {}

    def kept(self, params: tuple[int, ...]) -> list[int]:
        """Of each output: the nodes that keep something, on the ways to it from some params."""
        found = self._kept.get(params)
        if found is None:
            leading = kept_nodes(self.graph.nodes, [self.graph.params[k] for k in params])
            found = [leading.get(value, 0) for value in self.graph.results]
            self._kept[params] = found
        return found

    def cut(self, places: tuple[int, ...]) -> Graph:
        """The graph with outputs as parameters too, which their readers read."""
        found = self._cut.get(places)
        if found is None:
            found = self._cut[places] = self._make_cut(places)
        return found

    def _make_cut(self, places: tuple[int, ...]) -> Graph:
        graph = self.graph
        with Builder(graph.params) as builder:
            ends = [graph.results[i] for i in places]
            instead = {value: builder.param(value.type, value.name) for value in ends}
            made = dict(zip(graph.params, graph.params, strict=True))
            for node in graph.nodes:
                inputs = tuple([instead.get(v) or made[v] for v in node.inputs])
                outputs = builder.emit(node.op, inputs, node.attrs, node.blocks, node)
                made.update(zip(node.outputs, outputs, strict=True))
            return builder.graph([made[value] for value in graph.results])


def start_like(cell: Cell) -> None:
    """Sizes of a new recording stay numbers where those of the cell's segment are numbers."""
    tape, segment = recorder().tape, cell.grad_fn
    if not tape.sizes and isinstance(segment, Segment) and segment.template.structure.static:
        tape.static = True


class Segment:
    """A flushed trace: its inputs, its residuals, and which cells are its outputs."""

    __slots__ = (
        "__weakref__", "_cells", "_past", "freed", "inputs", "number", "outputs", "residuals",
        "saved", "template",
    )  # fmt: skip

    def __init__(
        self,
        template: Any,
        params: Sequence[Cell],
        residuals: Iterable[tuple],
        outputs: Sequence[Cell],
    ) -> None:
        self.template, self.number = template, next(_numbers)
        self.inputs = list(params)
        self._past: Past = []  # what they were, once they are given up
        self.residuals: list[Cell] | None = [Cell(type, buffer) for type, buffer in residuals]
        self.outputs = {id(cell): i for i, cell in enumerate(outputs)}
        self._cells = [weakref.ref(cell) for cell in outputs]
        self.saved: list[tuple[Saved, int, Written]] = []
        self.freed = 0  # the nodes whose kept values were given up
        for cell in outputs:
            cell.grad_fn = self

    def place(self, cell: Cell) -> int:
        return self.outputs[id(cell)]

    def cuts(self, given: Iterable[Cell], special: Callable[[Cell], bool]) -> list[Cell]:
        alive = [ref() for ref in self._cells]
        found = [cell for cell in alive if cell is not None and special(cell)]
        if not found:
            return []
        structure, below = self.template.structure, 0
        for cell in given:
            below |= structure.upstream[self.place(cell)]
        return [cell for cell in found if below >> self.place(cell) & 1]

    def pull(
        self, cotangents: dict[Cell, Cell], create_graph: bool, cuts: Cuts = ()
    ) -> list[Cell | None]:
        template = self.template
        given = sorted(cotangents, key=self.place)
        found: list[Cell | None] = [None] * len(self.inputs)
        places = tuple([self.place(cell) for cell in given])
        cts = [cotangents[cell] for cell in given]
        if cuts:
            grads = self._pull_cut(None, places, cts, create_graph, cuts)
        elif create_graph or self.residuals is None:
            build = _replayed(template, places)
            grads = self._step(build, [*self.inputs, *cts], places, create_graph)
        else:
            build = _from_residuals(template, places)
            operands = [*[self.inputs[k] for k in template.needs], *self.residuals, *cts]
            grads = self._step(build, operands, places, create_graph)
        reached = 0
        for place in places:
            reached |= template.structure.reached[place]
        for i, (k, cell) in enumerate(zip(template.wanted, grads, strict=True)):
            if reached >> i & 1:  # the others get none, not zeros
                found[k] = cell
        return found

    def pull_to(
        self, target: Cell, cotangents: dict[Cell, Cell], create_graph: bool, cuts: Cuts
    ) -> Cell | None:
        at = self.place(target)
        given = sorted([c for c in cotangents if self.place(c) > at], key=self.place)
        if not given:
            return None
        places = tuple([self.place(cell) for cell in given])
        found = self._pull_cut(at, places, [cotangents[c] for c in given], create_graph, cuts)
        return found[0]

    def inputs_of(self, cell: Cell) -> Iterable[Cell] | None:
        inputs = self.inputs or alive(self._past)
        if not inputs:
            return None
        reached = self.template.structure.reached[self.place(cell)]
        return [inputs[k] for i, k in enumerate(self.template.wanted) if reached >> i & 1]

    def _kept(self, leads: Leads) -> list[int]:
        structure = self.template.structure
        if leads is None or not self.inputs:
            return structure.kept_by_all
        wanted = [k for k in self.template.wanted if leads(self.inputs[k])]
        return structure.kept(tuple(wanted))

    def check(self, given: Iterable[Cell], leads: Leads) -> None:
        if not self.freed and not self.saved:
            return
        passed, kept = 0, self._kept(leads)
        for cell in given:
            passed |= kept[self.place(cell)]
        if passed & self.freed:
            raise freed_error()
        for one, mask, mark in self.saved:
            if mark.by is not None and mask & passed:
                raise modified_error(one.text)

    def _pull_cut(
        self, target: int | None, places: tuple[int, ...], cts: list[Cell], create: bool, cuts: Cuts
    ) -> list[Cell | None]:
        at = tuple([self.place(cell) for cell in cuts])
        build = _through_cut(self.template, at, target, places)
        key = ("cut segment", self.template, create, at, target, places)
        made, there = recorded(
            key, [*self.inputs, *cuts, *cts], lambda *values: build(*values, create=create)
        )
        left = iter(made)
        return [next(left) if found else None for found in there]

    def _step(
        self, build: Callable, operands: list[Cell], places: tuple[int, ...], create: bool
    ) -> list[Cell]:
        key = ("segment", self.template, create, self.residuals is None, places)
        return recorded(key, operands, lambda *values: (*build(*values, create=create), None))[0]

    def free(self, given: Iterable[Cell], leads: Leads) -> None:
        kept = self._kept(leads)
        for cell in given:
            self.freed |= kept[self.place(cell)]
        left = [i for i, ref in enumerate(self._cells) if ref() is not None]
        every = self.template.structure.kept_by_all
        if all([every[i] & self.freed or not every[i] for i in left]):
            self.residuals = None
            if all([every[i] for i in left]):
                self._past, self.inputs = past(self.inputs), []


def recorded(key: tuple, operands: Sequence[Cell], build: Callable) -> tuple[list[Cell], Any]:
    """Records a step on cells; gives its results, and what `build` gave beside them.

    Where the sizes of this recording are symbols and the step's are not, it is done statically.
    """
    rec = recorder()
    slots = steps.slots_of_cells(rec, list(operands)) or [rec.slot_of(cell) for cell in operands]
    try:
        made = rec.step((*key, *slots), slots, build)
    except GraphcError:
        if not rec.tape.sizes:
            raise
        rec.go_static()
        return recorded(key, operands, build)
    return made, rec.state.extra


def _from_residuals(template: Any, places: tuple[int, ...]) -> Callable:
    def build(*values: Value, create: bool) -> tuple[list[Value], list[bool]]:
        graph = template.backward
        n_fixed = len(graph.params) - len(template.graph.results)
        cts = dict(zip(places, values[n_fixed:], strict=True))
        ends = graph.params[n_fixed:]
        missing = [p for i, p in enumerate(ends) if i not in cts]
        zeros = iter(_zeros(missing, graph.params[:n_fixed], values))
        seeds = [cts[i] if i in cts else next(zeros) for i in range(len(ends))]
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


def _replayed(template: Any, places: tuple[int, ...]) -> Callable:
    """For gradients of gradients: the trace runs again, and is differentiated in place."""

    def build(*values: Value, create: bool) -> tuple[list[Value], list[bool]]:
        builder, n = Builder.current(), len(template.graph.params)
        outputs = replay(template.graph, values[:n])
        wanted = [values[k] for k in template.wanted]
        seeds = summed([outputs[i] for i in places], values[n:])
        found = vjp_into(builder, tuple(builder.nodes), wanted, seeds)
        grads = [ops.full_like(0.0, w) if g is None else g for g, w in zip(found, wanted)]
        if not create:
            grads = [ops.detach(g) for g in grads]
        return grads, [create] * len(grads)

    return build


def _through_cut(
    template: Any, cuts: tuple[int, ...], target: int | None, places: tuple[int, ...]
) -> Callable:
    """From outputs to an output (`target`), or to the params, with no path through the cuts."""

    def build(*values: Value, create: bool) -> tuple[list[Value], list[bool], Any]:
        builder, n = Builder.current(), len(template.graph.params)
        ends = values[n : n + len(cuts)]
        outputs = replay(template.structure.cut(cuts), values[: n + len(cuts)])
        if target is None:
            wanted = [values[k] for k in template.wanted]
        else:
            wanted = [ends[cuts.index(target)]]
        seeds = summed([outputs[i] for i in places], values[n + len(cuts) :])
        found = vjp_into(builder, tuple(builder.nodes), wanted, seeds)
        grads = [g if create else ops.detach(g) for g in found if g is not None]
        return grads, [create] * len(grads), tuple([g is not None for g in found])

    return build


def summed(outputs: Sequence[Value], cts: Sequence[Value]) -> dict[Value, Value]:
    """The cotangent of each value; one that stands there several times gets the sum."""
    seeds: dict[Value, Value] = {}
    for out, ct in zip(outputs, cts, strict=True):
        seeds[out] = seeds[out] + ct if out in seeds else ct
    return seeds


class NoBackward:
    """The `grad_fn` of cells without a backward: it ran before their trace was computed, or an op
    that they depend on has no derivative. Who asks for one gets the error."""

    number = -1
    inputs: list[Cell] = []

    def __init__(self, error: Callable[[], GraphcError], inputs: Sequence[Cell] = ()) -> None:
        """inputs: those from which derivatives led here, where they are known."""
        self.error, self._past = error, past(inputs)

    def cuts(self, given: Iterable[Cell], special: Callable[[Cell], bool]) -> list[Cell]:
        return []

    def place(self, cell: Cell) -> int:
        return 0

    def inputs_of(self, cell: Cell) -> Iterable[Cell] | None:
        return alive(self._past) or None

    def check(self, given: Iterable[Cell], leads: Leads) -> None:
        raise self.error()

    def pull(
        self, cotangents: dict[Cell, Cell], create_graph: bool, cuts: Cuts = ()
    ) -> list[Cell | None]:
        raise self.error()

    def free(self, given: Iterable[Cell], leads: Leads) -> None: ...


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

    def place(self, cell: Cell) -> int:
        return self.outputs[id(cell)]

    def cuts(self, given: Iterable[Cell], special: Callable[[Cell], bool]) -> list[Cell]:
        return []  # a Function's outputs do not depend on each other

    def inputs_of(self, cell: Cell) -> Iterable[Cell] | None:
        return self.inputs

    def check(self, given: Iterable[Cell], leads: Leads) -> None:
        if self.freed:
            raise freed_error()

    def pull(
        self, cotangents: dict[Cell, Cell], create_graph: bool, cuts: Cuts = ()
    ) -> list[Cell | None]:
        by_output: list[Cell | None] = [None] * len(self.outputs)
        for cell, ct in cotangents.items():
            by_output[self.place(cell)] = ct
        found = self._backward(by_output, create_graph)
        if len(found) != len(self.inputs):
            raise UnsupportedError(
                f"a backward returned {len(found)} gradients for {len(self.inputs)} inputs"
            )
        return found

    def free(self, given: Iterable[Cell], leads: Leads) -> None:
        self.freed = True
