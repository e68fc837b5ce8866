"""torch's random numbers, against torch as it is installed, at larger sizes."""

import numpy as np
import pytest

from graphc.frontends import random_stream
from graphc.frontends.random_stream import RandomStream
from tests.frontends.random_cases import CASES, raw_bytes, torch_bytes

torch = pytest.importorskip("torch")

SIZES = (1, 5, 15, 16, 17, 100, 3001)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_bits_are_torchs(case):
    """One running stream over all sizes, so that what is drawn besides is counted too."""
    torch.manual_seed(99)
    stream = RandomStream(99)
    for n in SIZES:
        theirs = torch_bytes(torch, case.theirs(torch, n))
        assert np.array_equal(raw_bytes(case.ours(stream, n)), theirs), n
    assert np.array_equal(stream.get_state(), torch.get_rng_state().numpy())


@pytest.mark.parametrize("compiled_from", [1, 10**9], ids=["compiled", "numpy"])
def test_a_million_normals_and_uniforms(compiled_from, monkeypatch):
    monkeypatch.setattr(random_stream, "COMPILED_FROM", compiled_from)
    torch.manual_seed(7)
    stream = RandomStream(7)
    for n in (1_000_000, 1_000_001):
        assert np.array_equal(stream.normal(n), torch.randn(n).numpy())
        assert np.array_equal(stream.uniform(n), torch.rand(n).numpy())
        theirs = torch.empty(n).normal_(0.3, 0.02).numpy()
        assert np.array_equal(stream.normal(n, np.float32, 0.3, 0.02), theirs)


def test_states_are_exchanged_both_ways():
    stream = RandomStream(11)
    torch.manual_seed(11)
    assert np.array_equal(stream.get_state(), torch.get_rng_state().numpy())
    for n in (0, 3, 100, 617, 7):  # 624 words are used up once, exactly
        stream.uniform(n)
        torch.rand(n)
        assert np.array_equal(stream.get_state(), torch.get_rng_state().numpy())
    stream.normal(3)
    torch.set_rng_state(torch.from_numpy(stream.get_state()))
    assert np.array_equal(torch.randn(4).numpy(), stream.normal(4))
    torch.rand(1000)
    stream.set_state(torch.get_rng_state().numpy())
    assert np.array_equal(torch.randn(4).numpy(), stream.normal(4))
