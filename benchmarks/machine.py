"""graphc against the machine: which part of its limits products, convolutions and memory reach.

    python -m benchmarks.machine [products] [convolutions] [memory] [--seconds 0.5]

One thread, pinned to one CPU. Each workload, compiled as eager mode does or with kept weights as a
trace, takes turns with what limits it, in CPU time of the thread, and the best runs are compared.
Limits are multiply-adds in registers, and for what is beyond the caches a copy of 64 MB or, where
next to nothing is written, reading 128 MB: loops of vectors, as simple as can be. The limit that
asks for more time counts. The goal is 90 % of the multiply-adds for products and 85 % for
convolutions, which are direct ones here, and 85 % of memory.

The operations of a convolution are those of taps that see the image: a border of zeros needs none.
The bytes of a workload are those of its inputs, each read once, and of its results, each written
once. An ordinary store to a line that no cache holds reads it as well; a streaming store does not.
What that reads is not counted, so there are two copies to compare with: "copying" is the one with
ordinary stores, and the share in brackets is that of the one with streaming stores. "in caches" is
what the same program moves on a hundredth of the numbers: where that is no more, it is arithmetic
or its loop that takes the time.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

import graphc as torch
from graphc.backends.base import build, core_graph
from graphc.backends.llvm import jit
from graphc.backends.llvm.memory import heap
from graphc.backends.llvm.target import host_target
from graphc.debug import cost
from graphc.debug.machine import multiply_adds
from graphc.frontends.execute import buffer_of
from graphc.ir.graph import Graph, Node, Value

from .interleave import interleaved, text
from .machine_cases import CASES, Case

#: The goal by what limits: for convolutions another one.
GOALS = {"multiply-adds": 0.90, "copying": 0.85, "reading": 0.85}
OF_CONVOLUTIONS = 0.85
#: Below that many bytes a workload may stay in the caches, and memory does not limit it.
BEYOND_CACHES = 64 << 20
COPIED = 64 << 20
STEPS = 50_000  # of multiply-adds, in one turn: some 0.3 ms
#: What writes less than this part of its bytes is compared with reading.
READS = 0.02


@dataclass(frozen=True)
class Limit:
    """A call, and the operations or bytes of one; `rate` is what was measured ahead."""

    name: str
    call: Callable[[], object]
    units: int
    rate: float


@dataclass(frozen=True)
class Found:
    """A case: seconds of its best call, what it computes and moves, and the share of its limit.

    limit: the name; "caches" where little is computed, but caches hold what is moved: no limit is
    measured for that, and the share is that of the multiply-adds. of_streaming: the share of the
    copy with streaming stores; in_caches: bytes a second of the same on few numbers.
    """

    case: Case
    seconds: float
    operations: int
    moved: int
    limit: str
    share: float
    of_streaming: float = 0.0
    in_caches: float = 0.0

    @property
    def goal(self) -> float:
        """The share that is wanted; 0 where no limit of the machine is measured."""
        if self.limit == "multiply-adds" and self.case.group == "convolutions":
            return OF_CONVOLUTIONS
        return GOALS.get(self.limit, 0.0)

    @property
    def is_under(self) -> bool:
        return round(self.share, 2) < self.goal


def measured_limits() -> dict[str, Limit]:
    """By name."""
    multiply, operations = multiply_adds()
    source, target = np.ones(2 * COPIED // 4, np.float32), np.zeros(COPIED // 4, np.float32)
    addresses = target.ctypes.data, source.ctypes.data
    loops = {kind: loop(kind) for kind in ("copying", "streaming", "reading")}
    lines = COPIED // 64
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "multiply-adds": (lambda: multiply(STEPS), operations * STEPS),
        "copying": (lambda: loops["copying"](*addresses, lines), 2 * COPIED),
        "streaming": (lambda: loops["streaming"](*addresses, lines), 2 * COPIED),
        "reading": (lambda: loops["reading"](*addresses, 2 * lines), 2 * COPIED),
        "numpy's copy": (lambda: np.copyto(target, source[: COPIED // 4]), 2 * COPIED),
    }
    return {name: Limit(name, call, n, n / best_of(call)) for name, (call, n) in calls.items()}


def best_of(call: Callable[[], object], rounds: int = 20) -> float:
    times = []
    for _ in range(rounds):
        began = time.thread_time()
        call()
        times.append(time.thread_time() - began)
    return min(times)


def loop(kind: str) -> Callable[[int, int, int], None]:
    """f(target, source, lines): copies lines of 64 bytes, or adds them up, four at a time."""
    body, carried = [], []
    for k in range(4):
        body += [f"%at{k} = add i64 %i, {k}",
                 f"%from{k} = getelementptr <16 x float>, ptr %s, i64 %at{k}",
                 f"%line{k} = load <16 x float>, ptr %from{k}, align 16"]  # fmt: skip
        if kind == "reading":
            carried.append(
                f"%a{k} = phi <16 x float> [ zeroinitializer, %entry ], [ %b{k}, %loop ]"
            )
            body.append(f"%b{k} = fadd <16 x float> %a{k}, %line{k}")
        else:
            hint = ", !nontemporal !0" if kind == "streaming" else ""
            body += [f"%to{k} = getelementptr <16 x float>, ptr %t, i64 %at{k}",
                     f"store <16 x float> %line{k}, ptr %to{k}, align 16{hint}"]  # fmt: skip
    sums = [
        f"  %sum{k} = getelementptr <16 x float>, ptr %t, i64 {k}\n"
        f"  store <16 x float> %b{k}, ptr %sum{k}, align 16"
        for k in range(4)
    ]
    end = "\n".join(sums) if kind == "reading" else ""
    lines = "\n".join([f"  {line}" for line in (*carried, *body)])
    text = f"""
