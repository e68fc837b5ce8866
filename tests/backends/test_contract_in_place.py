"""Kernels that write a result over what their epilogue reads at the same places: each kind says
which results it may (`Kernel.over`), and gives the same bits there, however it is cut."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.backends.llvm.contract import (
    ConvProblem,
    Epilogue,
    GemmProblem,
    conv,
    conv_grad_input,
    conv_grad_input_last,
    conv_last,
    gemm,
    packing_for,
)
from graphc.backends.llvm.contract.depthwise_last import depthwise_last
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.contract.winograd import (
    WinogradProblem,
    conv_winograd,
    schedule_winograd,
)
from graphc.backends.llvm.target import get_target
from tests.backends.contract_runner import LEVELS, Compiled, guarded
from tests.backends.test_channels_last import packed, turned
from tests.backends.test_winograd import panels

NONE, ONE = ((0, 0), (0, 0)), ((1, 1), (1, 1))
square = ConvProblem.square


def residual(shape, target, *, long=False, own=True, extra=False, dtype="f32"):
    """result + r, r of the result's shape (batch, rows, columns); extra: result - r goes to s."""
    _, rows, columns = shape

    def emit(emitter, value, position):
        vector = Vector(emitter, element(dtype), target)
        line = emitter.add(emitter.mul(position.batch, rows), position.row)
        at = emitter.add(emitter.mul(line, columns), position.column)
        r = vector.load(vector.address(position.arguments[0], at), position.mask)
        if extra:
            less = emitter.value(f"fsub {vector.type} {value}, {r}")
            vector.store(less, vector.address(position.arguments[1], at), position.mask)
        return vector.add(value, r)

    written = ("s",) if extra else ()
    return Epilogue(("r", *written), emit, long, written, ("r",) if own else ())


def check(make, operands, shape, target, *, sizes=(), long=False, extra=False, dtype=np.float32):
    """The results over which r may lie. make: the kernel with an epilogue; shape: of the result."""
    batch, rows, columns = shape
    name = {np.float32: "f32", np.float64: "f64"}[dtype]
    options = {"long": long, "extra": extra, "dtype": name}
    kernel = make(residual(shape, target, **options))
    plain = make(residual(shape, target, own=False, **options))
    assert plain.over == ()

    def arrays():
        made = [guarded(shape, dtype) for _ in range(3 if extra else 2)]
        made[1][...] = np.random.default_rng(5).standard_normal(shape)
        return made

    apart = arrays()
    Compiled(plain, target)(*operands, *apart, sizes=sizes)
    apart.pop(1)
    assert not np.isnan(apart[0]).any()
    compiled, results = Compiled(kernel, target), {"out": 0, "s": 2}
    for result in kernel.over:
        for chunk in (None, 1):
            found = arrays()
            found[results[result]] = found[1]
            compiled(*operands, *found, sizes=sizes, chunk=chunk)
            if extra and result == "out":
                found = [found[1], found[2]]
            elif extra:
                found = [found[0], found[1]]
            for a, b in zip(found, apart):
                assert a.tobytes() == b.tobytes()
    return kernel.over


def numbers(shape, dtype=np.float32, seed=1):
    made = guarded(shape, dtype)
    made[...] = np.random.default_rng(seed).standard_normal(shape)
    return made


