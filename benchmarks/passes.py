"""The time of the passes, in microseconds a node: the budget is 60 for all of them together.

    python -m benchmarks.passes

The graph is a training step's: transformer layers, forward and backward. The collector is frozen,
as during a compile. The backend's half is fusion, the loop level and the text of the kernels,
without LLVM, which is told apart.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

from graphc.backends.base import core_graph
from graphc.backends.llvm.compile import load, prepare
from graphc.ir.diff import structural_hash
from graphc.ir.graph import Graph
from graphc.ir.verify import verify
from graphc.passes.autodiff import vjp
from graphc.passes.clean import clean
from graphc.passes.partition import partition
from tests.passes.test_partition import gpt

ROUNDS = 3


class Clock:
    """The best CPU seconds of each named step."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}

    def __call__(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        start = time.thread_time()
        found = call(*args)
        took = time.thread_time() - start
        self.best[name] = min(took, self.best.get(name, took))
        return found


def one_round(graph: Graph, clock: Clock) -> Graph:
    clock("verify", verify, graph)
    forward = clock("clean", clean, graph)
    joint = clock("autodiff", vjp, forward)
    joint = clock("clean, joint", clean, joint)
    halves = clock("partition", partition, joint, len(graph.params), 1)
    for half in halves[:2]:
        clock("clean, halves", clean, half)
    core = clock("pipeline to CORE", core_graph, joint)
    clock("hash", structural_hash, core)
    compiler = clock("fuse, lower, emit", prepare, core)
    clock("LLVM, distinct kernels", load, compiler)
    return joint


def report(layers: int) -> None:
    graph, clock = gpt(layers, n=8, d=4), Clock()
    joint = graph
    for _ in range(ROUNDS):
        gc.collect()
        gc.freeze()
        gc.disable()
        joint = one_round(graph, clock)
        gc.enable()
        gc.unfreeze()
    nodes = len(joint.nodes)
    print(f"{nodes:,} nodes")
    passes = 0.0
    for name, seconds in clock.best.items():
        print(f"  {name:24s} {seconds / nodes * 1e6:6.1f} us a node")
        passes += 0.0 if name.startswith("LLVM") else seconds
    print(f"  {'all without LLVM':24s} {passes / nodes * 1e6:6.1f} us a node", flush=True)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    clean(vjp(gpt(1, n=8, d=4)))  # compiles the matchers of the rules
    for layers in (14, 74):
        report(layers)


if __name__ == "__main__":
    main()
