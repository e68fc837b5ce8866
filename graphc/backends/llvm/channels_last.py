"""Convolutions with channels last: how they want their weights, and their native kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphc.backends.llvm.contract import (
    ConvProblem,
    GemmProblem,
    Kernel,
    conv_grad_input_last,
    conv_last,
    packing_for,
)
from graphc.backends.llvm.contract.alternatives import winograd_schedules
from graphc.backends.llvm.contract.conv import schedules_of_last
from graphc.backends.llvm.contract.conv_schedule import ConvSchedule
from graphc.backends.llvm.contract.depthwise_last import depthwise_last
from graphc.backends.llvm.contract.gemm_form import is_turned, may_serve
from graphc.backends.llvm.contract.groups_last import groups_last, groups_together
from graphc.backends.llvm.contract.turn import turned
from graphc.backends.llvm.contract.winograd import (
    SOME_IMAGES,
    WinogradProblem,
    WinogradSchedule,
    conv_winograd,
    schedule_winograd,
)
from graphc.backends.llvm.contract.winograd_weight import winograd_weight
from graphc.backends.llvm.finish import finish
from graphc.backends.llvm.native import NativeCall, Schedules, native_kernel
from graphc.backends.llvm.products import (
    RATE,
    conv_call,
    conv_problem,
    frame_of,
    pair_width,
    static,
    written_by,
)
from graphc.backends.llvm.target import Target
from graphc.ir.dims import product
from graphc.ir.dtype import BF16, F32, F64
from graphc.ir.graph import Node
from graphc.passes.fuse.epilogue import Epilogue, Frame
from graphc.passes.fuse.plan import base_of
from graphc.passes.layout import Packing, elements, turned_around
from graphc.passes.winograd import back_padding

#: Rows of a product whose right matrix is packed.
LEAST_ROWS = 4
#: Part of the cycles of the plain convolution that Winograd's algorithm may take.
WINOGRAD_GAIN = 0.85
#: Cycles of turning an element around, and of transforming a kernel of 3 x 3.
TURN_CYCLES, WEIGHT_CYCLES = 1.0, 32.0
_NONE = ((0, 0), (0, 0))  # of padding


def packing_of(node: Node, target: Target, winograd: bool = False) -> Packing | None:
    """How a convolution with channels last wants its weight; None where its own layout is better:
    with few channels in the result or in its groups, with sizes that are symbols.

    winograd: whether it may be computed by that algorithm, where it pays.
    """
    x, w = [value.type.shape for value in node.inputs]
    out, dtype = node.outputs[0].type.shape, node.outputs[0].type.dtype
    known = all([isinstance(d, int) and d > 0 for d in (*x[1:], *w, *out[1:])])
    if not known or len(x) > 5 or dtype not in (F32, F64):
        return None
    groups = node.attrs["groups"]
    if out[1] < target.lanes(dtype.itemsize * 8) // 2:
        return None
    if node.op.name == "conv" and groups == x[1] == out[1] > 1:
        return Packing(1, depthwise=True)
    transposed = node.op.name == "conv_grad_input"
    problem = conv_problem(node, out if transposed else x, w)
    if groups > 1 and out[1] // groups < target.lanes(dtype.itemsize * 8):
        together = None if transposed else groups_together(problem, target)
        return together and Packing(together * out[1] // groups, groups=True)
    if winograd and (width := _winograd_width(node, target)) is not None:
        return Packing(width, winograd=True)
    width, order = packing_for(problem, target, transposed=transposed)
    return Packing(width, order if transposed else None)


def packing_in_each_call(node: Node, target: Target, winograd: bool = False) -> Packing | None:
    """The same for a weight that is packed in each call: where that moves less than the kernel that
    leaves all as it is would turn around, or by Winograd's algorithm, whose gain pays for it."""
    found = packing_of(node, target, winograd)
    if found is None or found.winograd or elements(node.inputs[1]) <= turned_around(node):
        return found
    return None


def _winograd_width(node: Node, target: Target) -> int | None:
    """Channels of a panel where Winograd's algorithm computes a convolution faster, by a weight
    that is transformed ahead."""
    problem = _winograd_of(node, target) if node.op.name == "conv" else None
    return None if problem is None else _gaining(problem, target, 0.0)


def winograd_alone(node: Node, target: Target) -> int | None:
    """The same where the weight is transformed, and the input and result turned, in each call;
    for gradients of inputs too."""
    if node.op.name not in ("conv", "conv_grad_input"):
        return None
    problem = _winograd_of(node, target)
    if problem is None:
        return None
    images, (height, width) = problem.batch or SOME_IMAGES, problem.size
    x = problem.channels * height * width
    result = problem.outputs * problem.out_size[0] * problem.out_size[1]
    more = images * (x + result) * TURN_CYCLES
    return _gaining(problem, target, more + problem.channels * problem.outputs * WEIGHT_CYCLES)


