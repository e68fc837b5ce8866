"""`pad`: constant, reflect, replicate and circular."""

from __future__ import annotations

from collections.abc import Sequence

from ..frontends.function import function
from ..ir import ops
from ..ir.dims import AnyDim
from ..ir.errors import UnsupportedError
from ..ir.graph import Value
from .movement import bracketed, ints_of
from .parts import sliced
from .promote import Number, to_dtype
from .sizes import at_most


def cut(x: Value, axis: int, low: AnyDim, high: AnyDim) -> tuple[Value, AnyDim, AnyDim]:
    """Negative padding as a slice; what is left is not negative."""
    n = x.type.shape[axis]
    start = -low if isinstance(low, int) and low < 0 else 0
    stop = n + high if isinstance(high, int) and high < 0 else n
    if start == 0 and stop is n:
        return x, low, high
    if not at_most(start, stop):
        raise RuntimeError("narrow(): length must be non-negative.")
    x = sliced(x, axis, start, stop)
    return x, 0 if start != 0 else low, 0 if stop is not n else high


def padded(x: Value, pads: Sequence[AnyDim], value: float | Number) -> Value:
    """Constant padding; `pads` begin with the last axis: (left, right, top, bottom, ...)."""
    rank = len(x.type.shape)
    low: list[AnyDim] = [0] * rank
    high: list[AnyDim] = [0] * rank
    for k in range(len(pads) // 2):
        axis = rank - 1 - k
        x, low[axis], high[axis] = cut(x, axis, pads[2 * k], pads[2 * k + 1])
    if all([n == 0 for n in (*low, *high)]):
        return x
    if isinstance(value, Number):
        inner = ops.pad(x, low=tuple(low), high=tuple(high), value=0)
        there = ops.full_like(1, x)
        there = ops.pad(there, low=tuple(low), high=tuple(high), value=0)
        fill = ops.broadcast_to(to_dtype(value, x.type.dtype), inner.type.shape)
        return ops.select(ops.eq(there, ops.full_like(0, there)), fill, inner)
    number = complex(value) if x.type.dtype.kind == "c" else value
    if x.type.dtype.kind in "iu":
        number = int(value)
    elif x.type.dtype.kind == "b":
        number = bool(value)
    return ops.pad(x, low=tuple(low), high=tuple(high), value=number)


def _reflected(x: Value, axis: int, low: int, high: int) -> Value:
    n = x.type.shape[axis]
    if not (at_most(low + 1, n) and at_most(high + 1, n)):
        raise RuntimeError(
            "Argument #4: Padding size should be less than the corresponding input dimension, but "
            f"got: padding ({low}, {high}) at dimension {axis} of input {bracketed(x.type.shape)}"
        )
    parts = [x]
    if low > 0:
        parts.insert(0, ops.flip(sliced(x, axis, 1, low + 1), axes=(axis,)))
    if high > 0:
        parts.append(ops.flip(sliced(x, axis, n - 1 - high, n - 1), axes=(axis,)))
    return ops.concat(*parts, axis=axis) if len(parts) > 1 else x


def _replicated(x: Value, axis: int, low: int, high: int) -> Value:
    parts = [x]
    if low > 0:
        parts.insert(0, _edge(x, axis, 0, low))
    if high > 0:
        parts.append(_edge(x, axis, x.type.shape[axis] - 1, high))
    return ops.concat(*parts, axis=axis) if len(parts) > 1 else x


def _edge(x: Value, axis: int, place: AnyDim, count: int) -> Value:
    edge = sliced(x, axis, place, place + 1)
    return ops.broadcast_to(edge, (*x.type.shape[:axis], count, *x.type.shape[axis + 1 :]))


def _circular(x: Value, axis: int, low: int, high: int) -> Value:
    n = x.type.shape[axis]
    if not (at_most(low, n) and at_most(high, n)):
        raise RuntimeError("Padding value causes wrapping around more than once.")
    parts = [x]
    if low > 0:
        parts.insert(0, sliced(x, axis, n - low, n))
    if high > 0:
        parts.append(sliced(x, axis, 0, high))
    return ops.concat(*parts, axis=axis) if len(parts) > 1 else x


_MODES = {"reflect": _reflected, "replicate": _replicated, "circular": _circular}


def _check(x: Value, pads: Sequence[int], mode: str) -> None:
    rank = len(x.type.shape)
    if mode not in ("constant", *_MODES):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if mode != "constant" and (len(pads), rank) not in (
        (2, 2), (2, 3), (4, 3), (4, 4), (6, 4), (6, 5),
    ):  # fmt: skip
        raise UnsupportedError(
            f"Padding size {len(pads)} is not supported for {rank}D input tensor.\n"
            "Supported combinations for non-constant padding:\n"
            "  - 2D or 3D input: padding size = 2 (pads last dimension)\n"
            "  - 3D or 4D input: padding size = 4 (pads last 2 dimensions)\n"
            "  - 4D or 5D input: padding size = 6 (pads last 3 dimensions)"
        )


@function
def pad(input, pad, mode="constant", value=None):
    """Elements around the input: `pad` says how many before and after, the last axis first.

    mode is "constant" (of `value`, 0 without), "reflect", "replicate" or "circular". Negative
    numbers cut elements off.
    """
    pads, rank = ints_of((pad,)), len(input.type.shape)
    if len(pads) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(pads) > 2 * rank:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got "
            f"padding length {len(pads)} and input of dimension {rank}"
        )
    _check(input, pads, mode)
    if mode == "constant":
        return padded(input, pads, 0 if value is None else value)
    if value is not None and (isinstance(value, Number) or value != 0):
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    x = input
    for k in range(len(pads) // 2):
        axis = rank - 1 - k
        x, low, high = cut(x, axis, pads[2 * k], pads[2 * k + 1])
        x = _MODES[mode](x, axis, low, high)
    return x


@function
def constant_pad_nd(input, pad, value=0):
    """pad in mode "constant"."""
    return padded(input, ints_of((pad,)), value)
