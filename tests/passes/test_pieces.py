"""Where the range of a loop is cut, so that each piece knows its guards."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.loop.text import show_kernel


@pytest.mark.parametrize("count, loops", [(2, 2), (4, 4), (7, 7), (40, 1)])
def test_a_concatenation_is_a_loop_for_each_part_unless_they_are_many(count, loops):
    def function(*xs):
        return ops.concat(*[ops.mul(x, x) for x in xs], axis=1)

    graph = trace(function, *[parse_type("f32[3, 20]")] * count)
    executable = compile_graph(graph)
    (kernel,) = executable.kernels
    assert show_kernel(kernel.loops).count("lanes") == loops
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((3, 20)).astype("f4") for _ in range(count)]
    np.testing.assert_array_equal(executable(*arrays)[0], evaluate(graph, *arrays)[0])
