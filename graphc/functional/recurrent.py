"""Recurrent networks over values: one step of each kind, and a layer as one `scan` of its steps.

A step takes the input's share of the gates, computed for a whole layer in one product, and gives
the new state: (h,) for RNN and GRU, (h, c) for LSTM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..frontends.function import function
from ..ir import composite, ops
from ..ir.build import trace
from ..ir.graph import Value
from .layers import linear
from .parts import scalar_name, sliced
from .promote import operands

State = Sequence[Value]
Step = Callable[..., tuple[Value, ...]]

_linear = linear.body


def _add(a: Value, b: Value) -> Value:
    return ops.add(*operands(a, b))


def _chunks(gates: Value, count: int) -> list[Value]:
    """Equal parts along the last axis."""
    axis = len(gates.type.shape) - 1
    size = gates.type.shape[axis] // count
    return [sliced(gates, axis, i * size, (i + 1) * size) for i in range(count)]


def _step_tanh(gates: Value, state: State, w_hh: Value, b_hh: Value | None) -> tuple[Value, ...]:
    return (ops.tanh(_add(gates, _linear(state[0], w_hh, b_hh))),)


def _step_relu(gates: Value, state: State, w_hh: Value, b_hh: Value | None) -> tuple[Value, ...]:
    return (composite.relu(_add(gates, _linear(state[0], w_hh, b_hh))),)


def _step_lstm(
    gates: Value, state: State, w_hh: Value, b_hh: Value | None, w_hr: Value | None = None
) -> tuple[Value, ...]:
    h, c = state
    i, f, g, o = _chunks(_add(gates, _linear(h, w_hh, b_hh)), 4)
    kept, new = ops.mul(composite.sigmoid(f), c), ops.mul(composite.sigmoid(i), ops.tanh(g))
    c = ops.add(kept, new)
    h = ops.mul(composite.sigmoid(o), ops.tanh(c))
    return (h if w_hr is None else _linear(h, w_hr)), c


def _step_gru(gates: Value, state: State, w_hh: Value, b_hh: Value | None) -> tuple[Value, ...]:
    (h,) = state
    reset_x, update_x, new_x = _chunks(gates, 3)
    reset_h, update_h, new_h = _chunks(_linear(h, w_hh, b_hh), 3)
    reset = composite.sigmoid(_add(reset_h, reset_x))
    update = composite.sigmoid(_add(update_h, update_x))
    new = ops.tanh(_add(new_x, ops.mul(reset, new_h)))
    return (ops.add(ops.mul(ops.sub(h, new), update), new),)


STEPS: dict[str, Step] = {
    "RNN_TANH": _step_tanh,
    "RNN_RELU": _step_relu,
    "LSTM": _step_lstm,
    "GRU": _step_gru,
}


@function(register=False, floats=False)
def step(mode: str, gates: Any, state: Any, weights: Any) -> Any:
    """The new state from the input's share of the gates and the recurrent weights."""
    return STEPS[mode](gates, state, *weights)


@function(register=False, floats=False)
def cell(mode: str, input: Any, state: Any, w_ih: Any, b_ih: Any, weights: Any) -> Any:
    """The new state from the input."""
    return STEPS[mode](_linear(input, w_ih, b_ih), state, *weights)


@function(register=False, floats=False)
def one_layer(mode: str, gates: Any, state: Any, weights: Any, reverse: bool) -> Any:
    """Steps over gates (T, N, G): the outputs (T, N, H), then the last state.

    One `scan`, which carries the state and has the weights for constants.
    """
    steps = gates.type.shape[0]
    if steps == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    for value in state:
        if value.type.dtype is not gates.type.dtype:
            raise RuntimeError(
                "Input and hidden tensors are not the same dtype, found input tensor with "
                f"{scalar_name(gates.type.dtype)} and hidden tensor with "
                f"{scalar_name(value.type.dtype)}"
            )
    given = [w for w in weights if w is not None]
    n = len(state)

    def body(*operands: Value) -> list[Value]:
        rest = iter(operands[n + 1 :])
        placed = [None if w is None else next(rest) for w in weights]
        new = STEPS[mode](operands[n], operands[:n], *placed)
        return [*new, new[0]]

    row = gates.type.with_shape(gates.type.shape[1:])
    block = trace(body, *[v.type for v in state], row, *[w.type for w in given])
    made = ops.scan(block, state, [gates], given, length=steps, reverse=reverse)
    return made[n], *made[:n]
