"""Every optimizer against torch: parameters, losses and saved state after some steps."""

import numpy as np
import pytest

import graphc
import graphc.optim

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1, "amsgrad": True}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.7), "eps": 1e-3}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.2}),
    ("Adamax", {"lr": 0.05, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.05}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.05, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.05, "betas": (0.8, 0.9)}),
    ("RMSprop", {"lr": 0.02}),
    ("RMSprop", {"lr": 0.02, "momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.3}),
    ("Adadelta", {"lr": 1.0, "weight_decay": 0.1}),
    ("ASGD", {"lr": 0.1, "t0": 3, "weight_decay": 0.1}),
    ("Rprop", {"lr": 0.05}),
]
STEPS = 8


def problem(library):
    """Two parameters and a loss of them that is not quadratic."""
    rng = np.random.default_rng(0)
    matrix = library.from_numpy(rng.standard_normal((5, 3)).astype(np.float32))
    shapes = ((3, 2), (2,))
    params = [
        library.from_numpy(rng.standard_normal(shape).astype(np.float32)).requires_grad_()
        for shape in shapes
    ]

    def loss():
        return ((matrix @ params[0] + params[1]).tanh() ** 2).mean() + (params[1] ** 4).sum()

    return params, loss


def take_steps(optimizer, loss, count):
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


def case_id(case):
    return f"{case[0]}{case[1]}"


def assert_same_state(ours, theirs):
    """Compare two state dicts of optimizers."""
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for number, expected in theirs["state"].items():
        assert list(ours["state"][number]) == list(expected)
        for name, wanted in expected.items():
            value = ours["state"][number][name]
            assert repr(value.dtype) == repr(wanted.dtype)
            np.testing.assert_allclose(
                value.detach().numpy(), wanted.detach().numpy(), rtol=2e-5, atol=1e-7, err_msg=name
            )


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_steps_as_torch(case):
    name, options = case
    params, loss = problem(graphc)
    optimizer = getattr(graphc.optim, name)(params, **options)
    peer_params, peer_loss = problem(torch)
    # The loop over parameters is the order of operations that we follow.
    peer = getattr(torch.optim, name)(peer_params, foreach=False, **options)
    losses = take_steps(optimizer, loss, STEPS)
    wanted_losses = take_steps(peer, peer_loss, STEPS)
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-6, atol=1e-6)
    for param, wanted in zip(params, peer_params):
        np.testing.assert_allclose(
            param.detach().numpy(), wanted.detach().numpy(), rtol=2e-5, atol=1e-6
        )
    wanted = peer.state_dict()
    for group in wanted["param_groups"]:
        group["foreach"] = None
    assert_same_state(optimizer.state_dict(), wanted)
    assert repr(optimizer) == repr(peer).replace("foreach: False", "foreach: None")


def to_graphc(value):
    if isinstance(value, torch.Tensor):
        return graphc.from_numpy(value.detach().numpy().copy())
    if isinstance(value, dict):
        return {key: to_graphc(inner) for key, inner in value.items()}
    return [to_graphc(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_state_of_torch_is_continued(case):
    name, options = case
    peer_params, peer_loss = problem(torch)
    peer = getattr(torch.optim, name)(peer_params, foreach=False, **options)
    take_steps(peer, peer_loss, 3)
    params, loss = problem(graphc)
    with graphc.no_grad():
        for param, value in zip(params, peer_params):
            param.copy_(to_graphc(value))
    optimizer = getattr(graphc.optim, name)(params, lr=123.0)
    optimizer.load_state_dict(to_graphc(peer.state_dict()))
    assert optimizer.param_groups[0]["lr"] == options["lr"]
    np.testing.assert_allclose(
        take_steps(optimizer, loss, 3), take_steps(peer, peer_loss, 3), rtol=1e-6, atol=1e-6
    )


def lbfgs_steps(library, search):
    """Return losses, parameters and the number of evaluations of three steps."""
    params, loss = problem(library)
    optimizer = library.optim.LBFGS(params, lr=0.5, line_search_fn=search, history_size=4)

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    losses = [optimizer.step(closure).item() for _ in range(3)]
    evaluations = optimizer.state_dict()["state"][0]["func_evals"]
    return losses, [param.detach().numpy() for param in params], evaluations


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_as_torch(search):
    losses, params, evaluations = lbfgs_steps(graphc, search)
    wanted_losses, wanted_params, wanted_evaluations = lbfgs_steps(torch, search)
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-4, atol=1e-8)
    for param, wanted in zip(params, wanted_params):
        np.testing.assert_allclose(param, wanted, rtol=1e-3, atol=1e-4)
    assert evaluations == wanted_evaluations


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "Adamax"])
def test_complex_parameters_as_torch(name):
    start = np.array([1 + 2j, -0.5 + 0.25j], np.complex64)
    finals = []
    for library in (graphc, torch):
        param = library.from_numpy(start.copy()).requires_grad_()
        options = {"foreach": False} if library is torch else {}
        optimizer = getattr(library.optim, name)([param], lr=0.1, **options)
        for _ in range(4):
            optimizer.zero_grad()
            (param * param.conj()).real.sum().backward()
            optimizer.step()
        finals.append(param.detach().numpy())
    np.testing.assert_allclose(finals[0], finals[1], rtol=1e-5, atol=1e-6)
