"""Factorisations by LAPACK, which numpy brings: library calls on values, without derivatives.

A call computes its operands and gives new tensors; nothing of it is in the graph. Where a
gradient would have to pass, or a trace hold the function, UnsupportedError says so.

numpy.linalg computes float32 in float64. What `lapack` holds are the functions that it calls, for
arrays of any batch; they compute in the dtype that they are given, as torch does, at twice the
speed.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.linalg import _umath_linalg as lapack

from .frontends import modes
from .frontends.record import recorder
from .ir.errors import DTypeError, ShapeError, UnsupportedError
from .tensor import Tensor, from_array

qr_type = namedtuple("qr", ["Q", "R"])
svd_type = namedtuple("svd", ["U", "S", "Vh"])
eigh_type = namedtuple("eigh", ["eigenvalues", "eigenvectors"])
slogdet_type = namedtuple("slogdet", ["sign", "logabsdet"])


_NO_EIGENVALUES = "Eigenvalues did not converge"
_NO_SINGULAR_VALUES = "SVD did not converge"
_SINGULAR = "The {} could not be completed because the input matrix is singular."


class LinAlgError(RuntimeError):
    """A matrix that has no such factors: singular, or not positive definite."""


def _called(name: str, function: Callable, *tensors: Tensor, square: bool = False) -> Any:
    """The arrays that a function gives for the tensors' values; square: the first one has to be."""
    for tensor in tensors:
        if tensor.requires_grad and modes.grad_enabled():
            raise UnsupportedError(
                f"linalg.{name} has no derivative yet",
                hint="Call it under no_grad(), or on tensor.detach().",
            )
        if tensor.dtype.kind not in "fc" or tensor.dtype.itemsize < 4:
            raise DTypeError(f"linalg.{name} is not defined for {tensor._type.text}")
        if len(tensor.shape) < 2:
            raise ShapeError(
                f"linalg.{name}: The input tensor A must have at least 2 dimensions: "
                f"{tensor._type.text}"
            )
    rows, columns = tensors[0].shape[-2:]
    if square and rows != columns:
        raise ShapeError(
            f"linalg.{name}: A must be batches of square matrices, but they are "
            f"{rows} by {columns} matrices"
        )
    on_numpy = recorder().on_numpy
    if on_numpy is not None:
        on_numpy(f"linalg.{name}", [tensor._read() for tensor in tensors])
    try:
        return function(*[tensor._array() for tensor in tensors])
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"linalg.{name}: {error}") from None


def _checked(function: Callable, failure: str) -> Callable:
    """The function, raising where it signals that it has no result for some matrix."""

    def signalled(*_: Any) -> None:
        raise np.linalg.LinAlgError(failure)

    def checked(*arrays: np.ndarray) -> Any:
        with np.errstate(all="ignore", invalid="call", call=signalled):
            return function(*arrays)

    return checked


def _quiet(function: Callable) -> Callable:
    """The function without warnings: an infinite or undefined result is a value like others."""

    def quiet(*arrays: np.ndarray) -> Any:
        with np.errstate(all="ignore"):
            return function(*arrays)

    return quiet


def _tensor(array: Any, like: Tensor) -> Tensor:
    return from_array(np.ascontiguousarray(array).reshape(np.shape(array)), like._type.device)


def qr(A, mode="reduced", *, out=None):
    """A = Q R, Q orthogonal and R upper triangular; mode "reduced", "complete" or "r"."""
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}'")
    found = _called("qr", lambda a: np.linalg.qr(a, mode), A)
    if mode == "r":
        return qr_type(_tensor(np.empty(0, found.dtype), A), _tensor(found, A))
    return qr_type(*[_tensor(part, A) for part in found])


def _svd(a: np.ndarray, way: str) -> Any:
    """The singular values; way "_s" or "_f": with vectors, as many as there are values or all."""
    merged = getattr(lapack, f"svd{way}", None)  # before numpy 2.1 there was one for each form
    form = "m" if a.shape[-2] < a.shape[-1] else "n"
    return (merged or getattr(lapack, f"svd_{form}{way}"))(a)


def svd(A, full_matrices=True, *, driver=None, out=None):
    """A = U diag(S) Vh, the singular values in descending order."""
    way = "_f" if full_matrices else "_s"
    found = _called("svd", _checked(lambda a: _svd(a, way), _NO_SINGULAR_VALUES), A)
    return svd_type(*[_tensor(part, A) for part in found])


def svdvals(A, *, driver=None, out=None):
    """The singular values in descending order."""
    function = _checked(lambda a: _svd(a, ""), _NO_SINGULAR_VALUES)
    return _tensor(_called("svdvals", function, A), A)


