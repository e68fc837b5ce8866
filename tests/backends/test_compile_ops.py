"""Every kind of op, compiled, against the reference interpreter."""

import numpy as np
import pytest

import graphc.ir.ops  # noqa: F401  (declares the ops)
from graphc.backends.llvm.compile import compile_graph
from graphc.ir.build import trace
from graphc.ir.dims import symbol
from graphc.ir.dtype import BF16, F16, F32, F64, I32, I64
from graphc.ir.errors import BoundsError, DivisionError, UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS
from graphc.ir.ops.constant import const, full, iota
from graphc.ir.types import parse_type
from graphc.passes.loop.text import show_kernel

MATRIX = "f32[64, 100]"


class _Ops:
    def __getattr__(self, name):
        return OPS[name]


o = _Ops()


def run(function, *types, arrays=None, seed=0, tolerance=2e-5, **options):
    """Compiles a function over values and compares its results with the interpreter's."""
    graph = trace(function, *map(parse_type, types))
    rng = np.random.default_rng(seed)
    given = arrays or [random_array(param.type, rng) for param in graph.params]
    executable = compile_graph(graph, **options)
    found = executable(*given)
    for array, expected in zip(found, evaluate(graph, *given), strict=True):
        assert_close(array, expected, tolerance)
    return executable, found


def random_array(type, rng):
    kind = type.dtype.kind
    if kind == "f":
        return rng.standard_normal(type.shape).astype(type.dtype.numpy)
    if kind == "b":
        return rng.random(type.shape) < 0.5
    return rng.integers(0, 5, type.shape).astype(type.dtype.numpy)


def assert_close(found, expected, tolerance):
    assert found.shape == expected.shape and found.dtype == expected.dtype
    if expected.dtype.kind in "iub":
        np.testing.assert_array_equal(found, expected)
        return
    wide = expected.astype(np.float64)
    scale = max(1.0, np.abs(wide[np.isfinite(wide)]).max(initial=0))
    np.testing.assert_allclose(found.astype(np.float64), wide, atol=tolerance * scale, rtol=0)


def wide(value, shape, *axes):
    return o.expand(value, shape=shape, axes=axes)


def softmax(x):
    shape = x.type.shape
    e = o.exp(o.sub(x, wide(o.reduce_max(x, axes=(1,)), shape, 1)))
    return o.div(e, wide(o.reduce_sum(e, axes=(1,)), shape, 1))


def layer_norm(x, weight, bias):
    shape = x.type.shape
    rows, n = shape[:1], shape[1]
    scale = full(1 / n, F32, rows)
    centered = o.sub(x, wide(o.mul(o.reduce_sum(x, axes=(1,)), scale), shape, 1))
    variance = o.mul(o.reduce_sum(o.mul(centered, centered), axes=(1,)), scale)
    inverse = o.rsqrt(o.add(variance, full(1e-5, F32, rows)))
    normal = o.mul(centered, wide(inverse, shape, 1))
    return o.add(o.mul(normal, wide(weight, shape, 0)), wide(bias, shape, 0))


MOVEMENT = {
    "concat": lambda x: o.concat(x, o.neg(x), axis=1),
    "concat of rows": lambda x: o.concat(x, x, o.exp(x), axis=0),
    "pad": lambda x: o.pad(x, low=(1, 2), high=(3, 4), value=7.0),
    "flip": lambda x: o.flip(x, axes=(1,)),
    "flip both": lambda x: o.exp(o.flip(x, axes=(0, 1))),
    "slice": lambda x: o.slice(x, start=(1, 0), stop=(60, 99), step=(2, 3)),
    "permute": lambda x: o.permute(x, perm=(1, 0)),
    "reshape": lambda x: o.exp(o.reshape(x, shape=(25, 256))),
    "no common factor": lambda x: o.exp(
        o.reshape(o.slice(x, start=(0, 0), stop=(64, 99), step=(1, 1)), shape=(36, 176))
    ),
    "interleaved": lambda x: o.slice(
        o.reshape(x, shape=(64, 50, 2)), start=(0, 0, 1), stop=(64, 50, 2), step=(1, 1, 1)
    ),
    "window": lambda x: o.window(x, sizes=(3, 3), strides=(2, 1), dilations=(1, 2)),
    "expand": lambda x: wide(x, (64, 3, 100), 1),
}


@pytest.mark.parametrize("name", MOVEMENT)
def test_movement_moves_what_the_interpreter_moves(name):
    run(MOVEMENT[name], MATRIX, tolerance=1e-6)


