"""Rules of `if`, `scan` and `while`: their blocks are batched."""

from __future__ import annotations

from typing import Any

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.dims import AnyDim
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import NO_ATTRS, Graph, Value, effects_in
from graphc.ir.op import OPS

from .walk import RULES, Made, batch, move_to_front, widen, widen_all

IF, SCAN, WHILE = OPS["if"], OPS["scan"], OPS["while"]


def batched_if(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    """One predicate for all: an `if` of batched blocks. One for each example: an `if` whose
    predicate has the axis of examples, and whose branches both run.

    It stays one node until it is lowered to `select`, because it must be differentiated as an
    `if`: each branch pulled back on its own, then one chosen. The derivative of a select would
    send 0 * inf = nan through the branch that was not taken.
    """
    if which[0] or inputs[0].type.shape:
        if effects_in(node.blocks):
            raise UnsupportedError(
                "vmap of an if whose branches have effects: each example takes its own branch",
                at=node.loc,
            )
        inputs = widen_all(inputs, which, count)
        which = [True] * len(which)
    mapped = {i for i, w in enumerate(which[1:]) if w}
    every = range(len(node.outputs))
    blocks = tuple([batch(block, mapped, count, force=every)[0] for block in node.blocks])
    made = Builder.current().emit(IF, tuple(inputs), NO_ATTRS, blocks)
    return made, [True] * len(made)


def batched_scan(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    """Batches the step. A carry that is mapped after a step is mapped before the first."""
    carry, xs = node.attrs["carry"], node.attrs["xs"]
    mapped = {i for i, w in enumerate(which) if w}
    while True:
        force = {i for i in mapped if i < carry}
        step, outs = batch(node.blocks[0], mapped, count, force=force)
        more = mapped | {i for i in outs if i < carry}
        if more == mapped:
            break
        mapped = more
    operands = []
    for i, value in enumerate(inputs):
        if i < carry:
            value = widen(value, which[i] or i not in mapped, count)
        elif i < carry + xs and which[i]:
            value = move_to_front(value, 1)  # rows first, then examples
        operands.append(value)
    made = Builder.current().emit(SCAN, tuple(operands), node.attrs, (step,))
    moved = [move_to_front(v, 1) if i >= carry and i in outs else v for i, v in enumerate(made)]
    return moved, [i in outs for i in range(len(made))]


def batched_while(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    """Runs while the condition holds for some example; an example that is done keeps its state."""
    condition, body = node.blocks
    mapped = {i for i, w in enumerate(which) if w}
    while True:
        step, outs = batch(body, mapped, count, force=mapped)
        test, tested = batch(condition, mapped, count)
        more = mapped | outs | (set(range(len(inputs))) if tested else set())
        if more == mapped:
            break
        mapped = more
    operands = [widen(v, w or i not in mapped, count) for i, (v, w) in _numbered(inputs, which)]
    if tested:
        step, test = _masked(step, test), _any(test)
    made = Builder.current().emit(WHILE, tuple(operands), NO_ATTRS, (test, step))
    return made, [i in mapped for i in range(len(made))]


def _numbered(inputs: list[Value], which: list[bool]) -> Any:
    return enumerate(zip(inputs, which, strict=True))


def _any(test: Graph) -> Graph:
    with Builder(test.params) as b:
        (each,) = b.replay(test, test.params)
        return b.graph([ops.reduce_max(each, axes=(0,))])


def _masked(step: Graph, test: Graph) -> Graph:
    """The step, where the test holds; the state as it was elsewhere."""
    with Builder(step.params) as b:
        (going,) = b.replay(test, step.params)
        results = b.replay(step, step.params)
        kept = []
        for old, new in zip(step.params, results, strict=True):
            shape = new.type.shape
            axes = tuple(range(1, len(shape)))
            mask = ops.expand(going, shape=shape, axes=axes) if axes else going
            kept.append(ops.select(mask, new, old))
        return b.graph(kept)


RULES[IF], RULES[SCAN], RULES[WHILE] = batched_if, batched_scan, batched_while
