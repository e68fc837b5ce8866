"""The two forms of a matrix product: few rows, few columns, one column; which form is taken."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from graphc.backends.llvm.contract import Epilogue, GemmProblem, GemmSchedule, gemm
from graphc.backends.llvm.contract.dot_form import dot_tile
from graphc.backends.llvm.contract.gemm_form import DOT_PACKED, may_serve
from graphc.backends.llvm.target import TARGETS, get_target
from tests.backends.contract_runner import LEVELS, Compiled, guarded
from tests.backends.test_contract_gemm import FORMS, bias_and_relu, check, expected, operands

every_level = pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
SKINNY = [
    (1, 1, 1), (1, 1, 1000), (70, 1, 31), (515, 1, 33), (131, 5, 257), (7, 90, 37), (257, 9, 300),
    (401, 17, 300), (24, 300, 260), (1100, 19, 70),
]  # fmt: skip


@every_level
@pytest.mark.parametrize("m, n, k", SKINNY)
def test_few_rows_or_columns(target, m, n, k):
    for ta, tb in FORMS:
        check(GemmProblem(m, n, k, 1, "f32", ta, tb), target, (m, n, k, 1))


@every_level
@pytest.mark.parametrize("m, n", [(1, 401), (5, 203), (19, 210), (210, 19)])
def test_rows_of_what_no_cache_holds_are_fetched_ahead(target, m, n):
    large, small = (GemmProblem(m, n, k, 1, "f32", False, True) for k in (700, 300))
    assert "llvm.prefetch" in "".join(gemm(large, target).declares)
    assert "llvm.prefetch" not in "".join(gemm(small, target).declares)
    check(large, target, (m, n, 700, 1))


@every_level
@pytest.mark.parametrize("dtype", ["f64", "f16", "i32"])
def test_dtypes(target, dtype):
    for m, n, k in [(150, 3, 90), (40, 1, 75), (5, 60, 45)]:
        for ta, tb in FORMS:
            check(GemmProblem(m, n, k, 2, dtype, ta, tb), target, (m, n, k, 2))


def test_one_matrix_for_a_whole_batch():
    target = get_target()
    for (a, b), (ta, tb) in itertools.product([(True, False), (False, True)], FORMS):
        for m, n, k in [(50, 1, 70), (200, 5, 300), (9, 1, 5)]:
            check(GemmProblem(m, n, k, 3, "f32", ta, tb, a, b), target, (m, n, k, 3))


@pytest.mark.parametrize("transpose_a, transpose_b", FORMS)
def test_symbolic_sizes_give_the_bits_of_known_ones(transpose_a, transpose_b):
    """One size symbolic, or all: on both sides of each bound of the forms."""
    form = ("f32", transpose_a, transpose_b)
    for sizes in [(1, 1, 1000), (70, 1, 40), (131, 5, 257), (401, 17, 300), (4, 40, 31)]:
        compare(sizes, form)
    if not transpose_a:
        for sizes in [(24, 24, 255), (25, 25, 256), (4, 40, 32), (9, 4, 45), (8, 40, 64)]:
            compare(sizes, form)


def compare(sizes: tuple[int, int, int], form: tuple) -> None:
    whole = (*sizes, 2)
    usual = check(GemmProblem(*whole, *form), get_target(), whole)
    for unknown in [(0, 1, 2, 3), (0,), (1,), (2,)]:
        key = (*(None if at in unknown else size for at, size in enumerate(whole)), *form)
        found = check(GemmProblem(*key), get_target(), whole, kernel=compiled(key))
        np.testing.assert_array_equal(found, usual)


def compiled(key: tuple) -> Compiled:
    if key not in _compiled:
        _compiled[key] = Compiled(gemm(GemmProblem(*key), get_target()), get_target())
    return _compiled[key]


_compiled: dict[tuple, Compiled] = {}


def test_a_narrow_operand_is_transposed_up_to_a_bound():
    target = get_target()
    symbolic = Compiled(gemm(GemmProblem(None, None, None, None), target), target)
    # One column is read where it is.
    check(GemmProblem(None, None, None, None), target, (3, 1, 150_000, 1), kernel=symbolic)
    for k, dot in [(DOT_PACKED // 7, True), (DOT_PACKED // 7 + 1, False)]:
        problem, sizes = GemmProblem(300, 7, k), (300, 7, k, 1)
        assert may_serve(problem, target) is dot
        fixed = check(problem, target, sizes)
        unknown = check(GemmProblem(None, None, None, None), target, sizes, kernel=symbolic)
        np.testing.assert_array_equal(fixed, unknown)


def test_bits_do_not_depend_on_which_operand_is_which():
    target = get_target()
    for m, n, k in [(5, 210, 300), (22, 400, 700), (1, 90, 45)]:
        a, b = operands(GemmProblem(m, n, k, transpose_b=True), (m, n, k, 1))
        few_rows, few_columns, narrow = (guarded(s) for s in ((m, n), (n, m), (n, m)))
        Compiled(gemm(GemmProblem(m, n, k, transpose_b=True), target), target)(a, b, few_rows)
        Compiled(gemm(GemmProblem(n, m, k, transpose_b=True), target), target)(b, a, few_columns)
        np.testing.assert_array_equal(few_rows, few_columns.T)
        turned = np.ascontiguousarray(a[0].T)
        Compiled(gemm(GemmProblem(n, m, k), target), target)(b, turned, narrow)
        np.testing.assert_array_equal(few_columns, narrow)


@pytest.mark.parametrize("chunk", [1, 3])
def test_units_may_be_split_anywhere(chunk):
    target = get_target()
    for problem in [
        GemmProblem(700, 5, 90, 2),
        GemmProblem(2000, 1, 90, 2),
        GemmProblem(2000, 1, 90, 2, transpose_a=True),
        GemmProblem(500, 6, 300, transpose_b=True),
        GemmProblem(3000, 6, 90, 2, transpose_a=True),
        GemmProblem(None, 5, 90, 2),
    ]:
        sizes = (problem.m or 700, problem.n, problem.k, problem.batch)
        whole = check(problem, target, sizes)
        np.testing.assert_array_equal(check(problem, target, sizes, chunk=chunk), whole)


def test_bits_of_a_streamed_operand():
    """A B in place that is larger than the caches."""
    target = get_target()
    problem, sizes = GemmProblem(3, 2100, 1030), (3, 2100, 1030, 1)
    usual = check(problem, target, sizes)
    plain = GemmSchedule(3, 1, 1030, 3, 320, pack_a=False, pack_b=False, columns_first=True)
    np.testing.assert_array_equal(check(problem, target, sizes, schedule=plain), usual)


@every_level
@pytest.mark.parametrize("m, n, k", [(90, 1, 300), (90, 1, 20), (300, 5, 300), (None, 1, 50)])
def test_epilogue(target, m, n, k):
    for ta, tb in FORMS:
        problem = GemmProblem(m, n, k, 2, "f32", ta, tb)
        rows = m or 45
        epilogue = Epilogue(("bias",), bias_and_relu(target.lanes(32)))
        kernel = Compiled(gemm(problem, target, epilogue=epilogue), target)
        a, b = operands(problem, (rows, n, k, 2))
        bias, out = np.linspace(-9, 9, n, dtype=np.float32), guarded((2, rows, n))
        kernel(a, b, out, bias, sizes=[rows] * len(problem.sizes))
        product, magnitude = expected(problem, a, b)
        assert (np.abs(out - np.maximum(product + bias, 0)) <= magnitude * 1e-6 + 1e-6).all()


def test_which_form():
    target = TARGETS["avx512"]

    def form(m, n, k, ta=False, tb=False, dtype="f32"):
        return may_serve(GemmProblem(m, n, k, 1, dtype, ta, tb), target)

    assert form(2048, 1, 2048) and form(2048, 1, 2048, tb=True) and form(1, 1, 32)
    assert not form(2048, 1, 31) and not form(2048, 1, 2048, ta=True)
    assert form(4, 2048, 32, tb=True) and form(2048, 4, 32, tb=True)
    assert form(8, 2048, 64, tb=True) and not form(8, 2048, 63, tb=True)
    assert not form(9, 2048, 255, tb=True) and form(9, 2048, 256, tb=True)
    assert not form(25, 25, 512, tb=True) and not form(1, 64, 64)
    # No lane is wasted by 16 columns; too few rows would use what was transposed.
    assert form(1024, 8, 1024) and not form(1024, 16, 1024) and not form(20, 8, 1024)
    assert not form(1024, 8, 1024, dtype="i32") and not form(1024, 8, 1024, dtype="bf16")
    assert form(None, 1, 64) is True and form(None, 8, 64) is None and form(None, 64, 64) is False


def test_a_tile_fits_the_registers():
    for target in TARGETS.values():
        for few, many in itertools.product([None, *range(1, 25)], [None, 1, 16, 1000]):
            height, width = dot_tile(target, few, many)
            assert height * width + width < target.registers
    assert dot_tile(TARGETS["avx512"], 16, 16) == (4, 4)
    assert dot_tile(TARGETS["avx512"], 1, 1) == (1, 1)


def test_equal_problems_of_one_column_share_their_text():
    target = get_target()
    problem = GemmProblem(64, 1, 128)
    row = GemmProblem(1, 64, 128, transpose_b=True)
    names = [name for name, _ in gemm(problem, target).functions[:-1]]
    assert names == [name for name, _ in gemm(row, target).functions[:-1]]
    assert gemm(replace(problem, transpose_b=True), target) == gemm(problem, target)
