"""Ops that only move elements. Each is arithmetic on indices, so fusion makes them free."""

import numpy as np

from ..dims import Dim, product
from ..errors import ShapeError
from ..op import Structural, op
from ..schema import Any_, Case, Dims, IntAttr, Ints, NumberAttr, Onnx, many
from ..types import TensorType
from .constant import full_like


@op("reshape")
class reshape(Structural):
    """The same elements in row-major order, in another shape."""

    x: Any_
    shape: Dims

    def result(x, shape):
        if shape != x.shape and product(shape) != product(x.shape):
            raise ShapeError(f"cannot reshape {x.text} to {_shape(shape)}: the sizes differ")
        return x.with_shape(shape)

    def eval(x, shape):
        return x.reshape(shape)

    linear = (0,)

    def transpose(ct, node, i):
        return reshape(ct, shape=node.inputs[0].type.shape)

    def to_onnx(g, node, x):
        return g.reshape(x, node.attrs["shape"])

    onnx = Onnx("Reshape", 14)
    samples = (Case("f32[2, 6]", shape=(3, 4)), Case("i64[0, 3]", shape=(3, 0)))


@op("permute")
class permute(Structural):
    """Axes in another order: axis i of the result is axis perm[i] of x."""

    x: Any_
    perm: Ints

    def result(x, perm):
        if sorted(perm) != list(range(len(x.shape))):
            raise ShapeError(f"{perm} is no order of the axes of {x.text}")
        return x.with_shape([x.shape[i] for i in perm])

    def eval(x, perm):
        return x.transpose(perm)

    linear = (0,)

    def transpose(ct, node, i):
        return permute(ct, perm=inverse(node.attrs["perm"]))

    onnx = Onnx("Transpose", 13, {"perm": "perm"})
    samples = (Case("f32[2, 3, 4]", perm=(2, 0, 1)), Case("bool[3]", perm=(0,)))


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


@op("expand")
class expand(Structural):
    """Repeats x along new axes: `axes` are their places in the result `shape`, in order."""

    x: Any_
    shape: Dims
    axes: Ints

    def result(x, shape, axes):
        kept = tuple([d for i, d in enumerate(shape) if i not in axes])
        if kept != x.shape or len(axes) + len(x.shape) != len(shape):
            raise ShapeError(f"cannot expand {x.text} to {_shape(shape)} along {axes}")
        return x.with_shape(shape)

    def eval(x, shape, axes):
        return np.broadcast_to(np.expand_dims(x, axes), shape)

    linear = (0,)

    def transpose(ct, node, i):
        from .reduce import reduce_sum

        return reduce_sum(ct, axes=node.attrs["axes"])

    def to_onnx(g, node, x):
        wide = g.unsqueeze(x, node.attrs["axes"])
        return g.op("Expand", [wide, g.dims(node.attrs["shape"])])

    onnx = Onnx("Expand", 13)
    samples = (Case("f32[3]", shape=(2, 3, 4), axes=(0, 2)), Case("i32[]", shape=(2,), axes=(0,)))


