"""hypot and the magnitude of complex numbers, where squares leave the range of f32."""

import math

import numpy as np
import pytest

import graphc as torch

PAIRS = {
    "large": (3e30, 4e30, 5e30),
    "small": (3e-30, 4e-30, 5e-30),
    "zeros": (0.0, -0.0, 0.0),
    "infinite": (-math.inf, 2.0, math.inf),
    "infinite beside nan": (math.nan, math.inf, math.inf),
    "nan": (math.nan, 1.0, math.nan),
}


@pytest.mark.parametrize("name", PAIRS)
def test_length_of_a_pair(name):
    x, y, length = PAIRS[name]
    for found in (
        torch.hypot(torch.tensor([x]), torch.tensor([y])),
        torch.complex(torch.tensor([x]), torch.tensor([y])).abs(),
    ):
        np.testing.assert_allclose(found.numpy(), np.float32(length), rtol=2e-7)


def test_gradients():
    x = torch.tensor([3.0, 0.0, 3e30], requires_grad=True)
    y = torch.tensor([4.0, 2.0, 4e30], requires_grad=True)
    torch.hypot(x, y).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0.6, 0.0, 0.6], rtol=1e-6)
    np.testing.assert_allclose(y.grad.numpy(), [0.8, 1.0, 0.8], rtol=1e-6)
