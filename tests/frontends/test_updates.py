"""Updates of many tensors as one predicted step: what is compared, and where results go."""

import pytest

import graphc as torch
from graphc.frontends import updates

RATES = (
    [0.1] * 14 + [0.1 / (i + 2) for i in range(14)] + [0.5, 0.5, 0.25, 1.0, 0.25, 0.0, -0.0, 0.1]
)


@pytest.fixture
def taken(counting):
    """Counts the updates that were predicted."""
    return counting(updates, "_taken")


def problem():
    weights = [torch.linspace(-1, 1, n, requires_grad=True) for n in (3, 5)]
    return weights, lambda: sum([(w * w.sin()).sum() for w in weights]).backward()


def trained(steps):
    """A problem and its optimizer, whose updates are predicted by now."""
    weights, backward = problem()
    optimizer = torch.optim.SGD(weights, lr=0.125)
    for _ in range(steps):
        optimizer.zero_grad()
        backward()
        optimizer.step()
    return weights, backward, optimizer


def by_hand(weights, buffers, rate):
    with torch.no_grad():
        for i, w in enumerate(weights):
            buffers[i] = w.grad.clone() if buffers[i] is None else buffers[i] * 0.9 + w.grad
            w.add_(buffers[i], alpha=-rate)
            w.grad = None


def test_bits_are_those_of_updates_one_by_one_whatever_the_rate(taken):
    weights, backward = problem()
    twins, twins_backward = problem()
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9)
    buffers = [None, None]
    for rate in RATES:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        backward()
        optimizer.step()
        twins_backward()
        by_hand(twins, buffers, rate)
        for w, twin in zip(weights, twins, strict=True):
            assert w.tolist() == twin.tolist()
    assert taken[0] >= 10


def test_adam_with_numbers_of_each_step_is_predicted(taken):
    weights, backward = problem()
    optimizer = torch.optim.Adam(weights, lr=0.01)
    compiled = []
    for _ in range(30):
        optimizer.zero_grad()
        backward()
        optimizer.step()
        compiled.append(torch.frontends.record.recorder().compiled)
    assert taken[0] >= 15
    assert compiled[-1] == compiled[10]


def test_exported_memory_shows_predicted_updates(taken):
    weights, backward, optimizer = trained(15)
    seen, before = weights[0].detach().numpy(), taken[0]
    for _ in range(15):
        optimizer.zero_grad()
        backward()
        optimizer.step()
        assert seen.tolist() == weights[0].tolist()
    assert before > 0


def test_a_backward_that_saved_a_weight_learns_of_a_predicted_update(taken):
    weights, backward, optimizer = trained(15)
    before = taken[0]
    backward()
    loss = (weights[0] * weights[0]).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    assert before > 0


def test_other_gradients_are_not_taken_for_the_predicted_ones(taken):
    weights, backward = problem()
    optimizer = torch.optim.SGD(weights, lr=0.125)
    for _ in range(15):
        backward()
        optimizer.step()
        optimizer.zero_grad()
    weights[1].grad = torch.ones(5)
    wanted = (weights[0].detach() - 0.125).tolist()
    weights[0].grad = weights[1].grad[:3]
    optimizer.step()
    assert weights[0].tolist() == wanted
