"""Windows and elements a few places apart: a window in each lane, vectors and shuffles."""

from math import prod

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from tests.backends.contract_runner import LEVELS, guarded
from tests.backends.test_compile_ops import assert_close, o, random_array

every_level = pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)


def check(graph, target, x, tolerance=2e-5):
    """Compiled, fused and apart, against the interpreter; both with the same bits."""
    fused = compile_graph(graph, target=target)(x)
    apart = compile_graph(graph, target=target, apart=True)(x)
    for found, alone, expected in zip(fused, apart, evaluate(graph, x), strict=True):
        assert found.tobytes() == alone.tobytes()
        assert_close(found, expected, tolerance)


def at_a_page_end(x):
    memory = guarded(x.shape, x.dtype)
    memory[...] = x
    return memory


@every_level
@pytest.mark.parametrize("columns", [11, 67])
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "i8", "bool"])
def test_elements_a_few_places_apart(target, columns, dtype):
    """One operand ends before the last column, one with it: nothing behind may be read."""
    width = (columns - 1) * 5 + 2
    type = parse_type(f"{dtype}[5, {width}]")

    def apart(x, first, stride):
        start = first + width - 2 - (columns - 1) * stride
        stop = start + (columns - 1) * stride + 1
        return o.slice(x, start=(0, start), stop=(5, stop), step=(1, stride))

    def every(x):
        return [o.max(apart(x, 0, stride), apart(x, 1, stride)) for stride in (2, 3, 4, 5)]

    x = random_array(type, np.random.default_rng(columns))
    check(trace(every, type), target, at_a_page_end(x))


POOLS = {
    # image, window, stride, dilation, padding
    "2x2": ((3, 14, 34), (2, 2), (2, 2), (1, 1), (0, 0)),
    "3x3 of stride 2": ((2, 13, 57), (3, 3), (2, 2), (1, 1), (1, 1)),
    "5x5": ((2, 7, 37), (5, 5), (1, 1), (1, 1), (2, 2)),
    "7x5 of stride 4": ((1, 31, 71), (7, 5), (4, 4), (1, 1), (3, 2)),
    "long and thin": ((4, 5, 90), (1, 17), (1, 2), (1, 1), (0, 8)),
    "none": ((0, 8, 34), (3, 3), (2, 2), (1, 1), (1, 1)),
}


def pooled(name, reduce, fill):
    image, sizes, strides, dilations, (rows, columns) = POOLS[name]

    def pool(x):
        x = o.pad(x, low=(0, rows, columns), high=(0, rows, columns), value=fill)
        windows = o.window(x, sizes=sizes, strides=strides, dilations=dilations)
        shape = (*windows.type.shape[:3], prod(sizes))
        return reduce(o.reshape(windows, shape=shape))

    return image, pool


REDUCTIONS = {
    "sum": ("f32", 0.0, lambda w: o.reduce_sum(w, axes=(3,))),
    "maximum": ("f32", -np.inf, lambda w: o.reduce_max(w, axes=(3,))),
    "least integer": ("i32", 99, lambda w: o.reduce_min(w, axes=(3,))),
    "sum of halves": ("bf16", 0.0, lambda w: o.reduce_sum(w, axes=(3,))),
    "place of the largest": ("f32", -np.inf, lambda w: o.arg_reduce(w, axis=3, mode="max")),
}


CASES = [("3x3 of stride 2", reduction) for reduction in REDUCTIONS] + [
    (name, reduction) for name in POOLS for reduction in ("sum", "maximum")
]


@every_level
@pytest.mark.parametrize(("name", "reduction"), dict.fromkeys(CASES))
def test_reductions_of_windows(target, name, reduction):
    dtype, fill, reduce = REDUCTIONS[reduction]
    image, pool = pooled(name, reduce, fill)
    type = parse_type(f"{dtype}[{', '.join(map(str, image))}]")
    x = random_array(type, np.random.default_rng(len(name)))
    if reduction in ("maximum", "place of the largest"):
        x[..., 3::11] = np.nan
        x[..., ::7] = -0.0
    check(trace(pool, type), target, x, 2e-2 if dtype == "bf16" else 2e-5)


@every_level
def test_windows_larger_than_a_vector_stay_out_of_memory(target):
    image, pool = pooled("7x5 of stride 4", REDUCTIONS["maximum"][2], -np.inf)
    graph = trace(pool, parse_type(f"f32[{', '.join(map(str, image))}]"))
    (report,) = prepare(graph, target=target).reports
    assert report.kind == "rows"
