"""Distances between all pairs of points."""

from __future__ import annotations

import numpy as np

from ..frontends.function import function
from ..ir import ops
from ..ir.errors import ShapeError
from .promote import broadcast, floating
from .reduce import vector_norm_of


@function(floats=False)
def cdist(x1, x2, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"):
    """The p-norms between each of x1 [..., n, d] and each of x2 [..., m, d]: [..., n, m]."""
    a, b = x1.type.shape, x2.type.shape
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-1]:
        raise ShapeError(
            f"cdist takes points of the same number of coordinates, not {x1.type.text} and "
            f"{x2.type.text}"
        )
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    left = ops.reshape(x1, shape=(*a[:-1], 1, a[-1]))
    right = ops.reshape(x2, shape=(*b[:-2], 1, *b[-2:]))
    left, right = broadcast(left, right)
    delta = ops.sub(left, right)
    return vector_norm_of(delta, p, (len(delta.type.shape) - 1,))


@function(floats=False)
def pdist(input, p=2.0):
    """The p-norms between each two rows of the input [n, d]: i < j in row-major order."""
    if len(input.type.shape) != 2:
        raise ShapeError(f"pdist only supports 2D tensors, got: {len(input.type.shape)}D")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    x = floating(input)
    rows, columns = np.triu_indices(x.type.shape[0], 1)
    left, right = [
        ops.gather(x, ops.const(i.astype(np.int64), x.type.device), axis=0) for i in (rows, columns)
    ]
    return vector_norm_of(ops.sub(left, right), p, (1,))
