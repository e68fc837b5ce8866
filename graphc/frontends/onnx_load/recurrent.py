"""Loading of RNN, GRU and LSTM: one product for all steps, then a scan over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphc.ir import composite, ops  # noqa: F401  (declares every op)
from graphc.ir.build import trace
from graphc.ir.dtype import I64
from graphc.ir.errors import FormatError, ShapeError, UnsupportedError
from graphc.ir.graph import Value
from graphc.ir.op import OPS

from .item import Item
from .movement import cut
from .node import OnnxNode
from .registry import loads

Activation = Callable[[Value], Value]
_OFFERED = ("Sigmoid", "Tanh", "Relu")  # what every layer of trained models uses
_ACTIVATIONS: dict[str, Activation] = {
    op.onnx.name.lower(): op for op in OPS.values() if op.onnx and op.onnx.name in _OFFERED
}
_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass(frozen=True)
class Cell:
    """One direction of a layer: its kind, weights and activations."""

    kind: str
    hidden: int
    activations: tuple[Activation, ...]
    before_reset: bool  # GRU: the recurrent product of the candidate is taken before the reset

    def step(self, state: list[Value], x: Value, r: Value, rb: Value, p: Value | None) -> list:
        """The next state from the state, this step's x @ W + b, and the recurrent weights."""
        h = state[0]
        product = ops.dot(h, r, contract=((1,), (1,)))
        product = ops.add(product, ops.expand(rb, shape=product.type.shape, axes=(0,)))
        if self.kind == "RNN":
            return [self.activations[0](ops.add(x, product))]
        if self.kind == "GRU":
            return [self._gru(h, x, r, rb, product)]
        return self._lstm(h, state[1], x, product, p)

    def _gate(self, value: Value, i: int) -> Value:
        axis = len(value.type.shape) - 1
        return cut(value, axis, i * self.hidden, (i + 1) * self.hidden)

    def _gru(self, h: Value, x: Value, r: Value, rb: Value, product: Value) -> Value:
        f, g = self.activations
        z = f(ops.add(self._gate(x, 0), self._gate(product, 0)))
        reset = f(ops.add(self._gate(x, 1), self._gate(product, 1)))
        if self.before_reset:
            inner = ops.mul(reset, self._gate(product, 2))
        else:
            weight = cut(r, 0, 2 * self.hidden, 3 * self.hidden)
            inner = ops.dot(ops.mul(reset, h), weight, contract=((1,), (1,)))
            bias = self._gate(rb, 2)
            inner = ops.add(inner, ops.expand(bias, shape=inner.type.shape, axes=(0,)))
        candidate = g(ops.add(self._gate(x, 2), inner))
        return ops.add(ops.mul(ops.sub(ops.full_like(1.0, z), z), candidate), ops.mul(z, h))

    def _lstm(self, h: Value, c: Value, x: Value, product: Value, p: Value | None) -> list[Value]:
        f, g, last = self.activations
        i, o, forget, candidate = [
            ops.add(self._gate(x, k), self._gate(product, k)) for k in range(4)
        ]

        def peep(gate: Value, k: int, cell: Value) -> Value:
            if p is None:
                return gate
            weight = ops.expand(self._gate(p, k), shape=cell.type.shape, axes=(0,))
            return ops.add(gate, ops.mul(weight, cell))

        new = ops.add(ops.mul(f(peep(forget, 2, c)), c), ops.mul(f(peep(i, 0, c)), g(candidate)))
        return [ops.mul(f(peep(o, 1, new)), last(new)), new]


@loads("RNN", "GRU", "LSTM")
def recurrent(
    g: Any,
    node: OnnxNode,
    x: Item,
    w: Item,
    r: Item,
    b: Item | None = None,
    lengths: Item | None = None,
    first_h: Item | None = None,
    first_c: Item | None = None,
    peepholes: Item | None = None,
) -> tuple[Value, ...]:
    """Y[steps, directions, batch, hidden], and the last state of each direction."""
    if node.has("clip") or node.int("input_forget", 0):
        raise UnsupportedError(f"{node.type} with clip or input_forget is not supported")
    if x.rank != 3:
        raise ShapeError(f"{node.type} takes (steps, batch, features), not {x.type.text}")
    batch_first = bool(node.int("layout", 0))
    values = g.value(x)
    if batch_first:
        values = ops.permute(values, perm=(1, 0, 2))
    direction = node.text("direction", "forward")
    backward = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    if direction not in backward or len(backward[direction]) != w.shape[0]:
        raise FormatError(f"the direction {direction!r} with weights {w.type.text}")
    runs = []
    for d, reverse in enumerate(backward[direction]):
        cell = _cell(node, r, d)
        weights = [g.value(w), g.value(r)]
        bias = None if b is None else g.value(b)
        peeps = None if peepholes is None else _row(g.value(peepholes), d)
        starts = [first_h, first_c][: 2 if cell.kind == "LSTM" else 1]
        first = [None if s is None else _start(g.value(s), d, batch_first) for s in starts]
        steps = _lengths(g, lengths, values, reverse)
        runs.append(_run(cell, values, weights, bias, peeps, first, d, reverse, steps))
    joined = [ops.concat(*[run[i] for run in runs], axis=1 if i == 0 else 0)
              for i in range(len(runs[0]))]  # fmt: skip
    if batch_first:
        orders = [(2, 0, 1, 3), *[(1, 0, 2)] * (len(joined) - 1)]
        joined = [ops.permute(v, perm=p) for v, p in zip(joined, orders)]
    return tuple(joined)


