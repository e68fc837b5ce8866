"""`set_num_threads` holds for what is compiled already, from its next call on, with equal bits."""

import os
import sys
import threading

import numpy as np
import pytest

import graphc as torch
from graphc.backends.llvm import pool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")


@pytest.fixture(autouse=True)
def one_thread_first():
    before = torch.config.num_threads
    torch.set_num_threads(1)
    yield
    torch.config.num_threads = before


def running() -> int:
    """Threads of this process: the pool's start with the first job that can use them, and leave
    when fewer are wanted."""
    return len(os.listdir("/proc/self/task"))


def normal(*shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))


X = (256, 512)


def chain(x):
    return (x * 2 + 1).tanh() * x


def of_product():
    w = normal(512, 256, seed=1)
    return lambda x: (x @ w).relu()


def eager():
    return lambda x: chain(x).numpy()


def eager_of_any_length():
    """Sizes are symbols after two lengths."""

    def call(x):
        return chain(x).numpy()

    for rows in (200, 300, 400):
        call(normal(rows, 512))
    return call


def eager_with_kept_weights():
    product = of_product()

    def call(x):
        with torch.no_grad():
            return product(x).numpy()

    for _ in range(6):
        call(normal(*X))
    return call


def compiled():
    function = torch.compile(chain)
    return lambda x: function(x).numpy()


def traced():
    with torch.no_grad():
        module = torch.jit.trace(of_product(), (normal(*X),))
    return lambda x: module(x).numpy()


def loaded(tmp_path):
    with torch.no_grad():
        torch.jit.trace(of_product(), (normal(*X),)).save(str(tmp_path / "m.gcx"))
    module = torch.jit.load(str(tmp_path / "m.gcx"))
    return lambda x: module(x).numpy()


def scanned():
    """The kernels of a block, which the kernel of its `scan` calls."""
    torch.manual_seed(0)
    model = torch.nn.LSTM(512, 256)

    def call(x):
        with torch.no_grad():
            return model(x.reshape(4, 64, 512))[0].numpy()

    return call


def trained():
    """Updates in parts, which write over what they replace."""

    def call(x):
        torch.manual_seed(0)
        model = torch.nn.Linear(512, 256)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return model.weight.detach().numpy()

    return call


WAYS = [eager, eager_of_any_length, eager_with_kept_weights, compiled, traced, loaded, scanned]


@pytest.mark.parametrize("way", [*WAYS, trained], ids=lambda way: way.__name__)
def test_the_next_call_runs_on_as_many_threads_as_are_set(way, tmp_path):
    call = way(tmp_path) if way is loaded else way()
    x = normal(*X, seed=2)
    x.tolist()
    wanted = [call(x).tobytes() for _ in range(6)]  # kept weights are packed at the fourth call
    alone = running()
    for threads in (3, 1, 2):
        torch.set_num_threads(threads)
        assert running() == alone
        for _ in range(3):
            assert call(x).tobytes() == wanted[0]
        assert running() == alone + threads - 1
        torch.set_num_threads(1)
        assert call(x).tobytes() == wanted[0] == wanted[-1]


def test_nothing_is_compiled_again():
    from graphc.frontends.record import recorder

    call, x = eager(), normal(*X)
    call(x)
    before = recorder().compiled
    for threads in (2, 3, 1):
        torch.set_num_threads(threads)
        call(x)
    assert recorder().compiled == before


def test_a_count_of_zero_is_one_a_core():
    call, x = traced(), normal(*X)
    call(x)
    alone = running()
    torch.config.num_threads = 4
    call(x)
    assert running() == alone + 3
    torch.config.num_threads = 0
    call(x)
    assert torch.get_num_threads() == pool.default_threads()
    assert running() == alone + pool.default_threads() - 1


@pytest.mark.parametrize("way", [eager, traced, scanned], ids=lambda way: way.__name__)
def test_counts_that_change_while_others_call(way):
    """A call has scratch for the threads that it is told."""
    call, x = way(), normal(*X, seed=2)
    wanted, wrong, ended = call(x).tobytes(), [], threading.Event()

    def calls():
        while not ended.is_set():
            if call(x).tobytes() != wanted:
                wrong.append(1)

    callers = [threading.Thread(target=calls) for _ in range(2)]
    for caller in callers:
        caller.start()
    for k in range(60):
        torch.set_num_threads(1 + k % 4)
        call(x)
    ended.set()
    for caller in callers:
        caller.join()
    assert not wrong
