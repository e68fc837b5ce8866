"""Why a compiled graph takes the time it takes: kernels, refusals, source lines, limits."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import cost
from .compiled import Compiled, KernelGroup
from .draw import short_loc
from .html import Table, source_lines
from .machine import Limits, measure_limits
from .picture import shorten


@dataclass(frozen=True, slots=True)
class KernelCost:
    """A group of the plan: bytes through memory, operations, and the least time for them.

    unit: what multiplies its matrices, where that is not the arithmetic of float32.
    """

    group: KernelGroup
    ops: int
    moved: int
    computed: int
    floor_s: float
    bound: str
    unit: str = ""

    @property
    def kind(self) -> str:
        kind = f"{self.group.kind}, in place" if self.group.in_place else self.group.kind
        return f"{kind} ({self.unit})" if self.unit else kind


@dataclass(slots=True)
class LineCost:
    """A source line: its nodes, the kernels that compute them, operations, bytes not fused away."""

    nodes: int = 0
    kernels: dict[str, None] = field(default_factory=dict)
    computed: int = 0
    unfused: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """Edges that go through memory for one reason at one line."""

    op: str
    reason: str
    loc: str
    count: int
    moved: int


@dataclass(slots=True)
class Explanation:
    compiled: Compiled
    sizes: dict[str, int]
    limits: Limits
    kernels: list[KernelCost]
    refused: list[Refused]
    lines: dict[str, LineCost]

    @property
    def floor_s(self) -> float:
        return sum([kernel.floor_s for kernel in self.kernels])

    @property
    def moved(self) -> int:
        return sum([kernel.moved for kernel in self.kernels])

    @property
    def computed(self) -> int:
        return sum([kernel.computed for kernel in self.kernels])


def explain(compiled: Compiled, dims: Any = None) -> Explanation:
    """Costs of kernels and lines, with symbolic dims at their hints."""
    sizes = cost.example_sizes(compiled.source, dims or {})
    limits = measure_limits()
    unit = compiled.target.bf16_unit
    kernels = [kernel_cost(group, sizes, limits, unit) for group in compiled.groups]
    return Explanation(
        compiled, sizes, limits, kernels, _refusals(compiled, sizes), _lines(compiled, sizes)
    )


def kernel_cost(
    group: KernelGroup, sizes: cost.Sizes, limits: Limits, bf16_unit: tuple[str, int]
) -> KernelCost:
    touched = [] if group.assembled else [*group.reads, *group.writes]
    moved = sum([cost.value_bytes(value, sizes) for value in touched])
    computed = sum([cost.flops(node, sizes) for node in group.nodes])
    ops = sum([not is_constant(node) for node in group.nodes])
    unit, rate = bf16_unit if any([_is_bf16_product(node) for node in group.nodes]) else ("", 1)
    floor = limits.floor_s(moved, computed / rate)
    return KernelCost(
        group, ops, moved, computed, floor, limits.bound(moved, computed / rate), unit
    )


def _is_bf16_product(node: Any) -> bool:
    return node.op.name in ("dot", "dot_pairs") and node.outputs[0].type.dtype.name == "bf16"


def is_constant(node: Any) -> bool:
    return not node.inputs and node.op.pure


def _refusals(compiled: Compiled, sizes: cost.Sizes) -> list[Refused]:
    """Refused edges, by what they cost."""
    found: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for refusal in compiled.refusals:
        node = refusal.node
        found[node.op.name, refusal.reason, node.loc].append(cost.at(refusal.size, sizes))
    made = [Refused(*key, len(moved), sum(moved)) for key, moved in found.items()]
    return sorted(made, key=lambda refused: -refused.moved)


def _lines(compiled: Compiled, sizes: cost.Sizes) -> dict[str, LineCost]:
    """By source line, in the order of the program. A node of several lines counts at each."""
    found: dict[str, LineCost] = defaultdict(LineCost)
    kernels = compiled.kernels_of()
    for node in compiled.graph.nodes:
        if is_constant(node):
            continue
        for line in source_lines(node.loc) or ["(no line)"]:
            entry = found[line]
            entry.nodes += 1
            entry.computed += cost.flops(node, sizes)
            for group in kernels.get(node, ()):
                entry.kernels[group.name] = None
    for refusal in compiled.refusals:
        for line in source_lines(refusal.node.loc) or ["(no line)"]:
            found[line].unfused += cost.at(refusal.size, sizes)
    return dict(found)


def measure(compiled: Compiled, arrays: Sequence[Any]) -> float:
    """Seconds of one run on these inputs: the best of several in at most a second."""
    times: list[float] = []
    until = time.perf_counter() + 0.5
    while len(times) < 3 or (time.perf_counter() < until and len(times) < 200):
        began = time.perf_counter()
        compiled.executable(*arrays)
        times.append(time.perf_counter() - began)
        if sum(times) > 2.0:
            break
    return min(times)


# --- tables --------------------------------------------------------------------------------------

KERNEL_HEAD = ("kernel", "kind", "ops", "memory", "work", "limit", "bound by", "lines")


def kernel_table(compiled: Compiled, dims: Any = None) -> Table:
    """The kernels as a table; the first cells are the titles of a picture's frames."""
    return Table(KERNEL_HEAD, [kernel_row(kernel) for kernel in explain(compiled, dims).kernels])


def kernel_row(kernel: KernelCost) -> list[str]:
    group = kernel.group
    lines = [short_loc(loc) for loc in group.locs]
    return [
        group.name,
        kernel.kind,
        str(kernel.ops),
        bytes_text(kernel.moved),
        flops_text(kernel.computed),
        time_text(kernel.floor_s),
        kernel.bound,
        shorten(", ".join(lines), 60),
    ]


TUNED_HEAD = ("kernel", "kind", "tried", "default", "best", "gain", "schedule", "lines")


def tuned_row(kernel: KernelCost) -> list[str]:
    """What autotuning found for a kernel that it had a choice for."""
    group, tuned = kernel.group, kernel.group.tuned
    return [
        group.name,
        group.kind,
        str(tuned.tried),
        time_text(tuned.default_s),
        time_text(tuned.best_s),
        f"{tuned.gain:.2f}",
        tuned.schedule or "the default: nothing is faster",
        shorten(", ".join([short_loc(loc) for loc in group.locs]), 60),
    ]


def bytes_text(count: float) -> str:
    return _scaled(count, ("B", "kB", "MB", "GB"))


def flops_text(count: float) -> str:
    return _scaled(count, ("FLOP", "kFLOP", "MFLOP", "GFLOP"))


def time_text(duration: float) -> str:
    return _scaled(duration * 1e9, ("ns", "µs", "ms", "s"))


def _scaled(value: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if value < 999.5:
            return f"{value:.3g} {unit}" if value >= 1 or not value else f"{value:.2g} {unit}"
        value /= 1e3
    return f"{value:.3g} {units[-1]}"
