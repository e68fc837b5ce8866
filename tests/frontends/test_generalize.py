"""Graphs with symbolic sizes, from graphs at several sizes."""

import numpy as np
import pytest

from graphc.frontends.generalize import generalize
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.dims import symbol
from graphc.ir.dtype import F32, I64
from graphc.ir.errors import UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.types import TensorType
from graphc.ir.verify import verify


def general(function, *dims, **example):
    """`function(sizes)(x)` with x of these dims, generalised over the names of `example`."""

    def graph_at(sizes):
        shape = [sizes.get(d, d) for d in dims]
        return trace(function(sizes), TensorType(F32, shape))

    graph = generalize(graph_at, example)
    verify(graph)
    return graph


def test_sizes_become_polynomials():
    def flat(sizes):
        n, t = sizes["n"], sizes["t"]
        return lambda x: (ops.reshape(x, shape=(n * t, 4)), ops.iota((t, t * n + 3), 1, I64))

    graph = general(flat, "n", "t", 4, n=1, t=5)
    n, t = symbol("n"), symbol("t")
    assert graph.params[0].type.shape == (n, t, 4)
    assert [v.type.shape for v in graph.results] == [(n * t, 4), (t, n * t + 3)]


def test_a_square_of_a_size():
    graph = general(lambda s: lambda x: ops.full(0.0, F32, (s["n"] ** 2,)), "n", n=3)
    assert graph.results[0].type.shape == (symbol("n") * symbol("n"),)


def test_numbers_that_are_sizes_are_computed():
    def mean(sizes):
        n = sizes["n"]
        return lambda x: (ops.reduce_sum(x, axes=(0,)) / float(n), x * (1 / n), x + float(2 * n))

    graph = general(mean, "n", n=4)
    x = np.arange(7, dtype=np.float32)
    found = evaluate(graph, x)
    np.testing.assert_allclose(found[0], 3.0)
    np.testing.assert_allclose(found[1], x / 7, rtol=1e-6)
    np.testing.assert_array_equal(found[2], x + 14)


def test_blocks_are_generalised_as_well():
    def scan(sizes):
        n = sizes["n"]

        def body(h, r):
            return ops.add(h, ops.cast(ops.iota((n,), 0, I64), dtype=F32)), h

        step = trace(body, TensorType(F32, (n,)), TensorType(F32, (n,)))
        return lambda x: ops.scan(step, [ops.full(0.0, F32, (n,))], [x], length=3)

    graph = general(scan, 3, "n", n=2)
    last, rows = evaluate(graph, np.zeros((3, 5), np.float32))
    np.testing.assert_array_equal(last, 3.0 * np.arange(5))
    assert rows.shape == (3, 5)


def test_operations_that_differ_are_refused():
    def branch(sizes):
        return lambda x: ops.exp(x) if sizes["n"] > 5 else ops.neg(x)

    with pytest.raises(UnsupportedError, match="operations differ with the sizes"):
        general(branch, "n", n=3)


@pytest.mark.parametrize(
    "size", [lambda n: 2**n, lambda n: n // 2, lambda n: n**3, lambda n: min(n, 9)]
)
def test_sizes_that_are_no_polynomial_are_refused(size):
    def make(sizes):
        return lambda x: ops.full(0.0, F32, (size(sizes["n"]),))

    with pytest.raises(UnsupportedError, match="no polynomial with integer"):
        general(make, "n", n=3)


def test_a_constant_that_differs_is_refused():
    def make(sizes):
        return lambda x: x + ops.const(np.ones(sizes["n"], np.float32))

    with pytest.raises(UnsupportedError, match="a constant differs"):
        general(make, "n", n=3)
