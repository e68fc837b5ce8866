"""Matrices that follow from weights are packed ahead; what products give stays as it was."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.layouts import choose_layouts
from graphc.backends.llvm.target import get_target
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.hoist import hoist
from graphc.passes.pack_products import PackProducts
from graphc.passes.pipeline import Context, Pipeline

CONTEXT = Context(claimed=frozenset(["conv_last"]))


def linear(x, w):
    return ops.dot(x, w, contract=((len(x.type.shape) - 1,), (1,)))


def block(x, w, v, b):
    """A product with rows of w along k, then one by a matrix that follows from v, along n."""
    y = ops.tanh(linear(x, w) + ops.expand(b, shape=(2, 20, 30), axes=(0, 1)))
    return x + ops.dot(y, ops.exp(v), contract=((2,), (0,)))


TYPES = ("f32[2, 20, 40]", "f32[30, 40]", "f32[30, 40]", "f32[30]")


def graph_of(function=block, types=TYPES):
    return trace(function, *[parse_type(text) for text in types])


def names(graph):
    return [node.op.name for node in graph.nodes]


def arrays_of(graph):
    random = np.random.default_rng(4)
    return [random.standard_normal(p.type.shape).astype(np.float32) for p in graph.params]


@pytest.mark.parametrize("width", [8, 16, 48])
def test_products_by_weights_become_convolutions_of_one_tap(width):
    graph = graph_of()
    pack = PackProducts((1, 2, 3), lambda node: width)
    made = Pipeline((pack,), "numeric").run(graph, CONTEXT)
    verify(made)
    assert names(made).count("conv_last") == 2 and "dot" not in names(made)
    arrays = arrays_of(graph)
    for a, b in zip(evaluate(made, *arrays), evaluate(graph, *arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "function, types, weights",
    [
        (block, TYPES, (2, 3)),  # the first matrix is no weight
        (block, TYPES, (1, 3)),
        (lambda x, w: linear(w, x), ("f32[20, 40]", "f32[30, 40]"), (1,)),  # on the left
        (
            lambda x, w: ops.dot(x, w, contract=((0,), (1,))),
            ("f32[40, 20]", "f32[30, 40]"), (1,),
        ),  # x does not run along k
        (
            lambda x, w: ops.dot(x, w, contract=((2,), (2,)), batch=((0,), (0,))),
            ("f32[3, 20, 40]", "f32[3, 30, 40]"), (1,),
        ),
    ],
)  # fmt: skip
def test_others_stay(function, types, weights):
    graph = graph_of(function, types)
    made = PackProducts(weights, lambda node: 16).run(graph, CONTEXT)
    assert names(made).count("dot") >= 1


def test_the_backend_packs_what_keeps_its_bits():
    graph = graph_of()
    laid = choose_layouts(graph, (1, 2, 3))
    assert names(laid).count("conv_last") == 2
    halves = hoist(laid, (1, 2, 3))
    assert "permute" not in names(halves.late) and "exp" in names(halves.early)
    arrays = arrays_of(graph)
    packed = compile_graph(halves.early)(*arrays[1:])
    kept = [arrays[1 + place] for place in halves.weights]
    found = compile_graph(halves.late)(arrays[0], *kept, *packed)
    for a, b in zip(found, compile_graph(graph)(*arrays), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "types", [("f32[4, 40]", "f32[30, 40]"), ("f32[n, 40]", "f32[30, 40]"),
              ("f16[40, 40]", "f16[30, 40]"), ("f32[40, 512]", "f32[10, 512]")],
)  # fmt: skip
def test_few_rows_or_columns_and_symbols_keep_their_matrix(types):
    graph = graph_of(linear, types)
    assert names(choose_layouts(graph, (1,), target=get_target())) == ["dot"]
