"""Ops that multiply and add: `dot`, `conv` and the two gradients of `conv`.

Each is linear in both operands, and their transposes are among themselves: closed under
differentiation to any order.
"""

import numpy as np

from ..errors import DTypeError, ShapeError
from ..op import Structural, op
from ..schema import Bool, Case, Dims, Float, IntAttr, IntPairs, Ints, Number
from .movement import inverse, permute


@op("dot", batch=((), ()))
class dot(Structural):
    """Products summed over the `contract` axes, for each index of the `batch` axes.

    The result's axes: batch, the other axes of a, the other axes of b.
    """

    a: Number | Bool
    b: Number | Bool
    contract: IntPairs
    batch: IntPairs

    def result(a, b, contract, batch):
        if a.dtype is not b.dtype:
            raise DTypeError(f"dot: dtypes differ: {a.text} and {b.text}")
        for pair in (contract, batch):
            if len(pair) != 2 or len(pair[0]) != len(pair[1]):
                raise ShapeError(f"dot of {a.text} and {b.text}: {pair} does not pair axes")
        for i, j in [*zip(*contract, strict=True), *zip(*batch, strict=True)]:
            if not (0 <= i < len(a.shape) and 0 <= j < len(b.shape)):
                raise ShapeError(f"dot of {a.text} and {b.text}: no axes {i} and {j}")
            if a.shape[i] != b.shape[j]:
                raise ShapeError(
                    f"cannot contract {a.text} with {b.text}: {a.shape[i]} and {b.shape[j]} differ"
                )
        left, right = free_axes(contract, batch, (len(a.shape), len(b.shape)))
        shape = [a.shape[i] for i in (*batch[0], *left)] + [b.shape[i] for i in right]
        return a.with_shape(shape)

    def eval(a, b, contract, batch):
        left, right = free_axes(contract, batch, (a.ndim, b.ndim))
        a = a.transpose((*batch[0], *left, *contract[0]))
        b = b.transpose((*batch[1], *contract[1], *right))
        shape = a.shape[: len(batch[0]) + len(left)] + b.shape[len(b.shape) - len(right) :]
        nb, k = a.shape[: len(batch[0])], int(np.prod(a.shape[a.ndim - len(contract[0]) :]))
        lead = int(np.prod(nb))
        rows = int(np.prod(a.shape[len(nb) : len(nb) + len(left)]))
        columns = int(np.prod(shape[len(nb) + len(left) :]))
        wide = np.float32 if a.dtype.itemsize == 2 and a.dtype.kind not in "iu" else a.dtype
        product = np.matmul(
            a.reshape(lead, rows, k).astype(wide), b.reshape(lead, k, columns).astype(wide)
        )
        return product.reshape(shape)

    linear = (0, 1)
    bilinear = True
    dear = True

    def transpose(ct, node, i):
        """dot of the cotangent with the other operand over that one's free axes, then reordered."""
        contract, batch = node.attrs["contract"], node.attrs["batch"]
        other = node.inputs[1 - i]
        frees = free_axes(contract, batch, [len(v.type.shape) for v in node.inputs])
        nb = len(batch[0])
        mine = nb if i == 1 else nb + len(frees[0])
        over = tuple(range(mine, mine + len(frees[1 - i])))
        pairs = (tuple(range(nb)), batch[1 - i])
        made = dot(ct, other, contract=(over, tuple(frees[1 - i])), batch=pairs)
        kept = sorted(contract[1 - i])
        order = (*batch[i], *frees[i], *[contract[i][contract[1 - i].index(k)] for k in kept])
        back = inverse(order)
        return made if back == tuple(range(len(back))) else permute(made, perm=back)

    def to_onnx(g, node, a, b):
        return g.dot(node, a, b)

    samples = (
        Case("f32[4, 5]", "f32[5, 3]", contract=((1,), (0,))),
        Case("f32[2, 4, 5]", "f32[2, 3, 5]", contract=((2,), (2,)), batch=((0,), (0,))),
        Case("f64[5]", "f64[5]", contract=((0,), (0,))),
    )


def free_axes(contract, batch, ranks) -> list[list[int]]:
    """The axes of each operand that are neither contracted nor batch axes."""
    return [
        [i for i in range(rank) if i not in contract[k] and i not in batch[k]]
        for k, rank in enumerate(ranks)
    ]


def conv_size(n, k, stride: int, padding: tuple[int, int], dilation: int):
    """The output size of a convolution along one axis."""
    if k == 0:
        raise ShapeError("the kernel of a convolution has no elements")
    span = (k - 1) * dilation + 1
    room = n + padding[0] + padding[1] - span
    if isinstance(room, int) and room < 0:
        raise ShapeError(
            f"the kernel spans {span}, but the padded input has only {room + span} elements"
        )
    return room + 1 if stride == 1 else room // stride + 1


