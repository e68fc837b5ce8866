"""Derivatives of `while`, whose number of steps is known only when it has run.

Backward, the steps are counted first. Then segments of `SEGMENT` steps are visited from the last to
the first: the state at the segment's beginning is computed again from the start, the states within
it go into buffers of a fixed size, and each step is pulled back on its own state. Up to SEGMENT
steps cost one more forward; n steps cost n / (2 * SEGMENT) forwards. Memory does not grow with n.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.dtype import I64
from graphc.ir.graph import NO_ATTRS, Graph, Node, Value
from graphc.ir.op import OPS

from ..blocks import without_effects
from .control_flow import gradients_of, moving_carries
from .forward import PUSH, Moves, Values, jvp
from .linear import derived, differentiable, or_zero
from .reverse import PULL

WHILE = OPS["while"]
SEGMENT = 64


def push_while(
    builder: Builder, node: Node, inputs: tuple[Value, ...], moves: Moves
) -> tuple[Values, Moves]:
    """One loop over the state and the tangents of what moves."""
    condition, body = node.blocks
    n = len(inputs)
    moving = moving_carries(body, n, [i for i, m in enumerate(moves) if m is not None])
    step = jvp(body, moving)
    floats = differentiable(body.results)

    def advance(*state: Value) -> list[Value]:
        results = Builder.current().replay(step, state)
        tangents = dict(zip(floats, results[n:], strict=True))
        return [*results[:n], *[tangents[i] for i in moving]]

    builder.loc = derived(node.loc)
    state = [*inputs, *[or_zero(moves[i], inputs[i]) for i in moving]]
    made = _loop(lambda *state: _holds(condition, state[:n]), advance, state)
    tangent_of = dict(zip(moving, made[n:], strict=True))
    return made[:n], [tangent_of.get(i) for i in range(n)]


def pull_while(
    builder: Builder, node: Any, which: Sequence[int], cts: list[Value | None]
) -> Sequence[Value | None]:
    """By segments, from the last to the first."""
    condition, body = map(without_effects, node.blocks)
    start = list(node.inputs)
    n = len(start)
    moving = moving_carries(body, n, which)
    back = gradients_of(body, moving, moving)
    steps = _loop(
        lambda *s: _holds(condition, s[:n]),
        lambda *s: [*_replay(body, s[:n]), ops.add(s[n], _integer(1, s[n]))],
        [*start, _integer(0, start[0])],
    )[n]

    def segment(end: Value, *rest: Value) -> list[Value]:
        first, pulled = list(rest[:n]), list(rest[n:])
        one, size = _integer(1, end), _integer(SEGMENT, end)
        begin = ops.mul(ops.quo(ops.sub(end, one), size), size)
        state = _advance(body, first, begin)
        buffers = _record(body, state, ops.sub(end, begin))
        pulled = _pull_steps(back, buffers, state, pulled, ops.sub(end, begin))
        return [begin, *first, *pulled]

    init = [or_zero(cts[i], node.outputs[i]) for i in moving]
    made = _loop(lambda end, *_: _positive(end), segment, [steps, *start, *init])
    grads = dict(zip(moving, made[1 + n :], strict=True))
    return [grads[i] for i in which]


def _advance(body: Graph, state: list[Value], count: Value) -> list[Value]:
    """The state after `count` steps."""
    made = _loop(
        lambda left, *_: _positive(left),
        lambda left, *s: [ops.sub(left, _integer(1, left)), *_replay(body, s)],
        [count, *state],
    )
    return made[1:]


def _record(body: Graph, state: list[Value], count: Value) -> list[Value]:
    """Buffers of the states before each of `count` steps, count <= SEGMENT."""
    n = len(state)
    buffers = [ops.full(0, v.type.dtype, (SEGMENT, *v.type.shape), v.type.device) for v in state]

    def step(at: Value, end: Value, *rest: Value) -> list[Value]:
        now, held = rest[:n], rest[n:]
        filled = [_put(b, at, v) for b, v in zip(held, now, strict=True)]
        return [ops.add(at, _integer(1, at)), end, *_replay(body, now), *filled]

    begin = [_integer(0, count), count, *state, *buffers]
    return _loop(lambda at, end, *_: ops.lt(at, end), step, begin)[2 + n :]


def _pull_steps(
    back: Graph, buffers: list[Value], state: list[Value], pulled: list[Value], count: Value
) -> list[Value]:
    """The cotangents pulled back through `count` recorded steps, from the last."""
    n = len(buffers)

    def step(left: Value, *rest: Value) -> list[Value]:
        held, cts = rest[:n], rest[n:]
        at = ops.sub(left, _integer(1, left))
        now = [_get(b, at) for b in held]
        return [at, *held, *_replay(back, [*now, *cts])]

    made = _loop(lambda left, *_: _positive(left), step, [count, *buffers, *pulled])
    return made[1 + n :]


def _loop(
    holds: Callable[..., Value], step: Callable[..., list[Value]], state: Sequence[Value]
) -> list[Value]:
    """`while` over closed blocks traced from two functions of the state."""
    blocks = []
    for function in (holds, step):
        with Builder() as b:
            results = function(*[b.param(v.type) for v in state])
            blocks.append(b.graph(results if isinstance(results, list) else [results]))
    return list(Builder.current().emit(WHILE, tuple(state), NO_ATTRS, tuple(blocks)))


def _holds(condition: Graph, state: Sequence[Value]) -> Value:
    return _replay(condition, state)[0]


def _replay(graph: Graph, arguments: Sequence[Value]) -> list[Value]:
    return Builder.current().replay(graph, arguments)


def _integer(number: int, like: Value) -> Value:
    return ops.full(number, I64, (), like.type.device)


def _positive(value: Value) -> Value:
    return ops.lt(_integer(0, value), value)


def _put(buffer: Value, at: Value, row: Value) -> Value:
    wide = ops.reshape(row, shape=(1, *row.type.shape))
    return ops.dynamic_update(buffer, wide, at, *_zeros(at, row))


def _get(buffer: Value, at: Value) -> Value:
    shape = buffer.type.shape[1:]
    zeros = [_integer(0, at)] * len(shape)
    return ops.reshape(ops.dynamic_slice(buffer, at, *zeros, sizes=(1, *shape)), shape=shape)


def _zeros(at: Value, row: Value) -> list[Value]:
    return [_integer(0, at)] * len(row.type.shape)


PULL[WHILE], PUSH[WHILE] = pull_while, push_while
