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
from .emitter import Vec, VectorEmitter, memory_element

__all__ = ["Vec", "VectorEmitter", "memory_element"]
