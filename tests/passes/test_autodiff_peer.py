"""Gradients against torch's, also at ties, zeros and infinities, and for complex numbers."""

import numpy as np
import pytest

from graphc.ir import composite, ops
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.autodiff import grad

from .derivative_cases import total

torch = pytest.importorskip("torch")

X = np.array([[0.5, -1.0, 2.0], [2.0, 2.0, -0.0]])
Y = np.array([[1.5, -1.0, 0.25], [3.0, -2.0, 1.0]])
Z = X + 1j * Y


PAIRS = {
    "mul div": (lambda x, y: x * x / y, lambda x, y: x * x / y),
    "pow": (lambda x, y: ops.pow_(x * x, y), lambda x, y: torch.pow(x * x, y)),
    "pow of zero": (
        lambda x, y: ops.pow_(x, ops.full_like(2.0, x)) * y,
        lambda x, y: torch.pow(x, 2.0) * y,
    ),
    "max with ties": (ops.max_, torch.maximum),
    "min with ties": (ops.min_, torch.minimum),
    "abs at zero": (lambda x, y: ops.abs_(x) * y, lambda x, y: torch.abs(x) * y),
    "atan2": (ops.atan2, torch.atan2),
    "fmod": (lambda x, y: ops.rem(x, y), torch.fmod),
    "select": (
        lambda x, y: ops.select(ops.lt(x, y), ops.exp(x), y * y),
        lambda x, y: torch.where(x < y, torch.exp(x), y * y),
    ),
    "reduce_max with ties": (
        lambda x, y: ops.reduce_max(x, axes=(1,)) * ops.reduce_sum(y, axes=(1,)),
        lambda x, y: x.amax(1) * y.sum(1),
    ),
    "prod with a zero": (
        lambda x, y: ops.reduce_prod(x, axes=(1,)) * ops.reduce_prod(y, axes=(1,)),
        lambda x, y: x.prod(1) * y.prod(1),
    ),
    "cumsum": (
        lambda x, y: ops.cumulative(x, axis=1, mode="sum") * y,
        lambda x, y: torch.cumsum(x, 1) * y,
    ),
    "sort": (
        lambda x, y: ops.sort(x * y, axis=1)[0] * y,
        lambda x, y: torch.sort(x * y, dim=1, stable=True)[0] * y,
    ),
    "softmax": (
        lambda x, y: composite.softmax(x, axis=1) * y,
        lambda x, y: torch.softmax(x, 1) * y,
    ),
    "log_softmax": (
        lambda x, y: composite.log_softmax(x, axis=1) * y,
        lambda x, y: torch.log_softmax(x, 1) * y,
    ),
    "gelu": (
        lambda x, y: composite.gelu(x) * composite.silu(y),
        lambda x, y: torch.nn.functional.gelu(x) * torch.nn.functional.silu(y),
    ),
    "special functions": (
        lambda x, y: ops.lgamma(y * y) + ops.erf(x) * ops.expm1(y) + ops.asinh(x),
        lambda x, y: torch.lgamma(y * y) + torch.erf(x) * torch.expm1(y) + torch.asinh(x),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_gradient_equals_torchs(name, dtype):
    ours, theirs = PAIRS[name]
    types = [parse_type(f"{dtype}[2, 3]")] * 2
    graph = trace(lambda x, y: total(ours(x, y)), *types)
    arrays = [a.astype(types[0].dtype.numpy) for a in (X, Y)]
    leaves = [torch.tensor(a, requires_grad=True) for a in arrays]
    theirs(*leaves).sum().backward()
    found = evaluate(grad(graph), *arrays)
    rtol = 1e-10 if dtype == "f64" else 2e-5
    for a, leaf in zip(found, leaves, strict=True):
        np.testing.assert_allclose(a, leaf.grad.numpy(), rtol=rtol, atol=rtol)


COMPLEX = {
    "product": (lambda z: ops.real(z * z * z), lambda z: (z * z * z).real),
    "imaginary part": (lambda z: ops.imag(ops.exp(z) / z), lambda z: (torch.exp(z) / z).imag),
    "of real parts": (
        lambda z: ops.real(z) * ops.imag(ops.complex_(ops.imag(z), ops.real(z)) * z),
        lambda z: z.real * (torch.complex(z.imag, z.real) * z).imag,
    ),
    "contraction": (
        lambda z: ops.imag(ops.dot(z, z, contract=((1,), (1,)))),
        lambda z: (z @ z.T).imag,
    ),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_gradient_equals_torchs(name):
    ours, theirs = COMPLEX[name]
    graph = trace(lambda z: total(ours(z)), parse_type("c128[2, 3]"))
    leaf = torch.tensor(Z, requires_grad=True)
    theirs(leaf).sum().backward()
    (found,) = evaluate(grad(graph), Z)
    np.testing.assert_allclose(found, leaf.grad.numpy(), rtol=1e-10)


def test_complex_operand_of_a_real_loss_through_a_cast():
    graph = trace(
        lambda x: total(ops.real(ops.exp(ops.cast(x, dtype=parse_type("c128[]").dtype) * 1j))),
        parse_type("f64[3]"),
    )
    leaf = torch.tensor(X[0], requires_grad=True)
    torch.exp(leaf.to(torch.complex128) * 1j).real.sum().backward()
    np.testing.assert_allclose(evaluate(grad(graph), X[0])[0], leaf.grad.numpy(), rtol=1e-12)
