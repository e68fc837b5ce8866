"""Factorisations by LAPACK, which numpy brings: library calls on values, without derivatives.

A call computes its operands and gives new tensors; nothing of it is in the graph. Where a
gradient would have to pass, or a trace hold the function, UnsupportedError says so.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from .frontends import modes
from .frontends.record import recorder
from .ir.errors import DTypeError, ShapeError, UnsupportedError
from .tensor import Tensor, from_array

qr_type = namedtuple("qr", ["Q", "R"])
svd_type = namedtuple("svd", ["U", "S", "Vh"])
eigh_type = namedtuple("eigh", ["eigenvalues", "eigenvectors"])
slogdet_type = namedtuple("slogdet", ["sign", "logabsdet"])


class LinAlgError(RuntimeError):
    """A matrix that has no such factors: singular, or not positive definite."""


def _called(name: str, function: Callable, *tensors: Tensor) -> Any:
    """The arrays that a numpy function gives for the tensors' values."""
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
    on_numpy = recorder().on_numpy
    if on_numpy is not None:
        on_numpy(f"linalg.{name}", [tensor._read() for tensor in tensors])
    try:
        return function(*[tensor._array() for tensor in tensors])
    except np.linalg.LinAlgError as error:
        raise LinAlgError(f"linalg.{name}: {error}") from None


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


def svd(A, full_matrices=True, *, driver=None, out=None):
    """A = U diag(S) Vh, the singular values in descending order."""
    found = _called("svd", lambda a: np.linalg.svd(a, full_matrices), A)
    return svd_type(*[_tensor(part, A) for part in found])


def svdvals(A, *, driver=None, out=None):
    """The singular values in descending order."""
    return _tensor(_called("svdvals", lambda a: np.linalg.svd(a, compute_uv=False), A), A)


def eigh(A, UPLO="L", *, out=None):
    """Eigenvalues in ascending order and eigenvectors of a symmetric or Hermitian matrix."""
    found = _called("eigh", lambda a: np.linalg.eigh(a, UPLO), A)
    return eigh_type(*[_tensor(part, A) for part in found])


def eigvalsh(A, UPLO="L", *, out=None):
    """Eigenvalues in ascending order of a symmetric or Hermitian matrix."""
    return _tensor(_called("eigvalsh", lambda a: np.linalg.eigvalsh(a, UPLO), A), A)


def cholesky(A, *, upper=False, out=None):
    """A = L L^H of a positive definite matrix; `upper` gives L^H."""
    lower = _called("cholesky", np.linalg.cholesky, A)
    return _tensor(np.conj(np.swapaxes(lower, -1, -2)) if upper else lower, A)


def inv(A, *, out=None):
    """The inverse of a matrix."""
    return _tensor(_called("inv", np.linalg.inv, A), A)


def pinv(A, *, rcond=None, hermitian=False, out=None):
    """The pseudo-inverse of a matrix."""
    options = {} if rcond is None else {"rcond": rcond}
    return _tensor(
        _called("pinv", lambda a: np.linalg.pinv(a, hermitian=hermitian, **options), A), A
    )


def solve(A, B, *, left=True, out=None):
    """X of A X = B; with left=False of X A = B."""
    vector = len(B.shape) == 1 or B.shape == A.shape[:-1]

    def solved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if not left:
            return np.swapaxes(
                np.linalg.solve(np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)), -1, -2
            )
        return np.linalg.solve(a, b)

    if vector:
        return _tensor(_called("solve", solved, A, B.unsqueeze(-1))[..., 0], A)
    return _tensor(_called("solve", solved, A, B), A)


def det(A, *, out=None):
    """The determinant of a matrix."""
    return _tensor(_called("det", np.linalg.det, A), A)


def slogdet(A, *, out=None):
    """Sign and logarithm of the absolute value of the determinant."""
    return slogdet_type(*[_tensor(part, A) for part in _called("slogdet", np.linalg.slogdet, A)])


def matrix_rank(A, *, atol=None, rtol=None, hermitian=False, out=None):
    """How many singular values are not 0, up to a tolerance."""
    values = svdvals(A)
    largest = values.amax(-1, keepdim=True)
    eps = float(np.finfo(A.dtype.to_real().numpy).eps)
    relative = eps * max(A.shape[-2:]) if rtol is None and atol is None else (rtol or 0.0)
    bound = (largest * relative).clamp(min=atol or 0.0)
    return (values > bound).sum(-1)
