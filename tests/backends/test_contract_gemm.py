"""Matrix product kernels against float64 numpy, at every level of this machine."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from graphc.backends.llvm.contract import Epilogue, GemmProblem, GemmSchedule, gemm
from graphc.backends.llvm.contract.gemm_schedule import (
    AHEAD_BYTES,
    CACHE_WAYS,
    PACKED_BYTES,
    schedule_gemm,
)
from graphc.backends.llvm.target import TARGETS, get_target
from tests.backends.contract_runner import LEVELS, Compiled, guarded

NUMPY = {
    "f32": np.float32,
    "f64": np.float64,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "i64": np.int64,
    "i32": np.int32,
    "i8": np.int8,
}
every_level = pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)


def operands(problem: GemmProblem, sizes: tuple[int, int, int, int]) -> tuple[np.ndarray, ...]:
    """(a, b) as the kernel reads them, of a problem with those sizes."""
    m, n, k, batch = sizes
    random = np.random.default_rng(m * 10007 + n * 101 + k)
    dtype = NUMPY[problem.dtype]
    a_shape = (batch if problem.a_batched else 1, *_stored(m, k, problem.transpose_a))
    b_shape = (batch if problem.b_batched else 1, *_stored(k, n, problem.transpose_b))
    a, b = guarded(a_shape, dtype), guarded(b_shape, dtype)
    for array in (a, b):
        if problem.dtype.startswith("i"):
            array[:] = random.integers(-100, 100, array.shape)
        else:
            array[:] = random.standard_normal(array.shape).astype(dtype)
    return a, b


def _stored(rows: int, columns: int, transposed: bool) -> tuple[int, int]:
    return (columns, rows) if transposed else (rows, columns)


def expected(problem: GemmProblem, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the product, the sum of magnitudes) in float64 or wrapping integers."""
    wide = a.dtype if problem.dtype.startswith("i") else np.float64
    left, right = a.astype(wide), b.astype(wide)
    left = left.swapaxes(1, 2) if problem.transpose_a else left
    right = right.swapaxes(1, 2) if problem.transpose_b else right
    return left @ right, np.abs(left) @ np.abs(right)


def check(problem, target, sizes, *, kernel=None, chunk=None, schedule=None) -> np.ndarray:
    """Run the problem's kernel with those sizes (m, n, k, batch); the result."""
    compiled = kernel or Compiled(gemm(problem, target, schedule=schedule), target)
    a, b = operands(problem, sizes)
    m, n, k, batch = sizes
    out = guarded((batch, m, n), a.dtype)
    named = dict(m=m, n=n, k=k, batch=batch)
    compiled(a, b, out, sizes=[named[name] for name in problem.sizes], chunk=chunk)
    product, magnitude = expected(problem, a, b)
    if problem.dtype.startswith("i"):
        np.testing.assert_array_equal(out, product)
        return out
    sums = np.finfo(np.float64 if problem.dtype == "f64" else np.float32).eps
    rounding = {"f16": 2.0**-11, "bf16": 2.0**-8}.get(problem.dtype, 0.0)
    bound = magnitude * sums * (2 + k**0.5) + np.abs(product) * rounding + 1e-7 * (rounding > 0)
    assert (np.abs(out.astype(np.float64) - product) <= bound).all()
    return out


ODD = [(1, 1, 1), (1, 33, 7), (3, 5, 17), (15, 16, 31), (17, 31, 65), (33, 65, 15), (65, 17, 129)]
FORMS = list(itertools.product((False, True), repeat=2))


@every_level
@pytest.mark.parametrize("m, n, k", ODD)
def test_odd_sizes(target, m, n, k):
    for ta, tb in FORMS:
        check(GemmProblem(m, n, k, 1, "f32", ta, tb), target, (m, n, k, 1))


@every_level
@pytest.mark.parametrize("dtype", ["f64", "f16", "bf16", "i64", "i32", "i8"])
def test_dtypes(target, dtype):
    for ta, tb in FORMS:
        check(GemmProblem(19, 37, 21, 2, dtype, ta, tb), target, (19, 37, 21, 2))


@every_level
@pytest.mark.parametrize("transpose_a, transpose_b", FORMS)
def test_symbolic_sizes(target, transpose_a, transpose_b):
    problem = GemmProblem(None, None, None, None, "f32", transpose_a, transpose_b)
    kernel = Compiled(gemm(problem, target), target)
    for sizes in [(1, 1, 1, 1), (5, 70, 3, 2), (31, 33, 300, 1), (3, 20, 515, 2), (130, 65, 9, 1)]:
        check(problem, target, sizes, kernel=kernel)


@every_level
def test_a_half_with_symbolic_sizes_sums_in_f32(target):
    problem = GemmProblem(None, None, None, None, "bf16", False, True)
    kernel = Compiled(gemm(problem, target), target)
    for sizes in [(1, 7, 700, 1), (120, 40, 600, 2), (4, 1, 0, 1)]:
        check(problem, target, sizes, kernel=kernel)


