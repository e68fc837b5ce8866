"""Quantiles, covariances, integrals and derivatives of samples, running log-sums, renorm."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..frontends.function import composed, function
from ..ir import ops
from ..ir.build import trace
from ..ir.graph import Value
from ..tensor import Tensor, from_array
from .create import ones
from .join import cat
from .pointwise import where
from .promote import axis_of, floating
from .reduce import vector_norm_of

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@composed
def quantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """The q-th quantiles (a number or a vector, in [0, 1]) along `dim`, nan where a row has one."""
    return _quantile(input, q, dim, keepdim, interpolation, False)


@composed
def nanquantile(input, q, dim=None, keepdim=False, *, interpolation="linear"):
    """quantile of the elements that are numbers."""
    return _quantile(input, q, dim, keepdim, interpolation, True)


def _quantile(
    x: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip_nan: bool
) -> Tensor:
    name = "nanquantile" if skip_nan else "quantile"
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(
            f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, "
            f"but got {interpolation}"
        )
    if x.dtype.name not in ("f32", "f64"):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if not isinstance(q, Tensor):
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q}")
        q = from_array(np.asarray(q, x.dtype.numpy))
    if len(q.shape) > 1 or q.dtype is not x.dtype:
        raise RuntimeError(f"{name}() q must be a scalar or a vector of the input's dtype")
    rank = len(x.shape)
    axis = 0 if dim is None else axis_of(dim, rank)
    rows = x.reshape(-1) if dim is None else x.movedim(axis, -1)
    if rows.shape[-1] == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    made = _ranked(rows.sort(-1)[0], q.reshape(-1), interpolation, skip_nan).movedim(-1, 0)
    if keepdim:
        made = made.reshape((q.numel(),) + (1,) * rank) if dim is None else made.unsqueeze(axis + 1)
    return made if len(q.shape) else made.squeeze(0)


def _ranked(rows: Tensor, q: Tensor, interpolation: str, skip_nan: bool) -> Tensor:
    """The elements of sorted rows [..., n] at the ranks q (n - 1): [..., number of q]."""
    n = rows.shape[-1]
    is_nan = rows.isnan()
    if skip_nan:
        last = ((~is_nan).sum(-1, keepdim=True) - 1).clamp(min=0)
        rank = q * last.to(rows.dtype)
    else:
        spoiled = is_nan.any(-1, keepdim=True)
        rank = where(spoiled, float(n - 1), q * (n - 1))
    if interpolation in ("lower", "higher", "nearest"):
        step = {"lower": Tensor.floor, "higher": Tensor.ceil, "nearest": Tensor.round}
        return rows.gather(-1, step[interpolation](rank).long())
    below = rank.floor()
    low = rows.gather(-1, below.long())
    high = rows.gather(-1, rank.ceil().long())
    weight = below * 0 + 0.5 if interpolation == "midpoint" else rank - below
    return low.lerp(high, weight)


@composed
def cov(input, *, correction=1, fweights=None, aweights=None):
    """The covariances of the rows (variables) over the columns (observations)."""
    if len(input.shape) > 2:
        raise RuntimeError(
            f"cov(): expected input to have two or fewer dimensions but got an input with "
            f"{len(input.shape)} dimensions"
        )
    x = input.reshape(1, -1) if len(input.shape) < 2 else input
    x = x if x.is_floating_point() else x.float()
    weights = fweights
    if aweights is not None:
        weights = aweights if weights is None else weights * aweights
    total: Any = x.shape[1] if weights is None else weights.sum()
    mean = (x if weights is None else x * weights).sum(1, keepdim=True) / total
    scale = total - correction
    if aweights is not None and correction:
        scale = total - correction * (weights * aweights).sum() / total
    if weights is None and scale <= 0:
        warnings.warn("cov(): degrees of freedom is <= 0", stacklevel=3)
        scale = 0
    centred = x - mean
    left = centred if weights is None else centred * weights
    return (left @ centred.t() / scale).squeeze()


@composed
def corrcoef(input):
    """The correlation coefficients of the rows."""
    if len(input.shape) > 2:
        raise RuntimeError("corrcoef(): expected input to have two or fewer dimensions")
    c = cov(input)
    if not len(c.shape):
        return c / c
    deviation = c.diagonal().sqrt()
    return (c / deviation.unsqueeze(1) / deviation.unsqueeze(0)).clamp(-1, 1)


# --- integrals and derivatives -------------------------------------------------------------------


def _strips(y: Tensor, x: Any, dx: Any, dim: int) -> Tensor:
    """The areas of the trapezoids between neighbours along dim."""
    n = y.shape[dim]
    pairs = y.narrow(dim, 1, n - 1) + y.narrow(dim, 0, n - 1)
    if x is None:
        return pairs * (1 if dx is None else dx) / 2
    if dx is not None:
        raise RuntimeError("trapezoid takes x or dx, not both")
    if len(x.shape) == 1 and len(y.shape) > 1:
        x = x.reshape([-1 if i == dim % len(y.shape) else 1 for i in range(len(y.shape))])
    m = x.shape[dim]
    return pairs * (x.narrow(dim, 1, m - 1) - x.narrow(dim, 0, m - 1)) / 2


@composed
def trapezoid(y, x=None, *, dx=None, dim=-1):
    """The integral along `dim` by the trapezoidal rule, over the places x or steps dx."""
    if y.shape[dim] == 0:
        return y.sum(dim)
    return _strips(y, x, dx, dim).sum(dim)


@composed
def trapz(y, x=None, *, dx=None, dim=-1):
    """trapezoid under its old name."""
    return trapezoid(y, x, dx=dx, dim=dim)


@composed
def cumulative_trapezoid(y, x=None, *, dx=None, dim=-1):
    """The running integral along `dim` by the trapezoidal rule."""
    return _strips(y, x, dx, dim).cumsum(dim)


@composed
def gradient(input, *, spacing=None, dim=None, edge_order=1):
    """Derivatives by central differences: a tuple with one tensor for each dim.

    spacing: a number, a number or a vector of coordinates for each dim.
    """
    rank = len(input.shape)
    if dim is None:
        count = len(spacing) if isinstance(spacing, (tuple, list)) else rank
        dims = list(range(count))
    else:
        dims = [axis_of(d, rank) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    steps = spacing if isinstance(spacing, (tuple, list)) else [spacing] * len(dims)
    if len(steps) != len(dims):
        raise RuntimeError(
            f"torch.gradient expected spacing to be unspecified, a scalar or a list of length "
            f"{len(dims)}, got a list of length {len(steps)}"
        )
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    x = input if input.is_floating_point() else input.float()
    return tuple([_derivative(x, d, s, edge_order) for d, s in zip(dims, steps, strict=True)])


def _derivative(x: Tensor, dim: int, spacing: Any, order: int) -> Tensor:
    n = x.shape[dim]
    if n <= order:
        raise RuntimeError(
            f"torch.gradient expected each dimension size to be at least edge_order+1, but got {n}"
        )
    if isinstance(spacing, Tensor) and len(spacing.shape):
        place = spacing.reshape([-1 if i == dim else 1 for i in range(len(x.shape))])
        steps = place.narrow(dim, 1, n - 1) - place.narrow(dim, 0, n - 1)
    else:
        step = 1.0 if spacing is None else float(spacing)
        steps = ones([n - 1 if i == dim else 1 for i in range(len(x.shape))], dtype=x.dtype) * step
    left, right = steps.narrow(dim, 0, n - 2), steps.narrow(dim, 1, n - 2)
    low, mid, high = [x.narrow(dim, i, n - 2) for i in range(3)]
    inner = (
        high * left / (right * (left + right))
        + mid * (right - left) / (left * right)
        - low * right / (left * (left + right))
    )
    return cat([_edge(x, steps, dim, 0, order), inner, _edge(x, steps, dim, n, order)], dim)


def _edge(x: Tensor, steps: Tensor, dim: int, end: int, order: int) -> Tensor:
    """The one-sided difference at the beginning (end 0) or the end."""
    n = x.shape[dim]
    at = (0, 1, 2) if end == 0 else (n - 1, n - 2, n - 3)
    sign = 1.0 if end == 0 else -1.0
    f0, f1 = x.narrow(dim, at[0], 1), x.narrow(dim, at[1], 1)
    h = steps.narrow(dim, 0 if end == 0 else n - 2, 1)
    if order == 1:
        return (f1 - f0) / h * sign
    f2, k = x.narrow(dim, at[2], 1), steps.narrow(dim, 1 if end == 0 else n - 3, 1)
    a = -(2 * h + k) / (h * (h + k))
    b, c = (h + k) / (h * k), -h / (k * (h + k))
    return (f0 * a + f1 * b + f2 * c) * sign


# --- running log-sums, norms ---------------------------------------------------------------------


@function
def logcumsumexp(input, dim):
    """The logarithm of the running sum of exp(input) along `dim`, without overflow."""
    x = floating(input)
    if not x.type.shape:
        return x
    axis, rank = axis_of(dim, len(x.type.shape)), len(x.type.shape)
    front = (axis, *[i for i in range(rank) if i != axis])
    rows = ops.permute(x, perm=front)
    row = rows.type.with_shape(rows.type.shape[1:])
    start = ops.full(-math.inf, row.dtype, row.shape, row.device)
    step = trace(_log_added, row, row)
    made = ops.scan(step, [start], [rows], [], rows.type.shape[0])[1]
    return ops.permute(made, perm=ops.inverse(front))


def _log_added(total: Value, x: Value) -> list[Value]:
    top = ops.detach(ops.max_(total, x))
    infinite = ops.eq(ops.abs_(top), ops.full_like(math.inf, top))
    shift = ops.select(infinite, ops.full_like(0.0, top), top)
    parts = ops.add(ops.exp(ops.sub(total, shift)), ops.exp(ops.sub(x, shift)))
    made = ops.add(ops.log(parts), shift)
    return [made, made]


@function(floats=False)
def renorm(input, p, dim, maxnorm):
    """The input with each slice along `dim` whose p-norm is above maxnorm scaled down to it."""
    rank = len(input.type.shape)
    axis = axis_of(dim, rank)
    others = tuple([i for i in range(rank) if i != axis])
    norms = vector_norm_of(input, p, others)
    limit = ops.full_like(float(maxnorm), norms)
    scale = ops.div(limit, ops.add(norms, ops.full_like(1e-7, norms)))
    scale = ops.select(ops.lt(limit, norms), scale, ops.full_like(1.0, scale))
    return ops.mul(input, ops.expand(scale, shape=input.type.shape, axes=others))


@composed
def histogramdd(input, bins, range=None, weight=None, density=False):
    """(counts, edges for each dim) of points [..., d] in bins of equal width, or between edges."""
    points = input._array().reshape(-1, input.shape[-1])
    given = [b._array() if isinstance(b, Tensor) else b for b in
             (bins if isinstance(bins, (tuple, list)) else [bins] * points.shape[1])]  # fmt: skip
    limits = None if range is None else np.asarray(range, float).reshape(-1, 2).tolist()
    weights = None if weight is None else weight._array().reshape(-1)
    counts, edges = np.histogramdd(points, given, limits, density, weights)
    kind = input.dtype.numpy
    return from_array(counts.astype(kind)), tuple([from_array(e.astype(kind)) for e in edges])
