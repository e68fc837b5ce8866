"""Ops that look elements up by index, order them, or put them back."""

import numpy as np

from ..dims import Dim
from ..dtype import BF16, F32, I64
from ..errors import ShapeError
from ..op import Structural, op
from ..schema import Any_, Bool, Case, DimAttr, Dims, Flag, Int, IntAttr, Onnx, Real, many, one_of
from .constant import full_like


def _check_bounds(index: np.ndarray, size: int) -> None:
    if index.size and (index.min() < 0 or index.max() >= size):
        bad = index[(index < 0) | (index >= size)].flat[0]
        raise IndexError(f"index {bad} is out of bounds for dimension with size {size}")


@op("gather")
class gather(Structural):
    """Rows of x along `axis` by integer indices: shape x[:axis] + index + x[axis + 1:].

    An index outside [0, size) is an error.
    """

    x: Any_
    index: Int
    axis: IntAttr

    def result(x, index, axis):
        if not 0 <= axis < len(x.shape):
            raise ShapeError(f"gather: {x.text} has no axis {axis}")
        return x.with_shape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))

    def eval(x, index, axis):
        _check_bounds(index, x.shape[axis])
        return np.take(x, index, axis)

    linear = (0,)
    dear = True

    def transpose(ct, node, i):
        x, index = node.inputs
        return scatter(full_like(0.0, x), index, ct, axis=node.attrs["axis"], mode="add")

    onnx = Onnx("Gather", 13, {"axis": "axis"})
    samples = (
        Case("f32[5, 3]", "i64[4]", index=5, axis=0),
        Case("f32[2, 5, 3]", "i64[2, 2]", index=5, axis=1),
    )


@op("scatter", mode="add")
class scatter(Structural):
    """x with `updates` put in, added, multiplied, or the extreme kept, at `index` along `axis`.

    updates has the shape x[:axis] + index + x[axis + 1:]. Repeated indices act in row-major order,
    so the result is the same every time. An index outside [0, size) is an error.
    """

    x: Any_
    index: Int
    updates: Any_
    axis: IntAttr
    mode: one_of("set", "add", "mul", "max", "min")

    def result(x, index, updates, axis, mode):
        if not 0 <= axis < len(x.shape):
            raise ShapeError(f"scatter: {x.text} has no axis {axis}")
        want = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        if updates.shape != want or updates.dtype is not x.dtype:
            raise ShapeError(f"scatter: updates are {updates.text}, not {x.with_shape(want).text}")
        return x

    def eval(x, index, updates, axis, mode):
        _check_bounds(index, x.shape[axis])
        out = np.moveaxis(x.copy(), axis, 0)
        k = index.ndim
        rows = np.moveaxis(updates, tuple(range(axis, axis + k)), tuple(range(k)))
        if mode == "set":
            for place in np.ndindex(*index.shape):
                out[index[place]] = rows[place]
        else:
            ufunc = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[mode]
            if mode == "add" and x.dtype == bool:
                ufunc = np.logical_or
            ufunc.at(out, index, rows)
        return np.moveaxis(out, 0, axis)

    dear = True

    def pull(cts, node):
        (ct,), (x, index, updates), attrs = cts, node.inputs, node.attrs
        axis = attrs["axis"]
        if attrs["mode"] == "add":
            return [ct, None, gather(ct, index, axis=axis)]
        if attrs["mode"] == "set":
            zeros = full_like(0.0, updates)
            return [
                scatter(ct, index, zeros, axis=axis, mode="set"),
                None,
                _of_last_writer(gather(ct, index, axis=axis), x, index, axis),
            ]
        shares = _shares_of_product if attrs["mode"] == "mul" else _shares_of_extreme
        dx, du = shares(ct, node)
        return [dx, None, du]

    def push(tangents, node):
        x, index, updates = node.inputs
        axis, mode = node.attrs["axis"], node.attrs["mode"]
        dx, du = [
            full_like(0.0, v) if t is None else t
            for t, v in ((tangents[0], x), (tangents[2], updates))
        ]
        if mode in ("add", "set"):
            return [scatter(dx, index, du, axis=axis, mode=mode)]
        shares = _shares_of_product if mode == "mul" else _shares_of_extreme
        share_x, share_u = shares(full_like(1.0, x), node)
        return [scatter(dx * share_x, index, du * share_u, axis=axis, mode="add")]

    def to_onnx(g, node, x, index, updates):
        return g.scatter(node, x, index, updates)

    samples = (
        Case("f32[5, 3]", "i64[4]", "f32[4, 3]", index=5, axis=0, mode="add"),
        Case("f32[5]", "i64[3]", "f32[3]", index=5, axis=0, mode="set"),
        Case("i64[2, 5]", "i64[3]", "i64[2, 3]", index=5, axis=1, mode="max"),
    )


