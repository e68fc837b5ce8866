"""Loading of ops that move elements: shapes, slices, padding, concatenation."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.dims import divide_exact, product
from graphc.ir.dtype import I64
from graphc.ir.errors import FormatError, ShapeError, UnsupportedError
from graphc.ir.graph import Value

from .item import Item
from .node import OnnxNode
from .registry import loads


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the end becomes one from the front."""
    if not -rank <= axis < rank:
        raise FormatError(f"there is no axis {axis} among {rank}")
    return axis % rank


def axes_of(axes: Any, rank: int) -> tuple[int, ...]:
    return tuple(sorted({axis_of(a, rank) for a in axes}))


def axes_operand(g: Any, node: OnnxNode, given: Item | None, rank: int) -> tuple[int, ...] | None:
    """The axes, which older opsets have as an attribute; None where there are none."""
    axes = node.ints("axes", None) if given is None else g.ints(given, "the axes operand")
    return None if axes is None else axes_of(axes, rank)


@loads("Reshape")
def reshape(g: Any, node: OnnxNode, x: Item, shape: Item | None = None) -> Value:
    """0 keeps a size of x, -1 is what the others leave."""
    given = node.ints("shape") if shape is None else g.sizes(shape, "the shape operand")
    wanted = list(given)
    if not node.int("allowzero", 0):
        wanted = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    if -1 in wanted:
        at = wanted.index(-1)
        rest = product([d for i, d in enumerate(wanted) if i != at])
        size = divide_exact(product(x.shape), rest)
        if size is None:
            raise ShapeError(f"cannot reshape {x.type.text}: the size left for -1 is not known")
        wanted[at] = size
    return ops.reshape(g.value(x), shape=tuple(wanted))


@loads("Flatten")
def flatten(g: Any, node: OnnxNode, x: Item) -> Value:
    axis = node.int("axis", 1)
    if not -x.rank <= axis <= x.rank:
        raise FormatError(f"there is no axis {axis} in {x.type.text}")
    axis = axis % x.rank if axis < 0 else axis
    return ops.reshape(g.value(x), shape=(product(x.shape[:axis]), product(x.shape[axis:])))


@loads("Squeeze")
def squeeze(g: Any, node: OnnxNode, x: Item, axes: Item | None = None) -> Value:
    away = axes_operand(g, node, axes, x.rank)
    if away is None:
        away = tuple([i for i, d in enumerate(x.shape) if d == 1])
    if any(x.shape[i] != 1 for i in away):
        raise ShapeError(f"cannot squeeze the axes {away} of {x.type.text}")
    return ops.reshape(g.value(x), shape=tuple([d for i, d in enumerate(x.shape) if i not in away]))


@loads("Unsqueeze")
def unsqueeze(g: Any, node: OnnxNode, x: Item, axes: Item | None = None) -> Value:
    given = node.ints("axes") if axes is None else g.ints(axes, "the axes operand")
    rank = x.rank + len(given)
    new, old = axes_of(given, rank), iter(x.shape)
    return ops.reshape(g.value(x), shape=tuple([1 if i in new else next(old) for i in range(rank)]))


@loads("Transpose")
def transpose(g: Any, node: OnnxNode, x: Item) -> Value:
    perm = tuple(node.ints("perm", list(range(x.rank))[::-1]))
    return ops.permute(g.value(x), perm=perm)


@loads("Concat")
def concat(g: Any, node: OnnxNode, *xs: Item) -> Value:
    axis = axis_of(node.int("axis", 1), xs[0].rank)
    return ops.concat(*[g.value(x) for x in xs], axis=axis)


def cut(value: Value, axis: int, start: Any, stop: Any) -> Value:
    """The elements from start to stop along one axis."""
    shape = value.type.shape
    first = tuple([start if i == axis else 0 for i in range(len(shape))])
    last = tuple([stop if i == axis else d for i, d in enumerate(shape)])
    return ops.slice_(value, start=first, stop=last, step=(1,) * len(shape))


