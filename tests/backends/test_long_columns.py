"""Columns that no cache holds: rows are read in their order, and the bits stay what they were."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.ir.build import trace
from graphc.ir.dims import Facts
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.loop.ir import rows_per_block
from graphc.passes.loop.text import show_kernel
from tests.backends.test_compile_ops import o

pytestmark = pytest.mark.usefixtures("three_threads")

LEVELS = ["host", "avx2", "x86-64"]
#: Short rows one by one, wide rows in bands, the last block and the last band cut off.
SHAPES = {"short": "f32[5003, 300]", "wide": "f32[1029, 2500]", "batch": "f32[3, 701, 600]"}


def sums_in_blocks(x, axis):
    """The documented tree: rows in order in blocks, whose sums are added in order."""
    rows = np.moveaxis(x, axis, 0)
    block, total = rows_per_block(len(rows)), np.zeros(rows.shape[1:], x.dtype)
    for first in range(0, len(rows), block):
        part = np.zeros_like(total)
        for row in rows[first : first + block]:
            part = part + row
        total = total + part
    return total


def in_bands(graph, **options):
    """Of each kernel of columns, whether its rows are read in order."""
    loops = [report.loops for report in prepare(graph, **options).reports if report.loops]
    kinds = ("columns", "scan")
    return ["identity" in show_kernel(kernel) for kernel in loops if kernel.kind in kinds]


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("name", SHAPES)
def test_sums_and_extremes(name, target):
    type = parse_type(SHAPES[name])
    axis = type.rank - 2

    def every(x):
        axes = (axis,)
        product = o.mul(x, x)
        sums = [o.reduce_sum(x, axes=axes), o.reduce_sum(product, axes=axes)]
        return [*sums, o.reduce_max(x, axes=axes), o.reduce_min(x, axes=axes), product]

    graph = trace(every, type)
    assert in_bands(graph) == [True]
    x = np.random.default_rng(0).standard_normal(type.shape, "f4")
    expected = [sums_in_blocks(x, axis), sums_in_blocks(x * x, axis), x.max(axis), x.min(axis)]
    serial = compile_graph(graph, target=target, fork=1e18)
    for found, wanted in zip(serial(x), [*expected, x * x], strict=True):
        assert found.tobytes() == wanted.tobytes()
    forked = compile_graph(graph, target=target, fork=0.0)
    for found, wanted in zip(forked(x), [*expected, x * x], strict=True):
        assert found.tobytes() == wanted.tobytes()


def test_extremes_of_what_is_not_ordered():
    """NaN wins in any block, and the first zero of two signs stays as in few rows."""
    type = parse_type("f32[4099, 300]")

    def extremes(x):
        return [o.reduce_max(x, axes=(0,)), o.reduce_min(x, axes=(0,))]

    graph = trace(extremes, type)
    assert in_bands(graph) == [True]
    x = np.random.default_rng(0).standard_normal(type.shape, "f4")
    x[[0, 511, 512, 4098], [3, 4, 5, 6]] = np.nan
    x[:, 7:9], x[1000:, 7], x[:1000, 8] = 0.0, -0.0, -0.0
    largest, smallest = compile_graph(graph)(x)
    np.testing.assert_array_equal(largest, x.max(0))
    np.testing.assert_array_equal(smallest, x.min(0))
    few = trace(extremes, parse_type("f32[2, 300]"))
    for found, expected in zip((largest, smallest), compile_graph(few)(x[[999, 1000]])):
        assert found[7:9].tobytes() == expected[7:9].tobytes()


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("dtype", ["f64", "f16", "bf16", "i64", "u8", "bool"])
def test_other_types(dtype, target):
    type = parse_type(f"{dtype}[4099, 301]")

    def every(x):
        modes = ("max", "min") if dtype == "bool" else ("sum", "max", "min")
        return [getattr(o, f"reduce_{mode}")(x, axes=(0,)) for mode in modes]

    graph = trace(every, type)
    assert in_bands(graph) == [True]
    x = np.random.default_rng(0).integers(0, 2, type.shape).astype(type.dtype.numpy)
    for found, expected in zip(compile_graph(graph, target=target)(x), evaluate(graph, x)):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("target", LEVELS)
def test_symbolic_sizes(target):
    facts = {"n": Facts(hint=20000), "m": Facts(hint=1000)}
    graph = trace(
        lambda x: [o.reduce_sum(x, axes=(0,)), o.reduce_max(x, axes=(0,)), o.neg(x)],
        parse_type("f32[n, m]"),
    )
    assert in_bands(graph, dims=facts) == [True]
    executable = compile_graph(graph, target=target, fork=0.0, dims=facts)
    for shape in ((1, 1), (1, 70), (31, 33), (129, 16), (1000, 7), (3001, 100), (70, 4100)):
        x = np.random.default_rng(0).standard_normal(shape, "f4")
        total, largest, negative = executable(x)
        assert total.tobytes() == sums_in_blocks(x, 0).tobytes(), shape
        np.testing.assert_array_equal(largest, x.max(0))
        np.testing.assert_array_equal(negative, -x)


def softmax(x):
    def whole(row):
        return o.expand(row, shape=x.type.shape, axes=(0,))

    powers = o.exp(o.sub(x, whole(o.reduce_max(x, axes=(0,)))))
    return o.div(powers, whole(o.reduce_sum(powers, axes=(0,))))


def test_stages_are_apart_where_no_cache_holds_them():
    large, small = [trace(softmax, parse_type(f"f32[{n}, 1001]")) for n in (3200, 320)]
    assert in_bands(large) == [True, True] and in_bands(small) == [False]
    x = np.random.default_rng(0).standard_normal((3200, 1001), "f4")
    found = compile_graph(large, fork=0.0)(x)[0]
    assert found.tobytes() == compile_graph(large, fork=1e18)(x)[0].tobytes()
    powers = np.exp(x.astype("f8") - x.max(0))
    np.testing.assert_allclose(found, powers / powers.sum(0), rtol=1e-5)


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("name", SHAPES)
def test_running_sums_and_extremes(name, target):
    type = parse_type(SHAPES[name])
    axis = type.rank - 2
    modes = {"sum": np.cumsum, "max": np.maximum.accumulate}
    graph = trace(lambda x: [o.cumulative(x, axis=axis, mode=mode) for mode in modes], type)
    assert in_bands(graph) == [True, True]
    x = np.random.default_rng(0).standard_normal(type.shape, "f4")
    for fork in (1e18, 0.0):
        found = compile_graph(graph, target=target, fork=fork)(x)
        for array, expected in zip(found, modes.values(), strict=True):
            assert array.tobytes() == expected(x, axis).tobytes()


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("dtype", ["f64", "f16", "bf16", "i64", "u8"])
def test_running_sums_of_other_types(dtype, target):
    """Halves are added in float32, and only what is stored is rounded."""
    type = parse_type(f"{dtype}[4099, 301]")
    graph = trace(lambda x: o.cumulative(x, axis=0, mode="sum"), type)
    assert in_bands(graph) == [True]
    x = np.random.default_rng(0).integers(0, 2, type.shape).astype(type.dtype.numpy)
    wide = "f4" if dtype in ("f16", "bf16") else x.dtype
    expected = np.cumsum(x.astype(wide), 0, dtype=wide).astype(x.dtype)
    np.testing.assert_array_equal(compile_graph(graph, target=target, fork=0.0)(x)[0], expected)


def test_running_sums_of_symbolic_sizes():
    facts = {"n": Facts(hint=20000), "m": Facts(hint=1000)}
    graph = trace(lambda x: o.cumulative(x, axis=0, mode="sum"), parse_type("f32[n, m]"))
    assert in_bands(graph, dims=facts) == [True]
    executable = compile_graph(graph, fork=0.0, dims=facts)
    for shape in ((0, 5), (1, 1), (31, 33), (129, 16), (3001, 100), (70, 4100)):
        x = np.random.default_rng(0).standard_normal(shape, "f4")
        assert executable(x)[0].tobytes() == np.cumsum(x, 0).tobytes(), shape


def test_what_caches_hold_stays_in_registers():
    def total(x):
        return o.reduce_sum(x, axes=(0,))

    sizes = {(1000, 1000): False, (12000, 100): False, (1100, 1000): True, (32000, 100): True,
             (100000, 64): False, (40, 100000): False}  # fmt: skip
    for (n, m), expected in sizes.items():
        graph = trace(total, parse_type(f"f32[{n}, {m}]"))
        assert in_bands(graph, target="avx512") == [expected], (n, m)