@op("slice")
class slice_(Structural):
    """The elements from start (inclusive) to stop (exclusive) in steps of `step`, on every axis."""

    x: Any_
    start: Dims
    stop: Dims
    step: Ints

    def result(x, start, stop, step):
        if not len(start) == len(stop) == len(step) == len(x.shape):
            raise ShapeError(f"slice of {x.text} needs {len(x.shape)} starts, stops and steps")
        sizes = []
        for n, a, b, s in zip(x.shape, start, stop, step, strict=True):
            if s < 1:
                raise ShapeError(f"slice of {x.text}: a step is {s}, but must be positive")
            if all(isinstance(d, int) for d in (n, a, b)) and not 0 <= a <= b <= n:
                raise ShapeError(f"slice of {x.text}: {a} to {b} is not within 0 to {n}")
            sizes.append(b - a if s == 1 else (b - a + s - 1) // s)
        return x.with_shape(sizes)

    def eval(x, start, stop, step):
        return x[tuple(map(slice, start, stop, step))]

    linear = (0,)

    def transpose(ct, node, i):
        start, stop, step = (node.attrs[k] for k in ("start", "stop", "step"))
        for axis, s in enumerate(step):
            if s > 1:
                ct = dilate(ct, axis, s)
        high = []
        for n, a, m in zip(node.inputs[0].type.shape, start, ct.type.shape, strict=True):
            high.append(n - a - m)
        return pad(ct, low=start, high=tuple(high), value=0)

    def to_onnx(g, node, x):
        axes = g.ints(range(len(node.attrs["start"])))
        bounds = [g.dims(node.attrs[k]) for k in ("start", "stop")]
        return g.op("Slice", [x, *bounds, axes, g.ints(node.attrs["step"])])

    onnx = Onnx("Slice", 13)
    samples = (
        Case("f32[5, 6]", start=(1, 0), stop=(4, 6), step=(1, 2)),
        Case("f32[7]", start=(1,), stop=(7,), step=(3,)),
        Case("i64[4]", start=(2,), stop=(2,), step=(1,)),
    )


def dilate(x, axis: int, step: int):
    """Puts step - 1 zeros between the elements along an axis: n become (n - 1) * step + 1."""
    shape = x.type.shape
    n = shape[axis]
    wide = reshape(x, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
    low = (0,) * (len(shape) + 1)
    high = tuple([step - 1 if i == axis + 1 else 0 for i in range(len(shape) + 1)])
    wide = pad(wide, low=low, high=high, value=0)
    flat = reshape(wide, shape=(*shape[:axis], n * step, *shape[axis + 1 :]))
    if n == 0:
        return flat
    stop = tuple([n * step - (step - 1) if i == axis else d for i, d in enumerate(flat.type.shape)])
    ones = (1,) * len(shape)
    return slice_(flat, start=(0,) * len(shape), stop=stop, step=ones)


@op("pad", value=0)
class pad(Structural):
    """`low` elements of `value` before and `high` after, on every axis. Negative sizes cut off."""

    x: Any_
    low: Dims
    high: Dims
    value: NumberAttr

    def result(x, low, high, value):
        if not len(low) == len(high) == len(x.shape):
            raise ShapeError(f"pad of {x.text} needs {len(x.shape)} sizes before and after")
        for a in (*low, *high):
            if isinstance(a, int) and a < 0:
                raise ShapeError(f"pad of {x.text}: a size is negative ({a}): slice instead")
        return x.with_shape([n + a + b for n, a, b in zip(x.shape, low, high, strict=True)])

    def eval(x, low, high, value):
        shape = [n + a + b for n, a, b in zip(x.shape, low, high, strict=True)]
        out = np.full(shape, value, x.dtype)
        out[tuple(slice(a, a + n) for a, n in zip(low, x.shape, strict=True))] = x
        return out

    linear = (0,)

    def transpose(ct, node, i):
        shape, low = node.inputs[0].type.shape, node.attrs["low"]
        stop = tuple([a + n for a, n in zip(low, shape, strict=True)])
        return slice_(ct, start=low, stop=stop, step=(1,) * len(shape))

    def push(tangents, node):
        attrs = node.attrs
        return [pad(tangents[0], low=attrs["low"], high=attrs["high"], value=0)]

    def to_onnx(g, node, x):
        pads = g.dims((*node.attrs["low"], *node.attrs["high"]))
        return g.op("Pad", [x, pads, g.scalar(node.attrs["value"], node.inputs[0].type.dtype)])

    onnx = Onnx("Pad", 13)
    samples = (
        Case("f32[2, 3]", low=(1, 0), high=(0, 2), value=0.5),
        Case("i64[3]", low=(0,), high=(2,), value=-1),
    )


@op("flip")
class flip(Structural):
    """The elements in reverse order along `axes`."""

    x: Any_
    axes: Ints

    def result(x, axes):
        _check_axes(x, axes)
        return x

    def eval(x, axes):
        return np.flip(x, axes)

    linear = (0,)

    def transpose(ct, node, i):
        return flip(ct, axes=node.attrs["axes"])

    def to_onnx(g, node, x):
        axes = node.attrs["axes"]
        start = g.ints([-1] * len(axes))
        stop = g.ints([-(2**62)] * len(axes))
        return g.op("Slice", [x, start, stop, g.ints(axes), g.ints([-1] * len(axes))])

    samples = (Case("f32[3, 4]", axes=(1,)), Case("i64[3, 2]", axes=(0, 1)))


@op("concat")
class concat(Structural):
    """The operands one after the other along an axis."""

    x: many(Any_)
    axis: IntAttr

    def result(*xs, axis):
        if not xs:
            raise ShapeError("concat needs at least one operand")
        first = xs[0]
        if not 0 <= axis < len(first.shape):
            raise ShapeError(f"concat: {first.text} has no axis {axis}")
        total = 0
        for x in xs:
            rest = x.shape[:axis] + x.shape[axis + 1 :]
            fits = len(x.shape) == len(first.shape) and x.dtype is first.dtype
            if not fits or rest != first.shape[:axis] + first.shape[axis + 1 :]:
                raise ShapeError(f"cannot concat {first.text} and {x.text} along axis {axis}")
            total = total + x.shape[axis]
        return first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))

    def eval(*xs, axis):
        return np.concatenate(xs, axis)

    def pull(cts, node):
        ct, axis, at, grads = cts[0], node.attrs["axis"], 0, []
        rank = len(ct.type.shape)
        for value in node.inputs:
            n = value.type.shape[axis]
            start = tuple([at if i == axis else 0 for i in range(rank)])
            stop = tuple([at + n if i == axis else d for i, d in enumerate(ct.type.shape)])
            grads.append(slice_(ct, start=start, stop=stop, step=(1,) * rank))
            at = at + n
        return grads

    def push(tangents, node):
        parts = [
            full_like(0.0, v) if t is None else t
            for t, v in zip(tangents, node.inputs, strict=True)
        ]
        return [concat(*parts, axis=node.attrs["axis"])]

    onnx = Onnx("Concat", 13, {"axis": "axis"})
    samples = (Case("f32[2, 3]", "f32[2, 1]", axis=1), Case("i64[2]", "i64[0]", "i64[3]", axis=0))


