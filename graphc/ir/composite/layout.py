"""Convolutions in the layout that kernels like best: channels last, weights packed ahead.

Nobody writes these: the pass `passes.layout` puts them in the place of `conv` and
`conv_grad_input`.
"""

import numpy as np

from .. import ops
from ..dims import product
from ..errors import ShapeError
from ..op import op
from ..schema import Case, Dims, Float, IntAttr, IntPairs, Ints
from .base import Composite


def first(k: int) -> tuple[int, ...]:
    """The order of axes that puts the channels first, in front of k spatial axes."""
    return (0, k + 1, *range(1, k + 1))


def last(k: int) -> tuple[int, ...]:
    """The order of axes that puts the channels last."""
    return (0, *range(2, k + 2), 1)


def packed(w, width: int, groups: int = 1):
    """w [o, c, *kernel] as [panel, *kernel, c, width]: panels of `width` of its o, those of each
    group by themselves."""
    outputs, channels, *kernel = w.type.shape
    k, each = len(kernel), outputs // groups
    panels = -(-each // width)
    missing = panels * width - each
    if missing:
        w = ops.reshape(w, shape=(groups, each, channels, *kernel))
        none = (0,) * (k + 1)
        w = ops.pad(w, low=(0, 0, *none), high=(0, missing, *none), value=0)
    w = ops.reshape(w, shape=(groups * panels, width, channels, *kernel))
    return ops.permute(w, perm=(0, *range(3, k + 3), 2, 1))


def unpacked(w, outputs: int, groups: int = 1):
    """The weight [outputs, c, *kernel] of `packed`."""
    panels, *kernel, channels, width = w.type.shape
    k = len(kernel)
    w = ops.permute(w, perm=(0, k + 2, k + 1, *range(1, k + 1)))
    panels = panels // groups if groups > 1 else panels
    w = ops.reshape(w, shape=(groups, panels * width, channels, *kernel))
    stop = (groups, outputs // groups, *w.type.shape[2:])
    w = ops.slice_(w, start=(0,) * (k + 3), stop=stop, step=(1,) * (k + 3))
    return ops.reshape(w, shape=(outputs, channels, *kernel))


def exchanged(w, groups: int):
    """w [o, c, *kernel] with the two axes of each group's channels exchanged."""
    outputs, channels, *kernel = w.type.shape
    if groups == 1:
        return ops.permute(w, perm=(1, 0, *range(2, len(kernel) + 2)))
    each = outputs // groups
    w = ops.reshape(w, shape=(groups, each, channels, *kernel))
    w = ops.permute(w, perm=(0, 2, 1, *range(3, len(kernel) + 3)))
    return ops.reshape(w, shape=(groups * channels, each, *kernel))


def _check_outputs(w, outputs: int, groups: int) -> None:
    most = w.type.shape[0] * w.type.shape[-1]
    if outputs < 0 or (isinstance(most, int) and outputs > most):
        raise ShapeError(f"the packed weight {w.type.text} has no {outputs} channels")
    panels = w.type.shape[0]
    if groups < 1 or outputs % groups or (groups > 1 and panels % groups):
        raise ShapeError(f"{outputs} channels in {panels} panels are not of {groups} groups")


def _channels_last(x, w, stride, padding, dilation, groups):
    """`conv` of x[n, *spatial, c], channels last, by w[o, c / groups, *kernel], as [n, *out, o]."""
    k = len(x.type.shape) - 2
    x = ops.permute(x, perm=first(k))
    made = ops.conv(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return ops.permute(made, perm=last(k))


@op("conv_last")
class conv_last(Composite):
    """`conv` of x[n, *spatial, c] by a packed w[panel, *kernel, c, width], as [n, *out, outputs].

    Each group has panels of its own, of whose panel * width channels the first ones count.
    """

    x: Float
    w: Float
    outputs: IntAttr
    stride: Ints
    padding: IntPairs
    dilation: Ints
    groups: IntAttr

    def expand(x, w, outputs, stride, padding, dilation, groups):
        k = len(x.type.shape) - 2
        if k < 1 or len(w.type.shape) != k + 3:
            raise ShapeError(f"conv_last of {x.type.text} with {w.type.text}: ranks do not fit")
        _check_outputs(w, outputs, groups)
        weight = unpacked(w, outputs, groups)
        return _channels_last(x, weight, stride, padding, dilation, groups)

    no_onnx = "goes out as its expansion"
    samples = (
        Case(
            "f32[2, 6, 5, 4]", "f32[2, 3, 2, 4, 16]", outputs=20,
            stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 2), groups=1,
        ),
        Case(
            "f64[1, 7, 3]", "f64[1, 3, 3, 8]", outputs=8,
            stride=(1,), padding=((1, 1),), dilation=(1,), groups=1,
        ),
        Case(
            "f32[1, 5, 4, 6]", "f32[4, 3, 2, 3, 16]", outputs=40,
            stride=(1, 1), padding=((1, 1), (0, 1)), dilation=(1, 1), groups=2,
        ),
    )  # fmt: skip


def packed_taps(w, width: int, order: tuple[int, ...], groups: int = 1):
    """w [o, c, *kernel] of a `conv_grad_input`, whose result has the channels c of each group, as
    [panel, tap, o / groups, width]: the taps in the order of their numbers `order`."""
    panels = packed(exchanged(w, groups), width, groups)
    count, *_, outputs, _ = panels.type.shape
    panels = ops.reshape(panels, shape=(count, len(order), outputs, width))
    return ops.gather(panels, ops.const(np.array(order, np.int64)), axis=1)


@op("conv_grad_input_last")
class conv_grad_input_last(Composite):
    """`conv_grad_input` of ct[n, *spatial, o] by the packed weight w[panel, tap, o / groups, width]
    of a kernel, as [n, *size, outputs]: the taps of w have the numbers `order`."""

    ct: Float
    w: Float
    outputs: IntAttr
    kernel: Ints
    order: Ints
    size: Dims
    stride: Ints
    padding: IntPairs
    dilation: Ints
    groups: IntAttr

    def expand(ct, w, outputs, kernel, order, size, stride, padding, dilation, groups):
        k = len(ct.type.shape) - 2
        if k < 1 or len(w.type.shape) != 4 or len(kernel) != k:
            raise ShapeError(f"conv_grad_input_last of {ct.type.text} with {w.type.text}")
        if sorted(order) != list(range(product(kernel))):
            raise ShapeError(f"{order} is no order of the taps of a kernel {kernel}")
        _check_outputs(w, outputs, groups)
        panels, _, channels, width = w.type.shape
        back = ops.const(np.argsort(np.array(order, np.int64)))
        w = ops.reshape(ops.gather(w, back, axis=1), shape=(panels, *kernel, channels, width))
        made = ops.conv_grad_input(
            ops.permute(ct, perm=first(k)), exchanged(unpacked(w, outputs, groups), groups),
            size=size, stride=stride, padding=padding, dilation=dilation, groups=groups,
        )  # fmt: skip
        return ops.permute(made, perm=last(k))

    no_onnx = "goes out as its expansion"
    samples = (
        Case(
            "f32[2, 3, 4, 5]", "f32[1, 6, 5, 16]", outputs=12, kernel=(3, 2),
            order=(4, 0, 5, 1, 2, 3), size=(6, 5), stride=(2, 1), padding=((1, 1), (0, 1)),
            dilation=(1, 2), groups=1,
        ),
        Case(
            "f64[1, 4, 6]", "f64[4, 3, 3, 8]", outputs=20, kernel=(3,), order=(2, 0, 1), size=(8,),
            stride=(2,), padding=((1, 1),), dilation=(1,), groups=2,
        ),
    )  # fmt: skip


def packed_groups(w, width: int):
    """w [o, c, *kernel] as [panel, c, *kernel, width]: panels of `width` of its o, which must
    divide them."""
    outputs, *rest = w.type.shape
    w = ops.reshape(w, shape=(outputs // width, width, *rest))
    return ops.permute(w, perm=(0, *range(2, len(rest) + 2), 1))


@op("conv_groups_last")
class conv_groups_last(Composite):
    """`conv` with groups of few channels: x[n, *spatial, c] by w[panel, c / groups, *kernel,
    width], as [n, *out, panel * width]. A panel has the results of whole groups."""

    x: Float
    w: Float
    stride: Ints
    padding: IntPairs
    dilation: Ints
    groups: IntAttr

    def expand(x, w, stride, padding, dilation, groups):
        k = len(x.type.shape) - 2
        if k < 1 or len(w.type.shape) != k + 3:
            raise ShapeError(f"conv_groups_last of {x.type.text} with {w.type.text}")
        panels, channels, *kernel, width = w.type.shape
        w = ops.permute(w, perm=(0, k + 2, *range(1, k + 2)))
        weight = ops.reshape(w, shape=(panels * width, channels, *kernel))
        return _channels_last(x, weight, stride, padding, dilation, groups)

    no_onnx = "goes out as its expansion"
    samples = (
        Case(
            "f32[2, 6, 5, 20]", "f32[2, 2, 3, 2, 10]",
            stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 2), groups=10,
        ),
        Case(
            "f64[1, 7, 4]", "f64[1, 1, 3, 8]", stride=(1,), padding=((1, 1),), dilation=(1,),
            groups=4,
        ),
    )  # fmt: skip


@op("conv_depthwise_last")
class conv_depthwise_last(Composite):
    """A convolution of each channel by itself: x[n, *spatial, c] by w[*kernel, c], as
    [n, *out, c]."""

    x: Float
    w: Float
    stride: Ints
    padding: IntPairs
    dilation: Ints

    def expand(x, w, stride, padding, dilation):
        k = len(x.type.shape) - 2
        if k < 1 or len(w.type.shape) != k + 1 or w.type.shape[-1] != x.type.shape[-1]:
            raise ShapeError(f"conv_depthwise_last of {x.type.text} with {w.type.text}")
        channels = w.type.shape[-1]
        if not isinstance(channels, int):
            raise ShapeError(f"conv_depthwise_last of {x.type.text}: channels are a number")
        shape = (channels, min(channels, 1), *w.type.shape[:-1])
        weight = ops.reshape(ops.permute(w, perm=(k, *range(k))), shape=shape)
        return _channels_last(x, weight, stride, padding, dilation, max(channels, 1))

    no_onnx = "goes out as its expansion"
    samples = (
        Case(
            "f32[2, 6, 5, 20]", "f32[3, 2, 20]",
            stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 2),
        ),
        Case("f64[1, 7, 9]", "f64[3, 9]", stride=(1,), padding=((1, 1),), dilation=(1,)),
    )  # fmt: skip


@op("turned")
class turned(Composite):
    """x[batch, m, n] as [batch, n, m] in memory: whoever reads the result reads it in its order.

    A permute is how its reader reads, which costs a reduction along what lies far apart more than
    the copy does.
    """

    x: Float

    def expand(x):
        if len(x.type.shape) != 3:
            raise ShapeError(f"turned takes a batch of matrices, not {x.type.text}")
        return ops.permute(x, perm=(0, 2, 1))

    no_onnx = "goes out as its expansion"
    samples = (Case("f32[2, 19, 37]"), Case("f64[1, 5, 3]"))


def paired(w, width: int):
    """w [n, k] as [panel, k / 2, width, 2]: panels of `width` of its n, neighbours along k side by
    side. Both sizes must divide."""
    n, k = w.type.shape
    w = ops.reshape(w, shape=(n // width, width, k // 2, 2))
    return ops.permute(w, perm=(0, 2, 1, 3))


@op("dot_pairs")
class dot_pairs(Composite):
    """x[rows, k] times a matrix in panels of pairs, w[panel, k / 2, width, 2], as
    [rows, panel * width]: how processors that multiply pairs of bf16 want a matrix."""

    x: Float
    w: Float

    def expand(x, w):
        if len(x.type.shape) != 2 or len(w.type.shape) != 4:
            raise ShapeError(f"dot_pairs of {x.type.text} with {w.type.text}: ranks do not fit")
        panels, pairs, width, two = w.type.shape
        flat = ops.reshape(ops.permute(w, perm=(0, 2, 1, 3)), shape=(panels * width, pairs * two))
        return ops.dot(x, flat, contract=((1,), (1,)))

    no_onnx = "goes out as its expansion"
    samples = (
        Case("f32[20, 64]", "f32[3, 32, 16, 2]"),
        Case("f32[5, 6]", "f32[2, 3, 4, 2]"),
    )