define void @f(ptr %t, ptr %s, i64 %n) {{
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{lines}
  %next = add i64 %i, 4
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end
end:
{end}
  ret void
}}
!0 = !{{i32 1}}
"""
    loaded = jit.load(text, ["f"], target=host_target())
    loaded.keep()
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(loaded["f"])


def measure(case: Case, limits: dict[str, Limit], seconds: float) -> Found:
    """Runs one case in turns with its limit."""
    call, graph = prepared(case)
    operations = sum([operations_of(node) for node in graph.nodes])
    read, written = bytes_of(graph.params), bytes_of(graph.results)
    limit, held = limit_of(case, operations, read, written, limits)
    count = max(1, int(1e-3 / best_of(call, 3)))  # a turn is not shorter than a clock can time

    def turn() -> None:
        for _ in range(count):
            call()

    pair = interleaved(turn, limit.call, seconds)
    best = pair.first / count
    units = operations if limit.name == "multiply-adds" else read + written
    share = units / best / max(limit.rate, limit.units / pair.second)
    name = "caches" if held else limit.name
    streaming = share * limit.rate / limits["streaming"].rate if name == "copying" else 0.0
    small = moved_in_caches(case) if case.group == "memory" else 0.0
    return Found(case, best, operations, read + written, name, share, streaming, small)


def bytes_of(values: Sequence[Value]) -> int:
    return sum([cost.value_bytes(value, {}) for value in values])


def moved_in_caches(case: Case) -> float:
    """Bytes a second on few numbers."""
    call, graph = prepared(case.in_caches())
    count = max(1, int(1e-3 / best_of(call, 5)))

    def turn() -> None:
        for _ in range(count):
            call()

    return count * bytes_of([*graph.params, *graph.results]) / best_of(turn)


def operations_of(node: Node) -> int:
    """Of its graph's sizes; a multiply-add counts as two, a tap on the border as none."""
    every = cost.flops(node, {})
    if node.op.name not in ("conv", "conv_grad_input"):
        return every
    image, places = node.inputs[0].type.shape[2:], node.outputs[0].type.shape[2:]
    if node.op.name == "conv_grad_input":
        image, places = places, image
    seen, taps = 1, 1
    steps = zip(node.attrs["stride"], node.attrs["padding"], node.attrs["dilation"])
    for size, count, kernel, (stride, (before, _), dilation) in zip(
        image, places, node.inputs[1].type.shape[2:], steps
    ):
        at = [o * stride + t * dilation - before for o in range(count) for t in range(kernel)]
        seen *= sum([0 <= place < size for place in at])
        taps *= len(at)
    return every * seen // taps


