"""Convolutions and their gradients: which kernel serves a problem.

Pointwise convolutions are products of matrices in the layout that they have; results of few
channels, in all or in a group (depthwise ones above all), run lanes along positions; all others are
direct, with weights packed either by the kernel, for each call, or ahead by a kernel of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from graphc.backends.llvm.contract.alternatives import (
    conv_schedules,
    gemm_schedules,
    weight_grad_schedules,
)
from graphc.backends.llvm.contract.conv_direct import DirectKernel
from graphc.backends.llvm.contract.conv_grad_weight import WeightGradKernel
from graphc.backends.llvm.contract.conv_last import LastKernel
from graphc.backends.llvm.contract.conv_problem import (
    ConvProblem,
    Correlation,
    forward,
    grad_input,
)
from graphc.backends.llvm.contract.conv_schedule import (
    ConvSchedule,
    WeightGradSchedule,
    schedule_conv,
    schedule_weight_grad,
)
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.epilogue import Epilogue
from graphc.backends.llvm.contract.gemm import gemm
from graphc.backends.llvm.contract.gemm_schedule import GemmProblem, GemmSchedule
from graphc.backends.llvm.contract.kernel import Kernel
from graphc.backends.llvm.contract.planes_direct import PlanesKernel
from graphc.backends.llvm.contract.planes_grad_weight import PlanesWeightGradKernel
from graphc.backends.llvm.target import Target

# Positions of a pointwise convolution may be padded by this much to whole vectors.
MOST_IDLE = 1.15

#: How a convolution is cut up; a pointwise one is a matrix product.
Schedule = ConvSchedule | GemmSchedule


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """
    kernel     operands w, packed; its units are panels
    bytes      size of `packed`, which needs an alignment of 64
    used_once  whether a kernel that packs for itself does no more, on several threads either
    """

    kernel: Kernel
    bytes: int
    used_once: bool


def conv(
    problem: ConvProblem,
    target: Target,
    *,
    packed_weights: bool = False,
    schedule: Schedule | None = None,
    epilogue: Epilogue | None = None,
) -> Kernel:
    """out = the convolution of x by w; operands x, w, out and the epilogue's.

    An epilogue sees (image, channel, position) as (batch, row, column). With `packed_weights`
    w is what the kernel of `pack_weights` wrote: better where threads share the work, since
    otherwise each call packs all weights. Raises ValueError where that has no kernel.
    schedule: one of `schedules_of`; weights are packed for it.
    """
    if epilogue is None:
        return _plain(problem, target, False, packed_weights, schedule)
    return _emit(problem, target, False, packed_weights, schedule, epilogue)


def conv_grad_input(
    problem: ConvProblem,
    target: Target,
    *,
    packed_weights: bool = False,
    schedule: Schedule | None = None,
    epilogue: Epilogue | None = None,
) -> Kernel:
    """The gradient of x from that of the result; operands grad, w, grad_x.

    Also the forward pass of a transposed convolution. Options are those of `conv`.
    """
    if epilogue is None:
        return _plain(problem, target, True, packed_weights, schedule)
    return _emit(problem, target, True, packed_weights, schedule, epilogue)


def packing_for(
    problem: ConvProblem, target: Target, *, transposed: bool = False
) -> tuple[int, tuple[int, ...]]:
    """The weights that `conv_last` (or, transposed, `conv_grad_input_last`) takes: the channels of
    a panel, and the numbers of the kernel's taps in the order in which a panel holds them."""
    problem = problem.over_positions()
    correlation = grad_input(problem) if transposed else forward(problem)
    sums = element(problem.dtype).accumulator
    lanes = target.lanes(sums.bits)
    width = schedule_conv(correlation, target, lanes, sums.bytes).vectors * lanes
    places = correlation.tap_positions
    return width, tuple(sorted(range(len(places)), key=places.__getitem__))


