"""Ops on indices in ONNX: ranges, windows, scatters, slices at computed places, running sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from graphc.ir.dims import AnyDim
from graphc.ir.dtype import I64, DType
from graphc.ir.graph import Node, Value
from graphc.ir.ops.movement import inverse

from .control_flow import running

if TYPE_CHECKING:
    from .emitter import Emitter


def iota(g: Emitter, node: Node) -> str:
    """Range along the axis, expanded along the others."""
    shape, axis, dtype = (node.attrs[k] for k in ("shape", "axis", "dtype"))
    line = g.cast(_range(g, shape[axis]), dtype)
    others = [i for i in range(len(shape)) if i != axis]
    if not others:
        return line
    return g.op("Expand", [g.unsqueeze(line, others), g.dims(shape)])


def _range(g: Emitter, size: AnyDim) -> str:
    return g.op("Range", [g.scalar(0, I64), g.dim(size), g.scalar(1, I64)])


def window(g: Emitter, node: Node, x: str) -> str:
    """Gather by indices [places, size] along each axis; then the sizes move to the end."""
    attrs = node.attrs
    k = len(attrs["sizes"])
    lead = len(node.inputs[0].type.shape) - k
    places = node.outputs[0].type.shape[lead : lead + k]
    for i in range(k):
        starts = _range(g, places[i])
        if attrs["strides"][i] != 1:
            starts = g.op("Mul", [starts, g.scalar(attrs["strides"][i], I64)])
        steps = np.arange(attrs["sizes"][i], dtype=np.int64) * attrs["dilations"][i]
        index = g.op("Add", [g.unsqueeze(starts, [1]), g.constant(steps, "steps")])
        x = g.op("Gather", [x, index], axis=lead + 2 * i)
    order = [*range(lead), *range(lead, lead + 2 * k, 2), *range(lead + 1, lead + 2 * k, 2)]
    return g.permute(x, order)


def scatter(g: Emitter, node: Node, x: str, index: str, updates: str) -> str:
    """ScatterND along the first axis, with transposes around it for another axis.

    ONNX leaves open which of several writes to one place counts; graphc's `set` keeps the last.
    """
    axis, mode = node.attrs["axis"], node.attrs["mode"]
    rank, k = len(node.inputs[0].type.shape), len(node.inputs[1].type.shape)
    first = (axis, *[i for i in range(rank) if i != axis])
    rows = (*range(axis, axis + k), *range(axis), *range(axis + k, rank + k - 1))
    reduction = None if mode == "set" else mode
    made = _scatter_nd(
        g, g.permute(x, first), g.unsqueeze(index, [k]), g.permute(updates, rows), reduction
    )
    return g.permute(made, inverse(first))


def _scatter_nd(g: Emitter, x: str, index: str, updates: str, reduction: str | None) -> str:
    return g.op("ScatterND", [x, g.cast(index, I64), updates], reduction=reduction)


def _starts(g: Emitter, x: Value, starts: tuple[str, ...], sizes: tuple[AnyDim, ...]) -> list[str]:
    """The starts as i64[1], each moved so that the slice lies within x."""
    made = []
    for start, n, m in zip(starts, x.type.shape, sizes, strict=True):
        line = g.unsqueeze(g.cast(start, I64), [0])
        last = g.dims((n - m,))
        made.append(g.op("Max", [g.op("Min", [line, last]), g.ints([0])]))
    return made


def dynamic_slice(g: Emitter, node: Node, x: str, *starts: str) -> str:
    """Slice from the clamped starts."""
    sizes = node.attrs["sizes"]
    if not sizes:
        return x
    at = g.op("Concat", _starts(g, node.inputs[0], starts, sizes), axis=0)
    stop = g.op("Add", [at, g.dims(sizes)])
    return g.op("Slice", [x, at, stop, g.ints(range(len(sizes)))])


def dynamic_update(g: Emitter, node: Node, x: str, update: str, *starts: str) -> str:
    """ScatterND at the grid of all places of the update."""
    sizes = node.inputs[1].type.shape
    rank = len(sizes)
    if not rank:
        return update
    shape = g.dims((*sizes, 1))
    grid = []
    for axis, start in enumerate(_starts(g, node.inputs[0], starts, sizes)):
        line = g.op("Add", [_range(g, sizes[axis]), start])
        others = [i for i in range(rank + 1) if i != axis]
        grid.append(g.op("Expand", [g.unsqueeze(line, others), shape]))
    return _scatter_nd(g, x, g.op("Concat", grid, axis=rank), update, None)


def cumulative(g: Emitter, node: Node, x: str) -> str:
    """CumSum; the running product, maximum and minimum as a Scan that carries the last row."""
    axis, mode, reverse = (node.attrs[k] for k in ("axis", "mode", "reverse"))
    type = node.inputs[0].type
    if mode == "sum":
        return g.op("CumSum", [x, g.scalar(axis, I64)], reverse=int(reverse))
    name = {"prod": "Mul", "max": "Max", "min": "Min"}[mode]
    first = g.full(_identity(mode, type.dtype), type.with_shape(_without(type.shape, axis)))
    return running(g, name, first, x, type, axis, reverse)


def _without(shape: tuple, axis: int) -> tuple:
    return (*shape[:axis], *shape[axis + 1 :])


def _identity(mode: str, dtype: DType) -> int | float:
    if mode == "prod":
        return 1
    if dtype.kind == "f":
        return -np.inf if mode == "max" else np.inf
    limits = np.iinfo(dtype.numpy)
    return int(limits.min if mode == "max" else limits.max)
