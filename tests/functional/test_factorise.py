"""Factorisations: the factors multiply to the matrix, as torch's do; gradients are refused."""

import numpy as np
import pytest

import graphc as torch


@pytest.fixture
def matrix():
    torch.manual_seed(0)
    return torch.randn(3, 5, 4, dtype=torch.float64)


def close(a, b) -> None:
    np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-12)


def test_qr(matrix) -> None:
    q, r = torch.linalg.qr(matrix)
    close(q @ r, matrix)
    close(q.transpose(-1, -2) @ q, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    assert torch.linalg.qr(matrix, "complete").Q.shape == (3, 5, 5)


def test_svd_and_rank(matrix) -> None:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    close(u @ torch.diag_embed(s) @ vh, matrix)
    close(torch.linalg.svdvals(matrix), s)
    thin = matrix[0, :, :1] @ matrix[1, :1, :]
    assert torch.linalg.matrix_rank(thin).item() == 1


def test_symmetric(matrix) -> None:
    positive = matrix.transpose(-1, -2) @ matrix
    values, vectors = torch.linalg.eigh(positive)
    close(vectors @ torch.diag_embed(values) @ vectors.transpose(-1, -2), positive)
    factor = torch.linalg.cholesky(positive)
    close(factor @ factor.transpose(-1, -2), positive)
    close(torch.linalg.inv(positive) @ positive, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))


def test_solve_and_determinant(matrix) -> None:
    square = matrix[:, :4]
    right = matrix[:, :4, :2]
    close(square @ torch.linalg.solve(square, right), right)
    sign, log = torch.linalg.slogdet(square)
    close(sign * log.exp(), torch.linalg.det(square))


def test_errors(matrix) -> None:
    with pytest.raises(RuntimeError, match="no derivative yet"):
        torch.linalg.qr(matrix.requires_grad_())
    with pytest.raises(torch.linalg.LinAlgError, match="ositive definite"):
        torch.linalg.cholesky(-torch.eye(3))
    with pytest.raises(RuntimeError, match="not defined for i64"):
        torch.linalg.inv(torch.eye(3, dtype=torch.int64))
