"""A whole training step as an ONNX graph: forward, backward and update, run on a stock runtime."""

import math

import pytest

from graphc.backends.onnx import check_model, export_graph
from graphc.frontends.onnx_load import load_module, read_model
from graphc.ir import composite, ops
from graphc.ir.build import Builder, trace
from graphc.ir.dtype import I64
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.autodiff import linearize

from .onnx_cases import random_array
from .onnx_runner import assert_same, run

RATE = 0.1


def cross_entropy(logits, labels):
    rows = composite.log_softmax(logits, axis=1)
    n = logits.shape[0]
    picked = ops.take_along(rows, ops.reshape(labels, shape=(n, 1)), 1)
    return ops.neg(ops.reduce_sum(picked, axes=(0, 1))) / float(n)


def image_loss(image, labels, w, b, head):
    """Convolution, batch statistics, pooling, a head."""
    x = ops.conv(image, w, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1))
    x = composite.relu(ops.add(x, ops.expand(b, shape=x.shape, axes=(0, 2, 3))))
    mean = ops.reduce_sum(x, axes=(0, 2, 3)) / float(math.prod(x.shape) // x.shape[1])
    x = ops.sub(x, ops.expand(mean, shape=x.shape, axes=(0, 2, 3)))
    pooled = ops.window(x, sizes=(2, 2), strides=(2, 2), dilations=(1, 1))
    flat = ops.reshape(pooled, shape=(*pooled.shape[:4], 4))
    x = composite.max_first(flat, axis=4)
    x = ops.reshape(x, shape=(x.shape[0], math.prod(x.shape[1:])))
    return cross_entropy(ops.dot(x, head, contract=((1,), (0,))), labels)


def text_loss(tokens, labels, table, weight, bias, head):
    """Embedding, layer norm, causal attention, gelu, a head; then a recurrent sum."""
    n, t = tokens.shape
    x = composite.layer_norm(ops.gather(table, tokens, axis=0), weight, bias, eps=1e-5)
    scores = ops.dot(x, x, contract=((2,), (2,)), batch=((0,), (0,))) / math.sqrt(x.shape[2])
    later = ops.lt(ops.iota((n, t, t), 1, I64), ops.iota((n, t, t), 2, I64))
    scores = ops.select(later, ops.full_like(-math.inf, scores), scores)
    x = ops.dot(composite.softmax(scores, axis=2), x, contract=((2,), (1,)), batch=((0,), (0,)))
    x = composite.gelu(x)
    step = trace(
        lambda h, r: (ops.tanh(ops.add(h, r)),), parse_type(f"f32[{n}, {x.shape[2]}]"),
        parse_type(f"f32[{n}, {x.shape[2]}]"),
    )  # fmt: skip
    zero = ops.full(0.0, x.dtype, (n, x.shape[2]))
    (h,) = ops.scan(step, [zero], [ops.permute(x, perm=(1, 0, 2))], length=t)
    return cross_entropy(ops.dot(h, head, contract=((1,), (0,))), labels)


LOSSES = {
    "images": (
        image_loss, 2,
        ("f32[4, 2, 6, 6]", "i64[4]", "f32[3, 2, 3, 3]", "f32[3]", "f32[27, 5]"),
    ),
    "text": (
        text_loss, 2,
        ("i64[3, 4]", "i64[3]", "f32[5, 8]", "f32[8]", "f32[8]", "f32[8, 5]"),
    ),
}  # fmt: skip


def training_step(loss, data, types):
    """(data, weights) -> (loss, the weights after a step of gradient descent)."""
    forward = trace(loss, *map(parse_type, types))
    weights = list(range(data, len(types)))
    with Builder(forward.params) as builder:
        results, pull = linearize(builder, forward, forward.params, weights)
        grads = pull([ops.full_like(1.0, results[0])])
        new = [ops.sub(forward.params[i], g * RATE) for i, g in zip(weights, grads)]
        return builder.graph([results[0], *new])


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_training_step_runs_on_a_stock_runtime(name):
    loss, data, types = LOSSES[name]
    graph = training_step(loss, data, types)
    arrays = [random_array(p.type, index=5, seed=i) for i, p in enumerate(graph.params)]
    model = export_graph(graph)
    check_model(model)
    assert {node.domain for node in model.graph.node} == {""}
    module = load_module(read_model(model.SerializeToString()))
    first = None
    for _ in range(3):
        expected = evaluate(graph, *arrays)
        found = run(model, arrays)
        assert_same(found, expected, name)
        loaded = module.graphs["main"]
        constants = [module.weights[p.name] for p in loaded.params[len(arrays) :]]
        assert_same(evaluate(loaded, *arrays, *constants), expected, name)
        first = found[0] if first is None else first
        arrays[data:] = found[1:]
    assert found[0] < first
