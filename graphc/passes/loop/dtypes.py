"""In which element type reductions collect."""

from __future__ import annotations

from graphc.ir.dtype import BF16, F16, F32, DType


def accumulation_dtype(op: str, dtype: DType) -> DType:
    """Narrow floats are summed in f32 and rounded once at the end."""
    if dtype in (F16, BF16) and op in ("reduce_sum", "reduce_prod", "cumulative"):
        return F32
    return dtype
