"""Compiled code against evaluation, for every op, dtype and level of instructions.

Movement, integers, comparisons and what IEEE 754 rounds correctly give the same bits (any nan
equals any nan); the rest lies within some units of the last place of a float64 evaluation.
"""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.settings import settings
from graphc.backends.llvm.target import TARGETS, runs_here
from graphc.ir.build import Builder
from graphc.ir.errors import BoundsError, DivisionError
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS
from tests.backends import emulated

from .op_cases import CONTROL, cases_of, control_arrays, is_elementwise

LEVELS = [
    *[name for name, target in TARGETS.items() if runs_here(target)],
    *emulated.LEVELS,
]
# Errors of pointwise functions, in units of the last place of the type (float64's evaluation has
# an error of its own).
ULPS = {
    "rsqrt": 2, "exp": 2, "exp2": 2, "expm1": 2, "log": 2, "log2": 2, "log1p": 2, "sin": 2,
    "cos": 2, "tan": 3, "asin": 3, "acos": 3, "atan": 2, "sinh": 3, "cosh": 2, "tanh": 2,
    "asinh": 3, "acosh": 3, "atanh": 3, "erf": 2, "erfc": 4, "erfinv": 4, "lgamma": 4,
    "digamma": 4, "pow": 2, "atan2": 3,
}  # fmt: skip
CANCELS = {"lgamma", "digamma"}  # near their zeros the error is that of a number near 1
# Sums and expansions: relative to the largest element.
SUMS = {
    "reduce_sum", "reduce_prod", "cumulative", "dot", "conv", "conv_grad_input", "conv_grad_weight",
    "scatter",
}  # fmt: skip


# Complex cases are compared in tests/backends/test_compile_ops.py.
COMPLEX_ONLY = {"complex", "real", "imag"}


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    before = settings.cache_dir
    settings.cache_dir = tmp_path_factory.mktemp("objects")
    yield
    settings.cache_dir = before


@pytest.fixture
def compiled(tmp_path):
    """Compiles a graph for a level: in this process, or as a program for an emulator."""

    def compiled(graph, level):
        if runs_here(TARGETS[level]):
            return compile_graph(graph, target=level)
        return emulated.Emulated(graph, tmp_path)

    return compiled


def compilable(name):
    return [
        case
        for case in cases_of(name)
        if not any(v.type.dtype.kind == "c" for v in (*case.graph.params, *case.graph.results))
    ]


def joined(cases):
    """One graph of all cases, so that one compile serves them."""
    with Builder() as builder:
        results = []
        for case in cases:
            params = [builder.param(t) for t in case.types]
            results += builder.replay(case.graph, params)
        return builder.graph(results)


def assert_same_bits(found, expected, what):
    assert found.dtype == expected.dtype and found.shape == expected.shape, what
    if expected.dtype.kind in "iub":
        np.testing.assert_array_equal(found, expected, err_msg=what)
        return
    a, b = found.astype(np.float64), expected.astype(np.float64)
    different = ~((a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b))
    assert not different.any(), f"{what}: {a[different][:4]} instead of {b[different][:4]}"


def assert_within(found, truth, bound, what):
    """|found - truth| <= bound where both are finite; else the same infinity, or both nan."""
    wide = found.astype(np.float64)
    same = (wide == truth) | (np.isnan(wide) & np.isnan(truth))
    with np.errstate(all="ignore"):
        close = same | (np.abs(wide - truth) <= bound)
    assert close.all(), f"{what}: {wide[~close][:4]} instead of {truth[~close][:4]}"


def unit(array):
    return np.float64(np.spacing(array.dtype.type(1)))


def compare(case, found):
    expected = evaluate(case.graph, *case.arrays)
    name = case.op.name
    for number, (array, want) in enumerate(zip(found, expected, strict=True)):
        if want.dtype.kind in "iub" or not (name in ULPS or name in SUMS or case.op.composite):
            assert_same_bits(array, want, case.name)
            continue
        assert array.dtype == want.dtype and array.shape == want.shape
        wide = case.in_float64()
        truth = evaluate(wide.graph, *wide.arrays)[number]
        with np.errstate(all="ignore"):
            rounded = truth.astype(want.dtype)  # also to infinity
            if name in ULPS:
                spacing = np.abs(np.spacing(rounded)).astype(np.float64)
                if name in CANCELS:
                    spacing = np.maximum(spacing, unit(want))
                bound = (ULPS[name] + 1) * spacing
            else:
                finite = np.abs(truth[np.isfinite(truth)])
                bound = 16 * unit(want) * max(1.0, finite.max(initial=0))
        assert_within(array, rounded.astype(np.float64), bound, case.name)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", [n for n in OPS if cases_of(n) and n not in COMPLEX_ONLY])
def test_compiled_code_gives_what_the_op_means(name, level, compiled):
    cases = compilable(name)
    executable = compiled(joined(cases), level)
    found = executable(*[a for case in cases for a in case.arrays])
    for case in cases:
        count = len(case.graph.results)
        compare(case, found[:count])
        found = found[count:]
    assert not found


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CONTROL)
def test_control_flow(name, level, compiled):
    for kind in ("f32", "f64"):
        graph = CONTROL[name](kind)
        executable = compiled(graph, level)
        for seed in (0, 5):
            arrays = control_arrays(graph, seed)
            for a, b in zip(executable(*arrays), evaluate(graph, *arrays), strict=True):
                assert_same_bits(a, b, name)


@pytest.mark.parametrize(
    "name", [n for n in OPS if is_elementwise(OPS[n]) and n not in COMPLEX_ONLY]
)
def test_scalars_and_nothing(name):
    """The same op on one element and on none."""
    case = next(iter(compilable(name))).only_plain()
    one = [a[:1].reshape(()) for a in case.arrays]
    none = [a[:0] for a in case.arrays]
    shapes = [type(case)(case.name, case.op, tuple(t.with_shape(a.shape) for t, a in
              zip(case.types, arrays, strict=True)), case.attrs, tuple(arrays))
              for arrays in (one, none)]  # fmt: skip
    found = compile_graph(joined(shapes))(*one, *none)
    for made, array in zip(shapes, found, strict=True):
        compare(made, [array])


def test_errors_of_values_are_raised_before_anything_is_written():
    gather, quo = cases_of("gather")[0], cases_of("quo")[0]
    x, index = gather.arrays
    with pytest.raises(BoundsError, match="with size 5 in gather"):
        compile_graph(gather.graph)(x, np.full_like(index, 5))
    with pytest.raises(DivisionError, match="ZeroDivisionError"):
        compile_graph(quo.graph)(quo.arrays[0], np.zeros_like(quo.arrays[1]))
