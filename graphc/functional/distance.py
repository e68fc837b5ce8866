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
    """The p-norms between each of x1 [..., n, d] and each of x2 [..., m, d]: [..., n, m].

    Euclidean distances are computed by a matrix product (|a - b|^2 = |a|^2 + |b|^2 - 2 a b, which
    cancels where points are close) as `compute_mode` says: by default from 26 points on.
    """
    if compute_mode not in _MODES:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
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
    direct = vector_norm_of(delta, p, (len(delta.type.shape) - 1,))
    if p != 2 or compute_mode == _MODES[2]:
        return direct
    if compute_mode == _MODES[0] and not any([_is_many(size) for size in (a[-2], b[-2])]):
        return direct
    return ops.graft(_by_product(x1, x2, direct), direct)  # (its derivative is right at zeros too)


_MODES = (
    "use_mm_for_euclid_dist_if_necessary",
    "use_mm_for_euclid_dist",
    "donot_use_mm_for_euclid_dist",
)


def _is_many(size) -> bool:
    return not isinstance(size, int) or size > 25


def _by_product(x1, x2, like):
    """The Euclidean distances by one product, of the shape of `like`."""
    shape = like.type.shape
    lead = shape[:-2]
    x1, x2 = [ops.broadcast_to(x, (*lead, *x.type.shape[-2:])) for x in (x1, x2)]
    rank, batch = len(lead) + 2, tuple(range(len(lead)))
    product = ops.dot(x1, x2, contract=((rank - 1,), (rank - 1,)), batch=(batch, batch))
    squares = [ops.reduce_sum(ops.mul(x, x), axes=(rank - 1,)) for x in (x1, x2)]
    rows = ops.expand(squares[0], shape=shape, axes=(rank - 1,))
    columns = ops.expand(squares[1], shape=shape, axes=(rank - 2,))
    total = ops.sub(ops.add(rows, columns), ops.mul(product, ops.full_like(2.0, product)))
    return ops.sqrt(ops.max_(total, ops.full_like(0.0, total)))


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
