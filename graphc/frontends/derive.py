"""Reverse-mode differentiation of recorded programs.

The part of a program that is still pending is differentiated in place, as one more step of the
tape. A part that was flushed is a `Segment`: it kept what its backward needs. A user's own
Function is a segment too, whose backward is Python. Segments are numbered as they are made; the
backward visits them from the latest to the earliest, so every cotangent is complete when used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..backends.base import check_backward, is_numeric
from ..ir import ops
from ..ir.build import dead_code
from ..ir.graph import Graph, Node, Value
from ..passes.autodiff import vjp_into
from .record import Cell, Recorder, State, recorder, value_of
from .saved import kept_nodes, modified_error, saved_values
from .segment import Differentiable, Segment, freed_error, recorded, start_like, summed


class _Pull:
    """One backward: the cotangents known so far, by cell, and what was asked for."""

    def __init__(self, wanted: Sequence[Cell], retain_graph: bool, create_graph: bool) -> None:
        self.known: dict[Cell, Cell] = {}
        self.wanted, self.retain, self.create = set(wanted), retain_graph, create_graph
        self.before_hooks: dict[Cell, Cell] = {}  # of wanted cells, in the order of completion
        self.waiting: dict[Any, list[Cell]] = {}
        self.seen: set[Cell] = set()
        self._owners = {id(cell.owner()) for cell in wanted if cell.owner is not None}
        self._leading: dict[Cell, bool] = {}

    def add(self, cell: Cell, ct: Cell) -> None:
        self.known[cell] = add_cells(self.known[cell], ct) if cell in self.known else ct

    def enqueue(self, cell: Cell) -> None:
        if cell not in self.seen and hasattr(cell.grad_fn, "pull"):
            self.seen.add(cell)
            self.waiting.setdefault(cell.grad_fn, []).append(cell)

    def leads(self, cell: Cell) -> bool:
        """Whether the gradient of the cell is asked for, or leads to one that is: where some are
        asked for, nothing else is computed or freed."""
        if not self.wanted:
            return True
        known, todo = self._leading, [cell]
        while todo:  # (a program may be a chain of thousands of segments)
            last = todo[-1]
            if last not in known:
                if self._is_end(last):
                    known[last] = True
                else:
                    above = [c for c in self._above(last) if c.requires_grad]
                    missing = [c for c in above if c not in known]
                    if missing:
                        todo += missing
                        continue
                    known[last] = any([known[c] for c in above])
            todo.pop()
        return known[cell]

    def _is_end(self, cell: Cell) -> bool:
        """Whether a gradient is asked for here, or what has given up its inputs will raise."""
        if cell in self.wanted or (cell.grad_fn is None and cell.owner is not None):
            return cell in self.wanted or id(cell.owner()) in self._owners
        return hasattr(cell.grad_fn, "inputs_of") and cell.grad_fn.inputs_of(cell) is None

    @staticmethod
    def _above(cell: Cell) -> list[Cell]:
        segment = cell.grad_fn
        return list(segment.inputs_of(cell)) if hasattr(segment, "inputs_of") else []

    def special(self, cell: Cell) -> bool:
        """Whether somebody looks at the cell's own gradient."""
        return bool(cell.hooks) or cell.retain is not None or cell in self.wanted

    def visit(self) -> None:
        """Goes through the segments, the latest first."""
        for cell in list(self.known):
            if self.leads(cell):
                self.enqueue(cell)
        while self.waiting:
            segment = max(self.waiting, key=lambda s: s.number)
            self._visit(segment, self.waiting.pop(segment))
        for cell in self.known:
            if cell.grad_fn is None:
                self._complete(cell)
        for cell in list(self.before_hooks)[:-1]:
            if cell.grad_fn is not None:  # as in torch: captured where the gradient passes by
                self.known[cell] = self.before_hooks[cell]

    def _visit(self, segment: Differentiable, given: list[Cell]) -> None:
        known, leads = self.known, self.leads if self.wanted else None
        segment.check(given, leads)
        cuts = tuple(segment.cuts(given, self.special))
        there = list(dict.fromkeys([*given, *cuts]))
        self.seen.update(cuts)
        for cell in sorted(there, key=segment.place, reverse=True):
            if cell in cuts:
                later = {c: known[c] for c in there if c in known}
                ct = segment.pull_to(cell, later, self.create, cuts)
                if ct is not None:
                    self.add(cell, ct)
            if cell in known:
                self._complete(cell)
        cts = {cell: known[cell] for cell in there if cell in known}
        found = segment.pull(cts, self.create, cuts)
        for cell, ct in zip(segment.inputs, found, strict=True):
            if ct is not None and (leads is None or leads(cell)):
                self.add(cell, ct)
                self.enqueue(cell)
        if not self.retain:
            segment.free(there, leads)

    def _complete(self, cell: Cell) -> None:
        """The cell's gradient is complete: its hooks run."""
        if cell in self.wanted:
            self.before_hooks[cell] = self.known[cell]
        for hook in list((cell.hooks or {}).values()):
            self.known[cell] = hook(self.known[cell])
        if cell.retain is not None:
            cell.retain(self.known[cell])


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
    rec = recorder()
    for cell in (*roots, *wanted):
        if cell.buffer is None and cell.tape is not rec.tape:
            value_of(cell)  # it is pending in another thread
    if not wanted and all([cell.grad_fn is rec.tape for cell in roots]):
        found = _to_plain_leaves(rec, roots, cotangents, retain_graph, create_graph)
        if found is not None:
            return found
    if not wanted and len(roots) == 1 and isinstance(roots[0].grad_fn, Segment):
        found = _from_one_segment(roots[0], cotangents[0], retain_graph, create_graph)
        if found is not None:
            return found
    pull = _Pull(wanted, retain_graph, create_graph)
    pending_roots: list[tuple[Cell, Cell]] = []
    for cell, ct in zip(roots, cotangents, strict=True):
        if cell.grad_fn is rec.tape:
            pending_roots.append((cell, ct))
        else:
            start_like(cell)
            pull.add(cell, ct)
    if pending_roots:
        inside = [c for c in wanted if c.grad_fn is rec.tape]
        leaves = [
            (i, c) for c, i in rec.tape.params.items()
            if c.requires_grad is True and c.grad_fn is not rec.tape and pull.leads(c)
        ]  # fmt: skip
        for cell, ct in _pull_tape(rec, pending_roots, leaves, inside, retain_graph, create_graph):
            pull.add(cell, ct)
        for cell, ct in pending_roots:
            if cell in wanted and cell not in pull.known:
                pull.known[cell] = ct
    pull.visit()
    return pull.known


