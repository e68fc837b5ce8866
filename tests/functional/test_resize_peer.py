"""Resampling, grids and patches against torch: values and gradients."""

import numpy as np
import pytest

import graphc
import graphc.nn.functional
from tests.functional.peer_expressions import evaluate, same

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


ARRAYS = {
    "s": array(2, 3, 7), "x": array(2, 3, 6, 5), "y": array(2, 2, 4, 5, 3), "a": array(2, 2, 3),
    "b": array(1, 3, 4), "g": (RNG.random((2, 4, 3, 2)) * 3 - 1.5).astype(np.float32),
    "h": (RNG.random((2, 3, 4, 2, 3)) * 3 - 1.5).astype(np.float32), "c": array(2, 12, 20),
    "r": RNG.random((2, 3, 2)).astype(np.float32), "q": RNG.random((2, 2, 3)).astype(np.float32),
}  # fmt: skip

RESIZED = [
    *[f"F.interpolate(x, {size}, mode='{mode}')" for mode in
      ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
      for size in ("(9, 4)", "scale_factor=2", "scale_factor=(1.3, 0.6)")],
    *[f"F.interpolate(x, (9, 3), mode='{mode}', align_corners=True)" for mode in
      ("bilinear", "bicubic")],
    *[f"F.interpolate(x, {size}, mode='{mode}', antialias=True)" for mode in
      ("bilinear", "bicubic") for size in ("(3, 2)", "(12, 3)")],
    "F.interpolate(x, scale_factor=1.7, mode='bilinear', recompute_scale_factor=True)",
    "F.interpolate(x, (1, 1), mode='bilinear', align_corners=True)",
    "F.interpolate(s, 10, mode='linear')", "F.interpolate(s, 3)",
    "F.interpolate(s, scale_factor=0.5, mode='area')", "F.interpolate(y, (6, 3, 5))",
    "F.interpolate(y, (6, 3, 5), mode='trilinear')",
    "F.interpolate(y, scale_factor=2, mode='trilinear', align_corners=True)",
]  # fmt: skip
GRIDS = [
    *[f"F.grid_sample({x}, {g}, '{mode}', '{padding}', {align})"
      for x, g, modes in (("x", "g", ("bilinear", "nearest", "bicubic")),
                          ("y", "h", ("bilinear", "nearest")))
      for mode in modes for padding in ("zeros", "border", "reflection")
      for align in (False, True)],
    "F.affine_grid(a, (2, 5, 4, 3), align_corners=False)",
    "F.affine_grid(a, (2, 5, 4, 3), align_corners=True)",
    "F.affine_grid(torch.stack([b[0], b[0] * 2]), (2, 1, 2, 3, 4), align_corners=False)",
]  # fmt: skip
PATCHES = [
    "F.unfold(x, 2)", "F.unfold(x, (3, 2), padding=(1, 0), stride=2)", "F.unfold(x[0], 2)",
    "F.unfold(x, 2, dilation=2, padding=1)", "F.fold(c, (6, 5), (2, 2))",
    "F.fold(c, (8, 10), 2, stride=2)", "F.fold(c, (9, 10), 2, stride=2)",
    "F.fold(F.unfold(x, 3, padding=1, stride=2), (6, 5), 3, padding=1, stride=2)",
    "F.fold(F.unfold(x, 2, dilation=2), (6, 5), 2, dilation=2)", "F.fold(c[0], (6, 5), 2)",
    "F.fold(F.unfold(x, 2, stride=2, padding=1), (6, 5), 2, stride=2, padding=1)",
    "F.max_unpool2d(*F.max_pool2d(x[..., :4], 2, return_indices=True), 2)",
    "F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(6, 5))",
    "F.max_unpool1d(*F.max_pool1d(s, 3, 2, return_indices=True), 3, 2).detach() * s",
    "F.max_unpool3d(*F.max_pool3d(y, 2, return_indices=True), 2, output_size=(4, 5, 3))",
    "F.adaptive_max_pool2d(x, (4, 2), return_indices=True)",
    "F.adaptive_max_pool1d(s, 3, return_indices=True)",
    "F.fractional_max_pool2d(x, 2, (3, 4), _random_samples=r.detach(), return_indices=True)",
    "F.fractional_max_pool2d(x, (3, 2), output_ratio=(0.5, 0.5), _random_samples=r.detach())",
    "F.fractional_max_pool3d(y, 2, (2, 3, 1), _random_samples=q.detach())",
]  # fmt: skip


@pytest.mark.parametrize("expression", [*RESIZED, *GRIDS, *PATCHES])
def test_agrees_with_torch(expression):
    results, gradients = [], []
    for module in (graphc, torch):
        result, inputs = evaluate(expression, module, grad=True, arrays=ARRAYS)
        results.append(result)
        first = result[0] if isinstance(result, tuple) else result
        weights = np.cos(np.arange(first.numel())).reshape(tuple(first.shape))
        (first * module.tensor(weights.astype(np.float32))).sum().backward()
        gradients.append([None if t.grad is None else t.grad for t in inputs.values()])
    same(*results, expression, tolerance=5e-6)
    for ours, theirs in zip(*gradients, strict=True):
        if theirs is None or ours is None:  # of what is constant, such as the places of "nearest"
            assert ours is None, expression
            assert theirs is None or not theirs.any(), expression
        else:
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=2e-5)


def test_random_windows_are_those_of_torch():
    found = []
    for module in (graphc, torch):
        module.manual_seed(3)
        x = module.tensor(ARRAYS["x"])
        found.append(module.nn.functional.fractional_max_pool2d(x, 2, (3, 4)).numpy())
    np.testing.assert_array_equal(*found)
