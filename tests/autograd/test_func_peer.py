"""torch.func: transforms of functions and their compositions, against torch."""

import numpy as np
import pytest

import graphc as gc
from graphc import func as ours

torch = pytest.importorskip("torch")
theirs = torch.func
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own use

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((4, 3)).astype(np.float32), RNG.standard_normal(3).astype(np.float32)
W = RNG.standard_normal((3, 3)).astype(np.float32)


def cube(x):
    return (x**3).sum()


def mixed(x, y):
    return (x * y).sin(), x.sum() + y


CASES = {
    "grad": lambda f, x, y, w: f.grad(cube)(y),
    "grad of the second": lambda f, x, y, w: f.grad(lambda a, b: (a * b).sum(), 1)(x, y),
    "grad of both": lambda f, x, y, w: f.grad(lambda a, b: (a * b).sum(), (0, 1))(x, y),
    "grad of a dict": lambda f, x, y, w: list(
        f.grad(lambda p: (p["w"] @ p["b"]).tanh().sum())({"w": w, "b": y}).values()
    ),
    "aux": lambda f, x, y, w: f.grad(lambda a: (cube(a), a * 2), has_aux=True)(y),
    "grad and value": lambda f, x, y, w: f.grad_and_value(cube)(y),
    "grad of grad": lambda f, x, y, w: f.grad(lambda a: f.grad(cube)(a).sum())(y),
    "what is captured": lambda f, x, y, w: f.grad(lambda a: (a @ w).sum())(y),
    "vjp": lambda f, x, y, w: f.vjp(mixed, y, y * 2)[1]((y, y + 1)),
    "vjp of one": lambda f, x, y, w: f.vjp(lambda a: w @ a, y)[1](y),
    "jvp": lambda f, x, y, w: f.jvp(mixed, (y, y * 2), (y, y + 1)),
    "jacrev": lambda f, x, y, w: f.jacrev(lambda a: (w @ a).tanh())(y),
    "jacrev of two": lambda f, x, y, w: f.jacrev(mixed, (0, 1))(y, y * 2),
    "jacfwd": lambda f, x, y, w: f.jacfwd(lambda a: (a @ w).exp())(x),
    "hessian": lambda f, x, y, w: f.hessian(cube)(y),
    "vmap": lambda f, x, y, w: f.vmap(lambda a: a @ w)(x),
    "vmap over two": lambda f, x, y, w: f.vmap(lambda a, b: a * b, (0, None))(x, y),
    "vmap over columns": lambda f, x, y, w: f.vmap(lambda a: a.cumsum(0), 1, 1)(x),
    "vmap of several results": lambda f, x, y, w: f.vmap(lambda a: (a.sum(), a.sort()[0]))(x),
    "vmap of vmap": lambda f, x, y, w: f.vmap(f.vmap(lambda a: a.sin()))(x),
    "gradients of each example": lambda f, x, y, w: f.vmap(f.grad(lambda a: (w @ a).tanh().sum()))(
        x
    ),
    "vmap of where": lambda f, x, y, w: f.vmap(
        lambda a: (a > 0).to(a.dtype) * a + a.max() + a.softmax(0)
    )(x),
    "jacobian of each example": lambda f, x, y, w: f.vmap(f.jacrev(lambda a: a**2))(x),
    "hessian of each example": lambda f, x, y, w: f.vmap(f.hessian(cube))(x),
}


def leaves(value):
    if isinstance(value, (list, tuple)):
        return [leaf for part in value for leaf in leaves(part)]
    return [value.detach().numpy()]


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_torch(name):
    found = leaves(CASES[name](ours, gc.tensor(X), gc.tensor(Y), gc.tensor(W)))
    expected = leaves(CASES[name](theirs, torch.tensor(X), torch.tensor(Y), torch.tensor(W)))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)


def test_results_have_gradients():
    results = []
    for module, f in ((gc, ours), (torch, theirs)):
        w = module.tensor(W, requires_grad=True)
        x = module.tensor(X)
        f.vmap(f.grad(lambda a, w=w: (w @ a).tanh().sum()))(x).square().sum().backward()
        results.append(w.grad.numpy())
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


def test_gradients_of_each_example_of_a_module():
    model = gc.nn.Sequential(gc.nn.Linear(3, 5), gc.nn.Tanh(), gc.nn.Linear(5, 1))
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, x):
        return ours.functional_call(model, parameters, (x,)).square().sum()

    x = gc.tensor(X)
    each = ours.vmap(ours.grad(loss), (None, 0))(parameters, x)
    for i in range(4):
        model.zero_grad()
        model(x[i]).square().sum().backward()
        for name, p in model.named_parameters():
            gc.testing.assert_close(each[name][i], p.grad, rtol=1e-4, atol=1e-5)


def test_functional_call_puts_parameters_back():
    model = gc.nn.Linear(2, 2)
    weight = model.weight
    out = ours.functional_call(model, {"weight": gc.zeros(2, 2)}, gc.ones(1, 2))
    assert gc.equal(out, model.bias.unsqueeze(0))
    assert model.weight is weight
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\): speed"):
        ours.functional_call(model, {"speed": gc.zeros(1)}, gc.ones(1, 2))


def test_compiled_code_is_shared_between_calls():
    from graphc.frontends.record import recorder

    f = ours.vmap(ours.grad(lambda a: (a * a).cos().sum()))
    for _ in range(2):
        f(gc.tensor(X)).tolist()
    before = recorder().compiled
    for _ in range(3):
        f(gc.tensor(X)).tolist()
    assert recorder().compiled == before


def test_refusals():
    with pytest.raises(NotImplementedError, match="looks at a value"):
        ours.vmap(lambda a: a * a.sum().item())(gc.ones(2, 2))
    with pytest.raises(RuntimeError, match="same size in the mapped dimension"):
        ours.vmap(lambda a, b: a + b)(gc.ones(2, 2), gc.ones(3, 2))
    with pytest.raises(RuntimeError, match="return a scalar tensor, got tensor with 1 dims"):
        ours.grad(lambda a: a)(gc.ones(2))
    assert ours.grad(lambda a: a * a.item())(gc.tensor(3.0)).item() == 3
