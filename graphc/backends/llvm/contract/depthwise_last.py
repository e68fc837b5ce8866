"""Depthwise correlations with channels last: lanes along channels, a few positions at a time.

The source is read where it lies. What a tile would read beside it is zero: to the left and right
that is known when the tile's code is written, a function for each of the few cases; above and below
it is decided as it runs, by a function that only tiles at the edge call.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphc.backends.llvm.contract.conv_last import InPlace, LastKernel, LastTiles
from graphc.backends.llvm.contract.conv_problem import ConvProblem, forward
from graphc.backends.llvm.contract.conv_schedule import ConvSchedule, bands_of
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.epilogue import Epilogue
from graphc.backends.llvm.contract.kernel import Kernel, Subroutine
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

#: Positions of a tile at most, side by side: their windows share what they read.
POSITIONS = 8
#: What a tile costs besides its positions, in these.
OF_A_TILE = 1.0


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


def _fit(columns: int, width: int) -> float:
    """The part of the work that is positions, each once."""
    return width / (-(-width // columns) * (columns + OF_A_TILE))


#: For each tap of a row, and each position: whether it reads beside the source.
Beside = tuple[tuple[bool, ...], ...]


@dataclass(frozen=True, slots=True)
class _DepthwiseTiles(LastTiles):
    """A tile is all channels of its positions."""

    def beside(self, first: int) -> Beside:
        """What the tile whose first position that is reads to the left and right of the source."""
        c, columns = self.layout.correlation, range(self.schedule.columns)
        return tuple(
            [
                tuple([not 0 <= self._pixel(first + x, w) < c.source[2] for x in columns])
                for w in range(c.kernel[2])
            ]
        )

    def _pixel(self, position: int, tap: int) -> int:
        c = self.layout.correlation
        return position * c.source_step[2] + tap * c.tap_step[2] - c.border[2]

    def over_channels(self, beside: Beside, inside: bool) -> Subroutine:
        """Pointers a (what the first tap reads for the first position), b, c and the epilogue's;
        indices batch, row and column. inside: whether all rows are rows of the source; else
        indices plane and line, of a in the source, and home, elements from there to its start.
        """
        more = {} if inside else dict.fromkeys(("plane", "line", "home"))
        routine = self.with_epilogue(more)
        emitter = routine.emitter
        vector = Vector(emitter, self.sums, self.target)
        channels, lanes = self.layout.correlation.target_channels, vector.lanes

        def some(at: Index, mask: str | None) -> None:
            make = _Sums(self, vector, beside, at, mask)
            totals = make.within() if inside else make.at_the_edge(routine)
            for place, total in zip(self.places, totals):
                if self.epilogue is not None:
                    total = self.changed(routine, vector, total, place, at, mask)
                to = emitter.add(at, place * self.out_pixel)
                vector.store(total, vector.address("%c", to), mask)

        full = channels // lanes * lanes
        emitter.loop(0, full, lanes, lambda at, _none: some(at, None))
        if full < channels:
            some(full, vector.first(channels - full))
        routine.define(self.builder, f"depthwise{self.schedule.columns}")
        return routine


@dataclass(frozen=True, slots=True)
class _Sums:
    """The sums of some channels, position by position; each a chain in the order of taps.

    at: the first channel; mask: those of the vector that exist.
    """

    tiles: _DepthwiseTiles
    vector: Vector
    beside: Beside
    at: Index
    mask: str | None

    def within(self) -> list[str]:
        """All taps, one after the other."""
        c, layout = self.tiles.layout.correlation, self.tiles.layout
        totals = self._zeros
        for d, h in itertools.product(range(c.kernel[0]), range(c.kernel[1])):
            line = d * c.tap_step[0] * layout.plane + h * c.tap_step[1] * layout.row
            totals = self._row(totals, d * c.kernel[1] + h, line)
        self._fetch_ahead()
        return totals

    def _fetch_ahead(self) -> None:
        """Fetch what the next tile reads in its last row, which those above it have not read: in
        pieces as short as a position's channels, which the processor does not foresee."""
        layout, emitter = self.tiles.layout, self.vector.emitter
        c = layout.correlation
        line = (c.kernel[0] - 1) * c.tap_step[0] * layout.plane
        line += (c.kernel[1] - 1) * c.tap_step[1] * layout.row
        step, columns = c.source_step[2], self.tiles.schedule.columns
        first = (columns - 1) * step + (c.kernel[2] - 1) * c.tap_step[2] + 1
        base = self.vector.address("%a", emitter.add(self.at, line))
        for x in range(first, first + columns * step):
            emitter.prefetch(self.vector.address(base, x * layout.pixel))

    def at_the_edge(self, routine: Subroutine) -> list[str]:
        """Rows of taps in a loop; those beside the source read its first row, and take zeros."""
        emitter, values = self.vector.emitter, routine.values
        c, layout = self.tiles.layout.correlation, self.tiles.layout

        def row(number: Index, sums: Sequence[str]) -> list[str]:
            d = emitter.floor_div(number, c.kernel[1])
            h = emitter.remainder(number, d, c.kernel[1])
            depth, height = (emitter.mul(at, step) for at, step in zip((d, h), c.tap_step))
            places = ((depth, values["plane"], 0), (height, values["line"], 1))
            conditions = [
                emitter.compare("ult", emitter.add(at, start), c.source[axis])
                for at, start, axis in places
            ]
            there = emitter.value(f"and i1 {conditions[0]}, {conditions[1]}")
            line = emitter.add(emitter.mul(depth, layout.plane), emitter.mul(height, layout.row))
            line = emitter.select(there, line, values["home"])
            return self._row(sums, number, line, there)

        taps = c.kernel[0] * c.kernel[1]
        carried = [(self.vector.type, zero) for zero in self._zeros]
        return emitter.loop(0, taps, 1, row, carried)

    @property
    def _zeros(self) -> list[str]:
        return [self.vector.zero] * len(self.tiles.places)

    def _row(
        self, totals: Sequence[str], tap: Index, line: Index, there: str | None = None
    ) -> list[str]:
        """One row of taps, `line` elements after the first; what lies beside the source is zero,
        and everything unless the row is `there`."""
        c, vector, emitter = self.tiles.layout.correlation, self.vector, self.vector.emitter
        pixel, step = self.tiles.layout.pixel, c.source_step[2]
        base = vector.address("%a", emitter.add(self.at, line))
        weights = emitter.mul(tap, c.kernel[2] * c.target_channels)
        weights = vector.address("%b", emitter.add(self.at, weights))
        read: dict[int, str] = {}
        made = list(totals)
        for w in range(c.kernel[2]):
            weight = vector.load(vector.address(weights, w * c.target_channels), self.mask)
            for x in range(len(made)):
                value = vector.zero
                if not self.beside[w][x]:
                    place = (x * step + w * c.tap_step[2]) * pixel
                    if place not in read:
                        value = vector.load(vector.address(base, place), self.mask)
                        if there is not None:
                            choice = f"{vector.type} {value}, {vector.type} {vector.zero}"
                            value = emitter.value(f"select i1 {there}, {choice}")
                        read[place] = value
                    value = read[place]
                made[x] = vector.multiply_add(value, weight, made[x])
        return made