def schedules_of(
    problem: ConvProblem, target: Target, *, transposed: bool = False
) -> Sequence[Schedule]:
    """The schedules of `conv` (or, transposed, `conv_grad_input`) that autotuning tries, the
    default one first; none where lanes run along positions."""
    form = _form(problem, target, transposed)
    if form == "pointwise":
        return gemm_schedules(_as_product(problem, transposed), target)
    if form == "planes":
        return ()
    correlation = grad_input(problem) if transposed else forward(problem)
    sums = element(problem.dtype).accumulator
    return conv_schedules(correlation, target, target.lanes(sums.bits), sums.bytes)


def conv_last(
    problem: ConvProblem,
    width: int,
    target: Target,
    *,
    schedule: ConvSchedule | None = None,
    epilogue: Epilogue | None = None,
) -> Kernel:
    """The convolution with channels last; f32 or f64.

    Operands: x [batch, *size, channels], w [panel, tap, channel of a group, width] (see
    `packing_for`; each group has its panels), out like x, and the epilogue's, which sees (image,
    position, channel) as (batch, row, column).
    """
    problem = problem.over_positions()
    return _last(problem, forward(problem), width, target, schedule, epilogue)


def conv_grad_input_last(
    problem: ConvProblem,
    width: int,
    target: Target,
    *,
    schedule: ConvSchedule | None = None,
    epilogue: Epilogue | None = None,
) -> Kernel:
    """The gradient of x in the same layout; operands grad, w, grad_x."""
    problem = problem.over_positions()
    return _last(problem, grad_input(problem), width, target, schedule, epilogue)


