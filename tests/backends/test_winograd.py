"""Winograd's algorithm against the convolution in float64, and where it is taken."""

from dataclasses import replace

import numpy as np
import pytest

import graphc as torch
import graphc.nn as nn
from graphc import config
from graphc.backends.llvm.channels_last import packing_of, winograd_alone
from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.contract.turn import turned
from graphc.backends.llvm.contract.winograd import (
    WinogradProblem,
    conv_winograd,
    schedule_winograd,
)
from graphc.backends.llvm.contract.winograd_weight import winograd_weight
from graphc.backends.llvm.target import TARGETS, get_target
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.composite.winograd import INPUT, KERNEL, OUTPUT
from graphc.ir.interpret import evaluate
from graphc.ir.types import parse_type
from graphc.passes.layout import Packing, channels_last
from tests.backends.contract_runner import LEVELS, Compiled, guarded

ONE = ((1, 1), (1, 1))
PROBLEMS = {
    "whole tiles": WinogradProblem(1, 16, 16, (8, 12), ONE),
    "parts of tiles": WinogradProblem(3, 32, 24, (7, 9), ONE),
    "one tile": WinogradProblem(1, 16, 3, (3, 3), ((0, 0), (0, 0))),
    "several blocks and panels": WinogradProblem(3, 128, 70, (30, 27), ONE),
    "another border": WinogradProblem(2, 16, 17, (6, 5), ((2, 0), (0, 3))),
    "rows that share cache sets": WinogradProblem(2, 512, 16, (5, 5), ONE),
}


def test_tiles_have_sums_enough_to_wait_for_none():
    """Two multiply-adds a cycle of 32 bytes, each four cycles long."""
    for size, channels in ((28, 128), (14, 256)):
        p = WinogradProblem(16, channels, channels, (size, size), ONE)
        schedule = schedule_winograd(p, TARGETS["avx2"], 8)
        assert schedule.rows * schedule.vectors >= 8