def _winograd_of(node: Node, target: Target) -> WinogradProblem | None:
    """The convolution that the node is, if the algorithm has a kernel for it."""
    x, w = [value.type for value in node.inputs]
    attrs, lanes = node.attrs, target.lanes(32)
    sizes = (*x.shape[1:], *w.shape, *node.outputs[0].type.shape[1:])
    if len(x.shape) != 4 or not all([isinstance(d, int) and d > 0 for d in sizes]):
        return None
    plain = attrs["groups"] == 1 and set(attrs["stride"]) | set(attrs["dilation"]) == {1}
    if not plain or w.shape[2:] != (3, 3) or w.dtype is not F32 or x.shape[1] % lanes:
        return None
    back, padding = node.op.name == "conv_grad_input", attrs["padding"]
    outputs = node.outputs[0].type.shape[1]
    if back:
        padding = back_padding(padding)
    if min([min(pair) for pair in padding]) < 0:  # which would crop
        return None
    return WinogradProblem(static(x.shape[0]), x.shape[1], outputs, x.shape[2:], padding)


def _gaining(problem: WinogradProblem, target: Target, more: float) -> int | None:
    """Channels of a panel where the algorithm and `more` cycles are faster than the plain way."""
    lanes = target.lanes(32)
    schedule = schedule_winograd(problem, target, lanes)
    images, (height, width) = problem.batch or SOME_IMAGES, problem.out_size
    multiplies = images * problem.channels * problem.outputs * 9 * height * width
    if schedule.cycles + more > WINOGRAD_GAIN * multiplies / lanes:
        return None
    return schedule.vectors * lanes


