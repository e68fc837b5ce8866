"""Samplers draw the same indices as torch."""

import pytest

import graphc
import graphc.utils.data as gdata

torch = pytest.importorskip("torch")
tdata = torch.utils.data
pytestmark = pytest.mark.peer

CASES = {
    "sequential": lambda data, g: data.SequentialSampler(range(5)),
    "random": lambda data, g: data.RandomSampler(range(9)),
    "generator": lambda data, g: data.RandomSampler(range(9), generator=g),
    "more": lambda data, g: data.RandomSampler(range(4), num_samples=11),
    "fewer": lambda data, g: data.RandomSampler(range(9), num_samples=4),
    "replacement": lambda data, g: data.RandomSampler(range(9), True, 70),
    "subset": lambda data, g: data.SubsetRandomSampler([3, 1, 4, 1, 5], generator=g),
    "weighted": lambda data, g: data.WeightedRandomSampler([0.1, 0.0, 3.0, 1.0], 20),
    "weighted once": lambda data, g: data.WeightedRandomSampler([0.1, 5.0, 3.0], 3, False),
    "batches": lambda data, g: data.BatchSampler(range(7), 3, False),
    "whole batches": lambda data, g: data.BatchSampler(range(7), 3, True),
    "replica": lambda data, g: data.DistributedSampler(range(7), 3, 1, seed=4),
    "replica in order": lambda data, g: data.DistributedSampler(range(7), 3, 2, False),
    "whole replica": lambda data, g: data.DistributedSampler(range(8), 3, 0, drop_last=True),
    "few for replicas": lambda data, g: data.DistributedSampler(range(2), 7, 6),
}


def draw(library, data, build):
    library.manual_seed(5)
    sampler = build(data, library.Generator().manual_seed(6))
    epochs = []
    for epoch in range(2):
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    return len(sampler), epochs, library.rand(2).tolist()


@pytest.mark.parametrize("build", CASES.values(), ids=CASES)
def test_indices_as_torch(build):
    assert draw(graphc, gdata, build) == draw(torch, tdata, build)


def test_random_split_as_torch():
    results = []
    for library, data in ((graphc, gdata), (torch, tdata)):
        library.manual_seed(3)
        results.append([part.indices for part in data.random_split(range(10), [0.5, 0.3, 0.2])])
    assert results[0] == results[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_draws_as_torch(workers):
    results = []
    for library, data in ((graphc, gdata), (torch, tdata)):
        library.manual_seed(11)
        loader = data.DataLoader(range(10), 3, shuffle=True, num_workers=workers)
        batches = [batch.tolist() for _ in range(2) for batch in loader]
        results.append((batches, library.rand(2).tolist()))
    assert results[0] == results[1]


@pytest.mark.parametrize("base_seed, worker", [(0, 0), (123456789012345, 3), (2**62 + 5, 1)])
def test_numpy_is_seeded_as_torch(base_seed, worker):
    from torch.utils.data._utils.worker import _generate_state

    from graphc.utils.data.worker import numpy_seed

    assert numpy_seed(base_seed, worker).tolist() == _generate_state(base_seed, worker)


@pytest.mark.parametrize(
    "build, error",
    [
        (lambda: gdata.RandomSampler(range(3), num_samples=0), ValueError),
        (lambda: gdata.RandomSampler(range(3), replacement=1), TypeError),
        (lambda: gdata.WeightedRandomSampler([[0.1]], 1), ValueError),
        (lambda: gdata.BatchSampler(range(3), True, False), ValueError),
        (lambda: gdata.BatchSampler(range(3), 2, 1), ValueError),
        (lambda: gdata.DistributedSampler(range(3), 2, 2), ValueError),
    ],
)
def test_settings_are_checked(build, error):
    with pytest.raises(error):
        build()
