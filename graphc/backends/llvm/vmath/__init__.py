"""Vector mathematics: every pointwise primitive of the IR as LLVM IR on explicit vectors."""

from . import (
    arithmetic,
    division,
    error_function,
    exponential,
    gamma,
    integers,
    inverse_trigonometric,
    logarithm,
    power,
    rounding,
    trigonometric,
)
from .cost import COST
from .emitter import Vec, VectorEmitter, memory_element

__all__ = ["COST", "Vec", "VectorEmitter", "memory_element"]