REDUCTIONS = {
    "rows": lambda x: o.reduce_sum(x, axes=(1,)),
    "columns": lambda x: o.reduce_sum(x, axes=(0,)),
    "everything": lambda x: o.reduce_sum(x, axes=(0, 1)),
    "nothing": lambda x: o.reduce_sum(x, axes=()),
    "several": lambda x: [
        o.reduce_max(x, axes=(1,)),
        o.reduce_min(x, axes=(0,)),
        o.reduce_prod(x, axes=(1,)),
    ],
    "rows and columns": lambda x: [o.reduce_sum(x, axes=(0,)), o.reduce_sum(x, axes=(1,))],
    "places": lambda x: [
        o.arg_reduce(x, axis=1, mode="max"),
        o.arg_reduce(x, axis=0, mode="min"),
    ],
    "running": lambda x: [
        o.cumulative(x, axis=1, mode="sum"),
        o.cumulative(x, axis=0, mode="prod"),
        o.cumulative(x, axis=1, mode="max"),
        o.cumulative(x, axis=0, mode="sum", reverse=True),
        o.cumulative(x, axis=1, mode="min", reverse=True),
    ],
}


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "i64", "f16", "u8"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_are_the_interpreters(name, dtype):
    tolerance = {"f64": 1e-13, "f16": 4e-3}.get(dtype, 2e-5)
    shape = (7, 20) if dtype == "f16" else (64, 100)
    run(REDUCTIONS[name], f"{dtype}[{shape[0]}, {shape[1]}]", tolerance=tolerance)


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (5, 17), (40, 64), (3, 1000), (2, 40000)])
def test_softmax_is_one_kernel_for_rows_of_any_length(shape):
    executable, _ = run(softmax, f"f32[{shape[0]}, {shape[1]}]")
    assert len(executable.kernels) == 1


def test_layer_norm_is_one_kernel():
    executable, _ = run(layer_norm, MATRIX, "f32[100]", "f32[100]")
    assert [kernel.kind for kernel in executable.kernels] == ["rows"]


def test_long_sums_are_exact_to_a_few_bits():
    rng = np.random.default_rng(0)
    for shape in [(300000,), (50000, 7)]:
        x = rng.random(shape).astype("f4")
        text = f"f32[{', '.join(map(str, shape))}]"
        _, (total,) = run(lambda x: o.reduce_sum(x, axes=(0,)), text, arrays=[x])
        np.testing.assert_allclose(total, x.sum(0, dtype="f8"), rtol=1e-6)


def test_extremes_carry_nan_and_first_places():
    x = np.ones((4, 70), np.float32)
    x[1, 40] = x[1, 50] = np.nan
    x[2, 33] = x[2, 69] = 3.0
    x[3] = -np.inf
    executable, (largest, place) = run(
        lambda x: [o.reduce_max(x, axes=(1,)), o.arg_reduce(x, axis=1, mode="max")],
        "f32[4, 70]",
        arrays=[x],
    )
    np.testing.assert_array_equal(largest, [1, np.nan, 3, -np.inf])
    np.testing.assert_array_equal(place, [0, 40, 33, 0])


@pytest.mark.parametrize("dtype", [F64, F16, BF16, I32, I64])
def test_casts(dtype):
    def casts(x):
        there = o.cast(x, dtype=dtype)
        return [there, o.cast(o.add(there, there), dtype=F32)]

    run(casts, MATRIX)


def test_computed_places():
    index = np.array([6, 0, 3, 3, 6, 1, 2, 5, 4, 3])
    rng = np.random.default_rng(1)
    x, updates = [rng.standard_normal(s).astype("f4") for s in [(3, 7, 5), (3, 10, 5)]]
    run(
        lambda x, i, u: (
            [o.gather(x, i, axis=1)]
            + [o.scatter(x, i, u, axis=1, mode=m) for m in ("set", "add", "mul", "max", "min")]
        ),
        "f32[3, 7, 5]",
        "i64[10]",
        "f32[3, 10, 5]",
        arrays=[x, index, updates],
    )


def test_scatter_into_zeros_lane_by_lane():
    run(
        lambda i, u: o.scatter(full(0.0, F32, (7,)), i, u, axis=0, mode="add"),
        "i32[33]",
        "f32[33]",
    )


def test_dynamic_slices_are_clamped():
    run(lambda x, a, b: o.dynamic_slice(x, a, b, sizes=(62, 98)), MATRIX, "i64[]", "i64[]")
    run(lambda x, u, a, b: o.dynamic_update(x, u, a, b), MATRIX, "f32[62, 98]", "i64[]", "i64[]")


def test_constants_and_results_that_are_parameters():
    run(
        lambda x: [
            x,
            o.reshape(x, shape=(6400,)),
            o.add(x, const(np.arange(6400, dtype="f4").reshape(64, 100))),
            iota((4, 5), 1, I64),
            iota((4, 5), 0, F32),
            full(3, I32, (2, 2)),
        ],
        MATRIX,
    )


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,)])
def test_tensors_without_elements(shape):
    text = ", ".join(map(str, shape))
    run(lambda x: [o.reduce_sum(x, axes=(0,)), o.exp(x)], f"f32[{text}]")


