"""Convolutions with channels last: how they want their weights, and their native kernels."""

from __future__ import annotations

from collections.abc import Callable

from graphc.backends.llvm.contract import (
    ConvProblem,
    GemmProblem,
    Kernel,
    conv_grad_input_last,
    conv_last,
    packing_for,
)
from graphc.backends.llvm.contract.gemm_form import is_turned, may_serve
from graphc.backends.llvm.finish import finish
from graphc.backends.llvm.native import NativeCall, native_kernel
from graphc.backends.llvm.products import (
    conv_call,
    conv_problem,
    frame_of,
    static,
    written_by,
)
from graphc.backends.llvm.target import Target
from graphc.ir.dims import product
from graphc.ir.dtype import F32, F64
from graphc.ir.graph import Node
from graphc.passes.fuse.epilogue import Epilogue, Frame
from graphc.passes.fuse.plan import base_of
from graphc.passes.layout import Packing

#: Rows of a product whose right matrix is packed.
LEAST_ROWS = 4
_NONE = ((0, 0), (0, 0))  # of padding


def packing_of(node: Node, target: Target) -> Packing | None:
    """How a convolution with channels last wants its weight; None where its own layout is better:
    with groups, with few channels in the result, with sizes that are symbols."""
    x, w = [value.type.shape for value in node.inputs]
    out, dtype = node.outputs[0].type.shape, node.outputs[0].type.dtype
    known = all([isinstance(d, int) and d > 0 for d in (*x[1:], *w, *out[1:])])
    if not known or len(x) > 5 or node.attrs["groups"] != 1 or dtype not in (F32, F64):
        return None
    if out[1] < target.lanes(dtype.itemsize * 8) // 2:
        return None
    transposed = node.op.name == "conv_grad_input"
    problem = conv_problem(node, out if transposed else x, w)
    width, order = packing_for(problem, target, transposed=transposed)
    return Packing(width, order if transposed else None)


def product_width(node: Node, target: Target) -> int | None:
    """Channels of a panel for the right matrix of x[..., k] times w; None where the product is
    better with the matrix as it is: few rows or columns, whose form is another."""
    x, out = node.inputs[0].type, node.outputs[0].type
    sizes = (*x.shape, *out.shape)
    if out.dtype not in (F32, F64) or not all([isinstance(d, int) and d > 0 for d in sizes]):
        return None
    m, k, n = product(x.shape[:-1]), x.shape[-1], out.shape[-1]
    dtype = out.dtype.name
    if m < LEAST_ROWS or n < target.lanes(out.dtype.itemsize * 8):
        return None
    turned = node.attrs["contract"][1] == (1,)
    problem = GemmProblem(m, n, k, dtype=dtype, transpose_b=turned)
    if may_serve(problem, target) is not False or is_turned(problem, target):
        return None
    return packing_for(
        ConvProblem(1, k, n, (m, 1), (1, 1), (1, 1), _NONE, (1, 1), 1, dtype), target
    )[0]


def _frame(node: Node) -> Frame | None:
    batch, *size, channels = node.outputs[0].type.shape
    return frame_of(node, batch, product(size), channels)


def _fits(node: Node, target: Target) -> bool:
    """Whether the weight is packed as the kernel for this target wants it."""
    sizes = (*node.inputs[0].type.shape[1:], *node.inputs[1].type.shape)
    known = all([isinstance(d, int) and d > 0 for d in (*sizes, *node.outputs[0].type.shape[1:])])
    if not known or len(node.inputs[0].type.shape) > 5:
        return False
    if node.outputs[0].type.dtype not in (F32, F64):
        return False
    transposed = node.op.name == "conv_grad_input_last"
    width, order = packing_for(_problem(node), target, transposed=transposed)
    panels = -(-node.attrs["outputs"] // width)
    packed = node.inputs[1].type.shape
    if packed[0] != panels or packed[-1] != width:
        return False
    return not transposed or node.attrs["order"] == order


@native_kernel("conv_last", frame=_frame, fits=_fits)
def _conv_last(node: Node, target: Target, after: Epilogue | None = None) -> NativeCall:
    return _call(node, target, after, conv_last)


@native_kernel("conv_grad_input_last", frame=_frame, fits=_fits)
def _conv_grad_input_last(node: Node, target: Target, after: Epilogue | None = None) -> NativeCall:
    return _call(node, target, after, conv_grad_input_last)


def _call(
    node: Node, target: Target, after: Epilogue | None, make: Callable[..., Kernel]
) -> NativeCall:
    x, w = node.inputs
    problem, epilogue = _problem(node), after and finish(after, target)
    kernel = make(problem, w.type.shape[-1], target, epilogue=epilogue)
    buffers = (base_of(x), base_of(w), *written_by(node, after))
    return conv_call(node, kernel, problem, x.type.shape[0], buffers)


def _problem(node: Node) -> ConvProblem:
    """The convolution that the node is, or whose gradient it is."""
    x, w = [value.type.shape for value in node.inputs]
    attrs = node.attrs
    if node.op.name == "conv_last":
        size, kernel, inputs, outputs = x[1:-1], w[1:-2], x[-1], attrs["outputs"]
    else:
        size, kernel, inputs, outputs = attrs["size"], attrs["kernel"], attrs["outputs"], x[-1]
    return ConvProblem(
        static(x[0]),
        inputs,
        outputs,
        tuple(size),
        tuple(kernel),
        tuple(attrs["stride"]),
        tuple(attrs["padding"]),
        tuple(attrs["dilation"]),
        1,
        node.outputs[0].type.dtype.name,
    )
