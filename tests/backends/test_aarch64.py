"""Code for aarch64, run by an emulator, against the reference interpreter.

tests/ops/test_op_compiled.py does the same for every op by itself.
"""

import numpy as np
import pytest

from graphc.backends.llvm.compile import prepare
from graphc.ir import composite
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.ops.constant import full_like
from graphc.ir.types import parse_type
from tests.backends.emulated import TARGET, Emulated, needed
from tests.backends.random_graphs import SYMBOLS, random_graph, random_inputs
from tests.backends.test_compile_fuzz import difference
from tests.backends.test_compile_ops import (
    assert_close,
    layer_norm,
    o,
    random_array,
    softmax,
    wide,
)

pytestmark = needed
ALWAYS, NEVER = 0.0, 1e18


def check(folder, function, *types, arrays=None, tolerance=2e-5):
    """Compiles a function over values, and compares an emulator's results with evaluation."""
    graph = trace(function, *map(parse_type, types))
    rng = np.random.default_rng(0)
    given = arrays or [random_array(param.type, rng) for param in graph.params]
    found = Emulated(graph, folder)(*given)
    for array, expected in zip(found, evaluate(graph, *given), strict=True):
        assert_close(array, expected, tolerance)


@pytest.mark.parametrize("shape", [(5, 3), (40, 64), (3, 1000)])
def test_rows(tmp_path, shape):
    text = f"f32[{shape[0]}, {shape[1]}]"
    check(tmp_path, softmax, text)
    check(tmp_path, layer_norm, text, f"f32[{shape[1]}]", f"f32[{shape[1]}]")


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16", "i32", "u8"])
def test_reductions_and_running_ones(tmp_path, dtype):
    def several(x):
        return [
            o.reduce_sum(x, axes=(1,)),
            o.reduce_sum(x, axes=(0,)),
            o.reduce_max(x, axes=(0, 1)),
            o.arg_reduce(x, axis=1, mode="min"),
            o.cumulative(x, axis=1, mode="sum"),
            o.cumulative(x, axis=0, mode="max"),
        ]

    tolerance = {"f16": 4e-3, "bf16": 3e-2}.get(dtype, 2e-5)
    check(tmp_path, several, f"{dtype}[20, 37]", tolerance=tolerance)


def layer(x, w, b):
    shape = (x.type.shape[0], w.type.shape[0])
    return o.tanh(o.add(o.dot(x, w, contract=((1,), (1,))), wide(b, shape, 0)))


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16", "i32"])
@pytest.mark.parametrize("m, n, k", [(1, 70, 300), (64, 70, 100), (130, 33, 17), (30, 1, 200)])
def test_products(tmp_path, m, n, k, dtype):
    tolerance = {"f16": 4e-3, "bf16": 3e-2}.get(dtype, 2e-5)
    plain = {"contract": ((1,), (0,))}
    a, b = f"{dtype}[{m}, {k}]", f"{dtype}[{k}, {n}]"
    check(tmp_path, lambda a, b: o.dot(a, b, **plain), a, b, tolerance=tolerance)
    if dtype == "f32":
        check(tmp_path, layer, a, f"f32[{n}, {k}]", f"f32[{n}]")


