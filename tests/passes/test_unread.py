"""Roots that their own kernel alone reads are not stored."""

import numpy as np

import graphc as torch
from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.ir.interpret import evaluate

from .test_repeated import traced


def chain(steps):
    def function(x, c):
        for _ in range(steps):
            x = x * x + c
        return x

    return function


def escape(steps):
    """z -> z*z + c while |z| < 2: three values go from step to step."""

    def function(cx, cy):
        x, y, count = cx * 0, cx * 0, cx * 0
        for _ in range(steps):
            near = x * x + y * y < 4.0
            next_x, next_y = x * x - y * y + cx, x * y * 2.0 + cy
            x, y = torch.where(near, next_x, x), torch.where(near, next_y, y)
            count = torch.where(near, count + 1.0, count)
        return count

    return function


def test_a_kernel_stores_only_what_others_read():
    """Roots that only cut a long chain stay in registers where the kernel goes on."""
    graph = traced(escape(28), 4096, 4096)
    compiler = prepare(graph)
    assert [report.loops.writes for report in compiler.reports] == [[graph.results[0]]]


def test_what_another_kernel_or_the_caller_reads_is_stored():
    compiler = prepare(traced(escape(50), 4096, 4096))
    first, second = compiler.plan.groups
    between = {value for value in second.reads() if value.node is not None}
    assert between and between == set(compiler.reports[0].loops.writes)


def test_a_value_of_the_chain_that_is_a_result_too():
    def function(x, c):
        half = chain(70)(x, c)
        return half, chain(70)(half * 0.5, c)

    graph = traced(function, 100, 100)
    arrays = [np.linspace(-1, 0.2, 100, dtype=np.float32) for _ in range(2)]
    for array, expected in zip(compile_graph(graph)(*arrays), evaluate(graph, *arrays)):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)
