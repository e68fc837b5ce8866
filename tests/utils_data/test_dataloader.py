"""DataLoader: batches, order, workers and what goes wrong in them."""

import itertools
import os
import random
import time

import numpy as np
import pytest

import graphc
from graphc.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    get_worker_info,
)

WORKERS = [0, 2]


class Numbers(Dataset):
    """0.0, 1.0, ... with settings for what goes wrong."""

    def __init__(self, count=10, fails_at=None, error=None, waits=0.0):
        self.count = count
        self.fails_at = fails_at
        self.error = error
        self.waits = waits

    def __getitem__(self, index):
        if index == self.fails_at:
            raise self.error
        time.sleep(self.waits)
        return float(index)

    def __len__(self):
        return self.count


class Stream(IterableDataset):
    """The numbers to ``count``; with workers each gives its part."""

    def __init__(self, count, shared=True):
        self.count = count
        self.shared = shared

    def __iter__(self):
        info = get_worker_info()
        if info is None or not self.shared:
            return iter(range(self.count))
        return iter(range(info.id, self.count, info.num_workers))

    def __len__(self):
        return self.count


class Facts(Dataset):
    """What a worker knows: its number, the process, random numbers."""

    def __getitem__(self, index):
        info = get_worker_info()
        number = -1 if info is None else info.id
        return number, os.getpid(), random.random(), np.random.rand(), graphc.rand(()).item()

    def __len__(self):
        return 4


class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(first, second)


def lists(loader):
    return [batch.tolist() for batch in loader]


@pytest.mark.parametrize("workers", WORKERS)
def test_batches_in_order(workers):
    loader = DataLoader(Numbers(7), batch_size=3, num_workers=workers)
    assert lists(loader) == [[0, 1, 2], [3, 4, 5], [6]]
    assert len(loader) == 3
    whole = DataLoader(Numbers(7), 3, drop_last=True, num_workers=workers)
    assert lists(whole) == [[0, 1, 2], [3, 4, 5]] and len(whole) == 2


def test_shuffled_order_does_not_depend_on_workers():
    orders = []
    for workers in WORKERS:
        graphc.manual_seed(3)
        loader = DataLoader(Numbers(20), 4, shuffle=True, num_workers=workers)
        orders.append([lists(loader), lists(loader)])
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]  # each epoch has its own
    assert sorted(itertools.chain(*orders[0][0])) == list(range(20))


def test_generator_decides_the_order():
    def epoch():
        generator = graphc.Generator().manual_seed(9)
        return lists(DataLoader(Numbers(20), 4, shuffle=True, generator=generator))

    assert epoch() == epoch()


@pytest.mark.parametrize("workers", WORKERS)
def test_single_examples_without_batching(workers):
    loader = DataLoader(Numbers(3), batch_size=None, num_workers=workers)
    assert list(loader) == [0.0, 1.0, 2.0]
    assert DataLoader(Numbers(3), batch_size=None).batch_sampler is None


@pytest.mark.parametrize("workers", WORKERS)
def test_samplers_and_collate_functions(workers):
    loader = DataLoader(Numbers(), sampler=[3, 1, 2], collate_fn=tuple, num_workers=workers)
    assert list(loader) == [(3.0,), (1.0,), (2.0,)]
    loader = DataLoader(Numbers(), batch_sampler=[[5, 4], [3]], collate_fn=sum)
    assert list(loader) == [9.0, 3.0] and len(loader) == 2


@pytest.mark.parametrize("workers", WORKERS)
def test_tensors_travel(workers):
    features = graphc.arange(12.0).reshape(6, 2)
    dataset = TensorDataset(features, graphc.arange(6))
    batches = list(DataLoader(dataset, 4, num_workers=workers))
    assert [x.tolist() for x, _ in batches] == [features[:4].tolist(), features[4:].tolist()]
    assert [y.tolist() for _, y in batches] == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize("workers", WORKERS)
def test_iterable_datasets(workers):
    loader = DataLoader(Stream(7), 2, num_workers=workers)
    assert sorted(itertools.chain(*lists(loader))) == list(range(7))
    whole = DataLoader(Stream(6), 2, drop_last=True)
    assert lists(whole) == [[0, 1], [2, 3], [4, 5]] and len(whole) == 3
    assert len(DataLoader(Stream(7), 2)) == 4
    assert list(DataLoader(Stream(3), batch_size=None)) == [0, 1, 2]


def test_batches_of_iterable_workers_alternate():
    assert lists(DataLoader(Stream(8), 2, num_workers=2)) == [[0, 2], [1, 3], [4, 6], [5, 7]]


def test_more_examples_than_reported_are_warned_of():
    loader = DataLoader(Stream(4, shared=False), 2, num_workers=2)
    assert len(loader) == 2
    with pytest.warns(UserWarning, match="was reported to be 2"):
        assert len(list(loader)) == 4


def test_workers_are_processes_with_their_own_seeds():
    def facts():
        graphc.manual_seed(5)
        return list(DataLoader(Facts(), batch_size=None, num_workers=2))

    first, again = facts(), facts()
    assert [fact[0] for fact in first] == [0, 1, 0, 1]
    assert os.getpid() not in {fact[1] for fact in first}
    assert [fact[2:] for fact in first] == [fact[2:] for fact in again]
    assert all(a != b for a, b in zip(first[0][2:], first[1][2:]))
    assert get_worker_info() is None


