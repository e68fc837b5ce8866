"""Counters of steps: one tensor for parameters at the same step, read again where it may differ."""

import pytest

import graphc as torch

OPTIMIZERS = [torch.optim.Adam, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adagrad]


def stepped(make, count):
    weights = [torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)]
    optimizer = make(weights, lr=0.01)
    return weights, optimizer, [step(weights, optimizer) for _ in range(count)]


def step(weights, optimizer):
    optimizer.zero_grad()
    sum([(w * w).sum() for w in weights]).backward()
    optimizer.step()
    return [w.tolist() for w in weights]


def counters(optimizer):
    return [state["step"] for state in optimizer.state.values()]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_parameters_at_the_same_step_share_a_counter(make):
    _, optimizer, _ = stepped(make, 3)
    first, second = counters(optimizer)
    assert first is second
    assert first.item() == 3


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_counter_that_was_written_is_read_again(make):
    weights, optimizer, _ = stepped(make, 3)
    counters(optimizer)[0].fill_(40)
    step(weights, optimizer)
    assert [c.item() for c in counters(optimizer)] == [41, 41]


def test_a_counter_that_numpy_writes_is_read_again():
    weights, optimizer, _ = stepped(torch.optim.Adam, 3)
    counters(optimizer)[0].numpy()[...] = 40
    step(weights, optimizer)
    seen = counters(optimizer)[0].numpy()
    step(weights, optimizer)
    assert [c.item() for c in counters(optimizer)] == [42, 42]
    assert seen == 41


def test_parameters_at_different_steps_keep_counters_of_their_own():
    weights, optimizer, _ = stepped(torch.optim.Adam, 2)
    optimizer.zero_grad()
    (weights[0] * 2).sum().backward()
    optimizer.step()
    step(weights, optimizer)
    assert [c.item() for c in counters(optimizer)] == [4, 3]


def test_a_loaded_counter_counts_on():
    weights, optimizer, _ = stepped(torch.optim.Adam, 5)
    again = torch.optim.Adam(weights, lr=0.01)
    again.load_state_dict(optimizer.state_dict())
    step(weights, again)
    step(weights, optimizer)
    assert [c.item() for c in counters(again)] == [6, 6]
    assert [c.item() for c in counters(optimizer)] == [6, 6]


def test_a_half_counter_sticks_where_its_numbers_end():
    weights, optimizer, _ = stepped(torch.optim.Adam, 1)
    for state in optimizer.state.values():
        state["step"] = torch.tensor(2047.0, dtype=torch.float16)
    for _ in range(3):
        step(weights, optimizer)
    assert counters(optimizer)[0].item() == 2048


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_state_dict_has_a_counter_for_each_parameter(make):
    weights, optimizer, _ = stepped(make, 3)
    states = optimizer.state_dict()["state"]
    states[0]["step"] += 1
    assert [state["step"].item() for state in states.values()] == [4, 3]
    assert [c.item() for c in counters(optimizer)] == [4, 3]
    step(weights, optimizer)
    assert [c.item() for c in counters(optimizer)] == [5, 4]