def _to_plain_leaves(
    rec: Recorder,
    roots: Sequence[Cell],
    cotangents: Sequence[Cell],
    retain_graph: bool,
    create_graph: bool,
) -> dict[Cell, Cell] | None:
    """The gradients where all is pending, and nobody looks at one on its way: nothing to visit."""
    leaves = []
    for cell, slot in rec.tape.params.items():
        if cell.requires_grad is True:
            if cell.grad_fn is not None or cell.hooks or cell.retain is not None:
                return None
            leaves.append((slot, cell))
    pairs = list(zip(roots, cotangents, strict=True))
    return dict(_pull_tape(rec, pairs, leaves, (), retain_graph, create_graph))


def _from_one_segment(
    root: Cell, cotangent: Cell, retain_graph: bool, create_graph: bool
) -> dict[Cell, Cell] | None:
    """The same where all was computed at once, as by a look at the loss."""
    segment = root.grad_fn
    inputs = segment.inputs
    for cell in (root, *inputs):
        if cell.hooks or cell.retain is not None or (cell.grad_fn is not None and cell is not root):
            return None
    if segment.cuts((root,), lambda cell: bool(cell.hooks) or cell.retain is not None):
        return None
    start_like(root)
    segment.check((root,), None)
    found = segment.pull({root: cotangent}, create_graph)
    if not retain_graph:
        segment.free((root,), None)
    return {cell: ct for cell, ct in zip(inputs, found, strict=True) if ct is not None}


def add_cells(a: Cell, b: Cell) -> Cell:
    """a + b, recorded."""
    grad = bool(a.requires_grad or b.requires_grad)
    build = lambda x, y: ((ops.add(x, y),), (grad,), None)  # noqa: E731
    return recorded(("add_gradients",), [a, b], build)[0][0]


def _pull_tape(
    rec: Recorder,
    roots: Sequence[tuple[Cell, Cell]],
    leaves: Sequence[tuple[int, Cell]],
    inside: Sequence[Cell],
    retain_graph: bool,
    create_graph: bool,
) -> list[tuple[Cell, Cell]]:
    """Differentiates the tape from `roots` to `leaves`, parameters of it with their slots, and to
    the cells `inside` it."""
    tape = rec.tape
    slots = [cell.slot for cell, _ in roots]
    slots += [rec.slot_of(ct) for _, ct in roots]
    wanted = [cell for _, cell in leaves] + list(inside)
    slots += [i for i, _ in leaves] + [cell.slot for cell in inside]
    n = len(roots)
    key = ("backward", create_graph, n, len(leaves), *slots)
    reached: list[int] = []

    def build(*values: Value) -> tuple[list[Value], list[bool], Any]:
        nodes = path_nodes(rec.state)
        seeds = summed(values[:n], values[n : 2 * n])
        from ..ir.build import Builder

        if is_numeric(rec.options.verify):
            _check(nodes, values[2 * n :], seeds, rec.options.verify)
        found = vjp_into(Builder.current(), nodes, values[2 * n :], seeds)
        reached.extend(i for i, g in enumerate(found) if g is not None)
        grads = [g for g in found if g is not None]
        if not create_graph:
            grads = [ops.detach(g) for g in grads]
        masks, kept = kept_nodes(nodes, values[2 * n :]), 0
        for value in values[:n]:
            kept |= masks.get(value, 0)
        places = {node: i for i, node in enumerate(nodes)}
        saved = [s for s in saved_values(rec.state.path()) if s.mask(places) & kept]
        return grads, [create_graph] * len(grads), (tuple(reached), kept, saved)

    made = rec.step(key, slots, build)
    places, kept, saved = rec.state.extra
    if kept & tape.freed:
        raise freed_error()
    for one in saved:
        mark = tape.cells[one.slot].written
        if mark is not None and one.written_by_another(mark.by, id(tape)):
            raise modified_error(one.text)
    if not retain_graph:
        tape.freed |= kept
    return [(wanted[i], cell) for i, cell in zip(places, made, strict=True)]


def _check(
    nodes: Sequence[Node], wrt: Sequence[Value], seeds: Iterable[Value], verify: str | None
) -> None:
    """Verifies the derivatives that are about to be taken, where that is asked for."""
    made = {value for node in nodes for value in node.outputs}
    inside = [value for value in wrt if value not in made]
    free = {value: None for node in nodes for value in node.inputs if value not in made}
    params = list(dict.fromkeys([*inside, *free]))
    whole = dead_code(Graph(params, nodes, list(dict.fromkeys(seeds))))
    check_backward(whole, range(len(inside)), verify)


def path_nodes(state: State) -> list[Node]:
    nodes: list[Node] = []
    for step in state.path():
        nodes += step.nodes
    return nodes
