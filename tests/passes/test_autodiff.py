"""Derivatives against finite differences and each other, to second order."""

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import Builder, trace
from graphc.ir.errors import UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.autodiff import grad, jvp, linearize, vjp, vjp_into

from .derivative_cases import CASES, graph_of, joined, total

NAMES = sorted(CASES)


def sample(graph, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=p.type.shape) for p in graph.params]


def slope_along(graph, arrays, directions, step=1e-6):
    """The central difference of a scalar graph."""
    ahead = evaluate(graph, *[a + step * d for a, d in zip(arrays, directions, strict=True)])[0]
    behind = evaluate(graph, *[a - step * d for a, d in zip(arrays, directions, strict=True)])[0]
    return (ahead - behind) / (2 * step)


def along(grads, directions):
    return sum(float((g * d).sum()) for g, d in zip(grads, directions, strict=True))


def weighted(results, weights):
    """A scalar: the sum of results times constants."""
    parts = [total(r * ops.const(w)) for r, w in zip(results, weights, strict=True)]
    return sum(parts[1:], start=parts[0])


@pytest.mark.parametrize("name", NAMES)
def test_reverse_equals_finite_differences(name):
    graph = graph_of(name)
    derivative = grad(graph)
    verify(derivative)
    for seed in (0, 1):
        arrays, directions = sample(graph, seed), sample(graph, seed + 10)
        found = along(evaluate(derivative, *arrays), directions)
        assert found == pytest.approx(slope_along(graph, arrays, directions), rel=2e-6, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_forward_equals_reverse(name):
    graph = graph_of(name)
    forward = jvp(graph)
    verify(forward)
    arrays, directions = sample(graph), sample(graph, 10)
    value, slope = evaluate(forward, *arrays, *directions)
    assert value == evaluate(graph, *arrays)[0]
    found = along(evaluate(grad(graph), *arrays), directions)
    assert found == pytest.approx(slope, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_second_order_agrees_in_all_combinations(name):
    graph = graph_of(name)
    arrays, directions = sample(graph), sample(graph, 10)
    gradient = grad(graph)
    reverse_reverse = grad(joined(gradient, lambda grads: weighted(grads, directions)))
    forward_reverse = jvp(gradient)
    n = len(arrays)
    pushed = jvp(graph)
    reverse_forward = grad(joined(pushed, lambda results: results[-1]), wanted=range(n))
    for derivative in (reverse_reverse, forward_reverse, reverse_forward):
        verify(derivative)
    expected = evaluate(reverse_reverse, *arrays)
    for found in (
        evaluate(forward_reverse, *arrays, *directions)[n:],
        evaluate(reverse_forward, *arrays, *directions),
    ):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    scalar = joined(gradient, lambda grads: weighted(grads, directions))
    slope = slope_along(scalar, arrays, directions, 1e-5)
    assert along(expected, directions) == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_order_five():
    graph = trace(lambda x: x * x * x * ops.sin(x), parse_type("f64[]"))
    for _ in range(5):
        graph = grad(graph)
    x = 0.7
    # (x^3 sin x)''''' by Leibniz
    expected = x**3 * np.cos(x) + 15 * x**2 * np.sin(x) - 60 * x * np.cos(x) - 60 * np.sin(x)
    assert evaluate(graph, x)[0] == pytest.approx(expected, rel=1e-12)
    assert len(graph.nodes) < 150


def test_detach_stops_derivatives():
    graph = trace(lambda x: x * ops.detach(x), parse_type("f64[]"))
    assert evaluate(grad(graph), 3.0) == [3.0]
    assert evaluate(jvp(graph), 3.0, 1.0) == [9.0, 3.0]


def mlp(x, *weights):
    for w in weights:
        x = ops.tanh(ops.dot(x, w, contract=((1,), (0,))))
    return total(x)


def test_an_input_that_is_not_wanted_costs_nothing():
    graph = trace(mlp, parse_type("f64[2, 3]"), *[parse_type("f64[3, 3]")] * 6)
    sizes = [len(grad(graph, wanted).nodes) for wanted in ([6], [0], range(7))]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[0] < len(graph.nodes) + 8


def test_vjp_into_appends_and_leaves_the_forward_alone():
    with Builder() as b:
        x, y, z = [b.param(parse_type("f32[3]"), n) for n in "xyz"]
        h = ops.sin(x)
        out = h * y
        before = list(b.nodes)
        seed = ops.full_like(1.0, out)
        found = vjp_into(b, before, [x, h, z], {out: seed})
        assert b.nodes[: len(before)] == before
        assert found[2] is None and found[1].node.inputs == (seed, y)
        graph = b.graph([out, found[0]])
    value, slope = evaluate(graph, [0.1, 0.2, 0.3], [1, 2, 3], [0, 0, 0])
    np.testing.assert_allclose(slope, np.cos([0.1, 0.2, 0.3]) * [1, 2, 3], rtol=1e-6)


def test_vjp_into_needs_the_current_builder():
    outer = Builder()
    with Builder(), pytest.raises(RuntimeError, match="current builder"):
        vjp_into(outer, [], [], {})


def test_several_seeds_add_up():
    with Builder() as b:
        x = b.param(parse_type("f64[]"))
        u, v = ops.sin(x), ops.exp(x)
        (found,) = vjp_into(b, list(b.nodes), [x], {u: ops.full_like(2.0, u), v: v})
        graph = b.graph([found])
    assert evaluate(graph, 0.3)[0] == pytest.approx(2 * np.cos(0.3) + np.exp(0.6))


def test_a_long_chain_neither_recurses_nor_is_quadratic():
    with Builder() as b:
        x = b.param(parse_type("f64[]"))
        out = x
        for _ in range(20_000):
            out = ops.sin(out)
        (found,) = vjp_into(b, list(b.nodes), [x], {out: ops.full_like(1.0, out)})
        assert found is not None and len(b.nodes) < 70_000


def test_linearize_gives_results_and_pull():
    graph = trace(lambda x, y: [x * y, ops.sin(x)], parse_type("f64[]"), parse_type("f64[]"))
    with Builder() as b:
        x, y = b.param(parse_type("f64[]")), b.param(parse_type("f64[]"))
        results, pull = linearize(b, graph, [x * 2.0, y])
        first = pull([ops.full_like(1.0, x), None])
        second = pull([None, ops.full_like(1.0, x)])
        assert second[1] is None
        made = b.graph([*results, *first, second[0]])
    assert evaluate(made, 0.5, 3.0) == pytest.approx([3.0, np.sin(1.0), 3.0, 1.0, np.cos(1.0)])


def test_integers_have_no_derivative_and_zeros_stand_for_no_path():
    graph = trace(
        lambda x, n, y: [x * ops.cast(n, dtype=x.type.dtype), n],
        *map(parse_type, ("f32[2]", "i64[2]", "f32[2]")),
    )
    joint = vjp(graph)
    verify(joint)
    assert [p.type.text for p in joint.params] == ["f32[2]", "i64[2]", "f32[2]", "f32[2]"]
    *_, dx, dy = evaluate(joint, [1, 2], [3, 4], [5, 6], [1, 10])
    assert dx.tolist() == [3, 40] and dy.tolist() == [0, 0]


def test_an_op_without_derivative_is_named_with_its_line():
    with Builder(loc="train.py:7 in loss") as b:
        x = b.param(parse_type("f64[3]"))
        out = ops.nextafter(x, x * 2.0)
        with pytest.raises((UnsupportedError, NotImplementedError), match="derivative"):
            vjp_into(b, list(b.nodes), [x], {out: ops.full_like(1.0, out)})


def test_a_derivative_that_is_missing_is_not_taken_for_zero():
    graph = trace(lambda x: ops.digamma(x) + ops.floor(x), parse_type("f64[]"))
    graph.nodes[0].loc = "train.py:3"
    for derive in (grad, jvp):
        with pytest.raises(UnsupportedError, match=r"digamma has no derivative: (.|\n)*train.py:3"):
            derive(graph)
    flat = trace(lambda x: ops.floor(x) * 2.0 + ops.sign(x) * x, parse_type("f64[]"))
    assert evaluate(grad(flat), 1.5) == [1.0]
    assert evaluate(jvp(flat), 1.5, 1.0) == [3.5, 1.0]


def test_derived_nodes_keep_the_line_of_their_origin():
    with Builder() as b:
        x = b.param(parse_type("f64[3]"))
        b.loc = "a.py:1"
        h = ops.sin(x)
        b.loc = "a.py:2"
        out = total(h * h)
        graph = b.graph([out])
    joint = vjp(graph)
    lines = {node.loc for node in joint.nodes}
    assert lines == {"a.py:1", "a.py:2", "a.py:1 via autodiff", "a.py:2 via autodiff"}
    assert all(node.loc for node in grad(joint, wanted=[0]).nodes if node.op.name != "full")


def test_the_gradient_of_a_complex_input_is_torchs():
    """torch's gradient is dL/da + i dL/db: the conjugate of the plain transpose's."""
    graph = trace(lambda z: ops.reduce_sum(ops.imag(z * z * z), axes=(0,)), parse_type("c128[2]"))
    z = np.array([0.5 + 2j, -1 + 0.25j])
    (found,) = evaluate(grad(graph), z)
    step = 1e-6
    for i in range(2):
        parts = []
        for direction in (1, 1j):
            d = np.zeros(2, complex)
            d[i] = direction * step
            parts.append((evaluate(graph, z + d)[0] - evaluate(graph, z - d)[0]) / (2 * step))
        assert found[i] == pytest.approx(parts[0] + 1j * parts[1], rel=1e-7)


def test_the_backward_of_a_recurrent_net_keeps_residuals():
    """The step's products: one forward, two back; none is run again."""
    graph = graph_of("recurrent")
    derivative = grad(graph)
    scans = [node for node in derivative.nodes if node.op.name == "scan"]
    products = [sum(n.op.name == "dot" for n in scan.blocks[0].nodes) for scan in scans]
    assert sorted(products) == [1, 2]
