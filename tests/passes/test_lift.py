"""Products leave the scans that do not need them step by step; the meaning stays."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.ir import composite, ops
from graphc.ir.build import trace
from graphc.ir.dims import symbol
from graphc.ir.interpret import evaluate
from graphc.ir.ops.effect import assert_op
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.autodiff import grad
from graphc.passes.clean import clean
from graphc.passes.expand import expand_composites
from graphc.passes.lift import lift

T, N, F, H, V = 5, 3, 4, 6, 7


def block(function, *types):
    return trace(function, *map(parse_type, types))


def times(a, w):
    return ops.dot(a, w, contract=((1,), (1,)))


def dots(graph):
    return [node for node in graph.nodes if node.op.name == "dot"]


def the_scan(graph):
    (scan,) = [node for node in graph.nodes if node.op.name == "scan"]
    return scan


def check(graph):
    """The lifted graph, which means the same."""
    lifted = clean(lift(graph))
    verify(lifted)
    assert clean(lift(lifted)) is lifted
    random = np.random.default_rng(0)
    arrays = [random.normal(size=p.type.shape).astype(p.type.dtype.numpy) for p in graph.params]
    for a, b in zip(evaluate(graph, *arrays), evaluate(lifted, *arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    return lifted


def step(h, x, w, u, v):
    """A recurrent step as people write it: the input's product and the head's in the loop."""
    new = ops.tanh(ops.add(times(x, w), times(h, u)))
    return [new, ops.exp(times(new, v))]


STEP = (f"f64[{N}, {H}]", f"f64[{N}, {F}]", f"f64[{H}, {F}]", f"f64[{H}, {H}]", f"f64[{V}, {H}]")
GIVEN = (STEP[0], f"f64[{T}, {N}, {F}]", *STEP[2:])


def network(reverse=False):
    body = block(step, *STEP)
    run = lambda h, x, w, u, v: ops.scan(body, [h], [x], [w, u, v], T, reverse)  # noqa: E731
    return trace(run, *map(parse_type, GIVEN))


@pytest.mark.parametrize("reverse", [False, True])
def test_only_the_recurrent_product_stays_in_the_loop(reverse):
    lifted = check(network(reverse))
    (kept,) = dots(the_scan(lifted).blocks[0])
    assert kept.outputs[0].type.shape == (N, H)
    assert [d.outputs[0].type.shape for d in dots(lifted)] == [(T, N, H), (T, N, V)]
    assert "exp" not in [node.op.name for node in the_scan(lifted).blocks[0].nodes]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_gradients_of_weights_are_one_product_each(reverse):
    def loss(h, x, w, u, v):
        last, ys = ops.scan(block(step, *STEP), [h], [x], [w, u, v], T, reverse)
        total = ops.add(
            ops.reduce_sum(ops.mul(last, last), axes=(0, 1)), ops.reduce_sum(ys, axes=(0, 1, 2))
        )
        return total

    derivative = clean(grad(trace(loss, *map(parse_type, GIVEN))))
    lifted = check(derivative)
    scans = [node for node in lifted.nodes if node.op.name == "scan"]
    for scan in scans:
        (kept,) = dots(scan.blocks[0])  # by the state, and by its cotangent
        assert kept.outputs[0].type.shape == (N, H)
    shapes = [d.outputs[0].type.shape for d in dots(lifted)]
    for weight in ((H, F), (H, H), (V, H)):
        assert weight in shapes or weight[::-1] in shapes
    assert [scan.attrs["carry"] for scan in scans] == [1, 1]  # no sums so far


def test_bias_gradients_are_one_sum():
    def biased(h, x, b):
        return [ops.tanh(ops.add(ops.add(h, x), ops.expand(b, shape=(N, H), axes=(0,))))]

    body = block(biased, f"f64[{N}, {H}]", f"f64[{N}, {H}]", f"f64[{H}]")

    def loss(h, x, b):
        return ops.reduce_sum(ops.scan(body, [h], [x], [b], T)[0], axes=(0, 1))

    types = [f"f64[{N}, {H}]", f"f64[{T}, {N}, {H}]", f"f64[{H}]"]
    lifted = check(clean(grad(trace(loss, *map(parse_type, types)))))
    for node in lifted.nodes:
        for inner in node.blocks:
            assert "reduce_sum" not in [n.op.name for n in inner.nodes]


def test_what_depends_on_constants_alone_is_computed_once():
    def decay(h, x, a, w):
        rate = ops.exp(times(a, w))
        return [ops.add(ops.mul(h, rate), x), ops.mul(rate, x)]

    square = f"f64[{H}, {H}]"
    body = block(decay, square, square, square, square)
    types = map(parse_type, [square, f"f64[{T}, {H}, {H}]", square, square])
    lifted = check(trace(lambda h, x, a, w: ops.scan(body, [h], [x], [a, w], T), *types))
    names = [node.op.name for node in the_scan(lifted).blocks[0].nodes]
    assert "exp" not in names and "dot" not in names
    assert the_scan(lifted).attrs["xs"] == 1  # not once a row


def test_what_the_next_step_needs_stays():
    def power(h, total, w):
        new = times(h, w)
        return [new, ops.add(total, new)]  # the sum is of what is there anyway

    square = f"f64[{H}, {H}]"
    body = block(power, square, square, square)
    graph = trace(
        lambda h, t, w: ops.scan(body, [h, t], [], [w], T), *map(parse_type, [square] * 3)
    )
    assert len(dots(the_scan(check(graph)).blocks[0])) == 1


def test_a_sum_that_a_step_looks_at_stays():
    def running(total, x, y):
        total = ops.add(total, times(x, y))
        return [total, total]

    body = block(running, f"f64[{N}, {N}]", f"f64[{N}, {F}]", f"f64[{N}, {F}]")
    types = [f"f64[{N}, {N}]", *[f"f64[{T}, {N}, {F}]"] * 2]
    graph = trace(lambda t, x, y: ops.scan(body, [t], [x, y], [], T), *map(parse_type, types))
    assert lift(graph) is graph


def test_effects_stay():
    def checked(h, x, w):
        product = times(x, w)
        low = ops.full_like(-1e9, product)
        assert_op(ops.reduce_min(ops.lt(low, product), axes=(0, 1)), text="low")
        return [ops.add(h, ops.exp(h)), product]

    body = block(checked, f"f64[{N}, {H}]", f"f64[{N}, {F}]", f"f64[{H}, {F}]")
    types = [f"f64[{N}, {H}]", f"f64[{T}, {N}, {F}]", f"f64[{H}, {F}]"]
    graph = trace(lambda h, x, w: ops.scan(body, [h], [x], [w], T), *map(parse_type, types))
    lifted = check(graph)
    assert "assert" in [node.op.name for node in the_scan(lifted).blocks[0].nodes]


def test_loops_in_loops():
    inner = block(
        lambda h, x, w: [ops.tanh(ops.add(h, times(x, w)))],
        f"f64[{N}, {H}]", f"f64[{N}, {F}]", f"f64[{H}, {F}]",
    )  # fmt: skip

    def outer(h, x, w):
        return [ops.scan(inner, [h], [x], [w], 2)[0]]

    body = block(outer, f"f64[{N}, {H}]", f"f64[2, {N}, {F}]", f"f64[{H}, {F}]")
    types = [f"f64[{N}, {H}]", f"f64[{T}, 2, {N}, {F}]", f"f64[{H}, {F}]"]
    graph = trace(lambda h, x, w: ops.scan(body, [h], [x], [w], T), *map(parse_type, types))
    lifted = check(graph)
    assert [d.outputs[0].type.shape for d in dots(lifted)] == [(T, 2, N, H)]


def test_symbolic_lengths_and_batches():
    small = ("f32[n, 6]", "f32[n, 4]", "f32[6, 4]", "f32[6, 6]", "f32[7, 6]")
    body = block(step, *small)
    types = map(parse_type, (small[0], "f32[t, n, 4]", *small[2:]))
    graph = trace(lambda h, x, w, u, v: ops.scan(body, [h], [x], [w, u, v], symbol("t")), *types)
    lifted = clean(lift(expand_composites(graph)))
    assert len(dots(the_scan(lifted).blocks[0])) == 1
    executable = compile_graph(lifted)
    random = np.random.default_rng(0)
    for t, n in [(2, 3), (5, 2), (3, 40)]:
        shapes = [(n, 6), (t, n, 4), (6, 4), (6, 6), (7, 6)]
        arrays = [random.standard_normal(s).astype("f4") for s in shapes]
        for found, wanted in zip(executable(*arrays), evaluate(graph, *arrays), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_graph_without_such_products_is_returned_itself():
    body = block(lambda h, w: [composite.relu(times(h, w))], STEP[0], STEP[3])
    graph = trace(
        lambda h, w: ops.scan(body, [h], [], [w], T), *map(parse_type, [STEP[0], STEP[3]])
    )
    assert lift(graph) is graph
