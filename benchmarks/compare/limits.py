"""The machine's limits, measured in the run, and what a workload asks of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .workload import Workload

#: Below this, what a workload reads and writes may stay in the caches: its bytes say nothing.
BEYOND_CACHES = 64 << 20
COPIED = 64 << 20
ROUNDS = 12
#: A step of training is a forward and twice its work for the derivative.
TRAINING = 3


def measured(threads: int) -> dict[str, float]:
    """Float32 operations a second by multiply-adds in registers, and bytes a second.

    The latter is the larger one of what copies move and of what a sum reads: a core reads faster
    than it writes, so a limit from copies alone can be passed.
    """
    from graphc.debug.machine import measure_limits

    flops = measure_limits().flops_per_s
    return {"flops_per_s": flops, "bytes_per_s": max(copying(threads), reading(threads))}


def clock_of(threads: int) -> Callable[[], float]:
    """That of the workloads: one thread's limits are not those of what others leave it."""
    return time.process_time if threads == 1 else time.perf_counter


def reading(threads: int) -> float:
    """Bytes a second that graphc's sum reads, with the threads that are set."""
    import graphc

    x = graphc.ones(2 * COPIED // 4)
    clock, best = clock_of(threads), float("inf")
    for _ in range(ROUNDS):
        began = clock()
        x.sum().item()
        best = min(best, clock() - began)
    return 2 * COPIED / best


def copying(threads: int) -> float:
    """Bytes read and written a second by numpy's copies of arrays that no cache holds."""
    import numpy as np

    sources = [np.ones(COPIED // 4, np.float32) for _ in range(threads)]
    targets = [np.zeros(COPIED // 4, np.float32) for _ in range(threads)]
    clock, best = clock_of(threads), float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            began = clock()
            list(pool.map(np.copyto, targets, sources))
            best = min(best, clock() - began)
    return 2 * COPIED * threads / best


def cost_of(torch: Any, workload: Workload) -> tuple[int, int]:
    """Operations of a workload's graph, and bytes of its inputs, weights and results.

    A multiply-add counts as two operations. Both are 0 where there is no graph to count.
    """
    from graphc.backends.base import core_graph
    from graphc.debug import cost

    tensors = [torch.tensor(array) for array in workload.inputs()]
    if workload.kind == "gradient":
        return 0, 0
    times = 1
    with torch.no_grad():
        function = workload.make(torch)
        if workload.kind == "training":
            training, times = function, TRAINING
            function = lambda *batch: training.loss(training.model, *batch)  # noqa: E731
        elif workload.kind == "onnx":
            assert workload.file is not None
            model = torch.onnx.load(workload.file())
            function = lambda *batch: model(*batch)  # noqa: E731
        graph = core_graph(torch.jit.trace(function, tuple(tensors)).graph)
    ends = {id(value): value for value in (*graph.params, *graph.results)}
    moved = sum([cost.value_bytes(value, {}) for value in ends.values()])
    return times * sum([cost.flops(node, {}) for node in graph.nodes]), times * moved


def least_seconds(flops: float, moved: float, limits: dict[str, float]) -> float:
    """The time that a workload takes at least on this machine."""
    arithmetic = flops / limits["flops_per_s"]
    return max(arithmetic, moved / limits["bytes_per_s"] if moved >= BEYOND_CACHES else 0.0)
