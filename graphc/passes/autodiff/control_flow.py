"""Derivatives of `if` and `scan`, by the derivatives of their blocks.

The value of a node that exists stays as it is, and its effects run once: what runs again has none.
Where a scan's backward needs what each step computed, it reads a second scan on the same operands
that also stacks residuals; `merge_loops` (part of `clean`) makes the two one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from graphc.ir.build import Builder, dead_code
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import NO_ATTRS, Attrs, Graph, Node, Value
from graphc.ir.op import OPS, constant_like

from ..blocks import inputs_of, without_effects
from ..partition import partition
from .forward import PUSH, Moves, Values, jvp
from .linear import derived, differentiable, or_zero, zero_like
from .reverse import PULL, active_values, plain_vjp

IF, SCAN = OPS["if"], OPS["scan"]


# --- if ------------------------------------------------------------------------------------------


def pull_if(
    builder: Builder, node: Any, which: Sequence[int], cts: list[Value | None]
) -> Sequence[Value | None]:
    """Each branch's derivative runs that branch again: what it needs is recomputed, not kept.

    With a predicate of rank k every operand has those k axes in front, so that both branches can
    be pulled back and one chosen for each example: the branch not taken gives no nan.
    """
    rank = len(node.inputs[0].type.shape)
    for i in which:
        if node.inputs[i].type.shape[:rank] != node.inputs[0].type.shape:
            raise UnsupportedError(
                f"if with a predicate {node.inputs[0].type.text} cannot be differentiated by "
                f"{node.inputs[i].type.text}: its first axes are others",
                at=node.loc,
            )
    places = [i - 1 for i in which]
    seeds = [i for i, ct in enumerate(cts) if ct is not None]
    blocks = tuple([gradients_of(block, places, seeds) for block in node.blocks])
    operands = (*node.inputs, *[cts[i] for i in seeds])
    return builder.emit(IF, operands, NO_ATTRS, blocks)


def push_if(
    builder: Builder, node: Node, inputs: tuple[Value, ...], moves: Moves
) -> tuple[Values, Moves]:
    """One `if` whose blocks give results and tangents."""
    moved = [i for i, move in enumerate(moves[1:]) if move is not None]
    blocks = tuple([jvp(block, moved) for block in node.blocks])
    operands = (*inputs, *[m for m in moves[1:] if m is not None])
    builder.loc = derived(node.loc)
    made = builder.emit(IF, operands, NO_ATTRS, blocks)
    tangents = iter(made[len(node.outputs) :])
    floats = set(differentiable(node.outputs))
    outs = [next(tangents) if i in floats else None for i in range(len(node.outputs))]
    return made[: len(node.outputs)], outs


def gradients_of(block: Graph, wanted: Sequence[int], seeds: Sequence[int]) -> Graph:
    """(inputs, cotangents) -> gradients alone."""
    joint = without_effects(plain_vjp(block, wanted, seeds))
    return dead_code(Graph(joint.params, joint.nodes, joint.results[len(block.results) :]))


# --- scan ----------------------------------------------------------------------------------------


class StepDerivative:
    """The vjp of one step of a scan, cut in two like any joint graph.

    Rows and constants are there for the backward anyway; carries pass, so they count as residuals.
    `ahead` is the step that gives residuals as well, each once: `place[v]` is where it stands
    among the step's results.
    """

    def __init__(self, block: Graph, n_carry: int, n_consts: int, which: tuple, ys: tuple) -> None:
        moving = moving_carries(block, n_carry, which)
        self.carries = [i for i in moving if i < n_carry]
        self.rows = [i for i in moving if n_carry <= i < n_consts]
        self.consts = [i for i in moving if i >= n_consts]
        self.seeds = [*self.carries, *ys]
        wanted = [*self.carries, *self.rows, *self.consts]
        joint = without_effects(plain_vjp(block, wanted, self.seeds))
        n_results = len(block.results)
        ahead, self.back, self.kept = partition(
            joint, len(block.params), n_results, passing=range(n_carry)
        )
        results = list(ahead.results[:n_results])
        self.place = {}
        for value in ahead.results[n_results:]:
            if value not in results[n_carry:]:
                results.append(value)
            self.place[value] = results.index(value, n_carry)
        grown = len(results) > n_results
        self.ahead = Graph(ahead.params, ahead.nodes, results) if grown else None


_DERIVATIVES: WeakKeyDictionary[Graph, dict[tuple, StepDerivative]] = WeakKeyDictionary()


def _step_derivative(block: Graph, attrs: Attrs, which: tuple, ys: tuple) -> StepDerivative:
    n_carry, n_consts = attrs["carry"], attrs["carry"] + attrs["xs"]
    known = _DERIVATIVES.setdefault(block, {})
    key = (n_carry, n_consts, which, ys)
    if key not in known:
        known[key] = StepDerivative(block, n_carry, n_consts, which, ys)
    return known[key]


def moving_carries(block: Graph, n_carry: int, which: Iterable[int]) -> list[int]:
    """Which inputs move, given which move at first: a carry may begin to move in a later step."""
    moved = set(which)
    while True:
        active = active_values(block.nodes, [block.params[i] for i in moved])
        more = moved | {i for i in range(n_carry) if block.results[i] in active}
        if more == moved:
            return sorted(moved)
        moved = more


def pull_scan(
    builder: Builder, node: Any, which: Sequence[int], cts: list[Value | None]
) -> Sequence[Value | None]:
    """A scan the other way, whose step pulls back; it carries the cotangents of carries and
    constants, and stacks those of rows."""
    attrs, inputs, block = node.attrs, node.inputs, node.blocks[0]
    n_carry, n_consts = attrs["carry"], attrs["carry"] + attrs["xs"]
    ys = tuple([i for i in range(n_carry, len(cts)) if cts[i] is not None])
    step = _step_derivative(block, attrs, tuple(which), ys)
    outs = node.outputs
    if step.ahead is not None:
        outs = builder.emit(SCAN, inputs, attrs, (step.ahead,))
    residuals = [outs[step.place[v]] for v in step.kept]
    used = inputs_of(step.back)
    rows = [i for i in range(n_carry, n_consts) if step.back.params[i] in used]
    fixed = [i for i in range(n_consts, len(inputs)) if step.back.params[i] in used]
    body = _backward_body(block, step, n_carry, rows, fixed)
    init = [or_zero(cts[i], node.outputs[i]) for i in step.carries]
    init += [zero_like(inputs[i]) for i in step.consts]
    xs = [*[inputs[i] for i in rows], *residuals, *[cts[i] for i in ys]]
    operands = (*init, *xs, *[inputs[i] for i in fixed])
    turned = {**attrs, "carry": len(init), "xs": len(xs), "reverse": not attrs["reverse"]}
    made = builder.emit(SCAN, operands, SCAN.attrs_of(turned), (body,))
    by_input = dict(zip([*step.carries, *step.consts, *step.rows], made, strict=True))
    return [by_input[i] for i in which]


def _backward_body(
    block: Graph, step: StepDerivative, n_carry: int, rows: list[int], fixed: list[int]
) -> Graph:
    """(cotangents of carries, of constants so far, rows, residuals, cotangents of ys, constants)
    -> (cotangents of carries, of constants, rows' cotangents)."""
    n_c, n_r = len(step.carries), len(step.rows)
    with Builder() as b:
        ct_carry = [b.param(block.params[i].type) for i in step.carries]
        so_far = [b.param(block.params[i].type) for i in step.consts]
        given = {i: b.param(block.params[i].type) for i in rows}
        stacked = [b.param(value.type) for value in step.kept]
        ct_ys = [b.param(block.results[i].type) for i in step.seeds[n_c:]]
        given.update({i: b.param(block.params[i].type) for i in fixed})
        inputs = [  # what `back` does not read may be anything
            given[i] if i in given else constant_like(0, p) for i, p in enumerate(block.params)
        ]
        grads = b.replay(step.back, [*inputs, *stacked, *ct_carry, *ct_ys])
        add = OPS["add"]
        total = [add(s, g) for s, g in zip(so_far, grads[n_c + n_r :], strict=True)]
        return b.graph([*grads[:n_c], *total, *grads[n_c : n_c + n_r]])


def push_scan(
    builder: Builder, node: Node, inputs: tuple[Value, ...], moves: Moves
) -> tuple[Values, Moves]:
    """One scan whose carries, rows and constants are followed by their tangents."""
    attrs, block = node.attrs, node.blocks[0]
    n_carry, n_consts = attrs["carry"], attrs["carry"] + attrs["xs"]
    which = [i for i, move in enumerate(moves) if move is not None]
    moving = moving_carries(block, n_carry, which)
    groups = [range(n_carry), range(n_carry, n_consts), range(n_consts, len(inputs))]
    moved = [[i for i in part if i in moving] for part in groups]
    body, tangent_ys = _pushed_step(block, n_carry, moving, groups, moved)
    operands: list[Value] = []
    for part, extra in zip(groups, moved, strict=True):
        operands += [inputs[i] for i in part]
        operands += [or_zero(moves[i], inputs[i]) for i in extra]
    n_moved = len(moved[0])
    wider = {**attrs, "carry": n_carry + n_moved, "xs": len(groups[1]) + len(moved[1])}
    builder.loc = derived(node.loc)
    made = builder.emit(SCAN, tuple(operands), SCAN.attrs_of(wider), (body,))
    n_ys = len(block.results) - n_carry
    first_y = n_carry + n_moved
    tangent_of = dict(zip(moved[0], made[n_carry:first_y], strict=True))
    tangent_of.update(zip(tangent_ys, made[first_y + n_ys :], strict=True))
    outs = [*made[:n_carry], *made[first_y : first_y + n_ys]]
    return outs, [tangent_of.get(i) for i in range(len(outs))]


def _pushed_step(
    block: Graph,
    n_carry: int,
    moving: Sequence[int],
    groups: Sequence[range],
    moved: Sequence[Sequence[int]],
) -> tuple[Graph, list[int]]:
    """The step's jvp with its parameters and results in a scan's order; which ys have tangents."""
    step = jvp(block, moving)
    floats = differentiable(block.results)
    with Builder() as b:
        place: dict[int, Value] = {}
        tangent: dict[int, Value] = {}
        for part, extra in zip(groups, moved, strict=True):
            place.update({i: b.param(block.params[i].type) for i in part})
            tangent.update({i: b.param(block.params[i].type) for i in extra})
        arguments = [place[i] for i in range(len(block.params))] + [tangent[i] for i in moving]
        results = b.replay(step, arguments)
        values = results[: len(block.results)]
        tangents = dict(zip(floats, results[len(block.results) :], strict=True))
        ys = [i for i in range(n_carry, len(block.results)) if i in tangents]
        carried = [*values[:n_carry], *[tangents[i] for i in moved[0]]]
        return b.graph([*carried, *values[n_carry:], *[tangents[i] for i in ys]]), ys


PULL[IF], PULL[SCAN] = pull_if, pull_scan
PUSH[IF], PUSH[SCAN] = push_if, push_scan
