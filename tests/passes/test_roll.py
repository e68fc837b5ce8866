"""Loops that were recorded step by step become scans again, with the same bits."""

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import Builder, trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.autodiff import grad
from graphc.passes.clean import clean
from graphc.passes.roll import find_runs, roll

from .derivative_cases import total
from .test_partition import gpt


def names(graph):
    return [node.op.name for node in graph.nodes]


def check(graph):
    rolled = clean(roll(graph))
    verify(rolled)
    random = np.random.default_rng(0)
    arrays = [random.normal(size=p.type.shape) * 0.3 for p in graph.params]
    arrays = [a.astype(p.type.dtype.numpy) for a, p in zip(arrays, graph.params)]
    for a, b in zip(evaluate(graph, *arrays), evaluate(rolled, *arrays), strict=True):
        np.testing.assert_array_equal(a, b)
    return rolled


def runge_kutta(steps):
    def slope(y, k):
        return ops.sin(y) * k - y * y * 0.1

    def function(y, k):
        h = 0.01
        for _ in range(steps):
            a = slope(y, k)
            b = slope(y + a * (h / 2), k)
            c = slope(y + b * (h / 2), k)
            d = slope(y + c * h, k)
            y = y + (a + b * 2.0 + c * 2.0 + d) * (h / 6)
        return y

    return trace(function, parse_type("f64[4]"), parse_type("f64[4]"))


def test_an_integrator_becomes_one_scan():
    graph = runge_kutta(60)
    rolled = check(graph)
    assert len(graph.nodes) > 1500
    assert names(rolled).count("scan") == 1 and len(rolled.nodes) < 20


def test_rolling_is_linear():
    (run,) = [r for r in find_runs(runge_kutta(400)) if r.saved > 100]
    assert run.count >= 398


def cell(h, x, w, u):
    return ops.tanh(ops.dot(h, w, contract=((0,), (0,))) + ops.dot(x, u, contract=((0,), (0,))))


def recurrent(order, axis, keep):
    """A loop over time that reads x[t] (or x[:, t]) and may keep every state."""

    def function(h, xs, w, u):
        states = []
        for t in order:
            start, stop = [0, 0], list(xs.type.shape)
            start[axis], stop[axis] = t, t + 1
            row = ops.slice_(xs, start=tuple(start), stop=tuple(stop), step=(1, 1))
            h = cell(h, ops.reshape(row, shape=(3,)), w, u)
            states.append(ops.reshape(h, shape=(1, 3)))
        return [h, ops.concat(*states, axis=0)] if keep else [h]

    xs = "f64[12, 3]" if axis == 0 else "f64[3, 12]"
    return trace(function, *map(parse_type, ("f64[3]", xs, "f64[3, 3]", "f64[3, 3]")))


@pytest.mark.parametrize("order", [range(12), range(11, -1, -1), range(0, 12, 2)], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_of_a_tensor_are_read_in_place(order, axis):
    rolled = clean(roll(recurrent(order, axis, keep=False), least_saved=8))
    assert names(rolled).count("scan") == 1
    assert "concat" not in names(rolled)
    (scan,) = [node for node in rolled.nodes if node.op.name == "scan"]
    assert scan.attrs["xs"] == 1 and scan.attrs["carry"] == 1
    random = np.random.default_rng(0)
    graph = recurrent(order, axis, keep=False)
    arrays = [random.normal(size=p.type.shape) for p in graph.params]
    np.testing.assert_array_equal(evaluate(graph, *arrays)[0], evaluate(rolled, *arrays)[0])


def test_states_that_are_read_outside_become_stacked_results():
    rolled = check(recurrent(range(12), 0, keep=True))
    (scan,) = [node for node in rolled.nodes if node.op.name == "scan"]
    assert len(scan.outputs) == 2
    assert len(rolled.nodes) < 8


def test_layers_with_their_own_weights_are_rolled_over_stacked_weights():
    rolled = check(gpt(5, n=6, d=4))
    (scan,) = [node for node in rolled.nodes if node.op.name == "scan"]
    assert scan.attrs["xs"] == 7


def test_a_rolled_loop_can_be_differentiated():
    graph = trace(lambda y, k: total(clean_steps(y, k)), parse_type("f64[3]"), parse_type("f64[3]"))
    rolled = clean(roll(graph))
    assert "scan" in names(rolled)
    random = np.random.default_rng(1)
    arrays = [random.normal(size=3) for _ in range(2)]
    for a, b in zip(evaluate(grad(graph), *arrays), evaluate(grad(rolled), *arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def clean_steps(y, k):
    for _ in range(12):
        y = y + ops.sin(y * k) * 0.1
    return y


def test_a_loop_in_a_loop():
    def function(x, k):
        for _ in range(6):
            for _ in range(14):
                x = ops.sin(x * k) + x
            x = ops.tanh(x)
        return x

    rolled = check(trace(function, parse_type("f64[2]"), parse_type("f64[2]")))
    (outer,) = [node for node in rolled.nodes if node.op.name == "scan"]
    assert len(rolled.nodes) < 12
    assert "scan" in names(outer.blocks[0]) or len(outer.blocks[0].nodes) > 30


def test_effects_are_not_rolled():
    with Builder() as b:
        x = b.param(parse_type("f64[2]"))
        for _ in range(20):
            x = ops.sin(x) * 2.0
            ops.print_op(x, text="x")
        graph = b.graph([x])
    assert roll(graph) is graph


def test_a_graph_without_repetition_stays_itself():
    graph = trace(lambda x: ops.sin(ops.cos(x)) * ops.exp(x), parse_type("f64[2]"))
    assert roll(graph) is graph


def test_a_step_that_reads_two_steps_back_stays():
    def fibonacci(a, b):
        for _ in range(30):
            a, b = b, ops.sin(a + b)
        return b

    graph = trace(fibonacci, parse_type("f64[2]"), parse_type("f64[2]"))
    check(graph)
