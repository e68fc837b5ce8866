"""Row programs: softmax, norms, statistics."""

from .. import ops
from ..dims import product
from ..dtype import I64
from ..errors import ShapeError
from ..op import op
from ..schema import Case, Float, Int, IntAttr, Ints, NumberAttr, Onnx, Real
from .base import Composite


def _row_max(x, axis):
    """The largest of each row, as a shift that is no part of the derivative."""
    return ops.detach(ops.reduce_max(x, axes=(axis,)))


def _wide(value, x, axes):
    return ops.expand(value, shape=x.type.shape, axes=axes) if axes else value


@op("softmax")
class softmax(Composite):
    """exp(x) over its sum, along an axis."""

    x: Float
    axis: IntAttr

    def expand(x, axis):
        e = ops.exp(ops.sub(x, _wide(_row_max(x, axis), x, (axis,))))
        return ops.div(e, _wide(ops.reduce_sum(e, axes=(axis,)), x, (axis,)))

    def pull(cts, node):
        (ct,), (out,), axis = cts, node.outputs, node.attrs["axis"]
        inner = ops.reduce_sum(ct * out, axes=(axis,))
        return [(ct - _wide(inner, out, (axis,))) * out]

    def push(tangents, node):
        (t,), (out,), axis = tangents, node.outputs, node.attrs["axis"]
        inner = ops.reduce_sum(t * out, axes=(axis,))
        return [(t - _wide(inner, out, (axis,))) * out]

    onnx = Onnx("Softmax", 13, {"axis": "axis"})
    samples = (Case("f32[4, 5]", axis=1), Case("f64[2, 3, 4]", axis=1))


@op("log_softmax")
class log_softmax(Composite):
    """log(softmax(x)), without overflow."""

    x: Float
    axis: IntAttr

    def expand(x, axis):
        shifted = ops.sub(x, _wide(_row_max(x, axis), x, (axis,)))
        total = ops.log(ops.reduce_sum(ops.exp(shifted), axes=(axis,)))
        return ops.sub(shifted, _wide(total, x, (axis,)))

    def pull(cts, node):
        (ct,), (out,), axis = cts, node.outputs, node.attrs["axis"]
        total = ops.reduce_sum(ct, axes=(axis,))
        return [ct - ops.exp(out) * _wide(total, out, (axis,))]

    def push(tangents, node):
        (t,), (out,), axis = tangents, node.outputs, node.attrs["axis"]
        inner = ops.reduce_sum(ops.exp(out) * t, axes=(axis,))
        return [t - _wide(inner, out, (axis,))]

    onnx = Onnx("LogSoftmax", 13, {"axis": "axis"})
    samples = (Case("f32[4, 5]", axis=1), Case("f64[2, 3, 4]", axis=0))


def count(x, axes):
    """The number of elements along axes, as a value of the type of a reduced x."""
    n = product([x.type.shape[a] for a in axes])
    shape = tuple([d for i, d in enumerate(x.type.shape) if i not in axes])
    if isinstance(n, int):
        return ops.full(float(n), x.type.dtype, shape, x.type.device)
    return ops.cast(ops.dim_value(n, shape, x.type.device), dtype=x.type.dtype)


def moments(x, axes):
    """Mean and biased variance over axes."""
    n = count(x, axes)
    center = ops.div(ops.reduce_sum(x, axes=axes), n)
    delta = ops.sub(x, _wide(center, x, axes))
    return center, ops.div(ops.reduce_sum(ops.mul(delta, delta), axes=axes), n), delta


@op("layer_norm")
class layer_norm(Composite):
    """(x - mean) / sqrt(var + eps) over the last `axes`, then scaled and shifted."""

    x: Float
    weight: Float
    bias: Float
    eps: NumberAttr

    def expand(x, weight, bias, eps):
        rank, k = len(x.type.shape), len(weight.type.shape)
        if k > rank:
            raise ShapeError(f"layer_norm: {x.type.text} has no {k} axes, as the weight has")
        axes = tuple(range(rank - k, rank))
        lead = tuple(range(rank - k))
        _, var, delta = moments(x, axes)
        scale = ops.rsqrt(ops.add(var, ops.full_like(eps, var)))
        normal = ops.mul(delta, _wide(scale, x, axes))
        return ops.add(ops.mul(normal, _wide(weight, x, lead)), _wide(bias, x, lead))

    def to_onnx(g, node, x, weight, bias):
        axis = -len(node.inputs[1].type.shape)
        return g.op("LayerNormalization", [x, weight, bias], axis=axis, epsilon=node.attrs["eps"])

    onnx = Onnx("LayerNormalization", 17)
    samples = (
        Case("f32[4, 5]", "f32[5]", "f32[5]", eps=1e-5),
        Case("f32[2, 3, 4]", "f32[3, 4]", "f32[3, 4]", eps=1e-5),
    )


