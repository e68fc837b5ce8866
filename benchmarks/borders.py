"""What the copies with a border cost that convolutions make of their input. On one thread.

    python -m benchmarks.borders [--networks resnet18 unet ...] [--batch 1 16] [--seconds 4]

A convolution with padding, channels last, copies a band of rows of its input, with zeros around it,
before it reads them (`contract/conv_last.py`; depthwise ones do without). Each network is traced
twice, once as it is and once with kernels that leave out the copy and read what lies there already:
its results are wrong, and its time is what no input that has its border already could fall below,
since these kernels read from the second cache what others would have to fetch. The share is of the
whole network's time, best against best, in turns. First with Winograd's algorithm, whose kernels
copy nothing, then without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import graphc
from graphc import config, set_num_threads
from graphc.backends.llvm.contract.conv_last import LastKernel

from .compare.workload import frozen
from .compare.workloads.inference import BOTH
from .interleave import interleaved

NETWORKS = ("resnet18", "resnet50", "unet", "mobilenet-v2")


@contextmanager
def without_copies() -> Iterator[None]:
    """Kernels that are written meanwhile read scratch memory as they find it."""

    def leave_out(kernel: LastKernel, low: Any, high: Any) -> None:
        kernel.source = kernel._scratch("source")

    copy, LastKernel._copy = LastKernel._copy, leave_out  # type: ignore[method-assign]
    try:
        yield
    finally:
        LastKernel._copy = copy  # type: ignore[method-assign]


def traced(name: str, batch: int) -> Callable[[], object]:
    """A call of the network, compiled, on images of its size."""
    shape, build = BOTH[name]
    images = graphc.randn(batch, *shape)
    network = graphc.jit.trace(frozen(graphc, build(graphc)), images)

    def call() -> object:
        with graphc.no_grad():
            return network(images)

    call()
    return call


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--batch", nargs="*", type=int, default=(1, 16))
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    set_num_threads(1)
    config.cache = False
    print(f"{'':24}{'winograd':>10}{'ms':>9}{'copies':>9}")
    for name in options.networks:
        for batch in options.batch:
            for winograd in (True, False):
                config.winograd = winograd
                whole = traced(name, batch)
                with without_copies():
                    other = traced(name, batch)
                pair = interleaved(other, whole, options.seconds)
                share = 1 - pair.first / pair.second
                print(
                    f"{name + ', batch ' + str(batch):24}{'yes' if winograd else 'no':>10}"
                    f"{pair.second * 1e3:9.2f}{share:9.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