def _cell(node: OnnxNode, r: Item, d: int) -> Cell:
    hidden = r.shape[2]
    if not isinstance(hidden, int) or r.shape[1] != _GATES[node.type] * hidden:
        raise FormatError(f"{node.type} with recurrent weights {r.type.text}")
    defaults = _DEFAULTS[node.type]
    names = node.texts("activations", defaults * (d + 1))[d * len(defaults) :][: len(defaults)]
    unknown = [n for n in names if n.lower() not in _ACTIVATIONS]
    if unknown or len(names) != len(defaults):
        raise UnsupportedError(f"{node.type} with the activations {names} is not supported")
    chosen = tuple([_ACTIVATIONS[n.lower()] for n in names])
    return Cell(node.type, hidden, chosen, bool(node.int("linear_before_reset", 0)))


def _row(value: Value, d: int) -> Value:
    return ops.reshape(cut(value, 0, d, d + 1), shape=value.type.shape[1:])


def _start(value: Value, d: int, batch_first: bool) -> Value:
    if batch_first:
        value = ops.permute(value, perm=(1, 0, 2))
    return _row(value, d)


def _lengths(g: Any, lengths: Item | None, x: Value, reverse: bool) -> Value | None:
    """How many steps each example has; None where all have as many as there are."""
    if lengths is None:
        return None
    known = lengths.entries
    if known is not None and all(n == x.type.shape[0] for n in known.ravel()):
        return None
    if reverse:
        raise UnsupportedError("sequence lengths with the reverse direction are not supported")
    return ops.cast(g.value(lengths), dtype=I64)


def _run(
    cell: Cell, x: Value, weights: list[Value], bias: Value | None, peeps: Value | None,
    first: list[Value | None], d: int, reverse: bool, lengths: Value | None,
) -> list[Value]:  # fmt: skip
    """(Y[steps, 1, batch, hidden], last states [1, batch, hidden]) of one direction."""
    steps, batch, _ = x.type.shape
    w, r = _row(weights[0], d), _row(weights[1], d)
    gates, dtype = r.type.shape[0], x.type.dtype
    if bias is None:
        halves = [ops.full(0.0, dtype, (gates,))] * 2
    else:
        row = _row(bias, d)
        halves = [cut(row, 0, 0, gates), cut(row, 0, gates, 2 * gates)]
    inputs = ops.dot(x, w, contract=((2,), (1,)))
    inputs = ops.add(inputs, ops.expand(halves[0], shape=inputs.type.shape, axes=(0, 1)))
    zero = ops.full(0.0, dtype, (batch, cell.hidden))
    state = [zero if s is None else s for s in first]
    fixed = [r, halves[1], *([] if peeps is None else [peeps])]
    rows = [inputs]
    if lengths is not None:
        rows.append(ops.iota((steps,), 0, I64))
        fixed.append(lengths)
    n = len(state)

    def body(*operands: Value) -> list[Value]:
        old, row = list(operands[:n]), operands[n]
        consts = operands[n + len(rows) :]
        p = consts[2] if peeps is not None else None
        new = cell.step(old, row, consts[0], consts[1], p)
        out = new[0]
        if lengths is not None:
            new, out = _masked(old, new, operands[n + 1], consts[-1])
        return [*new, out]

    types = [v.type for v in state] + [v.type.with_shape(v.type.shape[1:]) for v in rows]
    block = trace(body, *types, *[v.type for v in fixed])
    made = ops.scan(block, state, rows, fixed, length=steps, reverse=reverse)
    y = ops.reshape(made[-1], shape=(steps, 1, batch, cell.hidden))
    return [y, *[ops.reshape(v, shape=(1, *v.type.shape)) for v in made[:n]]]


def _masked(old: list, new: list, step: Value, lengths: Value) -> tuple[list, Value]:
    """Examples that have ended keep their state and give zeros."""
    at = ops.expand(step, shape=lengths.type.shape, axes=(0,))
    runs = ops.expand(ops.lt(at, lengths), shape=new[0].type.shape, axes=(1,))
    kept = [ops.select(runs, a, b) for a, b in zip(new, old)]
    return kept, ops.select(runs, new[0], ops.full_like(0.0, new[0]))