def schedules_of_last(
    problem: ConvProblem, width: int, target: Target, *, transposed: bool = False
) -> Sequence[ConvSchedule]:
    """The same of `conv_last` and `conv_grad_input_last`, for weights in panels of `width`."""
    problem = problem.over_positions()
    correlation = grad_input(problem) if transposed else forward(problem)
    stored = element(problem.dtype)
    lanes = target.lanes(stored.bits)
    return conv_schedules(correlation, target, lanes, stored.bytes, width // lanes)


def _last(
    problem: ConvProblem,
    c: Correlation,
    width: int,
    target: Target,
    schedule: ConvSchedule | None,
    epilogue: Epilogue | None,
) -> Kernel:
    stored = element(problem.dtype)
    lanes = target.lanes(stored.bits)
    schedule = schedule or schedule_conv(c, target, lanes, stored.bytes, width // lanes)
    return LastKernel(c, stored, problem.batch, target, schedule, epilogue).kernel("conv_last")


@lru_cache(maxsize=256)
def conv_grad_weight(
    problem: ConvProblem, target: Target, *, schedule: WeightGradSchedule | None = None
) -> Kernel:
    """The gradient of w; operands x, grad (of the result), grad_w."""
    correlation = forward(problem)
    stored = element(problem.dtype)
    sums = stored.accumulator
    if schedule is None and _gradient_by_planes(problem, target):
        return PlanesWeightGradKernel(correlation, stored, problem.batch, target).kernel()
    if schedule is None:
        schedule = schedule_weight_grad(correlation, target, target.lanes(sums.bits), sums.bytes)
    return WeightGradKernel(correlation, stored, problem.batch, target, schedule).kernel()


def schedules_of_grad_weight(problem: ConvProblem, target: Target) -> Sequence[WeightGradSchedule]:
    """The same of `conv_grad_weight`; none where lanes run along positions."""
    if _gradient_by_planes(problem, target):
        return ()
    sums = element(problem.dtype).accumulator
    return weight_grad_schedules(forward(problem), target, target.lanes(sums.bits), sums.bytes)


def _gradient_by_planes(problem: ConvProblem, target: Target) -> bool:
    """Whether the gradient of the weight has lanes along positions: of groups of one channel, or
    whose results leave half of the lanes idle."""
    lanes = target.lanes(element(problem.dtype).accumulator.bits)
    few = 2 * problem.out_channels <= problem.groups * lanes
    return problem.is_depthwise or (problem.groups > 1 and few)


def pack_weights(
    problem: ConvProblem,
    target: Target,
    *,
    for_grad_input: bool = False,
    schedule: Schedule | None = None,
) -> PackedWeights | None:
    """The kernel that packs weights for `conv` or `conv_grad_input`.

    None where these use weights as they are.
    """
    if _form(problem, target, for_grad_input) != "direct":
        return None
    assert not isinstance(schedule, GemmSchedule)
    kernel = _direct(problem, target, for_grad_input, False, schedule, None)
    return PackedWeights(kernel.weight_kernel(), kernel.packed_bytes, kernel.packs_each)


@lru_cache(maxsize=256)
def _plain(
    problem: ConvProblem,
    target: Target,
    transposed: bool,
    packed_weights: bool,
    schedule: Schedule | None,
) -> Kernel:
    """Equal layers are written once."""
    return _emit(problem, target, transposed, packed_weights, schedule, None)


def _emit(
    problem: ConvProblem,
    target: Target,
    transposed: bool,
    packed_weights: bool,
    schedule: Schedule | None,
    epilogue: Epilogue | None,
) -> Kernel:
    form = _form(problem, target, transposed)
    if isinstance(schedule, ConvSchedule) or (form == "direct" and schedule is None):
        kernel = _direct(problem, target, transposed, packed_weights, schedule, epilogue)
        return kernel.kernel("conv_grad_input" if transposed else "conv")
    if packed_weights:
        raise ValueError(f"no packed weights for {problem}: it uses them as they are")
    if form == "pointwise":
        product = _as_product(problem, transposed)
        return gemm(product, target, schedule=schedule, epilogue=epilogue, b_first=True)
    if schedule is not None:
        raise ValueError(f"{schedule} is not for {problem}, which is no matrix product")
    correlation = grad_input(problem) if transposed else forward(problem)
    return PlanesKernel(
        correlation,
        element(problem.dtype),
        problem.batch,
        target,
        transposed=transposed,
        epilogue=epilogue,
    ).kernel("conv_grad_input" if transposed else "conv")


def _as_product(problem: ConvProblem, transposed: bool) -> GemmProblem:
    """A pointwise convolution with channels first: weights times [channels, positions]."""
    channels = (problem.out_channels, problem.in_channels)
    m, k = channels[::-1] if transposed else channels
    n = math.prod(problem.size)
    return GemmProblem(
        m, n, k, problem.batch, problem.dtype, transpose_a=transposed, a_batched=False
    )


def _form(problem: ConvProblem, target: Target, transposed: bool) -> str:
    """Which kernel serves: "pointwise", "planes" or "direct"."""
    lanes = target.lanes(element(problem.dtype).accumulator.bits)
    positions = math.prod(problem.size)
    filled = -(-positions // lanes) * lanes <= MOST_IDLE * positions
    if problem.is_pointwise and problem.groups == 1 and filled:
        return "pointwise"
    channels = problem.in_channels if transposed else problem.out_channels
    # Half of the lanes along channels would be idle; of groups, whose planes are small, some.
    least = max(2, lanes // 2) if problem.groups == 1 else lanes
    return "planes" if channels // problem.groups < least else "direct"


def _direct(
    problem: ConvProblem,
    target: Target,
    transposed: bool,
    packed_weights: bool,
    schedule: ConvSchedule | None,
    epilogue: Epilogue | None,
) -> DirectKernel:
    correlation = grad_input(problem) if transposed else forward(problem)
    stored = element(problem.dtype)
    sums = stored.accumulator
    if schedule is None:
        schedule = schedule_conv(correlation, target, target.lanes(sums.bits), sums.bytes)
    return DirectKernel(
        correlation,
        stored,
        problem.batch,
        target,
        schedule,
        transposed=transposed,
        packed_weights=packed_weights,
        epilogue=epilogue,
    )
