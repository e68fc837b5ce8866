"""Depthwise correlations with channels last: lanes along channels, a few positions at a time."""

from __future__ import annotations

import itertools
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
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

#: Positions of a tile at most, side by side: their windows share what they read.
POSITIONS = 8


def depthwise_last(
    problem: ConvProblem, target: Target, *, epilogue: Epilogue | None = None
) -> Kernel:
    """Each channel's own convolution; f32 or f64. Operands: x [batch, *size, channels],
    w [*kernel, channels], out like x, and the epilogue's, as for `conv_last`."""
    plain = replace(problem, groups=1)  # the same geometry
    c, stored = forward(plain), element(problem.dtype)
    width = max(1, c.target[2])
    columns = max([n for n in range(1, POSITIONS + 1) if n <= width], key=lambda n: _fit(n, width))
    bands = bands_of(c, max(1, c.target[1]), stored.bytes)
    schedule = ConvSchedule(1, columns, 1, bands, by_channels=False)
    kernel = _DepthwiseKernel(c, stored, problem.batch, target, schedule, epilogue)
    return kernel.kernel("depthwise_last")


def _fit(columns: int, width: int) -> tuple[float, int]:
    """The part of tiles that is no repetition; then the larger ones."""
    return width / (-(-width // columns) * columns), columns


@dataclass(frozen=True, slots=True)
class _DepthwiseTiles(LastTiles):
    """A tile is all channels of its positions."""

    @property
    def taps(self) -> dict[str, int | None]:
        return dict(zip(TAPS, self.layout.correlation.kernel))

    @property
    def is_looped(self) -> bool:
        return False

    def over_channels(self) -> Subroutine:
        """Pointers a, b, c and the epilogue's; indices batch, row and column."""
        extra = self.epilogue.operands if self.epilogue else ()
        names = dict.fromkeys(["batch", "row", "column"] if self.epilogue else [])
        routine = Subroutine(("a", "b", "c", *extra), names)
        emitter = routine.emitter
        vector = Vector(emitter, self.sums, self.target)
        channels, lanes = self.layout.correlation.target_channels, vector.lanes

        def some(at: Index, mask: str | None) -> None:
            for place, total in enumerate(self._totals(vector, at, mask)):
                here = self.places[place]
                if self.epilogue is not None:
                    total = self.changed(routine, vector, total, here, at, mask)
                to = emitter.add(at, here * self.out_pixel)
                vector.store(total, vector.address("%c", to), mask)

        full = channels // lanes * lanes
        emitter.loop(0, full, lanes, lambda at, _none: some(at, None))
        if full < channels:
            some(full, vector.first(channels - full))
        routine.define(self.builder, f"depthwise{self.schedule.columns}")
        return routine

    def _totals(self, vector: Vector, at: Index, mask: str | None) -> list[str]:
        """The sums of some channels, position by position; each a chain in the order of taps."""
        c, emitter = self.layout.correlation, vector.emitter
        totals = [vector.zero] * len(self.places)
        pixel, step = self.layout.pixel, c.source_step[2]
        for d, h in itertools.product(range(c.kernel[0]), range(c.kernel[1])):
            line = d * c.tap_step[0] * self.layout.plane + h * c.tap_step[1] * self.layout.row
            read: dict[int, str] = {}
            for w in range(c.kernel[2]):
                tap = ((d * c.kernel[1] + h) * c.kernel[2] + w) * c.target_channels
                weight = vector.load(vector.address("%b", emitter.add(at, tap)), mask)
                for x in range(self.schedule.columns):
                    place = line + (x * step + w * c.tap_step[2]) * pixel
                    if place not in read:
                        pointer = vector.address("%a", emitter.add(at, place))
                        read[place] = vector.load(pointer, mask)
                    totals[x] = vector.multiply_add(read[place], weight, totals[x])
        return totals


class _DepthwiseKernel(LastKernel):
    def make_tiles(self, *tiles: Any) -> LastTiles:
        return _DepthwiseTiles(*tiles)

    @property
    def panels(self) -> int:
        return 1

    @property
    def skips(self) -> bool:
        return False

    def _tile(self, panel: Index, a: str, b: str, at: Index, taps: dict[str, Index]) -> None:
        pixel, here = self.place_of(at, 0)
        pointers = (a, b, here, *(f"%{name}" for name in self.extra))
        indices: dict[str, Index] = {"batch": self.image, "row": pixel, "column": 0}
        self.tiles.over_channels().call(self.entry, pointers, indices)