def reference(p, x, w):
    wide = np.pad(x, ((0, 0), *p.padding, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(wide, (3, 3), (1, 2))
    return np.einsum("nhwcij,ocij->nhwo", windows, w, optimize=True)


def panels(p, w, width):
    u = np.einsum("ik,ockl,jl->ocij", KERNEL, w, KERNEL)
    count = -(-p.outputs // width)
    all_panels = np.zeros((count * width, *u.shape[1:]))
    all_panels[: p.outputs] = u
    made = guarded((count, 6, 6, p.channels, width))
    made[:] = all_panels.reshape(count, width, p.channels, 6, 6).transpose(0, 3, 4, 2, 1)
    return made


def arrays(p, batch):
    random = np.random.default_rng(11)
    x = guarded((batch, *p.size, p.channels))
    x[:] = random.standard_normal(x.shape)
    w = random.standard_normal((p.outputs, p.channels, 3, 3)).astype(np.float32)
    return x, w, guarded((batch, *p.out_size, p.outputs))


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
@pytest.mark.parametrize("name", PROBLEMS)
def test_results_and_their_bits_by_units(name, target):
    p = PROBLEMS[name]
    x, w, out = arrays(p, p.batch)
    lanes = target.lanes(32)
    width = schedule_winograd(p, target, lanes).vectors * lanes
    u = panels(p, w, width)
    Compiled(conv_winograd(p, width, target), target)(x, u, out)
    want = reference(p, x.astype(np.float64), w.astype(np.float64))
    assert np.abs(out - want).max() <= 2e-5 * np.abs(want).max()
    for problem, sizes in ((p, []), (replace(p, batch=None), [p.batch])):
        for across in {width, lanes}:
            try:
                schedule_winograd(problem, target, lanes, across // lanes)
            except ValueError:
                continue
            kernel = Compiled(conv_winograd(problem, across, target), target)
            again = guarded(out.shape)
            kernel(x, panels(p, w, across), again, sizes=sizes, chunk=1)
            np.testing.assert_array_equal(again, out)


def test_the_matrices_are_those_of_a_convolution():
    random = np.random.default_rng(0)
    d, g = random.standard_normal((6, 6)), random.standard_normal((3, 3))
    made = OUTPUT @ ((KERNEL @ g @ KERNEL.T) * (INPUT @ d @ INPUT.T)) @ OUTPUT.T
    windows = np.lib.stride_tricks.sliding_window_view(d, (3, 3))
    np.testing.assert_allclose(made, np.einsum("ijkl,kl->ij", windows, g), atol=1e-12)


def convolution(x, w, stride=1, dilation=1):
    return ops.conv(
        x, w, stride=(stride, stride), padding=ONE, dilation=(dilation, dilation), groups=1
    )


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
@pytest.mark.parametrize("batch", ["2", "n"])
def test_graphs_with_epilogues(batch, target):
    def net(x, w, b, w2):
        y = convolution(x, w)
        y = ops.max_(y + ops.expand(b, shape=y.type.shape, axes=(0, 2, 3)), x)
        return convolution(ops.tanh(y * y), w2)

    texts = (f"f32[{batch}, 32, 15, 14]", "f32[32, 32, 3, 3]", "f32[32]", "f32[20, 32, 3, 3]")
    graph = trace(net, *[parse_type(text) for text in texts])

    def packing(node):
        found = packing_of(node, target, winograd=True)
        assert found.winograd
        return found

    laid = channels_last(graph, packing)
    random = np.random.default_rng(1)
    shapes = ((2, 32, 15, 14), (32, 32, 3, 3), (32,), (20, 32, 3, 3))
    given = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    compiled = compile_graph(laid, target=target)
    kinds = [kernel.kind for kernel in compiled.kernels if "conv_winograd" in kernel.kind]
    assert kinds == ["conv_winograd, map", "conv_winograd"]
    (found,), (want,) = compiled(*given), evaluate(graph, *given)
    assert np.abs(found - want).max() <= 5e-5 * np.abs(want).max()


@pytest.mark.parametrize(
    "types, options",
    [
        (("f64[2, 32, 16, 16]", "f64[32, 32, 3, 3]"), {}),
        (("f32[2, 30, 16, 16]", "f32[32, 30, 3, 3]"), {}),  # channels fill no whole vectors
        (("f32[2, 32, 16, 16]", "f32[32, 32, 5, 5]"), {}),
        (("f32[2, 32, 16, 16]", "f32[32, 32, 3, 3]"), {"stride": 2}),
        (("f32[2, 32, 16, 16]", "f32[32, 32, 3, 3]"), {"dilation": 2}),
        (("f32[1, 512, 5, 5]", "f32[512, 512, 3, 3]"), {}),  # the weights take longer to read
    ],
)
def test_where_it_does_not_serve_or_pay(types, options):
    graph = trace(lambda x, w: convolution(x, w, **options), *map(parse_type, types))
    found = packing_of(graph.nodes[-1], get_target("avx512"), winograd=True)
    assert isinstance(found, Packing) and not found.winograd


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
@pytest.mark.parametrize("outputs, channels", [(32, 16), (70, 5), (3, 33)])
def test_weights_of_gradients_are_those_of_flipped_kernels(outputs, channels, target):
    width = 2 * target.lanes(32)
    random = np.random.default_rng(2)
    w = guarded((channels, outputs, 3, 3))
    w[:] = random.standard_normal(w.shape)
    flipped = guarded((outputs, channels, 3, 3))
    flipped[:] = w.swapaxes(0, 1)[:, :, ::-1, ::-1]
    shape = (-(-outputs // width), 6, 6, channels, width)
    found, want = guarded(shape), guarded(shape)
    Compiled(winograd_weight(outputs, channels, width, target, back=True), target)(w, found)
    Compiled(winograd_weight(outputs, channels, width, target), target)(flipped, want)
    assert found.tobytes() == want.tobytes()


@pytest.mark.parametrize("target", LEVELS, ids=lambda target: target.name)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("shape", [(2, 32, 16), (3, 19, 270), (1, 5, 3), (2, 130, 7)])
def test_turned_matrices(shape, dtype, target):
    x = guarded(shape, np.float32 if dtype == "f32" else np.float64)
    x[:] = np.random.default_rng(3).standard_normal(shape)
    for batch, sizes in ((shape[0], []), (None, [shape[0]])):
        out = guarded((shape[0], shape[2], shape[1]), x.dtype)
        Compiled(turned(batch, *shape[1:], dtype, target), target)(x, out, sizes=sizes, chunk=1)
        np.testing.assert_array_equal(out, x.swapaxes(1, 2))


def step_of(exact):
    """A compiled training step of two convolutions, and its model."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.Flatten(), nn.Linear(32 * 256, 4),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(exact=exact)
    def step(x):
        loss = (model(x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, model


def test_training_takes_it_where_other_bits_are_allowed():
    x = torch.randn(8, 16, 16, 16)
    trained = {}
    for name, exact, allowed in (("exact", True, True), ("off", False, False), ("on", False, True)):
        step, model = step_of(exact)
        with config.patch(winograd=allowed):
            losses = [step(x).item() for _ in range(2)]
        trained[name] = [losses, *[p.detach().numpy() for p in model.parameters()]]
    bits = {name: [np.asarray(v).tobytes() for v in found] for name, found in trained.items()}
    assert bits["off"] == bits["exact"] != bits["on"]
    for found, want in zip(trained["on"], trained["exact"]):
        assert np.abs(np.subtract(found, want)).max() <= 1e-4 * max(1.0, np.abs(want).max())


def test_a_gradient_that_crops_stays_plain():
    def back(ct, w):
        return ops.conv_grad_input(
            ct, w, size=(16, 16), stride=(1, 1), padding=((3, 1), (1, 1)), dilation=(1, 1), groups=1
        )

    graph = trace(back, parse_type("f32[16, 64, 18, 16]"), parse_type("f32[64, 64, 3, 3]"))
    assert winograd_alone(graph.nodes[-1], get_target("avx512")) is None


def test_small_work_stays_plain():
    """Where each call transforms the weight, few images do not pay for it."""
    graph = trace(convolution, parse_type("f32[1, 256, 8, 8]"), parse_type("f32[256, 256, 3, 3]"))
    assert winograd_alone(graph.nodes[-1], get_target("avx512")) is None
    graph = trace(convolution, parse_type("f32[16, 256, 8, 8]"), parse_type("f32[256, 256, 3, 3]"))
    assert winograd_alone(graph.nodes[-1], get_target("avx512"))


def test_traced_modules_take_it_and_config_forbids_it():
    model = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()).eval()
    x = torch.randn(2, 16, 24, 24)
    with torch.no_grad():
        want = model(x).numpy()
        traced = torch.jit.trace(model, (x,))
        with config.patch(winograd=True):
            quick = traced(x).numpy()
        with config.patch(winograd=False):
            assert traced(x).numpy().tobytes() == want.tobytes()
    assert quick.tobytes() != want.tobytes()
    assert np.abs(quick - want).max() <= 2e-5 * np.abs(want).max()