def test_worker_init_fn_runs_after_seeding():
    def initialise(worker_id):
        info = get_worker_info()
        assert info.id == worker_id and info.num_workers == 2
        info.dataset.count = 100 + worker_id

    class Count(Numbers):
        def __getitem__(self, index):
            return self.count

    loader = DataLoader(Count(4), 1, num_workers=2, worker_init_fn=initialise)
    assert lists(loader) == [[100], [101], [100], [101]]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyError("wrong"), TwoArguments(1, 2)])
def test_errors_of_workers_come_with_their_traceback(error):
    loader = DataLoader(Numbers(fails_at=2, error=error), num_workers=1)
    kind = RuntimeError if isinstance(error, TwoArguments) else type(error)
    with pytest.raises(kind) as caught:
        list(loader)
    text = str(caught.value)
    assert text.startswith(f"Caught {type(error).__name__} in DataLoader worker process 0.\n")
    assert "in __getitem__\n    raise self.error" in text


def test_iteration_goes_on_after_an_error():
    loader = iter(DataLoader(Numbers(4, fails_at=1, error=ValueError("wrong")), num_workers=2))
    assert next(loader).tolist() == [0.0]
    with pytest.raises(ValueError, match="wrong"):
        next(loader)
    assert [batch.tolist() for batch in loader] == [[2.0], [3.0]]


def test_errors_of_worker_init_fn_are_raised():
    def fail(worker_id):
        raise OSError("no data here")

    with pytest.raises(OSError, match="no data here"):
        list(DataLoader(Numbers(), num_workers=1, worker_init_fn=fail))


def test_what_cannot_be_sent_is_an_error():
    loader = DataLoader(Numbers(2), num_workers=1, collate_fn=lambda batch: lambda: batch)
    with pytest.raises(Exception, match="pickle"):
        list(loader)


def test_a_worker_that_dies_is_reported():
    loader = DataLoader(Numbers(), num_workers=1, worker_init_fn=lambda worker_id: os._exit(3))
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid\(s\) \d+\) exited"):
        list(loader)


def test_timeout():
    loader = DataLoader(Numbers(2, waits=30.0), num_workers=1, timeout=0.2)
    iterator = iter(loader)
    with pytest.raises(RuntimeError, match=r"timed out after 0\.2 seconds"):
        next(iterator)
    for process in iterator._workers.processes:  # else the end would wait for the sleeper
        process.kill()


def test_persistent_workers_are_kept():
    loader = DataLoader(Facts(), batch_size=None, num_workers=2, persistent_workers=True)
    first = {fact[1] for fact in loader}
    next(iter(loader))  # an epoch that is broken off
    assert {fact[1] for fact in loader} == first
    stream = DataLoader(Stream(6), 2, num_workers=2, persistent_workers=True)
    assert lists(stream) == lists(stream) == [[0, 2], [1, 3], [4], [5]]


def test_workers_end_with_the_iterator():
    iterator = iter(DataLoader(Numbers(100), num_workers=2))
    next(iterator)
    processes = iterator._workers.processes
    assert all(process.is_alive() for process in processes)
    del iterator
    assert not any(process.is_alive() for process in processes)


def test_batches_out_of_order_are_all_there():
    loader = DataLoader(Numbers(9), 2, num_workers=2, in_order=False)
    assert sorted(lists(loader)) == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]


def test_spawned_workers():
    loader = DataLoader(Numbers(3), num_workers=1, multiprocessing_context="spawn")
    assert lists(loader) == [[0.0], [1.0], [2.0]]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_workers": -1}, "non-negative"),
        ({"timeout": -1}, "timeout"),
        ({"prefetch_factor": 2}, "prefetch_factor"),
        ({"persistent_workers": True}, "needs num_workers > 0"),
        ({"multiprocessing_context": "fork"}, "multi-process loading"),
        ({"num_workers": 1, "multiprocessing_context": "bend"}, "valid start method"),
        ({"sampler": [1], "shuffle": True}, "mutually exclusive with shuffle"),
        ({"batch_sampler": [[1]], "batch_size": 2}, "batch_sampler option is mutually exclusive"),
        ({"batch_size": None, "drop_last": True}, "drop_last"),
        ({"batch_size": 0}, "positive integer"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Numbers(), **options)


def test_options_of_iterable_datasets_are_checked():
    with pytest.raises(ValueError, match="expected unspecified shuffle option"):
        DataLoader(Stream(3), shuffle=True)
    with pytest.raises(ValueError, match="expected unspecified sampler option"):
        DataLoader(Stream(3), sampler=[1])


def test_options_are_fixed_afterwards():
    loader = DataLoader(Numbers())
    with pytest.raises(ValueError, match="batch_size attribute should not be set"):
        loader.batch_size = 3


def test_too_many_workers_are_warned_of():
    with pytest.warns(UserWarning, match="suggested max number of worker"):
        DataLoader(Numbers(), num_workers=10_000)