def _of_triangle(UPLO: str, lower: Callable, upper: Callable) -> Callable:
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    return lower if UPLO.upper() == "L" else upper


def eigh(A, UPLO="L", *, out=None):
    """Eigenvalues in ascending order and eigenvectors of a symmetric or Hermitian matrix."""
    function = _of_triangle(UPLO, lapack.eigh_lo, lapack.eigh_up)
    found = _called("eigh", _checked(function, _NO_EIGENVALUES), A, square=True)
    return eigh_type(*[_tensor(part, A) for part in found])


def eigvalsh(A, UPLO="L", *, out=None):
    """Eigenvalues in ascending order of a symmetric or Hermitian matrix."""
    function = _of_triangle(UPLO, lapack.eigvalsh_lo, lapack.eigvalsh_up)
    found = _called("eigvalsh", _checked(function, _NO_EIGENVALUES), A, square=True)
    return _tensor(found, A)


def cholesky(A, *, upper=False, out=None):
    """A = L L^H of a positive definite matrix, from its lower triangle; `upper`: U^H U, from the
    upper one. LinAlgError names the first leading minor that is not positive definite."""
    function = lapack.cholesky_up if upper else lapack.cholesky_lo

    def factor(a: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            found = function(a)
            if found.size and np.isnan(found[..., -1, -1]).any():
                raise np.linalg.LinAlgError(_not_positive(function, a))
        return found

    return _tensor(_called("cholesky", factor, A, square=True), A)


def _not_positive(function: Callable, a: np.ndarray) -> str:
    """Which matrix and which minor stopped a Cholesky factorisation: what follows it is nan."""
    place = int(np.argmax(np.isnan(function(a)[..., -1, -1])))
    matrix = a.reshape(-1, *a.shape[-2:])[place]
    low, high = 1, len(matrix)
    while low < high:
        order = (low + high) // 2
        if np.isnan(function(matrix[:order, :order])[-1, -1]):
            high = order
        else:
            low = order + 1
    which = f"(Batch element {place}): " if a.ndim > 2 else ""
    return (
        f"{which}The factorization could not be completed because the input is not "
        f"positive-definite (the leading minor of order {low} is not positive-definite)."
    )


def inv(A, *, out=None):
    """The inverse of a matrix."""
    function = _checked(lapack.inv, _SINGULAR.format("inversion"))
    return _tensor(_called("inv", function, A, square=True), A)


def pinv(A, *, rcond=None, hermitian=False, out=None):
    """The pseudo-inverse of a matrix."""
    options = {} if rcond is None else {"rcond": rcond}
    return _tensor(
        _called("pinv", lambda a: np.linalg.pinv(a, hermitian=hermitian, **options), A), A
    )


def solve(A, B, *, left=True, out=None):
    """X of A X = B; with left=False of X A = B."""
    vector = len(B.shape) == 1 or B.shape == A.shape[:-1]
    right = B.unsqueeze(-1) if vector else B
    if len(A.shape) >= 2 and A.shape[-1] != right.shape[-2 if left else -1]:
        equation = "AX = B" if left else "XA = B"
        (n, m), (k, l) = A.shape[-2:], right.shape[-2:]
        raise ShapeError(
            f"linalg.solve: Incompatible shapes of A and B for the equation {equation} "
            f"({n}x{m} and {k}x{l})"
        )

    def solved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if left:
            return lapack.solve(a, b)
        return np.swapaxes(lapack.solve(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)), -1, -2)

    function = _checked(solved, _SINGULAR.format("solution"))
    found = _called("solve", function, A, right, square=True)
    return _tensor(found[..., 0] if vector else found, A)


def det(A, *, out=None):
    """The determinant of a matrix."""
    return _tensor(_called("det", _quiet(np.linalg.det), A, square=True), A)


def slogdet(A, *, out=None):
    """Sign and logarithm of the absolute value of the determinant."""
    found = _called("slogdet", _quiet(np.linalg.slogdet), A, square=True)
    return slogdet_type(*[_tensor(part, A) for part in found])


def matrix_rank(A, *, atol=None, rtol=None, hermitian=False, out=None):
    """How many singular values are not 0, up to a tolerance."""
    values = svdvals(A)
    largest = values.amax(-1, keepdim=True)
    eps = float(np.finfo(A.dtype.to_real().numpy).eps)
    relative = eps * max(A.shape[-2:]) if rtol is None and atol is None else (rtol or 0.0)
    bound = (largest * relative).clamp(min=atol or 0.0)
    return (values > bound).sum(-1)
