"""Convolution kernels and their gradients against float64 numpy."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from graphc.backends.llvm.contract import (
    ConvProblem,
    Epilogue,
    conv,
    conv_grad_input,
    conv_grad_weight,
    pack_weights,
)
from graphc.backends.llvm.contract.conv_problem import forward
from graphc.backends.llvm.contract.conv_schedule import schedule_weight_grad
from graphc.backends.llvm.target import get_target
from tests.backends.contract_runner import LEVELS, Compiled, aligned, guarded

NUMPY = {"f32": np.float32, "f64": np.float64, "f16": np.float16}
square = ConvProblem.square


def reference(p: ConvProblem, x, w, grad):
    """(y, grad_x, grad_w) of the convolution, where grad is that of y."""
    batch, groups, positions = len(x), p.groups, math.prod(p.out_size)
    spans = [size + before + after for size, (before, after) in zip(p.size, p.padding)]
    padded = np.zeros((*x.shape[:2], *spans))
    inner, outer = _overlap(p)
    padded[(..., *outer)] = x[(..., *inner)]
    grad_padded = np.zeros_like(padded)
    y = np.zeros((batch, p.out_channels, *p.out_size))
    grad_w = np.zeros(w.shape)
    by_group = grad.reshape(batch, groups, p.out_channels // groups, *p.out_size)
    for tap in itertools.product(*map(range, p.kernel)):
        window = (
            ...,
            *(
                slice(t * d, t * d + (count - 1) * s + 1, s)
                for t, d, s, count in zip(tap, p.dilation, p.stride, p.out_size)
            ),
        )
        seen = padded[window].reshape(batch, groups, p.in_channels // groups, *p.out_size)
        weights = w[(..., *tap)].reshape(groups, p.out_channels // groups, -1)
        y += np.einsum("ngc...,goc->ngo...", seen, weights).reshape(y.shape)
        grad_w[(..., *tap)] += np.einsum(
            "ngcp,ngop->goc",
            seen.reshape(*seen.shape[:3], positions),
            by_group.reshape(*by_group.shape[:3], positions),
        ).reshape(w.shape[:2])
        back = np.einsum("ngo...,goc->ngc...", by_group, weights)
        grad_padded[window] += back.reshape(padded[window].shape)
    grad_x = np.zeros(x.shape)
    grad_x[(..., *inner)] = grad_padded[(..., *outer)]
    return y, grad_x, grad_w


def _overlap(p: ConvProblem) -> tuple[list[slice], list[slice]]:
    """The part of x that padding keeps: its place in x, and in the padded x."""
    inner, outer = [], []
    for size, (before, after) in zip(p.size, p.padding):
        low, high = max(0, -before), size - max(0, -after)
        inner.append(slice(low, high))
        outer.append(slice(low + before, high + before))
    return inner, outer


def check(p: ConvProblem, target=None, *, batch=None, chunk=None):
    """All three kernels of a problem; their results."""
    target = target or get_target()
    batch = p.batch if batch is None else batch
    dtype = NUMPY[p.dtype]
    random = np.random.default_rng(7)
    shapes = [
        (batch, p.in_channels, *p.size),
        (p.out_channels, p.in_channels // p.groups, *p.kernel),
        (batch, p.out_channels, *p.out_size),
    ]
    arrays = [guarded(shape, dtype) for shape in shapes]
    for array in arrays:
        array[:] = random.standard_normal(array.shape)
    x, w, grad = arrays
    wide = [array.astype(np.float64) for array in arrays]
    exact = reference(p, *wide)
    magnitude = reference(p, *map(np.abs, wide))
    sizes = [batch] if p.batch is None else []
    results = []
    for emit, operands, want, bound in zip(
        (conv, conv_grad_input, conv_grad_weight),
        ((x, w), (grad, w), (x, grad)),
        exact,
        magnitude,
    ):
        out = guarded(want.shape, dtype)
        Compiled(emit(p, target), target)(*operands, out, sizes=sizes, chunk=chunk)
        eps = np.finfo(np.float64 if p.dtype == "f64" else np.float32).eps * 20
        rounding = 2.0**-11 if p.dtype == "f16" else 0.0
        tolerance = bound * eps + np.abs(want) * rounding + 1e-7 * (p.dtype == "f16")
        assert (np.abs(out.astype(np.float64) - want) <= tolerance).all(), emit.__name__
        results.append(out)
    return results


PROBLEMS = {
    "3x3": square(2, 5, 7, 9, 3, padding=1),
    "one pixel": square(3, 1, 1, 3, 3),
    "pointwise": square(2, 17, 33, 4, 1),
    "pointwise with idle lanes": square(2, 17, 33, 5, 1),
    "one channel": square(3, 1, 16, 8, 3, padding=1),
    "few results": square(2, 20, 3, 33, 3, padding=1),
    "few results in two turns": square(2, 20, 7, 33, 3, padding=1),
    "pointwise to few results": square(2, 17, 3, 4, 1),
    "strided": square(2, 16, 31, 8, 3, padding=1, stride=2),
    "strided pointwise": square(2, 3, 5, 6, 1, stride=2),
    "stride beyond the kernel": square(2, 6, 9, 7, 2, stride=3),
    "patches": square(1, 3, 8, 16, 4, stride=4),
    "dilated": square(2, 5, 7, 9, 3, padding=2, dilation=2),
    "strided and dilated": square(1, 8, 8, 20, 5, padding=2, stride=4, dilation=3),
    "stride and dilation with a factor": square(1, 4, 5, 15, 3, stride=4, dilation=2, padding=3),
    "groups": square(2, 6, 9, 7, 2, stride=2, groups=3),
    "wide groups": square(2, 32, 40, 9, 3, padding=1, groups=2),
    "few positions of many channels": square(2, 70, 83, 3, 1),
    "groups that fill most of a vector": square(2, 16, 24, 9, 3, padding=1, groups=2),
    "groups in several bands": square(2, 8, 16, 60, 3, padding=1, groups=4),
    "groups with a wide kernel": square(3, 9, 6, 11, 5, padding=2, stride=2, groups=3),
    "groups in three dimensions": ConvProblem(
        2, 4, 8, (6, 7, 8), (2, 3, 2), (1, 2, 1), ((0, 1), (1, 1), (1, 0)), (2, 1, 1), 2
    ),
    "depthwise": square(2, 5, 5, 7, 3, padding=1, groups=5),
    "depthwise strided": square(2, 4, 8, 9, 3, padding=1, stride=2, groups=4),
    "depthwise dilated": square(1, 3, 3, 11, 3, padding=2, stride=2, dilation=3, groups=3),
    "depthwise with a wide kernel": ConvProblem(
        2, 3, 6, (9,), (5,), (1,), ((2, 0),), (2,), groups=3
    ),
    "wide border": square(2, 3, 6, 12, 3, padding=4),
    "pointwise with a border": square(1, 3, 4, 9, 1, padding=2, stride=2),
    "several panels and bands": square(1, 20, 100, 40, 3, padding=1),
    "one dimension": ConvProblem(2, 3, 5, (17,), (4,), (2,), ((3, 1),), (1,)),
    "three dimensions": ConvProblem(
        2, 3, 5, (6, 7, 8), (2, 3, 2), (1, 2, 2), ((0, 1), (1, 1), (2, 0)), (2, 1, 1)
    ),
    "cropped": ConvProblem(1, 4, 6, (9, 6), (3, 2), (2, 1), ((-1, 0), (1, -2)), (1, 2)),
    "f64": square(2, 5, 7, 9, 3, padding=1, stride=2, dtype="f64"),
    "f16": square(2, 10, 18, 9, 3, padding=1, stride=2, dtype="f16"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_convolution_and_gradients(name):
    check(PROBLEMS[name])


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
@pytest.mark.parametrize(
    "name",
    [
        "strided",
        "groups",
        "depthwise strided",
        "depthwise with a wide kernel",
        "f64",
        "f16",
        "few results in two turns",
        "pointwise to few results",
    ],
)
def test_every_level(target, name):
    check(PROBLEMS[name], target)


@pytest.mark.parametrize("name", ["3x3", "several panels and bands", "strided", "depthwise"])
def test_units_may_be_split_anywhere(name):
    whole, parts = check(PROBLEMS[name]), check(PROBLEMS[name], chunk=1)
    for one, other in zip(whole, parts):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["pointwise", "strided", "depthwise"])
def test_symbolic_batch_gives_the_bits_of_a_known_one(name):
    known = PROBLEMS[name]
    problem = replace(known, batch=None)
    for one, other in zip(check(known), check(problem, batch=known.batch)):
        np.testing.assert_array_equal(one, other)
    check(problem, batch=0)


def test_epilogue_sees_channels_and_positions():
    target = get_target()
    lanes = target.lanes(32)
    type_, scalar = f"<{lanes} x float>", "float"

    def emit(emitter, value, position):
        """value + bias[channel]"""
        place = emitter.address(position.arguments[0], position.row, scalar)
        bias = emitter.load(scalar, place, 4)
        one = emitter.value(f"insertelement {type_} poison, {scalar} {bias}, i64 0")
        zeros = f"<{lanes} x i32> zeroinitializer"
        spread = emitter.value(f"shufflevector {type_} {one}, {type_} poison, {zeros}")
        return emitter.value(f"fadd {type_} {value}, {spread}")

    for name in ["several panels and bands", "groups", "depthwise", "pointwise"]:
        p = PROBLEMS[name]
        x, w = guarded((p.batch, p.in_channels, *p.size)), None
        w = guarded((p.out_channels, p.in_channels // p.groups, *p.kernel))
        x[:], w[:] = np.cos(np.arange(x.size)).reshape(x.shape), 0.5
        bias = np.linspace(-9, 9, p.out_channels, dtype=np.float32)
        plain, changed = (guarded((p.batch, p.out_channels, *p.out_size)) for _ in range(2))
        Compiled(conv(p, target), target)(x, w, plain)
        epilogue = Epilogue(("bias",), emit)
        Compiled(conv(p, target, epilogue=epilogue), target)(x, w, changed, bias)
        np.testing.assert_array_equal(changed, plain + bias[:, None, None])


@pytest.mark.parametrize("emit", [conv, conv_grad_input, conv_grad_weight])
def test_text_is_small(emit):
    kernel = emit(square(None, 64, 64, 56, 3, padding=1, stride=2), get_target())
    assert len(kernel.text.splitlines()) < 900
    # Many phases are one loop over a table.
    kernel = emit(square(None, 3, 96, 224, 16, stride=16), get_target())
    assert len(kernel.text.splitlines()) < 900


WIDE = {
    "wide": square(3, 128, 250, 4, 3, padding=1),
    "wide, with a rest of channels": square(2, 83, 250, 3, 3, padding=1, stride=2),
    "wide groups of f64": square(2, 160, 260, 3, 3, groups=2, dtype="f64"),
    "wide f16": square(2, 120, 250, 2, 3, padding=1, dtype="f16"),
}


@pytest.mark.parametrize("name", WIDE)
def test_gradients_of_wide_weights_leave_their_tiles_as_weights(name):
    """Sums of few positions do not wait in memory for the next images; the bits are the same."""
    p, target = WIDE[name], get_target()
    random = np.random.default_rng(7)
    x = guarded((p.batch, p.in_channels, *p.size), NUMPY[p.dtype])
    grad = guarded((p.batch, p.out_channels, *p.out_size), NUMPY[p.dtype])
    x[:], grad[:] = random.standard_normal(x.shape), random.standard_normal(grad.shape)
    shape = (p.out_channels, p.in_channels // p.groups, *p.kernel)
    at_once, by_visits = guarded(shape, NUMPY[p.dtype]), guarded(shape, NUMPY[p.dtype])
    kernel = conv_grad_weight(p, target)
    assert kernel.scratch_bytes < by_visits.size // p.groups * (8 if p.dtype == "f64" else 4)
    Compiled(kernel, target)(x, grad, at_once, chunk=2)
    visits = Compiled(conv_grad_weight(replace(p, batch=None), target), target)
    visits(x, grad, by_visits, sizes=[p.batch])
    np.testing.assert_array_equal(at_once, by_visits)


FEW = {
    "one channel": (square(3, 1, 20, 9, 3, padding=1), (3, 3)),
    "one channel, large kernels": (square(3, 1, 40, 9, 5, padding=2), (1, 5)),
    "three channels, strided": (square(2, 3, 64, 12, 3, padding=1, stride=2), (1, 3)),
    "dilated": (square(2, 2, 20, 12, 3, padding=2, dilation=2), (1, 3)),
    "groups": (square(2, 4, 40, 9, 3, padding=1, groups=2), (1, 3)),
    "many channels": (square(2, 64, 64, 5, 3, padding=1), (1, 1)),
}


@pytest.mark.parametrize("name", FEW)
def test_gradients_of_few_channels_hold_several_taps_in_a_tile(name):
    """Chains of one tap alone wait for each other; the bits are those of single taps."""
    (p, taps), wide, target = FEW[name], get_target("avx512"), get_target()
    assert schedule_weight_grad(forward(p), wide, wide.lanes(32), 4).taps == taps
    check(p, target)
    schedule = schedule_weight_grad(forward(p), target, target.lanes(32), 4)
    random = np.random.default_rng(8)
    x = guarded((p.batch, p.in_channels, *p.size), np.float32)
    grad = guarded((p.batch, p.out_channels, *p.out_size), np.float32)
    x[:], grad[:] = random.standard_normal(x.shape), random.standard_normal(grad.shape)
    made = [guarded((p.out_channels, p.in_channels // p.groups, *p.kernel)) for _ in range(2)]
    for out, joined in zip(made, (schedule.taps, (1, 1))):
        kernel = conv_grad_weight(p, target, schedule=replace(schedule, taps=joined))
        Compiled(kernel, target)(x, grad, out)
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize(
    "name",
    ["strided", "wide groups", "several panels and bands", "few positions of many channels", "f16"],
)
def test_weights_packed_ahead_give_the_same_bits(name):
    p, target = PROBLEMS[name], get_target()
    random = np.random.default_rng(3)
    dtype = NUMPY[p.dtype]
    w = guarded((p.out_channels, p.in_channels // p.groups, *p.kernel), dtype)
    w[:] = random.standard_normal(w.shape)
    x_shape = (p.batch, p.in_channels, *p.size)
    y_shape = (p.batch, p.out_channels, *p.out_size)
    for emit, grad, shapes in [
        (conv, False, (x_shape, y_shape)),
        (conv_grad_input, True, (y_shape, x_shape)),
    ]:
        source, usual = guarded(shapes[0], dtype), guarded(shapes[1], dtype)
        other = guarded(shapes[1], dtype)
        source[:] = random.standard_normal(source.shape)
        Compiled(emit(p, target), target)(source, w, usual)
        ahead = pack_weights(p, target, for_grad_input=grad)
        packed = aligned(ahead.bytes, np.uint8)
        Compiled(ahead.kernel, target)(w, packed, chunk=1)
        kernel = emit(p, target, packed_weights=True)
        Compiled(kernel, target)(source, packed, other, chunk=1)
        np.testing.assert_array_equal(usual, other)


def test_no_packed_weights_where_they_are_used_as_they_are():
    target = get_target()
    assert pack_weights(square(2, 32, 64, 8, 1), target) is None
    with pytest.raises(ValueError, match="no packed weights"):
        conv(square(2, 8, 8, 8, 3, groups=8), target, packed_weights=True)
