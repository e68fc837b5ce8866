"""Networks on images, as users of torch write them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any


def lenet(torch: Any) -> Any:
    """LeNet-5 with ReLU, for [batch, 1, 28, 28]."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def convolved(nn: Any, a: int, b: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Any]:
    """A convolution without bias that keeps sizes but for its stride, and batch norm."""
    conv = nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(b)]


def residual(torch: Any) -> Any:
    """The class of a residual block: relu(body(x) + shortcut(x))."""

    class Residual(torch.nn.Module):
        def __init__(self, body: Sequence[Any], shortcut: Sequence[Any]) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(*body)
            self.shortcut = torch.nn.Sequential(*shortcut)

        def forward(self, x: Any) -> Any:
            return (self.body(x) + self.shortcut(x)).relu()

    return Residual


def resnet(torch: Any, counts: Sequence[int], bottleneck: bool, classes: int = 1000,
           small: bool = False, groups: int = 1) -> Any:  # fmt: skip
    """A ResNet; `small` is the stem for images of 32 x 32. With groups a ResNeXt, whose 3 x 3
    convolutions have twice the channels."""
    nn, block = torch.nn, residual(torch)
    wider = 4 if bottleneck else 1
    layers = [*convolved(nn, 3, 64, 3 if small else 7, 1 if small else 2), nn.ReLU()]
    if not small:
        layers.append(nn.MaxPool2d(3, 2, 1))
    a = 64
    for stage, count in enumerate(counts):
        c = 64 << stage
        for k in range(count):
            stride = 2 if stage and not k else 1
            if bottleneck:
                inner = c if groups == 1 else 2 * c
                body = [
                    *convolved(nn, a, inner, 1), nn.ReLU(),
                    *convolved(nn, inner, inner, 3, stride, groups), nn.ReLU(),
                    *convolved(nn, inner, 4 * c, 1),
                ]  # fmt: skip
            else:
                body = [*convolved(nn, a, c, 3, stride), nn.ReLU(), *convolved(nn, c, c, 3)]
            changed = stride != 1 or a != wider * c
            shortcut = convolved(nn, a, wider * c, 1, stride) if changed else []
            layers.append(block(body, shortcut))
            a = wider * c
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(a, classes))


def mobilenet_v2(torch: Any) -> Any:
    """MobileNetV2 for [batch, 3, 224, 224]."""
    nn = torch.nn

    class Inverted(nn.Module):
        def __init__(self, a: int, b: int, stride: int, wider: int) -> None:
            super().__init__()
            inner = a * wider
            body = [*convolved(nn, a, inner, 1), nn.ReLU6()] if wider > 1 else []
            body += [*convolved(nn, inner, inner, 3, stride, inner), nn.ReLU6()]
            self.body = nn.Sequential(*body, *convolved(nn, inner, b, 1))
            self.adds = stride == 1 and a == b

        def forward(self, x: Any) -> Any:
            return x + self.body(x) if self.adds else self.body(x)

    layers, a = [*convolved(nn, 3, 32, 3, 2), nn.ReLU6()], 32
    plan = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    )  # fmt: skip
    for wider, b, count, stride in plan:
        for k in range(count):
            layers.append(Inverted(a, b, stride if k == 0 else 1, wider))
            a = b
    layers += [*convolved(nn, a, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(1280, 1000))


def unet(torch: Any, base: int = 32) -> Any:
    """A U-Net of four levels, for [batch, 3, 128, 128]."""
    nn = torch.nn

    def double(a: int, b: int) -> Any:
        first, second = convolved(nn, a, b, 3), convolved(nn, b, b, 3)
        return nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU())

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = [base << k for k in range(4)]
            self.down = nn.ModuleList(double(a, b) for a, b in zip([3, *sizes], sizes))
            self.up = nn.ModuleList(
                nn.ConvTranspose2d(b, a, 2, 2) for a, b in zip(sizes[-2::-1], sizes[:0:-1])
            )
            self.join = nn.ModuleList(double(2 * a, a) for a in sizes[-2::-1])
            self.head = nn.Conv2d(base, 2, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for k, block in enumerate(self.down):
                x = block(x if k == 0 else nn.functional.max_pool2d(x, 2))
                kept.append(x)
            kept.pop()
            for up, join in zip(self.up, self.join):
                x = join(torch.cat([kept.pop(), up(x)], 1))
            return self.head(x)

    return UNet()


def conv_vae(torch: Any) -> Any:
    """The encoder's mean, decoded: [batch, 3, 64, 64] to the same."""
    nn = torch.nn
    sizes = (3, 32, 64, 128, 256)
    encoder, decoder = [], []
    for a, b in itertools.pairwise(sizes):
        encoder += [nn.Conv2d(a, b, 4, 2, 1), nn.ReLU()]
    for b, a in zip(sizes[:0:-1], sizes[-2::-1]):
        decoder += [nn.ConvTranspose2d(b, a, 4, 2, 1), nn.ReLU()]
    decoder[-1] = nn.Sigmoid()

    class VAE(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(*encoder, nn.Flatten())
            self.mean, self.spread = nn.Linear(4096, 128), nn.Linear(4096, 128)
            self.widen = nn.Linear(128, 4096)
            self.decoder = nn.Sequential(*decoder)

        def forward(self, x: Any) -> Any:
            inner = self.encoder(x)
            mean, spread = self.mean(inner), self.spread(inner)
            return self.decoder(self.widen(mean).view(-1, 256, 4, 4)), mean, spread

    return VAE()