def test_an_index_out_of_bounds_is_an_error_before_anything_is_written():
    graph = trace(
        lambda x, i: [o.gather(x, i, axis=0), o.neg(x)], parse_type("f32[5]"), parse_type("i64[3]")
    )
    executable = compile_graph(graph)
    x = np.zeros(5, "f4")
    for bad in (-1, 5, 1 << 40):
        with pytest.raises(BoundsError, match="size 5"):
            executable(x, np.array([0, bad, 1]))
    np.testing.assert_array_equal(executable(x + 1, np.array([0, 4, 1]))[0], np.ones(3, "f4"))


def test_an_integer_division_by_zero_is_an_error():
    executable = compile_graph(
        trace(lambda x, y: o.quo(x, y), parse_type("i32[9]"), parse_type("i32[9]"))
    )
    x = np.arange(9, dtype="i4")
    np.testing.assert_array_equal(executable(x, x * 0 + 2)[0], x // 2)
    with pytest.raises(DivisionError):
        executable(x, x)


def test_what_has_no_lowering_says_so():
    with pytest.raises(UnsupportedError, match="compact"):
        compile_graph(trace(lambda m: o.compact(m, size=(symbol("k"),)), parse_type("bool[5]")))


def test_refusals_name_the_reason():
    executable, _ = run(lambda x: o.neg(o.cumulative(x, axis=1, mode="sum")), MATRIX)
    assert any("scan" in str(refusal) for refusal in executable.refusals)


def test_the_loops_of_a_kernel_are_readable():
    executable, _ = run(softmax, "f32[4, 100]")
    text = show_kernel(executable.kernels[0].loops)
    assert "lanes i1 in 0..100 x 4:" in text and "stage 2:" in text
    assert "div(exp(" in text


@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "u8", "bool", "f16"])
@pytest.mark.parametrize("descending", [False, True])
def test_sort_is_stable_and_puts_nan_last(dtype, descending):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 7, (5, 40, 3)).astype(parse_type(dtype + "[]").dtype.numpy)
    if dtype[0] == "f":
        x[2, ::7, 1] = np.nan
    run(
        lambda x: o.sort(x, axis=1, descending=descending),
        f"{dtype}[5, 40, 3]",
        arrays=[x],
    )


@pytest.mark.parametrize("right", [False, True])
def test_searchsorted(right):
    x = np.sort(np.random.default_rng(0).integers(0, 20, 30)).astype("f4")
    values = np.arange(-1, 22).astype("f4")
    run(
        lambda b, v: o.searchsorted(b, v, right=right),
        "f32[30]",
        "f32[23]",
        arrays=[x, values],
    )


COMPLEX = {
    "arithmetic": lambda x, y: [o.add(x, y), o.sub(x, y), o.mul(x, y), o.div(x, y), o.neg(x)],
    "functions": lambda x, y: [getattr(o, name)(x) for name in ("exp", "log", "sqrt", "sin")],
    "more functions": lambda x, y: [o.cos(x), o.tanh(x), o.real(x), o.imag(y)],
    "movement": lambda x, y: [
        o.permute(o.concat(x, y, axis=0), perm=(1, 0)),
        o.pad(o.flip(x, axes=(1,)), low=(1, 0), high=(0, 2), value=1 + 2j),
        o.select(o.eq(x, y), x, y),
    ],
    "sums": lambda x, y: [
        o.reduce_sum(x, axes=(0,)),
        o.cumulative(x, axis=1, mode="sum"),
        o.dot(x, y, contract=((1,), (1,))),
    ],
    "casts": lambda x, y: [
        o.cast(x, dtype=F64),
        o.cast(o.real(x), dtype=x.type.dtype),
        o.complex(o.imag(x), o.real(y)),
        full(1 - 2j, x.type.dtype, (3,)),
    ],
}


@pytest.mark.parametrize("dtype", ["c64", "c128"])
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers(name, dtype):
    rng = np.random.default_rng(0)
    arrays = [
        (rng.standard_normal((6, 9)) + 1j * rng.standard_normal((6, 9))).astype(
            parse_type(dtype + "[]").dtype.numpy
        )
        for _ in range(2)
    ]
    graph = trace(COMPLEX[name], *[parse_type(f"{dtype}[6, 9]")] * 2)
    found = compile_graph(graph)(*arrays)
    tolerance = 1e-4 if dtype == "c64" else 1e-11
    for array, expected in zip(found, evaluate(graph, *arrays), strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_allclose(array, expected, rtol=tolerance, atol=tolerance)
