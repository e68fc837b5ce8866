"""Rows whose results have factors of parts of the row, as a group norm: one kernel, equal bits."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.ir.build import trace
from graphc.ir.dims import Facts
from graphc.ir.types import parse_type
from tests.backends.test_compile_ops import o

pytestmark = pytest.mark.usefixtures("three_threads")

LEVELS = ["host", "avx2", "x86-64"]
#: Images, groups, channels of a group, places: pieces of whole steps, of parts of one, fewer than a
#: vector has lanes; rows in blocks.
SHAPES = {
    "whole steps": (3, 2, 4, 128),
    "parts": (2, 4, 8, 196),
    "short": (3, 2, 6, 49),
    "few": (2, 5, 8, 9),
    "long": (2, 3, 5, 9001),
    "long pieces": (1, 2, 2, 40003),
}


def group_norm(x, w):
    """x[n, groups, channels, places] without the means of groups, scaled, times w by channel."""
    n, groups, channels, places = x.type.shape
    axes = (2, 3)
    rows = o.reshape(x, shape=(n, groups, channels * places))

    def wide(row):
        return o.expand(row, shape=rows.type.shape, axes=(2,))

    delta = o.sub(rows, wide(o.reduce_sum(rows, axes=(2,))))
    largest = o.reduce_max(o.abs(delta), axes=(2,))
    spread = o.reduce_sum(o.exp(o.div(delta, wide(largest))), axes=(2,))
    place = o.arg_reduce(delta, axis=2, mode="max")
    normal = o.reshape(o.mul(delta, wide(spread)), shape=x.type.shape)
    weights = o.reshape(w, shape=(groups, channels))
    scaled = o.mul(normal, o.expand(weights, shape=x.type.shape, axes=(0, len(axes) + 1)))
    return [scaled, largest, place]


def graph_of(shape):
    n, groups, channels, places = shape
    texts = [f"f32[{n}, {groups}, {channels}, {places}]", f"f32[{groups * channels}]"]
    return trace(group_norm, *map(parse_type, texts))


def numbers(shape):
    random = np.random.default_rng(0)
    x = random.standard_normal(shape, "f4")
    return x, random.standard_normal(shape[1] * shape[2], "f4")


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("name", SHAPES)
def test_bits_do_not_depend_on_fusion(name, target):
    graph, inputs = graph_of(SHAPES[name]), numbers(SHAPES[name])
    apart = compile_graph(graph, target=target, apart=True)(*inputs)
    for fork in (0.0, 1e18):
        together = compile_graph(graph, target=target, fork=fork)(*inputs)
        for a, b in zip(apart, together, strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", SHAPES)
def test_it_is_one_kernel(name):
    kernels = [report.kind for report in prepare(graph_of(SHAPES[name])).reports]
    assert kernels == ["rows"]


@pytest.mark.parametrize("target", LEVELS)
def test_symbolic_images_and_places(target):
    facts = {"n": Facts(lo=1), "p": Facts(lo=1, hint=200)}
    graph = trace(group_norm, parse_type("f32[n, 3, 4, p]"), parse_type("f32[12]"))
    apart, together = [
        compile_graph(graph, target=target, dims=facts, apart=apart) for apart in (True, False)
    ]
    for n, p in ((1, 1), (2, 7), (3, 64), (1, 500), (2, 9001)):
        inputs = numbers((n, 3, 4, p))
        for a, b in zip(apart(*inputs), together(*inputs), strict=True):
            assert a.tobytes() == b.tobytes(), (n, p)


def test_a_sum_of_what_differs_by_part_of_the_row_is_apart():
    """Its own operand does not go through the row in one loop."""

    def weighted(x, w):
        scaled, *_ = group_norm(x, w)
        return o.reduce_sum(scaled, axes=(2, 3))

    texts = ["f32[2, 4, 8, 196]", "f32[32]"]
    graph = trace(weighted, *map(parse_type, texts))
    inputs = numbers((2, 4, 8, 196))
    (wanted,) = compile_graph(graph, apart=True)(*inputs)
    (found,) = compile_graph(graph)(*inputs)
    assert found.tobytes() == wanted.tobytes()


def test_what_is_written_while_a_row_is_reduced_is_in_its_order():
    """A result beside a sum, read through a permute: its pieces are not one run in memory."""

    def shuffled(x, w):
        parts = o.permute(o.reshape(x, shape=(2, 2, 2, 3, 2)), perm=(0, 2, 1, 3, 4))
        y = o.reshape(parts, shape=(2, 4, 3, 2))
        return [o.reduce_sum(o.mul(w, w), axes=(0, 1, 2, 3)), o.mul(y, w)]

    graph = trace(shuffled, *map(parse_type, ["f32[2, 4, 3, 2]"] * 2))
    x = np.arange(48, dtype="f4").reshape(2, 4, 3, 2)
    wanted = x.reshape(2, 2, 2, 3, 2).swapaxes(1, 2).reshape(x.shape) * x
    for apart in (True, False):
        total, product = compile_graph(graph, apart=apart)(x, x)
        np.testing.assert_array_equal(product, wanted)
        assert total == (x * x).sum()
