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


def test_text_that_grows_compiles_a_few_times():
    """As a language model generates: the last 16 tokens are read, the last row of logits is cut."""
    torch.manual_seed(0)
    table = torch.randn(24, 8)
    numbers = table.numpy().astype(np.float64)

    def generate(steps):
        tokens = torch.zeros((1, 1), dtype=torch.long)
        for _ in range(steps):
            context = tokens if tokens.size(1) <= 16 else tokens[:, -16:]
            logits = (table[context] @ table.T).mean(1, keepdim=True)[:, -1, :]
            largest, _ = torch.topk(logits, 5)
            logits[logits < largest[:, [-1]]] = -float("inf")
            expected = (numbers[context.numpy()] @ numbers.T).mean(1)
            left = np.sort(expected[0])[-5:]
            np.testing.assert_allclose(np.sort(logits.numpy()[0])[-5:], left, rtol=1e-4, atol=1e-5)
            assert torch.isinf(logits).sum().item() == 19
            tokens = torch.cat((tokens, logits.argmax(1, keepdim=True)), 1)
        return tokens

    before = recorder().compiled
    generate(40)
    assert recorder().compiled - before < 25
    generate(30)
    settled = recorder().compiled
    generate(35)
    assert recorder().compiled - settled < 6  # and not one a step


def test_a_number_that_equals_a_size_by_chance():
    """The k of topk is 4, and so is one of the sizes."""
    before = recorder().compiled
    for size in (2, 3, 4, 5, 6, 7, 8, 9):
        x = torch.tensor(np.tile(np.arange(6, dtype=np.float32), (size, 1)))
        found = (x * 2).topk(4).values.numpy()
        np.testing.assert_array_equal(found, np.tile([10.0, 8.0, 6.0, 4.0], (size, 1)))
    assert recorder().compiled - before <= 6
