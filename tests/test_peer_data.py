"""The numbers kept in tests/data are what the installed torch computes."""

from pathlib import Path

import numpy as np
import pytest

from tests.data import random_cases

torch = pytest.importorskip("torch")

KEPT = np.load(Path(__file__).parent / "data" / "peer_random.npz")


def test_nothing_else_is_kept():
    assert {key.partition("/")[0] for key in KEPT} == set(random_cases.CASES)


@pytest.mark.parametrize("name", random_cases.CASES)
def test_the_numbers_kept_are_those_of_torch(name):
    for index, values in enumerate(random_cases.draw(torch, name)):
        kept = KEPT[f"{name}/{index}"]
        assert kept.dtype == values.dtype and kept.shape == values.shape
        assert kept.tobytes() == values.tobytes()
