"""Views whose step is predicted are views as any other."""

import pytest

import graphc as torch
from graphc.frontends import predict
from graphc.frontends.record import Cell
from graphc.frontends.steps import steps


@pytest.fixture
def taken(monkeypatch, fresh_recorder):
    """Counts the views that were predicted, by compiled code or by Python."""
    torch.zeros(1).add(1).tolist()  # something is compiled
    found, compiled, of_python = [0], steps.predict, predict.take_view

    def counted(*args):
        made = compiled(*args)
        found[0] += isinstance(made, Cell)
        return made

    def take_view(*args):
        found[0] += 1
        return of_python(*args)

    monkeypatch.setattr(steps, "predict", counted)
    monkeypatch.setattr(predict, "take_view", take_view)
    return found


def test_writes_go_both_ways(taken):
    for i in range(12):
        x = torch.zeros(2, 3)
        flat = x.reshape(-1)
        flat += i
        x[1] *= 2
        assert flat.tolist() == [i, i, i, 2 * i, 2 * i, 2 * i]
        assert flat.data_ptr() == x.data_ptr()
    assert taken[0] >= 6


def test_what_cannot_be_a_view_is_a_copy_and_view_refuses_it(taken):
    for _ in range(12):
        x = torch.zeros(2, 3)
        flat = x.t().reshape(6)
        flat += 1
        assert x.tolist() == [[0, 0, 0], [0, 0, 0]]
        with pytest.raises(RuntimeError, match="view size is not compatible"):
            x.t().view(6)
    assert taken[0] >= 6


def test_modes_and_detach_are_told_apart(taken):
    w = torch.ones(2, 2, requires_grad=True)
    for i in range(24):
        recorded = i % 3 > 0
        with torch.set_grad_enabled(recorded):
            y = (w * 2).reshape(4)
        cut = y.detach()
        assert (y.requires_grad, cut.requires_grad) == (recorded, False)
        if recorded:
            cut.mul_(3)
            (gradient,) = torch.autograd.grad(y.sum(), w)
            assert gradient.tolist() == [[2, 2], [2, 2]]
        assert y.tolist() == [6 if recorded else 2] * 4
    assert taken[0] >= 6


def test_exported_memory_is_read_anew(taken):
    x = torch.zeros(2, 2)
    seen = x.numpy()
    for i in range(12):
        seen[0, 0] = i
        assert (x.reshape(4) + 1).tolist() == [i + 1, 1, 1, 1]
        assert x.reshape(4).detach().sum().item() == i
    assert taken[0] >= 6


def test_a_detach_of_a_computed_tensor_records_nothing_and_shares_memory():
    w = torch.ones(3, requires_grad=True)
    y = w * 2
    y.tolist()
    rec = torch.frontends.record.recorder()
    before = rec.state
    cut = y.detach()
    assert rec.state is before
    assert (cut.requires_grad, cut.is_leaf, cut._version) == (False, True, 0)
    cut += 1
    assert y.tolist() == cut.tolist() == [3, 3, 3]
    assert y._version == cut._version == 1
    seen = cut.numpy()
    y.data.mul_(2)
    assert seen.tolist() == [6, 6, 6]


def test_a_backward_learns_of_a_write_to_a_detached_tensor():
    w = torch.ones(3, requires_grad=True)
    y = w * 2
    y.tolist()
    z = (y * y).sum()
    y.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.backward()


def test_a_detach_in_inference_mode_stays_there():
    with torch.inference_mode():
        x = torch.ones(2)
        x.tolist()
        assert x.detach().is_inference()
    assert x.detach().is_inference()
    y = torch.ones(2)
    y.tolist()
    with torch.inference_mode():
        assert not y.detach().is_inference()
