"""Jacobians, Hessians, their products, and gradcheck."""

import pytest

import graphc as gc
from graphc.autograd import Function, functional, gradcheck, gradgradcheck
from graphc.autograd.gradcheck import GradcheckError


def double(*values, grad=False):
    return gc.tensor(values, dtype=gc.float64, requires_grad=grad)


def test_jacobian():
    x = double(1.0, 2.0, 3.0)
    found = functional.jacobian(lambda x: x[:2] * x[1:], x)
    assert found.tolist() == [[2, 1, 0], [0, 3, 2]]
    assert not found.requires_grad


def test_jacobian_of_several():
    x, y = double(1.0, 2.0), double(3.0)
    found = functional.jacobian(lambda x, y: (x * y, y.square().sum()), (x, y))
    assert found[0][0].tolist() == [[3, 0], [0, 3]]
    assert found[0][1].tolist() == [[1], [2]]
    assert found[1][0].tolist() == [0, 0]
    assert found[1][1].tolist() == [6]


def test_hessian():
    x = double(1.0, 2.0)
    assert functional.hessian(lambda x: (x**3).sum() + x.prod(), x).tolist() == [[6, 1], [1, 12]]


def test_products_with_vectors():
    def cube(x):
        return x**3

    def total(x):
        return cube(x).sum() + x.prod()

    x, v = double(1.0, 2.0), double(1.0, -1.0)
    out, found = functional.vjp(cube, x, v)
    assert out.tolist() == [1, 8]
    assert found.tolist() == [3, -12]
    assert functional.jvp(cube, x, v)[1].tolist() == [3, -12]
    out, found = functional.hvp(total, x, v)
    assert out.item() == 11
    assert found.tolist() == [5, -11]
    assert functional.vhp(total, x, v)[1].tolist() == [5, -11]


def test_jvp_of_a_function_to_another_size():
    found = functional.jvp(lambda x: gc.stack([x.sum(), x.prod(), x[0]]), double(2.0, 3.0),
                           double(1.0, 10.0))[1]  # fmt: skip
    assert found.tolist() == [11, 23, 1]


def test_create_graph_goes_on():
    x = double(2.0, grad=True)
    functional.jacobian(lambda x: x**3, x, create_graph=True).sum().backward()
    assert x.grad.tolist() == [12]


def test_strict_names_the_input():
    with pytest.raises(RuntimeError, match="independent of input 1"):
        functional.jacobian(lambda x, y: x * 1, (double(1.0), double(1.0)), strict=True)


def test_a_vector_of_the_wrong_size():
    with pytest.raises(RuntimeError, match="v has invalid size"):
        functional.vjp(lambda x: x * 2, double(1.0, 2.0), double(1.0))


class WrongCube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0] ** 2


def test_gradcheck():
    x, y = double(0.5, 2.0, grad=True), double(1.0, -1.0, grad=True)
    assert gradcheck(lambda x, y: ((x * y).tanh(), x.log() @ y), (x, y))
    assert gradgradcheck(lambda x, y: (x * y).tanh(), (x, y))


def test_gradcheck_finds_a_wrong_backward():
    x = double(0.5, 2.0, grad=True)
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to in"):
        gradcheck(WrongCube.apply, (x,))
    assert not gradcheck(WrongCube.apply, (x,), raise_exception=False)


def test_gradcheck_needs_an_input_with_grad():
    with pytest.raises(ValueError, match="at least one input"):
        gradcheck(lambda x: x, (double(1.0),))


def test_detect_anomaly():
    x = double(0.0, grad=True)
    with gc.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="nan"):
        (x.sqrt() * 0).sum().backward()
    (x.sqrt() * 0).sum().backward()
    assert x.grad.isnan().all()
