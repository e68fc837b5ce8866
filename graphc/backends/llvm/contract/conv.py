"""Convolutions and their gradients: which kernel serves a problem."""

from graphc.backends.llvm.contract.conv_direct import DirectKernel
from graphc.backends.llvm.contract.conv_grad_weight import WeightGradKernel
from graphc.backends.llvm.contract.conv_problem import ConvProblem, forward, grad_input
from graphc.backends.llvm.contract.conv_schedule import (
    ConvSchedule,
    WeightGradSchedule,
    schedule_conv,
    schedule_weight_grad,
)
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.epilogue import Epilogue
from graphc.backends.llvm.contract.kernel import Kernel
from graphc.backends.llvm.contract.planes_direct import PlanesKernel
from graphc.backends.llvm.target import Target


def conv(
    problem: ConvProblem,
    target: Target,
    *,
    packed_weights: bool = False,
    schedule: ConvSchedule | None = None,
    epilogue: Epilogue | None = None,
) -> Kernel:
    """out = the convolution of x by w; operands x, w, out and the epilogue's.

    An epilogue sees (image, channel, position) as (batch, row, column).
    """
    return _direct(problem, target, False, packed_weights, schedule, epilogue)


def conv_grad_input(
    problem: ConvProblem,
    target: Target,
    *,
    packed_weights: bool = False,
    schedule: ConvSchedule | None = None,
    epilogue: Epilogue | None = None,
) -> Kernel:
    """The gradient of x from that of the result; operands grad, w, grad_x.

    Also the forward pass of a transposed convolution.
    """
    return _direct(problem, target, True, packed_weights, schedule, epilogue)


def _direct(
    problem: ConvProblem,
    target: Target,
    transposed: bool,
    packed_weights: bool,
    schedule: ConvSchedule | None,
    epilogue: Epilogue | None,
) -> Kernel:
    correlation = grad_input(problem) if transposed else forward(problem)
    stored = element(problem.dtype)
    sums = stored.accumulator
    stem = "conv_grad_input" if transposed else "conv"
    few = correlation.target_channels * 4 <= target.lanes(sums.bits)
    if schedule is None and not packed_weights and (few or correlation.target_channels == 1):
        return PlanesKernel(
            correlation,
            stored,
            problem.batch,
            target,
            transposed=transposed,
            epilogue=epilogue,
        ).kernel(stem)
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
    ).kernel(stem)


def conv_grad_weight(
    problem: ConvProblem, target: Target, *, schedule: WeightGradSchedule | None = None
) -> Kernel:
    """The gradient of w; operands x, grad (of the result), grad_w."""
    correlation = forward(problem)
    stored = element(problem.dtype)
    sums = stored.accumulator
    if schedule is None:
        schedule = schedule_weight_grad(correlation, target, target.lanes(sums.bits), sums.bytes)
    return WeightGradKernel(correlation, stored, problem.batch, target, schedule).kernel()
