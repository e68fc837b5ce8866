"""Bits do not depend on threads, and one executable serves several callers at a time."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from graphc.backends.llvm import pool
from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.functional.lookup import scattered
from graphc.ir.build import trace
from graphc.ir.errors import BoundsError
from graphc.ir.interpret import evaluate
from graphc.ir.ops import full_like
from graphc.ir.types import parse_type
from graphc.passes.loop.text import show_kernel
from tests.backends.random_graphs import random_graph, random_inputs
from tests.backends.test_compile_ops import layer_norm, o, softmax

pytestmark = pytest.mark.usefixtures("three_threads")

ALWAYS, NEVER = 0.0, 1e18


def assert_same_bits(graph, inputs, times=5):
    serial = compile_graph(graph, fork=NEVER)(*inputs)
    executable = compile_graph(graph, fork=ALWAYS)
    for _ in range(times):
        for a, b in zip(serial, executable(*inputs), strict=True):
            assert a.tobytes() == b.tobytes()
    return executable


@pytest.mark.parametrize("seed", range(300, 316))
def test_random_graphs_have_the_same_bits_on_several_threads(seed):
    graph = random_graph(seed)
    assert_same_bits(graph, random_inputs(graph, seed))


SUMS = {
    "one long row": ("f32[200000]", (0,)),
    "few columns of many rows": ("f32[20000, 7]", (0,)),
    "columns": ("f32[3000, 300]", (0,)),
    "everything": ("f32[300, 700]", (0, 1)),
    "outside and inside": ("f32[40, 30, 50]", (0, 2)),
    "half precision": ("f16[5000, 20]", (0,)),
}


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_cut_by_their_shapes(name):
    text, axes = SUMS[name]
    type = parse_type(text)
    graph = trace(lambda x: [o.reduce_sum(x, axes=axes), o.exp(x)], type)
    x = np.random.default_rng(0).random(type.shape).astype(type.dtype.numpy)
    executable = assert_same_bits(graph, [x])
    total = executable(x)[0].astype("f8")
    np.testing.assert_allclose(total, x.astype("f8").sum(axes), rtol=2e-3 if "16" in text else 1e-5)


@pytest.mark.parametrize("dtype", ["bool", "i8", "f16", "f64"])
def test_extremes_of_one_long_row(dtype):
    type = parse_type(f"{dtype}[100000]")
    graph = trace(lambda x: [o.reduce_max(x, axes=(0,)), o.reduce_min(x, axes=(0,))], type)
    x = np.random.default_rng(0).integers(0, 2, 100000).astype(type.dtype.numpy)
    largest, smallest = assert_same_bits(graph, [x])(x)
    assert largest == x.max() and smallest == x.min()


SCATTERS = {
    "rows": ((50, 70), (50, 37), 1),
    "one vector of updates": ((40, 64), (40, 16), 1),
    "matrices": ((9, 20, 40), (9, 20, 33), 2),
    "a middle axis": ((9, 40, 16), (9, 30, 16), 1),
    "wide rows": ((3, 5000), (3, 2100), 1),
}


@pytest.mark.parametrize(
    ("name", "dtype", "mode"),
    [
        *[(name, "f32", mode) for name in SCATTERS for mode in ("add", "set")],
        *[("rows", dtype, mode) for dtype in ("f64", "i64") for mode in ("mul", "max")],
        ("wide rows", "bool", "add"),
        ("wide rows", "f16", "mul"),
        ("wide rows", "i8", "min"),
    ],
)
def test_updates_of_rows(name, dtype, mode):
    """Each row is copied and updated by one thread, in order."""
    shape, index, axis = SCATTERS[name]
    types = [f"{dtype}{list(shape)}", f"i64{list(index)}", f"{dtype}{list(index)}"]
    graph = trace(
        lambda x, i, y: [
            scattered(x, i, y, axis, mode),
            scattered(full_like(0, x), i, y, axis, mode),
        ],
        *map(parse_type, types),
    )
    rng = np.random.default_rng(0)
    x, y = [(rng.standard_normal(s) * 5).astype(parse_type(dtype + "[]").dtype.numpy)
            for s in (shape, index)]  # fmt: skip
    places = rng.integers(0, shape[axis], index)
    executable = assert_same_bits(graph, [x, places, y], times=2)
    for found, expected in zip(executable(x, places, y), evaluate(graph, x, places, y)):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    loops = [show_kernel(report.loops) for report in prepare(graph).reports if report.loops]
    assert sum("parallel" in text and "from" in text for text in loops if "scatter" in text) == 2
    places.flat[-1] = shape[axis]
    with pytest.raises(BoundsError):
        executable(x, places, y)


def test_column_sums_beside_rows():
    def both(x):
        columns = o.reduce_sum(x, axes=(0,))
        return [columns, o.reduce_sum(o.mul(x, x), axes=(1,)), o.reduce_sum(o.neg(x), axes=(0,))]

    graph = trace(both, parse_type("f32[1000, 70]"))
    executable = assert_same_bits(graph, [np.random.default_rng(0).random((1000, 70), "f4")])
    assert [kernel.kind for kernel in executable.kernels].count("rows") == 1


def test_symbolic_sizes_on_several_threads():
    types = [parse_type("f32[b, t]"), parse_type("f32[t]"), parse_type("f32[t]")]
    graph = trace(lambda x, w, b: [centered_rows(x, w, b), o.reduce_sum(x, axes=(0,))], *types)
    serial, forked = compile_graph(graph, fork=NEVER), compile_graph(graph, fork=ALWAYS)
    rng = np.random.default_rng(0)
    for b, t in [(1, 5), (70, 100), (3000, 33), (2, 40000), (0, 4)]:
        inputs = [rng.random((b, t), "f4"), rng.random(t, "f4"), rng.random(t, "f4")]
        for x, y in zip(serial(*inputs), forked(*inputs), strict=True):
            assert x.tobytes() == y.tobytes(), (b, t)


def centered_rows(x, weight, bias):
    shape = x.type.shape
    total = o.reduce_sum(x, axes=(1,))
    centered = o.sub(x, o.expand(total, shape=shape, axes=(1,)))
    scaled = o.mul(centered, o.expand(weight, shape=shape, axes=(0,)))
    return o.add(scaled, o.expand(bias, shape=shape, axes=(0,)))


def test_eight_callers_at_a_time():
    graph = trace(softmax, parse_type("f32[64, 300]"))
    executable = compile_graph(graph, apart=True, fork=ALWAYS)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((64, 300)).astype("f4") for _ in range(8)]
    expected = [executable(x)[0] for x in inputs]

    def call(k):
        return all(executable(inputs[k])[0].tobytes() == expected[k].tobytes() for _ in range(20))

    with ThreadPoolExecutor(8) as callers:
        assert all(callers.map(call, range(8)))


def test_products_on_several_threads():
    graph = trace(
        lambda a, b: o.tanh(o.dot(a, b, contract=((1,), (0,)))),
        parse_type("f32[200, 150]"),
        parse_type("f32[150, 300]"),
    )
    rng = np.random.default_rng(0)
    assert_same_bits(graph, [rng.random((200, 150), "f4"), rng.random((150, 300), "f4")])


def test_layer_norm_on_several_threads():
    graph = trace(layer_norm, *map(parse_type, ["f32[64, 100]", "f32[100]", "f32[100]"]))
    rng = np.random.default_rng(0)
    assert_same_bits(graph, [rng.random(s, "f4") for s in [(64, 100), (100,), (100,)]])


TRANSPOSES = {
    "square": ("f32[260, 260]", (1, 0)),
    "tall": ("f64[1031, 37]", (1, 0)),
    "wide": ("i8[9, 2000]", (1, 0)),
    "channels last": ("f32[3, 17, 11, 13]", (0, 2, 3, 1)),
    "channels first": ("bf16[2, 11, 13, 70]", (0, 3, 1, 2)),
    "heads": ("f32[3, 40, 5, 24]", (0, 2, 1, 3)),
}


@pytest.mark.parametrize("name", TRANSPOSES)
def test_transposes_are_cut_around_whole_tiles(name):
    text, perm = TRANSPOSES[name]
    type = parse_type(text)
    graph = trace(lambda x: [o.neg(o.permute(x, perm=perm))], type)
    x = np.random.default_rng(0).integers(-9, 9, type.shape).astype(type.dtype.numpy)
    executable = assert_same_bits(graph, [x])
    np.testing.assert_array_equal(executable(x)[0], -x.transpose(perm))
    (report,) = prepare(graph).reports
    lines = show_kernel(report.loops).splitlines()
    parallel = [k for k, line in enumerate(lines) if line.endswith(" parallel:")]
    tiles = [k for k, line in enumerate(lines) if line.lstrip().startswith("tiles of")]
    assert parallel and (name == "heads" or max(parallel) < min(tiles))


def test_on_one_thread_a_kernel_is_one_call_with_the_same_bits():
    """Each chunk of a product would pack the same matrix."""
    graph = trace(
        lambda a, b: o.dot(a, b, contract=((1,), (1,))),
        *map(parse_type, ["f32[300, 70]", "f32[200, 70]"]),
    )
    text = prepare(graph).text
    calls = [line.strip() for line in text.splitlines() if "call void @gemm" in line]
    starts = [line for line in calls if "i64 0, i64 " in line]  # all units, from the first on
    assert starts and "graphc_parallel_within" in text
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(p.type.shape).astype("f4") for p in graph.params]
    (several,) = compile_graph(graph)(*inputs)
    pool.set_num_threads(1)
    (one,) = compile_graph(graph)(*inputs)
    assert one.tobytes() == several.tobytes()


CONVOLUTION = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


@pytest.mark.parametrize("batch", ["5", "n"])
@pytest.mark.parametrize("back", [False, True], ids=["forward", "gradient"])
def test_weights_of_convolutions_are_packed_once_for_all_threads(back, batch):
    def convolved(x, w):
        if back:
            return o.conv_grad_input(x, w, size=(6, 6), **CONVOLUTION)
        return o.conv(x, w, **CONVOLUTION)

    graph = trace(convolved, parse_type(f"f32[{batch}, 40, 6, 6]"), parse_type("f32[40, 40, 3, 3]"))
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal(shape, np.float32) for shape in ((5, 40, 6, 6), (40, 40, 3, 3))]
    executable = assert_same_bits(graph, inputs)
    pack, main = executable.kernels
    assert (pack.kind, main.kind) == ("packed weights", "conv_grad_input" if back else "conv")
    scratch = [call.scratch for call in executable.compiler.calls]
    assert scratch[1] < inputs[1].nbytes


def test_weights_of_one_image_are_packed_by_the_channels_that_use_them():
    graph = trace(
        lambda x, w: o.conv(x, w, **CONVOLUTION),
        parse_type("f32[1, 40, 6, 6]"),
        parse_type("f32[40, 40, 3, 3]"),
    )
    assert [kernel.kind for kernel in prepare(graph).reports] == ["conv"]
