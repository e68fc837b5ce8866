"""Native kernels of matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from graphc.backends.llvm.begin import begin
from graphc.backends.llvm.contract import (
    ConvProblem,
    GemmProblem,
    Kernel,
    PackedWeights,
    conv,
    conv_grad_input,
    conv_grad_weight,
    gemm,
    pack_weights,
)
from graphc.backends.llvm.contract.alternatives import gemm_schedules
from graphc.backends.llvm.contract.conv import Schedule, schedules_of, schedules_of_grad_weight
from graphc.backends.llvm.contract.conv_schedule import WeightGradSchedule
from graphc.backends.llvm.contract.gemm_form import in_pairs, is_turned, may_serve
from graphc.backends.llvm.contract.gemm_reads import operand_counts
from graphc.backends.llvm.contract.gemm_schedule import GemmSchedule, best_panel, schedule_gemm
from graphc.backends.llvm.contract.pairs import pair_step
from graphc.backends.llvm.finish import buffers_of, finish
from graphc.backends.llvm.native import NativeCall, Schedules, native_kernel
from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim, product
from graphc.ir.dtype import BF16, F32, F64
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Node, Value
from graphc.passes.fuse.epilogue import Epilogue, Frame
from graphc.passes.fuse.plan import base_of
from graphc.passes.fuse.prologue import Prologue, Use
from graphc.passes.loop.ir import Partial
from graphc.passes.products import MOST_PANEL, PANEL_STEP, MatrixProduct, matrix_product

#: Multiply-adds a nanosecond, for estimates.
RATE = 20.0
#: Bytes of weights packed in a nanosecond.
PACK_RATE = 8.0

_SAME_BITS = {"u64": "i64", "u32": "i32", "u16": "i16"}


def static(size: AnyDim) -> int | None:
    return size if isinstance(size, int) else None


def _hint(size: AnyDim) -> int:
    return size if isinstance(size, int) else 256


@lru_cache(maxsize=1024)
def _gemm(
    problem: GemmProblem,
    target: Target,
    after: Epilogue | None,
    left: Prologue | None = None,
    right: Prologue | None = None,
    schedule: GemmSchedule | None = None,
) -> Kernel:
    a, b = left and begin(left, target, "a"), right and begin(right, target, "b")
    last = after and finish(after, target)
    return gemm(problem, target, schedule=schedule, epilogue=last, prologues=(a, b))


@lru_cache(maxsize=256)
def _convolution(
    name: str,
    problem: ConvProblem,
    target: Target,
    packed: bool,
    after: Epilogue | None,
    schedule: Schedule | None,
) -> Kernel:
    emit = conv_grad_input if name == "conv_grad_input" else conv
    last = None if after is None else finish(after, target)
    return emit(problem, target, packed_weights=packed, schedule=schedule, epilogue=last)


@lru_cache(maxsize=256)
def _packing(
    problem: ConvProblem, target: Target, back: bool, schedule: Schedule | None
) -> PackedWeights | None:
    """The kernel that packs weights ahead of a convolution; None where that does so itself.

    Each thread would pack all of them, unless a unit of its work is some channels of one image.
    """
    found = pack_weights(problem, target, for_grad_input=back, schedule=schedule)
    return None if found is None or found.used_once else found


def _product(node: Node) -> MatrixProduct:
    """The product as a kernel computes it.

    Of one column it is one row: the same memory, and an epilogue then has all of it in lanes.
    The kernel itself does so too, for rows whose number is a symbol.
    """
    found = matrix_product(node)
    assert found is not None, "prepare_products gives every product its views"
    m, n, left, right = found.m, found.n, found.left, found.right
    floats = node.outputs[0].type.dtype in (F32, F64)
    if not floats or n != 1 or not isinstance(m, int) or m == 1:
        return found
    row = replace(right, transposed=False)
    return replace(found, m=1, n=m, left=row, right=replace(left, transposed=not left.transposed))


def _dot_operands(node: Node) -> list[Value]:
    found = _product(node)
    return [found.left.base, found.right.base]


def frame_of(node: Node, batch: AnyDim, rows: AnyDim, columns: AnyDim) -> Frame | None:
    known = isinstance(columns, int) and columns > 0 and (isinstance(rows, int) or batch == 1)
    if not known or node.outputs[0].type.dtype not in (F32, F64):
        return None
    return Frame(batch, rows, columns)  # type: ignore[arg-type]


def _dot_frame(node: Node) -> Frame | None:
    found = _product(node)
    return frame_of(node, found.batch, found.m, found.n)


def _conv_frame(node: Node) -> Frame | None:
    batch, channels, *size = node.outputs[0].type.shape
    return frame_of(node, batch, channels, product(size))


def panel_columns(node: Node, target: Target) -> int:
    """In panels of how many columns the product would like its right operand, if it were packed
    once for many products; 0 where the kernel reads it in place, or sums across its lanes."""
    found = matrix_product(node)
    if found is None or found.batch != 1 or node.outputs[0].type.dtype not in (F32, F64):
        return 0
    m, n, k = found.m, found.n, found.k
    if not (isinstance(m, int) and isinstance(n, int) and isinstance(k, int)):
        return 0
    problem = _problem(node, found)
    if problem.panel or is_turned(problem, target) or may_serve(problem, target) is not False:
        return 0
    return best_panel(problem, target) if schedule_gemm(problem, target).pack_b else 0


def pair_width(node: Node, target: Target) -> int | None:
    """In panels of how many columns x[..., k] times w in bf16 would like w, packed once in pairs
    for many products; None where it is multiplied otherwise, or has no whole pairs or panels."""
    x, n = node.inputs[0].type.shape, node.outputs[0].type.shape[-1]
    m, k = product(x[:-1]), x[-1]
    if not all([isinstance(size, int) and size > 0 for size in (m, n, k)]):
        return None
    problem = GemmProblem(m, n, k, dtype="bf16", transpose_b=node.attrs["contract"][1] == (1,))
    if not in_pairs(problem, target) or k % pair_step(target) or may_serve(problem, target):
        return None
    width = best_panel(problem, target)
    # Panels of one vector are slower than to pack wider ones in each call, but for AMX.
    return width if width > target.lanes(32) or (width and target.has_amx) else None


def _pairs_problem(node: Node) -> GemmProblem:
    (m, k), (panels, _, width, _) = [value.type.shape for value in node.inputs]
    return GemmProblem(static(m), panels * width, k, dtype="bf16", panel=width)


def _pairs_fit(node: Node, target: Target) -> bool:
    """Whether the right matrix lies as the kernel for this target reads it."""
    k, shape = node.inputs[0].type.shape[1], node.inputs[1].type.shape
    if not all([isinstance(size, int) and size > 0 for size in (k, *shape)]):
        return False
    if node.outputs[0].type.dtype is not BF16 or not in_pairs(_pairs_problem(node), target):
        return False
    width = shape[2]
    return k % pair_step(target) == 0 and width % PANEL_STEP == 0 and width <= MOST_PANEL


@native_kernel("dot_pairs", fits=_pairs_fit)
def _dot_pairs(node: Node, target: Target) -> NativeCall:
    x, w = node.inputs
    problem = _pairs_problem(node)
    kernel = _gemm(problem, target, None)
    m, each = x.type.shape[0], problem.n * problem.k / RATE
    buffers = (base_of(x), base_of(w), node.outputs[0])
    given = [m for _ in kernel.sizes]
    return NativeCall(kernel, buffers, given, _hint(m) * each, points=m, point_ns=each)


def _problem(node: Node, found: MatrixProduct) -> GemmProblem:
    dtype = node.outputs[0].type.dtype.name
    return GemmProblem(
        static(found.m),
        static(found.n),
        static(found.k),
        static(found.batch),
        _SAME_BITS.get(dtype, dtype),
        transpose_a=found.left.transposed,
        transpose_b=found.right.transposed,
        a_batched=found.left.batched,
        b_batched=found.right.batched,
        panel=found.right.panel,
    )


def _dot_uses(node: Node, target: Target) -> list[Use]:
    """How the product reads its operands: what it would compute on the way, and how often."""
    found = _product(node)
    problem = _problem(node, found)
    m, n, k, batch = found.m, found.n, found.k, found.batch
    left, right = found.left, found.right
    stored = [
        (left, *((k, m) if left.transposed else (m, k))),
        (right, *((n, k) if problem.transpose_b else (k, n))),
    ]
    uses = [Use(view.base, None) for view in (left, right)]
    if left.base is right.base:
        return uses
    counts = operand_counts(problem, target)
    for side, (view, rows, columns) in enumerate(stored):
        frame = frame_of(node, batch if view.batched else 1, rows, columns)
        if frame is not None and counts[side] is not None:
            uses[side] = Use(view.base, frame, *counts[side])
    return uses


@native_kernel("dot", _dot_operands, _dot_frame, uses=_dot_uses)
def _dot(
    node: Node,
    target: Target,
    after: Epilogue | None = None,
    before: Mapping[Value, Prologue] = MappingProxyType({}),
    schedule: GemmSchedule | None = None,
) -> NativeCall:
    found = _product(node)
    problem = _problem(node, found)
    sizes = {"batch": found.batch, "m": found.m, "n": found.n, "k": found.k}
    left, right = [before.get(view.base) for view in (found.left, found.right)]
    kernel = _gemm(problem, target, after, left, right, schedule)
    work = _hint(found.m) * _hint(found.n) * _hint(found.k) * _hint(found.batch) / RATE
    a, b = [
        (view.base,) if made is None else made.reads
        for view, made in ((found.left, left), (found.right, right))
    ]
    buffers = (*a, *b, *written_by(node, after))
    points = found.batch * found.m * found.n * found.k
    given = [sizes[name] for name in kernel.sizes]
    choice = Schedules(
        lambda: gemm_schedules(problem, target),
        lambda other: _dot(node, target, after, before, other),
    )
    return NativeCall(
        kernel, buffers, given, work, points=points, point_ns=1 / RATE, schedules=choice
    )


def conv_problem(node: Node, x: tuple, w: tuple) -> ConvProblem:
    """The convolution of an input of shape x by a weight of shape w."""
    attrs = node.attrs
    if not all([isinstance(d, int) for d in (*x[1:], *w)]):
        raise UnsupportedError(
            f"{node.op.name} with a symbolic size other than the batch",
            at=node.loc,
            hint="Declare the channels and the spatial sizes as constants.",
        )
    if len(x) > 5:
        raise UnsupportedError(f"{node.op.name} over {len(x) - 2} dimensions", at=node.loc)
    return ConvProblem(
        static(x[0]),
        x[1],
        w[0],
        tuple(x[2:]),
        tuple(w[2:]),
        tuple(attrs["stride"]),
        tuple(attrs["padding"]),
        tuple(attrs["dilation"]),
        attrs["groups"],
        node.outputs[0].type.dtype.name,
    )


def conv_call(node: Node, kernel, problem: ConvProblem, batch: AnyDim, buffers) -> NativeCall:
    multiplies = problem.out_channels * problem.in_channels // problem.groups * problem.taps
    for size in problem.out_size:
        multiplies *= size
    one = multiplies / RATE
    given = [batch for _ in kernel.sizes]
    work = one * _hint(batch)
    return NativeCall(kernel, buffers, given, work, points=batch, point_ns=one)


def written_by(node: Node, after: Epilogue | None) -> list[Value]:
    """The kernel's operands from its output on."""
    if after is None:
        return [node.outputs[0]]
    return [node.outputs[0] if after.kept else after.outputs[0][0], *buffers_of(after)]


