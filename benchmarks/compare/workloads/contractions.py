"""Matrix products, convolutions and their neighbours, attention, dense linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..workload import Arrays, Workload, normal
from .op import HARD, op


def product(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> Workload:
    return op(f"matmul-{name}", normal(a, b), lambda t, x, y: x @ y, lambda j, x, y: x @ y)


def conv(
    name: str, image: tuple[int, ...], weight: tuple[int, ...], stride: int = 1, padding: int = 0,
    dilation: int = 1, groups: int = 1,
) -> Workload:  # fmt: skip
    """A convolution in one, two or three dimensions, by the rank of its image."""
    rank = len(image) - 2

    def jax(j: Any, x: Any, w: Any) -> Any:
        return j.lax.conv_general_dilated(
            x, w, (stride,) * rank, ((padding, padding),) * rank,
            rhs_dilation=(dilation,) * rank, feature_group_count=groups,
        )  # fmt: skip

    def torch(t: Any, x: Any, w: Any) -> Any:
        function = getattr(t.nn.functional, f"conv{rank}d")
        return function(x, w, None, stride, padding, dilation, groups)

    return op(f"conv-{name}", normal(image, weight), torch, jax)


def symmetric() -> Arrays:
    """A positive definite matrix of 256 rows."""
    a = np.random.default_rng(0).standard_normal((256, 256), np.float32)
    return ((a @ a.T / 256 + np.eye(256, dtype=np.float32)).astype(np.float32),)


def system() -> Arrays:
    return symmetric() + normal((256, 8))()


def attend(causal: bool) -> Any:
    def run(t: Any, q: Any, k: Any, v: Any) -> Any:
        return t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return run


def jax_attend(causal: bool) -> Any:
    def run(j: Any, q: Any, k: Any, v: Any) -> Any:
        heads = [x.swapaxes(1, 2) for x in (q, k, v)]
        return j.nn.dot_product_attention(*heads, is_causal=causal).swapaxes(1, 2)

    return run


HEADS = normal((1, 8, 512, 64), (1, 8, 512, 64), (1, 8, 512, 64))
IMAGE = normal((16, 64, 56, 56))
DENSE = {"floor": HARD}

WORKLOADS = [
    product("64", (64, 64), (64, 64)),
    product("512", (512, 512), (512, 512)),
    product("1024", (1024, 1024), (1024, 1024)),
    product("skinny", (1024, 1024), (1024, 8)),
    product("few-rows", (4, 1024), (1024, 1024)),
    product("tall", (50_000, 64), (64, 64)),
    product("batched", (64, 64, 64), (64, 64, 64)),
    product("vector", (2048, 2048), (2048,)),
    op("matmul-transposed", normal((512, 512), (512, 512)), lambda t, x, y: x.t() @ y,
       lambda j, x, y: x.T @ y),
    op("linear-gelu", normal((128, 768), (3072, 768), (3072,)),
       lambda t, x, w, b: t.nn.functional.gelu(t.nn.functional.linear(x, w, b)),
       lambda j, x, w, b: j.nn.gelu(x @ w.T + b, approximate=False)),
    op("einsum", normal((8, 128, 64), (8, 128, 64)),
       lambda t, x, y: t.einsum("bid,bjd->bij", x, y),
       lambda j, x, y: j.numpy.einsum("bid,bjd->bij", x, y)),
    conv("3x3", (1, 64, 56, 56), (64, 64, 3, 3), padding=1),
    conv("3x3-batch16", (16, 64, 56, 56), (64, 64, 3, 3), padding=1),
    conv("3x3-stride2", (1, 128, 56, 56), (128, 128, 3, 3), 2, 1),
    conv("1x1", (1, 256, 56, 56), (64, 256, 1, 1)),
    conv("7x7-stride2", (1, 3, 224, 224), (64, 3, 7, 7), 2, 3),
    conv("depthwise", (1, 128, 56, 56), (128, 1, 3, 3), padding=1, groups=128),
    conv("grouped", (1, 128, 28, 28), (128, 16, 3, 3), padding=1, groups=8),
    conv("small-groups", (1, 128, 56, 56), (128, 4, 3, 3), padding=1, groups=32),
    conv("dilated", (1, 64, 56, 56), (64, 64, 3, 3), padding=2, dilation=2),
    conv("1d", (8, 64, 1024), (64, 64, 5), padding=2),
    conv("3d", (1, 16, 16, 32, 32), (32, 16, 3, 3, 3), padding=1),
    op("conv-transposed", normal((1, 64, 28, 28), (64, 32, 4, 4)),
       lambda t, x, w: t.nn.functional.conv_transpose2d(x, w, None, 2, 1)),
    op("conv-gradients", normal((8, 32, 28, 28), (32, 32, 3, 3)),
       lambda t, x, w: t.autograd.grad(
           (t.nn.functional.conv2d(x, w, None, 1, 1) ** 2).sum(), (x, w)),
       kind="gradient"),
    op("max-pool", IMAGE, lambda t, x: t.nn.functional.max_pool2d(x, 3, 2, 1),
       lambda j, x: j.lax.reduce_window(
           x, -np.inf, j.lax.max, (1, 1, 3, 3), (1, 1, 2, 2),
           ((0, 0), (0, 0), (1, 1), (1, 1)))),
    op("average-pool", IMAGE, lambda t, x: t.nn.functional.avg_pool2d(x, 2)),
    op("resize-bilinear", normal((4, 16, 64, 64)),
       lambda t, x: t.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"),
       lambda j, x: j.image.resize(x, (4, 16, 128, 128), "bilinear")),
    op("attention", HEADS, attend(False), jax_attend(False)),
    op("attention-causal", HEADS, attend(True), jax_attend(True)),
    op("attention-gradient", HEADS,
       lambda t, q, k, v: t.autograd.grad((attend(True)(t, q, k, v) ** 2).sum(), (q, k, v)),
       kind="gradient"),
    op("cholesky", symmetric, lambda t, a: t.linalg.cholesky(a),
       lambda j, a: j.numpy.linalg.cholesky(a), **DENSE),
    op("solve", system, lambda t, a, b: t.linalg.solve(a, b),
       lambda j, a, b: j.numpy.linalg.solve(a, b), **DENSE),
    op("inverse", symmetric, lambda t, a: t.linalg.inv(a),
       lambda j, a: j.numpy.linalg.inv(a), **DENSE),
    op("eigenvalues", symmetric, lambda t, a: t.linalg.eigh(a)[0],
       lambda j, a: j.numpy.linalg.eigh(a)[0], **DENSE),
    op("singular-values", symmetric, lambda t, a: t.linalg.svd(a)[1],
       lambda j, a: j.numpy.linalg.svd(a)[1], **DENSE),
]  # fmt: skip
