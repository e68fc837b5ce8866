"""Symbolic dims: the laws of polynomials, exact division, order with facts, text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.ir.dims import (
    Dim,
    Facts,
    at_least_zero,
    compare,
    divide_exact,
    evaluate_dim,
    is_static,
    parse_dim,
    product,
    substitute,
    symbol,
)
from graphc.ir.errors import FormatError, GraphcError, ShapeError

NAMES = ("a", "b", "n")
quick = settings(max_examples=150, deadline=None, derandomize=True)
monomials = st.lists(st.sampled_from(NAMES), max_size=3)
coefficients = st.integers(-6, 6)
sizes = st.fixed_dictionaries({name: st.integers(0, 9) for name in NAMES})


@st.composite
def dims(draw):
    total = draw(coefficients)
    for names in draw(st.lists(monomials, max_size=4)):
        total = total + draw(coefficients) * product(map(symbol, names))
    return total


@quick
@given(dims(), dims(), dims(), sizes)
def test_arithmetic_is_that_of_the_values(a, b, c, env):
    x, y = evaluate_dim(a, env), evaluate_dim(b, env)
    assert evaluate_dim(a + b, env) == x + y
    assert evaluate_dim(a - b, env) == x - y
    assert evaluate_dim(a * b, env) == x * y
    assert evaluate_dim(3 - a, env) == 3 - x
    assert evaluate_dim(-a, env) == -x
    assert a + b == b + a and a * b == b * a
    assert (a + b) + c == a + (b + c) and (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a - a == 0 and a * 0 == 0 and a * 1 == a and a + 0 == a


@quick
@given(dims(), dims())
def test_equal_dims_have_equal_texts_and_hashes(a, b):
    assert (a == b) == (str(a) == str(b))
    if a == b:
        assert hash(a) == hash(b)
    assert parse_dim(str(a)) == a


@quick
@given(dims(), dims())
def test_a_polynomial_without_symbols_is_an_int(a, b):
    for d in (a - a, a + b - b - a + 7, a * 0):
        assert d.__class__ is int
    assert is_static([a]) == isinstance(a, int)


@quick
@given(dims(), dims(), sizes)
def test_division_is_exact_or_refused(a, b, env):
    quotient = divide_exact(a, b)
    if quotient is not None:
        assert quotient * b == a
    if b != 0:
        assert divide_exact(a * b, b) == a
        if not (isinstance(a, int) and isinstance(b, int)):
            assert (a * b) // b == a and (a * b) % b == 0
    elif isinstance(b, int):
        assert divide_exact(a, 0) is None


@quick
@given(dims(), sizes, sizes)
def test_substitution_is_evaluation_in_steps(a, env, lows):
    half = substitute(a, {"a": env["a"]})
    assert evaluate_dim(half, env) == evaluate_dim(a, env)
    assert substitute(a, {"a": symbol("b")}) == substitute(substitute(a, {"a": symbol("b")}), {})


@quick
@given(dims(), dims(), sizes, sizes)
def test_order_never_guesses(a, b, env, lows):
    """What is proved holds for every size that the facts admit."""
    facts = {name: Facts(lows[name], lows[name] + 3) for name in NAMES}
    inside = {name: lows[name] + env[name] % 4 for name in NAMES}
    answer = compare(a, b, facts)
    if answer is not None:
        assert answer == (evaluate_dim(a, inside) <= evaluate_dim(b, inside))


@quick
@given(dims(), sizes)
def test_order_without_facts_is_that_of_all_sizes(a, env):
    answer = at_least_zero(a, {})
    if answer is not None:
        assert answer == (evaluate_dim(a, env) >= 0)


def test_order_has_three_answers():
    n, m = symbol("n"), symbol("m")
    assert at_least_zero(n, {}) is True
    assert at_least_zero(-n - 1, {}) is False
    assert at_least_zero(n - m, {}) is None
    assert compare(n, 8, {"n": Facts(0, 8)}) is True
    assert compare(n, 8, {"n": Facts(9)}) is False
    assert compare(n, 8, {}) is None
    assert compare(3 * n, n * n, {"n": Facts(3)}) is True


def test_a_dim_has_no_truth_and_no_inexact_quotient():
    n = symbol("n")
    with pytest.raises(ShapeError, match="the size n is symbolic"):
        bool(n)
    for divide in (lambda: n // 2, lambda: n % 2, lambda: (n + 1) // n):
        with pytest.raises(ShapeError, match="is not known to be a multiple of"):
            divide()
    with pytest.raises(ShapeError, match="the size 6 is not known to be a multiple of n"):
        6 // n
    assert 0 // n == 0
    with pytest.raises(ShapeError, match=r"the size n \+ 1 needs a value for n"):
        evaluate_dim(n + 1, {})


def test_texts():
    n, m = symbol("n"), symbol("m")
    assert str(2 * n * m - n + 7) == "2*m*n - n + 7"
    assert str(-n) == "-n" and str(1 - n) == "-n + 1"
    assert repr(n * n) == "n*n"
    assert (2 * n * m).symbols == ("m", "n")
    assert parse_dim(" 2 * n*3 - - n ") == 7 * n
    assert parse_dim("-3") == -3 and parse_dim("n - n") == 0


@pytest.mark.parametrize(
    "text", ["", "n +", "* n", "n n", "2 ** n", "(n)", "n/2", "n +* 2", "1.5", "é", "n;m", "+"]
)
def test_malformed_texts_are_refused(text):
    with pytest.raises(FormatError, match="cannot read the dim"):
        parse_dim(text)


@pytest.mark.parametrize("name", ["", "2n", "a b", "n-m", "é!"])
def test_names_that_are_no_names_are_refused(name):
    with pytest.raises(GraphcError, match="is no name for a dim"):
        symbol(name)


def test_dims_differ_from_ints_and_are_equal_by_value():
    assert symbol("n") == symbol("n") and symbol("n") != symbol("m")
    assert symbol("n") != 3 and isinstance(symbol("n"), Dim)
    assert len({symbol("n") + 1, 1 + symbol("n")}) == 1
