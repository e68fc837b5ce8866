"""Large transposes: tiles in the order of memory, stores past the caches, and the bits of numpy."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.ir.build import trace
from graphc.ir.dims import Facts
from graphc.ir.types import parse_type
from graphc.passes.loop.text import show_kernel
from tests.backends.test_compile_ops import o

LEVELS = ["host", "avx512", "avx2", "x86-64"]
#: Rows of the result that begin with lines and between them, ends of blocks, of tiles, of vectors.
CASES = {
    "lines": ("f32[1040, 1600]", (1, 0)),
    "pages": ("f32[1700, 1024]", (1, 0)),
    "odd": ("f32[1237, 1303]", (1, 0)),
    "long": ("f32[12, 140003]", (1, 0)),
    "few steps": ("f32[100003, 19]", (1, 0)),
    "channels last": ("f32[3, 40, 119, 117]", (0, 2, 3, 1)),
    "channels first": ("f32[3, 119, 117, 40]", (0, 3, 1, 2)),
    "heads": ("f32[4, 6, 1030, 72]", (0, 1, 3, 2)),
    "halves": ("f16[1810, 1777]", (1, 0)),
    "bf16": ("bf16[1810, 1777]", (1, 0)),
    "doubles": ("f64[901, 1003]", (1, 0)),
    "i32": ("i32[1237, 1303]", (1, 0)),
    "bytes": ("u8[2511, 2609]", (1, 0)),
    "bool": ("bool[2511, 2609]", (1, 0)),
}


def random(type, seed=0):
    words = np.random.default_rng(seed).integers(0, 2, type.shape)
    if type.dtype.kind != "b":
        words = np.random.default_rng(seed).integers(0, 200, type.shape)
    return words.astype(type.dtype.numpy)


def loops_of(graph, **options):
    (report,) = [r for r in prepare(graph, **options).reports if r.loops]
    return show_kernel(report.loops), report.text


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_bits(name, target):
    text, perm = CASES[name]
    type = parse_type(text)
    graph = trace(lambda x: o.permute(x, perm=perm), type)
    x = random(type)
    expected = np.ascontiguousarray(x.transpose(perm))
    for fork in (1e18, 0.0):
        (found,) = compile_graph(graph, target=target, fork=fork)(x)
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("target", LEVELS)
def test_what_is_computed_on_tiles(target):
    """Loads along and across the lanes, a row, a column, and results of two types."""
    shape = (1303, 1237)
    types = [parse_type(f"f32{list(s)}") for s in (shape[::-1], shape, shape[1:], shape[:1])]

    def both(turned, y, row, column):
        row = o.expand(row, shape=shape, axes=(0,))
        column = o.expand(column, shape=shape, axes=(1,))
        total = o.add(o.mul(turned, y), o.mul(row, column))
        return [total, o.lt(y, turned)]

    fused = trace(lambda x, *others: both(o.permute(x, perm=(1, 0)), *others), *types)
    assert ", streamed" in loops_of(fused, target=target)[0]
    draw = np.random.default_rng(0).standard_normal
    x, *others = [draw(type.shape, "f4") for type in types]
    found = compile_graph(fused, target=target, fork=0.0)(x, *others)
    apart = trace(both, types[1], *types[1:])
    expected = compile_graph(apart, target=target)(np.ascontiguousarray(x.T), *others)
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()
    np.testing.assert_array_equal(found[1], x.T > others[0])


@pytest.mark.parametrize("target", LEVELS)
def test_symbolic_sizes(target):
    facts = {"n": Facts(hint=2000), "m": Facts(hint=1000)}
    graph = trace(lambda x: o.permute(x, perm=(1, 0)), parse_type("f32[n, m]"))
    assert ", streamed" in loops_of(graph, target=target, dims=facts)[0]
    executable = compile_graph(graph, target=target, fork=0.0, dims=facts)
    for shape in ((1, 1), (1, 70), (31, 33), (129, 16), (1000, 7), (513, 100), (70, 1100)):
        x = np.random.default_rng(0).standard_normal(shape, "f4")
        (found,) = executable(x)
        assert found.tobytes() == x.T.tobytes(), shape


@pytest.mark.parametrize("target", ["avx512", "avx2", "x86-64", "aarch64"])
def test_large_results_go_past_the_caches(target):
    """Whole lines only, and others see them when the kernel ends; aarch64 stores as ever."""
    graph = trace(lambda x: o.permute(x, perm=(1, 0)), parse_type("f32[1600, 1600]"))
    loops, text = loops_of(graph, target=target)
    streams = target != "aarch64"
    lanes = {"avx512": 1, "avx2": 2}.get(target, 4)
    assert f"..min(i8 + 512, 1600) x {lanes}:".replace("i8", "j8") in loops
    assert text.count("!nontemporal") == (lanes if streams else 0)
    assert text.count("call void @llvm.x86.sse.sfence()") == streams


def test_results_that_caches_hold_stay_there():
    small = trace(lambda x: o.permute(x, perm=(1, 0)), parse_type("f32[1000, 1500]"))
    assert "streamed" not in loops_of(small)[0]
    few = trace(lambda x: o.permute(x, perm=(1, 0)), parse_type("u8[2511, 2609]"))
    assert "streamed" not in loops_of(few, target="avx2")[0]  # vectors of 8 bytes
    assert ", streamed" in loops_of(few, target="avx512")[0]