def product_width(node: Node, target: Target) -> int | None:
    """Channels of a panel for the right matrix of x[..., k] times w; None where the product is
    better with the matrix as it is: few rows or columns, whose form is another."""
    x, out = node.inputs[0].type, node.outputs[0].type
    sizes = (*x.shape, *out.shape)
    if out.dtype is BF16:
        return pair_width(node, target)
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
    groups = node.attrs["groups"]
    panels = groups * -(-node.attrs["outputs"] // groups // width)
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


def _turns(node: Node, target: Target) -> bool:
    (_, m, n), dtype = node.inputs[0].type.shape, node.outputs[0].type.dtype
    return isinstance(m, int) and isinstance(n, int) and m * n > 0 and dtype in (F32, F64)


@native_kernel("turned", fits=_turns)
def _turned(node: Node, target: Target) -> NativeCall:
    (x,), (out,) = node.inputs, node.outputs
    batch, m, n = x.type.shape
    kernel = turned(static(batch), m, n, out.type.dtype.name, target)
    given = [batch for _ in kernel.sizes]
    one = m * n * 0.25
    work = one * (batch if isinstance(batch, int) else SOME_IMAGES)
    return NativeCall(kernel, (base_of(x), out), given, work, points=batch, point_ns=one)


def _winograd_problem(node: Node) -> WinogradProblem:
    n, *size, channels = node.inputs[0].type.shape
    outputs, padding = node.attrs["outputs"], node.attrs["padding"]
    return WinogradProblem(static(n), channels, outputs, tuple(size), padding)


def _winograd_fits(node: Node, target: Target) -> bool:
    (_, *x), u = [value.type.shape for value in node.inputs]
    known = all([isinstance(d, int) and d > 0 for d in (*x, *u, *node.outputs[0].type.shape[1:])])
    lanes = target.lanes(32)
    if not known or node.outputs[0].type.dtype is not F32 or x[-1] % lanes:
        return False
    vectors = schedule_winograd(_winograd_problem(node), target, lanes).vectors
    return u[-1] == vectors * lanes and u[0] == -(-node.attrs["outputs"] // u[-1])


def _depthwise_fits(node: Node, target: Target) -> bool:
    (_, *x), w = [value.type.shape for value in node.inputs]
    known = all([isinstance(d, int) and d > 0 for d in (*x, *w, *node.outputs[0].type.shape[1:])])
    return known and len(x) <= 4 and node.outputs[0].type.dtype in (F32, F64)


@native_kernel("conv_depthwise_last", frame=_frame, fits=_depthwise_fits)
def _conv_depthwise_last(node: Node, target: Target, after: Epilogue | None = None) -> NativeCall:
    x, w = node.inputs
    batch, *size, channels = x.type.shape
    attrs = node.attrs
    problem = ConvProblem(
        static(batch),
        channels,
        channels,
        tuple(size),
        tuple(w.type.shape[:-1]),
        tuple(attrs["stride"]),
        tuple(attrs["padding"]),
        tuple(attrs["dilation"]),
        channels,
        node.outputs[0].type.dtype.name,
    )
    kernel = depthwise_last(problem, target, epilogue=after and finish(after, target))
    buffers = (base_of(x), base_of(w), *written_by(node, after))
    return conv_call(node, kernel, problem, batch, buffers)


def _groups_problem(node: Node) -> ConvProblem:
    x, w = [value.type.shape for value in node.inputs]
    attrs = node.attrs
    return ConvProblem(
        static(x[0]),
        x[-1],
        w[0] * w[-1],
        tuple(x[1:-1]),
        tuple(w[2:-1]),
        tuple(attrs["stride"]),
        tuple(attrs["padding"]),
        tuple(attrs["dilation"]),
        attrs["groups"],
        node.outputs[0].type.dtype.name,
    )


def _groups_fit(node: Node, target: Target) -> bool:
    """Whether the weight is packed as the kernel for this target wants it."""
    if not _depthwise_fits(node, target):
        return False
    problem, width = _groups_problem(node), node.inputs[1].type.shape[-1]
    together = groups_together(problem, target)
    return together is not None and together * problem.out_channels == width * problem.groups


@native_kernel("conv_groups_last", frame=_frame, fits=_groups_fit)
def _conv_groups_last(node: Node, target: Target, after: Epilogue | None = None) -> NativeCall:
    x, w = node.inputs
    problem = _groups_problem(node)
    kernel = groups_last(problem, target, epilogue=after and finish(after, target))
    buffers = (base_of(x), base_of(w), *written_by(node, after))
    return conv_call(node, kernel, problem, x.type.shape[0], buffers)


def _weight_fits(node: Node, target: Target) -> bool:
    w, width = node.inputs[0].type, node.attrs["width"]
    known = all([isinstance(d, int) and d > 0 for d in w.shape])
    return known and w.dtype is F32 and width % target.lanes(32) == 0


@native_kernel("winograd_weight", fits=_weight_fits)
def _winograd_weight(node: Node, target: Target) -> NativeCall:
    (w,), (u,) = node.inputs, node.outputs
    back = node.attrs["back"]
    outputs, channels = w.type.shape[1::-1] if back else w.type.shape[:2]
    kernel = winograd_weight(outputs, channels, node.attrs["width"], target, back=back)
    return NativeCall(kernel, (base_of(w), u), work=outputs * channels * 4.0)


@native_kernel("conv_winograd", frame=_frame, fits=_winograd_fits)
def _conv_winograd(
    node: Node,
    target: Target,
    after: Epilogue | None = None,
    schedule: WinogradSchedule | None = None,
) -> NativeCall:
    x, u = node.inputs
    problem, epilogue = _winograd_problem(node), after and finish(after, target)
    panel, lanes = u.type.shape[-1], target.lanes(32)
    kernel = conv_winograd(problem, panel, target, schedule=schedule, epilogue=epilogue)
    buffers = (base_of(x), base_of(u), *written_by(node, after))
    (height, width), batch = problem.out_size, x.type.shape[0]
    one = problem.channels * problem.outputs * height * width * 4 / RATE
    work = one * (batch if isinstance(batch, int) else SOME_IMAGES)
    given = [batch for _ in kernel.sizes]
    choice = Schedules(
        lambda: winograd_schedules(problem, target, lanes, panel // lanes),
        lambda other: _conv_winograd(node, target, after, other),
    )
    return NativeCall(kernel, buffers, given, work, points=batch, point_ns=one, schedules=choice)


def _call(
    node: Node,
    target: Target,
    after: Epilogue | None,
    make: Callable[..., Kernel],
    schedule: ConvSchedule | None = None,
) -> NativeCall:
    x, w = node.inputs
    problem, epilogue, width = _problem(node), after and finish(after, target), w.type.shape[-1]
    kernel = make(problem, width, target, schedule=schedule, epilogue=epilogue)
    buffers = (base_of(x), base_of(w), *written_by(node, after))
    transposed = node.op.name == "conv_grad_input_last"
    choice = Schedules(
        lambda: schedules_of_last(problem, width, target, transposed=transposed),
        lambda other: _call(node, target, after, make, other),
    )
    return replace(conv_call(node, kernel, problem, x.type.shape[0], buffers), schedules=choice)


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
        attrs["groups"],
        node.outputs[0].type.dtype.name,
    )
