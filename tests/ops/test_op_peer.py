"""Ops against torch on their samples, special values included; derivatives at ties and kinks."""

import math

import numpy as np
import pytest

from graphc.ir.interpret import evaluate
from graphc.passes.autodiff import vjp

from .op_cases import all_cases, cases_of, is_elementwise

torch = pytest.importorskip("torch")
F = torch.nn.functional

TORCH = {
    "neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "floor": torch.floor,
    "ceil": torch.ceil, "round": torch.round, "trunc": torch.trunc, "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt, "exp": torch.exp, "exp2": torch.exp2, "expm1": torch.expm1,
    "log": torch.log, "log2": torch.log2, "log1p": torch.log1p, "sin": torch.sin,
    "cos": torch.cos, "tan": torch.tan, "asin": torch.asin, "acos": torch.acos,
    "atan": torch.atan, "sinh": torch.sinh, "cosh": torch.cosh, "tanh": torch.tanh,
    "asinh": torch.asinh, "acosh": torch.acosh, "atanh": torch.atanh, "erf": torch.erf,
    "erfc": torch.erfc, "erfinv": torch.erfinv, "lgamma": torch.lgamma,
    "digamma": torch.digamma, "isnan": torch.isnan, "not": torch.bitwise_not,
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
    "quo": lambda x, y: torch.div(x, y, rounding_mode="trunc"), "rem": torch.fmod,
    "pow": torch.pow, "max": torch.maximum, "min": torch.minimum, "atan2": torch.atan2,
    "nextafter": torch.nextafter, "and": torch.bitwise_and, "or": torch.bitwise_or,
    "xor": torch.bitwise_xor, "eq": torch.eq, "lt": torch.lt, "le": torch.le,
    "complex": torch.complex, "select": torch.where, "real": torch.real, "imag": torch.imag,
    "relu": torch.relu, "sigmoid": torch.sigmoid, "log_sigmoid": F.logsigmoid, "silu": F.silu,
    "softplus": F.softplus, "gelu": F.gelu,
}  # fmt: skip
# torch refuses negative exponents of integers, and the smallest integer over -1 ends the process.
ONLY_FLOATS = ("pow",)
ONLY_PLAIN = ("quo", "rem")
CASES = [
    c
    for c in all_cases()
    if is_elementwise(c.op)
    and c.op.name in TORCH
    and c.types[-1].dtype.name not in ("f16", "bf16")
    and (c.op.name not in ONLY_FLOATS or c.types[-1].dtype.kind == "f")
]


def as_torch(array):
    return torch.from_numpy(np.array(array))


def assert_near(found, expected, kind, name):
    if expected.dtype.kind in "iub":
        np.testing.assert_array_equal(found, expected)
        return
    unit = {"f32": 2e-6, "c64": 4e-6}.get(kind, 2e-14)
    if name in ("lgamma", "digamma", "erfinv"):
        unit *= 20
    np.testing.assert_allclose(found, expected, rtol=unit, atol=unit)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_values(case):
    kind = case.types[-1].dtype
    plain = kind.kind == "c" or (kind.kind in "iu" and case.op.name in ONLY_PLAIN)
    used = case.only_plain() if plain else case
    (found,) = evaluate(used.graph, *used.arrays)
    expected = TORCH[case.op.name](*map(as_torch, used.arrays), **case.attrs).resolve_conj().numpy()
    assert found.dtype == expected.dtype
    assert_near(found, expected, kind.name, case.op.name)
    if case.op.name in ("max", "min", "nextafter", "relu"):
        return  # the sign of a zero: torch's depends on the order of operands
    if expected.dtype.kind == "f":
        zero = (expected == 0) & (found == 0)
        np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(expected[zero]))


SMOOTH = [
    c for c in CASES
    if c.types[-1].dtype.name == "f64" and not c.op.no_derivative and c.op.name != "complex"
]  # fmt: skip


@pytest.mark.parametrize("case", SMOOTH, ids=repr)
def test_derivatives_with_special_values(case):
    """Also at ties, kinks, zeros and infinities."""
    graph = vjp(case.graph)
    ct = np.ones(case.arrays[-1].shape)
    found = evaluate(graph, *case.arrays, ct)[-sum(a.dtype.kind == "f" for a in case.arrays) :]
    given = [as_torch(a).requires_grad_(a.dtype.kind == "f") for a in case.arrays]
    TORCH[case.op.name](*given, **case.attrs).sum().backward()
    expected = [g.grad.numpy() for g in given if g.requires_grad]
    for a, b in zip(found, expected, strict=True):
        assert_near(a, b, "f64", case.op.name)


