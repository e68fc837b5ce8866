"""First calls of networks, cold and with the disk caches, in CPU seconds.

    python -m benchmarks.first              all of them, then later calls of the ResNet-18
    python -m benchmarks.first cnn-step     some

Each first call runs in a process of its own that has imported graphc and made the network; its CPU
seconds (of all threads) count from there, tracing included. Cold: into an empty cache directory.
From the caches: another process with the same directory. Then the time of later calls, best of
some, on one thread.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.compare.workloads import language, training

ROUNDS = 3
#: Of a network that is made: its first call.
First = Callable[[], Any]


def resnet18(torch: Any) -> Any:
    """ResNet-18 for images of [batch, 3, 224, 224], 1,000 classes, in evaluation mode."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, channels_in: int, channels: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(channels)
            self.downsample = None
            if stride != 1 or channels_in != channels:
                self.downsample = nn.Sequential(
                    nn.Conv2d(channels_in, channels, 1, stride, bias=False),
                    nn.BatchNorm2d(channels),
                )

        def forward(self, x: Any) -> Any:
            around = x if self.downsample is None else self.downsample(x)
            y = self.bn1(self.conv1(x)).relu()
            return (self.bn2(self.conv2(y)) + around).relu()

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            blocks, channels_in = [], 64
            for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
                blocks += [Block(channels_in, channels, stride), Block(channels, channels, 1)]
                channels_in = channels
            self.blocks = nn.Sequential(*blocks)
            self.fc = nn.Linear(512, 1000)

        def forward(self, images: Any) -> Any:
            x = self.bn1(self.conv1(images)).relu()
            x = nn.functional.max_pool2d(x, 3, 2, 1)
            return self.fc(self.blocks(x).mean((2, 3)))

    torch.manual_seed(0)
    return ResNet().eval()


def forward(torch: Any) -> First:
    network, images = resnet18(torch), torch.randn(1, 3, 224, 224)
    return lambda: network(images).tolist()


def traced(torch: Any) -> First:
    network, images = resnet18(torch), torch.randn(1, 3, 224, 224)
    return lambda: torch.jit.trace(network, (images,))(images).tolist()


def traced_gpt(torch: Any) -> First:
    """Four layers of 768 numbers and 12 heads, 128 tokens."""
    network, x = language.blocks(torch, 768, 12, 4).eval(), torch.randn(1, 128, 768)
    return lambda: torch.jit.trace(network, (x,))(x).tolist()


def cnn_step(torch: Any) -> First:
    """A training step of the small CNN of `benchmarks.compare`, 32 images, SGD with momentum."""
    make, _ = training.NETWORKS["small-cnn"]
    network, images = training.small_cnn(torch), [torch.tensor(array) for array in make()]
    update = training.sgd(torch, network.parameters())

    def step() -> float:
        loss = torch.nn.functional.cross_entropy(network(images[0]), images[1])
        loss.backward()
        update.step()
        return loss.item()

    return step


#: Each with whether it needs gradients.
CASES: dict[str, tuple[Callable[[Any], First], bool]] = {
    "resnet18": (forward, False),
    "resnet18-traced": (traced, False),
    "gpt-traced": (traced_gpt, False),
    "cnn-step": (cnn_step, True),
}


def first_call(name: str) -> None:
    """Prints the CPU seconds of the first call, and how many objects were compiled."""
    import graphc
    from graphc.backends.llvm import jit

    make, with_gradients = CASES[name]
    call = make(graphc)
    with graphc.set_grad_enabled(with_gradients):
        start = time.process_time()
        call()
        print(time.process_time() - start, jit.stats.compiled)


def in_process(name: str, cache: str) -> tuple[float, int]:
    command = [sys.executable, "-m", "benchmarks.first", "--first-call", name]
    environment = {**os.environ, "GRAPHC_CACHE_DIR": cache}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    seconds, compiled = found.stdout.split()
    return float(seconds), int(compiled)


def later_calls() -> None:
    import graphc

    from .interleave import against_torch, peer

    torch = peer()
    graphc.set_num_threads(1)
    torch.set_num_threads(1)
    calls = []
    for module in (graphc, torch):
        network, images = resnet18(module), module.randn(1, 3, 224, 224)

        def call(module: Any = module, network: Any = network, images: Any = images) -> None:
            with module.no_grad():
                network(images).tolist()

        calls.append(call)
    against_torch("ResNet-18 forward, batch 1, eager", *calls, seconds=8)


def measure(name: str) -> None:
    cold, warm = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(in_process(name, cache))
            warm.append(in_process(name, cache))
    for label, found in (("cold", cold), ("from the disk caches", warm)):
        seconds, compiled = min(found)
        what = f"{name}, first call {label}"
        print(f"{what:48s} {seconds:5.2f} CPU-seconds   {compiled} objects compiled")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--first-call", metavar="NAME", help="what the processes run")
    options = parser.parse_args()
    if options.first_call:
        first_call(options.first_call)
        return
    for name in options.names or CASES:
        if name not in CASES:
            parser.error(f"no network {name!r}; there are {', '.join(CASES)}")
        measure(name)
    if not options.names or "resnet18" in options.names:
        later_calls()


if __name__ == "__main__":
    main()
