"""Which convolutions become Winograd's, each by itself, and what the graph around them becomes."""

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.pipeline import Context, Pipeline
from graphc.passes.winograd import Winograd

CONTEXT = Context(claimed=frozenset(["conv_winograd", "winograd_weight", "turned"]))
PASS = Winograd(lambda node: 8 if node.op.name in ("conv", "conv_grad_input") else None)


def conv(x, w, padding=((1, 1), (1, 1))):
    return ops.conv(x, w, stride=(1, 1), padding=padding, dilation=(1, 1), groups=1)


def conv_back(ct, w, size, padding=((1, 1), (1, 1))):
    return ops.conv_grad_input(
        ct, w, size=size, stride=(1, 1), padding=padding, dilation=(1, 1), groups=1
    )


def made_of(function, *types):
    graph = trace(function, *map(parse_type, types))
    return graph, Pipeline((PASS,), "numeric").run(graph, CONTEXT)


def names(graph):
    return [node.op.name for node in graph.nodes]


def test_a_convolution_is_turned_and_turned_back():
    graph, made = made_of(conv, "f32[2, 8, 5, 6]", "f32[12, 8, 3, 3]")
    want = ["winograd_weight", "permute", "conv_winograd", "reshape", "turned", "reshape"]
    assert names(made) == want
    assert [value.type for value in made.results] == [value.type for value in graph.results]


@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 2), (1, 0)), ((2, 2), (0, 0))])
def test_a_gradient_of_the_input_is_a_convolution_by_flipped_kernels(padding):
    height, width = [5 + sum(pair) - 2 for pair in padding]
    shape = f"f64[2, 12, {height}, {width}]"
    graph, made = made_of(
        lambda ct, w: conv_back(ct, w, (5, 5), padding), shape, "f64[12, 8, 3, 3]"
    )
    assert "conv_grad_input" not in names(made)
    (weight,) = [node for node in made.nodes if node.op.name == "winograd_weight"]
    assert weight.attrs["back"]
    random = np.random.default_rng(0)
    given = [random.standard_normal(param.type.shape) for param in graph.params]
    np.testing.assert_allclose(evaluate(made, *given)[0], evaluate(graph, *given)[0], atol=1e-12)


def test_what_it_leaves_is_the_same_graph():
    graph = trace(ops.tanh, parse_type("f32[3]"))
    assert PASS.run(graph, CONTEXT) is graph


def test_blocks_are_visited():
    types = parse_type("f32[1, 8, 6, 6]"), parse_type("f32[8, 8, 3, 3]")
    body = trace(lambda h, w: ops.tanh(conv(h, w)), *types)
    graph = trace(lambda x, w: ops.scan(body, [x], [], [w], length=4), *types)
    assert names(graph.nodes[-1].blocks[0]) == ["conv", "tanh"]
    assert "conv_winograd" in names(PASS.run(graph, CONTEXT).nodes[-1].blocks[0])
