"""Correlations in groups of few channels, channels last: a vector holds the results of several.

For each channel of a group one shuffle spreads the source's channels over the lanes of their
groups, and serves all taps of a row that read the position. So the channels of a sum come
outermost, then the taps: the order of `planes_direct`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphc.backends.llvm.contract.conv_last import LastKernel, LastTiles
from graphc.backends.llvm.contract.conv_problem import ConvProblem, forward
from graphc.backends.llvm.contract.conv_schedule import ConvSchedule, bands_of
from graphc.backends.llvm.contract.conv_tile import TAPS
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.epilogue import Epilogue
from graphc.backends.llvm.contract.kernel import Kernel, Subroutine
from graphc.backends.llvm.contract.packing import shuffle
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

#: Positions of a tile at most, of 32 registers.
POSITIONS = 16


def groups_together(problem: ConvProblem, target: Target) -> int | None:
    """Groups whose results share a vector; None where there is no kernel: half of the lanes would
    be idle, or the channels that they read are more than two vectors."""
    outputs, inputs = (n // problem.groups for n in (problem.out_channels, problem.in_channels))
    lanes = target.lanes(element(problem.dtype).bits)
    if problem.groups == 1 or not 0 < outputs < lanes:
        return None
    together = max([n for n in range(1, lanes // outputs + 1) if problem.groups % n == 0])
    if 2 * together * outputs <= lanes or (together > 1 and together * inputs > 2 * lanes):
        return None
    return together


def groups_last(
    problem: ConvProblem, target: Target, *, epilogue: Epilogue | None = None
) -> Kernel:
    """A convolution with groups of few channels; f32 or f64. Operands: x [batch, *size, channels],
    w [panel, channel of a group, *kernel, width], a panel being the results of `groups_together`,
    out like x, and the epilogue's, as for `conv_last`."""
    together = groups_together(problem, target)
    assert together is not None, f"no kernel for {problem}"
    problem = problem.over_positions()
    c, stored = forward(replace(problem, groups=problem.groups // together)), element(problem.dtype)
    height, width = max(1, c.target[1]), max(1, c.target[2])
    bands = bands_of(c, height, stored.bytes)
    most = max(1, POSITIONS * target.registers // 32)
    columns = max(range(1, min(most, width) + 1), key=lambda n: _fit(n, width))
    rows = max(range(1, min(most // columns, height // bands) + 1), key=lambda n: _fit(n, height))
    schedule = ConvSchedule(rows, columns, 1, bands, by_channels=False)
    kernel = _GroupsKernel(c, stored, problem.batch, target, schedule, epilogue, together=together)
    return kernel.kernel("groups_last")


def _fit(part: int, whole: int) -> tuple[float, int]:
    """The part of tiles that is no repetition; then the larger ones."""
    return whole / (-(-whole // part) * part), part


@dataclass(frozen=True, slots=True)
class _GroupTiles(LastTiles):
    """
    together  groups of a vector
    """

    together: int = 1

    @property
    def taps(self) -> dict[str, int | None]:
        return dict(zip(TAPS, self.layout.correlation.kernel))

    def totals(self, routine: Subroutine, vector: Vector, vectors: int) -> list[str]:
        """The sums, position by position; each a chain over channels, then taps."""
        c, emitter = self.layout.correlation, vector.emitter
        inputs, taps = c.source_channels // self.together, c.kernel[2]
        line = taps * c.target_channels  # of weights
        steps = [
            step * size for step, size in zip(c.tap_step, (self.layout.plane, self.layout.row))
        ]

        def channel(number: Index, sums: Sequence[str]) -> Sequence[str]:
            rows = emitter.mul(number, c.kernel[0] * c.kernel[1] * line)
            weights = vector.address("%b", rows)

            def plane(d: Index, planes: Sequence[str]) -> Sequence[str]:
                here = vector.address("%a", emitter.mul(d, steps[0]))
                start = vector.address(weights, emitter.mul(d, c.kernel[1] * line))

                def row(h: Index, before: Sequence[str]) -> Sequence[str]:
                    a = vector.address(here, emitter.mul(h, steps[1]))
                    return self._row(
                        vector, number, (a, vector.address(start, emitter.mul(h, line))), before
                    )

                return emitter.loop(0, c.kernel[1], 1, row, carried(planes))

            return emitter.loop(0, c.kernel[0], 1, plane, carried(sums))

        def carried(values: Sequence[str]) -> list[tuple[str, str]]:
            return [(vector.type, value) for value in values]

        for place in self.places:
            emitter.prefetch(vector.address("%c", place * self.out_pixel), write=True)
        sums: Sequence[str] = [vector.zero] * len(self.places)
        if self.together == 1:
            return list(emitter.loop(0, inputs, 1, channel, carried(sums)))
        for number in range(inputs):
            sums = channel(number, sums)
        return list(sums)

    def _row(
        self, vector: Vector, number: Index, pointers: tuple[str, str], sums: Sequence[str]
    ) -> list[str]:
        """The taps of one row of the kernel, for one channel of each group: position of the source
        by position, in whose order the taps of a sum come."""
        c, (a, b), result = self.layout.correlation, pointers, list(sums)
        mask = vector.first(c.target_channels)
        weights = [
            vector.load(vector.address(b, tap * c.target_channels), mask)
            for tap in range(c.kernel[2])
        ]
        reads: dict[int, list[tuple[int, str]]] = {}
        for place, (y, x) in enumerate(self.positions):
            for tap, weight in enumerate(weights):
                at = (x * c.source_step[2] + tap * c.tap_step[2]) * self.layout.pixel
                at += y * c.source_step[1] * self.layout.row
                reads.setdefault(at, []).append((place, weight))
        for at in sorted(reads):
            value = self._spread(vector, number, vector.address(a, at))
            for place, weight in reads[at]:
                result[place] = vector.multiply_add(value, weight, result[place])
        return result

    def _spread(self, vector: Vector, number: Index, pointer: str) -> str:
        """Channel `number` of each group, in the lanes of the group's results."""
        c, lanes = self.layout.correlation, vector.lanes
        if self.together == 1:
            return vector.splat(vector.load_scalar(vector.address(pointer, number)))
        assert isinstance(number, int)
        inputs = c.source_channels // self.together
        outputs = c.target_channels // self.together
        first = vector.load(pointer, vector.first(c.source_channels))
        second = "poison"
        if c.source_channels > lanes:
            mask = vector.first(c.source_channels - lanes)
            second = vector.load(vector.address(pointer, lanes), mask)
        groups = [min(lane // outputs, self.together - 1) for lane in range(lanes)]
        return shuffle(vector, first, second, [group * inputs + number for group in groups])


class _GroupsKernel(LastKernel):
    """A group of its correlation is `together` groups of the convolution: one panel."""

    def __init__(self, *plan: Any, together: int) -> None:
        self.together = together
        super().__init__(*plan)

    def make_tiles(self, *tiles: Any) -> LastTiles:
        return _GroupTiles(*tiles, together=self.together)

    @property
    def skips(self) -> bool:
        return False

    @property
    def panel_elements(self) -> int:
        c = self.c
        inputs = c.source_channels // self.together
        return inputs * math.prod(c.kernel) * c.target_channels
