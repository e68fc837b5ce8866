"""Groups of nodes that go out as one ONNX op, and near misses that must not."""

import math

import pytest

from graphc.backends.onnx import check_model, export_graph
from graphc.ir import composite, ops
from graphc.ir.interpret import evaluate

from .onnx_cases import block, random_array
from .onnx_runner import assert_same, run


def ops_of(graph):
    """The ONNX ops of a graph, whose results are compared with onnxruntime's on the way."""
    arrays = [random_array(p.type, seed=i) for i, p in enumerate(graph.params)]
    model = export_graph(graph)
    check_model(model)
    assert_same(run(model, arrays), evaluate(graph, *arrays))
    return [node.op_type for node in model.graph.node]


def windows(x, sizes=(3, 2), strides=(2, 1), dilations=(1, 1), pads=None, fill=0.0):
    if pads is not None:
        x = ops.pad(x, low=(0, 0, *pads), high=(0, 0, *pads), value=fill)
    return ops.window(x, sizes=sizes, strides=strides, dilations=dilations)


def flat(w):
    return ops.reshape(w, shape=(*w.type.shape[:-2], math.prod(w.type.shape[-2:])))


@pytest.mark.parametrize("pads", [None, (1, 1), (2, 0)])
def test_maximum_over_windows_is_max_pool(pads):
    fill = -math.inf

    def two_axes(x):
        return ops.reduce_max(windows(x, pads=pads, fill=fill), axes=(4, 5))

    def one_axis(x):
        w = windows(x, dilations=(2, 1), pads=pads, fill=fill)
        return composite.max_first(flat(w), axis=4)

    for pool in (two_axes, one_axis):
        assert ops_of(block(pool, "f32[2, 3, 9, 8]")) == ["MaxPool"]


def test_a_pad_by_another_value_stays():
    def pool(x):
        return ops.reduce_max(windows(x, pads=(1, 1), fill=0.0), axes=(4, 5))

    assert ops_of(block(pool, "f32[2, 3, 9, 8]")) == ["Pad", "MaxPool"]


@pytest.mark.parametrize("pads", [None, (1, 1)])
def test_means_over_windows_are_average_pool(pads):
    def times(x):
        return ops.reduce_sum(windows(x, pads=pads), axes=(4, 5)) * (1 / 6)

    def over(x):
        return ops.reduce_sum(flat(windows(x, pads=pads)), axes=(4,)) / 6.0

    for pool in (times, over):
        assert ops_of(block(pool, "f32[2, 3, 9, 8]")) == ["AveragePool"]


def test_sums_over_windows_are_scaled():
    def pool(x):
        return ops.reduce_sum(windows(x), axes=(4, 5)) / 5.0

    assert ops_of(block(pool, "f32[2, 3, 9, 8]")) == ["AveragePool", "Mul", "Div"]


def test_windows_over_some_axes_only_are_no_pool():
    def rows(x):
        return ops.reduce_max(ops.window(x, sizes=(2,), strides=(1,), dilations=(1,)), axes=(4,))

    def part(x):
        return ops.reduce_max(windows(x), axes=(5,))

    for graph in (rows, part):
        assert "MaxPool" not in ops_of(block(graph, "f32[2, 3, 9, 8]"))


CONV = {"stride": (1, 2), "padding": ((1, 1), (0, 0)), "dilation": (1, 1)}


def biased(made, b, axes):
    return ops.add(ops.expand(b, shape=made.type.shape, axes=axes), made)


def test_a_bias_goes_into_the_convolution():
    graph = block(
        lambda x, w, b: biased(ops.conv(x, w, **CONV), b, (0, 2, 3)),
        "f32[2, 3, 6, 5]", "f32[4, 3, 3, 2]", "f32[4]",
    )  # fmt: skip
    assert ops_of(graph) == ["Conv"]
    graph = block(
        lambda x, w, b: biased(ops.conv_grad_input(x, w, size=(6, 6), **CONV), b, (0, 2, 3)),
        "f32[2, 3, 6, 3]", "f32[3, 4, 3, 2]", "f32[4]",
    )  # fmt: skip
    assert ops_of(graph) == ["ConvTranspose"]


def test_a_convolution_that_is_read_twice_keeps_its_bias_apart():
    def twice(x, w, b):
        made = ops.conv(x, w, **CONV)
        return biased(made, b, (0, 2, 3)), made

    graph = block(twice, "f32[2, 3, 6, 5]", "f32[4, 3, 3, 2]", "f32[4]")
    assert ops_of(graph)[:3] == ["Conv", "Unsqueeze", "Add"]


@pytest.mark.parametrize(
    ("contract", "shapes"),
    [
        (((1,), (1,)), ("f32[5, 4]", "f32[3, 4]")),
        (((1,), (0,)), ("f32[5, 4]", "f32[4, 3]")),
        (((0,), (0,)), ("f32[4, 5]", "f32[4, 3]")),
    ],
)
def test_a_product_with_a_row_is_gemm(contract, shapes):
    graph = block(
        lambda a, b, c: biased(ops.dot(a, b, contract=contract), c, (0,)), *shapes, "f32[3]"
    )
    assert ops_of(graph) == ["Gemm"]


def test_a_column_is_no_bias_of_gemm():
    graph = block(
        lambda a, b, c: biased(ops.dot(a, b, contract=((1,), (0,))), c, (1,)),
        "f32[5, 4]", "f32[4, 3]", "f32[5]",
    )  # fmt: skip
    assert ops_of(graph) == ["MatMul", "Unsqueeze", "Add"]


def test_integers_are_no_gemm():
    def product(a, b):
        return ops.dot(a, b, contract=((1,), (1,)))

    assert ops_of(block(product, "i64[5, 4]", "i64[3, 4]")) == ["Transpose", "MatMul"]
