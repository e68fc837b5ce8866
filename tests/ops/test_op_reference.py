"""Each op's evaluation against its meaning written down a second time (references.py)."""

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.dtype import DTYPES
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS

from .op_cases import all_cases, block, cases_of, is_elementwise, wide_array
from .references import COMPLEX, FLOAT, INTEGER, STRUCTURAL

# In units of the last place of the result's type.
ULPS = {"f32": 3, "f64": 8, "f16": 1, "bf16": 1}
# Where the formula of an expansion cancels, or a function's zero is not a float.
RELATIVE_TO_ONE = {
    "lgamma",
    "digamma",
    "tan",
    "log_sigmoid",
    "softplus",
    "gelu",
    "log2",
    "cos",
    "tanhshrink",
    "sin",
}


def tables_of(kind):
    return {"f": FLOAT, "c": COMPLEX, "i": INTEGER, "u": INTEGER, "b": INTEGER}[kind]


POINTWISE = [c for c in all_cases() if is_elementwise(c.op) and c.op.name not in ("cast", "gelu")]


@pytest.mark.parametrize("case", POINTWISE, ids=repr)
def test_pointwise_against_the_reference(case):
    dtype = case.types[-1].dtype
    reference = tables_of(dtype.kind)[case.op.name]
    arrays = case.arrays if dtype.kind in "iub" else case.plain_arrays()
    plain = case if dtype.kind in "iub" else case.only_plain()
    (found,) = evaluate(plain.graph, *arrays)
    if case.op.name == "nextafter":
        step = np.abs(arrays[0] - found)
        assert np.all(step == np.abs(np.spacing(np.minimum(np.abs(arrays[0]), np.abs(found)))))
        return
    expected = reference(*(arrays if dtype.kind in "iub" else map(wide_array, arrays)))
    if found.dtype.kind in "iub":
        np.testing.assert_array_equal(found, np.asarray(expected).astype(found.dtype))
        return
    expected = np.asarray(expected).astype(np.complex128 if found.dtype.kind == "c" else np.float64)
    name = dtype.to_real().name
    unit = np.spacing(dtype.to_real().numpy.type(1)).astype(float)
    floor = 1.0 if case.op.name in RELATIVE_TO_ONE or dtype.kind == "c" else 0.0
    bound = ULPS[name] * unit * np.maximum(np.abs(expected), floor)
    assert np.all(np.abs(found - expected) <= bound)


@pytest.mark.parametrize("case", cases_of("gelu"), ids=repr)
def test_gelu(case):
    from scipy.special import erf

    (x,) = case.plain_arrays()
    wide = x.astype(np.float64)
    gate = (
        erf(wide * 0.5**0.5)
        if case.attrs["approximate"] == "none"
        else np.tanh((2 / np.pi) ** 0.5 * (wide + 0.044715 * wide**3))
    )
    (found,) = evaluate(case.only_plain().graph, x)
    unit = float(np.finfo(x.dtype).eps)
    np.testing.assert_allclose(found, 0.5 * wide * (1 + gate), atol=8 * unit, rtol=8 * unit)


@pytest.mark.parametrize("case", cases_of("cast"), ids=repr)
def test_casts_of_what_fits_change_nothing_but_the_rounding(case):
    (x,) = case.plain_arrays()
    (found,) = evaluate(case.only_plain().graph, x)
    to = case.attrs["dtype"]
    if to.kind == "b":
        expected = [bool(v) for v in x]
    elif to.kind in "iu":
        size = 1 << to.bits
        low = 0 if to.kind == "u" else -size // 2
        expected = [(int(v) - low) % size + low for v in x]
    else:
        real = x.real if to.kind == "f" and x.dtype.kind == "c" else x
        expected = real.astype(np.complex128 if to.kind == "c" else np.float64).astype(to.numpy)
    np.testing.assert_array_equal(found, expected)


def test_floats_that_do_not_fit_become_the_smallest_integer():
    wide = np.array([np.inf, -np.inf, np.nan, 3e9, -3e9, 1e19], np.float64)
    to_i64, to_i32 = [
        evaluate(block(lambda x, t=t: ops.cast(x, dtype=DTYPES[t]), "f64[6]"), wide)[0]
        for t in ("i64", "i32")
    ]
    low = np.iinfo(np.int64).min
    assert to_i64.tolist() == [low, low, low, 3_000_000_000, -3_000_000_000, low]
    assert to_i32.tolist() == [-(2**31)] * 6


@pytest.mark.parametrize("case", [c for c in all_cases() if not is_elementwise(c.op)], ids=repr)
def test_structural_against_the_reference(case):
    reference = STRUCTURAL[case.op.name]
    found = evaluate(case.graph, *case.arrays)
    expected = reference(*map(wide_array, case.arrays), **case.op.attrs_of(case.attrs))
    expected = expected if isinstance(expected, tuple) else (expected,)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == np.shape(b)
        if a.dtype.kind in "iub" or case.op.name in (
            "reshape",
            "permute",
            "gather",
            "full",
            "const",
        ):
            np.testing.assert_array_equal(a, b)
        else:
            unit = float(np.finfo(a.dtype).eps)
            # Winograd's sums cancel: its errors are those of its largest terms.
            terms = np.abs(b).max() if case.op.name == "conv_winograd" else 1.0
            np.testing.assert_allclose(a, b, rtol=16 * unit, atol=16 * unit * terms)


def test_every_op_has_a_reference():
    known = {*FLOAT, *COMPLEX, *INTEGER, *STRUCTURAL, "cast", "gelu"}
    sampled = {name for name in OPS if cases_of(name)}
    assert sampled <= known, sampled - known