@op("window")
class window(Structural):
    """Sliding windows over the last axes: one new last axis for each of `sizes`.

    x[..., n] becomes [..., (n - (size - 1) * dilation - 1) // stride + 1, size].
    """

    x: Any_
    sizes: Ints
    strides: Ints
    dilations: Ints

    def result(x, sizes, strides, dilations):
        k = len(sizes)
        if not len(strides) == len(dilations) == k or k > len(x.shape):
            raise ShapeError(f"window of {x.text}: sizes, strides and dilations do not fit")
        outer = []
        for n, size, stride, dilation in zip(
            x.shape[len(x.shape) - k :], sizes, strides, dilations, strict=True
        ):
            span = (size - 1) * dilation + 1
            if isinstance(n, int) and n < span:
                raise ShapeError(f"window of {x.text}: a window of {span} is larger than {n}")
            outer.append((n - span) // stride + 1 if stride > 1 else n - span + 1)
        return x.with_shape((*x.shape[: len(x.shape) - k], *outer, *sizes))

    def eval(x, sizes, strides, dilations):
        k, lead = len(sizes), x.ndim - len(sizes)
        spans = tuple([(s - 1) * d + 1 for s, d in zip(sizes, dilations, strict=True)])
        views = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(lead, x.ndim)))
        steps = (slice(None),) * lead + tuple(slice(None, None, s) for s in strides)
        return views[steps + tuple(slice(None, None, d) for d in dilations[:k])]

    linear = (0,)

    def transpose(ct, node, i):
        """The windows laid over each other and added, axis by axis from the last one on."""
        sizes, strides, dilations = (node.attrs[k] for k in ("sizes", "strides", "dilations"))
        shape, k = node.inputs[0].type.shape, len(sizes)
        lead = len(shape) - k
        for i in reversed(range(k)):
            ct = _overlay(ct, lead + i, shape[lead + i], strides[i], dilations[i])
        return ct

    def to_onnx(g, node, x):
        return g.window(node, x)

    samples = (
        Case("f32[2, 6]", sizes=(2,), strides=(2,), dilations=(1,)),
        Case("f32[5, 6]", sizes=(2, 3), strides=(1, 2), dilations=(2, 1)),
    )


def _overlay(ct, axis: int, n: int | Dim, stride: int, dilation: int):
    """The windows along `axis`, whose elements lie along the last axis, added into n places.

    An element of window i at place p goes to i * stride + p * dilation. The places are taken by
    their remainder r by the stride, so that each result is a sum of shifted slices without holes:
    out[j * stride + r] is the sum over the p with p * dilation % stride = r of
    ct[j - p * dilation // stride, p].
    """
    shape = ct.type.shape[:-1]
    size, count = ct.type.shape[-1], shape[axis]
    if size <= stride and (dilation == 1 or size == 1):
        return _padded(_side_by_side(ct, axis, stride), axis, 0, n - count * stride)
    rows = count + (size - 1) * dilation // stride
    parts = [_remainder(ct, axis, rows, stride, dilation, r) for r in range(stride)]
    total = parts[0]
    if stride > 1:
        one = (*shape[:axis], rows, 1, *shape[axis + 1 :])
        total = concat(*[reshape(part, shape=one) for part in parts], axis=axis + 1)
        total = reshape(total, shape=(*shape[:axis], rows * stride, *shape[axis + 1 :]))
    return _padded(total, axis, 0, n - rows * stride)


