"""Derivatives of every op: reverse against finite differences, forward against reverse, second
order against finite differences of the first, expansion against evaluation."""

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import Builder, trace
from graphc.ir.dtype import DTYPES
from graphc.ir.errors import UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS
from graphc.ir.types import TensorType
from graphc.ir.verify import verify
from graphc.passes.autodiff import grad, jvp
from graphc.passes.expand import expand_composites

from .op_cases import CONTROL, all_cases, cases_of, control_arrays, is_elementwise

F64 = DTYPES["f64"]


def total(x):
    return ops.reduce_sum(x, axes=tuple(range(len(x.type.shape))))


def scalar_of(graph):
    """A graph with one f64 result: the sum of real results times constants."""
    with Builder() as b:
        params = [b.param(real_type(p.type)) for p in graph.params]
        arguments = []
        for param, p in zip(graph.params, params, strict=True):
            arguments.append(ops.complex_(p, ops.sin(p)) if is_complex(param) else p)
        parts = []
        for i, value in enumerate(b.replay(graph, arguments)):
            for part in real_parts(value):
                parts.append(total(ops.mul(part, weighted(part, i))))
        out = parts[0]
        for part in parts[1:]:
            out = ops.add(out, part)
        return b.graph([out])


def weighted(part, seed):
    """Weights that differ from element to element, for static and symbolic shapes."""
    line = ops.full_like(1.0, part)
    for axis in range(len(part.type.shape)):
        places = ops.cast(ops.iota(part.type.shape, axis, DTYPES["i64"]), dtype=F64)
        line = ops.add(line, ops.sin(ops.mul(places, ops.full_like(1.7 + seed + axis, places))))
    return line


def is_complex(value):
    return value.type.dtype.kind == "c"


def real_type(type):
    return TensorType(type.dtype.to_real(), type.shape)


def real_parts(value):
    value = value if value.type.device == "cpu" else ops.copy_to(value, device="cpu")
    if value.type.dtype.kind == "c":
        return [ops.real(value), ops.imag(value)]
    return [value] if value.type.dtype.kind == "f" else []


def differentiable(case):
    """One case per op and kind of number, in float64, without special values."""
    return any(t.dtype.kind in "fc" for t in case.types) and any(
        v.type.dtype.kind in "fc" for v in case.graph.results
    )


def wide_cases():
    found = {}
    for case in all_cases():
        if not differentiable(case):
            continue
        kinds = "".join(t.dtype.kind for t in case.types)
        extra = repr(case.attrs) if not is_elementwise(case.op) else case.attrs.get("approximate")
        if case.op.name == "cast":
            kinds += case.attrs["dtype"].kind
        found.setdefault((case.op.name, kinds, extra), case.only_plain().in_float64())
    return list(found.values())


CASES = [c for c in wide_cases() if not c.op.no_derivative and not c.op.surrogate]
WITHOUT = [
    c for c in wide_cases() if c.op.no_derivative and all(t.dtype.kind != "c" for t in c.types)
]
# Which extreme or order a step changes is decided by gaps of this many steps.
STEP = 1e-6


def arrays_of(graph, case):
    """The case's arrays; a complex operand is made from its real part."""
    return [a.real if a.dtype.kind == "c" else a for a in case.arrays]


def directions_of(graph, seed=3):
    rng = np.random.default_rng(seed)
    return [
        rng.normal(size=[d if isinstance(d, int) else 7 for d in p.type.shape])
        if p.type.dtype.kind == "f" else None
        for p in graph.params
    ]  # fmt: skip


def moved(arrays, directions, step):
    return [a if d is None else a + step * d for a, d in zip(arrays, directions, strict=True)]


def slope(graph, arrays, directions, step=STEP):
    ahead = evaluate(graph, *moved(arrays, directions, step))
    behind = evaluate(graph, *moved(arrays, directions, -step))
    return [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]


def along(grads, directions):
    given = [d for d in directions if d is not None]
    return sum(float((g * d).sum()) for g, d in zip(grads, given, strict=True))


def check_first_order(graph, arrays):
    derivative = grad(graph)
    verify(derivative)
    directions = directions_of(graph)
    found = along(evaluate(derivative, *arrays), directions)
    (expected,) = slope(graph, arrays, directions)
    assert found == pytest.approx(float(expected), rel=1e-6, abs=1e-6)
    forward = jvp(graph)
    verify(forward)
    value, tangent = evaluate(forward, *arrays, *[d for d in directions if d is not None])
    assert value == evaluate(graph, *arrays)[0]
    assert float(tangent) == pytest.approx(found, rel=1e-10, abs=1e-10)