@pytest.mark.parametrize("known", ["m", "n", "k"])
def test_one_symbolic_size_gives_the_bits_of_the_known_one(known):
    target = get_target()
    sizes = dict(m=30, n=50, k=600)
    for m, transpose_b in [(30, False), (30, True), (7, True)]:
        sizes["m"] = m
        problem = GemmProblem(**(sizes | {known: None}), transpose_b=transpose_b)
        symbolic = check(problem, target, (*sizes.values(), 1))
        fixed = check(GemmProblem(**sizes, transpose_b=transpose_b), target, (*sizes.values(), 1))
        np.testing.assert_array_equal(symbolic, fixed)


@pytest.mark.parametrize("sizes", [(0, 5, 3), (5, 0, 3), (5, 3, 0), (0, 0, 0)])
def test_nothing_to_sum_or_to_write(sizes):
    target = get_target()
    for ta, tb in FORMS:
        check(GemmProblem(*sizes, 2, "f32", ta, tb), target, (*sizes, 2))
        symbolic = GemmProblem(None, None, None, None, "f32", ta, tb)
        check(symbolic, target, (*sizes, 2))
        check(symbolic, target, (3, 4, 5, 0))


@every_level
def test_tall_wide_and_deep(target):
    for sizes in [(300, 3, 2), (2, 700, 9), (4, 5, 1500), (1, 1100, 130), (130, 600, 400)]:
        check(GemmProblem(*sizes), target, (*sizes, 1))
    for sizes in [(1, 37, 1030), (6, 21, 771), (24, 9, 400), (25, 9, 400)]:
        check(GemmProblem(*sizes, transpose_b=True), target, (*sizes, 1))


def test_one_matrix_for_a_whole_batch():
    target = get_target()
    for a_batched, b_batched in [(False, True), (True, False)]:
        for k in (11, 300):
            problem = GemmProblem(
                5, 40, k, 3, transpose_b=True, a_batched=a_batched, b_batched=b_batched
            )
            check(problem, target, (5, 40, k, 3))


@pytest.mark.parametrize("chunk", [1, 3])
def test_units_may_be_split_anywhere(chunk):
    target = get_target()
    for problem in [
        GemmProblem(260, 90, 300, 2),
        GemmProblem(3, 1500, 70),
        GemmProblem(7, 600, 300, transpose_b=True),
        GemmProblem(None, None, 300, None),
    ]:
        sizes = (problem.m or 260, problem.n or 90, problem.k, problem.batch or 2)
        whole = check(problem, target, sizes)
        np.testing.assert_array_equal(check(problem, target, sizes, chunk=chunk), whole)


def test_bits_do_not_depend_on_the_schedule_or_on_other_rows():
    target = get_target()
    problem = GemmProblem(50, 70, 300)
    usual = check(problem, target, (50, 70, 300, 1))
    for schedule in [
        GemmSchedule(5, 1, 37, 10, 48, pack_a=True, pack_b=True, columns_first=False),
        GemmSchedule(3, 2, 300, 50, 70, pack_a=False, pack_b=False, columns_first=True, ahead="ab"),
    ]:
        other = check(problem, target, (50, 70, 300, 1), schedule=schedule)
        np.testing.assert_array_equal(other, usual)
    a, b = operands(problem, (50, 70, 300, 1))
    row = guarded((1, 1, 70))
    Compiled(gemm(GemmProblem(1, 70, 300), target), target)(a[:, 9:10].copy(), b, row)
    np.testing.assert_array_equal(row[0, 0], usual[0, 9])


@every_level
@pytest.mark.parametrize("m", [50, None])
def test_strips_of_a_transposed_a(target, m):
    problem, sizes = GemmProblem(m, 40, 70, 2, transpose_a=True), (50, 40, 70, 2)
    usual = check(problem, target, sizes)
    blocks = {"pack_a": True, "pack_b": True, "columns_first": False}
    for rows, vectors, k_block, row_block, strip in [(6, 1, 32, 18, 12), (4, 2, 70, 64, 20)]:
        schedule = GemmSchedule(rows, vectors, k_block, row_block, 64, **blocks, strip=strip)
        other = check(problem, target, sizes, schedule=schedule)
        np.testing.assert_array_equal(other, usual)