@native_kernel("conv", frame=_conv_frame)
def _conv(node: Node, target: Target, after: Epilogue | None = None) -> NativeCall:
    x, w = node.inputs
    problem = conv_problem(node, x.type.shape, w.type.shape)
    return _with_weights(node, problem, target, after)


@native_kernel("conv_grad_input", frame=_conv_frame)
def _conv_grad_input(node: Node, target: Target, after: Epilogue | None = None) -> NativeCall:
    problem = conv_problem(node, node.outputs[0].type.shape, node.inputs[1].type.shape)
    return _with_weights(node, problem, target, after)


def _with_weights(
    node: Node,
    problem: ConvProblem,
    target: Target,
    after: Epilogue | None,
    schedule: Schedule | None = None,
) -> NativeCall:
    """The call of a convolution or of its input's gradient, and the one that packs its weights."""
    x, w = [base_of(value) for value in node.inputs]
    back = node.op.name == "conv_grad_input"
    packing = _packing(problem, target, back, schedule)
    kernel = _convolution(node.op.name, problem, target, packing is not None, after, schedule)
    batch = node.inputs[0].type.shape[0]
    choice = Schedules(
        lambda: schedules_of(problem, target, transposed=back),
        lambda other: _with_weights(node, problem, target, after, other),
    )
    if packing is None:
        call = conv_call(node, kernel, problem, batch, (x, w, *written_by(node, after)))
        return replace(call, schedules=choice)
    panels = Partial("packed", F32, packing.bytes // F32.itemsize, 1)
    pack = NativeCall(packing.kernel, (w, panels), work=packing.bytes / PACK_RATE)
    call = conv_call(node, kernel, problem, batch, (x, panels, *written_by(node, after)))
    return replace(call, before=pack, schedules=choice)


@native_kernel("conv_grad_weight")
def _conv_grad_weight(
    node: Node, target: Target, schedule: WeightGradSchedule | None = None
) -> NativeCall:
    grad, x = node.inputs
    out = node.outputs[0]
    problem = conv_problem(node, x.type.shape, out.type.shape)
    buffers = (base_of(x), base_of(grad), out)
    kernel = conv_grad_weight(problem, target, schedule=schedule)
    choice = Schedules(
        lambda: schedules_of_grad_weight(problem, target),
        lambda other: _conv_grad_weight(node, target, other),
    )
    return replace(conv_call(node, kernel, problem, x.type.shape[0], buffers), schedules=choice)
