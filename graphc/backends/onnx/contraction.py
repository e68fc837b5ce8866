"""Products and convolutions in ONNX: `dot`, and the two gradients of `conv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.ir.dims import product
from graphc.ir.graph import Node
from graphc.ir.ops.contract import free_axes

if TYPE_CHECKING:
    from .emitter import Emitter


def dot(g: Emitter, node: Node, a: str, b: str) -> str:
    """MatMul, after the transposes and reshapes that it needs: often none.

    MatMul's operands are [batch, rows, k] and [batch, k, columns]; without batch axes the left
    one may have any number of row axes, and each may lack its own axis.
    """
    shapes = [value.type.shape for value in node.inputs]
    contract, batch = node.attrs["contract"], node.attrs["batch"]
    left, right = free_axes(contract, batch, [len(s) for s in shapes])
    nb, nk = len(batch[0]), len(contract[0])
    a = g.permute(a, (*batch[0], *left, *contract[0]))
    b = g.permute(b, (*batch[1], *contract[1], *right))
    one_left = len(left) == 1 or (nb == 0)
    one_right = len(right) == 1 or (nb == 0 and not right)
    if nk == 1 and one_left and one_right:
        return g.op("MatMul", [a, b])
    batches = [shapes[0][i] for i in batch[0]]
    inner = product([shapes[0][i] for i in contract[0]])
    rows = [shapes[0][i] for i in left]
    columns = [shapes[1][i] for i in right]
    if nk != 1 or not one_left:
        wide = rows if nb == 0 else [product(rows)]
        a = g.reshape(a, (*batches, *wide, inner))
    if nk != 1 or not one_right:
        wide = [] if nb == 0 and not right else [product(columns)]
        b = g.reshape(b, (*batches, inner, *wide))
    made = g.op("MatMul", [a, b])
    if one_left and one_right:
        return made
    return g.reshape(made, (*batches, *rows, *columns))


def conv_transpose(g: Emitter, node: Node, ct: str, w: str, bias: str | None = None) -> str:
    """ConvTranspose; `output_padding` is what the strides leave of the wanted size."""
    attrs = node.attrs
    kernel = node.inputs[1].type.shape[2:]
    rest = []
    for size, n, k, stride, pad, dilation in zip(
        attrs["size"],
        node.inputs[0].type.shape[2:],
        kernel,
        attrs["stride"],
        attrs["padding"],
        attrs["dilation"],
        strict=True,
    ):
        left = size - ((n - 1) * stride + (k - 1) * dilation + 1 - pad[0] - pad[1])
        if not isinstance(left, int) or left < 0:
            g.unsupported(node, f"the size {size} is not one that ConvTranspose can give")
        rest.append(left)
    return g.op(
        "ConvTranspose",
        [ct, w, *([bias] if bias else [])],
        kernel_shape=kernel,
        strides=attrs["stride"],
        pads=pads(attrs["padding"]),
        dilations=attrs["dilation"],
        group=attrs["groups"],
        output_padding=rest,
    )


def conv_grad_weight(g: Emitter, node: Node, ct: str, x: str) -> str:
    """Conv of x with the cotangent as its kernel: examples take the place of channels.

    x[n, groups * c, ...] becomes [c, groups * n, ...] and ct[n, o, ...] the weight [o, n, ...]; the
    result [c, o, ...] is cut to the kernel's size and transposed to [o, c, ...].
    """
    attrs = node.attrs
    groups, size = attrs["groups"], attrs["size"]
    n, channels, *space = node.inputs[1].type.shape
    spatial = tuple(range(2, 2 + len(space)))
    if groups == 1:
        x = g.permute(x, (1, 0, *spatial))
    else:
        x = g.reshape(x, (n, groups, channels // groups, *space))
        x = g.permute(x, (2, 1, 0, *[i + 1 for i in spatial]))
        x = g.reshape(x, (channels // groups, groups * n, *space))
    made = g.op(
        "Conv",
        [x, g.permute(ct, (1, 0, *spatial))],
        kernel_shape=node.inputs[0].type.shape[2:],
        strides=attrs["dilation"],
        pads=pads(attrs["padding"]),
        dilations=attrs["stride"],
        group=groups,
    )
    starts = g.ints([0] * len(size))
    made = g.op("Slice", [made, starts, g.dims(size), g.ints(spatial)])
    return g.permute(made, (1, 0, *spatial))


def pads(padding: tuple[tuple[int, int], ...]) -> list[int]:
    """ONNX's order: all sizes before, then all sizes after."""
    return [p[0] for p in padding] + [p[1] for p in padding]
