"""What `benchmarks.machine` measures: products, convolutions, and work on 10 million numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Program = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """program(torch, *tensors): of the shapes, then of `kept`, weights that stay between calls.

    integers: the inputs that are whole numbers below this, by position.
    """

    group: str
    name: str
    program: Program
    shapes: tuple[Shape, ...]
    kept: tuple[Shape, ...] = ()
    integers: tuple[tuple[int, int], ...] = ()

    def in_caches(self) -> Case:
        """The same on some hundred thousand numbers."""
        rows = self.shapes[0][0]
        limits = [(k, n // 100 if n == rows else n) for k, n in self.integers]
        return replace(self, shapes=tuple(map(_small, self.shapes)), integers=tuple(limits))

    def inputs(self) -> list[np.ndarray]:
        random, limits = np.random.default_rng(0), dict(self.integers)
        return [
            random.integers(0, limits[k], shape)
            if k in limits
            else random.standard_normal(shape, np.float32)
            for k, shape in enumerate(self.shapes)
        ]

    def weights(self) -> list[np.ndarray]:
        random = np.random.default_rng(1)
        return [random.standard_normal(shape, np.float32) * np.float32(0.02) for shape in self.kept]


def _small(shape: Shape) -> Shape:
    if len(shape) == 4:
        return (max(1, shape[0] // 8), shape[1], 28, 28)
    if len(shape) == 2 and shape[0] == shape[1]:
        return (shape[0] // 10, shape[1] // 10)
    return (shape[0] // 100, *shape[1:]) if shape[0] >= 5000 else shape


def product(name: str, a: Shape, b: Shape, program: Program | None = None) -> Case:
    return Case("products", name, program or (lambda t, x, y: x @ y), (a, b))


def linear(rows: int, n: int, k: int) -> Case:
    """x[rows, k] by a weight of n rows that is kept."""
    name = f"kept {rows} x {n} x {k}"
    return Case("products", name, lambda t, x, w: x @ w.t(), ((rows, k),), ((n, k),))


def conv(
    name: str, image: Shape, weight: Shape, stride: int = 1, padding: int = 0, dilation: int = 1,
    groups: int = 1, is_kept: bool = False,
) -> Case:  # fmt: skip
    def program(t: Any, x: Any, w: Any) -> Any:
        function = getattr(t.nn.functional, f"conv{len(image) - 2}d")
        return function(x, w, None, stride, padding, dilation, groups)

    if is_kept:  # as it stands in a network: images come and go channels last
        n, channels, *size = image

        def last(t: Any, x: Any, w: Any) -> Any:
            return program(t, x.permute(0, 3, 1, 2), w).permute(0, 2, 3, 1).contiguous()

        return Case("convolutions", f"kept {name}", last, ((n, *size, channels),), (weight,))
    return Case("convolutions", name, program, (image, weight))


def kept_layer(channels: int, out: int, size: int, kernel: int, stride: int, batch: int) -> Case:
    """A layer of a ResNet, whose weight is kept."""
    name = f"{kernel}x{kernel} {channels} to {out} at {size}{', stride 2' if stride == 2 else ''}"
    image, weight = (batch, channels, size, size), (out, channels, kernel, kernel)
    name += f", batch {batch}"
    return conv(name, image, weight, stride, kernel // 2, is_kept=True)


PRODUCTS = [
    *[product(f"{n} x {n} x {n}", (n, n), (n, n)) for n in (256, 512, 768, 1000, 1024, 1536, 2048)],
    product("512, A transposed", (512, 512), (512, 512), lambda t, x, y: x.t() @ y),
    product("512, B transposed", (512, 512), (512, 512), lambda t, x, y: x @ y.t()),
    product("1024, A transposed", (1024, 1024), (1024, 1024), lambda t, x, y: x.t() @ y),
    product("1024, B transposed", (1024, 1024), (1024, 1024), lambda t, x, y: x @ y.t()),
    product("1024 x 8 x 1024", (1024, 1024), (1024, 8)),
    product("1024 x 16 x 1024", (1024, 1024), (1024, 16)),
    product("1024 x 32 x 1024", (1024, 1024), (1024, 32)),
    product("4 x 1024 x 1024", (4, 1024), (1024, 1024)),
    product("16 x 1024 x 1024", (16, 1024), (1024, 1024)),
    product("64 x 1024 x 1024", (64, 1024), (1024, 1024)),
    product("128 x 3072 x 768", (128, 768), (768, 3072)),
    product("50000 x 64 x 64", (50_000, 64), (64, 64)),
    product("64 of 64 x 64 x 64", (64, 64, 64), (64, 64, 64)),
    product("16 of 256 x 256 x 256", (16, 256, 256), (16, 256, 256)),
    product("8 of 128 x 128 x 64, B transposed", (8, 128, 64), (8, 128, 64),
            lambda t, x, y: x @ y.transpose(1, 2)),
    product("8192 x 8192 times a vector", (8192, 8192), (8192,)),
    *[linear(rows, n, k) for rows, n, k in (
        (1, 8192, 8192), (16, 1024, 1024), (64, 1024, 1024), (128, 768, 768), (128, 3072, 768),
        (128, 768, 3072), (512, 768, 768), (2048, 512, 512), (1024, 1024, 1024),
    )],
]  # fmt: skip

CONVOLUTIONS = [
    conv("3x3 64 to 64 at 56", (1, 64, 56, 56), (64, 64, 3, 3), padding=1),
    conv("3x3 64 to 64 at 56, batch 16", (16, 64, 56, 56), (64, 64, 3, 3), padding=1),
    conv("3x3 512 to 512 at 7", (1, 512, 7, 7), (512, 512, 3, 3), padding=1),
    conv("3x3 128 to 128 at 56, stride 2", (1, 128, 56, 56), (128, 128, 3, 3), 2, 1),
    conv("1x1 256 to 64 at 56", (1, 256, 56, 56), (64, 256, 1, 1)),
    conv("7x7 3 to 64 at 224, stride 2", (1, 3, 224, 224), (64, 3, 7, 7), 2, 3),
    conv("3x3 128 at 56, depthwise", (1, 128, 56, 56), (128, 1, 3, 3), padding=1, groups=128),
    conv("3x3 128 at 28, 8 groups", (1, 128, 28, 28), (128, 16, 3, 3), padding=1, groups=8),
    conv("3x3 64 to 64 at 56, dilated", (1, 64, 56, 56), (64, 64, 3, 3), padding=2, dilation=2),
    conv("5, 64 to 64 at 1024, batch 8", (8, 64, 1024), (64, 64, 5), padding=2),
    conv("3x3x3 16 to 32 at 16x32x32", (1, 16, 16, 32, 32), (32, 16, 3, 3, 3), padding=1),
    Case("convolutions", "transposed 4x4 64 to 32 at 28, stride 2",
         lambda t, x, w: t.nn.functional.conv_transpose2d(x, w, None, 2, 1),
         ((1, 64, 28, 28), (64, 32, 4, 4))),
    *[kept_layer(*layer, batch) for batch in (1, 16) for layer in (
        (3, 64, 224, 7, 2), (64, 64, 56, 3, 1), (64, 128, 56, 3, 2), (128, 128, 28, 3, 1),
        (256, 256, 14, 3, 1), (512, 512, 7, 3, 1), (64, 256, 56, 1, 1), (256, 64, 56, 1, 1),
        (256, 512, 56, 1, 2), (1024, 256, 14, 1, 1), (512, 2048, 7, 1, 1),
    )],
]  # fmt: skip

LONG, ROWS, SHORT, IMAGES = (10_000_000,), (10_000, 1000), (13_000, 768), (16, 64, 98, 98)
# What writes little has 20 million numbers, so that it is beyond the caches too.
LONGER, MORE_ROWS, MORE_IMAGES = (20_000_000,), (20_000, 1000), (32, 64, 98, 98)


def memory(name: str, program: Program, *shapes: Shape, **options: Any) -> Case:
    return Case("memory", name, program, shapes, **options)


MEMORY = [
    memory("copy", lambda t, x: x.clone(), LONG),
    memory("add", lambda t, x, y: x + y, LONG, LONG),
    memory("multiply-add-relu", lambda t, x, y: (x * y + x).relu(), LONG, LONG),
    memory("gelu", lambda t, x, y: t.nn.functional.gelu(x + y) * y, LONG, LONG),
    memory("gate", lambda t, x, y: x.sigmoid() * y.tanh() + x, LONG, LONG),
    memory("log-exp", lambda t, x, y: (x.exp() + 1).log() * y, LONG, LONG),
    memory("sine", lambda t, x, y: x.sin() * y.cos() + (x * x + 1).sqrt(), LONG, LONG),
    memory("where and clamp", lambda t, x, y: t.where(x > y, x, y * 2).clamp(-1, 1), LONG, LONG),
    memory("compare", lambda t, x, y: x > y, LONG, LONG),
    memory("to bf16", lambda t, x: x.bfloat16(), LONGER),
    memory("to float64", lambda t, x: x.double(), LONG),
    memory("sum", lambda t, x: x.sum(), LONGER),
    memory("squared error", lambda t, x, y: t.nn.functional.mse_loss(x, y), LONG, LONG),
    memory("sum of rows", lambda t, x: x.sum(1), MORE_ROWS),
    memory("sum of columns", lambda t, x: x.sum(0), MORE_ROWS),
    memory("largest of rows", lambda t, x: x.amax(1), MORE_ROWS),
    memory("largest of columns", lambda t, x: x.amax(0), MORE_ROWS),
    memory("place of the largest of rows", lambda t, x: x.argmax(1), MORE_ROWS),
    memory("variance of rows", lambda t, x: x.var(1), MORE_ROWS),
    memory("variance of columns", lambda t, x: x.var(0), MORE_ROWS),
    memory("cumulative sum of rows", lambda t, x: x.cumsum(1), ROWS),
    memory("cumulative sum of columns", lambda t, x: x.cumsum(0), ROWS),
    memory("softmax of rows", lambda t, x: x.softmax(1), ROWS),
    memory("softmax of columns", lambda t, x: x.softmax(0), ROWS),
    memory("log-softmax of rows", lambda t, x: x.log_softmax(1), ROWS),
    memory("cross entropy", lambda t, x, y: t.nn.functional.cross_entropy(x, y), MORE_ROWS,
           MORE_ROWS[:1], integers=((1, 1000),)),
    memory("layer norm", lambda t, x, w, b: t.nn.functional.layer_norm(x, (768,), w, b),
           SHORT, (768,), (768,)),
    memory("rms norm", lambda t, x, w: t.nn.functional.rms_norm(x, (768,), w, 1e-5),
           SHORT, (768,)),
    memory("batch norm", lambda t, x, w, b: t.nn.functional.batch_norm(
        x, None, None, w, b, training=True), IMAGES, (64,), (64,)),
    memory("group norm", lambda t, x, w, b: t.nn.functional.group_norm(x, 8, w, b),
           IMAGES, (64,), (64,)),
    memory("transpose", lambda t, x: x.t().contiguous(), (3200, 3200)),
    memory("transpose of 10000 x 1000", lambda t, x: x.t().contiguous(), ROWS),
    memory("channels last", lambda t, x: x.permute(0, 2, 3, 1).contiguous(), IMAGES),
    memory("concatenate rows", lambda t, x, y: t.cat([x, y]), (5000, 1000), (5000, 1000)),
    memory("concatenate columns", lambda t, x, y: t.cat([x, y], 1), (10_000, 500), (10_000, 500)),
    memory("flip", lambda t, x: x.flip(1), ROWS),
    memory("roll", lambda t, x: x.roll(3, 1), ROWS),
    memory("pad", lambda t, x: t.nn.functional.pad(x, (1, 1, 1, 1)), IMAGES),
    memory("rows of a table", lambda t, x, k: x[k], ROWS, ROWS[:1], integers=((1, 10_000),)),
    memory("largest of windows 2x2", lambda t, x: t.nn.functional.max_pool2d(x, 2), MORE_IMAGES),
    memory("add a column", lambda t, x, y: x + y, ROWS, (10_000, 1)),
    memory("outer product", lambda t, x, y: x * y, (10_000, 1), (2000,)),
]  # fmt: skip

CASES = [*PRODUCTS, *CONVOLUTIONS, *MEMORY]
