"""Steps of the convolutions that layouts and packed weights make; see `steps`.

Weights are packed as a kernel of one of the targets wants them, or in panels of another width,
which are expanded everywhere.
"""

import math

from graphc.backends.llvm.contract import ConvProblem, packing_for
from graphc.backends.llvm.contract.groups_last import groups_together
from graphc.backends.llvm.target import TARGETS
from graphc.ir import composite, ops
from graphc.ir.composite.layout import last

from .program import Item, Maker
from .steps import convolution, step


def packing(maker: Maker, x: Item, w: Item, attrs: dict, transposed: bool):
    """The width of panels and the order of taps, for a kernel or for none."""
    taps = math.prod(w.shape[2:])
    if maker.chance(0.2):
        order = list(range(taps))
        maker.random.shuffle(order)
        return maker.random.choice((4, 6, 8)), tuple(order)
    problem = ConvProblem(
        1, x.shape[1], w.shape[0], x.shape[2:], w.shape[2:], attrs["stride"], attrs["padding"],
        attrs["dilation"], attrs["groups"], x.dtype.name,
    )  # fmt: skip
    target = TARGETS[maker.random.choice(("x86-64", "avx2", "avx512"))]
    return packing_for(problem, target, transposed=transposed)


@step("conv_last")
def conv_last(maker: Maker) -> Item:
    x, w, attrs = convolution(maker)
    width, _ = packing(maker, x, w, attrs, False)
    outputs, channels, *kernel = w.shape
    groups = attrs["groups"]
    panels = groups * -(-outputs // groups // width)
    panels = maker.fresh(w.dtype, (panels, *kernel, channels, width), -2, 2)
    turned = maker.emit(ops.permute, x, perm=last(len(kernel)))
    return maker.emit(composite.conv_last, turned, panels, outputs=outputs, **attrs)


@step("conv_grad_input_last")
def conv_grad_input_last(maker: Maker) -> Item:
    x, w, attrs = convolution(maker)
    width, order = packing(maker, x, w, attrs, True)
    ct = maker.tamed(maker.emit(ops.conv, x, w, **attrs))
    outputs, kernel, groups = x.shape[1], w.shape[2:], attrs["groups"]
    shape = (groups * -(-outputs // groups // width), len(order), w.shape[0] // groups, width)
    panels = maker.fresh(w.dtype, shape, -2, 2)
    turned = maker.emit(ops.permute, ct, perm=last(len(kernel)))
    return maker.emit(
        composite.conv_grad_input_last, turned, panels, outputs=outputs, kernel=kernel,
        order=order, size=x.shape[2:], **attrs,
    )  # fmt: skip


@step("conv_groups_last")
def conv_groups_last(maker: Maker) -> Item:
    """Panels are those of one of the targets, or of no kernel."""
    x, w, attrs = convolution(maker)
    inner, outer = maker.random.choice(((1, 2), (2, 1), (4, 4), (3, 5), (2, 8)))
    attrs["groups"] = groups = maker.random.choice((2, 4, 6))
    shape = (1, groups * inner, *x.shape[2:])
    problem = ConvProblem(
        1, groups * inner, groups * outer, x.shape[2:], w.shape[2:], attrs["stride"],
        attrs["padding"], attrs["dilation"], groups, x.dtype.name,
    )  # fmt: skip
    target = TARGETS[maker.random.choice(("x86-64", "avx2", "avx512"))]
    together = groups_together(problem, target) or 1
    x = maker.fresh(x.dtype, shape, -2, 2)
    shape = (groups // together, inner, *w.shape[2:], together * outer)
    turned = maker.emit(ops.permute, x, perm=last(len(x.shape) - 2))
    return maker.emit(
        composite.conv_groups_last, turned, maker.fresh(x.dtype, shape, -2, 2), **attrs
    )


@step("conv_depthwise_last")
def conv_depthwise_last(maker: Maker) -> Item:
    x, w, attrs = convolution(maker)
    del attrs["groups"]
    channels = maker.random.choice((1, 3, 20))
    x = maker.fresh(x.dtype, (1, *x.shape[2:], channels), -2, 2)
    w = maker.fresh(x.dtype, (*w.shape[2:], channels), -2, 2)
    return maker.emit(composite.conv_depthwise_last, x, w, **attrs)


@step("winograd_weight")
def winograd_weight(maker: Maker) -> Item:
    dtype = maker.pick("f").dtype
    w = maker.fresh(dtype, (maker.random.choice((3, 8)), 2, 3, 3), -2, 2)
    width, back = maker.random.choice((4, 8, 16)), maker.random.choice((False, True))
    return maker.emit(composite.winograd_weight, w, width=width, back=back)


@step("conv_winograd")
def conv_winograd(maker: Maker) -> Item:
    dtype, random = maker.pick("f").dtype, maker.random
    channels, outputs = random.choice((3, 8, 16)), random.choice((3, 16))
    x = maker.fresh(dtype, (1, random.choice((4, 5)), 6, channels), -2, 2)
    w = maker.fresh(dtype, (outputs, channels, 3, 3), -2, 2)
    u = maker.emit(composite.winograd_weight, w, width=random.choice((8, 16, 32)), back=False)
    padding = tuple([(random.choice((0, 1)), 1) for _ in range(2)])
    return maker.emit(composite.conv_winograd, x, u, outputs=outputs, padding=padding)


@step("turned")
def turned(maker: Maker) -> Item:
    sizes = [maker.random.choice((1, 2, 7, 16, 19)) for _ in range(2)]
    x = maker.fresh(maker.pick("f").dtype, (maker.random.choice((1, 3)), *sizes), -2, 2)
    return maker.emit(composite.turned, x)


@step("dot_pairs")
def dot_pairs(maker: Maker) -> Item:
    random = maker.random
    pairs, panels, width = random.choice((1, 5, 16)), random.choice((1, 2)), random.choice((4, 16))
    x = maker.fresh(maker.pick("f").dtype, (random.choice((1, 5, 19)), 2 * pairs), -2, 2)
    w = maker.fresh(x.dtype, (panels, pairs, width, 2), -2, 2)
    return maker.emit(composite.dot_pairs, x, w)
