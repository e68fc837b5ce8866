"""Parameter groups, hooks, saving and loading of optimizers."""

import copy
import pickle

import pytest

import graphc
from graphc.optim import SGD, Adam, Optimizer
from graphc.optim.optimizer import register_optimizer_step_post_hook


def leaf(*values):
    return graphc.tensor(values, requires_grad=True)


def one_step(optimizer, *params):
    for param in params:
        (param**2).sum().backward()
    optimizer.step()


def test_sgd_moves_against_the_gradient():
    param = leaf(1.0, -2.0)
    one_step(SGD([param], lr=0.25), param)
    assert param.tolist() == [0.5, -1.0]


def test_adam_first_step_has_the_length_of_the_rate():
    param = leaf(1.0, -3.0)
    one_step(Adam([param], lr=0.125), param)
    assert param.tolist() == pytest.approx([0.875, -2.875], abs=1e-6)


def test_groups_take_options_of_their_own():
    first, second = leaf(1.0), leaf(1.0)
    optimizer = SGD([{"params": first}, {"params": [second], "lr": 0.5}], lr=0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.5]
    one_step(optimizer, first, second)
    assert (first.item(), second.item()) == (0.5, 0.0)
    assert repr(optimizer).startswith("SGD (\nParameter Group 0\n    dampening: 0\n")


def test_named_parameters_keep_their_names():
    first, second = leaf(1.0), leaf(2.0)
    optimizer = SGD([("a", first), ("b", second)], lr=0.1)
    assert optimizer.param_groups[0]["param_names"] == ["a", "b"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["a", "b"]
    with pytest.raises(ValueError, match="with/without names"):
        optimizer.add_param_group({"params": [leaf(3.0)]})


def test_wrong_parameters_are_refused():
    param = leaf(1.0)
    with pytest.raises(TypeError, match="iterable of Tensors"):
        SGD(param, lr=0.1)
    with pytest.raises(ValueError, match="empty parameter list"):
        SGD([], lr=0.1)
    with pytest.raises(TypeError, match="can only optimize Tensors"):
        SGD([1.0], lr=0.1)
    with pytest.raises(ValueError, match="non-leaf"):
        SGD([param * 2], lr=0.1)
    with pytest.raises(TypeError, match="ordered collections"):
        SGD([{"params": {param}}], lr=0.1)
    optimizer = SGD([param], lr=0.1)
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [param]})
    with pytest.raises(TypeError, match="must be a dict"):
        optimizer.add_param_group([param])


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda p: SGD(p, lr=-1.0), "Invalid learning rate: -1.0"),
        (lambda p: SGD(p, momentum=-1.0), "Invalid momentum value"),
        (lambda p: SGD(p, nesterov=True), "Nesterov momentum requires"),
        (lambda p: Adam(p, betas=(1.0, 0.9)), "Invalid beta parameter at index 0"),
        (lambda p: Adam(p, eps=-1.0), "Invalid epsilon value"),
    ],
)
def test_options_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build([leaf(1.0)])


def test_closure_is_run_with_gradients_and_its_loss_returned():
    param = leaf(3.0)
    optimizer = SGD([param], lr=0.5)

    def closure():
        assert graphc.is_grad_enabled()
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss

    with graphc.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert param.item() == 0.0


def test_zero_grad_drops_or_zeroes():
    param = leaf(3.0)
    optimizer = SGD([param], lr=0.5)
    (param * 2).sum().backward()
    grad = param.grad
    optimizer.zero_grad(set_to_none=False)
    assert param.grad is grad and grad.item() == 0.0
    optimizer.zero_grad()
    assert param.grad is None


def test_step_hooks_run_around_the_step():
    param = leaf(1.0)
    optimizer = SGD([param], lr=0.5)
    calls = []
    before = optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("before"))
    after = optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))
    everywhere = register_optimizer_step_post_hook(lambda o, a, k: calls.append("everywhere"))
    one_step(optimizer, param)
    assert calls == ["before", "after", "everywhere"]
    for handle in (before, after, everywhere):
        handle.remove()
    optimizer.step()
    assert len(calls) == 3


def test_state_dict_hooks():
    optimizer = SGD([leaf(1.0)], lr=0.5)
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "extra": 1})
    seen = []
    optimizer.register_load_state_dict_pre_hook(lambda o, state: seen.append(state["extra"]))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == [1, "loaded"]


@pytest.mark.parametrize("transfer", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_continue_alike(transfer):
    param = leaf(1.0, 2.0)
    optimizer = Adam([param], lr=0.1)
    one_step(optimizer, param)
    other = transfer(optimizer)
    (other_param,) = other.param_groups[0]["params"]
    assert other_param is not param
    optimizer.zero_grad(), other.zero_grad()
    one_step(optimizer, param)
    one_step(other, other_param)
    assert param.tolist() == other_param.tolist()


def test_state_dict_round_trip_continues_alike():
    first, second = leaf(1.0, 2.0), leaf(1.0, 2.0)
    optimizer, other = Adam([first], lr=0.1), Adam([second], lr=0.7)
    for _ in range(2):
        optimizer.zero_grad()
        one_step(optimizer, first)
    with graphc.no_grad():
        second.copy_(first)
    state = copy.deepcopy(optimizer.state_dict())  # else both would move the same averages
    assert state["state"][0]["step"].item() == 2.0
    other.load_state_dict(state)
    optimizer.zero_grad()
    one_step(optimizer, first)
    one_step(other, second)
    assert first.tolist() == second.tolist()


def test_a_state_of_other_groups_is_refused():
    optimizer = SGD([leaf(1.0)], lr=0.1)
    pair = SGD([leaf(1.0), leaf(2.0)], lr=0.1)
    with pytest.raises(ValueError, match="doesn't match the size"):
        optimizer.load_state_dict(pair.state_dict())
    groups = SGD([{"params": [leaf(1.0)]}, {"params": [leaf(2.0)]}], lr=0.1)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(groups.state_dict())


def test_optimizers_of_users_need_only_a_step():
    class Halve(Optimizer):
        def __init__(self, params):
            super().__init__(params, {"factor": 0.5})

        @graphc.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for param in group["params"]:
                    param.mul_(group["factor"])

    param = leaf(4.0)
    optimizer = Halve([param])
    calls = []
    optimizer.register_step_post_hook(lambda *args: calls.append(1))
    optimizer.step()
    assert param.item() == 2.0 and calls == [1]


def test_differentiable_steps_are_recorded():
    rate = graphc.tensor(0.5, requires_grad=True)
    start = graphc.tensor([2.0], requires_grad=True)
    param = start * rate
    param.retain_grad()
    optimizer = SGD([param], lr=0.25, differentiable=True)
    (param**2).sum().backward(retain_graph=True, create_graph=False)
    optimizer.step()
    rate.grad = None
    param.sum().backward()
    assert rate.grad.item() == 2.0
