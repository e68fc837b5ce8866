"""Convolutions with channels last give the bits of those with channels first."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.backends.llvm.channels_last import packing_of
from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.contract import (
    ConvProblem,
    conv_grad_input_last,
    conv_last,
    packing_for,
)
from graphc.backends.llvm.contract.conv import conv
from graphc.backends.llvm.contract.conv_direct import DirectKernel
from graphc.backends.llvm.contract.conv_last import InPlace, LastKernel
from graphc.backends.llvm.contract.conv_problem import forward, grad_input
from graphc.backends.llvm.contract.conv_schedule import ConvSchedule, schedule_conv
from graphc.backends.llvm.contract.depthwise_last import depthwise_last
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.groups_last import groups_last, groups_together
from graphc.backends.llvm.layouts import choose_layouts
from graphc.backends.llvm.target import get_target
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.composite import relu
from graphc.ir.dtype import F32
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.expand import expand_composites
from graphc.passes.layout import channels_last
from tests.backends.contract_runner import LEVELS, Compiled, guarded
from tests.backends.test_contract_conv import NUMPY, PROBLEMS

NONE = ((0, 0), (0, 0))  # of padding
CASES = {
    **{
        name: problem
        for name, problem in PROBLEMS.items()
        if problem.groups == 1 and problem.dtype != "f16"
    },
    "groups": ConvProblem.square(2, 40, 60, 9, 3, padding=1, groups=2),
    "groups of one panel": ConvProblem.square(1, 96, 64, 30, 3, stride=2, padding=1, groups=4),
    "groups in place": ConvProblem.square(2, 36, 76, 7, 1, groups=2),
    "groups in three dimensions": ConvProblem(
        1, 34, 34, (3, 5, 4), (2, 3, 2), (1, 2, 1), ((0, 1), (1, 1), (1, 0)), (2, 1, 1), 2
    ),
    "groups, f64": ConvProblem.square(1, 24, 24, 6, 3, padding=1, groups=3, dtype="f64"),
    "in place": ConvProblem.square(2, 24, 40, 9, 1),
    "rows that share cache sets": ConvProblem.square(1, 1024, 20, 5, 2),
    "bands of rows": ConvProblem(1, 20, 40, (701, 1), (1, 1), (1, 1), NONE, (1, 1)),
    "panels of several bands": ConvProblem(1, 20, 300, (201, 1), (1, 1), (1, 1), NONE, (1, 1)),
    "seven wide": ConvProblem.square(1, 16, 64, 7, 3, padding=1),
    "an upsampling": ConvProblem.square(2, 12, 20, 12, 4, stride=2, padding=1),
}


def packed(w, width, order, transposed, groups=1):
    """w [o, c, *kernel] as [panel, tap, channel of the source, width]."""
    if groups > 1:
        parts = [packed(part, width, order, transposed) for part in np.split(w, groups)]
        made = guarded((groups * len(parts[0]), *parts[0].shape[1:]), w.dtype)
        made[:] = np.concatenate(parts)
        return made
    taps = w.reshape(*w.shape[:2], -1)[:, :, list(order)]
    taps = taps.transpose(1, 0, 2) if transposed else taps  # [target, source, tap]
    panels = -(-taps.shape[0] // width)
    wide = np.zeros((panels * width, *taps.shape[1:]), w.dtype)
    wide[: taps.shape[0]] = taps
    split = wide.reshape(panels, width, *taps.shape[1:])
    made = guarded((panels, taps.shape[2], taps.shape[1], width), w.dtype)
    made[:] = split.transpose(0, 3, 2, 1)
    return made


def direct(p, target, transposed):
    """The kernel with channels first that adds in the same order."""
    c = grad_input(p) if transposed else forward(p)
    stored = element(p.dtype)
    schedule = schedule_conv(c, target, target.lanes(stored.bits), stored.bytes)
    kernel = DirectKernel(
        c, stored, p.batch, target, schedule,
        transposed=transposed, packed_weights=False, epilogue=None,
    )  # fmt: skip
    return kernel.kernel("conv")


def turned(array):
    made = guarded((array.shape[0], *array.shape[2:], array.shape[1]), array.dtype)
    made[:] = np.moveaxis(array, 1, -1)
    return made


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "grad_input"])
@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_those_of_the_direct_kernel(name, transposed, target):
    p, dtype = CASES[name], NUMPY[CASES[name].dtype]
    random = np.random.default_rng(3)
    shape = (p.batch, p.out_channels, *p.out_size) if transposed else None
    x = random.standard_normal(shape or (p.batch, p.in_channels, *p.size)).astype(dtype)
    inner = p.in_channels // p.groups
    w = random.standard_normal((p.out_channels, inner, *p.kernel)).astype(dtype)
    out = (p.batch, p.in_channels, *p.size) if transposed else None
    want = np.zeros(out or (p.batch, p.out_channels, *p.out_size), dtype)
    Compiled(direct(p, target, transposed), target)(x, w, want)
    width, order = packing_for(p, target, transposed=transposed)
    make = conv_grad_input_last if transposed else conv_last
    found = turned(np.full_like(want, 7))
    kernel = Compiled(make(p, width, target), target)
    panels = packed(w, width, order, transposed, p.groups)
    kernel(turned(x), panels, found, chunk=1)
    np.testing.assert_array_equal(np.moveaxis(found, -1, 1), want)
    symbolic = Compiled(make(replace(p, batch=None), width, target), target)
    again = turned(np.full_like(want, 7))
    symbolic(turned(x), panels, again, sizes=[p.batch])
    np.testing.assert_array_equal(again, found)


SMALL_GROUPS = {
    "four of a vector": ConvProblem.square(2, 32, 32, 9, 3, padding=1, groups=8),
    "several bands": ConvProblem.square(1, 16, 32, 60, 3, padding=1, groups=4),
    "strided": ConvProblem.square(1, 48, 24, 15, 3, stride=2, padding=1, groups=6),
    "dilated, no border": ConvProblem.square(1, 24, 24, 11, 3, dilation=3, groups=6),
    "in place": ConvProblem.square(3, 36, 36, 7, 1, groups=12),
    "odd sizes": ConvProblem.square(2, 30, 20, 7, 2, padding=1, groups=10),
    "more channels read than written": ConvProblem.square(1, 64, 32, 8, 3, padding=1, groups=16),
    "one group of a vector": ConvProblem.square(1, 36, 39, 6, 3, padding=1, groups=3),
    "two results of a channel": ConvProblem.square(2, 24, 48, 9, 3, padding=1, groups=24),
    "one dimension": ConvProblem(3, 16, 16, (17,), (4,), (2,), ((3, 1),), (1,), 4),
    "three dimensions": ConvProblem(
        1, 18, 18, (4, 7, 5), (2, 3, 2), (1, 2, 1), ((0, 1), (1, 1), (1, 0)), (2, 1, 1), 6
    ),
    "f64": ConvProblem.square(1, 12, 12, 7, 3, padding=1, groups=6, dtype="f64"),
}


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
@pytest.mark.parametrize("name", SMALL_GROUPS)
def test_small_groups_have_the_bits_of_channels_first(name, target):
    p, dtype = SMALL_GROUPS[name], NUMPY[SMALL_GROUPS[name].dtype]
    together, outputs = groups_together(p, target), p.out_channels // p.groups
    if together is None:
        lanes = target.lanes(np.dtype(dtype).itemsize * 8)
        assert outputs >= lanes or 2 * outputs <= lanes or p.in_channels // p.groups > lanes // 2
        return
    random = np.random.default_rng(8)
    x = random.standard_normal((p.batch, p.in_channels, *p.size)).astype(dtype)
    w = random.standard_normal((p.out_channels, p.in_channels // p.groups, *p.kernel)).astype(dtype)
    want = np.zeros((p.batch, p.out_channels, *p.out_size), dtype)
    Compiled(conv(p, target), target)(x, w, want)
    width = together * outputs
    split = w.reshape(-1, width, *w.shape[1:])
    panels = guarded((split.shape[0], *split.shape[2:], width), dtype)
    panels[:] = np.moveaxis(split, 1, -1)
    for problem, sizes in ((p, []), (replace(p, batch=None), [p.batch])):
        found = turned(np.full_like(want, 7))
        kernel = Compiled(groups_last(problem, target), target)
        kernel(turned(x), panels, found, sizes=sizes, chunk=1)
        np.testing.assert_array_equal(np.moveaxis(found, -1, 1), want)


def test_all_small_groups_have_a_kernel_somewhere():
    for name, p in SMALL_GROUPS.items():
        assert any([groups_together(p, target) for target in LEVELS]), name


def test_what_has_no_border_is_read_where_it_lies():
    def serves(name, columns):
        schedule = ConvSchedule(1, columns, 1, bands=1, by_channels=True)
        return InPlace.serves(forward(CASES[name]), schedule, 4)

    assert serves("in place", 9)
    assert not serves("3x3", 9)
    assert serves("rows that share cache sets", 2)  # of 4 taps
    assert not serves("rows that share cache sets", 3)


def test_bands_are_cut_between_tiles():
    p = ConvProblem(1, 384, 128, (1968, 1), (1, 1), (1, 1), NONE, (1, 1))
    c, target = forward(p), get_target()
    schedule = schedule_conv(c, target, target.lanes(32), 4)
    assert schedule.bands > 1 and schedule.rows > 1
    kernel = LastKernel(c, element("f32"), 1, target, schedule, None)
    cuts = [kernel.rows_of(band) for band in range(schedule.bands)]
    assert cuts[0][0] == 0 and all(low % schedule.rows == 0 for low, _ in cuts)
    assert [high for _, high in cuts] == [low for low, _ in cuts[1:]] + [1968]
    assert max([high - low for low, high in cuts]) == schedule.band_rows(1968)


DEPTHWISE = {
    "square": ConvProblem.square(2, 20, 20, 9, 3, padding=1, groups=20),
    "strided": ConvProblem.square(1, 33, 33, 14, 3, stride=2, padding=1, groups=33),
    "dilated, no border": ConvProblem.square(1, 16, 16, 11, 3, dilation=3, groups=16),
    "one dimension": ConvProblem(3, 5, 5, (17,), (4,), (2,), ((3, 1),), (1,), 5),
    "three dimensions": ConvProblem(
        1, 18, 18, (4, 7, 5), (2, 3, 2), (1, 2, 1), ((0, 1), (1, 1), (1, 0)), (2, 1, 1), 18
    ),
    "several bands": ConvProblem.square(1, 32, 32, 60, 5, padding=2, groups=32),
    "f64": ConvProblem.square(1, 9, 9, 7, 3, padding=1, groups=9, dtype="f64"),
}


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_bits_are_those_of_channels_first(name, target):
    p, dtype = DEPTHWISE[name], NUMPY[DEPTHWISE[name].dtype]
    random = np.random.default_rng(4)
    x = random.standard_normal((p.batch, p.in_channels, *p.size)).astype(dtype)
    w = random.standard_normal((p.out_channels, 1, *p.kernel)).astype(dtype)
    want = np.zeros((p.batch, p.out_channels, *p.out_size), dtype)
    Compiled(conv(p, target), target)(x, w, want)
    last = guarded((*p.kernel, p.in_channels), dtype)
    last[:] = np.moveaxis(w[:, 0], 0, -1)
    for problem, sizes in ((p, []), (replace(p, batch=None), [p.batch])):
        found = turned(np.full_like(want, 7))
        kernel = Compiled(depthwise_last(problem, target), target)
        kernel(turned(x), last, found, sizes=sizes, chunk=1)
        np.testing.assert_array_equal(np.moveaxis(found, -1, 1), want)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_depthwise_bits_of_any_geometry(data):
    """Borders of every kind, cropped ones too; weights that show a zero which is left out."""

    def pick(low, high, count):
        return tuple([data.draw(st.integers(low, high)) for _ in range(count)])

    dims = data.draw(st.sampled_from([1, 2, 2, 3]))
    kernel, stride, dilation = pick(1, 4, dims), pick(1, 3, dims), pick(1, 2, dims)
    padding = tuple([pick(-2, 4, 2) for _ in range(dims)])
    size = tuple(
        [
            max(n, (k - 1) * d + 1 - sum(pair), 1 - min(pair), 1)
            for n, k, d, pair in zip(pick(1, 30 // dims, dims), kernel, dilation, padding)
        ]
    )
    channels = data.draw(st.integers(2, 40))
    p = ConvProblem(2, channels, channels, size, kernel, stride, padding, dilation, channels)
    random, target = np.random.default_rng(4), get_target()
    x, w = guarded((2, channels, *size)), guarded((channels, 1, *kernel))
    x[:], w[:] = random.standard_normal(x.shape), random.standard_normal(w.shape)
    w[0] = np.inf
    want = np.zeros((2, channels, *p.out_size), np.float32)
    Compiled(conv(p, target), target)(x, w, want)
    last = guarded((*kernel, channels))
    last[:] = np.moveaxis(w[:, 0], 0, -1)
    found = turned(np.full_like(want, 7))
    Compiled(depthwise_last(p, target), target)(turned(x), last, found, chunk=1)
    np.testing.assert_array_equal(np.moveaxis(found, -1, 1), want)


def test_a_network_of_depthwise_convolutions_keeps_its_bits():
    def separable(x, w, d, w2):
        y = ops.tanh(convolved(x, w))
        y = ops.tanh(convolved(y, d, groups=40))
        return convolved(y, w2)

    texts = ("f32[2, 5, 9, 7]", "f32[40, 5, 3, 3]", "f32[40, 1, 3, 3]", "f32[24, 40, 3, 3]")
    graph = trace(separable, *[parse_type(text) for text in texts])
    laid = channels_last(graph, lambda node: packing_of(node, get_target()))
    assert "conv_depthwise_last" in [node.op.name for node in laid.nodes]
    random = np.random.default_rng(6)
    arrays = [random.standard_normal(p.type.shape).astype(np.float32) for p in graph.params]
    compiled = compile_graph(laid)
    assert "conv_depthwise_last, map" in [kernel.kind for kernel in compiled.kernels]
    np.testing.assert_array_equal(compiled(*arrays)[0], compile_graph(graph)(*arrays)[0])


def chosen(function, weights, *texts, winograd=False):
    """The convolutions of a function, some of whose operands are kept between calls."""
    graph = trace(function, *[parse_type(text) for text in texts])
    laid = choose_layouts(graph, weights, target=get_target("avx512"), winograd=winograd)
    return [node.op.name for node in laid.nodes if node.op.name.startswith("conv")]


def test_a_weight_that_comes_with_each_call_is_packed_where_that_moves_little():
    large = ("f32[1, 128, 7, 7]", "f32[128, 128, 3, 3]")  # a small image, a large weight
    assert chosen(convolved, (1,), *large) == ["conv_last"]
    assert chosen(convolved, (), *large) == ["conv"]
    small = ("f32[1, 32, 56, 56]", "f32[32, 32, 3, 3]")
    assert chosen(convolved, (), *small) == ["conv_last"]


def test_what_follows_from_kept_weights_and_constants_is_packed_ahead():
    large = ("f32[1, 128, 7, 7]", "f32[128, 128, 3, 3]")

    def scaled(x, w):
        return convolved(x, ops.mul(w, 2.0))

    def scaled_in_each_call(x, w, v):
        return convolved(x, ops.mul(w, v))

    def fixed(x):
        return convolved(x, ops.full(value=0.5, shape=(128, 128, 3, 3), dtype=F32, device="cpu"))

    assert chosen(scaled, (1,), *large) == ["conv_last"]
    assert chosen(scaled_in_each_call, (1,), *large, large[1]) == ["conv"]
    assert chosen(fixed, (), large[0]) == ["conv_last"]


def test_winograds_algorithm_pays_for_transforming_the_weight_in_each_call():
    texts = ("f32[1, 128, 14, 14]", "f32[128, 128, 3, 3]")
    assert chosen(convolved, (), *texts, winograd=True) == ["conv_winograd"]
    assert chosen(convolved, (), *texts) == ["conv"]


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
def test_a_network_of_groups_keeps_its_bits(target):
    def block(x, w, small, large, back):
        y = ops.tanh(convolved(x, w))
        y = ops.tanh(convolved(y, small, groups=8))
        y = ops.tanh(ops.add(y, convolved(y, large, groups=2)))
        ahead = {"stride": (2, 2), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
        return ops.conv_grad_input(y, back, size=(18, 14), groups=2, **ahead)

    texts = ("f32[2, 5, 9, 7]", "f32[40, 5, 3, 3]", "f32[40, 5, 3, 3]", "f32[40, 20, 3, 3]",
             "f32[40, 18, 4, 4]")  # fmt: skip
    graph = trace(block, *[parse_type(text) for text in texts])
    laid = channels_last(graph, lambda node: packing_of(node, target))
    names = [node.op.name for node in laid.nodes]
    small = target.lanes(32) > 5  # channels of one of the eight groups
    assert names.count("conv_last") == (2 if small else 3) and "conv_grad_input_last" in names
    assert names.count("conv_groups_last") == (1 if small else 0)
    random = np.random.default_rng(9)
    arrays = [random.standard_normal(p.type.shape).astype(np.float32) for p in graph.params]
    compiled = compile_graph(laid, target=target)
    assert "conv_last, map" in [kernel.kind for kernel in compiled.kernels]
    plain = compile_graph(graph, target=target)(*arrays)
    np.testing.assert_array_equal(compiled(*arrays)[0], plain[0])
    np.testing.assert_allclose(plain[0], evaluate(graph, *arrays)[0], rtol=1e-3, atol=1e-3)


def convolved(x, w, **attrs):
    one = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
    return ops.conv(x, w, **{**one, **attrs})


def network(x, w, scale, residual, w2):
    """Three convolutions: the first one's epilogue is short, the second one's long."""
    y = convolved(x, w)
    y = ops.mul(y, ops.expand(scale, shape=y.type.shape, axes=(0, 2, 3)))
    y = relu(ops.add(y, ops.permute(residual, perm=(0, 3, 1, 2))))
    z = convolved(y, w2, stride=(2, 2))
    z = ops.tanh(ops.mul(z, ops.exp(ops.neg(ops.mul(z, z)))))
    return convolved(z, ops.slice_(w2, start=(0,) * 4, stop=(19, 19, 3, 3), step=(1,) * 4))


SHAPES = ("f32[2, 5, 9, 7]", "f32[40, 5, 3, 3]", "f32[40]", "f32[2, 9, 7, 40]", "f32[19, 40, 3, 3]")


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
def test_whole_graphs_with_epilogues_have_the_bits_of_the_plain_ones(target):
    graph = expand_composites(trace(network, *[parse_type(text) for text in SHAPES]))
    laid = channels_last(graph, lambda node: packing_of(node, target))
    assert [node.op.name for node in laid.nodes].count("conv_last") == 3
    random = np.random.default_rng(5)
    arrays = [random.standard_normal(p.type.shape).astype(np.float32) for p in graph.params]
    compiled = compile_graph(laid, target=target)
    assert [kernel.kind for kernel in compiled.kernels].count("conv_last, map") == 2
    plain = compile_graph(graph, target=target)(*arrays)
    for made, same, exact in zip(compiled(*arrays), plain, evaluate(graph, *arrays), strict=True):
        np.testing.assert_array_equal(made, same)
        np.testing.assert_allclose(made, exact, rtol=1e-4, atol=1e-4)
