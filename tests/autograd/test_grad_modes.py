"""Views made while no gradients are recorded, and inference tensors, as in torch 2.13."""

import pytest

import graphc as torch

MODES = {"no_grad": torch.no_grad, "inference": torch.inference_mode}


@pytest.fixture(params=MODES)
def mode(request):
    return MODES[request.param]


def leaf(values=(1.0, 2.0, 3.0)):
    return torch.tensor(values, requires_grad=True)


def test_a_view_made_without_gradients_requires_grad_and_is_a_leaf(mode):
    w = leaf()
    y, x = w * 2, torch.ones(3)
    with mode():
        views = w[1:], y[1:], x[1:], y.detach()[1:]
    assert [v.requires_grad for v in views] == [True, True, False, False]
    assert all(v.is_leaf and v.grad_fn is None and not v.is_inference() for v in views)
    later = views[1][:1]
    assert later.requires_grad and not later.is_leaf and later.grad_fn is not None


@pytest.mark.parametrize("look", [False, True])
def test_its_gradient_is_lost(mode, look):
    w = leaf()
    with mode():
        view = w[1:]
    if look:
        view.tolist()
    for _ in range(2):
        (view * view).sum().backward()
    assert w.grad is None and view.grad is None
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad((view * view).sum(), view)


def test_a_write_through_it_that_is_recorded_raises(mode):
    y, x = leaf() * 2, torch.ones(3)
    with mode():
        view, plain = y[1:], x[1:]
    with pytest.raises(RuntimeError, match="A view was created in .* and is being modified"):
        view.add_(1)
    plain.add_(1)
    with pytest.raises(RuntimeError, match="A view was created in .* and is being modified"):
        plain.add_(y[1:])
    assert x.tolist() == [1.0, 2.0, 2.0]


def test_it_may_be_looked_at_but_not_used_once_its_base_was_written(mode):
    y = leaf() * 2
    with mode():
        view = y[1:]
        y.add_(1)
        assert (view * 2).tolist() == [10.0, 14.0]
    assert view.tolist() == view.detach().tolist() == [5.0, 7.0] and view.requires_grad
    assert str(view) == "tensor([5., 7.], grad_fn=<Invalid>)"
    for use in (lambda: view * 2, lambda: view[:1], lambda: view.is_leaf, view.clone):
        with pytest.raises(RuntimeError, match="its base or another view of its base has been"):
            use()


def test_a_base_that_is_frozen_freezes_it():
    w = leaf()
    with torch.no_grad():
        view = w[1:]
    w.requires_grad_(False)
    assert not view.requires_grad and not (view * 2).requires_grad
    w.requires_grad_()
    assert view.requires_grad and view.is_leaf


def test_only_what_a_derivative_reads_saves_an_inference_tensor():
    w = leaf()
    with torch.inference_mode():
        x = torch.full((3,), 2.0)
    for use in (
        lambda: x + w, lambda: torch.where(w > 0, x, w), lambda: torch.lerp(x, w, 0.5),
        lambda: w.index_add(0, torch.tensor([0, 1, 2]), x), lambda: torch.addcmul(w, x, x),
    ):  # fmt: skip
        assert use().requires_grad
    assert (w > x).tolist() == [False, False, True]
    for use in (lambda: x * w, lambda: w / x, lambda: x / w, lambda: torch.maximum(x, w)):
        with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
            use()


def test_a_write_to_an_inference_tensor_is_made_and_then_refused():
    with torch.inference_mode():
        x = torch.ones(3)
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        x[1:].add_(1)
    assert x.tolist() == [1.0, 2.0, 2.0]


def test_a_detached_inference_tensor_counts_its_own_writes():
    with torch.inference_mode():
        x = torch.ones(3)
    y = x.detach()
    y.add_(1)
    assert y.is_inference() and y._version == 1 and x.tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(RuntimeError, match="do not track version counter"):
        y[1:]._version
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        y[1:].add_(1)


def test_memory_that_numpy_sees_stays_of_inference_mode():
    with torch.inference_mode():
        x = torch.ones(3)
    array = x.numpy()
    with torch.inference_mode():
        again = torch.from_numpy(array)
    assert x.is_inference() and again.is_inference()
    assert not torch.from_numpy(array).is_inference()


def test_a_part_of_several_may_not_be_used_once_its_base_was_written():
    y = leaf() * 2
    first, *_ = y.unbind(0)
    y.add_(1)
    with pytest.raises(RuntimeError, match="Output 0 of .* is a view and its base"):
        first * 2


def test_a_view_made_without_gradients_is_saved_as_its_base_is():
    w, x = leaf((1.0, 2.0)), torch.ones(3)
    with torch.no_grad():
        view = x[1:]
    loss = (view * w).sum()
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
