"""Matrix products and convolutions as LLVM text with explicit vectors.

Independent of the graph: a problem and a target go in, a `Kernel` comes out.

    emitter, element, vector, halves      text, types, vectors, f16 and bf16
    kernel, epilogue, finish              what is handed over, and what is done at the store
    tile                                  the one microkernel
    gemm, gemm_*, dot_form, packing       matrix products; gemm_form decides their form
    prologue                              operands that are computed where they are packed
    conv, conv_*                          convolutions and gradients, channels in lanes
    planes, planes_*                      the same for few channels, positions in lanes
    attention, attention_*, lanewise      attention and its gradients, block by block

Sums are chains of multiply-adds in the order of k, whatever the schedule and the split of the
units, within blocks of fixed sizes; only the dot form, weight gradients of small groups and the
scores of few queries add across lanes, by a tree that sizes and target fix.
"""

from graphc.backends.llvm.contract.conv import (
    PackedWeights,
    conv,
    conv_grad_input,
    conv_grad_input_last,
    conv_grad_weight,
    conv_last,
    pack_weights,
    packing_for,
)
from graphc.backends.llvm.contract.conv_problem import ConvProblem
from graphc.backends.llvm.contract.conv_schedule import ConvSchedule
from graphc.backends.llvm.contract.epilogue import Epilogue, Position
from graphc.backends.llvm.contract.gemm import gemm
from graphc.backends.llvm.contract.gemm_schedule import GemmProblem, GemmSchedule, schedule_gemm
from graphc.backends.llvm.contract.kernel import Kernel

__all__ = [
    "ConvProblem",
    "ConvSchedule",
    "Epilogue",
    "GemmProblem",
    "GemmSchedule",
    "Kernel",
    "PackedWeights",
    "Position",
    "conv",
    "conv_grad_input",
    "conv_grad_input_last",
    "conv_grad_weight",
    "conv_last",
    "gemm",
    "pack_weights",
    "packing_for",
    "schedule_gemm",
]
