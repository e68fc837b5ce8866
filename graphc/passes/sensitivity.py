"""How far a result may move when its parts are computed differently: with other sums, other roots.

The ops of a group are evaluated once more, each inexact one on operands and with results that are
moved by a few units in the last place. What that does to a result is the room that it is given:
a well-conditioned value has little, a difference of nearly equal numbers has much. A group of
exact ops has none: its bits must be those of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from graphc.ir.graph import Node, Value
from graphc.ir.types import TensorType

from .clean import EXACT
from .numeric import evaluate_node

_TRIALS = 3
_OPERAND_UNITS, _RESULT_UNITS = 8.0, 32.0  # more than they may be wrong: less would be rounded off
_ROOM = 2.0  # times what the trials show
_UNITS = 8.0  # in the last place, for every result of inexact ops

#: Sums: their operands are moved, since the order of additions is free.
SUMS = frozenset(
    "reduce_sum reduce_prod cumulative dot conv conv_grad_input conv_grad_weight scatter "
    "conv_last conv_grad_input_last conv_winograd winograd_weight "
    "conv_depthwise_last conv_groups_last dot_pairs attention attention_grad".split()
)
_EXACT = frozenset(
    "reshape permute expand slice pad flip concat window iota full const gather dynamic_slice "
    "dynamic_update sort searchsorted compact reduce_max reduce_min arg_reduce detach copy_to "
    "nextafter graft turned".split()
) | frozenset(EXACT)
_COMPLEX_ARITHMETIC = frozenset(["mul", "div", "fma", "sqrt", "abs", "sign"])


def is_exact(node: Node) -> bool:
    """Whether every way to compute the op gives the same bits."""
    if node.op.name == "scatter":
        return node.attrs["mode"] != "add" or node.outputs[0].type.dtype.kind in "iub"
    if node.op.name in SUMS:
        return node.outputs[0].type.dtype.kind in "iub"
    if node.op.name in _COMPLEX_ARITHMETIC and node.inputs[0].type.dtype.kind == "c":
        return False
    return node.op.name in _EXACT


class Room:
    """The room of each value that some nodes compute; None for those that must be bit for bit."""

    def __init__(
        self, nodes: Sequence[Node], known: Mapping[Value, Any], sizes: Mapping[str, int]
    ) -> None:
        """`known` holds the values of the nodes and of their operands."""
        self._inexact: set[Value] = set()
        for node in nodes:
            if not is_exact(node) or not self._inexact.isdisjoint(node.inputs):
                self._inexact.update(node.outputs)
        self._nodes, self._known, self._sizes = nodes, known, sizes
        self._moved: dict[Value, np.ndarray] | None = None

    def _of(self, value: Value) -> Any:
        """How far the trials moved a value; they run when the first value is not what it was."""
        if self._moved is None:
            self._moved = {}
            for trial in range(_TRIALS):
                self._try(self._moved, np.random.default_rng(trial))
        return self._moved.get(value, np.zeros(self._known[value].shape))

    def _try(self, moved: dict[Value, np.ndarray], random: np.random.Generator) -> None:
        here: dict[Value, Any] = {}
        for node in self._nodes:
            if self._inexact.isdisjoint(node.outputs):
                continue
            operands = [here.get(v, self._known[v]) for v in node.inputs]
            exact = is_exact(node)
            if node.op.name in SUMS and not exact:
                operands = [_nudged(a, _OPERAND_UNITS, random) for a in operands]
            try:
                with np.errstate(all="ignore"):
                    found = evaluate_node(node, operands, self._sizes)
            except (ArithmeticError, IndexError, ValueError):
                found = [self._known[v] for v in node.outputs]  # an index that moved away
            for value, array in zip(node.outputs, found, strict=True):
                array = array if exact else _nudged(array, _RESULT_UNITS, random)
                here[value] = array
                if isinstance(value.type, TensorType):
                    self._widen(moved, value, array)

    def _widen(self, moved: dict[Value, np.ndarray], value: Value, array: np.ndarray) -> None:
        was = self._known[value]
        if array.shape != was.shape:
            return
        with np.errstate(all="ignore"):
            distance = np.abs(_plain(array) - _plain(was))
        distance = np.where(np.isnan(distance), np.inf, distance)
        same = (array == was) | (_is_nan(array) & _is_nan(was))
        distance = np.where(same, 0.0, distance)
        moved[value] = np.maximum(moved.get(value, 0.0), distance)

    def first_outside(self, value: Value, found: np.ndarray) -> int | None:
        """The first place where an array is not the value, in row-major order; None where it is."""
        was = self._known[value]
        if was.shape != found.shape or was.dtype != found.dtype:
            return 0
        same = _equal(was, found)
        if not same.all() and value in self._inexact:
            moved = self._of(value)
            with np.errstate(all="ignore"):
                same |= np.abs(_plain(was) - _plain(found)) <= self._room(moved, was)
                same |= np.isinf(moved)
        return None if same.all() else int(np.argmin(np.ravel(same)))

    def _room(self, moved: np.ndarray, was: np.ndarray) -> Any:
        if was.dtype.kind in "iub":
            return moved
        info: Any = ml_dtypes.finfo(was.real.dtype)
        least = float(info.smallest_normal) * 4
        if moved.ndim:  # few trials: an element has the room of the row that it is in
            moved = np.where(np.isinf(moved), 0.0, moved).max(-1, keepdims=True, initial=0.0)
        return _ROOM * moved + _UNITS * float(info.eps) * np.abs(_plain(was)) + least


def _plain(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _is_nan(array: np.ndarray) -> np.ndarray:
    return array != array


def _equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """By bits, any nan being as good as another."""
    if a.dtype.kind in "iub":
        return np.asarray(a == b)
    if a.dtype.kind == "c":
        return _equal(a.real, b.real) & _equal(a.imag, b.imag)
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b)


def _nudged(array: Any, units: float, random: np.random.Generator) -> Any:
    """The numbers, each moved by up to so many units in the last place."""
    if not isinstance(array, np.ndarray) or array.dtype.kind in "iub":
        return array
    real: Any = array.real.dtype if array.dtype.kind == "c" else array.dtype
    eps = float(ml_dtypes.finfo(real).eps)
    factor = 1.0 + eps * units * random.uniform(-1.0, 1.0, array.shape)
    with np.errstate(all="ignore"):
        return np.asarray(_plain(array) * factor).astype(array.dtype)
