"""Loaded models on computed tensors: sizes that come often have code of their own."""

import numpy as np
import pytest

import graphc as torch
import graphc.nn as nn
from graphc import config
from graphc.onnx import loaded


@pytest.fixture
def model(tmp_path):
    """Any number of images."""
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 4),
    ).eval()  # fmt: skip
    path = tmp_path / "net.onnx"
    example = torch.zeros(2, 3, 8, 8)
    torch.onnx.export(
        net, (example,), str(path), input_names=["x"], dynamic_axes={"x": {0: "n"}}
    )  # fmt: skip
    return net, torch.onnx.load(str(path))


def test_sizes_that_come_often_have_code_of_their_own(model):
    net, read = model
    with torch.no_grad(), config.patch(winograd=False):
        for images in (1, 5):
            x = torch.randn(images, 3, 8, 8)
            found = [read(x).numpy() for _ in range(loaded.OFTEN + 1)]
            assert ((images, 3, 8, 8),) in read._direct_calls
            for each in found:
                np.testing.assert_allclose(each, net(x).numpy(), rtol=1e-5, atol=1e-6)
            assert found[-1].tobytes() == found[-2].tobytes()


def test_only_so_many_sizes_do(model):
    net, read = model
    with torch.no_grad():
        for images in range(1, loaded.MOST_SIZES + 4):
            for _ in range(loaded.OFTEN):
                x = torch.randn(images, 3, 8, 8)
                np.testing.assert_allclose(read(x).numpy(), net(x).numpy(), rtol=1e-4, atol=1e-5)
    assert len(read._direct_calls) == loaded.MOST_SIZES


def test_written_weights_and_gradients(model):
    _, read = model
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        before = [read(x).numpy() for _ in range(loaded.OFTEN)][-1]
        for weight in read.weights.values():
            weight.mul_(2)
        assert read(x).numpy().tobytes() != before.tobytes()
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    read(x).sum().backward()
    assert x.grad.shape == x.shape and bool((x.grad != 0).any())
