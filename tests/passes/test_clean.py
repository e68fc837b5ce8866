"""clean: fixed point, exact on every derivative and on random programs; expansion of composites."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.ir import ops
from graphc.ir.build import Builder, trace
from graphc.ir.dtype import F32
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS
from graphc.ir.types import parse_type
from graphc.ir.verify import verify
from graphc.passes.autodiff import grad
from graphc.passes.clean import clean, final_table
from graphc.passes.expand import expand_composites

from .derivative_cases import CASES, graph_of


def names(graph):
    return [node.op.name for node in graph.nodes]


@pytest.mark.parametrize("name", sorted(CASES))
def test_clean_keeps_the_bits_of_derivatives_and_is_a_fixed_point(name):
    derivative = grad(graph_of(name))
    cleaned = clean(derivative)
    verify(cleaned)
    assert clean(cleaned) is cleaned
    assert len(cleaned.nodes) <= len(derivative.nodes)
    random = np.random.default_rng(0)
    arrays = [random.normal(size=p.type.shape) for p in derivative.params]
    before, after = evaluate(derivative, *arrays), evaluate(cleaned, *arrays)
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


UNARY = ["neg", "abs", "floor", "sign", "sqrt"]
BINARY = ["add", "sub", "mul", "div", "max", "min"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*UNARY, *BINARY, "select", "permute", "reshape", "number", "cast"]),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
    ),
    max_size=25,
)
NUMBERS = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, float("inf"), float("nan"), 1e-45]


def random_program(steps):
    with Builder() as b:
        values = [b.param(parse_type("f32[4, 4]"), name) for name in "xy"]
        for what, i, j in steps:
            x, y = values[i % len(values)], values[j % len(values)]
            if what in UNARY:
                values.append(OPS[what](x))
            elif what in BINARY:
                values.append(OPS[what](x, y))
            elif what == "select":
                values.append(ops.select(ops.lt(x, y), y, x))
            elif what == "permute":
                values.append(ops.permute(x, perm=(1, 0)))
            elif what == "reshape":
                shape = [(4, 4), (2, 8), (16,)][j % 3]
                values.append(ops.reshape(ops.reshape(x, shape=shape), shape=(4, 4)))
            elif what == "cast":
                values.append(ops.cast(ops.cast(x, dtype=parse_type("f64[]").dtype), dtype=F32))
            else:
                values.append(ops.full(NUMBERS[i % len(NUMBERS)], F32, (4, 4)))
        return b.graph(values[-3:])


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_clean_keeps_the_bits_of_random_programs(steps):
    graph = random_program(steps)
    cleaned = clean(graph)
    verify(cleaned)
    assert clean(cleaned) is cleaned
    edges = np.array([0.0, -0.0, 1, -1, 0.1, -3.7, np.inf, -np.inf, np.nan, 1e-45, 3e38, 7, 2, 5])
    arrays = [np.resize(edges, (4, 4)), np.resize(edges[::-1], (4, 4))]
    for a, b in zip(evaluate(graph, *arrays), evaluate(cleaned, *arrays), strict=True):
        np.testing.assert_array_equal(a, b)
        numbers = ~np.isnan(a)
        np.testing.assert_array_equal(np.signbit(a)[numbers], np.signbit(b)[numbers])


def test_effects_stay_in_order_and_keep_their_operands():
    with Builder() as b:
        x = b.param(parse_type("f32[2]"))
        ops.print_op(ops.neg(-x), text="first")
        ops.print_op(x, text="second")
        ops.print_op(x, text="second")
        graph = clean(b.graph([]))
    assert [node.attrs["text"] for node in graph.nodes] == ["first", "second", "second"]
    assert graph.nodes[0].inputs == graph.params


def test_a_division_by_zero_is_left_to_the_run():
    graph = trace(lambda: ops.quo(*[ops.full(n, parse_type("i64[]").dtype) for n in (1, 0)]))
    assert "quo" in names(clean(graph))


def test_small_constant_arrays_fold():
    graph = trace(lambda: ops.const(np.arange(6.0)) * 2.0)
    (node,) = clean(graph).nodes
    assert node.attrs["data"].array.tolist() == [0, 2, 4, 6, 8, 10]


def test_detach_goes_only_at_the_end():
    graph = trace(lambda x: ops.detach(x) * x, parse_type("f32[2]"))
    assert "detach" in names(clean(graph))
    assert "detach" not in names(clean(graph, final_table()))


def test_a_clean_graph_is_returned_itself():
    graph = trace(lambda x: ops.sin(x) * x, parse_type("f32[n]"))
    assert clean(graph) is graph
    assert expand_composites(graph) is graph


def pieces(x, axis, cuts, wrap=lambda part: part):
    parts = []
    for a, b in itertools.pairwise(cuts):
        start = tuple([a if i == axis else 0 for i in range(2)])
        stop = tuple([b if i == axis else n for i, n in enumerate(x.type.shape)])
        parts.append(wrap(ops.slice_(x, start=start, stop=stop, step=(1, 1))))
    return parts


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_that_follow_each_other_are_one(axis):
    graph = trace(
        lambda x: ops.concat(*pieces(x, axis, [0, 1, 3, 4]), axis=axis), parse_type("f32[4, 4]")
    )
    assert clean(graph).nodes == ()
    part = trace(
        lambda x: ops.concat(*pieces(x, axis, [1, 2, 4]), axis=axis), parse_type("f32[4, 4]")
    )
    assert names(clean(part)) == ["slice"]


def test_reshaped_rows_that_follow_each_other_are_one_reshape():
    def function(x):
        parts = pieces(x, 0, [0, 1, 2, 4], lambda p: ops.reshape(p, shape=(p.type.shape[0] * 2, 2)))
        return ops.concat(*parts, axis=0)

    graph = trace(function, parse_type("f32[4, 4]"))
    assert names(clean(graph)) == ["reshape"]
    x = np.arange(16.0).reshape(4, 4)
    np.testing.assert_array_equal(evaluate(graph, x), evaluate(clean(graph), x))


@pytest.mark.parametrize("cuts", [[[0, 1], [2, 4]], [[2, 4], [0, 2]], [[0, 2], [1, 4]]])
def test_other_slices_stay_a_concat(cuts):
    def function(x):
        return ops.concat(*[pieces(x, 0, cut)[0] for cut in cuts], axis=0)

    graph = trace(function, parse_type("f32[4, 4]"))
    assert "concat" in names(clean(graph))
    x = np.arange(16.0).reshape(4, 4)
    np.testing.assert_array_equal(evaluate(graph, x), evaluate(clean(graph), x))


def padded_sum(order, sizes, dtype, axis, fill=0):
    """The sum of pieces of these sizes, each padded to where it stands, in this order."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    whole = sum(sizes)

    def function(*xs):
        total = None
        for i in order:
            low, high = starts[i], whole - starts[i] - sizes[i]
            around = lambda n: tuple([n if k == axis else 0 for k in range(2)])  # noqa: E731
            piece = ops.pad(xs[i], low=around(low), high=around(high), value=fill)
            total = piece if total is None else ops.add(total, piece)
        return total

    shapes = [(n, 2) if axis == 0 else (2, n) for n in sizes]
    return trace(function, *[parse_type(f"{dtype}[{a}, {b}]") for a, b in shapes])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 1, 3, 0)])
