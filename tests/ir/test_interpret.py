"""The reference interpreter: sizes are found from operands, effects run in order, blocks return."""

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.dims import symbol
from graphc.ir.dtype import F32, I64
from graphc.ir.errors import ShapeError
from graphc.ir.interpret import bind_sizes, evaluate
from graphc.ir.types import parse_type

from .programs import GRAPHS, arrays, traced


def floats(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_numbers_and_lists_take_the_type_of_the_parameter():
    graph = traced(lambda x, i: [x * 2.0, i], "f32[]", "i32[2]")
    twice, same = evaluate(graph, 3, [1, 2])
    assert (twice.dtype, same.dtype, twice) == (np.float32, np.int32, 6)
    assert same.tolist() == [1, 2]


def test_sizes_are_found_from_the_operands():
    n, m = symbol("n"), symbol("m")

    def function(x, y):
        return [ops.iota((n,), 0, I64), ops.iota((m,), 0, I64)]

    graph = traced(function, "f32[n, 2*n + 1]", "f32[n*m, m - 1]")
    a, b = evaluate(graph, floats(3, 7), floats(6, 1))
    assert a.tolist() == [0, 1, 2] and b.tolist() == [0, 1]


def test_a_product_is_divided_by_what_is_known():
    sizes: dict[str, int] = {}
    graph = traced(lambda x, y: x, "f32[a*b]", "f32[b]")
    bind_sizes(graph, [(12,), (4,)], sizes)
    assert sizes == {"b": 4, "a": 3}


@pytest.mark.parametrize(("types", "shapes", "expected"), [
    (("f32[n, n]",), ((2, 3),), r"a size is 3, not 2 \(n\), in %x0: f32\[n, n\] with shape"),
    (("f32[n]", "f32[n]"), ((2,), (3,)), r"a size is 3, not 2 \(n\), in %x1"),
    (("f32[4]",), ((5,),), r"a size is 5, not 4 \(4\), in %x0"),
    (("f32[2*n]",), ((5,),), r"no size of n makes 2\*n equal 5 in %x0"),
    (("f32[n + 3]",), ((2,),), r"no size of n makes n \+ 3 equal 2 in %x0"),
    (("f32[n*n]",), ((4,),), r"the sizes do not determine n\*n in %x0"),
    (("f32[a + b]",), ((4,),), r"the sizes do not determine a \+ b in %x0"),
    (("f32[n]",), ((2, 2),), r"%x0 is f32\[n\], not of shape \(2, 2\)"),
    (("f32[0*n + 3]",), ((2,),), r"a size is 2, not 3 \(3\)"),
])  # fmt: skip
def test_sizes_that_do_not_fit(types, shapes, expected):
    graph = trace(
        lambda *xs: xs[0], *map(parse_type, types), names=[f"x{i}" for i in range(len(types))]
    )
    with pytest.raises(ShapeError, match=expected):
        evaluate(graph, *[floats(*s) for s in shapes])


def test_the_number_of_operands_is_checked():
    graph = traced(lambda x: x, "f32[]")
    with pytest.raises(ValueError, match="argument"):
        evaluate(graph)


def test_sizes_may_be_given():
    n = symbol("n")
    graph = traced(lambda: ops.full(1.0, F32, (n, 2)))
    (found,) = evaluate(graph, sizes={"n": 3})
    assert found.shape == (3, 2)
    with pytest.raises(ShapeError, match="the size n needs a value for n"):
        evaluate(graph)


def test_print_and_assert_run_in_order(capsys):
    def function(x):
        ops.print_op(x, text="first")
        ops.print_op(text="second")
        ops.assert_op(ops.lt(x, ops.full_like(3.0, x)), text="x is too large")
        ops.print_op(text="third")
        return x

    graph = traced(function, "f32[]")
    evaluate(graph, 2.0)
    assert capsys.readouterr().out == "first 2.0\nsecond\nthird\n"
    with pytest.raises(AssertionError, match="x is too large"):
        evaluate(graph, 4.0)
    assert capsys.readouterr().out == "first 4.0\nsecond\n"


def test_an_empty_condition_holds():
    graph = traced(lambda p: ops.assert_op(p, text="never") or (), "bool[0]")
    assert evaluate(graph, np.zeros(0, bool)) == []


@pytest.mark.parametrize("n", [0, 1, 5])
def test_loops_of_any_length(n):
    graph = GRAPHS["branches"]()
    last, rows = evaluate(graph, *arrays(graph, n=n))
    assert last.shape == (2,) and rows.shape == (n, 2)


def test_a_scan_is_a_loop():
    body = traced(lambda c, x: [c * x, c + x], "f64[]", "f64[]")
    graph = traced(lambda c, xs: ops.scan(body, [c], [xs], [], 3), "f64[]", "f64[3]")
    last, rows = evaluate(graph, 2.0, [3.0, 4.0, 5.0])
    assert last == 120 and rows.tolist() == [5.0, 10.0, 29.0]
    back = traced(lambda c, xs: ops.scan(body, [c], [xs], [], 3, True), "f64[]", "f64[3]")
    last, rows = evaluate(back, 2.0, [3.0, 4.0, 5.0])
    assert last == 120 and rows.tolist() == [43.0, 14.0, 7.0]


def test_the_branch_not_taken_does_not_run():
    """Only under a predicate of rank 0; under a mask both run."""
    then = traced(lambda x: ops.quo(ops.full_like(1, x), x), "i64[2]")
    other = traced(lambda x: x, "i64[2]")
    graph = traced(lambda p, x: ops.cond(p, then, other, x), "bool[]", "i64[2]")
    assert evaluate(graph, False, [0, 0])[0].tolist() == [0, 0]
    with pytest.raises(ZeroDivisionError):
        evaluate(graph, True, [0, 0])


def test_warnings_of_numpy_are_silent():
    graph = traced(lambda x: [ops.log(x), ops.div(x, x)], "f32[1]")
    low, bad = evaluate(graph, [0.0])
    assert low[0] == -np.inf and np.isnan(bad[0])


def test_a_result_that_is_a_parameter():
    graph = traced(lambda x: [x, x], "f32[2]")
    a, b = evaluate(graph, [1.0, 2.0])
    assert a.tolist() == b.tolist() == [1.0, 2.0]
