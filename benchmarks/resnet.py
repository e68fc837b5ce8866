"""The first call of a ResNet-18 forward, cold and with the disk caches, in CPU seconds.

    python -m benchmarks.resnet

Each first call runs in a process of its own that has imported graphc and made the network; its CPU
seconds (of all threads) count from there. Cold: into an empty cache directory. Warm: another
process with the same directory. Then the time of later calls, best of some, on one thread.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

ROUNDS = 3


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


def first_call() -> None:
    """Prints the CPU seconds of the first call, and how many objects were compiled."""
    import graphc
    from graphc.backends.llvm import jit

    network, images = resnet18(graphc), graphc.randn(1, 3, 224, 224)
    with graphc.no_grad():
        start = time.process_time()
        network(images).tolist()
        print(time.process_time() - start, jit.stats.compiled)


def in_process(cache: str) -> tuple[float, int]:
    command = [sys.executable, "-m", "benchmarks.resnet", "--first-call"]
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--first-call", action="store_true", help="what the processes run")
    if parser.parse_args().first_call:
        first_call()
        return
    cold, warm = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(in_process(cache))
            warm.append(in_process(cache))
    for label, found in (("cold", cold), ("from the disk caches", warm)):
        seconds, compiled = min(found)
        print(f"first call {label:22s} {seconds:5.2f} CPU-seconds   {compiled} objects compiled")
    later_calls()


if __name__ == "__main__":
    main()
