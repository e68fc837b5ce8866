"""Ops that combine elements along axes. A reduction's order of additions is fixed by its shape."""

import numpy as np

from ..dtype import I64
from ..errors import ShapeError
from ..op import Structural, op
from ..schema import (
    Bool,
    Case,
    Complex,
    Flag,
    IntAttr,
    Ints,
    Number,
    Onnx,
    Real,
    one_of,
)
from .constant import full_like


class Reduction(Structural):
    """Drops `axes`. Over no elements: the identity, or an error for extremes."""

    dear = True

    def result(self, x, axes):
        if len(set(axes)) != len(axes) or any(not 0 <= a < len(x.shape) for a in axes):
            raise ShapeError(f"{self.name}: {axes} are no axes of {x.text}")
        if tuple(sorted(axes)) != axes:
            raise ShapeError(f"{self.name}: the axes {axes} must be in ascending order")
        return x.with_shape([d for i, d in enumerate(x.shape) if i not in axes])


def _expand_back(value, node):
    from .movement import expand

    axes = node.attrs["axes"]
    return expand(value, shape=node.inputs[0].type.shape, axes=axes) if axes else value


@op("reduce_sum")
class reduce_sum(Reduction):
    """The sum; +0.0 over no elements. Integers wrap."""

    x: Number
    axes: Ints

    def eval(x, axes):
        wide = np.float32 if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x.dtype
        return np.asarray(x.sum(axes, dtype=wide)) + np.zeros((), wide)

    linear = (0,)

    def transpose(ct, node, i):
        return _expand_back(ct, node)

    def to_onnx(g, node, x):
        return g.op(
            "ReduceSum", [x, g.ints(node.attrs["axes"])], keepdims=0, noop_with_empty_axes=1
        )

    onnx = Onnx("ReduceSum", 13)
    samples = (
        Case("f32[4, 5]", axes=(1,)),
        Case("f32[4, 5]", axes=(0, 1)),
        Case("i64[3]", axes=(0,)),
    )


@op("reduce_prod")
class reduce_prod(Reduction):
    """The product; 1 over no elements."""

    x: Real
    axes: Ints

    def eval(x, axes):
        wide = np.float32 if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x.dtype
        return np.asarray(x.prod(axes, dtype=wide))

    def pull(cts, node):
        """Products of all other elements by cumulative products from both ends: right at zeros."""
        return [_prod_gradient(cts[0], node)]

    def push(tangents, node):
        (x,) = node.inputs
        one = full_like(1.0, node.outputs[0])
        return [reduce_sum(_prod_gradient(one, node) * tangents[0], axes=node.attrs["axes"])]

    def to_onnx(g, node, x):
        return g.op(
            "ReduceProd", [x, g.ints(node.attrs["axes"])], keepdims=0, noop_with_empty_axes=1
        )

    onnx = Onnx("ReduceProd", 18)
    samples = (Case("f32[4, 5]", axes=(1,)), Case("i64[3]", axes=(0,)))


def _prod_gradient(ct, node):
    from .movement import inverse, permute, reshape

    (x,), axes = node.inputs, node.attrs["axes"]
    if not axes:
        return ct
    shape = x.type.shape
    kept = [i for i in range(len(shape)) if i not in axes]
    order = (*kept, *axes)
    count = 1
    for a in axes:
        count = count * shape[a]
    moved = permute(x, perm=order)
    rows = reshape(moved, shape=(*[shape[i] for i in kept], count))
    axis = len(kept)
    before = _exclusive(rows, axis, reverse=False)
    after = _exclusive(rows, axis, reverse=True)
    back = permute(reshape(before * after, shape=moved.type.shape), perm=inverse(order))
    return _expand_back(ct, node) * back


def _exclusive(x, axis: int, reverse: bool):
    """Cumulative products that leave the element itself out."""
    from .constant import full
    from .movement import concat, slice_

    n = x.type.shape[axis]
    if n == 0:
        return x
    rank = len(x.type.shape)
    one = full(1.0, x.type.dtype, [1 if i == axis else d for i, d in enumerate(x.type.shape)])
    start = [0] * rank
    stop = list(x.type.shape)
    if reverse:
        start[axis] = 1
    else:
        stop[axis] = n - 1
    part = slice_(x, start=tuple(start), stop=tuple(stop), step=(1,) * rank)
    run = cumulative(part, axis=axis, mode="prod", reverse=reverse)
    return concat(run, one, axis=axis) if reverse else concat(one, run, axis=axis)


class Extreme(Reduction):
    """nan where any element is nan. Ties share the derivative equally, as torch's amax does."""

    def result(self, x, axes):
        for a in axes:
            if a < len(x.shape) and x.shape[a] == 0:
                raise ShapeError(f"{self.name} of {x.text} along {axes}: there are no elements")
        return Reduction.result(self, x, axes)

    def pull(self, cts, node):
        return [_expand_back(cts[0], node) * _share_of_ties(node)]

    def push(self, tangents, node):
        return [reduce_sum(tangents[0] * _share_of_ties(node), axes=node.attrs["axes"])]


def _share_of_ties(node):
    from .binary import cast, div, eq

    (x,) = node.inputs
    at = cast(eq(x, _expand_back(node.outputs[0], node)), dtype=x.type.dtype)
    count = reduce_sum(at, axes=node.attrs["axes"])
    return div(at, _expand_back(count, node))


