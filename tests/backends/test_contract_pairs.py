"""Products of bf16 by the processor's own instructions: pairs of AVX-512, tiles of AMX."""

import itertools
import os
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import graphc as torch
from graphc.backends.llvm import pool
from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.contract import GemmProblem, GemmSchedule, gemm
from graphc.backends.llvm.contract.gemm_schedule import schedule_gemm
from graphc.backends.llvm.jit import compile_text
from graphc.backends.llvm.layouts import choose_layouts
from graphc.backends.llvm.objectfile import undefined_symbols
from graphc.backends.llvm.target import TARGETS, host_target
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.types import parse_type
from graphc.passes.hoist import hoist
from tests.backends.contract_runner import LEVELS, Compiled, guarded
from tests.backends.test_contract_gemm import FORMS, check, expected, operands

PAIRED = [target for target in LEVELS if target.has_bf16]
if not PAIRED:
    pytest.skip("this processor multiplies no bf16", allow_module_level=True)
every_level = pytest.mark.parametrize("target", PAIRED, ids=lambda target: target.name)
SIZES = [
    (1, 1, 1), (1, 33, 7), (3, 5, 2), (15, 16, 31), (17, 31, 65), (33, 65, 15), (65, 17, 129),
    (32, 32, 32), (64, 48, 96), (40, 70, 64), (16, 64, 256), (31, 1, 33), (130, 130, 70),
    # few rows or columns of a long k, and those just beyond
    (1, 40, 64), (4, 21, 75), (5, 90, 70), (16, 40, 257), (24, 33, 513), (25, 33, 512), (70, 1, 64),
    (300, 3, 90), (90, 24, 600), (60, 100, 1000),
]  # fmt: skip


@every_level
@pytest.mark.parametrize("m, n, k", SIZES)
def test_sizes(target, m, n, k):
    for ta, tb in FORMS:
        check(GemmProblem(m, n, k, 1, "bf16", ta, tb), target, (m, n, k, 1))


@every_level
def test_batches_and_one_matrix_for_all(target):
    for (a, b), (ta, tb) in itertools.product([(True, True), (True, False), (False, True)], FORMS):
        for m, n, k in [(19, 37, 21), (40, 16, 64), (3, 20, 130), (20, 1, 65)]:
            check(GemmProblem(m, n, k, 3, "bf16", ta, tb, a, b), target, (m, n, k, 3))


@every_level
@pytest.mark.parametrize("transpose_a, transpose_b", FORMS)
def test_symbolic_sizes_give_the_bits_of_known_ones(target, transpose_a, transpose_b):
    form = ("bf16", transpose_a, transpose_b)
    for known in [(), (0,), (1,), (2,), (0, 1), (0, 2)]:
        compiled = None
        for sizes in [
            (1, 7, 70, 1), (120, 40, 600, 2), (37, 65, 31, 1), (48, 16, 64, 1), (16, 40, 257, 1),
            (30, 1, 80, 2),
        ]:  # fmt: skip
            key = [size if at in known else None for at, size in enumerate(sizes)]
            problem = GemmProblem(*key, *form)
            if known or compiled is None:
                compiled = Compiled(gemm(problem, target), target)
            fixed = check(GemmProblem(*sizes, *form), target, sizes)
            found = check(problem, target, sizes, kernel=compiled)
            assert found.tobytes() == fixed.tobytes()


@every_level
def test_a_k_of_several_blocks(target):
    """Sums wait in memory as f32."""
    for ta, tb in FORMS:
        for k in (4098, 5001):
            known = GemmProblem(35, 40, k, 1, "bf16", ta, tb)
            schedule = replace(schedule_gemm(known, target), k_block=1024)
            blocked = check(known, target, (35, 40, k, 1), schedule=schedule)
            assert blocked.tobytes() == check(known, target, (35, 40, k, 1)).tobytes()
            symbolic = check(replace(known, k=None), target, (35, 40, k, 1))
            assert blocked.tobytes() == symbolic.tobytes()


