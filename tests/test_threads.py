"""Threads: each records for itself; tensors, models and traced graphs go from one to another."""

import queue
import sys
import threading

import pytest

import graphc as torch
import graphc.nn as nn


@pytest.fixture(autouse=True)
def switch_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(count, work):
    """work(i) in `count` threads at once; their results, or the first exception."""
    results, errors = [None] * count, []

    def run(i):
        try:
            results[i] = work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise errors[0]
    return results


def bits(tensor):
    return tensor.detach().numpy().tobytes()


def test_eight_threads_train_to_the_same_bits():
    def work(_):
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(8, 8, generator=generator).requires_grad_()
        x = torch.randn(16, 8, generator=generator)
        for _ in range(15):
            loss = ((x @ w).tanh() ** 2).mean()
            loss.backward()
            with torch.no_grad():
                w -= 0.1 * w.grad
            w.grad = None
        return bits(w)

    assert len(set(in_threads(8, work))) == 1


def test_eight_threads_share_weights():
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))
    x = torch.randn(4, 6)
    expected = bits(model(x))

    def work(_):
        return {bits(model(x)) for _ in range(30)}

    assert in_threads(8, work) == [{expected}] * 8


def test_pending_tensors_go_to_another_thread_while_it_records():
    channel = queue.Queue()

    def work(i):
        if i:
            return sum(channel.get(timeout=60).sum().item() for _ in range(60))
        for k in range(60):
            channel.put(torch.ones(4) * k + 1)
        return None

    assert in_threads(2, work)[1] == 4 * sum(k + 1 for k in range(60))


def test_tensors_of_a_thread_that_has_ended():
    made = in_threads(4, lambda i: torch.ones(3) * i + 0.5)
    assert [t.tolist() for t in made] == [[i + 0.5] * 3 for i in range(4)]


def test_a_gradient_flows_through_two_threads():
    w = torch.full((3,), 2.0, requires_grad=True)
    (y,) = in_threads(1, lambda _: w * w * 3)
    (z,) = in_threads(1, lambda _: (y * y).sum())
    z.backward()
    assert w.grad.tolist() == [4 * 9 * 8.0] * 3


def test_a_pending_tensor_is_used_on_by_its_own_thread():
    channel, answers = queue.Queue(), queue.Queue()

    def work(i):
        if i:
            for _ in range(20):
                answers.put(channel.get(timeout=60).tolist())
            return None
        found = []
        for k in range(20):
            w = torch.full((2,), float(k), requires_grad=True)
            y = w * 3
            channel.put(y)
            z = (y * y).sum()
            answers.get(timeout=60)
            z.backward()
            found.append(w.grad.tolist() == [18.0 * k] * 2)
        return all(found)

    assert in_threads(2, work)[0]


def test_one_traced_module_in_eight_threads():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    x = torch.randn(5, 8)
    traced = torch.jit.trace(model, x)
    expected = bits(traced(x))

    def work(_):
        return all(bits(traced(x)) == expected for _ in range(200))

    assert in_threads(8, work) == [True] * 8


def test_one_compiled_function_in_eight_threads():
    model = nn.Linear(8, 4)
    x = torch.randn(5, 8)
    compiled = torch.compile(model)
    expected = bits(compiled(x))

    def work(_):
        return all(bits(compiled(x)) == expected for _ in range(60))

    assert in_threads(8, work) == [True] * 8


def test_modes_are_each_threads_own():
    w = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        assert in_threads(2, lambda _: (w * 2).requires_grad) == [True, True]
    assert (w * 2).requires_grad