def _shares_of_extreme(ct, node):
    """Elements that equal the extreme share the derivative equally."""
    from .binary import add, cast, div, eq, mul

    x, index, updates = node.inputs
    axis, out = node.attrs["axis"], node.outputs[0]
    own = cast(eq(x, out), dtype=x.type.dtype)
    theirs = cast(eq(updates, gather(out, index, axis=axis)), dtype=x.type.dtype)
    count = add(own, scatter(full_like(0.0, x), index, theirs, axis=axis, mode="add"))
    each = div(ct, _nonzero(count))
    return mul(each, own), mul(gather(each, index, axis=axis), theirs)


def _shares_of_product(ct, node):
    """The product of all other factors: right where a factor is zero."""
    from .binary import cast, div, eq, mul, select

    x, index, updates = node.inputs
    axis = node.attrs["axis"]

    def is_zero(v):
        return cast(eq(v, full_like(0.0, v)), dtype=v.type.dtype)

    safe_x, safe_u = _nonzero(x), _nonzero(updates)
    product = scatter(safe_x, index, safe_u, axis=axis, mode="mul")
    zero_u = is_zero(updates)
    zeros = scatter(is_zero(x), index, zero_u, axis=axis, mode="add")

    def share(ct, product, zeros, own, factor):
        alone = eq(zeros, own)  # no other factor is zero
        return select(alone, mul(ct, div(product, factor)), full_like(0.0, ct))

    dx = share(ct, product, zeros, is_zero(x), safe_x)
    there = [gather(v, index, axis=axis) for v in (ct, product, zeros)]
    return dx, share(*there, zero_u, safe_u)


def _nonzero(x):
    """x with 1 in place of 0: a divisor."""
    from .binary import eq, select

    return select(eq(x, full_like(0.0, x)), full_like(1.0, x), x)


def _of_last_writer(ct, x, index, axis):
    """Where an index repeats, only the last write is seen: the others get no derivative."""
    from .binary import eq, select
    from .constant import full, iota
    from .movement import expand, reshape

    count = 1
    for d in index.type.shape:
        count = count * d
    order = iota((count,), 0, I64, index.type.device)
    none = full(-1, I64, (x.type.shape[axis],), index.type.device)
    flat = reshape(index, shape=(count,))
    last = scatter(none, flat, order, axis=0, mode="set")
    mine = reshape(eq(gather(last, flat, axis=0), order), shape=index.type.shape)
    shape, k = ct.type.shape, len(index.type.shape)
    around = tuple([i for i in range(len(shape)) if not axis <= i < axis + k])
    wide = expand(mine, shape=shape, axes=around) if around else mine
    return select(wide, ct, full_like(0.0, ct))


@op("dynamic_slice")
class dynamic_slice(Structural):
    """A slice of fixed `sizes` whose starts are computed: one integer scalar for each axis.

    Starts are clamped, so that the slice lies within x.
    """

    x: Any_
    starts: many(Any_)
    sizes: Dims

    def result(x, *starts, sizes):
        _check_starts(x, starts)
        _check_within(x, sizes, "dynamic_slice")
        return x.with_shape(sizes)

    def eval(x, *starts, sizes):
        at = [min(max(int(s), 0), n - m) for s, n, m in zip(starts, x.shape, sizes, strict=True)]
        return x[tuple(slice(a, a + m) for a, m in zip(at, sizes, strict=True))]

    def pull(cts, node):
        x, *starts = node.inputs
        return [dynamic_update(full_like(0.0, x), cts[0], *starts), *[None] * len(starts)]

    def push(tangents, node):
        return [dynamic_slice(tangents[0], *node.inputs[1:], sizes=node.attrs["sizes"])]

    def to_onnx(g, node, x, *starts):
        return g.dynamic_slice(node, x, *starts)

    samples = (Case("f32[5, 6]", "i64[]", "i64[]", index=3, sizes=(2, 3)),)


