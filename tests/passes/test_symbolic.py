"""Derivatives, cleaning, cutting and batching with symbolic dims: one graph for all sizes."""

import numpy as np
import pytest

from graphc.ir import composite, ops
from graphc.ir.build import trace
from graphc.ir.dims import symbol
from graphc.ir.dtype import I64
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.autodiff import grad, jvp, vjp
from graphc.passes.batch import vmap
from graphc.passes.clean import clean
from graphc.passes.expand import expand_composites
from graphc.passes.partition import partition
from graphc.passes.pipeline import Context, default_pipeline

from .derivative_cases import block, matmul, total


def layer(x, w):
    h = composite.layer_norm(matmul(x, w), ops.const(np.ones(4)), ops.const(np.zeros(4)), eps=1e-5)
    return total(composite.softmax(h, axis=1) * composite.gelu(h))


def over_the_symbol(x, w):
    """Statistics along the symbolic axis."""
    p = composite.softmax(x, axis=0)
    mean, variance, _ = composite.moments(x, (0,))
    return total(p * x * x) + total(mean * variance) + total(w)


def moved(x, w):
    n = x.type.shape[0]
    flat = ops.reshape(matmul(x, w), shape=(n * 4,))
    half = ops.slice_(flat, start=(0,), stop=(2 * n,), step=(1,))
    wide = ops.pad(half, low=(n,), high=(n,), value=0)
    return total(ops.sin(wide) * flat) + total(ops.concat(half, flat * flat, axis=0))


def looked_up(x, w):
    """gather and scatter by an index with the symbol's size."""
    n = x.type.shape[0]
    index = ops.rem(ops.iota((n,), 0, I64), ops.full(3, I64, (n,)))
    return total(ops.sin(ops.gather(w, index, axis=0)) * x)


def looped(x, w):
    n = x.type.shape[0]
    step = block(lambda c, r: [ops.tanh(c + r), c * r], "f64[4]", "f64[4]")
    init = ops.reduce_sum(w, axes=(0,))
    last, rows = ops.scan(step, [init], [x], [], n)
    return total(last) + total(rows)


FUNCTIONS = {
    "layer": (layer, "f64[n, 3]", "f64[3, 4]"),
    "over_the_symbol": (over_the_symbol, "f64[n, 3]", "f64[2]"),
    "moved": (moved, "f64[n, 3]", "f64[3, 4]"),
    "looked_up": (looked_up, "f64[n, 4]", "f64[3, 4]"),
    "looped": (looped, "f64[n, 4]", "f64[3, 4]"),
}


def traced(name, n="n"):
    function, *types = FUNCTIONS[name]
    return trace(function, *[parse_type(t.replace("[n", f"[{n}")) for t in types])


def arrays_for(name, n):
    random = np.random.default_rng(0)
    return [random.normal(size=p.type.shape) for p in traced(name, n).params]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_for_a_symbol_are_those_for_each_size(name):
    symbolic = clean(grad(traced(name)))
    pushed = clean(jvp(traced(name)))
    verify(symbolic)
    verify(pushed)
    for n in (2, 5):
        arrays = arrays_for(name, n)
        expected = evaluate(grad(traced(name, n)), *arrays)
        for a, b in zip(evaluate(symbolic, *arrays), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
        slope = sum((g * a).sum() for g, a in zip(expected, arrays, strict=True))
        assert evaluate(pushed, *arrays, *arrays)[1] == pytest.approx(slope, rel=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_halves_of_a_symbolic_joint_graph(name):
    graph = traced(name)
    joint = clean(expand_composites(vjp(graph)))
    forward, backward, _ = partition(joint, 2, 1, hints={"n": 1000})
    arrays = [*arrays_for(name, 4), 1.0]
    whole = evaluate(joint, *arrays)
    out, *kept = evaluate(forward, *arrays[:2])
    grads = evaluate(backward, *arrays[:2], *kept, 1.0)
    for a, b in zip(whole, [out, *grads], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap_over_a_symbolic_graph(name):
    batched = vmap(traced(name), [0], symbol("b"))
    verify(batched)
    x, w = arrays_for(name, 4)
    rows = np.stack([x, x * 0.5, -x])
    found = evaluate(batched, rows, w)[0]
    for row, value in zip(rows, found, strict=True):
        assert value == pytest.approx(float(evaluate(traced(name), row, w)[0]), rel=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_pipeline_verifies_symbolic_graphs(name):
    context = Context()
    default_pipeline(verify="numeric").run(grad(traced(name)), context)
    assert context.notes == []
