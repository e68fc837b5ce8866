"""The check of rewrite rules: both sides on edge values and random values of every dtype, by bits.

Edge values alone miss rounding (x / 3 = x * (1/3) passes them), random values alone miss
subnormals and signed zeros. Any nan equals any other. A rule that ran on no dtype fails: a check
that never ran proves nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphc.ir.build import Builder
from graphc.ir.dims import Dim
from graphc.ir.dtype import BOOL, DTYPES, DType
from graphc.ir.errors import GraphcError
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS, as_dtype
from graphc.ir.types import TensorType, parse_type

from .rewrite import Pattern, Rule, settle

CHECKED = ("f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool", "c64", "c128")
SIZES = {"n": 3}  # of symbolic dims, when both sides are evaluated
_RANDOM = [float(x) for x in np.random.default_rng(0).normal(size=40)]


def failures(rule: Rule, dtypes: Sequence[str] = CHECKED) -> dict[str, str]:
    """For each dtype on which the sides differ: the first arguments that show it."""
    found: dict[str, str] = {}
    ran = False
    for name in dtypes:
        for arguments in arguments_of(rule, DTYPES[name]):
            try:
                outcome = compare(rule, arguments)
            except NotAdmitted:
                continue
            if outcome is None:
                continue
            ran = True
            if outcome:
                found.setdefault(name, outcome)
    return found if ran else {"none": "the rule ran on no dtype that was tried"}


class NotAdmitted(Exception):
    """The left side does not exist for these arguments."""


class Constant:
    """An argument that is a `full` of a number."""

    def __init__(self, number: float, dtype: DType, shape: tuple) -> None:
        self.number, self.dtype, self.shape = number, dtype, shape


def compare(rule: Rule, arguments: Sequence[Any]) -> str | None:
    """'' where the sides agree, a text where they differ, None where `when` does not admit."""
    with Builder() as builder:
        values, arrays = [], []
        for a in arguments:
            if isinstance(a, Constant):
                number = as_dtype(a.number, a.dtype)
                values.append(OPS["full"](value=number, dtype=a.dtype, shape=a.shape))
            elif isinstance(a, tuple) and len(a) == 2 and isinstance(a[0], np.ndarray):
                values.append(builder.param(a[1]))
                arrays.append(a[0])
            else:
                values.append(a)
        try:
            left = rule.left(*values)
            one = evaluate(builder.graph([left]), *arrays, sizes=SIZES)[0]
        except (TypeError, GraphcError, OverflowError, ZeroDivisionError) as error:
            raise NotAdmitted from error
        if rule.when is not None and not rule.when(*values):
            return None
        right = settle(rule.right(*values), left.node.inputs)[0]
        if right.type is not left.type:
            return f"{left.type.text} became {right.type.text}"
        two = evaluate(builder.graph([right]), *arrays, sizes=SIZES)[0]
    at = first_difference(one, two)
    if at is None:
        return ""
    shown = []
    for name, a in zip(rule.variables, arguments, strict=True):
        small = isinstance(a, tuple) and len(a) == 2 and isinstance(a[0], np.ndarray)
        if small and a[0].size == one.size:
            shown.append(f"{name}={a[0].ravel()[at]}")
    return f"{', '.join(shown)}: {one.ravel()[at]} became {two.ravel()[at]}"


def first_difference(left: np.ndarray, right: np.ndarray) -> int | None:
    """Where two arrays differ in value or in the sign of a zero; any nan equals any other."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return 0
    if left.dtype.kind == "c":
        parts = [first_difference(part(left), part(right)) for part in (np.real, np.imag)]
        return next((at for at in parts if at is not None), None)
    if left.dtype.kind not in "iub":
        left, right = left.astype(np.float64), right.astype(np.float64)
    same = left == right
    if left.dtype.kind == "f":
        same &= np.signbit(left) == np.signbit(right)
        same |= np.isnan(left) & np.isnan(right)
    return None if same.all() else int(np.argmin(same.ravel()))


