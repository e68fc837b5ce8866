"""Processes with more threads than there are cores, and forked children: right, and in time.

`python -m tests.load` does the same at length.
"""

import faulthandler
import os
import threading

import pytest

import graphc as torch
from graphc.utils.data import DataLoader, Dataset
from tests import load


def forks(test):
    warned = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    return pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")(warned(test))


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_processes_of_more_threads_than_cores_give_the_bits_of_one_thread():
    assert load.many_processes(processes=3, threads=4, rounds=2, timeout_s=120) == []


@forks
def test_children_that_are_forked_while_threads_work_compute_the_same(four_threads):
    assert load.forks(rounds=2, threads=4) == []


class Images(Dataset):
    """Items that are computed on several threads in the worker."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        image = torch.full((3, 64, 64), float(index))
        return torch.nn.functional.conv2d(image, torch.ones(8, 3, 3, 3)).sum((1, 2))


@forks
def test_workers_that_load_data_compute_after_the_pool_has_started(four_threads):
    expected = torch.stack([Images()[k] for k in range(12)])
    (torch.ones(500, 700) @ torch.ones(700, 600)).sum().item()  # the pool runs
    for _ in range(2):
        batches = list(DataLoader(Images(), batch_size=3, num_workers=2, timeout=60))
        assert torch.equal(torch.cat(batches), expected)


@forks
def test_a_child_draws_though_a_thread_was_drawing_when_it_was_forked():
    generator, ended = torch.Generator().manual_seed(1), threading.Event()

    def draw():
        while not ended.is_set():
            torch.randn(500, 1000)
            torch.rand(500, 1000, generator=generator)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                faulthandler.dump_traceback_later(20, exit=True)
                torch.manual_seed(0)
                fine = torch.rand(4).sum().item() > 0
                fine = fine and torch.rand(4, generator=generator).sum().item() > 0
                os._exit(0 if fine else 2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        ended.set()
        thread.join()
