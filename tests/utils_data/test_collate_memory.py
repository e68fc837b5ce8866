"""Batches of tensors that are computed already are made without a compile."""

import numpy as np

import graphc as torch
from graphc.frontends.record import recorder
from graphc.utils.data import DataLoader, TensorDataset, default_collate


def test_computed_examples_are_stacked_in_memory():
    points = torch.tensor(np.arange(40.0).reshape(20, 2))
    loader = DataLoader(TensorDataset(points, torch.tensor(range(20))), batch_size=6)
    before = recorder().compiled
    rows, numbers = [], []
    for batch in loader:
        rows += batch[0].tolist()
        numbers += batch[1].tolist()
    assert recorder().compiled == before
    assert rows == np.arange(40.0).reshape(20, 2).tolist()
    assert numbers == list(range(20))


def test_what_is_pending_or_requires_grad_is_recorded():
    weight = torch.ones(2, requires_grad=True)
    batch = default_collate([weight * 2, weight * 3])
    assert batch.requires_grad
    batch.sum().backward()
    assert weight.grad.tolist() == [5.0, 5.0]


def test_views_are_looked_at_in_memory():
    x = torch.tensor(np.arange(12.0).reshape(3, 4))
    before = recorder().compiled
    assert [x[i, 2].item() for i in range(3)] == [2.0, 6.0, 10.0]
    assert x.t()[1:3].tolist() == [[1.0, 5.0, 9.0], [2.0, 6.0, 10.0]]
    assert x.detach().tolist() == x.numpy().tolist()
    assert recorder().compiled == before
    view = x[1:]
    x.mul_(2)
    assert view.tolist() == (np.arange(12.0).reshape(3, 4)[1:] * 2).tolist()
