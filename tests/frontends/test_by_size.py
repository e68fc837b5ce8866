"""A trace whose sizes became symbols, with an op that has code for constant sizes only."""

import logging

import numpy as np

import graphc as torch
from graphc.frontends.by_size import BySize
from graphc.frontends.record import recorder


def entries(state):
    waiting = [state]
    while waiting:  # (a trace may be longer than Python recurses)
        state = waiting.pop()
        yield from state.entries.values()
        waiting += state.edges.values()


def test_convolutions_of_several_sizes():
    """Channels and spatial sizes differ at the same places of the program."""
    torch.manual_seed(0)
    for size in (7, 8, 11, 12):
        for width in (2, 3, 4):
            image, weight = torch.rand(2, width, size, size), torch.rand(4, width, 3, 3)
            found = torch.conv2d(image, weight).numpy()
            windows = np.lib.stride_tricks.sliding_window_view(image.numpy(), (3, 3), (2, 3))
            expected = np.einsum("nchwij,ocij->nohw", windows, weight.numpy())
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert any(isinstance(entry.executable, BySize) for entry in entries(recorder().root))


def test_gradients_of_convolutions_of_several_sizes():
    def gradient(size, width):
        image = torch.arange(2.0 * width * size * size).view(2, width, size, size).sin()
        weight = torch.ones(4, width, 3, 3, requires_grad=True)
        torch.conv2d(image, weight).relu().sum().backward()
        positive = torch.conv2d(image, weight.detach()).numpy()[:, :1] > 0
        windows = np.lib.stride_tricks.sliding_window_view(image.numpy(), (3, 3), (2, 3))
        expected = np.einsum("nchwij,nkhw->cij", windows, positive)
        np.testing.assert_allclose(weight.grad.numpy()[2], expected, rtol=1e-4, atol=1e-4)

    compiled = []
    for size, width in ((5, 3), (6, 3), (6, 4), (7, 5), (9, 6), (5, 3), (6, 4)):
        gradient(size, width)
        compiled.append(recorder().compiled)
    assert compiled[-1] == compiled[-2]


def test_a_compile_for_each_size_is_logged(caplog):
    weight = torch.rand(2, 1, 3, 3)
    with caplog.at_level(logging.INFO, logger="graphc.sizes"):
        for size in (15, 17, 19, 21):
            torch.conv2d(torch.rand(1, 1, size, size), weight).sum().item()
    assert "alone: an op has no code for symbolic sizes" in caplog.text


def test_what_cannot_be_recorded_with_symbols_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger="graphc.sizes"):
        for size in (15, 17, 19, 21):
            torch.rand(3 * size).split(3)[1].sum().item()
    assert "split has a trace for each size: split of a symbolic size" in caplog.text
    assert "test_by_size.py" in caplog.text