def limit_of(
    case: Case, operations: int, read: int, written: int, limits: dict[str, Limit]
) -> tuple[Limit, bool]:
    """The limit, and whether it is memory's but the caches hold what is moved."""
    arithmetic, memory = limits["multiply-adds"], limits["copying"]
    moved = read + written
    if case.group != "memory" and operations / arithmetic.rate >= moved / memory.rate:
        return arithmetic, False
    if moved < BEYOND_CACHES:
        return arithmetic, True
    return limits["reading"] if written < READS * moved else memory, False


def prepared(case: Case) -> tuple[Callable[[], object], Graph]:
    """A call, and the graph of it. With kept weights it is that of a traced function, else that of
    what eager mode compiles."""
    inputs, kept = case.inputs(), [torch.tensor(array) for array in case.weights()]
    tensors = [torch.tensor(array) for array in inputs]
    with torch.no_grad():
        whole = torch.jit.trace(
            lambda *every: case.program(torch, *every), (*tensors, *kept), check_trace=False
        )
        if not case.kept:
            return executed(whole.graph, inputs), core_graph(whole.graph)
        traced = torch.jit.trace(
            lambda *given: case.program(torch, *given, *kept), tuple(tensors), check_trace=False
        )

    def call() -> None:
        with torch.no_grad():
            traced(*tensors)

    for _ in range(3):
        call()
    return call, core_graph(whole.graph)


def executed(graph: Graph, inputs: Sequence[np.ndarray]) -> Callable[[], object]:
    """Runs the graph's code on copies of the inputs, with results where they were before."""
    code = build(graph)
    given = [buffer_of(array) for array in inputs]
    made = [heap.alloc(cost.value_bytes(value, {})) for value in graph.results]
    addresses = [[buffer.address for buffer in buffers] for buffers in (given, made)]

    def call(keep: object = (given, made)) -> None:
        code.run(*addresses)

    return call


def line(found: Found) -> str:
    case, rate = found.case, found.operations / found.seconds / 1e9
    speed = f"{rate:7.1f} GFLOP/s" if found.limit in ("multiply-adds", "caches") else (
        f"{found.moved / found.seconds / 1e9:7.1f} GB/s   "
    )  # fmt: skip
    goal = f"{found.goal:.2f}" if found.goal else "   -"
    small = f"   in caches {found.in_caches / 1e9:.0f} GB/s" if found.in_caches else ""
    streaming = f"({found.of_streaming:.2f})" if found.of_streaming else ""
    return (
        f"{case.group + '/' + case.name:56} {text(found.seconds)}  {speed}  {found.share:5.2f} "
        f"{streaming:6} of {found.limit:14} {goal}{' <' if found.is_under else ''}{small}"
    )


def main(given: Sequence[str]) -> int:
    groups = list(dict.fromkeys([case.group for case in CASES]))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.machine")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(groups)}")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each workload")
    options = parser.parse_args(given)
    if wrong := set(options.groups).difference(groups):
        parser.error(f"no group {', '.join(sorted(wrong))}; there are {', '.join(groups)}")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    torch.config.winograd = False
    limits = measured_limits()
    for limit in limits.values():
        unit = "GFLOP/s" if limit.name == "multiply-adds" else "GB/s"
        print(f"{limit.name}: {limit.rate / 1e9:.1f} {unit}")
    every = []
    for case in CASES:
        if case.group in (options.groups or groups):
            every.append(measure(case, limits, options.seconds))
            print(line(every[-1]), flush=True)
    under = [found for found in every if found.is_under]
    print(f"\n{len(under)} of {len(every)} workloads are under their goals, the furthest first:")
    for found in sorted(under, key=lambda found: found.share / found.goal):
        print(line(found))
    writing = [found for found in every if found.of_streaming]
    short = sum([found.of_streaming < GOALS["copying"] for found in writing])
    print(f"against a copy with streaming stores: {short} of {len(writing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
