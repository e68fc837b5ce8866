"""Composites: expansion of what nobody claims, and composites that bring their own backward."""

import numpy as np
import pytest

from graphc.ir import composite, ops
from graphc.ir.build import Builder, trace
from graphc.ir.composite.base import Composite
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS, op
from graphc.ir.schema import Float
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.autodiff import grad, jvp
from graphc.passes.clean import clean
from graphc.passes.expand import expand_composites
from graphc.passes.partition import is_dear

from .derivative_cases import CASES, graph_of, joined, total


def names(graph):
    return [node.op.name for node in graph.nodes]


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_expanded_graph_means_the_same(name):
    graph = graph_of(name)
    expanded = expand_composites(graph)
    verify(expanded)
    assert not any(node.op.composite for node in expanded.nodes)
    random = np.random.default_rng(0)
    arrays = [random.normal(size=p.type.shape) for p in graph.params]
    before, after = evaluate(graph, *arrays), evaluate(expanded, *arrays)
    np.testing.assert_array_equal(before, after)


def test_what_is_claimed_stays_and_what_an_expansion_is_made_of_expands_too():
    graph = graph_of("attended")
    assert "attention" in names(expand_composites(graph, {"attention"}))
    assert "softmax" in names(expand_composites(graph, {"softmax"}))
    assert not {"softmax", "attention"} & set(names(expand_composites(graph)))


def test_blocks_are_expanded():
    body = trace(lambda c: composite.softmax(c, axis=0), parse_type("f32[3]"))
    graph = trace(lambda x: ops.scan(body, [x], [], [], 2), parse_type("f32[3]"))
    expanded = expand_composites(graph)
    assert "softmax" not in names(expanded.nodes[0].blocks[0])
    np.testing.assert_array_equal(evaluate(graph, [1, 2, 3]), evaluate(expanded, [1, 2, 3]))


def test_the_nodes_of_an_expansion_have_the_composites_line():
    with Builder(loc="net.py:5 in head") as b:
        x = b.param(parse_type("f32[4]"))
        graph = b.graph([composite.softmax(x, axis=0)])
    assert {node.loc for node in expand_composites(graph).nodes} == {"net.py:5 in head"}


def test_a_composite_is_dear_where_its_expansion_is():
    graph = graph_of("normalized")
    dear = {node.op.name for node in graph.nodes if is_dear(node) and node.op.composite}
    assert dear == {"softmax", "log_softmax", "layer_norm"}
    assert not any(is_dear(n) for n in graph_of("activations").nodes if n.op.composite)


# --- a composite with residuals: log(sum(exp(x))) keeps its own result's exponentials ------------


def declare(name):
    """Registers an op for the time of the tests of this file."""
    OPS.pop(name, None)
    return op(name)


@declare("test_logsumexp_forward")
class forward_op(Composite):
    x: Float

    def expand(x):
        e = ops.exp(x)
        s = ops.reduce_sum(e, axes=(0,))
        return ops.log(s), e, s


@declare("test_logsumexp_backward")
class backward_op(Composite):
    x: Float
    out: Float
    e: Float
    s: Float
    ct: Float

    def expand(x, out, e, s, ct):
        n = x.type.shape
        return e * ops.expand(ct / s, shape=n, axes=(0,))


@declare("test_logsumexp")
class logsumexp(Composite):
    x: Float

    def expand(x):
        return forward_op.expand(x)[0]

    vjp_forward = forward_op
    vjp_backward = backward_op


for _op in (forward_op, backward_op, logsumexp):
    OPS.pop(_op.name)


@pytest.fixture
def registered(monkeypatch):
    for each in (forward_op, backward_op, logsumexp):
        monkeypatch.setitem(OPS, each.name, each)


def test_a_composites_backward_reads_its_residuals(registered):
    graph = trace(lambda x: logsumexp(ops.sin(x)), parse_type("f64[5]"))
    derivative = clean(grad(graph))
    assert names(derivative).count("test_logsumexp_backward") == 1
    x = np.linspace(-1, 2, 5)
    e = np.exp(np.sin(x))
    np.testing.assert_allclose(evaluate(derivative, x)[0], e / e.sum() * np.cos(x), rtol=1e-12)


def test_the_forward_with_residuals_takes_the_composites_place(registered):
    graph = trace(lambda x: logsumexp(x) * 2.0, parse_type("f64[5]"))
    with Builder(graph.params) as b:
        from graphc.passes.autodiff import linearize

        results, pull = linearize(b, graph, graph.params)
        (found,) = pull([ops.full_like(1.0, results[0])])
        both = clean(b.graph([*results, found]))
    assert "test_logsumexp" not in names(both)
    assert names(both).count("test_logsumexp_forward") == 1


def test_second_order_of_a_composite_with_a_backward(registered):
    graph = trace(lambda x: logsumexp(x * x), parse_type("f64[4]"))
    plain = trace(
        lambda x: ops.log(ops.reduce_sum(ops.exp(x * x), axes=(0,))), parse_type("f64[4]")
    )
    x, d = np.linspace(-1, 1, 4), np.array([1.0, -2.0, 0.5, 3.0])
    for second in (
        lambda g: evaluate(grad(joined(grad(g), lambda r: total(r[0] * ops.const(d)))), x)[0],
        lambda g: evaluate(jvp(grad(g)), x, d)[1],
        lambda g: evaluate(grad(joined(jvp(g), lambda r: r[1]), wanted=[0]), x, d)[0],
    ):
        np.testing.assert_allclose(second(graph), second(plain), rtol=1e-12)
