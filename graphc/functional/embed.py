"""Rows of a table: `embedding`, in the order of torch's function and of nn.functional's."""

from __future__ import annotations

from typing import Any

from ..frontends import modes
from ..frontends.function import composed, function
from ..ir import ops
from ..ir.dims import product
from ..ir.dtype import I32, I64
from ..ir.errors import UnsupportedError
from ..ir.graph import Value
from ..tensor import Tensor
from .movement import reshaped
from .parts import tensor_name
from .promote import to_dtype
from .reduce import vector_norm_of

__all__ = ["embedding"]


def looked_up(weight: Value, indices: Value, padding_idx: int) -> Value:
    """The rows of weight at indices; the row padding_idx gets no gradient (-1: every row does)."""
    if indices.type.dtype not in (I64, I32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            f"Long, Int; but got torch.{tensor_name(indices.type.dtype)} instead (while checking "
            "arguments for embedding)"
        )
    if len(weight.type.shape) != 2:
        raise RuntimeError("'weight' must be 2-D")
    places = to_dtype(indices, I64)
    rows = ops.gather(weight, places, axis=0)
    if padding_idx < 0:
        return rows
    is_padding = ops.eq(places, ops.full_like(padding_idx, places))
    wide = ops.expand(is_padding, shape=rows.type.shape, axes=(len(rows.type.shape) - 1,))
    return ops.select(wide, ops.detach(rows), rows)


@function(register=False)
def _embedding(weight, indices, padding_idx):
    return looked_up(weight, indices, padding_idx)


def _of_weight(weight, indices, padding_idx=-1, scale_grad_by_freq=False, sparse=False):
    """The rows of weight at indices: torch.embedding."""
    _check_options(scale_grad_by_freq, sparse)
    return _embedding(weight, indices, padding_idx)


_of_weight.__name__ = _of_weight.__qualname__ = "embedding"
composed(_of_weight)


def _check_options(scale_grad_by_freq: bool, sparse: bool) -> None:
    if scale_grad_by_freq:
        raise UnsupportedError("embedding with scale_grad_by_freq=True")
    if sparse:
        raise UnsupportedError(
            "embedding with sparse=True", hint="Gradients are dense: leave sparse out."
        )


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of weight at input: torch.nn.functional.embedding.

    padding_idx: a row whose gradient is 0. max_norm: rows of a larger norm are scaled down in
    place before they are read.
    """
    _check_options(scale_grad_by_freq, sparse)
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    if max_norm is not None:
        _renormalize(weight, input, max_norm, norm_type)
    return _embedding(weight, input, -1 if padding_idx is None else padding_idx)


def _renormalize(weight: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> None:
    """Scales the rows that are looked up down to max_norm, in place."""
    before = modes.set_grad(False)
    try:
        scaled: Any = _renormed(weight, indices, float(max_norm), float(norm_type))
        weight._write(scaled)
    finally:
        modes.set_grad(before)


@function(register=False, floats=False)
def _renormed(weight, indices, max_norm, norm_type):
    count, width = weight.type.shape
    norms = vector_norm_of(weight, norm_type, (1,))
    size = ops.full_like(max_norm, norms)
    small = ops.full_like(1e-7, norms)
    scale = ops.div(size, ops.add(norms, small))
    down = ops.and_(_hit(indices, count), ops.lt(size, norms))
    scale = ops.select(down, scale, ops.full_like(1.0, scale))
    return ops.mul(weight, ops.expand(scale, shape=(count, width), axes=(1,)))


def _hit(indices: Value, count: Any) -> Value:
    """Which rows are looked up."""
    line = reshaped(to_dtype(indices, I64), (product(indices.type.shape),))
    zeros = ops.full(0, I64, (count,), line.type.device)
    counts = ops.scatter(zeros, line, ops.full_like(1, line), axis=0, mode="add")
    return ops.lt(ops.full_like(0, counts), counts)
