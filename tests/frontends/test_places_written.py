"""Loops that write to, or read from, another place at each step share a few traces."""

import numpy as np
import pytest

import graphc as torch
from graphc.frontends.record import recorder

STEPS = 30


def rows(array):
    for t in range(STEPS):
        array[t] = array[t - 1] * 0.5 + t
        yield array[t].sum()


def columns(array):
    for t in range(STEPS):
        array[1:3, t] = array[0, t] + 2.5
        yield array[:, t].max()


def counts(array):
    for t in range(STEPS):
        array[t, 3] = t * t
        yield array.sum()


def boxes(array):
    for t in range(STEPS - 2):
        array[t : t + 2, -3:-1] = array[t + 1 : t + 3, :2] - 1.0
        yield array[t, -2]


def in_place(array):
    for t in range(STEPS):
        array[t] += 1.5
        array[t, 2:] *= 0.5
        yield array.sum()


@pytest.mark.parametrize("program", [rows, columns, counts, boxes, in_place])
def test_a_loop_over_places_compiles_a_few_times(program):
    start = np.sin(np.arange(STEPS * STEPS, dtype=np.float32)).reshape(STEPS, STEPS)
    tensor, before = torch.tensor(start), recorder().compiled
    found = [value.item() for value in program(tensor)]
    assert recorder().compiled - before < 16
    expected = start.copy()
    np.testing.assert_allclose(found, [float(v) for v in program(expected)], rtol=1e-4)
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_sizes_that_differ_and_places_that_differ():
    before = recorder().compiled
    for size in (5, 6, 7, 9, 12):
        buffer = torch.zeros(size, 3)
        for t in range(size):
            buffer[t] = torch.ones(3) * t
            assert buffer.sum().item() == 3 * sum(range(t + 1))
    assert recorder().compiled - before < 40


def test_gradients_through_a_write_at_a_computed_place():
    for t in (0, 3, 4, 7):
        base = torch.ones(8, 2, requires_grad=True)
        new = torch.tensor([2.0, 3.0], requires_grad=True)
        whole = base * 2
        whole[t] = new * new
        (whole * torch.arange(16.0).view(8, 2)).sum().backward()
        expected = 2 * np.arange(16.0).reshape(8, 2)
        np.testing.assert_allclose(new.grad.numpy(), expected[t] * [2, 3])
        expected[t] = 0
        np.testing.assert_allclose(base.grad.numpy(), expected)


def test_writes_that_do_not_fit():
    x = torch.zeros(4)
    x[1] = 1.0
    with pytest.raises(IndexError, match="index 7 is out of bounds for dimension 0 with size 4"):
        x[7] = 1.0
    with pytest.raises(RuntimeError):
        x[:2] = torch.zeros(3)
