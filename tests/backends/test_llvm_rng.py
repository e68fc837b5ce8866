"""The compiled random fills: the bits of the numpy ones, on every target that runs here."""

import numpy as np
import pytest

from graphc.backends.llvm import jit, rng, symbols
from graphc.backends.llvm.objectfile import undefined_symbols
from graphc.backends.llvm.target import TARGETS, get_target, runs_here
from graphc.frontends import random_stream
from graphc.frontends.random_stream import RandomStream

RUNNABLE = [name for name in ("host", *TARGETS) if runs_here(get_target(name))]
# Around the ends of vectors, blocks, the 624 words of the state (3 are used up) and chunks.
SIZES = (0, 1, 5, 16, 17, 31, 48, 100, 310, 311, 621, 622, 1000, 2047, 2048, 2049, 9001)
CASES = {
    "graphc_mt_fill_u32": [((), lambda s, n: s.random_u32(n))],
    "graphc_mt_uniform_f32": [
        ((0, 1), lambda s, n: s.uniform(n)),
        ((-2, 3.7), lambda s, n: s.uniform(n, np.float32, -2, 3.7)),
        ((1, 1 + 2.0**-22), lambda s, n: s.uniform(n, np.float32, 1, 1 + 2.0**-22)),
        ((0, 3), lambda s, n: s.uniform(n, np.float32, 0, 3)),
    ],
    "graphc_mt_uniform_f64": [
        ((0, 1), lambda s, n: s.uniform(n, np.float64)),
        ((-0.3, 0.7), lambda s, n: s.uniform(n, np.float64, -0.3, 0.7)),
    ],
    "graphc_mt_bernoulli_u8": [
        ((p,), lambda s, n, p=p: s.bernoulli(n, p).view(np.uint8)) for p in (0.0, 0.3, 1.0)
    ],
    "graphc_mt_normal_f32": [
        ((mean, std), lambda s, n, m=mean, d=std: s.normal(n, np.float32, m, d))
        for mean, std in ((0.0, 1.0), (0.3, 0.02), (-7.0, 0.0))
    ],
    "graphc_mt_normal_f64": [
        ((mean, std), lambda s, n, m=mean, d=std: s.normal(n, np.float64, m, d))
        for mean, std in ((0.0, 1.0), (0.3, 0.02))
    ],
}


def started() -> RandomStream:
    stream = RandomStream(2024)
    stream.uniform(3)
    return stream


def filled(name: str, target: str, stream: RandomStream, like: np.ndarray, scalars) -> np.ndarray:
    """The fill's result, between two elements that it must not touch."""
    n = like.size
    memory = np.full(n + 2, 77, like.dtype)
    call = rng.function(name, get_target(target))
    call(stream.twister.address, memory.ctypes.data + like.itemsize, n, *scalars)
    assert memory[0] == memory[-1] == 77
    return memory[1:-1]


def test_every_function_has_cases():
    assert set(CASES) == set(rng.FUNCTIONS)


def test_compiled_graphs_may_call_every_function():
    for name in rng.FUNCTIONS:
        assert symbols.address_of(name) == rng.code()[name]


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("name", CASES)
def test_the_bits_and_the_position_are_those_of_numpy(name, target):
    for scalars, reference in CASES[name]:
        ours, theirs = started(), started()
        for n in SIZES:
            if "normal" in name and n < 16:
                continue
            expected = reference(theirs, n)
            found = filled(name, target, ours, expected, scalars)
            assert found.tobytes() == expected.tobytes(), (n, scalars)
        assert np.array_equal(ours.get_state(), theirs.get_state())


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_compiles_and_calls_nothing_else(target):
    image = jit.compile_object(rng.module_text(TARGETS[target]), TARGETS[target])
    library = {f"library_{name}" for name in rng.LIBRARY}
    assert undefined_symbols(image) - symbols.ALLOWED <= library


def test_large_fills_of_a_stream_run_compiled(monkeypatch):
    n = random_stream.COMPILED_FROM + 5
    draws = [
        lambda s: s.uniform(n),
        lambda s: s.uniform(n, np.float64),
        lambda s: s.normal(n, np.float32, 0.3, 0.02),
        lambda s: s.normal(n, np.float64),
        lambda s: s.bernoulli(n, 0.3),
        lambda s: s.normal(5),
    ]
    compiled = RandomStream(3)
    called = []
    inner = RandomStream._compiled
    monkeypatch.setattr(
        RandomStream, "_compiled", lambda s, *a: called.append(a[0]) or inner(s, *a)
    )
    found = [draw(compiled) for draw in draws]
    assert set(called) == {*rng.FUNCTIONS} - {"graphc_mt_fill_u32"}
    monkeypatch.setattr(random_stream, "COMPILED_FROM", 10 * n)
    plain = RandomStream(3)
    for draw, values in zip(draws, found):
        expected = draw(plain)
        assert values.dtype == expected.dtype and np.array_equal(values, expected)
    assert np.array_equal(compiled.get_state(), plain.get_state())
