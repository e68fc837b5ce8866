"""torch.linalg: norms, products, and the factorisations that numpy's LAPACK gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

from .factorise import (
    LinAlgError,
    cholesky,
    det,
    eigh,
    eigvalsh,
    inv,
    matrix_rank,
    pinv,
    qr,
    slogdet,
    solve,
    svd,
    svdvals,
)
from .frontends.function import FUNCTIONS, function
from .functional import install
from .functional.linalg import matmul
from .functional.numeric import cross_of, matrix_power
from .functional.promote import axes_of, axis_of, floating, keep, operands
from .functional.reduce import vector_norm_of
from .ir import ops
from .ir.errors import ShapeError, UnsupportedError
from .tensor import Tensor

assert install is not None  # registers what is looked up below


# --- norms ---------------------------------------------------------------------------------------


@function(register=False, floats=False)
def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    """(sum |x| ** ord) ** (1 / ord) over `dim`; over all elements without."""
    x = ops.cast(x, dtype=dtype) if dtype is not None else x
    if x.type.dtype.kind not in "fc":
        raise RuntimeError(
            "linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
            f"{x.type.dtype.torch_name}"
        )
    rank = len(x.type.shape)
    axes = axes_of(dim, rank)
    power = math.inf if ord == "inf" else ord
    return keep(vector_norm_of(x, power, axes), axes, rank, keepdim)


@function(register=False, floats=False)
def _matrix_norm(A, ord, dim, keepdim, dtype):
    x = floating(A if dtype is None else ops.cast(A, dtype=dtype))
    rank = len(x.type.shape)
    if rank < 2:
        raise ShapeError(f"linalg.matrix_norm: The input tensor A must have at least 2 dimensions, "
                         f"but it is {x.type.text}")  # fmt: skip
    rows, columns = [axis_of(d, rank) for d in dim]
    axes = tuple(sorted((rows, columns)))
    if ord == "fro":
        return keep(vector_norm_of(x, 2, axes), axes, rank, keepdim)
    summed, kept = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = ops.reduce_sum(ops.abs_(x), axes=(summed,))
    place = kept - (1 if summed < kept else 0)
    extreme = ops.reduce_max if ord > 0 else ops.reduce_min
    return keep(extreme(sums, axes=(place,)), axes, rank, keepdim)


def matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None, out=None):
    """The norm of matrices in two dims: "fro", 1, -1, inf, -inf. UnsupportedError: 2, -2, "nuc"."""
    if ord in (2, -2, "nuc"):
        _needs(f"matrix_norm with ord={ord!r}", "singular values")
    if ord not in ("fro", 1, -1, math.inf, -math.inf):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    made = _matrix_norm(A, ord, tuple(dim), keepdim, dtype)
    return made if out is None else out._write_out(made)


def norm(A, ord=None, dim=None, keepdim=False, *, out=None, dtype=None):
    """A vector norm where `dim` is one, a matrix norm where it is two; of all elements without."""
    pair = dim is not None and not isinstance(dim, int) and len(dim) == 2
    if ord is not None and (pair or (dim is None and len(A.shape) == 2)):
        return matrix_norm(A, ord, dim if pair else (-2, -1), keepdim, dtype=dtype, out=out)
    if ord is not None and dim is None and len(A.shape) != 1:
        raise RuntimeError(
            "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
            f"{len(A.shape)}D."
        )
    made = vector_norm(A, 2 if ord is None else ord, dim, keepdim, dtype=dtype)
    return made if out is None else out._write_out(made)


# --- products ------------------------------------------------------------------------------------


@function(register=False)
def _vecdot(x, y, dim):
    a, b = operands(x, y)
    if a.type.dtype.kind == "c":
        a = ops.complex_(ops.real(a), ops.neg(ops.imag(a)))
    return ops.reduce_sum(ops.mul(a, b), axes=(axis_of(dim, len(a.type.shape)),))


def vecdot(x, y, *, dim=-1, out=None):
    """The inner products of vectors along `dim`."""
    made = _vecdot(x, y, dim)
    return made if out is None else out._write_out(made)


@function(register=False)
def _cross(input, other, dim):
    return cross_of(*operands(input, other), dim)


def cross(input, other, *, dim=-1, out=None):
    """The cross products of vectors of three along `dim`."""
    made = _cross(input, other, dim)
    return made if out is None else out._write_out(made)


def diagonal(A, *, offset=0, dim1=-2, dim2=-1):
    """The diagonals of matrices in two dims."""
    return A.diagonal(offset, dim1, dim2)


def vander(x, N=None):
    """The Vandermonde matrices of vectors: x ** 0 to x ** (N - 1)."""
    count = x.shape[-1] if N is None else N
    if count < 2:
        raise RuntimeError("N must be greater than 1.")
    ones = x.new_ones((*x.shape, 1))
    wide = x.unsqueeze(-1).expand(*x.shape, count - 1)
    return FUNCTIONS["cat"]([ones, wide.cumprod(-1)], -1)


def multi_dot(tensors, *, out=None):
    """The product of matrices in the order that needs the fewest multiplications.

    The first and the last may be vectors.
    """
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    row, column = len(tensors[0].shape) == 1, len(tensors[-1].shape) == 1
    factors = list(tensors)
    factors[0] = factors[0].unsqueeze(0) if row else factors[0]
    factors[-1] = factors[-1].unsqueeze(1) if column else factors[-1]
    for i, factor in enumerate(factors):
        if len(factor.shape) != 2:
            raise RuntimeError(f"multi_dot(): tensor {i} must be 2D but got {len(factor.shape)}D")
    sizes = [factors[0].shape[0], *[f.shape[1] for f in factors]]
    made = _chain(factors, _cheapest_splits(sizes), 0, len(factors) - 1)
    made = made.squeeze(0) if row else made
    made = made.squeeze(-1) if column else made
    return made if out is None else out._write_out(made)


def _cheapest_splits(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """For each run i to j of matrices: after which one to split it."""
    count = len(sizes) - 1
    cost = {(i, i): 0 for i in range(count)}
    splits: dict[tuple[int, int], int] = {}
    for length in range(1, count):
        for i in range(count - length):
            j = i + length
            options = [
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            ]
            cost[i, j], splits[i, j] = min(options)
    return splits


def _chain(factors: list[Tensor], splits: dict, i: int, j: int) -> Tensor:
    if i == j:
        return factors[i]
    k = splits[i, j]
    return matmul(_chain(factors, splits, i, k), _chain(factors, splits, k + 1, j))


# --- what is missing -----------------------------------------------------------------------------


def _needs(name: str, what: str) -> NoReturn:
    raise UnsupportedError(
        f"linalg.{name} is not offered yet: it needs {what} of matrices",
        hint="Compute it with numpy.linalg on tensor.numpy(), where no gradient is needed.",
    )


def _missing(name: str, what: str) -> Any:
    def absent(*_: Any, **__: Any) -> NoReturn:
        _needs(name, what)

    absent.__name__ = absent.__qualname__ = name
    absent.__doc__ = f"UnsupportedError: it needs {what}."
    return absent


_FACTORS = {
    "Cholesky factors": "cholesky_ex",
    "LU factors": "inv_ex solve_ex lu lu_factor lu_factor_ex lu_solve ldl_factor ldl_factor_ex "
    "ldl_solve tensorinv tensorsolve matrix_exp",
    "QR factors": "householder_product lstsq",
    "triangular solves": "solve_triangular",
    "eigenvalues": "eig eigvals",
    "singular values": "cond",
}
MISSING = {name: what for what, names in _FACTORS.items() for name in names.split()}
for _name, _what in MISSING.items():
    globals()[_name] = _missing(_name, _what)

__all__ = [
    "LinAlgError", "cholesky", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "matmul",
    "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet",
    "solve", "svd", "svdvals", "vander", "vecdot", "vector_norm", *MISSING,
]  # fmt: skip
