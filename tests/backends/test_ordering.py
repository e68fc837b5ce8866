"""sort and topk at every level, against the interpreter: orders of every kind, bit for bit."""

import numpy as np
import pytest

import graphc
from graphc.backends.llvm import ordering_text, topk_text
from graphc.backends.llvm.compile import compile_graph
from graphc.ir.build import trace
from graphc.ir.dtype import F16, I64
from graphc.ir.errors import ShapeError
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from tests.backends.test_compile_fuzz import LEVELS
from tests.backends.test_compile_ops import o

DTYPES = ["f32", "f64", "f16", "bf16", "i8", "u8", "i16", "i32", "i64", "bool"]


def numbers(kind, dtype, shape, axis, seed=0):
    """An array of a kind: "ties", "special", "up", "down", "equal", "wide"."""
    numpy = parse_type(f"{dtype}[]").dtype.numpy
    rng = np.random.default_rng(seed)
    if kind == "equal":
        return np.full(shape, 1).astype(numpy)
    if kind in ("up", "down"):
        x = np.sort(rng.integers(-120, 120, shape), axis)
        return (np.flip(x, axis) if kind == "down" else x).astype(numpy)
    if kind == "wide" and np.dtype(numpy).kind in "iu":
        return rng.integers(0, 256, (*shape, np.dtype(numpy).itemsize), "u1").view(numpy)[..., 0]
    if kind == "ties":
        return rng.integers(-4, 4, shape).astype(numpy)
    x = (rng.normal(size=shape) * 100).astype(numpy)
    if kind == "special" and dtype[0] in "fb" and dtype != "bool":
        special = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, 1.0]).astype(numpy)
        x = np.where(rng.random(shape) < 0.7, rng.choice(special, shape), x).astype(numpy)
    return x


def check(function, x, type_text, level, **options):
    graph = trace(function, parse_type(type_text))
    found = compile_graph(graph, target=level, **options)(x)
    for array, expected in zip(found, evaluate(graph, x), strict=True):
        assert array.shape == expected.shape and array.dtype == expected.dtype
        # Bits: zeros keep their signs, nans theirs.
        assert np.ascontiguousarray(array).tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["ties", "special", "up", "wide"])
def test_sort_of_short_and_long_rows(level, dtype, kind):
    for shape, axis in (((3, 300), 1), ((2, 47, 3), 1), ((131, 2), 0)):
        x = numbers(kind, dtype, shape, axis)
        text = f"{dtype}[{', '.join(map(str, shape))}]"
        for down in (False, True):
            check(lambda x: o.sort(x, axis=axis, descending=down), x, text, level)  # noqa: B023


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["ties", "special", "up", "down", "equal", "wide"])
def test_topk_with_few_and_many_kept(level, dtype, kind):
    many = topk_text.FEW + 12
    for shape, axis, k in (((3, 301), 1, 5), ((900, 2), 0, many), ((2, 17), 1, 17)):
        x = numbers(kind, dtype, shape, axis)
        text = f"{dtype}[{', '.join(map(str, shape))}]"
        for largest in (False, True):
            keep = {"axis": axis, "k": k, "largest": largest}
            check(lambda x: o.topk(x, **keep), x, text, level)  # noqa: B023


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n", [1, 2, 15, 16, 63, 64, 65, 127, 128, 129, 1000])
def test_topk_of_every_length(level, n):
    """What is left at the end of a row is looked at once: no element counts twice."""
    x = numbers("ties", "f32", (4, n), 1, seed=n)
    for k in {0, 1, n // 2, n - 1, n}:
        check(lambda x: o.topk(x, axis=1, k=k, largest=True), x, f"f32[4, {n}]", level)  # noqa: B023


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_no_rows_and_empty_rows(shape):
    x, text = np.zeros(shape, "f4"), f"f32[{shape[0]}, {shape[1]}]"
    check(lambda x: o.sort(x, axis=1), x, text, "host")
    check(lambda x: o.topk(x, axis=1, k=min(shape[1], 2)), x, text, "host")


@pytest.mark.parametrize("k", ["0", "5", "60", "t", "k"])
def test_symbolic_sizes(k):
    """One compile; k is a number, the whole row or a size of its own."""
    graph = trace(
        lambda x, y: [
            *o.sort(x, axis=0),
            *o.topk(x, axis=1, k=size(k, x, y), largest=False),
            *o.topk(x, axis=0, k=1),
        ],
        parse_type("f32[b, t]"),
        parse_type("f32[k]"),
    )
    compiled = compile_graph(graph)
    for rows, n, kept in ((3, 60, 0), (2, 700, 70), (70, 71, 1), (1, 999, 999)):
        given = numbers("ties", "f32", (rows, n), 1, seed=n), np.zeros(kept, "f4")
        for array, expected in zip(compiled(*given), evaluate(graph, *given), strict=True):
            np.testing.assert_array_equal(array, expected)


def size(word, x, y):
    return {"t": x.type.shape[1], "k": y.type.shape[0]}[word] if word in "tk" else int(word)


def test_wide_records_order_what_narrow_ones_do(monkeypatch):
    """Rows of 2**32 elements and more take records of 128 bits; here short rows do."""
    monkeypatch.setattr(ordering_text, "record_bits", lambda dtype, n: 128)
    for dtype in ("f32", "i8", "u8"):
        x = numbers("ties", dtype, (3, 700), 1)
        check(lambda x: o.sort(x, axis=1, descending=True), x, f"{dtype}[3, 700]", "host")
        check(lambda x: o.topk(x, axis=1, k=7), x, f"{dtype}[3, 700]", "host")
        check(lambda x: o.topk(x, axis=1, k=99), x, f"{dtype}[3, 700]", "host")
    monkeypatch.undo()
    assert [ordering_text.record_bits(F16, n) for n in (2**32 - 1, 2**32)] == [64, 128]
    assert ordering_text.record_bits(I64, 5) == 128


def test_a_k_beyond_the_row_is_refused():
    for k in (-1, 6):
        with pytest.raises(ShapeError, match=f"k is {k}, not within 0 to 5"):
            trace(lambda x: o.topk(x, axis=0, k=k), parse_type("f32[5]"))  # noqa: B023
    with pytest.raises(RuntimeError, match="selected index k out of range"):
        graphc.ones(5).topk(6)
