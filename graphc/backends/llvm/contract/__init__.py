"""Matrix products and convolutions as LLVM text with explicit vectors.

Independent of the graph: a problem and a target go in, a `Kernel` comes out.
"""

from graphc.backends.llvm.contract.conv import (
    PackedWeights,
    conv,
    conv_grad_input,
    conv_grad_weight,
    pack_weights,
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
    "conv_grad_weight",
    "gemm",
    "pack_weights",
    "schedule_gemm",
]