class _DepthwiseKernel(LastKernel):
    tiles: _DepthwiseTiles

    def make_tiles(self, *tiles: Any) -> LastTiles:
        return _DepthwiseTiles(*tiles)

    def _plan(self) -> None:
        super()._plan()
        self.layout = InPlace(self.c)
        self.tiles = replace(self.tiles, layout=self.layout)

    @property
    def panels(self) -> int:
        return 1

    @property
    def over(self) -> tuple[str, ...]:
        """Positions that two tiles have are computed twice."""
        return () if any(self.tiles.repeats) else super().over

    def _runs(self) -> list[tuple[Beside, int, int]]:
        """Tiles of a row that read alike beside the source: the first position, and the end."""
        width, columns = self.c.target[2], self.schedule.columns
        starts = [min(at, width - columns) for at in range(0, width, columns)]
        found = []
        for beside, some in itertools.groupby(starts, key=self.tiles.beside):
            run = list(some)
            # Of several the last may begin before its place.
            even = [at for k, at in enumerate(run) if at == run[0] + k * columns]
            found.append((beside, run[0], even[-1] + 1))
            found += [(beside, at, at + 1) for at in run[len(even) :]]
        return found

    def _band(self, image: Index, group: Index, band: Index, panels: tuple[Index, Index]) -> None:
        emitter, c, layout = self.entry, self.c, self.layout
        low, high = self.rows_of(band)
        self.image, self.first = image, 0
        size = c.source_channels * c.source[0] * c.source[1] * c.source[2]
        source = self.vector.address("%x", emitter.mul(image, size))
        runs = self._runs()

        def row(z: Index, y: Index) -> None:
            plane = emitter.sub(emitter.mul(z, c.source_step[0]), c.border[0])
            line = emitter.sub(emitter.mul(y, c.source_step[1]), c.border[1])
            start = emitter.add(emitter.mul(plane, layout.plane), emitter.mul(line, layout.row))
            taps = {"plane": plane, "line": line, "home": emitter.sub(0, start)}
            here = self.vector.address(source, start)
            at_row = emitter.mul(emitter.add(emitter.mul(z, c.target[1]), y), c.target[2])

            def along(inside: bool) -> None:
                for beside, begin, end in runs:
                    routine = self.tiles.over_channels(beside, inside)

                    def one(x: Index, _none: Sequence[str], routine: Subroutine = routine) -> None:
                        pixel = emitter.sub(emitter.mul(x, c.source_step[2]), c.border[2])
                        a = self.vector.address(here, emitter.mul(pixel, layout.pixel))
                        self._call(routine, a, emitter.add(at_row, x), taps)

                    emitter.loop(begin, end, self.schedule.columns, one)

            self._where_inside((plane, line), along)

        def rows(z: Index, _none: Sequence[str]) -> None:
            emitter.loop(low, high, 1, lambda y, _none: row(z, y))

        emitter.loop(0, c.target[0], 1, rows)

    def _where_inside(self, place: tuple[Index, Index], body: Callable[[bool], None]) -> None:
        """body(whether all taps are of rows of the source), for each case that there may be."""
        emitter, c = self.entry, self.c
        conditions = []
        for axis, at in enumerate(place):
            first = c.source[axis] - (c.kernel[axis] - 1) * c.tap_step[axis]
            if first <= 0:
                body(False)
                return
            if c.border[axis] > 0 or c.copy[axis] - c.border[axis] > c.source[axis]:
                conditions.append(emitter.compare("ult", at, first))
        inside: str | bool = True
        for condition in conditions:
            inside = condition if inside is True else emitter.value(f"and i1 {inside}, {condition}")
        emitter.when(inside, lambda: body(True), lambda: body(False))

    def _call(self, routine: Subroutine, a: str, at: Index, taps: dict[str, Index]) -> None:
        pixel, here = self.place_of(at, 0)
        pointers = (a, "%w", here, *(f"%{name}" for name in self.extra))
        indices = taps | {"batch": self.image, "row": pixel, "column": 0}
        routine.call(self.entry, pointers, indices)
