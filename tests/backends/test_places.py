"""Places of extremes, and running sums: what registers start from, and the order of additions."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.target import TARGETS, host_target, runs_here
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS
from graphc.ir.types import parse_type

SHAPES = [(3, 5), (4, 16), (5, 100), (2, 1003), (40, 7), (2, 70, 3), (1, 40_000)]
FILLS = {
    "lowest": {"f32": -np.inf, "i32": np.iinfo(np.int32).min},
    "highest": {"f32": np.inf, "i32": np.iinfo(np.int32).max},
}


#: By width, the levels that this processor runs.
HERE = list({t.vector_bytes: t for t in TARGETS.values() if runs_here(t)}.values())
NAMES = {"f": "f32", "i": "i32", "b": "bool"}


def places(array, axis, mode):
    text = f"{NAMES[array.dtype.kind]}{[*array.shape]}"
    graph = trace(lambda x: OPS["arg_reduce"](x, axis=axis, mode=mode), parse_type(text))
    (expected,) = evaluate(graph, array)
    for target in HERE:
        (found,) = compile_graph(graph, target=target)(array)
        np.testing.assert_array_equal(found, expected)
    return expected


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("dtype", ["f32", "i32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_where_all_are_what_registers_start_from_it_is_the_first(shape, dtype, mode):
    for fill in FILLS.values():
        array = np.full(shape, fill[dtype], np.float32 if dtype == "f32" else np.int32)
        for axis in range(len(shape)):
            assert not places(array, axis, mode).any()


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("shape", SHAPES)
def test_nan_comes_before_all_and_the_first_of_equals_before_the_rest(shape, mode):
    random = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5):
        array = random.integers(-2, 3, shape).astype(np.float32)
        array[array == -2] = -np.inf
        array[random.random(shape) < share] = np.nan
        for axis in range(len(shape)):
            places(array, axis, mode)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("shape", SHAPES)
def test_true_is_more_than_false(shape, mode):
    array = np.random.default_rng(0).random(shape) < 0.1
    for axis in range(len(shape)):
        places(array, axis, mode)
        places(~array, axis, mode)


@pytest.mark.parametrize("mode", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("n", [5, 16, 100, 1003])
def test_running_reductions_have_the_bits_of_their_tree(mode, n):
    """Lanes of a vector combine at distances 1, 2, 4, ..., then with all that was before."""
    graph = trace(
        lambda x: OPS["cumulative"](x, axis=1, mode=mode, reverse=False), parse_type(f"f32[3, {n}]")
    )
    x = np.random.default_rng(0).uniform(0.5, 1.5, (3, n)).astype(np.float32)
    op, start = {
        "sum": (np.add, 0.0),
        "prod": (np.multiply, 1.0),
        "max": (np.maximum, -np.inf),
        "min": (np.minimum, np.inf),
    }[mode]
    width = host_target().lanes(32)
    rows = np.full((3, -(-n // width) * width), start, np.float32)
    rows[:, :n] = x
    before = np.full((3, 1), start, np.float32)
    for first in range(0, rows.shape[1], width):
        part = rows[:, first : first + width]
        distance = 1
        while distance < width:
            moved = np.full_like(part, start)
            moved[:, distance:] = part[:, :-distance]
            part = op(moved, part)
            distance *= 2
        rows[:, first : first + width] = op(before, part)
        before = rows[:, first + width - 1 : first + width]
    (found,) = compile_graph(graph)(x)
    np.testing.assert_array_equal(found, rows[:, :n])