CONVOLUTIONS = {
    "3 x 3": ((2, 16, 14, 14), (32, 16, 3, 3), 1, 1, 1),
    "1 x 1": ((2, 16, 14, 14), (40, 16, 1, 1), 1, 0, 1),
    "stem": ((1, 3, 30, 30), (16, 3, 7, 7), 2, 3, 1),
    "depthwise": ((1, 24, 15, 15), (24, 1, 3, 3), 1, 1, 24),
    "groups": ((2, 16, 9, 9), (12, 4, 3, 3), 2, 1, 4),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_and_their_gradients(tmp_path, name):
    x, w, stride, padding, groups = CONVOLUTIONS[name]
    attrs = {
        "stride": (stride, stride),
        "padding": ((padding, padding), (padding, padding)),
        "dilation": (1, 1),
        "groups": groups,
    }
    side = (x[2] + 2 * padding - w[2]) // stride + 1
    g = (x[0], w[0], side, side)
    xs, ws, gs = [f"f32[{', '.join(map(str, shape))}]" for shape in (x, w, g)]
    check(tmp_path, lambda x, w: o.relu(o.conv(x, w, **attrs)), xs, ws)
    check(tmp_path, lambda g, w: o.conv_grad_input(g, w, size=x[2:], **attrs), gs, ws)
    check(tmp_path, lambda g, x: o.conv_grad_weight(g, x, size=w[2:], **attrs), gs, xs)


@pytest.mark.parametrize("t, s", [(70, 203), (5, 600), (1, 40)])
def test_attention_and_its_gradients(tmp_path, t, s):
    q, k, v, mask = f"f32[2, {t}, 9]", f"f32[2, {s}, 9]", f"f32[2, {s}, 17]", f"f32[1, {t}, {s}]"
    rows, ct = f"f32[2, {t}]", f"f32[2, {t}, 17]"
    check(tmp_path, lambda *x: list(composite.attention(*x, scale=0.3)), q, k, v, mask)
    check(
        tmp_path,
        lambda *x: list(composite.attention_grad(*x, scale=0.3, of_mask=True)),
        *(q, k, v, rows, rows, ct, mask),
        tolerance=2e-4,
    )


@pytest.mark.parametrize("dtype", ["f32", "i64", "f16"])
def test_orders(tmp_path, dtype):
    x = np.random.default_rng(0).permutation(1200).reshape(6, 200) - 600
    array = x.astype(parse_type(f"{dtype}[]").dtype.numpy)

    def several(x):
        return [*o.sort(x, axis=1, descending=False), *o.topk(x, axis=1, k=5, largest=True)]

    check(tmp_path, several, f"{dtype}[6, 200]", arrays=[array], tolerance=0)


@pytest.mark.parametrize("seed", range(500, 508))
def test_random_graphs_on_any_number_of_threads(tmp_path, seed):
    graph = random_graph(seed)
    inputs = random_inputs(graph, seed)
    alone = Emulated(graph, tmp_path, fork=NEVER)(*inputs)
    together = Emulated(graph, tmp_path, threads=3, fork=ALWAYS)(*inputs)
    for array, other, expected in zip(alone, together, evaluate(graph, *inputs), strict=True):
        assert array.tobytes() == other.tobytes()
        assert difference(array, expected) < 1e-3, str(graph)


@pytest.mark.parametrize("seed", [520, 521])
def test_random_graphs_of_symbolic_sizes(tmp_path, seed):
    graph = random_graph(seed, symbolic=True)
    program = Emulated(graph, tmp_path)
    for sizes in (SYMBOLS, {"a": 4, "b": 65, "c": 16}):
        inputs = random_inputs(graph, seed, sizes)
        for array, expected in zip(program(*inputs), evaluate(graph, *inputs), strict=True):
            assert difference(array, expected) < 1e-3, (sizes, str(graph))


def test_a_failed_check_ends_the_call(tmp_path):
    graph = trace(
        lambda x, i: o.gather(x, i, axis=0), parse_type("f32[5, 3]"), parse_type("i64[4]")
    )
    program = Emulated(graph, tmp_path)
    x = np.arange(15, dtype="f4").reshape(5, 3)
    (found,) = program(x, np.array([4, 0, 2, 2]))
    assert program.result == 0
    np.testing.assert_array_equal(found, x[[4, 0, 2, 2]])
    program(x, np.array([4, 0, 5, 2]))
    assert program.result == 1


def test_denormals_are_flushed_on_all_threads_where_the_caller_says_so(tmp_path):
    graph = trace(lambda x: o.mul(x, full_like(0.5, x)), parse_type("f32[100000]"))
    x = np.full(100000, np.finfo(np.float32).tiny)
    program = Emulated(graph, tmp_path, threads=3, fork=ALWAYS)
    (kept,) = program(x)
    assert (kept == x / 2).all() and kept[0] > 0
    (flushed,) = program(x, flush=True)
    assert not flushed.any()


def test_the_text_uses_no_instruction_of_another_processor():
    graph = trace(softmax, parse_type("f32[40, 64]"))
    text = prepare(graph, target=TARGET).text
    assert "llvm.x86" not in text and "<4 x float>" in text and "<8 x float>" not in text