@op("conv", groups=1)
class conv(Structural):
    """Cross-correlation: x[n, c, *spatial] with w[o, c / groups, *kernel].

    `padding` has a pair (before, after) for each spatial axis.
    """

    x: Float
    w: Float
    stride: Ints
    padding: IntPairs
    dilation: Ints
    groups: IntAttr

    def result(x, w, stride, padding, dilation, groups):
        k = len(x.shape) - 2
        if k < 1 or len(w.shape) != k + 2:
            raise ShapeError(f"conv of {x.text} with {w.text}: the ranks do not fit")
        if not len(stride) == len(padding) == len(dilation) == k:
            raise ShapeError(f"conv of {x.text}: needs {k} strides, paddings and dilations")
        if x.dtype is not w.dtype:
            raise DTypeError(f"conv: dtypes differ: {x.text} and {w.text}")
        channels, outputs = w.shape[1] * groups, w.shape[0]
        if x.shape[1] != channels or outputs % groups:
            raise ShapeError(
                f"conv of {x.text} with {w.text}: the input has {x.shape[1]} channels, "
                f"the weight takes {channels} in {groups} groups"
            )
        sizes = map(conv_size, x.shape[2:], w.shape[2:], stride, padding, dilation)
        return x.with_shape((x.shape[0], outputs, *sizes))

    def eval(x, w, stride, padding, dilation, groups):
        return _correlate(x, w, stride, padding, dilation, groups)

    linear = (0, 1)
    bilinear = True
    dear = True

    def transpose(ct, node, i):
        attrs, (x, w) = node.attrs, node.inputs
        if i == 0:
            return conv_grad_input(ct, w, size=x.type.shape[2:], **attrs)
        return conv_grad_weight(ct, x, size=w.type.shape[2:], **attrs)

    def to_onnx(g, node, x, w, *bias):
        a = node.attrs
        pads = [p[0] for p in a["padding"]] + [p[1] for p in a["padding"]]
        kernel = list(node.inputs[1].type.shape[2:])
        return g.op(
            "Conv", [x, w, *bias], strides=list(a["stride"]), pads=pads, kernel_shape=kernel,
            dilations=list(a["dilation"]), group=a["groups"],
        )  # fmt: skip

    samples = (
        Case(
            "f32[2, 4, 6, 5]", "f32[3, 4, 3, 2]",
            stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 2),
        ),
        Case(
            "f32[1, 4, 7]", "f32[6, 2, 3]",
            stride=(1,), padding=((1, 1),), dilation=(1,), groups=2,
        ),
    )  # fmt: skip


def _windows(x, kernel, stride, padding, dilation):
    """x[n, c, *spatial] padded, as [n, c, *out, *kernel]."""
    wide = np.pad(x, [(0, 0), (0, 0), *padding])
    spans = tuple([(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)])
    axes = tuple(range(2, x.ndim))
    views = np.lib.stride_tricks.sliding_window_view(wide, spans, axes)
    steps = tuple([slice(None, None, s) for s in (1, 1, *stride, *dilation)])
    return views[steps]