def _side_by_side(ct, axis: int, stride: int):
    """Windows that do not overlap, one after the other, with zeros between them."""
    last = len(ct.type.shape) - 1
    ct = _padded(ct, last, 0, stride - ct.type.shape[last])
    perm = (*range(axis + 1), last, *range(axis + 1, last))
    shape = ct.type.shape[:last]
    wide = (*shape[:axis], shape[axis] * stride, *shape[axis + 1 :])
    return reshape(permute(ct, perm=perm), shape=wide)


def _remainder(ct, axis: int, rows: int | Dim, stride: int, dilation: int, r: int):
    """The sum of what falls on the places j * stride + r, for j below `rows`."""
    shape = ct.type.shape
    zeros = (0,) * len(shape)
    total = None
    for p in range(shape[-1]):
        if p * dilation % stride != r:
            continue
        part = slice_(ct, start=(*zeros[1:], p), stop=(*shape[:-1], p + 1), step=(1,) * len(shape))
        shift = p * dilation // stride
        part = _padded(reshape(part, shape=shape[:-1]), axis, shift, rows - shape[axis] - shift)
        total = part if total is None else total + part
    if total is None:
        first = slice_(ct, start=zeros, stop=(*shape[:-1], 1), step=(1,) * len(shape))
        empty = full_like(0.0, reshape(first, shape=shape[:-1]))
        total = _padded(empty, axis, 0, rows - shape[axis])
    return total


def _padded(x, axis: int, low: int | Dim, high: int | Dim):
    """Zeros before and after along one axis; a negative `high` cuts off."""
    shape = x.type.shape
    zeros = (0,) * len(shape)
    if isinstance(high, int) and high < 0:
        stop = (*shape[:axis], shape[axis] + high, *shape[axis + 1 :])
        x, high = slice_(x, start=zeros, stop=stop, step=(1,) * len(shape)), 0
    if low == 0 and high == 0:
        return x
    sizes = [tuple([size if i == axis else 0 for i in range(len(shape))]) for size in (low, high)]
    return pad(x, low=sizes[0], high=sizes[1], value=0)


def _check_axes(x: TensorType, axes: tuple[int, ...]) -> None:
    if len(set(axes)) != len(axes) or any(not 0 <= a < len(x.shape) for a in axes):
        raise ShapeError(f"{axes} are no axes of {x.text}")


def _shape(shape: tuple) -> str:
    return "[" + ", ".join(str(d) for d in shape) + "]"


def broadcast_to(x, shape: tuple):
    """numpy's broadcasting as explicit ops: axes of size 1 are dropped and expanded anew."""
    have = x.type.shape
    if have == tuple(shape):
        return x
    offset = len(shape) - len(have)
    axes = list(range(offset))
    kept = []
    for i, d in enumerate(have):
        want = shape[offset + i]
        if d == want:
            kept.append(d)
        elif d == 1:
            axes.append(offset + i)
        else:
            raise ShapeError(f"cannot broadcast {x.type.text} to {_shape(tuple(shape))}")
    if len(kept) != len(have):
        x = reshape(x, shape=tuple(kept))
    return expand(x, shape=tuple(shape), axes=tuple(axes)) if axes else x


def broadcast_shapes(*shapes: tuple) -> tuple:
    """The shape that numpy broadcasts these to; ShapeError where there is none."""
    rank = max([len(s) for s in shapes], default=0)
    out: list[int | Dim] = []
    for i in range(rank):
        size: int | Dim = 1
        for s in shapes:
            k = i - (rank - len(s))
            d = s[k] if k >= 0 else 1
            if d != 1 and size != 1 and d != size:
                raise ShapeError(
                    f"The size of tensor a ({size}) must match the size of tensor b ({d}) "
                    f"at non-singleton dimension {i}"
                )
            if d != 1:
                size = d
        out.append(size)
    return tuple(out)
