"""Maps that products compute at their stores: the same bits as kernels of their own, and which
maps are taken."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.ir.build import trace
from graphc.ir.dims import Facts
from graphc.ir.text import parse_type
from tests.backends.contract_runner import LEVELS
from tests.backends.test_compile_ops import o, random_array, run, wide

ROWS = {"contract": ((1,), (0,))}
CONV = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


def bias_and_relu(x, w, b):
    y = o.add(o.dot(x, w, **ROWS), wide(b, (33, 70), 0))
    return o.max(y, 0.0)


def bias_of_rows(x, w, b):
    return o.tanh(o.add(o.dot(x, w, **ROWS), wide(b, (33, 70), 1)))


def residual(x, w, r):
    return o.add(o.dot(x, w, **ROWS), r)


def reshaped(x, w, r):
    y = o.reshape(o.dot(x, w, **ROWS), shape=(3, 11, 70))
    return o.mul(o.add(y, o.reshape(r, shape=(3, 11, 70))), 0.5)


def kept_and_two_results(x, w, r):
    y = o.dot(x, w, **ROWS)
    return y, o.exp(y), o.add(y, r)


def masked(x, w, r):
    y = o.dot(x, w, **ROWS)
    positive = o.lt(r, y)
    return o.select(positive, y, r), positive


def doubles(x, w, r):
    return o.sqrt(o.abs(o.sub(o.dot(x, w, **ROWS), r)))


def optimizer(x, w, p, m):
    gradient = o.dot(x, w, **ROWS)
    momentum = o.add(o.mul(m, 0.9), gradient)
    return o.sub(p, o.mul(momentum, 0.1)), momentum


def batches(x, w, r):
    y = o.dot(x, w, contract=((2,), (1,)), batch=((0,), (0,)))
    return o.add(o.mul(y, wide(r, (4, 9, 21), 1, 2)), 1.0)


def batches_and_columns(x, w, b):
    y = o.dot(x, w, contract=((2,), (1,)), batch=((0,), (0,)))
    return o.add(y, wide(b, (4, 9, 21), 0, 1))


def dot_form(x, w, b):
    """Few rows, a long sum: the sums across lanes."""
    return o.add(o.dot(x, w, contract=((1,), (1,))), wide(b, (2, 45), 0))


def transposed_column(x, w, r):
    return o.mul(o.dot(x, w, contract=((0,), (0,))), r)


def column_of_each(x, w, r):
    y = o.dot(x, w, contract=((2,), (1,)), batch=((0,), (0,)))
    return o.exp(o.add(y, r))


def image(x, w, b, r):
    y = o.add(o.conv(x, w, **CONV), wide(b, (2, 20, 9, 7), 0, 2, 3))
    return o.max(o.add(y, r), 0.0)


def pointwise_image(x, w, b):
    plain = {**CONV, "padding": ((0, 0), (0, 0))}
    return o.tanh(o.add(o.conv(x, w, **plain), wide(b, (2, 20, 16, 8), 0, 2, 3)))


def depthwise(x, w, b):
    each = {**CONV, "groups": 6}
    return o.max(o.add(o.conv(x, w, **each), wide(b, (2, 6, 9, 7), 0, 2, 3)), 0.0)


def gradient_of_an_image(g, w, mask):
    return o.mul(o.conv_grad_input(g, w, size=(9, 7), **CONV), mask)


X = ["f32[33, 50]", "f32[50, 70]"]
CASES = {
    "bias and relu": (bias_and_relu, [*X, "f32[70]"]),
    "bias of rows": (bias_of_rows, [*X, "f32[33]"]),
    "residual": (residual, [*X, "f32[33, 70]"]),
    "reshaped": (reshaped, [*X, "f32[33, 70]"]),
    "kept and two results": (kept_and_two_results, [*X, "f32[33, 70]"]),
    "masked": (masked, [*X, "f32[33, 70]"]),
    "doubles": (doubles, ["f64[33, 50]", "f64[50, 70]", "f64[33, 70]"]),
    "optimizer": (optimizer, [*X, "f32[33, 70]", "f32[33, 70]"]),
    "batches": (batches, ["f32[4, 9, 30]", "f32[4, 30, 21]", "f32[4]"]),
    "batches and columns": (batches_and_columns, ["f32[4, 9, 30]", "f32[4, 30, 21]", "f32[21]"]),
    "dot form": (dot_form, ["f32[2, 400]", "f32[45, 400]", "f32[45]"]),
    "one column": (residual, ["f32[90, 300]", "f32[300, 1]", "f32[90, 1]"]),
    "one short column": (residual, ["f32[90, 20]", "f32[20, 1]", "f32[90, 1]"]),
    "few columns": (residual, ["f32[210, 300]", "f32[300, 5]", "f32[210, 5]"]),
    "transposed column": (transposed_column, ["f32[200, 70]", "f32[200, 1]", "f32[70, 1]"]),
    "few transposed columns": (
        transposed_column,
        ["f32[200, 170]", "f32[200, 5]", "f32[170, 5]"],
    ),
    "column of each": (column_of_each, ["f32[3, 40, 90]", "f32[3, 90, 1]", "f32[3, 40, 1]"]),
    "image": (image, ["f32[2, 5, 9, 7]", "f32[20, 5, 3, 3]", "f32[20]", "f32[2, 20, 9, 7]"]),
    "pointwise image": (pointwise_image, ["f32[2, 30, 16, 8]", "f32[20, 30, 1, 1]", "f32[20]"]),
    "depthwise": (depthwise, ["f32[2, 6, 9, 7]", "f32[6, 1, 3, 3]", "f32[6]"]),
    "gradient of an image": (
        gradient_of_an_image,
        ["f32[2, 20, 9, 7]", "f32[20, 16, 3, 3]", "f32[2, 16, 9, 7]"],
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_one_kernel_with_the_bits_of_two(name, level):
    function, types = CASES[name]
    executable, found = run(function, *types, target=level)
    kinds = [kernel.kind for kernel in executable.kernels if kernel.kind != "packed weights"]
    assert len(kinds) == 1 and kinds[0].endswith(", map")
    graph = trace(function, *map(parse_type, types))
    rng = np.random.default_rng(0)
    given = [random_array(param.type, rng) for param in graph.params]
    two = compile_graph(graph, target=level, apart=True)
    assert len(two.kernels) >= 2
    for array, expected in zip(found, two(*given), strict=True):
        assert array.tobytes() == expected.tobytes()


@pytest.mark.parametrize("rows", [0, 1, 5, 64, 131])
def test_symbolic_rows(rows):
    def layer(x, w, b):
        return o.max(
            o.add(o.dot(x, w, **ROWS), o.expand(b, shape=(x.type.shape[0], 70), axes=(0,))), 0.0
        )

    graph = trace(layer, *map(parse_type, ["f32[n, 50]", "f32[50, 70]", "f32[70]"]))
    executable = compile_graph(graph, dims={"n": Facts(lo=0)})
    assert [kernel.kind for kernel in executable.kernels] == ["dot, map"]
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype("f4") for s in ((rows, 50), (50, 70), (70,)))
    (found,) = executable(x, w, b)
    np.testing.assert_allclose(found, np.maximum(x @ w + b, 0), atol=1e-4)


def test_a_map_of_two_products_belongs_to_one():
    def both(x, w, y, v):
        return o.mul(o.dot(x, w, **ROWS), o.dot(y, v, **ROWS))

    executable, _ = run(both, *X, *X)
    assert sorted(kernel.kind for kernel in executable.kernels) == ["dot", "dot, map"]


def test_products_one_after_the_other():
    def layers(x, w, b, v, r):
        h = o.tanh(o.add(o.dot(x, w, **ROWS), wide(b, (33, 70), 0)))
        return o.add(o.dot(h, v, **ROWS), r)

    executable, _ = run(layers, *X, "f32[70]", "f32[70, 20]", "f32[33, 20]")
    assert [kernel.kind for kernel in executable.kernels] == ["dot, map", "dot, map"]


def test_what_needs_the_whole_product_is_a_kernel_of_its_own():
    def normal(x, w):
        y = o.dot(x, w, **ROWS)
        largest = o.reduce_max(o.reduce_sum(y, axes=(1,)), axes=(0,))
        return o.div(y, wide(largest, (33, 70), 0, 1))

    executable, _ = run(normal, *X)
    assert "dot, map" not in [kernel.kind for kernel in executable.kernels]


def test_what_reads_elsewhere_is_a_kernel_of_its_own():
    def turned(x, w, r):
        y = o.dot(x, w, **ROWS)
        return o.add(y, o.permute(r, perm=(1, 0)))

    def of_neighbours(x, w):
        y = o.dot(x, w, **ROWS)
        shifted = o.slice(o.pad(y, low=(0, 1), high=(0, 0), value=0), start=(0, 0),
                           stop=(33, 70), step=(1, 1))  # fmt: skip
        return o.add(y, shifted)

    for function, types in ((turned, [*X, "f32[70, 33]"]), (of_neighbours, X)):
        executable, _ = run(function, *types)
        assert [kernel.kind for kernel in executable.kernels] == ["dot", "map"]


def test_halves_are_rounded_before_a_map_reads_them():
    executable, _ = run(residual, "f16[33, 50]", "f16[50, 70]", "f16[33, 70]", tolerance=4e-3)
    assert [kernel.kind for kernel in executable.kernels] == ["dot", "map"]