def _wide(x):
    """Half precisions sum in f32."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def _correlate(x, w, stride, padding, dilation, groups):
    x, w = _wide(x), _wide(w)
    k = x.ndim - 2
    views = _windows(x, w.shape[2:], stride, padding, dilation)
    n, c, *rest = views.shape
    views = views.reshape(n, groups, c // groups, *rest)
    weights = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    parts = [
        np.tensordot(
            views[:, g], weights[g], ([1, *range(2 + k, 2 + 2 * k)], [1, *range(2, 2 + k)])
        )
        for g in range(groups)
    ]
    return np.moveaxis(np.concatenate(parts, -1), -1, 1)


def _check_geometry(ct, sizes, kernel, stride, padding, dilation) -> None:
    """The cotangent has the spatial sizes of the convolution that it is of, where all are known."""
    if not len(stride) == len(padding) == len(dilation) == len(sizes):
        raise ShapeError(f"the gradient of a convolution needs {len(sizes)} strides and paddings")
    geometry = zip(sizes, kernel, stride, padding, dilation, ct.shape[2:], strict=True)
    for n, k, s, p, d, m in geometry:
        if all(isinstance(size, int) for size in (n, k, m)) and conv_size(n, k, s, p, d) != m:
            raise ShapeError(
                f"{ct.text} is no cotangent of a convolution of {n} elements by {k}: "
                f"it gives {conv_size(n, k, s, p, d)}"
            )


@op("conv_grad_input", groups=1)
class conv_grad_input(Structural):
    """The cotangent of conv's x[n, c, *size] from that of its result; a transposed convolution."""

    ct: Float
    w: Float
    size: Dims
    stride: Ints
    padding: IntPairs
    dilation: Ints
    groups: IntAttr

    def result(ct, w, size, stride, padding, dilation, groups):
        k = len(ct.shape) - 2
        if len(w.shape) != k + 2 or len(size) != k or ct.shape[1] != w.shape[0]:
            raise ShapeError(f"conv_grad_input of {ct.text} with {w.text}: the shapes do not fit")
        _check_geometry(ct, size, w.shape[2:], stride, padding, dilation)
        return ct.with_shape((ct.shape[0], w.shape[1] * groups, *size))

    def eval(ct, w, size, stride, padding, dilation, groups):
        ct, w = _wide(ct), _wide(w)
        n = ct.shape[0]
        wide = [m + p[0] + p[1] for m, p in zip(size, padding, strict=True)]
        out = np.zeros((n, w.shape[1] * groups, *wide), ct.dtype)
        per, per_in = w.shape[0] // groups, w.shape[1]
        for place in np.ndindex(*w.shape[2:]):
            at = tuple(
                slice(p * d, p * d + s * (m - 1) + 1, s)
                for p, d, s, m in zip(place, dilation, stride, ct.shape[2:], strict=True)
            )
            for g in range(groups):
                weights = w[(slice(g * per, (g + 1) * per), slice(None), *place)]
                part = np.tensordot(weights, ct[:, g * per : (g + 1) * per], ([0], [1]))
                into = (slice(None), slice(g * per_in, (g + 1) * per_in), *at)
                out[into] += np.moveaxis(part, 0, 1)
        inner = tuple([slice(p[0], p[0] + m) for p, m in zip(padding, size, strict=True)])
        return out[(slice(None), slice(None), *inner)]

    linear = (0, 1)
    bilinear = True
    dear = True

    def transpose(ct, node, i):
        attrs = {key: value for key, value in node.attrs.items() if key != "size"}
        g, w = node.inputs
        if i == 0:
            return conv(ct, w, **attrs)
        return conv_grad_weight(g, ct, size=w.type.shape[2:], **attrs)

    def to_onnx(g, node, ct, w, *bias):
        return g.conv_transpose(node, ct, w, *bias)

    samples = (
        Case(
            "f32[2, 3, 3, 4]", "f32[3, 4, 3, 2]", size=(6, 5),
            stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 2),
        ),
    )  # fmt: skip


@op("conv_grad_weight", groups=1)
class conv_grad_weight(Structural):
    """The cotangent of conv's w[o, c / groups, *size] from that of its result, and x."""

    ct: Float
    x: Float
    size: Dims
    stride: Ints
    padding: IntPairs
    dilation: Ints
    groups: IntAttr

    def result(ct, x, size, stride, padding, dilation, groups):
        k = len(ct.shape) - 2
        if len(x.shape) != k + 2 or len(size) != k or ct.shape[0] != x.shape[0]:
            raise ShapeError(f"conv_grad_weight of {ct.text} with {x.text}: the shapes do not fit")
        _check_geometry(ct, x.shape[2:], size, stride, padding, dilation)
        return ct.with_shape((ct.shape[1], x.shape[1] // groups, *size))

    def eval(ct, x, size, stride, padding, dilation, groups):
        ct, x = _wide(ct), _wide(x)
        k = ct.ndim - 2
        views = _windows(x, size, stride, padding, dilation)
        views = views[(slice(None), slice(None), *[slice(0, m) for m in ct.shape[2:]])]
        per_out, per_in = ct.shape[1] // groups, x.shape[1] // groups
        over = [0, *range(2, 2 + k)]
        parts = [
            np.tensordot(
                ct[:, g * per_out : (g + 1) * per_out],
                views[:, g * per_in : (g + 1) * per_in],
                (over, over),
            )
            for g in range(groups)
        ]
        return np.concatenate(parts, 0)

    linear = (0, 1)
    bilinear = True
    dear = True

    def transpose(ct, node, i):
        attrs = {key: value for key, value in node.attrs.items() if key != "size"}
        g, x = node.inputs
        if i == 0:
            return conv(x, ct, **attrs)
        return conv_grad_input(g, ct, size=x.type.shape[2:], **attrs)

    def to_onnx(g, node, ct, x):
        return g.conv_grad_weight(node, ct, x)

    samples = (
        Case(
            "f32[2, 3, 3, 4]", "f32[2, 4, 6, 5]", size=(3, 2),
            stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 2),
        ),
    )  # fmt: skip
