"""torch's random numbers, against what torch drew when tests/data/random_torch.npz was made."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from graphc.frontends.box_muller import fma32, fma64
from graphc.frontends.random_stream import DEFAULT_SEED, STATE_BYTES, RandomStream
from tests.frontends.random_cases import CASES, SEED, raw_bytes

SIZES = (7, 16, 41)


@pytest.fixture(scope="module")
def drawn():
    with np.load(Path(__file__).parent.parent / "data" / "random_torch.npz") as file:
        return dict(file)


def test_each_case_is_in_the_data_once(drawn):
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) and {*names, "state"} == set(drawn)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_bits_are_torchs(case, drawn):
    stream = RandomStream(SEED)
    ours = np.concatenate([raw_bytes(case.ours(stream, n)) for n in SIZES])
    assert np.array_equal(ours, drawn[case.name])


def test_the_state_is_torchs(drawn):
    stream = RandomStream(SEED)
    stream.uniform(1000)
    stream.normal(3)
    assert np.array_equal(stream.get_state(), drawn["state"])


def test_a_stream_continues_from_its_state():
    stream = RandomStream(3)
    stream.normal(5)
    stream.uniform(700)
    state = stream.get_state()
    assert state.shape == (STATE_BYTES,) and state.dtype == np.uint8
    expected = [stream.normal(3), stream.uniform(9), stream.randint(0, 10, 5)]
    other = RandomStream()
    for given in (state, state.tobytes()):
        other.set_state(given)
        assert other.initial_seed() == 3
        found = [other.normal(3), other.uniform(9), other.randint(0, 10, 5)]
        assert all(np.array_equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-1],
        lambda s: np.zeros_like(s),
        lambda s: np.full_like(s, 255),
        lambda s: np.concatenate([s[:8], np.array([9, 0, 0, 0], np.uint8), s[12:]]),
    ],
)
def test_what_is_no_state_is_refused(change):
    stream = RandomStream(1)
    stream.uniform(3)
    expected = stream.get_state()
    with pytest.raises(RuntimeError, match="state"):
        stream.set_state(change(expected))
    assert np.array_equal(stream.get_state(), expected)


def test_seeds():
    assert RandomStream().initial_seed() == DEFAULT_SEED
    stream = RandomStream(-1)
    assert stream.initial_seed() == 2**64 - 1
    assert np.array_equal(stream.uniform(4), RandomStream(2**32 - 1).uniform(4))
    first, second = stream.seed(), stream.seed()
    assert first != second and stream.initial_seed() == second < 2**53
    for wrong in (2**64, -(2**63) - 1):
        with pytest.raises(RuntimeError, match="seed"):
            stream.manual_seed(wrong)


def test_seeding_forgets_the_cached_normal():
    stream = RandomStream(5)
    expected = stream.normal(3)
    stream.manual_seed(5)
    assert np.array_equal(stream.normal(3), expected)


@pytest.mark.parametrize("fill", ["uniform", "normal", "exponential", "log_normal", "cauchy"])
def test_nothing_is_drawn_for_nothing(fill):
    stream = RandomStream(5)
    before = stream.get_state()
    assert getattr(stream, fill)(0).shape == (0,)
    assert stream.randperm(0).shape == (0,) and stream.randperm(1).tolist() == [0]
    assert np.array_equal(stream.get_state(), before)


def test_multinomial_of_rows():
    rows = np.array([[0, 1, 0], [0, 0, 2]], np.float32)
    assert RandomStream(1).multinomial(rows, 4, replacement=True).tolist() == [[1] * 4, [2] * 4]
    assert RandomStream(1).multinomial(rows, 1).tolist() == [[1], [2]]


@pytest.mark.parametrize(
    "weights, samples, message",
    [
        ([1.0, -1.0], 1, "element < 0"),
        ([np.nan, 1.0], 1, "nan"),
        ([0.0, 0.0], 1, "sum of probabilities"),
        ([1.0, 1.0], 0, "n_sample <= 0"),
        ([1.0, 1.0], 3, "without replacement"),
    ],
)
def test_weights_that_cannot_be_drawn_from(weights, samples, message):
    with pytest.raises(ValueError, match=message):
        RandomStream(1).multinomial(np.array(weights), samples)


def test_types_without_random_values_are_refused():
    with pytest.raises(TypeError, match="int32"):
        RandomStream(1).uniform(3, np.int32)
    with pytest.raises(TypeError, match="complex64"):
        RandomStream(1).random_(3, np.complex64)


def rounded32(exact: Fraction) -> np.float32:
    """The nearest float32, halfway to even, by integer arithmetic."""
    if exact == 0:
        return np.float32(0)
    size = abs(exact)
    exponent = max(math.floor(math.log2(size)) - 23, -149)
    while size >= Fraction(2) ** (exponent + 24):
        exponent += 1
    while exponent > -149 and size < Fraction(2) ** (exponent + 23):
        exponent -= 1
    scaled = size / Fraction(2) ** exponent
    return np.float32(math.copysign(round(scaled) * 2.0**exponent, exact))


def test_fma32_rounds_once():
    random = np.random.default_rng(0)
    # Products of 13-bit numbers plus a tiny addend: halfway cases that two roundings get wrong.
    a = (random.integers(2**12, 2**13, 3000) * 2.0**-12).astype(np.float32)
    b = (random.integers(2**12, 2**13, 3000) * 2.0**-12).astype(np.float32)
    c = (random.choice([1, -1], 3000) * 2.0 ** random.integers(-90, 3, 3000)).astype(np.float32)
    a[:300] *= np.float32(2.0**-140)  # subnormal results
    c[:300] *= np.float32(2.0**-60)
    twice = (a.astype(np.float64) * b + c).astype(np.float32)
    exact = [
        Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)) for x, y, z in zip(a, b, c)
    ]
    expected = np.array([rounded32(value) for value in exact])
    assert np.array_equal(fma32(a, b, c), expected)
    assert not np.array_equal(twice, expected)  # or these cases would show nothing


def test_fma64_rounds_once():
    random = np.random.default_rng(0)
    a = random.standard_normal(3000)
    a[:1000] = 1 + random.integers(0, 2**26, 1000) * 2.0**-26
    for b, c in [(0.3, 0.1), (1 + 2.0**-27, 2.0**-80), (-3.7, 1e-30), (2.0**-27 + 1, -1.0), (1, 0)]:
        exact = [Fraction(float(x)) * Fraction(b) + Fraction(c) for x in a]
        expected = np.array([value.numerator / value.denominator for value in exact])
        assert np.array_equal(fma64(a, b, c), expected)
