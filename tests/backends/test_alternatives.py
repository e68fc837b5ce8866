"""All schedules that autotuning may choose give the bits of the default, at every level."""

from dataclasses import replace

import numpy as np
import pytest

from graphc.backends.llvm.contract import (
    ConvProblem,
    GemmProblem,
    conv,
    conv_grad_input,
    conv_grad_input_last,
    conv_grad_weight,
    conv_last,
    gemm,
    pack_weights,
    packing_for,
)
from graphc.backends.llvm.contract.alternatives import (
    MOST,
    conv_schedules,
    gemm_schedules,
    weight_grad_schedules,
    winograd_schedules,
)
from graphc.backends.llvm.contract.conv import (
    schedules_of,
    schedules_of_grad_weight,
    schedules_of_last,
)
from graphc.backends.llvm.contract.conv_problem import forward
from graphc.backends.llvm.contract.conv_schedule import schedule_conv
from graphc.backends.llvm.contract.gemm_schedule import schedule_gemm
from graphc.backends.llvm.contract.winograd import WinogradProblem, conv_winograd, schedule_winograd
from graphc.backends.llvm.target import get_target
from tests.backends.contract_runner import LEVELS, Compiled, aligned

every_level = pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
square = ConvProblem.square

GEMMS = {
    "odd": GemmProblem(61, 83, 77),  # nearly square
    "long k": GemmProblem(24, 70, 1100),
    "tall": GemmProblem(700, 40, 33),
    "skinny": GemmProblem(6, 600, 300),
    "few rows": GemmProblem(3, 400, 200),
    "one row": GemmProblem(1, 300, 500),
    "a column": GemmProblem(300, 1, 200, transpose_a=True),
    "few columns of a transposed A": GemmProblem(200, 6, 128, transpose_a=True),
    "batched": GemmProblem(20, 33, 40, 5),
    "A transposed": GemmProblem(50, 70, 90, transpose_a=True),
    "B transposed": GemmProblem(50, 70, 90, transpose_b=True),
    "in panels": GemmProblem(50, 192, 90, panel=48),
    "f64": GemmProblem(40, 50, 300, dtype="f64"),
    "symbolic rows": GemmProblem(None, 70, 90),
    "all symbolic": GemmProblem(None, None, None, None),
}
SYMBOLIC = {"m": 45, "n": 52, "k": 300, "batch": 2}


def random(shape, dtype=np.float32, seed=0):
    made = aligned(shape, dtype)
    made[:] = np.random.default_rng(seed).standard_normal(made.shape)
    return made


def ran(kernel, target, operands, out_shape, sizes=()):
    """The bits of the output, which is all of nan before: in one call, and cut as threads may."""
    compiled, found = Compiled(kernel, target), set()
    for chunk in (None, 1):
        out = aligned(out_shape, operands[0].dtype)
        compiled(*operands, out, sizes=sizes, chunk=chunk)
        found.add(out.tobytes())
    return found


@every_level
@pytest.mark.parametrize("name", GEMMS)
def test_products(name, target):
    problem = GEMMS[name]
    m, n, k, batch = [getattr(problem, d) or SYMBOLIC[d] for d in ("m", "n", "k", "batch")]
    sizes = [SYMBOLIC[d] for d in problem.sizes]
    dtype = np.float64 if problem.dtype == "f64" else np.float32
    a = random((batch if problem.a_batched else 1, m * k), dtype)
    b = random((batch if problem.b_batched else 1, k * n), dtype, seed=1)
    schedules = gemm_schedules(problem, target)
    assert schedules[0] == schedule_gemm(problem, target) and len(schedules) <= MOST
    found = set()
    for schedule in schedules:
        kernel = gemm(problem, target, schedule=schedule)
        found |= ran(kernel, target, (a, b), (batch, m, n), sizes)
    assert len(found) == 1


def test_there_is_a_choice_of_tiles():
    schedules = gemm_schedules(GEMMS["odd"], get_target())
    assert len({(s.rows, s.vectors) for s in schedules}) > 2
    assert len({replace(s, rows=0, vectors=0) for s in schedules}) > 2