def check_gemm(problem, target, m=None, **options):
    m = problem.m or m
    batch = problem.batch or 1
    a = (problem.k, m) if problem.transpose_a else (m, problem.k)
    b = (problem.n, problem.k) if problem.transpose_b else (problem.k, problem.n)
    if problem.panel:
        b = (problem.n // problem.panel, problem.k, problem.panel)
    dtype = {"f32": np.float32, "f64": np.float64}[problem.dtype]
    operands = [numbers((batch, *shape), dtype, seed) for seed, shape in enumerate((a, b))]
    return check(
        lambda epilogue: gemm(problem, target, epilogue=epilogue),
        operands,
        (batch, m, problem.n),
        target,
        sizes=[m] * len(problem.sizes),
        dtype=dtype,
        **options,
    )


every_level = pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
GEMMS = {
    "all of k at once": (GemmProblem(45, 70, 33), True),
    "a batch of doubles": (GemmProblem(30, 37, 40, 2, "f64"), True),
    "one row": (GemmProblem(1, 70, 20), True),
    "transposed": (GemmProblem(45, 70, 33, 2, "f32", True, True), True),
    "panels": (GemmProblem(37, 96, 60, panel=32), True),
    "blocks of k": (GemmProblem(20, 70, 40000), False),
    "few rows, a long k": (GemmProblem(3, 70, 300, transpose_b=True), False),
    "few columns": (GemmProblem(300, 5, 20, transpose_a=True), None),
    "one column": (GemmProblem(90, 1, 20), None),
    "any number of rows": (GemmProblem(None, 70, 33), False),
}


@every_level
@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("name", GEMMS)
def test_products(name, long, target):
    """The first result where sums stay in registers; None: the target decides."""
    problem, over = GEMMS[name]
    found = check_gemm(problem, target, 29, long=long)
    if over is not None:
        assert found == (("out",) if over else ())


@every_level
@pytest.mark.parametrize("name", GEMMS)
def test_second_results_of_products(name, target):
    """They are stored by the epilogue alone, in every form."""
    problem, over = GEMMS[name]
    found = check_gemm(problem, target, 29, extra=True)
    if problem.m is None:
        assert found in ((), ("s",))
    elif over is not None:
        assert found == (("out", "s") if over else ("s",))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(1, 60), st.integers(1, 90), st.integers(1, 400), st.integers(1, 2),
    st.booleans(), st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
def test_products_of_any_size(m, n, k, batch, ta, tb, long, extra):
    check_gemm(GemmProblem(m, n, k, batch, "f32", ta, tb), get_target(), long=long, extra=extra)


def check_conv(p, target, *, last, transposed=False, symbolic=False, **options):
    dtype = {"f32": np.float32, "f64": np.float64}[p.dtype]
    channels, size = p.out_channels, p.out_size
    x = (p.batch, p.in_channels, *p.size)
    if transposed:
        x, channels, size = (p.batch, channels, *size), p.in_channels, p.size
    positions = math.prod(size)
    x = numbers(x, dtype)
    w = numbers((p.out_channels, p.in_channels // p.groups, *p.kernel), dtype, 2)
    given_ = replace(p, batch=None) if symbolic else p
    if last:
        width, order = packing_for(p, target, transposed=transposed)
        x, w = turned(x), packed(w, width, order, transposed)
        shape, build = (p.batch, positions, channels), conv_last
        if transposed:
            build = conv_grad_input_last
        make = lambda epilogue: build(given_, width, target, epilogue=epilogue)  # noqa: E731
    else:
        shape, build = (p.batch, channels, positions), conv_grad_input if transposed else conv
        make = lambda epilogue: build(given_, target, epilogue=epilogue)  # noqa: E731
    sizes = [p.batch] if symbolic else []
    return check(make, [x, w], shape, target, sizes=sizes, dtype=dtype, **options)


CONVS = {
    "one tap": square(2, 24, 40, 9, 1),
    "bands of rows": ConvProblem(1, 20, 40, (701, 1), (1, 1), (1, 1), NONE, (1, 1)),
    "panels": ConvProblem(1, 300, 300, (201, 1), (1, 1), (1, 1), NONE, (1, 1)),
    "seven wide": square(1, 16, 64, 7, 3, padding=1),
    "a long sum": square(2, 64, 50, 7, 3, padding=1),
    "strided": square(2, 12, 40, 12, 4, stride=2, padding=1),
    "doubles": square(2, 5, 21, 6, 3, padding=1, dtype="f64"),
    "volumes": ConvProblem(1, 4, 20, (3, 5, 6), (2, 3, 3), (1, 1, 1), ((0, 1), (1, 1), (1, 1)),
                           (1, 1, 1)),
}  # fmt: skip


@every_level
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "grad_input"])
@pytest.mark.parametrize("name", CONVS)
def test_channels_last(name, transposed, target):
    """In every tile, those too that begin before their place, and their positions twice."""
    for long, extra, symbolic in ((False, False, False), (True, False, True), (False, True, False)):
        found = check_conv(
            CONVS[name], target, last=True, transposed=transposed, long=long, extra=extra,
            symbolic=symbolic,
        )  # fmt: skip
        assert found == (("out", "s") if extra else ("out",))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(1, 40), st.integers(1, 70), st.integers(3, 30), st.integers(1, 30),
    st.sampled_from([1, 3]), st.integers(1, 2), st.booleans(), st.booleans(),
)  # fmt: skip
def test_channels_last_of_any_size(a, b, height, width, kernel, stride, transposed, long):
    width = max(width, kernel)
    pad = ((kernel // 2, kernel // 2),) * 2
    p = ConvProblem(1, a, b, (height, width), (kernel, kernel), (stride, stride), pad, (1, 1))
    found = check_conv(p, get_target(), last=True, transposed=transposed, long=long)
    assert found == ("out",)


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "grad_input"])
@pytest.mark.parametrize(
    "p, over",
    [
        (square(2, 20, 40, 9, 3, padding=1), ()),
        (square(2, 24, 24, 8, 3, padding=1, groups=24), ()),
        (square(2, 24, 48, 7, 3, padding=1, groups=2), ()),
        (square(2, 40, 24, 8, 1), ("out",)),  # a product of matrices
    ],
    ids=["direct", "depthwise", "groups", "pointwise"],
)
@every_level
def test_channels_first(p, over, transposed, target):
    """Sums come to lie in the output before the epilogue."""
    assert check_conv(p, target, last=False, transposed=transposed) == over
    found = check_conv(p, target, last=False, transposed=transposed, extra=True)
    assert found == (*over, "s")


@every_level
def test_depthwise_channels_last(target):
    for width, repeats in ((16, False), (7, False), (13, True)):
        p = ConvProblem(2, 20, 20, (5, width), (3, 3), (1, 1), ONE, (1, 1), 20)
        x, w = numbers((2, 5, width, 20)), numbers((3, 3, 20), seed=2)
        for extra in (False, True):
            found = check(
                lambda epilogue, p=p: depthwise_last(p, target, epilogue=epilogue),
                [x, w],
                (2, 5 * width, 20),
                target,
                extra=extra,
            )
            assert found == (() if repeats else ("out", "s") if extra else ("out",))


@every_level
@pytest.mark.parametrize(
    "p",
    [
        WinogradProblem(1, 16, 16, (8, 12), ONE),
        WinogradProblem(3, 32, 24, (7, 9), ONE),
        WinogradProblem(3, 128, 70, (30, 27), ONE),
    ],
    ids=["whole tiles", "parts of tiles", "several blocks and panels"],
)
def test_winograd(p, target):
    lanes = target.lanes(32)
    width = schedule_winograd(p, target, lanes).vectors * lanes
    x = numbers((p.batch, *p.size, p.channels))
    w = numbers((p.outputs, p.channels, 3, 3), seed=2)
    for extra in (False, True):
        found = check(
            lambda epilogue: conv_winograd(p, width, target, epilogue=epilogue),
            [x, panels(p, w, width)],
            (p.batch, math.prod(p.out_size), p.outputs),
            target,
            extra=extra,
        )
        assert found == (("out", "s") if extra else ("out",))
