"""Where the range of a loop is cut, so that each piece knows its guards."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.loop.text import show_kernel


@pytest.mark.parametrize(
    "count, axis, loops", [(2, 1, 2), (4, 1, 4), (7, 1, 7), (80, 1, 1), (60, 0, 60), (700, 0, 1)]
)
def test_a_concatenation_is_a_loop_for_each_part_unless_they_are_many(count, axis, loops):
    def function(*xs):
        return ops.concat(*[ops.mul(x, x) for x in xs], axis=axis)

    graph = trace(function, *[parse_type("f32[3, 20]")] * count)
    if count < 100:
        check(graph)
    (kernel,) = prepare(graph).reports
    assert show_kernel(kernel.loops).count("lanes") == loops


@pytest.mark.parametrize("count", [3, 5, 8, 33])
@pytest.mark.parametrize("axis", [0, 1])
def test_parts_of_other_sizes_are_found_by_halves(count, axis):
    def function(*xs):
        return ops.add(ops.concat(*xs, axis=axis), ops.concat(*xs[::-1], axis=axis))

    sizes = [(i * 7 % 5, 4) if axis == 0 else (4, i * 7 % 5) for i in range(count)]
    check(trace(function, *[parse_type(f"f32[{a}, {b}]") for a, b in sizes]))


def check(graph):
    random = np.random.default_rng(0)
    arrays = [random.standard_normal(p.type.shape).astype("f4") for p in graph.params]
    np.testing.assert_array_equal(compile_graph(graph)(*arrays)[0], evaluate(graph, *arrays)[0])


def test_a_part_that_is_a_layer_of_a_stack_is_read_in_place():
    """Its axis of one element goes; the other axes stay, though the part's range is guarded."""

    def function(stack, new):
        layer = ops.slice_(stack, start=(1, 0, 0, 0), stop=(2, 2, 5, 4), step=(1, 1, 1, 1))
        return ops.concat(ops.reshape(layer, shape=(2, 5, 4)), new, axis=1)

    graph = trace(function, parse_type("f32[3, 2, 5, 4]"), parse_type("f32[2, 1, 4]"))
    check(graph)
    assert len(prepare(graph).reports) == 1
