"""The microkernel of a correlation: positions of the target by channels of a panel."""

import itertools
from dataclasses import dataclass

from graphc.backends.llvm.contract.conv_pack import BandLayout
from graphc.backends.llvm.contract.conv_schedule import ConvSchedule
from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.tile import Nest, Operands, contract
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

TAPS = ("taps_d", "taps_h", "taps_w")


@dataclass(frozen=True, slots=True)
class ConvTiles:
    """
    columns    channels of a panel
    out_pixel  elements from one position of the target's buffer to the next
    """

    builder: KernelBuilder
    target: Target
    sums: Element
    layout: BandLayout
    schedule: ConvSchedule
    columns: int
    out_pixel: int

    def function(self, vectors: int) -> Subroutine:
        """Pointers a, b, c; the numbers of taps, where phases differ in them."""
        routine = Subroutine(("a", "b", "c"), self.taps)
        vector = Vector(routine.emitter, self.sums, self.target)
        for place, value in enumerate(self.totals(routine, vector, vectors)):
            at, v = divmod(place, vectors)
            to = self.places[at] * self.out_pixel + v * vector.lanes
            vector.store(value, vector.address("%c", to))
        routine.define(self.builder, self.stem(vectors))
        return routine

    def stem(self, vectors: int) -> str:
        return f"conv{self.schedule.rows}x{self.schedule.columns}x{vectors}"

    @property
    def taps(self) -> dict[str, int | None]:
        """The number of taps in each dimension; None where it is known at run time."""
        c = self.layout.correlation
        taps = [axes[0].taps if len(axes) == 1 else None for axes in c.axes]
        if len(c.phases) > 1:
            taps = [None, None, None]
        elif self.schedule.rows == 1 and c.skips_border_rows and c.inside < 1:
            taps[1] = None
        return dict(zip(TAPS, taps))

    @property
    def positions(self) -> list[tuple[int, int]]:
        """Of a tile, row by row."""
        return list(itertools.product(range(self.schedule.rows), range(self.schedule.columns)))

    @property
    def places(self) -> list[int]:
        """The tile's positions as positions of the target, counted from the first."""
        c = self.layout.correlation
        step = c.target_step
        return [y * step[1] * c.target[2] + x * step[2] for y, x in self.positions]

    def totals(self, routine: Subroutine, vector: Vector, vectors: int) -> list[str]:
        """The sums, position by position."""
        c, emitter = self.layout.correlation, routine.emitter
        row, pixel = self.layout.row, self.layout.pixel
        a_rows = [
            y * c.source_step[1] * row + x * c.source_step[2] * pixel for y, x in self.positions
        ]
        steps = (self.layout.plane, row, pixel)
        levels = [
            (routine.values[name], tap * step) for name, tap, step in zip(TAPS, c.tap_step, steps)
        ]
        nest = Nest.of(*levels, (c.source_channels, 1))
        for place in self.places:
            emitter.prefetch(vector.address("%c", place * self.out_pixel), write=True)
        operands = Operands("%a", "%b", a_rows, self.columns, [None] * vectors)
        return contract(emitter, vector, operands, nest, [vector.zero] * (len(a_rows) * vectors))