def test_schedules_follow_the_caches():
    """All of k in one block where a panel of B fits the second cache, and copies where they pay."""

    def schedule(m, n, k, **more):
        return schedule_gemm(GemmProblem(m, n, k, **more), TARGETS["avx512"])

    whole = schedule(768, 768, 768)
    assert (whole.k_block, whole.pack_a, whole.pack_b) == (768, False, True)
    long = schedule(512, 512, 10_000)
    assert long.k_block < 10_000
    assert long.k_block * long.vectors * 64 <= PACKED_BYTES
    assert not schedule(256, 256, 256).pack_b
    assert not schedule(64, 1024, 1024).pack_b
    assert schedule(24, 4096, 1024).k_block == 16  # of rows that come from memory
    assert schedule(512, 32, 1024).rows <= CACHE_WAYS < schedule(512, 32, 640).rows
    assert not schedule(512, 512, 512, transpose_a=True).pack_a
    assert schedule(1024, 1024, 1024, transpose_a=True).pack_a
    assert schedule(1024, 1024, 1024, transpose_a=True).strip > 100
    assert schedule(50_000, 64, 64).vectors == 4
    shared = schedule(128, 3072, 768)  # a packed block and the next one, as it is stored
    assert shared.column_block * shared.k_block * 4 <= AHEAD_BYTES
    narrow = schedule_gemm(GemmProblem(512, 128, 2048, transpose_a=True), TARGETS["avx2"])
    assert narrow.k_block == 256 and not narrow.pack_a  # the lines of A stay for the next rows
    assert schedule(512, 128, 2048, transpose_a=True).k_block == 2048


def bias_and_relu(lanes: int):
    """max(value + bias[column], 0) on vectors of f32."""
    type_, flags = f"<{lanes} x float>", f"<{lanes} x i1>"

    def emit(emitter, value, position):
        address = emitter.address(position.arguments[0], position.column, "float")
        if position.mask is None:
            bias = emitter.load(type_, address, 4)
        else:
            masked = (("ptr align 4", address), (flags, position.mask), (type_, "zeroinitializer"))
            bias = emitter.call(type_, f"llvm.masked.load.v{lanes}f32.p0", *masked)
        total = emitter.value(f"fadd {type_} {value}, {bias}")
        negative = emitter.value(f"fcmp olt {type_} {total}, zeroinitializer")
        chosen = f"{type_} zeroinitializer, {type_} {total}"
        return emitter.value(f"select {flags} {negative}, {chosen}")

    return emit


@every_level
@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(
    "m, n, k, transpose_b",
    [
        (20, 37, 11, False),
        (20, 37, 600, False),
        (3, 37, 300, True),
        (None, 37, 300, True),
        (20, 37, 9000, True),
    ],
)
def test_epilogue(target, long, m, n, k, transpose_b):
    problem = GemmProblem(m, n, k, 2, transpose_b=transpose_b)
    epilogue = Epilogue(("bias",), bias_and_relu(target.lanes(32)), long)
    compiled = Compiled(gemm(problem, target, epilogue=epilogue), target)
    m = m or 17
    a, b = operands(problem, (m, n, k, 2))
    bias = np.linspace(-9, 9, n, dtype=np.float32)
    out = guarded((2, m, n))
    compiled(a, b, out, bias, sizes=[m] * len(problem.sizes))
    product, magnitude = expected(problem, a, b)
    assert (np.abs(out - np.maximum(product + bias, 0)) <= magnitude * 1e-6 + 1e-6).all()


def test_text_is_small_and_named_by_content():
    target = get_target()
    one, same = gemm(GemmProblem(512, 512, 512), target), gemm(GemmProblem(512, 512, 512), target)
    assert one == same
    assert len(one.text.splitlines()) < 800
    other = gemm(GemmProblem(256, 512, 512), target)
    assert other.name != one.name
    assert {name for name, _ in one.functions} & {name for name, _ in other.functions}


def test_unknown_dtype():
    with pytest.raises(ValueError, match="no products of bool"):
        gemm(GemmProblem(2, 2, 2, dtype="bool"), get_target())


@every_level
@pytest.mark.parametrize("panel", [16, 32, 48, 64])
@pytest.mark.parametrize("m, n, k", [(1, 1, 7), (5, 3, 40), (37, 2, 300), (64, 9, 513)])
def test_panels_have_the_bits_of_a_plain_matrix(target, panel, m, n, k):
    """B as [panels, k, panel], with n panels."""
    columns = n * panel
    plain = GemmProblem(m, columns, k)
    a, b = operands(plain, (m, columns, k, 1))
    panels = np.ascontiguousarray(b.reshape(k, n, panel).transpose(1, 0, 2))
    problem = GemmProblem(m, columns, k, panel=panel)
    out = guarded((1, m, columns), np.float32)
    Compiled(gemm(problem, target), target)(a, panels, out, sizes=[])
    wanted = guarded((1, m, columns), np.float32)
    transposed = np.ascontiguousarray(b.swapaxes(1, 2))
    chain = GemmProblem(m, columns, k, transpose_b=True)
    if m > 24:  # (few rows of a long k are sums across lanes)
        Compiled(gemm(chain, target), target)(a, transposed, wanted, sizes=[])
        assert out.tobytes() == wanted.tobytes()
    product, magnitude = expected(plain, a, b)
    bound = magnitude * np.finfo(np.float32).eps * (2 + k**0.5)
    assert (np.abs(out.astype(np.float64) - product) <= bound).all()