@op("batch_norm")
class batch_norm(Composite):
    """Inference: (x - mean) / sqrt(var + eps) by channel (axis 1), then scaled and shifted."""

    x: Float
    mean: Float
    var: Float
    weight: Float
    bias: Float
    eps: NumberAttr

    def expand(x, mean, var, weight, bias, eps):
        axes = tuple([i for i in range(len(x.type.shape)) if i != 1])
        scale = ops.mul(weight, ops.rsqrt(ops.add(var, ops.full_like(eps, var))))
        centered = ops.sub(x, _wide(mean, x, axes))
        return ops.add(ops.mul(centered, _wide(scale, x, axes)), _wide(bias, x, axes))

    def to_onnx(g, node, x, mean, var, weight, bias):
        operands = [x, weight, bias, mean, var]
        return g.op("BatchNormalization", operands, epsilon=node.attrs["eps"])

    onnx = Onnx("BatchNormalization", 15)
    samples = (Case("f32[4, 3, 5]", "f32[3]", "f32[3]:positive", "f32[3]", "f32[3]", eps=1e-5),)


@op("norm2")
class norm2(Composite):
    """The square root of the sum of squares over axes. Its derivative at 0 is 0."""

    x: Float
    axes: Ints

    def expand(x, axes):
        return ops.sqrt(ops.reduce_sum(ops.mul(x, x), axes=axes))

    def pull(cts, node):
        (ct,), (out,), (x,), axes = cts, node.outputs, node.inputs, node.attrs["axes"]
        zero = ops.full_like(0.0, out)
        scale = ops.select(ops.eq(out, zero), zero, ct / out)
        return [x * _wide(scale, x, axes)]

    def push(tangents, node):
        (t,), (out,), (x,), axes = tangents, node.outputs, node.inputs, node.attrs["axes"]
        zero = ops.full_like(0.0, out)
        inner = ops.reduce_sum(x * t, axes=axes)
        return [ops.select(ops.eq(out, zero), zero, inner / out)]

    onnx = Onnx("ReduceL2", 18)

    def to_onnx(g, node, x):
        return g.op("ReduceL2", [x, g.ints(node.attrs["axes"])], keepdims=0, noop_with_empty_axes=1)

    samples = (Case("f32[4, 5]", axes=(1,)),)


class First(Composite):
    """An extreme along an axis; its derivative goes to the first of equals."""

    def pull(self, cts, node):
        (x,), axis = node.inputs, node.attrs["axis"]
        return [ops.select(_first(node), _wide(cts[0], x, (axis,)), ops.full_like(0.0, x))]

    def push(self, tangents, node):
        zero = ops.full_like(0.0, node.inputs[0])
        part = ops.select(_first(node), tangents[0], zero)
        return [ops.reduce_sum(part, axes=(node.attrs["axis"],))]

    def to_onnx(self, g, node, x):
        name = "ReduceMax" if self is max_first else "ReduceMin"
        return g.op(name, [x, g.ints([node.attrs["axis"]])], keepdims=0)

    samples = (Case("f32[4, 5]", axis=1),)


@op("max_first")
class max_first(First):
    """The largest along an axis; its derivative goes to the first of equals."""

    x: Real
    axis: IntAttr

    def expand(x, axis):
        return ops.reduce_max(x, axes=(axis,))

    onnx = Onnx("ReduceMax", 18)


@op("min_first")
class min_first(First):
    """The smallest along an axis; its derivative goes to the first of equals."""

    x: Real
    axis: IntAttr

    def expand(x, axis):
        return ops.reduce_min(x, axes=(axis,))

    onnx = Onnx("ReduceMin", 18)


def _size_like(n, index):
    size = ops.dim_value(n, index.type.shape, index.type.device)
    return ops.cast(size, dtype=index.type.dtype)


@op("pick")
class pick(Composite):
    """x at one place along an axis: out[...] = x[..., index[...], ...]. An index outside is an
    error. Its derivative is a comparison with the index, which fuses, and not a scatter."""

    x: Float
    index: Int
    axis: IntAttr

    def expand(x, index, axis):
        if not 0 <= axis < len(x.type.shape):
            raise ShapeError(f"pick: {x.type.text} has no axis {axis}")
        shape, n = x.type.shape, x.type.shape[axis]
        size = ops.full_like(n, index) if isinstance(n, int) else _size_like(n, index)
        outside = ops.or_(ops.lt(index, ops.full_like(0, index)), ops.le(size, index))
        # Far outside, it stays outside as a place of the whole tensor too, and is found there.
        wide_index = ops.cast(index, dtype=I64)
        places = ops.select(outside, ops.full_like(-(2**40), wide_index), wide_index)
        wide = ops.reshape(
            places, shape=tuple([1 if i == axis else d for i, d in enumerate(shape)])
        )
        return ops.reshape(ops.take_along(x, wide, axis), shape=index.type.shape)

    def pull(cts, node):
        (ct,), (x, index), axis = cts, node.inputs, node.attrs["axis"]
        places = ops.iota(x.type.shape, axis, index.type.dtype, x.type.device)
        at = ops.eq(places, _wide(index, x, (axis,)))
        return [ops.select(at, _wide(ct, x, (axis,)), ops.full_like(0.0, x)), None]

    def push(tangents, node):
        return [pick(tangents[0], node.inputs[1], axis=node.attrs["axis"])]

    no_onnx = "goes out as its expansion"
    samples = (Case("f32[4, 5]", "i64[4]", index=5, axis=1),)


def _first(node):
    """Where the first of the extremes stands."""
    (x,), axis = node.inputs, node.attrs["axis"]
    place = ops.arg_reduce(x, axis=axis, mode="max" if node.op is max_first else "min")
    return ops.eq(ops.iota(x.type.shape, axis, I64, x.type.device), _wide(place, x, (axis,)))