# --- arguments -----------------------------------------------------------------------------------


def arguments_of(rule: Rule, dtype: DType) -> Iterator[list[Any]]:
    if rule.samples:
        for sample in rule.samples:
            yield from _sampled(sample, dtype)
        return
    conditions = conditions_of(rule.pattern)
    kinds = [BOOL if name in conditions else dtype for name in rule.variables]
    columns = [edges(kind, random=len(kinds) < 3) for kind in kinds]
    if len(columns) > 3:  # such rules choose among values: few complex ones will do
        columns = [column[:: len(column) // 20 + 1] for column in columns]
    rows = list(zip(*itertools.product(*columns), strict=True))
    arrays = [_array(row, kind) for row, kind in zip(rows, kinds, strict=True)]
    yield [(a, TensorType(k, a.shape)) for a, k in zip(arrays, kinds, strict=True)]


def _sampled(sample: tuple, dtype: DType) -> Iterator[list[Any]]:
    """Texts with a T are tensors of that shape (a bare "T": all edge values); a number beside a
    bare "T" is a constant; "same dtype" and "any dtype" stand for dtypes."""
    choices: list[list[Any]] = []
    values = edges(dtype, random=True)
    for item in sample:
        if item == "T":
            choices.append([(_array(values, dtype), TensorType(dtype, (len(values),)))])
        elif isinstance(item, str) and item.startswith("T["):
            type: Any = parse_type(dtype.name + item[1:])
            choices.append([(_filled(type, len(choices)), type)])
        elif item == "same dtype":
            choices.append([dtype])
        elif item == "any dtype":
            choices.append([DTYPES[name] for name in CHECKED])
        elif isinstance(item, float) and sample[0] == "T":
            choices.append([Constant(item, dtype, (len(values),))])
        else:
            choices.append([item])
    yield from map(list, itertools.product(*choices))


def _filled(type: TensorType, seed: int) -> np.ndarray:
    """Small whole numbers, on which sums are exact in any order."""
    shape = [SIZES[str(d)] if isinstance(d, Dim) else d for d in type.shape]
    numbers = np.random.default_rng(seed).integers(0, 7, size=shape)
    return (numbers % 2 == 0) if type.dtype is BOOL else numbers.astype(type.dtype.numpy)


def edges(dtype: DType, random: bool) -> list[Any]:
    """The values of a dtype at which equations break, and ordinary ones on which rounding shows."""
    if dtype is BOOL:
        return [False, True]
    if dtype.kind in "iu":
        low, high = np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max
        return sorted({0, 1, 2, 7, low, high, high // 2, *([] if dtype.kind == "u" else [-1, -2])})
    limits = _limits(dtype.to_real())
    real = [0.0, -0.0, 1.0, -1.0, 0.1, -3.7, 2.0, np.inf, -np.inf, np.nan, *limits]
    if dtype.kind == "c":
        return [complex(a, b) for a in real for b in (0.0, -0.0, 1.5, np.inf, np.nan)]
    return real + (_RANDOM if random else [])


def _limits(dtype: DType) -> list[float]:
    """The smallest subnormal and the largest number, with both signs."""
    import ml_dtypes

    info: Any = ml_dtypes.finfo(dtype.numpy)
    tiny, most = float(info.smallest_subnormal), float(info.max)
    return [tiny, -tiny, 3 * tiny, most, -most]


def _array(values: Sequence[Any], dtype: DType) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.array(values).astype(dtype.numpy)


_LOGICAL = {"not", "and", "or", "xor"}


def conditions_of(pattern: Pattern, inside: bool = False) -> set[str]:
    """The variables that must be bool: operands that the schema says are, through logical ops."""
    if pattern.op is None:
        return {pattern.name} if inside and pattern.name else set()
    found: set[str] = set()
    for (_, kinds), child in zip(pattern.op.operands, pattern.inputs):
        must = kinds.letters == "b" or (inside and pattern.op.name in _LOGICAL)
        found |= conditions_of(child, must)
    return found