@every_level
@pytest.mark.parametrize("panel", [16, 32, 48, 64])
@pytest.mark.parametrize("m, n, k", [(1, 1, 32), (5, 3, 64), (37, 2, 288), (64, 5, 96)])
def test_panels_have_the_bits_of_a_plain_matrix(target, panel, m, n, k):
    """B as [panels, k / 2, panel, 2], with n panels."""
    plain = GemmProblem(m, n * panel, k, 1, "bf16")
    a, b = operands(plain, (m, n * panel, k, 1))
    wanted = check(plain, target, (m, n * panel, k, 1))
    panels = guarded((n, k // 2, panel, 2), ml_dtypes.bfloat16)
    panels[:] = b.reshape(k // 2, 2, n, panel).transpose(2, 0, 3, 1)
    for rows in (m, None):
        out = guarded(wanted.shape, ml_dtypes.bfloat16)
        kernel = Compiled(gemm(replace(plain, m=rows, panel=panel), target), target)
        kernel(a, panels, out, sizes=[m] if rows is None else [])
        assert out.tobytes() == wanted.tobytes()


@every_level
@pytest.mark.parametrize("sizes", [(0, 5, 3), (5, 0, 3), (5, 3, 0), (0, 0, 0)])
def test_nothing_to_sum_or_to_write(target, sizes):
    for ta, tb in FORMS:
        check(GemmProblem(*sizes, 2, "bf16", ta, tb), target, (*sizes, 2))
        symbolic = GemmProblem(None, None, None, None, "bf16", ta, tb)
        check(symbolic, target, (*sizes, 2))
        check(symbolic, target, (3, 4, 5, 0))


@every_level
@pytest.mark.parametrize("chunk", [1, 3])
def test_units_may_be_split_anywhere(target, chunk):
    for problem in [
        GemmProblem(260, 90, 300, 2, "bf16"),
        GemmProblem(3, 1500, 70, 1, "bf16"),
        GemmProblem(7, 600, 301, 1, "bf16", transpose_b=True),
        GemmProblem(None, None, 300, None, "bf16", transpose_a=True),
    ]:
        sizes = (problem.m or 260, problem.n or 90, problem.k, problem.batch or 2)
        whole = check(problem, target, sizes)
        assert check(problem, target, sizes, chunk=chunk).tobytes() == whole.tobytes()


@every_level
def test_bits_do_not_depend_on_the_schedule_or_on_other_rows(target):
    problem = GemmProblem(50, 70, 300, 1, "bf16")
    usual = check(problem, target, (50, 70, 300, 1))
    for schedule in [
        GemmSchedule(5, 1, 48, 10, 48, pack_a=True, pack_b=True, columns_first=False),
        GemmSchedule(3, 2, 160, 50, 70, pack_a=True, pack_b=True, columns_first=False),
    ]:
        other = check(problem, target, (50, 70, 300, 1), schedule=schedule)
        assert other.tobytes() == usual.tobytes()
    a, b = operands(problem, (50, 70, 300, 1))
    row = guarded((1, 1, 70), ml_dtypes.bfloat16)
    Compiled(gemm(GemmProblem(1, 70, 300, 1, "bf16"), target), target)(a[:, 9:10].copy(), b, row)
    assert row[0, 0].tobytes() == usual[0, 9].tobytes()


@every_level
@pytest.mark.parametrize("k", [6, 7, 33])
def test_nan_and_infinity_stay_in_their_row_and_column(target, k):
    """No zero that fills up a pair, and no column that fills up a vector, meets another's."""
    problem = GemmProblem(37, 21, k, 1, "bf16")
    kernel = Compiled(gemm(problem, target), target)
    a, b = operands(problem, (37, 21, k, 1))
    a[0, 3, k - 1], a[0, 36, 0], b[0, k - 1, 20] = np.nan, np.inf, -np.inf
    out = guarded((1, 37, 21), ml_dtypes.bfloat16)
    kernel(a, b, out)
    with np.errstate(invalid="ignore"):
        product = expected(problem, a, b)[0]
    found = out.astype(np.float64)
    assert np.isnan(found[0, 3]).all() and np.isnan(found).sum() == np.isnan(product).sum()
    special = ~np.isfinite(product)
    np.testing.assert_array_equal(found[special], product[special])
    assert np.isfinite(found[~special]).all()


@every_level
def test_denormals_are_zero(target):
    problem = GemmProblem(2, 3, 4, 1, "bf16")
    a, b = operands(problem, (2, 3, 4, 1))
    a[:], b[:] = 1e-39, 1e30
    out = guarded((1, 2, 3), ml_dtypes.bfloat16)
    Compiled(gemm(problem, target), target)(a, b, out)
    assert (out == 0).all()


def test_values_are_rounded_to_even():
    """At each distance from the middle of two bf16, against the f32 of the same sum."""
    target = PAIRED[0]
    problem = GemmProblem(1, 512, 3, 1, "bf16")
    a, b = operands(problem, (1, 512, 3, 1))
    a[:] = 1
    b[0, 0], b[0, 1], b[0, 2] = 1.0, np.arange(512) * 2.0**-10, 2.0**-9
    out = guarded((1, 1, 512), ml_dtypes.bfloat16)
    Compiled(gemm(problem, target), target)(a, b, out)
    wanted = b.astype(np.float32).sum(1).astype(ml_dtypes.bfloat16)
    assert out[0].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("name, instruction", [("avx512bf16", "dpbf16ps"), ("amx", "tdpbf16ps")])
@pytest.mark.parametrize("transpose_a, transpose_b", FORMS)
def test_the_instruction_is_used(name, instruction, transpose_a, transpose_b):
    """On any machine that can print code for it; nothing outside is called."""
    for sizes in [(100, 50, 300), (None, None, None), (5, 50, 31)]:
        problem = GemmProblem(*sizes, None, "bf16", transpose_a, transpose_b)
        text = gemm(problem, TARGETS[name]).module
        assert f".{instruction}" in text
        assert undefined_symbols(compile_text(text, TARGETS[name])) == frozenset()


def step(x, w, v):
    """A product, one of transposes and one of a batch, and all gradients."""
    x, w, v = (t.detach().requires_grad_() for t in (x, w, v))
    y = torch.tanh(x @ w) @ v.t()
    z = (y.reshape(2, -1, y.shape[1]) @ y.reshape(2, -1, y.shape[1]).transpose(1, 2)).float()
    (z.sum() * 0.01).backward()
    return [y.detach(), z.detach(), x.grad, w.grad, v.grad]


def test_eager_compiled_and_threads_have_the_same_bits(three_threads):
    torch.manual_seed(3)
    given = [torch.randn(*s).bfloat16() for s in [(130, 71), (71, 90), (65, 90)]]
    found = []
    for threads in (1, 3):
        pool.set_num_threads(threads)
        for run in (step, torch.compile(step)):
            for _ in range(3):
                results = run(*given)
                found.append([t.float().numpy().tobytes() for t in results])
    assert all(bits == found[0] for bits in found)
    wide = step(*[t.float() for t in given])
    for value, exact in zip(results, wide, strict=True):
        np.testing.assert_allclose(
            value.float().numpy(), exact.numpy(), rtol=0.1, atol=0.02 * float(exact.abs().max())
        )


def layers(x, w, v):
    """Products by a matrix that runs along k and by one that does not."""
    return ops.dot(ops.dot(x, w, contract=((2,), (1,))), ops.exp(v), contract=((2,), (0,)))


@every_level
def test_kept_weights_are_packed_ahead_and_the_bits_stay(target):
    types = ("bf16[4, 20, 64]", "bf16[96, 64]", "bf16[96, 160]")
    graph = trace(layers, *[parse_type(text) for text in types])
    laid = choose_layouts(graph, (1, 2), verify="numeric", target=target)
    assert [node.op.name for node in laid.nodes].count("dot_pairs") == 2
    halves = hoist(laid, (1, 2))
    assert "permute" not in [node.op.name for node in halves.late.nodes]
    random = np.random.default_rng(4)
    x, *weights = [random.normal(0, 0.3, p.type.shape).astype("f4") for p in graph.params]
    x, *weights = [array.astype(ml_dtypes.bfloat16) for array in (x, *weights)]
    packed = compile_graph(halves.early, target=target)(*weights)
    kept = [weights[place] for place in halves.weights]
    (found,) = compile_graph(halves.late, target=target)(x, *kept, *packed)
    (wanted,) = compile_graph(graph, target=target)(x, *weights)
    assert found.tobytes() == wanted.tobytes()


@every_level
@pytest.mark.parametrize(
    "types",
    [
        ("bf16[40, 63]", "bf16[32, 63]"),  # k is no pairs
        ("bf16[40, 64]", "bf16[40, 64]"),  # no whole panels
        ("bf16[1, 64]", "bf16[32, 64]"),  # a sum across lanes
        ("bf16[n, 64]", "bf16[32, 64]"),
        ("f16[40, 64]", "f16[32, 64]"),
    ],
)
def test_other_weights_stay_as_they_are(target, types):
    product = lambda x, w: ops.dot(x, w, contract=((1,), (1,)))  # noqa: E731
    laid = choose_layouts(trace(product, *map(parse_type, types)), (1,), target=target)
    assert [node.op.name for node in laid.nodes] == ["dot"]


def test_a_layer_that_is_evaluated_often_keeps_its_bits():
    torch.manual_seed(1)
    layer = torch.nn.Linear(64, 96).bfloat16()
    x = torch.randn(40, 64).bfloat16()
    with torch.no_grad():
        found = {layer(x).float().numpy().tobytes() for _ in range(8)}
        traced = torch.jit.trace(layer, x)
        found |= {traced(x).float().numpy().tobytes() for _ in range(3)}
    assert len(found) == 1


def test_a_forked_child_has_the_instructions_too():
    a = torch.randn(100, 64).bfloat16()
    wanted = (a @ a.t()).float().numpy().tobytes()
    child = os.fork()
    if child == 0:
        b = torch.randn(90, 70).bfloat16()
        finite = bool((b @ b.t()).float().isfinite().all().item())
        os._exit(0 if finite and (a @ a.t()).float().numpy().tobytes() == wanted else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_host_has_the_levels_that_run_here():
    assert host_target().has_amx == ("amx" in [target.name for target in PAIRED])
