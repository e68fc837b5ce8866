"""Channels last for the whole graph: what is turned around, and that nothing changes."""

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.layout import ChannelsLast, Packing, channels_last
from graphc.passes.pipeline import Context, Pipeline

WIDTH = 8
CONTEXT = Context(claimed=frozenset(["conv_last", "conv_grad_input_last"]))


def packing(node):
    if node.attrs["groups"] != 1:
        return None
    return Packing(WIDTH, tuple(reversed(range(int(np.prod(node.inputs[1].type.shape[2:]))))))


def conv(x, w, stride=1, padding=1, groups=1):
    k = len(x.type.shape) - 2
    return ops.conv(
        x, w, stride=(stride,) * k, padding=((padding, padding),) * k, dilation=(1,) * k,
        groups=groups,
    )  # fmt: skip


def back(x, w):
    size = tuple([2 * n for n in x.type.shape[2:]])
    return ops.conv_grad_input(
        x, w, size=size, stride=(2, 2), padding=((1, 1), (1, 1)), dilation=(1, 1)
    )


def wide(v, like):
    return ops.expand(v, shape=like.type.shape, axes=(0, 2, 3))


def residual_block(x, w, v, w2):
    y = ops.tanh(conv(x, w) + wide(v, x))
    return ops.tanh(conv(y, w2) + x)


def pooled(x, w, v, w2):
    y = conv(x, w)
    y = ops.pad(y, low=(0, 0, 1, 1), high=(0, 0, 1, 1), value=0)
    y = ops.window(y, sizes=(3, 3), strides=(2, 2), dilations=(1, 1))
    y = ops.reshape(y, shape=(*y.type.shape[:4], 9))
    y = ops.reduce_max(y, axes=(4,))
    return ops.reduce_max(conv(y, w2), axes=(2, 3))


def joined(x, w, v, w2):
    y = conv(x, w)
    low = conv(y, w, stride=2)
    up = back(low, w2)
    z = conv(ops.concat(up, y, axis=1), ops.concat(w, w2, axis=1))
    return ops.slice_(z, start=(0, 0, 1, 0), stop=(2, 8, 7, 8), step=(1, 1, 2, 1)), ops.flip(
        conv(z, w2), axes=(3,)
    )


def flattened(x, w, v, w2):
    y = conv(conv(x, w), w2)
    return ops.reshape(y, shape=(2, 8 * 64))


NETWORKS = [residual_block, pooled, joined, flattened]


def types(batch="2"):
    texts = (f"f32[{batch}, 8, 8, 8]", "f32[8, 8, 3, 3]", "f32[8]", "f32[8, 8, 3, 3]")
    return [parse_type(text) for text in texts]


def graph_of(function, batch="2"):
    return trace(function, *types(batch))


def names(graph):
    return [node.op.name for node in graph.nodes]


@pytest.mark.parametrize("function", NETWORKS, ids=lambda f: f.__name__)
def test_the_graph_means_the_same(function):
    graph = graph_of(function)
    made = Pipeline((ChannelsLast(packing),), "numeric").run(graph, CONTEXT)
    verify(made)
    assert "conv" not in names(made) and "conv_grad_input" not in names(made)
    random = np.random.default_rng(1)
    arrays = [random.standard_normal(p.type.shape).astype(np.float32) for p in graph.params]
    for a, b in zip(evaluate(made, *arrays), evaluate(graph, *arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def activations(graph):
    """The permutes that move what depends on x."""
    moved, found = {graph.params[0]}, []
    for node in graph.nodes:
        if moved.intersection(node.inputs):
            moved.update(node.outputs)
            found += [node] * (node.op.name == "permute")
    return found


def test_permutes_stay_at_the_ends_only():
    made = channels_last(graph_of(residual_block), packing)
    assert len(activations(made)) == 2
    made = channels_last(graph_of(pooled), packing)
    largest = made.results[0].node  # a reduction over the positions needs none after it
    assert [largest.op.name, largest.inputs[0].node.op.name] == ["reduce_max", "conv_last"]
    summed = trace(lambda *xs: ops.reduce_sum(residual_block(*xs), axes=(2, 3)), *types())
    total = channels_last(summed, packing).results[0].node
    assert total.attrs["axes"] == (2, 3)  # the order of a sum is that of its axes


def test_effects_read_what_is_turned():
    def checked(x, w, v, w2):
        y = conv(x, w)
        ops.assert_op(ops.le(y, ops.full_like(1e9, y)), text="too large")
        return ops.reduce_max(conv(y, w2), axes=(2, 3))

    made = channels_last(graph_of(checked), packing)
    verify(made)
    assert names(made).count("conv_last") == 2 and "assert" in names(made)


def test_sizes_may_be_symbols():
    graph = graph_of(residual_block, batch="n")
    made = channels_last(graph, packing)
    verify(made)
    assert names(made).count("conv_last") == 2


def test_a_graph_stays_where_more_would_move_than_its_kernels_turn_around():
    def many_results(x, w, v, w2):
        y = conv(x, w)
        return y, ops.tanh(y), ops.exp(y)

    graph = graph_of(many_results)
    assert channels_last(graph, packing) is graph
    graph = graph_of(residual_block)
    assert channels_last(graph, lambda node: None) is graph


def test_numeric_verification_names_the_pass_where_the_taps_are_in_a_wrong_order(monkeypatch):
    from graphc.ir.errors import VerifyError
    from graphc.passes import layout

    right = layout.packed
    monkeypatch.setattr(
        layout, "packed", lambda w, width, groups: ops.flip(right(w, width), axes=(1,))
    )
    with pytest.raises(VerifyError, match="the pass channels last .* changed result 0"):
        Pipeline((ChannelsLast(packing),), "numeric").run(graph_of(residual_block), CONTEXT)