@op("reduce_max")
class reduce_max(Extreme):
    """The largest element; of zeros with both signs, one of them."""

    x: Real | Bool
    axes: Ints

    def eval(x, axes):
        return np.asarray(x.max(axes)) if axes else x

    def to_onnx(g, node, x):
        return g.op(
            "ReduceMax", [x, g.ints(node.attrs["axes"])], keepdims=0, noop_with_empty_axes=1
        )

    onnx = Onnx("ReduceMax", 18)
    samples = (Case("f32[4, 5]", axes=(1,)), Case("i64[3, 2]", axes=(0, 1)))


@op("reduce_min")
class reduce_min(Extreme):
    """The smallest element; of zeros with both signs, one of them."""

    x: Real | Bool
    axes: Ints

    def eval(x, axes):
        return np.asarray(x.min(axes)) if axes else x

    def to_onnx(g, node, x):
        return g.op(
            "ReduceMin", [x, g.ints(node.attrs["axes"])], keepdims=0, noop_with_empty_axes=1
        )

    onnx = Onnx("ReduceMin", 18)
    samples = (Case("f32[4, 5]", axes=(1,)), Case("i64[3, 2]", axes=(0, 1)))


@op("arg_reduce")
class arg_reduce(Structural):
    """The place of the extreme along `axis`: the first of equals, the first nan."""

    x: Real | Bool
    axis: IntAttr
    mode: one_of("max", "min")

    def result(x, axis, mode):
        if not 0 <= axis < len(x.shape):
            raise ShapeError(f"arg_reduce: {x.text} has no axis {axis}")
        if x.shape[axis] == 0:
            raise ShapeError(f"arg_reduce of {x.text} along {axis}: there are no elements")
        return x.with_dtype(I64).with_shape([d for i, d in enumerate(x.shape) if i != axis])

    def eval(x, axis, mode):
        return (np.argmax if mode == "max" else np.argmin)(x, axis)

    no_derivative = "its result is integer"
    dear = True

    def to_onnx(g, node, x):
        name = "ArgMax" if node.attrs["mode"] == "max" else "ArgMin"
        return g.op(name, [x], axis=node.attrs["axis"], keepdims=0)

    onnx = Onnx("ArgMax", 13)
    samples = (Case("f32[4, 5]", axis=1, mode="max"), Case("i64[6]", axis=0, mode="min"))


@op("cumulative", reverse=False)
class cumulative(Structural):
    """The running sum, product, maximum or minimum along `axis`, each element included."""

    x: Real | Complex
    axis: IntAttr
    mode: one_of("sum", "prod", "max", "min")
    reverse: Flag

    def result(x, axis, mode, reverse):
        if not 0 <= axis < len(x.shape):
            raise ShapeError(f"cumulative: {x.text} has no axis {axis}")
        return x

    def eval(x, axis, mode, reverse):
        ufunc = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}[mode]
        turned = np.flip(x, axis) if reverse else x
        out = ufunc.accumulate(turned, axis, dtype=x.dtype)
        return np.flip(out, axis) if reverse else out

    dear = True

    def pull(cts, node):
        return [_cumulative_pull(cts[0], node)]

    def to_onnx(g, node, x):
        return g.cumulative(node, x)

    onnx = Onnx("CumSum", 14)
    samples = (
        Case("f32[4, 5]", axis=1, mode="sum"),
        Case("f32[4, 5]", axis=0, mode="prod"),
        Case("i64[6]", axis=0, mode="max", reverse=True),
    )


def _cumulative_pull(ct, node):
    from .binary import eq, select
    from .constant import iota
    from .index import put_along

    (x,), (out,), attrs = node.inputs, node.outputs, node.attrs
    axis, mode, reverse = attrs["axis"], attrs["mode"], attrs["reverse"]
    if mode == "sum":
        return cumulative(ct, axis=axis, mode="sum", reverse=not reverse)
    if mode == "prod":
        return _exclusive(x, axis, reverse) * _later_products(ct, x, axis, reverse)
    # An extreme comes from the latest place whose element is the running extreme.
    places = iota(x.type.shape, axis, I64, x.type.device)
    missing = full_like(-1 if not reverse else 2**62, places)
    own = select(eq(x, out), places, missing)
    source = cumulative(own, axis=axis, mode="min" if reverse else "max", reverse=reverse)
    return put_along(full_like(0.0, x), source, ct, axis, "add")


def _later_products(ct, x, axis: int, reverse: bool):
    """For each i the sum over later j of ct[j] * product of x[i + 1 .. j]: right at zeros of x.

    It is s[i] = ct[i] + x[i + 1] * s[i + 1], from the end.
    """
    from ..build import Builder
    from .constant import full
    from .control import scan
    from .movement import inverse, permute

    rank = len(x.type.shape)
    order = (axis, *[i for i in range(rank) if i != axis])
    cts, rows = permute(ct, perm=order), permute(x, perm=order)
    row = x.type.with_shape(rows.type.shape[1:])
    with Builder() as step:
        later, factor, ct_row, x_row = [step.param(row) for _ in range(4)]
        found = ct_row + factor * later
        body = step.graph([found, x_row, found])
    start = [full(number, row.dtype, row.shape, row.device) for number in (0.0, 1.0)]
    n = x.type.shape[axis]
    sums = scan(body, start, [cts, rows], length=n, reverse=not reverse)[-1]
    return permute(sums, perm=inverse(order))