def check_second_order(graph, arrays):
    """vjp of vjp, and jvp of vjp, against the first order's differences."""
    gradient = grad(graph)
    with Builder(gradient.params) as b:
        out = None
        for i, g in enumerate(b.replay(gradient, gradient.params)):
            part = total(ops.mul(g, weighted(g, i)))
            out = part if out is None else ops.add(out, part)
        scalar = b.graph([out])
    second = grad(scalar)
    verify(second)
    others = directions_of(graph, 5)
    found = along(evaluate(second, *arrays), others)
    (expected,) = slope(scalar, arrays, others, 1e-5)
    assert found == pytest.approx(float(expected), rel=2e-5, abs=2e-5)
    pushed = jvp(scalar)
    _, tangent = evaluate(pushed, *arrays, *[d for d in others if d is not None])
    assert float(tangent) == pytest.approx(found, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_first_order(case):
    graph = scalar_of(case.graph)
    check_first_order(graph, arrays_of(graph, case))


@pytest.mark.parametrize("case", [c for c in CASES if c.op.name not in ("lgamma",)], ids=repr)
def test_second_order(case):
    graph = scalar_of(case.graph)
    check_second_order(graph, arrays_of(graph, case))


def test_the_second_derivative_of_lgamma_says_why_there_is_none():
    (case,) = [c for c in CASES if c.op.name == "lgamma"]
    gradient = grad(scalar_of(case.graph))
    with pytest.raises(UnsupportedError, match="the op digamma has no derivative: polygamma"):
        jvp(gradient)


@pytest.mark.parametrize("name", CONTROL)
def test_control_flow(name):
    graph = CONTROL[name]("f64")
    scalar = scalar_of(graph)
    arrays = control_arrays(scalar)
    check_first_order(scalar, arrays)
    check_second_order(scalar, arrays)


@pytest.mark.parametrize("case", WITHOUT, ids=repr)
def test_an_op_without_derivative_gives_zero_or_the_reason(case):
    """Flat ops: zero, which is also what the differences say. Others: an error, never a zero."""
    with Builder() as b:
        params = [b.param(t) for t in case.types]
        made = case.op(*params, **case.attrs)
        plain = total(params[0] if params[0].type.dtype.kind == "f" else params[1])
        graph = b.graph([ops.add(total(made), plain)])
    if not case.op.flat:
        for derive in (grad, jvp):
            with pytest.raises(UnsupportedError, match=rf"the op {case.op.name} has no derivative"):
                derive(graph)
        return
    (found,) = evaluate(grad(graph), *case.arrays)
    assert np.all(found == 1.0)
    tangent = evaluate(jvp(graph), *case.arrays, np.ones_like(case.arrays[0]))[1]
    assert tangent == case.arrays[0].size
    if case.op.name != "detach":
        (expected,) = slope(graph, case.arrays, [np.ones_like(case.arrays[0])])
        assert float(expected) == pytest.approx(case.arrays[0].size, rel=1e-6)


def test_a_graft_has_the_value_of_one_and_the_derivative_of_the_other():
    def function(x, y):
        return total(ops.graft(ops.sin(x), ops.mul(y, y)))

    types = [TensorType(F64, (5,))] * 2
    x, y = np.linspace(-2.0, 2.0, 5), np.linspace(1.0, 3.0, 5)
    graph = trace(function, *types)
    assert evaluate(graph, x, y)[0] == np.sin(x).sum()
    by_x, by_y = evaluate(grad(graph), x, y)
    np.testing.assert_array_equal(by_x, np.zeros(5))
    np.testing.assert_array_equal(by_y, 2 * y)
    _, tangent = evaluate(jvp(graph), x, y, np.ones(5), np.ones(5))
    assert tangent == (2 * y).sum()


@pytest.mark.parametrize("mode", ["add", "set", "mul", "max", "min"])
def test_every_mode_of_scatter(mode):
    case = cases_of("scatter")[0].in_float64()
    x, _, updates = case.arrays
    index = np.array([3, 0, 4, 1] if mode == "set" else [3, 0, 3, 1])
    graph = scalar_of(trace(lambda x, i, u: ops.scatter(x, i, u, axis=0, mode=mode), *case.types))
    check_first_order(graph, [x, index, updates])


COMPOSITES = [c for c in all_cases() if c.op.composite]


@pytest.mark.parametrize("case", COMPOSITES, ids=repr)
def test_the_expansion_means_what_the_composite_does(case):
    expanded = expand_composites(case.graph)
    verify(expanded)
    assert not any(node.op.composite for node in expanded.nodes)
    for a, b in zip(
        evaluate(expanded, *case.arrays), evaluate(case.graph, *case.arrays), strict=True
    ):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("case", [c for c in CASES if c.op.composite], ids=repr)
def test_a_composites_own_derivative_is_that_of_its_expansion(case):
    graph = scalar_of(case.graph)
    arrays = arrays_of(graph, case)
    own = evaluate(grad(graph), *arrays)
    expanded = evaluate(grad(expand_composites(graph)), *arrays)
    for a, b in zip(own, expanded, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_every_differentiable_op_is_tested():
    tested = {c.op.name for c in CASES + WITHOUT} | {name.split()[0] for name in CONTROL}
    tested |= {name for name, op in OPS.items() if op.surrogate}  # they have tests of their own
    floats = {
        name
        for name, op in OPS.items()
        if any(set("fc") & set(kinds.letters) for _, kinds in op.operands) and cases_of(name)
    }
    assert floats - tested == {
        name for name in floats if not any(differentiable(c) for c in cases_of(name))
    }