@pytest.mark.parametrize("dtype", ["f32", "i64"])
def test_padded_pieces_side_by_side_are_a_concat(dtype, order, axis):
    graph = padded_sum(order, [2, 1, 3, 1], dtype, axis)
    cleaned = clean(graph)
    assert names(cleaned) == (["concat", "full", "add"] if dtype == "f32" else ["concat"])
    arrays = [np.full(p.type.shape, -0.0, p.type.dtype.numpy) for p in graph.params]
    (before,), (after,) = evaluate(graph, *arrays), evaluate(cleaned, *arrays)
    assert before.tobytes() == after.tobytes()  # -0.0 + 0.0 is 0.0


@pytest.mark.parametrize("order, fill", [((0, 2, 1), 0), ((0, 1, 2), 1), ((0, 1, 2), -0.0)])
def test_other_padded_pieces_stay_a_sum(order, fill):
    graph = padded_sum(order, [2, 1, 3], "f32", 0, fill)
    cleaned = clean(graph)
    assert "pad" in names(cleaned) and names(cleaned).count("add") == 2
    arrays = [np.full(p.type.shape, -0.0, np.float32) for p in graph.params]
    (before,), (after,) = evaluate(graph, *arrays), evaluate(cleaned, *arrays)
    assert before.tobytes() == after.tobytes()


def test_the_derivative_of_rows_read_one_by_one_is_no_sum():
    def function(x):
        rows = [ops.exp(p) for p in pieces(x, 0, range(9))]
        return ops.reduce_sum(ops.concat(*[r * float(i) for i, r in enumerate(rows)], axis=0),
                              axes=(0, 1))  # fmt: skip

    found = names(clean(grad(trace(function, parse_type("f64[8, 3]")))))
    assert "pad" not in found and found.count("add") == 1
