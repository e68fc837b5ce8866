"""Constants of a scan are packed once, ahead of the loop, with the bits of products in place."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.products import panel_columns
from graphc.backends.llvm.target import get_target
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.pack_constants import pack_constants

STEPS = 3


def product(turned):
    return lambda a, w: ops.dot(a, w, contract=((1,), (1 if turned else 0,)))


def program(m, n, k, turned, dtype="f32", steps=STEPS):
    """Products of rows [steps, m, k] by one matrix, in a scan."""
    matrix = f"{dtype}[{n}, {k}]" if turned else f"{dtype}[{k}, {n}]"
    body = trace(
        lambda a, w: [product(turned)(a, w)], parse_type(f"{dtype}[{m}, {k}]"), parse_type(matrix)
    )
    return trace(
        lambda a, w: ops.scan(body, [], [a], [w], steps),
        parse_type(f"{dtype}[{steps}, {m}, {k}]"),
        parse_type(matrix),
    )


def arrays_of(graph):
    random = np.random.default_rng(0)
    return [random.standard_normal(p.type.shape).astype(p.type.dtype.numpy) for p in graph.params]


def packed(graph, target="avx512"):
    return pack_constants(graph, lambda node: panel_columns(node, get_target(target)))


def shape_of_the_matrix(graph):
    (scan,) = [node for node in graph.nodes if node.op.name == "scan"]
    (dot,) = [node for node in scan.blocks[0].nodes if node.op.name == "dot"]
    return dot.inputs[1].type.shape


@pytest.mark.parametrize("target", ["avx512", "avx2"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("m, n, k", [(16, 128, 40), (37, 192, 30), (100, 896, 600), (30, 64, 300)])
def test_a_step_reads_panels(m, n, k, turned, dtype, target):
    graph = program(m, n, k, turned, dtype)
    found = packed(graph, target)
    verify(found)
    if m == 100 or turned:  # a small matrix is read as it is, and by few rows a large one
        panels, depth, width = shape_of_the_matrix(found)
        assert panels * width == n and depth == k
    arrays = arrays_of(graph)
    for a, b in zip(evaluate(graph, *arrays), evaluate(found, *arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("m, n, k", [(16, 128, 40), (37, 192, 30), (64, 80, 70), (30, 64, 600)])
def test_the_bits_are_those_of_a_product_outside(m, n, k, turned, dtype):
    graph = program(m, n, k, turned, dtype)
    a, w = arrays_of(graph)
    (found,) = compile_graph(graph)(a, w)
    single = compile_graph(
        trace(product(turned), parse_type(f"{dtype}[{m}, {k}]"), graph.params[1].type)
    )
    wanted = np.stack([single(row, w)[0] for row in a])
    assert found.tobytes() == wanted.tobytes()
    np.testing.assert_allclose(found, evaluate(graph, a, w)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "m, n, k, turned, steps",
    [
        (1, 128, 40, True, 3),  # few rows read the matrix once, in place
        (16, 128, 300, True, 3),  # sums across lanes
        (16, 128, 40, False, 3),  # in place
        (16, 100, 40, True, 3),  # no whole panels
        (16, 128, 40, True, 1),  # one step
    ],
)
def test_what_gains_nothing_stays(m, n, k, turned, steps):
    graph = program(m, n, k, turned, steps=steps)
    assert packed(graph) is graph


def test_two_products_share_panels():
    matrix = parse_type("f32[128, 40]")
    row = parse_type("f32[16, 40]")
    body = trace(lambda a, b, w: [product(True)(a, w), product(True)(b, w)], row, row, matrix)
    rows = parse_type("f32[3, 16, 40]")
    graph = trace(lambda a, b, w: ops.scan(body, [], [a, b], [w], 3), rows, rows, matrix)
    found = packed(graph)
    (scan,) = [node for node in found.nodes if node.op.name == "scan"]
    assert len(scan.inputs) == 4 and [n.op.name for n in found.nodes].count("permute") == 1
    arrays = arrays_of(graph)
    for a, b in zip(evaluate(graph, *arrays), compile_graph(graph)(*arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
