"""Control flow, compiled: blocks are programs that the kernel of the node calls."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.ir.build import trace
from graphc.ir.dims import symbol
from graphc.ir.dtype import BOOL, F32, I64
from graphc.ir.errors import AssertError, BoundsError
from graphc.ir.interpret import evaluate
from graphc.ir.ops.constant import const, full
from graphc.ir.ops.control import cond, scan, while_loop
from graphc.ir.ops.effect import assert_op
from graphc.ir.types import parse_type
from tests.backends.test_compile_ops import o, run


def block(function, *types):
    return trace(function, *map(parse_type, types))


def cell(h, x, w):
    """A recurrent step: the new state, and its sum as a row."""
    mixed = o.dot(h, w, contract=((1,), (0,)))
    new = o.tanh(o.add(mixed, x))
    return [new, o.reduce_sum(new, axes=(1,))]


CELL = ("f32[4, 8]", "f32[4, 8]", "f32[8, 8]")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [0, 1, 2, 5])
def test_scan(length, reverse):
    body = block(cell, *CELL)
    executable, _ = run(
        lambda h, x, w: scan(body, [h], [o.mul(x, x)], [w], length=length, reverse=reverse),
        "f32[4, 8]",
        f"f32[{length}, 4, 8]",
        "f32[8, 8]",
    )
    assert [kernel.kind for kernel in executable.kernels].count("scan") == 1


def test_scan_of_a_symbolic_length_and_batch():
    body = block(cell, "f32[b, 8]", "f32[b, 8]", "f32[8, 8]")
    graph = trace(
        lambda h, x, w: scan(body, [h], [x], [w], length=symbol("n")),
        *map(parse_type, ["f32[b, 8]", "f32[n, b, 8]", "f32[8, 8]"]),
    )
    executable = compile_graph(graph)
    rng = np.random.default_rng(0)
    for n, b in [(3, 2), (2, 5), (7, 1), (4, 40)]:
        inputs = [rng.standard_normal(s).astype("f4") for s in [(b, 8), (n, b, 8), (8, 8)]]
        for found, expected in zip(executable(*inputs), evaluate(graph, *inputs), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("limit", [0.0, 3.0, 1000.0])
def test_while(limit):
    condition = block(lambda i, x: o.lt(o.reduce_sum(x, axes=(0,)), full(limit, F32)), *WHILE)
    body = block(lambda i, x: [o.add(i, full(1, I64)), o.add(x, x)], *WHILE)
    x = np.array([0.5, 0.25, 0.125], "f4")
    _, (count, doubled) = run(
        lambda i, x: while_loop(condition, body, i, x), *WHILE, arrays=[np.array(0), x]
    )
    np.testing.assert_array_equal(doubled, x * 2.0**count)


WHILE = ("i64[]", "f32[3]")


@pytest.mark.parametrize("holds", [False, True])
def test_if_runs_one_block(holds):
    table = np.arange(3, dtype="f4")
    then = block(lambda x: [o.add(x, const(table)), x], "f32[3]")
    other = block(lambda x: [o.neg(x), o.mul(x, const(table * 2))], "f32[3]")
    run(
        lambda p, x: cond(p, then, other, x),
        "bool[]",
        "f32[3]",
        arrays=[np.array(holds), np.array([1, 2, 3], "f4")],
    )


def test_if_by_a_row_of_predicates_selects():
    then = block(lambda x: [o.exp(x)], "f32[4, 3]")
    other = block(lambda x: [o.neg(x)], "f32[4, 3]")
    executable, _ = run(lambda p, x: cond(p, then, other, x), "bool[4]", "f32[4, 3]")
    assert [kernel.kind for kernel in executable.kernels] == ["map"]


def test_loops_inside_loops():
    inner = block(lambda h, x: [o.add(h, x), h], "f32[3]", "f32[3]")
    outer = block(lambda h, rows: scan(inner, [h], [rows], length=4), "f32[3]", "f32[4, 3]")
    run(lambda h, x: scan(outer, [h], [x], length=5), "f32[3]", "f32[5, 4, 3]")


def test_a_check_that_fails_in_a_block():
    body = block(lambda h, i, x: [o.gather(x, i, axis=0)], "f32[2]", "i64[2]", "f32[5]")
    graph = trace(
        lambda h, i, x: [o.gather(x, i, axis=0), *scan(body, [h], [i], [x], length=3)][1:],
        *map(parse_type, ["f32[2]", "i64[3, 2]", "f32[5]"]),
    )
    executable = compile_graph(graph)
    x = np.arange(5, dtype="f4")
    index = np.array([[0, 1], [2, 3], [4, 4]])
    np.testing.assert_array_equal(executable(x[:2], index, x)[0], [4, 4])
    with pytest.raises(BoundsError, match="size 5"):
        executable(x[:2], index + 1, x)
    np.testing.assert_array_equal(executable(x[:2], index, x)[0], [4, 4])


def test_asserts_hold_or_raise_with_their_text_and_line():
    """At the top, of many elements, where nothing reads what they guard, and in blocks."""

    def asserted(x):
        assert_op(o.lt(x, full(3.0, F32, (70,))), text="an element is too large")
        return o.mul(x, x)

    graph = block(asserted, "f32[70]")
    executable = compile_graph(graph)
    x = np.ones(70, "f4")
    np.testing.assert_array_equal(executable(x)[0], x)
    x[67] = 4
    for compute in (executable, lambda x: evaluate(graph, x)):
        with pytest.raises(AssertError, match="an element is too large"):
            compute(x)

    def body(total, row):
        assert_op(o.lt(total, full(4.0, F32)), text="the total is too large")
        return [o.add(total, row)]

    step = block(body, "f32[]", "f32[]")
    whole = block(lambda t, rows: scan(step, [t], [rows], length=6), "f32[]", "f32[6]")
    looped = compile_graph(whole)
    assert looped(np.float32(0), np.full(6, 0.5, "f4"))[0] == 3
    with pytest.raises(AssertError, match="the total is too large"):
        looped(np.float32(0), np.ones(6, "f4"))


def test_an_assert_in_a_branch_raises_where_the_branch_is_taken():
    def never(x):
        assert_op(full(False, BOOL), text="not this one")
        return full(0.0, F32, (4,))

    branches = [block(function, "f32[4]") for function in (lambda x: o.neg(x), never)]
    graph = block(lambda p, x: cond(p, *branches, x), "bool[]", "f32[4]")
    executable = compile_graph(graph)
    x = np.arange(4, dtype="f4")
    for _ in range(2):
        np.testing.assert_array_equal(executable(np.True_, x)[0], -x)
        with pytest.raises(AssertError, match="not this one"):
            executable(np.False_, x)