@op("dynamic_update")
class dynamic_update(Structural):
    """x with `update` put at computed starts, clamped so that it lies within x."""

    x: Any_
    update: Any_
    starts: many(Any_)

    def result(x, update, *starts):
        _check_starts(x, starts)
        if len(update.shape) != len(x.shape) or update.dtype is not x.dtype:
            raise ShapeError(f"dynamic_update: {update.text} does not fit into {x.text}")
        _check_within(x, update.shape, "dynamic_update")
        return x

    def eval(x, update, *starts):
        out = x.copy()
        at = [
            min(max(int(s), 0), n - m)
            for s, n, m in zip(starts, x.shape, update.shape, strict=True)
        ]
        out[tuple(slice(a, a + m) for a, m in zip(at, update.shape, strict=True))] = update
        return out

    def pull(cts, node):
        _, update, *starts = node.inputs
        zeros = full_like(0.0, update)
        return [
            dynamic_update(cts[0], zeros, *starts),
            dynamic_slice(cts[0], *starts, sizes=update.type.shape),
            *[None] * len(starts),
        ]

    def push(tangents, node):
        x, update, *starts = node.inputs
        dx, du = [
            full_like(0.0, v) if t is None else t
            for t, v in zip(tangents[:2], (x, update), strict=True)
        ]
        return [dynamic_update(dx, du, *starts)]

    def to_onnx(g, node, x, update, *starts):
        return g.dynamic_update(node, x, update, *starts)

    samples = (Case("f32[5, 6]", "f32[2, 3]", "i64[]", "i64[]", index=3),)


def _check_starts(x, starts) -> None:
    if len(starts) != len(x.shape) or any(s.shape != () for s in starts):
        raise ShapeError(f"one scalar start is needed for each axis of {x.text}")


def _check_within(x, sizes, name: str) -> None:
    if len(sizes) != len(x.shape):
        raise ShapeError(f"{name}: {len(sizes)} sizes are given for the axes of {x.text}")
    for n, m in zip(x.shape, sizes, strict=True):
        if isinstance(n, int) and isinstance(m, int) and m > n:
            raise ShapeError(f"{name}: a size of {m} is larger than {x.text}")


def _in_order(x: np.ndarray, axis: int, descending: bool) -> tuple[np.ndarray, np.ndarray]:
    keys = x.astype(F32.numpy) if x.dtype == BF16.numpy else x  # numpy has no place for its nan
    if descending:  # stable from behind: flip, sort, flip
        flipped = np.flip(keys, axis)
        places = np.flip(np.argsort(flipped, axis, kind="stable"), axis)
        places = x.shape[axis] - 1 - places
    else:
        places = np.argsort(keys, axis, kind="stable")
    return np.take_along_axis(x, places, axis), places


@op("sort", descending=False)
class sort(Structural):
    """The elements in order along `axis`, and their places. Stable; nan counts as the largest."""

    x: Real | Bool
    axis: IntAttr
    descending: Flag

    def result(x, axis, descending):
        if not 0 <= axis < len(x.shape):
            raise ShapeError(f"sort: {x.text} has no axis {axis}")
        return x, x.with_dtype(I64)

    def eval(x, axis, descending):
        return _in_order(x, axis, descending)

    dear = True

    def pull(cts, node):
        if cts[0] is None:
            return [None]
        return [_unsort(cts[0], node.outputs[1], node.attrs["axis"])]

    def push(tangents, node):
        return [take_along(tangents[0], node.outputs[1], node.attrs["axis"]), None]

    def to_onnx(g, node, x):
        size = g.dims([node.inputs[0].type.shape[node.attrs["axis"]]])
        largest = int(node.attrs["descending"])
        return g.op(
            "TopK", [x, size], outputs=2, axis=node.attrs["axis"], largest=largest, sorted=1
        )

    samples = (Case("f32[4, 5]", axis=1), Case("i64[6]", axis=0, descending=True))