CONVOLUTIONS = {
    "3x3": square(2, 20, 40, 13, 3, padding=1),
    "a border that reaches far": square(1, 8, 32, 6, 5, padding=2),
    "strided": square(2, 3, 33, 21, 3, stride=2, padding=1),
    "dilated": square(1, 16, 24, 15, 3, padding=2, dilation=2),
    "pointwise": square(2, 24, 40, 12, 1),
    "several bands": square(1, 8, 36, 44, 3, padding=1),
    "groups": square(2, 32, 64, 9, 3, padding=1, groups=2),
    "few channels": square(2, 20, 3, 33, 3, padding=1),
    "depthwise": square(2, 20, 20, 9, 3, padding=1, groups=20),
    "a product": ConvProblem(1, 60, 70, (301, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    "a volume": ConvProblem(
        2, 16, 24, (6, 7, 8), (2, 3, 2), (1, 1, 1), ((0, 1), (1, 1), (1, 0)), (1, 1, 1)
    ),
    "f64": square(1, 12, 24, 11, 3, padding=1, dtype="f64"),
}


def arrays(p, back=False):
    """(source, weights, shape of the result) of a convolution or of its input's gradient."""
    dtype = np.float64 if p.dtype == "f64" else np.float32
    x, y = (p.batch, p.in_channels, *p.size), (p.batch, p.out_channels, *p.out_size)
    w = random((p.out_channels, p.in_channels // p.groups, *p.kernel), dtype, seed=1)
    return random(y if back else x, dtype), w, x if back else y


@every_level
@pytest.mark.parametrize("back", [False, True], ids=["conv", "grad_input"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name, back, target):
    p = CONVOLUTIONS[name]
    x, w, out = arrays(p, back)
    emit = conv_grad_input if back else conv
    found = ran(emit(p, target), target, (x, w), out)
    for schedule in schedules_of(p, target, transposed=back):
        found |= ran(emit(p, target, schedule=schedule), target, (x, w), out)
        packing = pack_weights(p, target, for_grad_input=back, schedule=schedule)
        if packing is None:
            continue
        packed = aligned(packing.bytes // x.itemsize, x.dtype)
        Compiled(packing.kernel, target)(w, packed)
        kernel = emit(p, target, packed_weights=True, schedule=schedule)
        found |= ran(kernel, target, (x, packed), out)
    assert len(found) == 1


@every_level
@pytest.mark.parametrize("back", [False, True], ids=["conv", "grad_input"])
@pytest.mark.parametrize("name", [n for n, p in CONVOLUTIONS.items() if p.groups == 1])
def test_convolutions_with_channels_last(name, back, target):
    p = CONVOLUTIONS[name]
    x, w, out = arrays(p, back)
    width, order = packing_for(p, target, transposed=back)
    channels, outputs = (p.out_channels, p.in_channels) if back else (p.in_channels, p.out_channels)
    panels = random((-(-outputs // width), len(order), channels, width), x.dtype, seed=2)
    emit, found = conv_grad_input_last if back else conv_last, set()
    schedules = schedules_of_last(p, width, target, transposed=back)
    assert len(schedules) > 1
    for schedule in schedules:
        kernel = emit(p, width, target, schedule=schedule)
        found |= ran(kernel, target, (x, panels), out)
    assert len(found) == 1


@every_level
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_gradients_of_weights(name, target):
    p = CONVOLUTIONS[name]
    p = replace(p, batch=5)
    x, w, _ = arrays(p)
    grad, _, _ = arrays(p, back=True)
    found = ran(conv_grad_weight(p, target), target, (x, grad), w.shape)
    for schedule in schedules_of_grad_weight(p, target):
        kernel = conv_grad_weight(p, target, schedule=schedule)
        found |= ran(kernel, target, (x, grad), w.shape)
    assert len(found) == 1


@every_level
@pytest.mark.parametrize("size, channels, outputs", [((13, 10), 32, 40), ((28, 28), 64, 64)])
def test_winograd(size, channels, outputs, target):
    p = WinogradProblem(3, channels, outputs, size, ((1, 1), (1, 1)))
    lanes = target.lanes(32)
    across = schedule_winograd(p, target, lanes).vectors
    schedules = winograd_schedules(p, target, lanes, across)
    assert len(schedules) > 2 and {schedule.vectors for schedule in schedules} == {across}
    x = random((3, *size, channels))
    u = random((-(-outputs // (across * lanes)), 6, 6, channels, across * lanes), seed=1)
    found = set()
    for schedule in schedules:
        kernel = conv_winograd(p, across * lanes, target, schedule=schedule)
        found |= ran(kernel, target, (x, u), (3, *size, outputs))
    assert len(found) == 1


# What is not offered, since its sums have another order.


def test_tiles_that_leave_out_the_border_are_not_mixed_with_others():
    """They do not see an infinite weight that only meets the border."""
    p, target = CONVOLUTIONS["a border that reaches far"], get_target()
    c = forward(p)
    default = schedule_conv(c, target, target.lanes(32), 4)
    rows = 3 - min(default.rows, 2)  # one, if it was more
    other = replace(default, rows=rows, columns=1)
    assert default.order_of_sums(c) != other.order_of_sums(c)
    offered = conv_schedules(c, target, target.lanes(32), 4)
    assert {schedule.order_of_sums(c) for schedule in offered} == {default.order_of_sums(c)}
    x, w, out = arrays(p)
    w[:, :, 0, :] = np.inf
    found = [
        ran(conv(p, target, schedule=schedule), target, (x, w), out)
        for schedule in (default, other)
    ]
    assert found[0].isdisjoint(found[1])


def test_bands_of_a_volume_are_not_changed():
    p, target = replace(CONVOLUTIONS["a volume"], batch=1), get_target()
    c = forward(p)
    default, *others = weight_grad_schedules(c, target, target.lanes(32), 4)
    assert others and {schedule.bands for schedule in others} == {default.bands}
    other = replace(default, bands=3, images=1)
    assert other.order_of_sums(c) != default.order_of_sums(c)
    x, w, _ = arrays(p)
    grad, _, _ = arrays(p, back=True)
    found = [
        ran(conv_grad_weight(p, target, schedule=schedule), target, (x, grad), w.shape)
        for schedule in (default, other)
    ]
    assert found[0].isdisjoint(found[1])


def test_halves_integers_and_the_dot_form_have_no_choice():
    target = get_target()
    for problem in (
        GemmProblem(50, 60, 70, dtype="bf16"),
        GemmProblem(50, 60, 70, dtype="i64"),
        GemmProblem(2, 60, 700, transpose_b=True),
    ):
        assert gemm_schedules(problem, target) == [schedule_gemm(problem, target)]
