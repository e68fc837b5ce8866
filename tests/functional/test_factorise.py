"""Factorisations: the factors multiply to the matrix, as torch's do; gradients are refused."""

import warnings

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


CALLS = {
    "cholesky": torch.linalg.cholesky,
    "inv": torch.linalg.inv,
    "pinv": torch.linalg.pinv,
    "eigh": lambda a: torch.linalg.eigh(a).eigenvalues,
    "eigvalsh": torch.linalg.eigvalsh,
    "svd": lambda a: torch.linalg.svd(a).S,
    "svdvals": torch.linalg.svdvals,
    "solve": lambda a: torch.linalg.solve(a, a[0]),
    "qr": lambda a: torch.linalg.qr(a).R,
    "det": torch.linalg.det,
    "slogdet": lambda a: torch.linalg.slogdet(a)[1],
    "matrix_rank": torch.linalg.matrix_rank,
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("computed", [False, True], ids=["an input", "computed"])
def test_a_trace_refuses_what_numpy_computes(name, computed) -> None:
    """The graph would hold the factors of the example."""
    example = torch.eye(4) * 2

    def function(x):
        return CALLS[name](x * 2 if computed else x)

    for run in (torch.jit.trace, torch.onnx.export):
        with pytest.raises(NotImplementedError, match="cannot be traced") as caught:
            run(function, (example,))
        assert "svdvals" if name == "matrix_rank" else name in str(caught.value)
        assert "test_factorise.py" in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 8


def test_a_trace_refuses_factors_of_weights_and_keeps_those_of_constants() -> None:
    class Whitened(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cov", torch.eye(3) * 4)

        def forward(self, x):
            return x @ torch.linalg.inv(self.cov)

    with pytest.raises(NotImplementedError, match="cannot be traced"):
        torch.jit.trace(Whitened(), torch.ones(2, 3))
    outside = torch.eye(3) * 4

    def function(x):
        return x @ torch.linalg.inv(outside) + torch.linalg.det(torch.eye(2) * 2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # it does look at eye(2) * 2
        traced = torch.jit.trace(function, torch.ones(2, 3))
    assert traced(torch.ones(2, 3) * 4).tolist() == [[5.0] * 3] * 2


def test_a_compiled_function_computes_factors_at_each_call() -> None:
    compiled = torch.compile(lambda x: torch.linalg.det(x) + 1)
    assert [compiled(torch.eye(2) * n).item() for n in (2, 3)] == [5, 10]
    assert not compiled.breaks
    compiled = torch.compile(lambda x: torch.linalg.det(x * 2) + 1)
    assert [compiled(torch.eye(2) * n).item() for n in (2, 3)] == [17, 37]
    assert len(compiled.breaks) == 1 and "linalg.det" in compiled.breaks[0]
    whole = torch.compile(lambda x: torch.linalg.det(x * 2), fullgraph=True)
    with pytest.raises(RuntimeError, match="looks at a value"):
        whole(torch.eye(2))


def test_transforms_refuse_factors() -> None:
    batch = torch.eye(2).expand(3, 2, 2) * 3
    for function in (torch.linalg.det, lambda x: torch.linalg.det(x * 2)):
        with pytest.raises(NotImplementedError, match="linalg.det has no derivative"):
            torch.func.grad(function)(batch[0])
        with pytest.raises(NotImplementedError, match="under vmap"):
            torch.func.vmap(function)(batch)

    def scaled(x):
        return (x * torch.linalg.det(x.detach())).sum()

    assert torch.func.grad(scaled)(batch[0]).tolist() == [[9.0] * 2] * 2
    with pytest.raises(NotImplementedError, match="looks at a value"):
        torch.func.vmap(lambda x: x * float(x.numpy()[0, 0]))(batch)
