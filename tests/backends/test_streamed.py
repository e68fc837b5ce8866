"""Large results that go past the caches: whole lines only, with the bits of ordinary stores."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.ir.build import trace
from graphc.ir.dims import Facts
from graphc.ir.types import parse_type
from graphc.passes.loop import rows
from graphc.passes.loop.text import show_kernel
from tests.backends.test_compile_ops import o

pytestmark = pytest.mark.usefixtures("three_threads")

LEVELS = ["host", "avx2", "x86-64"]


def statistics(axes, kept):
    """x without its mean over axes, and scaled by the size of what is left."""

    def norm(x):
        def wide(value):
            return o.expand(value, shape=x.type.shape, axes=axes)

        delta = o.sub(x, wide(o.reduce_sum(x, axes=axes)))
        result = o.div(delta, wide(o.reduce_max(o.abs(delta), axes=axes)))
        return result if kept is None else kept(result)

    return norm


#: Layer norm, group norm, batch norm; rows of f64 and of halves; rows that share lines.
NORMS = {
    "rows": ("f32[40, 768]", (1,), True),
    "groups": ("f32[6, 8, 4, 144]", (2, 3), True),
    "channels": ("f32[5, 8, 196]", (0, 2), False),
    "channels of whole lines": ("f32[5, 8, 208]", (0, 2), True),
    "long rows that share lines": ("f32[3, 5, 2051]", (0, 2), True),
    "f64": ("f64[30, 200]", (1,), True),
    "bf16": ("bf16[30, 256]", (1,), True),
    "rest": ("f32[30, 1001]", (1,), False),
    "one row and its rest": ("f32[1, 5001]", (1,), True),
}


def is_streamed(graph, **options):
    kernels = [show_kernel(r.loops) for r in prepare(graph, **options).reports if r.loops]
    return any(", streamed" in kernel for kernel in kernels)


def results(graph, x, **options):
    return [result.tobytes() for result in compile_graph(graph, **options)(x)]


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("name", NORMS)
def test_bits_are_those_of_ordinary_stores(name, target, monkeypatch):
    text, axes, streamed = NORMS[name]
    type = parse_type(text)
    graph = trace(statistics(axes, None), type)
    x = (np.random.default_rng(0).integers(-9, 9, type.shape) / 7).astype(type.dtype.numpy)
    assert not is_streamed(graph), "few bytes stay in the caches"
    wanted = results(graph, x, target=target)
    monkeypatch.setattr(rows, "STREAMED", 0)
    assert is_streamed(graph) == streamed
    for fork in (0.0, 1e18):
        assert results(graph, x, target=target, fork=fork) == wanted


@pytest.mark.parametrize("target", LEVELS)
def test_symbolic_sizes(target, monkeypatch):
    facts = {"n": Facts(lo=1, hint=500)}
    graph = trace(statistics((1,), None), parse_type("f32[n, 96]"))
    assert not is_streamed(graph, dims=facts)
    plain = compile_graph(graph, target=target, dims=facts)
    monkeypatch.setattr(rows, "STREAMED", 0)
    assert is_streamed(graph, dims=facts)
    streamed = compile_graph(graph, target=target, dims=facts, fork=0.0)
    for n in (1, 3, 100):
        x = np.random.default_rng(n).standard_normal((n, 96), "f4")
        assert streamed(x)[0].tobytes() == plain(x)[0].tobytes()


def test_large_results_are_streamed_unless_they_are_dear():
    """What waits for arithmetic gains nothing; the fence is there for whoever reads next."""
    large, small = [parse_type(f"f32[{n}, 1024]") for n in (6400, 640)]
    norm = statistics((1,), None)
    graph = trace(norm, large)
    assert is_streamed(graph) and not is_streamed(trace(statistics((1,), None), small))
    assert not is_streamed(trace(statistics((1,), o.exp), large))
    assert not is_streamed(
        trace(lambda x: o.cumulative(norm(x), axis=0, mode="sum", reverse=False), large)
    )
    text = prepare(graph, target="avx2").text
    assert "!nontemporal" in text and "sfence" in text
    assert "nontemporal" not in prepare(graph, target="aarch64").text
