"""Picks: what is read at one place of each row is computed for that place alone."""

import numpy as np
import pytest

from graphc.backends.base import core_graph
from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.ir import composite, ops
from graphc.ir.build import trace
from graphc.ir.dims import product
from graphc.ir.dtype import I64
from graphc.ir.errors import BoundsError, DivisionError
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.autodiff import grad
from graphc.passes.expand import expand_composites
from graphc.passes.picks import MOST
from graphc.passes.pipeline import default_pipeline


def loss(x, y, axis=1):
    picked = composite.pick(composite.log_softmax(x, axis=axis), y, axis=axis)
    return ops.neg(ops.reduce_sum(picked, axes=tuple(range(len(picked.type.shape)))))


def graph_of(function, *texts):
    return trace(function, *[parse_type(text) for text in texts])


def arrays_of(graph, classes):
    random = np.random.default_rng(0)
    return [
        random.integers(0, classes, p.type.shape)
        if p.type.dtype.kind == "i"
        else random.standard_normal(p.type.shape).astype(p.type.dtype.numpy)
        for p in graph.params
    ]


def written(graph):
    """The most elements that a kernel writes to one buffer."""
    calls = prepare(core_graph(graph)).calls
    buffers = [buffer for call in calls for buffer in call.writes]
    return max([product(b.type.shape) for b in buffers if hasattr(b, "type")])


def sources(graph):
    """The ops whose results are gathered from; `None` of parameters."""
    found = []
    for node in core_graph(graph).nodes:
        if node.op.name == "gather":
            source = node.inputs[0]
            while source.node is not None and source.node.op.name == "reshape":
                source = source.node.inputs[0]
            found.append(None if source.node is None else source.node.op.name)
    return found


SHAPES = [("f32[50, 70]", "i64[50]", 1), ("f32[300, 7]", "i64[300]", 1),
          ("f32[4, 9, 5, 6]", "i64[4, 5, 6]", 1), ("f32[40]", "i64[]", 0),
          ("f64[6, 33, 5]", "i32[33, 5]", 0)]  # fmt: skip


@pytest.mark.parametrize("x, y, axis", SHAPES)
def test_the_bits_are_those_of_the_whole_matrix(x, y, axis):
    graph = graph_of(lambda x, y: loss(x, y, axis), x, y)
    arrays = arrays_of(graph, 5)
    default_pipeline(verify="numeric").run(graph)
    whole, alone = compile_graph(expand_composites(graph)), compile_graph(core_graph(graph))
    np.testing.assert_array_equal(whole(*arrays), alone(*arrays))
    np.testing.assert_allclose(alone(*arrays), evaluate(graph, *arrays), rtol=1e-5)


def test_a_loss_writes_no_matrix():
    graph = graph_of(loss, "f32[200, 300]", "i64[200]")
    assert sources(graph) == [None]
    assert written(graph) <= 200
    assert written(expand_composites(graph)) == 200 * 300


def test_an_index_outside_is_still_an_error():
    graph = graph_of(loss, "f32[20, 30]", "i64[20]")
    run = compile_graph(core_graph(graph))
    x, y = arrays_of(graph, 30)
    run(x, y)
    for wrong in (-1, 30):
        y[7] = wrong
        with pytest.raises(BoundsError):
            run(x, y)


def test_the_gradient_is_that_of_the_whole_matrix():
    graph = grad(graph_of(loss, "f32[50, 70]", "i64[50]"))
    arrays = arrays_of(graph, 70)
    whole, alone = compile_graph(expand_composites(graph)), compile_graph(core_graph(graph))
    for one, other in zip(np.atleast_1d(whole(*arrays)), np.atleast_1d(alone(*arrays))):
        np.testing.assert_array_equal(one, other)


def test_it_stops_at_what_a_product_and_its_bias_leave():
    def scores(x, w, b, y):
        rows = ops.expand(b, shape=(50, 70), axes=(0,))
        return loss(ops.dot(x, w, batch=((), ()), contract=((1,), (0,))) + rows, y)

    assert sources(graph_of(scores, "f32[50, 20]", "f32[20, 70]", "f32[70]", "i64[50]")) == ["add"]


def test_what_parameters_are_scaled_by_goes_with_them():
    def scaled(x, y):
        return loss(x * 0.5, y)

    assert sources(graph_of(scaled, "f32[50, 70]", "i64[50]")) == [None]


def test_repeated_and_made_up_operands_lose_the_axis():
    def of_everything(x, rows, y):
        wide = ops.expand(rows, shape=(6, 5, 7), axes=(1,))
        number = ops.cast(ops.iota((6, 5, 7), 2, I64, "cpu"), dtype=x.type.dtype)
        return composite.pick(x * wide + number, y, axis=1)

    graph = graph_of(of_everything, "f32[6, 5, 7]", "f32[6, 7]", "i64[6, 7]")
    assert sources(graph) == [None]
    arrays = arrays_of(graph, 5)
    np.testing.assert_array_equal(
        compile_graph(core_graph(graph))(*arrays), evaluate(graph, *arrays)
    )


def test_an_error_of_an_element_that_is_not_picked_is_not_lost():
    def divided(x, n, y):
        return composite.pick(x + ops.cast(ops.quo(n, n), dtype=x.type.dtype), y, axis=1)

    graph = graph_of(divided, "f32[5, 7]", "i64[5, 7]", "i64[5]")
    run = compile_graph(core_graph(graph))
    x, n, y = np.ones((5, 7), np.float32), np.ones((5, 7), np.int64), np.zeros(5, np.int64)
    np.testing.assert_array_equal(run(x, n, y)[0], 2)
    n[3, 6] = 0
    with pytest.raises(DivisionError):
        run(x, n, y)


def test_a_long_chain_stays_in_memory():
    def chain(x, y):
        for _ in range(MOST):
            x = ops.sin(x)
        return composite.pick(x, y, axis=1)

    assert sources(graph_of(chain, "f32[5, 7]", "i64[5]")) == ["sin"]


def test_picks_in_blocks_go_up_too():
    body = trace(
        lambda total, x, y: [total + loss(x, y)],
        *[parse_type(text) for text in ("f32[]", "f32[20, 30]", "i64[20]")],
    )

    def loop(total, x, y):
        return ops.scan(body, [total], [], [x, y], 3)[0]

    graph = graph_of(loop, "f32[]", "f32[20, 30]", "i64[20]")
    arrays = [np.float32(0), *arrays_of(graph, 30)[1:]]
    found = compile_graph(core_graph(graph))(*arrays)
    np.testing.assert_allclose(found, evaluate(graph, *arrays), rtol=1e-5)
