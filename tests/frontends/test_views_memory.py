"""Memory that others see: numpy arrays on tensors and tensors on numpy arrays."""

import gc

import numpy as np
import pytest

import graphc as torch
import graphc.nn as nn
from graphc.frontends.record import recorder


def test_numpy_and_tensor_see_each_others_writes():
    x = torch.zeros(2, 3)
    array = x.numpy()
    array[1, 2] = 5
    assert x.tolist() == [[0, 0, 0], [0, 0, 5]]
    x.add_(1)
    assert array.tolist() == [[1, 1, 1], [1, 1, 6]]
    x[0] = 9.0
    assert array[0].tolist() == [9, 9, 9]
    assert x.data_ptr() == array.ctypes.data


def test_a_view_of_a_tensor_as_an_array():
    x = torch.arange(12.0).reshape(3, 4)
    array = x.t()[1:, ::2].numpy()
    assert array.tolist() == [[1, 9], [2, 10], [3, 11]]
    array[:] = 0
    assert x.tolist() == [[0, 0, 0, 0], [4, 5, 6, 7], [8, 0, 0, 0]]
    x[0, 1] = -1
    assert array[0, 0] == -1


def test_a_recorded_read_is_a_snapshot():
    array = np.zeros(3, np.float32)
    x = torch.from_numpy(array)
    y = x + 1
    view = x[1:] * 2
    array[:] = 7
    z = x + 1
    assert y.tolist() == [1, 1, 1] and z.tolist() == [8, 8, 8] and view.tolist() == [0, 0]


def test_writes_to_from_numpy_memory_go_through():
    array = np.arange(4, dtype=np.float32)
    x = torch.from_numpy(array)
    x.mul_(2)
    x[1:3] += 10
    assert array.tolist() == [0, 12, 14, 6]
    y = torch.from_numpy(array[::1].reshape(2, 2).T)
    y[0, 1] = -5
    assert array.tolist() == [0, 12, -5, 6]
    assert torch.as_tensor(array).data_ptr() == array.ctypes.data
    assert torch.tensor(array).data_ptr() != array.ctypes.data


def test_the_array_keeps_the_memory_alive_and_its_end_ends_the_export():
    x = torch.ones(1000) * 3
    array = x.numpy()
    assert x._storage.exported()
    address = array.ctypes.data
    del array
    assert not x._storage.exported()
    other = x.numpy()
    assert other.ctypes.data == address
    del x
    gc.collect()
    torch.full((1000,), 8.0).tolist()
    assert other.tolist() == [3.0] * 1000


def test_a_shared_value_is_copied_before_it_is_shown():
    x = torch.ones(3)
    y = x.clone()
    kept = x.detach()
    pending = x * 2
    array = x.numpy()
    array[:] = 4
    assert y.tolist() == [1, 1, 1] and pending.tolist() == [2, 2, 2]
    assert kept.tolist() == [4, 4, 4]


def test_values_kept_for_a_backward_do_not_change_with_the_memory():
    w = torch.full((3,), 2.0, requires_grad=True)
    x = torch.ones(3)
    loss = (w * x * w).sum()
    loss.item()
    x.numpy()[:] = 100
    loss.backward()
    assert w.grad.tolist() == [4, 4, 4]


def steps(touch):
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.linspace(-1, 1, 12).reshape(3, 4)
    kept, losses = [], []
    for i in range(6):
        optimizer.zero_grad()
        loss = model(x).pow(2).sum()
        loss.backward()
        optimizer.step()
        touch(model, i, kept)
        losses.append(loss.item())
    return losses, [p.tolist() for p in model.parameters()]


def test_training_after_a_look_at_the_weights_is_the_same():
    def touch(model, i, kept):
        if i == 1:
            kept.append(model.weight.detach().numpy())
        if kept:
            assert kept[0].tolist() == model.weight.tolist()

    assert steps(touch) == steps(lambda *_: None)


def test_weights_written_from_numpy_train_on():
    def by_numpy(model, i, kept):
        if i == 2:
            model.weight.detach().numpy()[:] = 0.5

    def by_tensor(model, i, kept):
        if i == 2:
            with torch.no_grad():
                model.weight.fill_(0.5)

    assert steps(by_numpy) == steps(by_tensor)


def test_an_epoch_over_slices_of_an_array_compiles_a_few_times():
    data = torch.from_numpy(np.linspace(0, 1, 400, dtype=np.float32).reshape(100, 4))
    w = torch.ones(4, requires_grad=True)
    w.tolist()
    before = recorder().compiled
    for k in range(0, 100, 5):
        batch = data[k : k + 5]
        w.grad = None
        (batch @ w).sum().backward()
        np.testing.assert_allclose(w.grad.numpy(), batch.numpy().sum(0), rtol=1e-5)
    assert recorder().compiled - before <= 6


def test_dlpack_shares_memory_both_ways():
    x = torch.arange(6.0).reshape(2, 3)
    array = np.from_dlpack(x)
    x[0, 0] = 9
    assert array[0, 0] == 9 and array.ctypes.data == x.data_ptr()
    source = np.arange(4, dtype=np.float32)
    y = torch.from_dlpack(source)
    source[0] = 7
    y[3] = -1
    assert y.tolist() == [7, 1, 2, -1] and source[3] == -1


def test_arrays_that_cannot_be_shared():
    with pytest.raises(ValueError, match="negative"):
        torch.from_numpy(np.arange(4.0)[::-1])
    with pytest.raises(TypeError):
        torch.from_numpy([1, 2])
    with pytest.raises(TypeError):
        torch.from_numpy(np.array(["a"]))


def test_memory_does_not_require_grad_after_a_detached_leaf_on_it_is_gone():
    x, m = torch.arange(4.0), torch.full((4,), 2.0)
    for factor in (1.4, 1.96, 2.744):
        leaf = x.detach().requires_grad_()
        (leaf * leaf * m).sum().backward()
        gradient = leaf.grad
        del leaf
        assert not x.requires_grad and not x.detach().requires_grad and not x[1:].requires_grad
        x.add_(gradient * 0.1)
        np.testing.assert_allclose(x.numpy(), np.arange(4) * factor, rtol=1e-6)


@pytest.mark.parametrize("gone", ["deleted", "detached"])
def test_views_of_a_detached_leaf_lead_to_it_after_it_is_gone(gone):
    x = torch.arange(4.0)
    leaf = x.detach().requires_grad_()
    view = leaf[1:]
    if gone == "deleted":
        del leaf
    else:
        leaf.detach_()
        assert not leaf.requires_grad
    assert view.requires_grad and not x.requires_grad
    x.add_(1)
    assert (view * 2).requires_grad and not (x * 2).requires_grad
    np.testing.assert_array_equal(view.detach().numpy(), [2, 3, 4])
