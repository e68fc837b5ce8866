"""One compile for all sizes: results are the interpreter's, bits those of the static compile."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.ir.build import trace
from graphc.ir.dims import evaluate_dim, substitute
from graphc.ir.dtype import F32, I64
from graphc.ir.interpret import evaluate
from graphc.ir.ops.constant import full, full_like, iota
from graphc.ir.types import parse_type
from tests.backends.test_compile_fuzz import difference
from tests.backends.test_compile_ops import o, softmax, wide


def normalized(x):
    shape = x.type.shape
    total = o.reduce_sum(x, axes=(0, 2))
    return o.sub(x, o.mul(wide(total, shape, 0, 2), full_like(0.01, x)))


def heads(x):
    b, t, c = x.type.shape
    return o.exp(o.permute(o.reshape(x, shape=(b, t, 4, c // 4)), perm=(0, 2, 1, 3)))


def flat(x):
    b, t, c = x.type.shape
    return [o.exp(o.reshape(x, shape=(b * t, c))), o.reshape(x, shape=(b * c, t))]


def below_diagonal(x):
    rows, columns = iota(x.type.shape, 0, I64), iota(x.type.shape, 1, I64)
    return softmax(o.select(o.le(columns, rows), x, full(-1e9, F32, x.type.shape)))


CASES = {
    "map": (lambda x, b: o.tanh(o.add(x, wide(b, x.type.shape, 0))), "f32[b, t]", "f32[t]"),
    "softmax": (softmax, "f32[b, t]"),
    "sums": (
        lambda x: [o.reduce_sum(x, axes=(1,)), o.reduce_sum(x, axes=(0,))],
        "f32[b, t]",
    ),
    "extremes": (
        lambda x: [o.reduce_max(x, axes=(0,)), o.arg_reduce(x, axis=1, mode="min")],
        "f32[b, t]",
    ),
    "everything": (lambda x: o.reduce_sum(x, axes=(0, 1)), "f32[b, t]"),
    "normalized": (normalized, "f32[b, 5, t]"),
    "heads": (heads, "f32[b, t, 64]"),
    "flat": (flat, "f32[b, t, 8]"),
    "transposed": (
        lambda x, y: o.add(x, o.permute(y, perm=(1, 0))),
        "f32[b, t]",
        "f32[t, b]",
    ),
    "concat": (lambda x, y: softmax(o.concat(x, y, axis=1)), "f32[4, t]", "f32[4, b]"),
    "pad": (lambda x: o.pad(x, low=(1, 2), high=(0, 3), value=1.0), "f32[b, t]"),
    "flip": (lambda x: o.flip(x, axes=(1,)), "f32[b, t]"),
    "running": (
        lambda x: [
            o.cumulative(x, axis=1, mode="sum"),
            o.cumulative(x, axis=0, mode="sum", reverse=True),
        ],
        "f32[b, t]",
    ),
    "gather": (lambda x, i: o.gather(x, i, axis=0), "f32[b, t]", "i64[7]"),
    "scatter": (
        lambda x, i, u: o.scatter(x, i, u, axis=0, mode="add"),
        "f32[b, t]",
        "i64[7]",
        "f32[7, t]",
    ),
    "product": (lambda x, y: o.dot(x, y, contract=((1,), (0,))), "f32[b, t]", "f32[t, 40]"),
    "causal": (below_diagonal, "f32[b, t]"),
}
SIZES = [(1, 1), (1, 17), (3, 64), (16, 15), (33, 100), (100, 257), (2, 3)]


def arrays_of(graph, sizes, rng):
    for param in graph.params:
        shape = [evaluate_dim(d, sizes) for d in param.type.shape]
        if param.type.dtype is I64:
            yield rng.integers(0, sizes["b"], shape)
        else:
            yield rng.standard_normal(shape).astype(param.type.dtype.numpy)


def static(text, sizes):
    type = parse_type(text)
    return type.with_shape([substitute(d, sizes) for d in type.shape])


@pytest.mark.parametrize("name", CASES)
def test_one_compile_serves_all_sizes_with_the_bits_of_each(name):
    function, *types = CASES[name]
    graph = trace(function, *map(parse_type, types))
    executable = compile_graph(graph)
    rng = np.random.default_rng(0)
    for b, t in SIZES:
        sizes = {"b": b, "t": t}
        arrays = list(arrays_of(graph, sizes, rng))
        found = executable(*arrays)
        for array, expected in zip(found, evaluate(graph, *arrays), strict=True):
            assert difference(array, expected) < 1e-4, sizes
        alone = compile_graph(trace(function, *[static(text, sizes) for text in types]))
        for array, expected in zip(found, alone(*arrays), strict=True):
            assert array.tobytes() == expected.tobytes(), sizes


def test_rows_around_the_length_from_which_they_go_in_blocks():
    executable = compile_graph(trace(softmax, parse_type("f32[2, t]")))
    rng = np.random.default_rng(0)
    for t in (16384, 32767, 32768, 40000, 70001):
        x = rng.standard_normal((2, t)).astype("f4")
        alone = compile_graph(trace(softmax, parse_type(f"f32[2, {t}]")))
        (found,), (expected,) = executable(x), alone(x)
        assert found.tobytes() == expected.tobytes()
        np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)


def test_sizes_of_zero():
    executable = compile_graph(trace(CASES["sums"][0], parse_type("f32[b, t]")))
    for shape in [(0, 5), (5, 0), (0, 0)]:
        rows, columns = executable(np.empty(shape, "f4"))
        np.testing.assert_array_equal(rows, np.zeros(shape[0], "f4"))
        np.testing.assert_array_equal(columns, np.zeros(shape[1], "f4"))
