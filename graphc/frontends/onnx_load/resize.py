"""Loading of Resize and Upsample: nearest and linear, axis by axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.dims import Dim
from graphc.ir.errors import FormatError, UnsupportedError
from graphc.ir.graph import Value

from .item import Item
from .movement import axis_of
from .node import OnnxNode
from .registry import loads

_LARGEST = 1 << 24


@loads("Resize", "Upsample")
def resize(
    g: Any,
    node: OnnxNode,
    x: Item,
    roi: Item | None = None,
    scales: Item | None = None,
    sizes: Item | None = None,
) -> Value:
    """Resize since opset 11 takes (x, roi, scales, sizes); before, and Upsample, (x, scales)."""
    if node.type == "Upsample" or node.opset < 11:
        scales, roi = roi, None
    mode = node.text("mode", "nearest")
    if mode not in ("nearest", "linear") or node.int("antialias", 0):
        how = f"{mode} with antialias" if node.int("antialias", 0) else mode
        raise UnsupportedError(f"Resize by {how} is not supported")
    value = g.value(x)
    for axis, (size, scale) in enumerate(_targets(g, node, x, scales, sizes)):
        n = value.type.shape[axis]
        if size == n and scale == 1:
            continue
        if isinstance(n, Dim) and mode == "nearest" and _repeats(node, scale):
            value = _repeated(value, axis, int(scale))
            continue
        if not isinstance(n, int) or not 0 < n < _LARGEST or not 0 < size < _LARGEST:
            raise UnsupportedError(f"cannot resize an axis of {n} to {size}")
        places = _source_places(node, n, size, scale)
        if mode == "nearest":
            value = ops.gather(value, ops.const(_nearest(node, places, n)), axis=axis)
        else:
            value = _linear(value, axis, places, n)
    return value


def _targets(
    g: Any, node: OnnxNode, x: Item, scales: Item | None, sizes: Item | None
) -> list[tuple[int, float]]:
    """The new size and the scale of each axis."""
    axes = [axis_of(a, x.rank) for a in node.ints("axes", list(range(x.rank)))]
    found: list[tuple[Any, float]] = [(d, 1.0) for d in x.shape]
    if sizes is not None and sizes.shape != (0,):
        wanted = g.ints(sizes, "the sizes operand")
        policy = node.text("keep_aspect_ratio_policy", "stretch")
        ratios = [w / x.shape[a] for w, a in zip(wanted, axes, strict=True)]
        if policy != "stretch":
            ratio = (min if policy == "not_larger" else max)(ratios)
            ratios = [ratio] * len(axes)
            wanted = [int(np.floor(ratio * x.shape[a] + 0.5)) for a in axes]
        for axis, size, ratio in zip(axes, wanted, ratios):
            found[axis] = (size, ratio)
        return found
    factors = node.floats("scales", None)
    if scales is not None:
        if scales.array is None:
            raise UnsupportedError("the scales are computed from data")
        factors = scales.array.tolist()
    if factors is None or len(factors) != len(axes):
        raise FormatError("Resize has neither scales nor sizes for its axes")
    for axis, factor in zip(axes, factors):
        n = x.shape[axis]
        if isinstance(n, int):
            found[axis] = (int(np.floor(n * factor)), factor)
        elif factor == int(factor):
            found[axis] = (n * int(factor), factor)
        else:
            raise UnsupportedError(f"the size {n} times {factor} is not known")
    return found


def _source_places(node: OnnxNode, n: int, size: int, scale: float) -> np.ndarray:
    """Where in the input each element of the output lies."""
    default = "half_pixel" if node.type == "Resize" and node.opset >= 11 else "asymmetric"
    mode = node.text("coordinate_transformation_mode", default)
    i = np.arange(size, dtype=np.float64)
    if mode == "half_pixel":
        return (i + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return (i + 0.5) / scale - 0.5 if size > 1 else i * 0
    if mode == "align_corners":
        length = scale * n  # not rounded, as the standard has it
        return i * (n - 1) / (length - 1) if size > 1 else i * 0
    if mode == "asymmetric":
        return i / scale
    if mode == "half_pixel_symmetric":
        offset = n / 2 * (1 - size / (scale * n))
        return offset + (i + 0.5) / scale - 0.5
    raise UnsupportedError(f"the coordinates {mode} of Resize are not supported")


def _nearest(node: OnnxNode, places: np.ndarray, n: int) -> np.ndarray:
    rule = node.text("nearest_mode", "round_prefer_floor" if node.opset >= 11 else "floor")
    if node.type == "Upsample":
        rule = "floor"
    rules: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "round_prefer_floor": lambda p: np.ceil(p - 0.5),
        "round_prefer_ceil": lambda p: np.floor(p + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }
    rounded = rules.get(rule)
    if rounded is None:
        raise FormatError(f"there is no nearest_mode {rule!r}")
    return np.clip(rounded(places), 0, n - 1).astype(np.int64)


def _repeats(node: OnnxNode, scale: float) -> bool:
    """Whether nearest only repeats each element: tried on a few, for the rule has no size in it."""
    if scale != int(scale) or not 1 <= scale <= 64:
        return False
    n, times = 8, int(scale)
    found = _nearest(node, _source_places(node, n, n * times, scale), n)
    return bool(np.all(found == np.arange(n * times) // times))


def _repeated(value: Value, axis: int, times: int) -> Value:
    shape = value.type.shape
    wide = (*shape[: axis + 1], times, *shape[axis + 1 :])
    made = ops.expand(value, shape=wide, axes=(axis + 1,))
    return ops.reshape(made, shape=(*shape[:axis], shape[axis] * times, *shape[axis + 1 :]))


def _linear(value: Value, axis: int, places: np.ndarray, n: int) -> Value:
    """The two neighbours, weighted."""
    places = np.clip(places, 0, n - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, n - 1)
    dtype = value.type.dtype
    weight = ops.const((places - low).astype(dtype.numpy))
    sides = [ops.gather(value, ops.const(at), axis=axis) for at in (low, high)]
    shape = sides[0].type.shape
    others = tuple([i for i in range(len(shape)) if i != axis])
    wide = ops.expand(weight, shape=shape, axes=others) if others else weight
    return ops.add(sides[0], ops.mul(ops.sub(sides[1], sides[0]), wide))