def attention(given, scale, causal, dropout):
    """torch's, and the logarithms of the sums, which it keeps for itself; with factors of the
    weights, which it draws itself, of its softmax."""
    q, k, v, *mask = given
    factors = mask.pop() if dropout else None
    scores = sum(mask, q @ k.transpose(-1, -2) * scale)
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
    if dropout:
        return (scores.softmax(-1) * factors) @ v, scores.logsumexp(-1)
    out = F.scaled_dot_product_attention(*given, scale=scale, is_causal=causal)
    return out, scores.logsumexp(-1)


def by_channel(mean, var, weight, bias, x, eps):
    """torch's own has no derivative with respect to the statistics."""
    mean, var, weight, bias = [
        a.reshape(-1, *[1] * (x.ndim - 2)) for a in (mean, var, weight, bias)
    ]
    return (x - mean) / torch.sqrt(var + eps) * weight + bias


STRUCTURAL = {
    "softmax": lambda x, axis: torch.softmax(x, axis),
    "log_softmax": lambda x, axis: torch.log_softmax(x, axis),
    "layer_norm": lambda x, w, b, eps: F.layer_norm(x, w.shape, w, b, eps),
    "batch_norm": lambda x, *mvwb, eps: by_channel(*mvwb, x=x, eps=eps),
    "norm2": lambda x, axes: torch.linalg.vector_norm(x, dim=axes),
    "max_first": lambda x, axis: torch.max(x, axis).values,
    "min_first": lambda x, axis: torch.min(x, axis).values,
    "attention": lambda *given, scale, causal=False, dropout=False: attention(
        given, scale, causal, dropout
    ),
    "reduce_sum": lambda x, axes: x.sum(axes),
    "reduce_prod": lambda x, axes: x.prod(axes[0]),
    "reduce_max": lambda x, axes: torch.amax(x, axes),
    "reduce_min": lambda x, axes: torch.amin(x, axes),
    "topk": lambda x, axis, k, largest=True: torch.sort(
        x, dim=axis, descending=largest, stable=True
    ).values.narrow(axis, 0, k),
    "sort": lambda x, axis, descending=False: torch.sort(
        x, dim=axis, descending=descending, stable=True
    ).values,
    "conv": lambda x, w, stride, padding, dilation, groups=1: {3: F.conv1d, 4: F.conv2d}[x.ndim](
        F.pad(x, [n for pair in reversed(padding) for n in pair]),
        w, None, stride, 0, dilation, groups,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "case",
    [c for name in STRUCTURAL for c in cases_of(name) if c.types[0].dtype.kind == "f"],
    ids=repr,
)
@pytest.mark.parametrize("ties", [False, True], ids=["plain", "ties"])
def test_structural_values_and_derivatives(case, ties):
    """With ties every number is one of -1, 0 and 1."""
    wide = case.in_float64()
    arrays = [np.sign(np.round(a)) if ties else a for a in wide.arrays]
    if case.op.name == "batch_norm":
        arrays[2] = np.abs(arrays[2]) + 0.5
    if ties and case.op.name == "norm2":
        arrays = [a * 0 for a in arrays]
    random = np.random.default_rng(0)
    floats = [result.type for result in wide.graph.results if result.type.dtype.kind == "f"]
    cts = [random.normal(size=kind.shape) for kind in floats]
    found = evaluate(vjp(wide.graph), *arrays, *cts)
    given = [as_torch(a).requires_grad_() for a in arrays]
    outs = STRUCTURAL[case.op.name](*given, **case.attrs)
    outs = outs if isinstance(outs, tuple) else (outs,)
    for place, (out, ct) in enumerate(zip(outs, cts, strict=True)):
        out.backward(as_torch(ct), retain_graph=True)
        np.testing.assert_allclose(found[place], out.detach().numpy(), rtol=1e-12, atol=1e-13)
    grads = found[len(wide.graph.results) :]
    for a, g in zip(grads, given, strict=True):
        np.testing.assert_allclose(a, g.grad.numpy(), rtol=1e-11, atol=1e-12)