@op("topk", largest=True)
class topk(Structural):
    """The first k elements of `sort` along `axis`, descending where `largest`; and their places."""

    x: Real | Bool
    axis: IntAttr
    k: DimAttr
    largest: Flag

    def result(x, axis, k, largest):
        if not 0 <= axis < len(x.shape):
            raise ShapeError(f"topk: {x.text} has no axis {axis}")
        n = x.shape[axis]
        if isinstance(k, int) and not (0 <= k and (not isinstance(n, int) or k <= n)):
            raise ShapeError(f"topk: k is {k}, not within 0 to {n}")
        kept = x.with_shape((*x.shape[:axis], k, *x.shape[axis + 1 :]))
        return kept, kept.with_dtype(I64)

    def eval(x, axis, k, largest):
        first = (slice(None),) * axis + (slice(0, k),)
        values, places = _in_order(x, axis, largest)
        return values[first], places[first]

    dear = True

    def pull(cts, node):
        if cts[0] is None:
            return [None]
        zeros = full_like(0.0, node.inputs[0])
        return [put_along(zeros, node.outputs[1], cts[0], node.attrs["axis"], "set")]

    def push(tangents, node):
        return [take_along(tangents[0], node.outputs[1], node.attrs["axis"]), None]

    def to_onnx(g, node, x):
        attrs = node.attrs
        size, largest = g.dims([attrs["k"]]), int(attrs["largest"])
        return g.op("TopK", [x, size], outputs=2, axis=attrs["axis"], largest=largest, sorted=1)

    samples = (
        Case("f32[4, 5]", axis=1, k=2),
        Case("i64[6, 2]", axis=0, k=3, largest=False),
    )


def flat_index(index, axis: int, shape: tuple):
    """Row-major positions in a tensor of `shape` of the elements that `index` names along `axis`.

    index has any shape of that rank; its other axes name themselves.
    """
    from .binary import add, cast, mul
    from .constant import dim_value, full_like, iota

    total = None
    stride: int | Dim = 1
    for i in reversed(range(len(shape))):
        if i == axis:
            line = index if index.type.dtype is I64 else cast(index, dtype=I64)
        else:
            line = iota(index.type.shape, i, I64, index.type.device)
        if isinstance(stride, Dim):
            line = mul(line, dim_value(stride, line.type.shape, line.type.device))
        elif stride != 1:
            line = mul(line, full_like(stride, line))
        total = line if total is None else add(line, total)
        stride = stride * shape[i]
    return total


def take_along(x, index, axis: int):
    """torch.gather: out[..., i, ...] = x[..., index[..., i, ...], ...] along `axis`."""
    from .movement import reshape

    size: int | Dim = 1
    for d in x.type.shape:
        size = size * d
    flat = reshape(x, shape=(size,))
    return gather(flat, flat_index(index, axis, x.type.shape), axis=0)


def put_along(x, index, updates, axis: int, mode: str):
    """torch.scatter and its kin: the inverse of `take_along`, combined by `mode`."""
    from .movement import reshape

    size: int | Dim = 1
    for d in x.type.shape:
        size = size * d
    flat = reshape(x, shape=(size,))
    count: int | Dim = 1
    for d in index.type.shape:
        count = count * d
    places = reshape(flat_index(index, axis, x.type.shape), shape=(count,))
    out = scatter(flat, places, reshape(updates, shape=(count,)), axis=0, mode=mode)
    return reshape(out, shape=x.type.shape)


def _unsort(ct, places, axis):
    return put_along(full_like(0.0, ct), places, ct, axis, "set")


@op("searchsorted", right=False)
class searchsorted(Structural):
    """For each of `values`, its place of insertion into the sorted `boundaries`."""

    boundaries: Real
    values: Real
    right: Flag

    def result(boundaries, values, right):
        if len(boundaries.shape) != 1:
            raise ShapeError(f"searchsorted: boundaries are {boundaries.text}, not of one axis")
        if boundaries.dtype is not values.dtype:
            raise ShapeError(f"searchsorted: {boundaries.text} and {values.text} differ in dtype")
        return values.with_dtype(I64)

    def eval(boundaries, values, right):
        return np.searchsorted(boundaries, values, "right" if right else "left")

    no_derivative = "its result is integer"
    no_onnx = "the standard domain has no binary search"
    samples = (Case("f32[5]", "f32[3, 2]"),)


@op("compact")
class compact(Structural):
    """The positions, in row-major order, where the mask is True: i64[count, rank].

    The count depends on the data: it is the fresh symbol that the attribute `size` names.
    """

    mask: Bool
    size: Dims

    def result(mask, size):
        return mask.with_dtype(I64).with_shape((size[0], len(mask.shape)))

    def eval(mask, size):
        return np.argwhere(mask)

    no_derivative = "its result is integer"
    dear = True

    def to_onnx(g, node, mask):
        return g.op("Transpose", [g.op("NonZero", [mask])], perm=[1, 0])

    samples = ()
