"""Random numbers through the public functions are torch's, bit for bit."""

from pathlib import Path

import numpy as np
import pytest

import graphc
from tests.data import random_cases

KEPT = np.load(Path(__file__).parent / "data" / "peer_random.npz")


@pytest.mark.parametrize("name", random_cases.CASES)
def test_the_bits_are_those_of_torch(name):
    for index, values in enumerate(random_cases.draw(graphc, name)):
        kept = KEPT[f"{name}/{index}"]
        assert values.dtype == kept.dtype and values.shape == kept.shape
        assert np.array_equal(values, kept), (
            f"differs at {np.argwhere(values != kept)[:4].tolist()}"
        )
