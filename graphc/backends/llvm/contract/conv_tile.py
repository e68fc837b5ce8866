"""The microkernel of a correlation: positions of the target by channels of a panel."""

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
    out_row    channels-last elements of one row of the target's buffer
    """

    builder: KernelBuilder
    target: Target
    sums: Element
    layout: BandLayout
    schedule: ConvSchedule
    columns: int
    out_row: int

    def function(self, vectors: int) -> Subroutine:
        """Pointers a, b, c; the numbers of taps, where phases differ in them."""
        c, schedule = self.layout.correlation, self.schedule
        taps = [axes[0].taps if len(axes) == 1 else None for axes in c.axes]
        if len(c.phases) > 1:
            taps = [None, None, None]
        elif self.schedule.rows == 1 and c.skips_border_rows and c.inside < 1:
            taps[1] = None
        routine = Subroutine(("a", "b", "c"), dict(zip(TAPS, taps)))
        emitter = routine.emitter
        vector = Vector(emitter, self.sums, self.target)
        row, pixel = self.layout.row, self.layout.pixel
        a_rows, c_rows = [], []
        for y in range(schedule.rows):
            for x in range(schedule.columns):
                a_rows.append(y * c.source_step[1] * row + x * c.source_step[2] * pixel)
                at_column = x * c.target_step[2] * self.columns
                c_rows.append(y * c.target_step[1] * self.out_row + at_column)
        steps = (self.layout.plane, row, pixel)
        levels = [
            (routine.values[name], tap * step) for name, tap, step in zip(TAPS, c.tap_step, steps)
        ]
        nest = Nest.of(*levels, (c.source_channels, 1))
        for displacement in c_rows:
            emitter.prefetch(vector.address("%c", displacement), write=True)
        operands = Operands("%a", "%b", a_rows, self.columns, [None] * vectors)
        start = [vector.zero] * (len(a_rows) * vectors)
        sums = contract(emitter, vector, operands, nest, start)
        for place, value in enumerate(sums):
            at, v = divmod(place, vectors)
            vector.store(value, vector.address("%c", c_rows[at] + v * vector.lanes))
        routine.define(self.builder, f"conv{schedule.rows}x{schedule.columns}x{vectors}")
        return routine
