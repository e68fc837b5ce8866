"""Factorisations: the factors multiply to the matrix, as torch's do; gradients are refused."""

import math
import warnings

import numpy as np
import pytest

import graphc as torch


@pytest.fixture
def matrix():
    torch.manual_seed(0)
    return torch.randn(3, 5, 4, dtype=torch.float64)


def close(a, b, atol=1e-12) -> None:
    np.testing.assert_allclose(a.numpy(), b.numpy(), atol=atol, rtol=max(atol, 1e-7))


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


@pytest.mark.parametrize("name", ["det", "slogdet"])
@pytest.mark.parametrize("value", [1e30, math.inf, math.nan])
def test_determinants_beyond_the_numbers_do_not_warn(name, value) -> None:
    matrix = torch.eye(3) * value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = getattr(torch.linalg, name)(matrix)
    if value == 1e30:
        assert found.item() == math.inf if name == "det" else found.logabsdet.item() > 200


def test_errors(matrix) -> None:
    with pytest.raises(RuntimeError, match="no derivative yet"):
        torch.linalg.qr(matrix.requires_grad_())
    with pytest.raises(torch.linalg.LinAlgError, match="order 1 is not positive-definite"):
        torch.linalg.cholesky(-torch.eye(3))
    with pytest.raises(RuntimeError, match="not defined for i64"):
        torch.linalg.inv(torch.eye(3, dtype=torch.int64))


def test_matrices_that_have_no_factors_are_named() -> None:
    positive, other = torch.eye(9), torch.eye(9)
    other[4, 4] = -1
    for matrix, text in (
        (other, r"cholesky: The factorization .* minor of order 5 is"),
        (torch.stack([positive, other]), r"\(Batch element 1\): .* minor of order 5 is"),
        (other * math.nan, "minor of order 1 is"),
    ):
        with pytest.raises(torch.linalg.LinAlgError, match=text):
            torch.linalg.cholesky(matrix)
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        torch.linalg.inv(torch.ones(2, 3, 3))
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        torch.linalg.solve(torch.ones(3, 3), torch.ones(3))
    for name in ("eigh", "svd", "svdvals", "eigvalsh"):
        with pytest.raises(torch.linalg.LinAlgError, match="did not converge"):
            getattr(torch.linalg, name)(other * math.nan)


def test_shapes_that_do_not_fit_are_named() -> None:
    for name in ("cholesky", "inv", "eigh", "eigvalsh", "det", "slogdet"):
        with pytest.raises(RuntimeError, match=f"{name}: A must be batches of square .* 2 by 3"):
            getattr(torch.linalg, name)(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match=r"equation AX = B \(2x2 and 3x1\)"):
        torch.linalg.solve(torch.eye(2), torch.ones(3, 1))
    with pytest.raises(RuntimeError, match=r"equation XA = B \(2x2 and 1x3\)"):
        torch.linalg.solve(torch.eye(2), torch.ones(1, 3), left=False)
    with pytest.raises(RuntimeError, match="to be 'L' or 'U', but got X"):
        torch.linalg.eigh(torch.eye(2), UPLO="X")


def test_each_triangle_is_read_by_itself() -> None:
    matrix = torch.tensor([[4.0, 7.0], [2.0, 3.0]])
    lower = torch.linalg.cholesky(matrix)
    close(lower, torch.tensor([[2.0, 0.0], [1.0, 2.0**0.5]]), 1e-6)
    close(torch.linalg.cholesky(matrix.mT, upper=True), lower.mT, 1e-6)
    whole = torch.tensor([[4.0, 2.0], [2.0, 3.0]])
    close(torch.linalg.eigvalsh(matrix), torch.linalg.eigvalsh(whole), 1e-5)
    close(torch.linalg.eigvalsh(matrix.mT, UPLO="U"), torch.linalg.eigvalsh(whole), 1e-5)


DTYPES = ["float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 7, 70])
def test_factors_have_the_errors_of_their_dtype(dtype, n) -> None:
    """What LAPACK promises: a few units of the last place of the dtype, for each row."""
    random = np.random.default_rng(n)
    a = random.standard_normal((2, n, n))
    a = (a + 1j * random.standard_normal(a.shape) if "complex" in dtype else a).astype(dtype)
    positive = a @ np.conj(np.swapaxes(a, -1, -2)) / n + np.eye(n, dtype=dtype)
    right = a[..., :3]
    bound = 4 * n * float(np.finfo(dtype).eps)
    x, spd, b = [torch.tensor(array) for array in (a, positive, right)]
    exact = positive.astype(np.complex128)
    linalg = torch.linalg

    def error(product, wanted):
        assert product.dtype == np.complex128
        return np.linalg.norm(product - wanted) / np.linalg.norm(wanted)

    def wide(tensor):
        assert str(tensor.dtype) in (f"torch.{dtype}", f"torch.{np.abs(a[0]).dtype}")
        return tensor.numpy().astype(np.complex128)

    def turned(array):
        return np.conj(np.swapaxes(array, -1, -2))

    lower, upper = wide(linalg.cholesky(spd)), wide(linalg.cholesky(spd, upper=True))
    assert not np.triu(lower, 1).any() and not np.tril(upper, -1).any()
    assert error(lower @ turned(lower), exact) < bound
    assert error(turned(upper) @ upper, exact) < bound
    assert error(exact @ wide(linalg.inv(spd)), np.broadcast_to(np.eye(n), exact.shape)) < bound
    assert error(exact @ wide(linalg.solve(spd, b)), right) < bound
    values, vectors = [wide(part) for part in linalg.eigh(spd)]
    assert error((vectors * values[..., None, :]) @ turned(vectors), exact) < bound
    assert error(wide(linalg.eigvalsh(spd)), values) < bound
    for full in (True, False):
        u, s, vh = [wide(part) for part in linalg.svd(x[:, :, : n // 2 + 1], full_matrices=full)]
        count = s.shape[-1]
        assert u.shape[-1] == (n if full else count)
        product = (u[..., :count] * s[..., None, :]) @ vh
        assert error(product, a[:, :, : n // 2 + 1]) < bound
    wide_matrix = x[:, : n // 2 + 1]
    assert error(wide(linalg.svdvals(wide_matrix)), wide(linalg.svd(wide_matrix)[1])) < bound


def test_nothing_has_factors_of_its_shape() -> None:
    empty = torch.zeros(0, 0)
    assert torch.linalg.cholesky(empty).shape == torch.linalg.inv(empty).shape == (0, 0)
    assert torch.linalg.eigh(torch.zeros(0, 3, 3)).eigenvalues.shape == (0, 3)
    assert torch.linalg.svd(torch.zeros(2, 0, 3), full_matrices=False).S.shape == (2, 0)
    assert torch.linalg.solve(torch.zeros(0, 3, 3), torch.zeros(0, 3, 2)).shape == (0, 3, 2)


def test_ill_conditioned_matrices_have_small_residuals() -> None:
    n = 40
    hilbert = torch.tensor([[1 / (i + j + 1) for j in range(n)] for i in range(n)])
    positive = hilbert + 1e-5 * torch.eye(n)
    lower = torch.linalg.cholesky(positive)
    close(lower @ lower.mT, positive, 1e-6)
    values, vectors = torch.linalg.eigh(positive)
    close(vectors * values @ vectors.mT, positive, 1e-5)
    right = torch.ones(n)
    solution = torch.linalg.solve(positive, right)
    residual = (positive @ solution - right).abs().max() / solution.abs().max()
    assert residual < 1e-6 * n


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