@loads("Split")
def split(g: Any, node: OnnxNode, x: Item, sizes: Item | None = None) -> tuple[Value, ...]:
    axis = axis_of(node.int("axis", 0), x.rank)
    size = x.shape[axis]
    count = node.int("num_outputs", len(node.outputs))
    if not 1 <= count <= max(len(node.outputs), 1):
        raise FormatError(f"{count} parts for {len(node.outputs)} outputs")
    parts = node.ints("split", None) if sizes is None else g.sizes(sizes, "the split operand")
    if parts is None:
        each = divide_exact(size, count)
        if each is None and isinstance(size, int):
            each = -(-size // count)
        if each is None:
            raise ShapeError(f"cannot split {x.type.text} into {count} parts: {size} is not known")
        parts = [each] * (count - 1) + [size - each * (count - 1)]
    value, at, made = g.value(x), 0, []
    for part in parts:
        made.append(cut(value, axis, at, at + part))
        at = at + part
    return tuple(made)


@loads("Slice")
def slice_(
    g: Any,
    node: OnnxNode,
    x: Item,
    starts: Item | None = None,
    ends: Item | None = None,
    axes: Item | None = None,
    steps: Item | None = None,
) -> Value:
    """Bounds beyond the ends are moved to them; a negative step runs backwards."""
    if node.opset < 10:
        begin, end = node.ints("starts"), node.ints("ends")
        along = node.ints("axes", list(range(len(begin))))
        step = [1] * len(begin)
    else:
        begin, end = g.sizes(starts, "the starts operand"), g.sizes(ends, "the ends operand")
        along = range(len(begin)) if axes is None else g.ints(axes, "the axes operand")
        step = [1] * len(begin) if steps is None else g.ints(steps, "the steps operand")
    value = g.value(x)
    first, last, strides, flips = [0] * x.rank, list(x.shape), [1] * x.rank, []
    for a, b, axis, s in zip(begin, end, along, step, strict=True):
        axis, size = axis_of(axis, x.rank), x.shape[axis_of(axis, x.rank)]
        if s < 0:
            flips.append(axis)
            a, b, s = _mirrored(g, a, size, 0), _mirrored(g, b, size, -1), -s
        first[axis], strides[axis] = _bound(g, a, size), s
        last[axis] = _not_before(g, first[axis], _bound(g, b, size))
    if flips:
        value = ops.flip(value, axes=tuple(sorted(flips)))
    return ops.slice_(value, start=tuple(first), stop=tuple(last), step=tuple(strides))


_FAR = 2**31 - 2  # at least this is what exporters write for "to the end"
_LONG = 2**20  # others write 1000000000: no axis is expected to be longer than this


def _bound(g: Any, place: Any, size: Any) -> Any:
    """A bound within 0 and size, counted from the front.

    ONNX moves bounds beyond the ends to them. Where a symbolic size decides whether that happens,
    it is assumed not to, or to where the bound is very large: that becomes a fact of the size.
    """
    if isinstance(place, int):
        if isinstance(size, int):
            return min(max(place + size if place < 0 else place, 0), size)
        if _is_beyond(g, abs(place), size):
            return size if place > 0 else 0
        if place < 0:
            place = size + place
            g.assume_order(0, place)
            return place
    g.assume_order(0, place)
    if g.is_ordered(place, size) is False:
        return size
    g.assume_order(place, size)
    return place


def _is_beyond(g: Any, distance: int, size: Any) -> bool:
    """Whether a symbolic size is at most `distance`, as is assumed of very large ones."""
    if distance >= _FAR:
        return True
    if distance >= _LONG and g.is_ordered(size, distance) is None:
        g.assume_order(size, distance)
    return g.is_ordered(size, distance) is True


def _mirrored(g: Any, place: Any, size: Any, lowest: int) -> Any:
    """The bound counted from the other end: place p becomes size - 1 - p.

    lowest: where bounds before the front are moved to. A start is then 0, an end -1.
    """
    if isinstance(place, int):
        if isinstance(size, int):
            place = min(max(place + size if place < 0 else place, lowest), size - 1)
        elif _is_beyond(g, place if place >= 0 else lowest - place, size):
            place = size - 1 if place >= 0 else lowest
        elif place < 0:
            place = place + size
            g.assume_order(lowest, place)
    return size - 1 - place


def _not_before(g: Any, start: Any, stop: Any) -> Any:
    """The stop, or the start where that comes later: nothing lies between them then."""
    if g.is_ordered(start, stop) is False:
        return start
    g.assume_order(start, stop)
    return stop


@loads("Expand")
def expand(g: Any, node: OnnxNode, x: Item, shape: Item) -> Value:
    wanted = g.sizes(shape, "the shape operand")
    return g.broadcast_to(x, ops.broadcast_shapes(x.shape, wanted))


@loads("Tile")
def tile(g: Any, node: OnnxNode, x: Item, repeats: Item) -> Value:
    """Each axis becomes (repeats, size): an expansion, then a reshape."""
    counts = g.sizes(repeats, "the repeats operand")
    if len(counts) != x.rank:
        raise FormatError(f"{len(counts)} repeats are given for {x.type.text}")
    wide: list[Any] = []
    for count, size in zip(counts, x.shape):
        wide += [count, size]
    axes = tuple(range(0, 2 * x.rank, 2))
    made = ops.expand(g.value(x), shape=tuple(wide), axes=axes) if axes else g.value(x)
    return ops.reshape(made, shape=tuple([c * d for c, d in zip(counts, x.shape)]))


@loads("Pad")
def pad(
    g: Any,
    node: OnnxNode,
    x: Item,
    pads: Item | None = None,
    value: Item | None = None,
    axes: Item | None = None,
) -> Value:
    """Constant, edge, reflect and wrap; a negative size cuts off."""
    if node.opset < 11:
        sizes, fill = node.ints("pads"), node.float("value", 0.0)
    else:
        sizes = g.sizes(pads, "the pads operand")
        fill = 0 if value is None else g.number(value, "the constant value")
    along = list(range(x.rank))
    if axes is not None:
        along = [axis_of(a, x.rank) for a in g.ints(axes, "the axes operand")]
    if len(sizes) != 2 * len(along):
        raise FormatError(f"{len(sizes)} sizes of padding are given for {len(along)} axes")
    low, high = [0] * x.rank, [0] * x.rank
    for i, axis in enumerate(along):
        low[axis], high[axis] = sizes[i], sizes[len(along) + i]
    mode = node.text("mode", "constant")
    made = _cut_negative(g.value(x), low, high)
    low, high = [_at_least_0(d) for d in low], [_at_least_0(d) for d in high]
    if mode == "constant":
        return ops.pad(made, low=tuple(low), high=tuple(high), value=fill)
    for axis in range(x.rank):
        made = _pad_by_index(made, axis, low[axis], high[axis], mode)
    return made


def _at_least_0(d: Any) -> Any:
    return max(d, 0) if isinstance(d, int) else d


def _cut_negative(value: Value, low: list, high: list) -> Value:
    for axis, (a, b) in enumerate(zip(low, high)):
        start = -a if isinstance(a, int) and a < 0 else 0
        end = b if isinstance(b, int) and b < 0 else 0
        if start or end:
            value = cut(value, axis, start, value.type.shape[axis] + end)
    return value


def _pad_by_index(value: Value, axis: int, low: Any, high: Any, mode: str) -> Value:
    """Gathers the elements that stand in the padding."""
    size = value.type.shape[axis]
    if low == 0 and high == 0:
        return value
    if not all(isinstance(d, int) for d in (size, low, high)):
        raise UnsupportedError(f"padding by {mode} along a symbolic size is not supported")
    if low + high + size >= 1 << 28 or not size:
        raise FormatError(f"cannot pad {value.type.text} by {low} and {high}")
    places = np.arange(-low, size + high)
    if mode == "edge":
        places = np.clip(places, 0, size - 1)
    elif mode == "wrap":
        places = places % size
    elif mode == "reflect":
        period = max(2 * (size - 1), 1)
        places = np.abs((places + size - 1) % period - (size - 1)) if size > 1 else places * 0
    else:
        raise UnsupportedError(f"padding by {mode} is not supported")
    return ops.gather(value, ops.const(places.astype(np.int64)), axis=axis)


@loads("DepthToSpace", "SpaceToDepth")
def depth_to_space(g: Any, node: OnnxNode, x: Item) -> Value:
    """Blocks of channels become blocks of pixels, or the other way round."""
    b = node.int("blocksize")
    n, c, h, w = x.shape
    if b < 1:
        raise FormatError(f"a block size is {b}")
    if node.type == "SpaceToDepth":
        made = ops.reshape(g.value(x), shape=(n, c, h // b, b, w // b, b))
        blocks_first = node.text("mode", "DCR") == "DCR"
        made = ops.permute(made, perm=(0, 3, 5, 1, 2, 4) if blocks_first else (0, 1, 3, 5, 2, 4))
        return ops.reshape(made, shape=(n, c * b * b, h // b, w // b))
    if node.text("mode", "DCR") == "DCR":
        made = ops.reshape(g.value(x), shape=(n, b, b, c // (b * b), h, w))
        made = ops.permute(made, perm=(0, 3, 4, 1, 5, 2))
    else:
        made = ops.reshape(g.value(x), shape=(n, c // (b * b), b, b, h, w))
        made = ops.permute(made, perm=(0, 1, 4, 2, 5, 3))
    return ops.reshape(made, shape=(n, c // (b * b), h * b, w * b))


@loads("Trilu")
def trilu(g: Any, node: OnnxNode, x: Item, k: Item | None = None) -> Value:
    """The upper or lower triangle, zeros elsewhere."""
    diagonal = 0 if k is None else g.number(k, "the diagonal")
    rows = ops.iota(x.shape, x.rank - 2, I64) + diagonal
    columns = ops.iota(x.shape, x.rank - 1, I64)
    kept = ops.le(rows, columns) if node.int("upper", 1) else ops.le(columns, rows)
    return ops.select(kept, g.value(x), ops.full_like(0, g.value(x)))
