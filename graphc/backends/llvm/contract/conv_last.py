"""Direct correlations of tensors whose channels lie last, with packed weights.

The tiles of `conv_direct` with nothing turned around: they read the source where it lies, or,
where it has a border, a copy of a band of its rows; and they store into the target itself,
after the epilogue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.backends.llvm.contract.conv_direct import DirectKernel
from graphc.backends.llvm.contract.conv_pack import zero_filler
from graphc.backends.llvm.contract.conv_problem import Correlation
from graphc.backends.llvm.contract.conv_schedule import ConvSchedule
from graphc.backends.llvm.contract.conv_tile import ConvTiles
from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.epilogue import Epilogue, Position
from graphc.backends.llvm.contract.gemm_schedule import rows_apart
from graphc.backends.llvm.contract.kernel import Subroutine
from graphc.backends.llvm.contract.packing import row_copier
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

#: How many rows and columns of a tile were stored by the tiles before it.
SKIPPED = ("rows_before", "columns_before")
#: Terms of a sum from which an epilogue is a loop of its own over the tile.
LONG_SUM = 256


@dataclass(frozen=True, slots=True)
class InPlace:
    """The source as it lies in memory, in the terms of `BandLayout`."""

    correlation: Correlation

    @staticmethod
    def serves(c: Correlation, schedule: ConvSchedule, item_bytes: int) -> bool:
        """Whether nothing outside of the source is read, and a tile's positions do not drive each
        other out of the sets of the first cache that they share."""
        inside = all(size <= had for size, had in zip(c.copy, c.source))
        read = schedule.rows * schedule.columns * math.prod(c.kernel)
        apart = rows_apart(c.source_step[2] * c.groups * c.source_channels * item_bytes)
        return inside and not any(c.border) and read <= apart

    @property
    def pixel(self) -> int:
        return self.correlation.groups * self.correlation.source_channels

    @property
    def row(self) -> int:
        return self.correlation.source[2] * self.pixel

    @property
    def plane(self) -> int:
        return self.correlation.source[1] * self.row

    one_block = 0  # of scratch


@dataclass(frozen=True, slots=True)
class LastTiles(ConvTiles):
    """Tiles that end with the epilogue."""

    epilogue: Epilogue | None = None

    def ending(self, vectors: int, lanes: int) -> Subroutine:
        """Pointers a, b, c (the first position's first channel) and the epilogue's; `lanes` of
        the last vector exist. Indices: those of the taps, batch, row and column of c."""
        names = self.taps | self.skipped
        routine = self.with_epilogue(names)
        vector = Vector(routine.emitter, self.sums, self.target)
        totals = self.totals(routine, vector, vectors)
        mask = vector.first(lanes)
        if self.epilogue is not None and self.is_looped:
            self._change_all(routine, vector, totals, mask)
        else:
            for number, value in enumerate(totals):
                at, v = divmod(number, vectors)
                here = mask if v == vectors - 1 else None
                value = self.changed(
                    routine, vector, value, self.places[at], v * vector.lanes, here
                )
                to = self.places[at] * self.out_pixel + v * vector.lanes
                vector.store(value, vector.address("%c", to), here)
        routine.define(self.builder, self.stem(vectors))
        return routine

    def with_epilogue(self, names: Mapping[str, int | None]) -> Subroutine:
        """Pointers a, b, c and the epilogue's; `names`, and the place in the output for it."""
        if self.epilogue is None:
            return Subroutine(("a", "b", "c"), names)
        pointers = ("a", "b", "c", *self.epilogue.operands)
        names = {**names, **dict.fromkeys(("batch", "row", "column"))}
        return Subroutine(pointers, names, self.epilogue.shared("c"))

    @property
    def is_looped(self) -> bool:
        """Whether the epilogue is written once, in a loop over the sums of the tile: where its
        code is long, where the sums take so long that another visit does not matter, and where
        positions may be left out."""
        assert self.epilogue is not None
        c = self.layout.correlation
        terms = c.source_channels * math.prod([axes[0].taps for axes in c.axes])
        return self.epilogue.long or terms >= LONG_SUM or None in self.skipped.values()

    @property
    def repeats(self) -> tuple[bool, bool]:
        """Whether the last tile of a column, or of a row, has positions of the one before it."""
        _, *axes = self.layout.correlation.axes
        sizes = (self.schedule.rows, self.schedule.columns)
        down, across = [any([a.count % n for a in axis]) for axis, n in zip(axes, sizes)]
        return down, across

    @property
    def skipped(self) -> dict[str, int | None]:
        """Rows and columns of a tile that were stored before: an epilogue may have read what they
        were written over, so it leaves them out."""
        if self.epilogue is None or not self.epilogue.own:
            return {}
        return {name: None if any_ else 0 for name, any_ in zip(SKIPPED, self.repeats)}

    def changed(
        self,
        routine: Subroutine,
        vector: Vector,
        value: str,
        place: Index,
        channel: Index,
        mask: str | None,
    ) -> str:
        """The epilogue of a vector of sums, `place` positions and `channel` channels after the
        tile's first."""
        if self.epilogue is None:
            return value
        emitter, values = routine.emitter, routine.values
        row = emitter.add(values["row"], place)
        column = emitter.add(values["column"], channel)
        arguments = tuple(f"%{name}" for name in self.epilogue.operands)
        at = Position(values["batch"], row, column, mask, arguments)
        return self.epilogue.emit(emitter, value, at)

    def _change_all(
        self, routine: Subroutine, vector: Vector, totals: Sequence[str], mask: str | None
    ) -> None:
        """The epilogue over all sums, by way of memory; into the output."""
        emitter, c, schedule = routine.emitter, self.layout.correlation, self.schedule
        kept, vectors = vector.kept(totals), len(totals) // len(self.places)

        def one(y: Index, x: Index) -> None:
            place = emitter.add(
                emitter.mul(y, c.target_step[1] * c.target[2]), emitter.mul(x, c.target_step[2])
            )
            there = vector.address("%c", emitter.mul(place, self.out_pixel))
            at = emitter.add(emitter.mul(y, schedule.columns), x)
            here = vector.address(kept, emitter.mul(at, vectors * vector.lanes))
            for v in range(vectors):
                masked = mask if v == vectors - 1 else None
                value = vector.load(vector.address(here, v * vector.lanes))
                value = self.changed(routine, vector, value, place, v * vector.lanes, masked)
                vector.store(value, vector.address(there, v * vector.lanes), masked)

        first = [routine.values.get(name, 0) for name in SKIPPED]

        def across(y: Index, _none: Sequence[str]) -> None:
            emitter.loop(first[1], schedule.columns, 1, lambda x, _none: one(y, x))

        emitter.loop(first[0], schedule.rows, 1, across)


class LastKernel(DirectKernel):
    """Writes one kernel: x [batch, *size, channels], packed weights, out [batch, *size, channels].

    f32 and f64.
    """

    def __init__(
        self,
        correlation: Correlation,
        stored: Element,
        batch: int | None,
        target: Target,
        schedule: ConvSchedule,
        epilogue: Epilogue | None,
    ) -> None:
        assert not stored.is_half
        super().__init__(
            correlation,
            stored,
            batch,
            target,
            schedule,
            transposed=False,
            packed_weights=True,
            epilogue=epilogue,
        )

    def _plan(self) -> None:
        c = self.c
        if InPlace.serves(c, self.schedule, self.sums.bytes):
            self.layout = InPlace(c)
        self.out_pixel = c.groups * c.target_channels
        self.out_plane = c.target[1] * c.target[2]
        self.tiles = self.make_tiles(
            self.builder,
            self.vector.target,
            self.sums,
            self.layout,
            self.schedule,
            self.columns,
            self.out_pixel,
            self.epilogue,
        )

    def make_tiles(self, *tiles: Any) -> LastTiles:
        return LastTiles(*tiles)

    @property
    def buffered(self) -> int:
        return 0

    @property
    def panel_elements(self) -> int:
        """Of the weight."""
        return self.weights.panel_elements

    def _units(self) -> None:
        """Bands of groups are walked by band: they read the same lines of the source."""
        emitter, schedule, groups = self.entry, self.schedule, self.c.groups
        if groups == 1 or schedule.by_channels:
            super()._units()
            return
        self.packed = "%w"

        def one(unit: Index, _carried: Sequence[str]) -> None:
            image_band = emitter.floor_div(unit, groups)
            image = emitter.floor_div(image_band, schedule.bands)
            band = emitter.remainder(image_band, image, schedule.bands)
            group = emitter.remainder(unit, image_band, groups)
            self._band(image, group, band, (0, self.panels))

        emitter.loop("%lo", "%hi", 1, one)

    def _band(self, image: Index, group: Index, band: Index, panels: tuple[Index, Index]) -> None:
        emitter, c = self.entry, self.c
        low, high = self.rows_of(band)
        source_at = emitter.mul(image, c.groups * c.source_channels * math.prod(c.source))
        source_at = emitter.add(source_at, emitter.mul(group, c.source_channels))
        self.source = self.vector.address("%x", source_at)
        if isinstance(self.layout, InPlace):
            first = emitter.mul(low, c.source_step[1] * self.layout.row)
            self.source = self.vector.address(self.source, first)
        else:
            self._copy(low, high)
        first_row = emitter.mul(low, c.target_step[1])
        self.first = emitter.mul(first_row, c.target[2])
        self.image, self.group = image, group

        def panel(at: Index, _carried: Sequence[str]) -> None:
            which = emitter.add(emitter.mul(group, self.panels), at)
            place = emitter.mul(which, self.panel_elements)
            self._phases(low, high, self.vector.address(self.packed, place), at)

        emitter.loop(*panels, 1, panel)

    def _tile(self, panel: Index, a: str, b: str, at: Index, taps: dict[str, Index]) -> None:
        emitter, c, vector = self.entry, self.c, self.vector
        channel = emitter.mul(self.group, c.target_channels)
        channel = emitter.add(channel, emitter.mul(panel, self.columns))
        pixel, here = self.place_of(at, channel)
        pointers = (a, b, here, *(f"%{name}" for name in self.extra))
        indices = taps | {"batch": self.image, "row": pixel, "column": channel}
        full, rest = divmod(c.target_channels, self.columns)

        def whole() -> None:
            routine = self.tiles.ending(self.schedule.vectors, vector.lanes)
            routine.call(emitter, pointers, indices)

        def last() -> None:
            vectors = -(-rest // vector.lanes)
            lanes = rest - (vectors - 1) * vector.lanes
            self.tiles.ending(vectors, lanes).call(emitter, pointers, indices)

        if not rest:
            whole()
        elif not full:
            last()
        else:
            emitter.when(emitter.less(panel, full), whole, last)

    def _skipped(
        self, nominal: tuple[Index, Index], start: tuple[Index, Index]
    ) -> dict[str, Index]:
        emitter, asked = self.entry, self.tiles.skipped
        return {
            name: emitter.sub(here, first)
            for name, here, first in zip(SKIPPED, nominal, start)
            if name in asked and asked[name] is None
        }

    @property
    def over(self) -> tuple[str, ...]:
        return self.epilogue.over(out=True) if self.epilogue else ()

    def place_of(self, at: Index, channel: Index) -> tuple[Index, str]:
        """The position in its image of a tile of the band, and the address of its results."""
        emitter = self.entry
        pixel = emitter.add(self.first, at)
        place = emitter.mul(self.image, math.prod(self.c.target))
        place = emitter.mul(emitter.add(place, pixel), self.out_pixel)
        return pixel, self.vector.address("%out", emitter.add(place, channel))

    # The bordered copy

    def _copy(self, low: Index, high: Index) -> None:
        """Rows of the copy that the band's positions read, from `self.source`."""
        emitter, c, layout = self.entry, self.c, self.layout
        source, self.source = self.source, self._scratch("source")
        steps = emitter.mul(emitter.sub(high, low), c.source_step[1])
        first = emitter.mul(low, c.source_step[1])

        def row(depth: Index, at: Index) -> None:
            place = emitter.add(emitter.mul(depth, layout.plane), emitter.mul(at, layout.row))
            there = self.vector.address(self.source, place)
            z = emitter.sub(depth, c.border[0])
            y = emitter.sub(emitter.add(first, at), c.border[1])
            inside = emitter.compare("ult", y, c.source[1])
            if c.source[0] > 1 or c.copy[0] > 1:
                deep = emitter.compare("ult", z, c.source[0])
                inside = emitter.value(f"and i1 {inside}, {deep}")
            line = emitter.add(emitter.mul(z, c.source[1]), y)
            emitter.when(
                inside,
                lambda: self._row(source, line, there),
                lambda: self._clear(there, c.copy[2]),
            )

        def plane(depth: Index, _none: Sequence[str]) -> None:
            rows = emitter.add(steps, self.reach)
            emitter.loop(0, rows, 1, lambda at, _none: row(depth, at))

        emitter.loop(0, c.copy[0], 1, plane)

    def _row(self, source: str, line: Index, there: str) -> None:
        """One row of the copy: its border, and the pixels that the source has."""
        emitter, c, vector, layout = self.entry, self.c, self.vector, self.layout
        start = min(max(c.border[2], 0), c.copy[2])
        end = max(min(c.copy[2], c.border[2] + c.source[2]), start)
        self._clear(there, start)
        self._clear(vector.address(there, end * layout.pixel), c.copy[2] - end)
        if end == start:
            return
        pixel = emitter.add(emitter.mul(line, c.source[2]), start - c.border[2])
        channels = c.groups * c.source_channels
        here = vector.address(source, emitter.mul(pixel, channels))
        rows, count = end - start, c.source_channels
        if layout.pixel == count == channels:
            rows, count = 1, rows * count
        counts: dict[str, Index] = {"rows": rows, "count": count}
        counts |= {"from_stride": channels, "to_stride": layout.pixel}
        copy = row_copier(self.builder, vector, self.stored)
        copy.call(emitter, (here, vector.address(there, start * layout.pixel)), counts)

    def _clear(self, pointer: str, pixels: int) -> None:
        if pixels > 0:
            clear = zero_filler(self.builder, self.vector)
            clear.call(self.entry, (pointer,), {"count": pixels * self.layout.pixel})
