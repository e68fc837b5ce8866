"""Bordered copies that keep each channel's plane together, split by the stride.

With stride s a row of the copy is stored as s rows: the positions of each residue. What one tap
reads for consecutive positions then is consecutive memory for every stride, across the rows of
a plane as well: a tap is one offset, and lanes run along positions.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.conv_pack import BandLayout, zero_filler
from graphc.backends.llvm.contract.conv_problem import Axis, Correlation
from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.kernel import KernelBuilder
from graphc.backends.llvm.contract.packing import copy_row, shuffle
from graphc.backends.llvm.contract.vector import Vector


@dataclass(frozen=True, slots=True)
class PlaneLayout:
    """[channel][residue of depth, row, column][depth][rows][width] of a band's copy."""

    correlation: Correlation
    band_rows: int

    @property
    def size(self) -> tuple[int, int, int]:
        """Depth, rows and width of the plane of one residue."""
        c = self.correlation
        rows = self.band_rows * c.source_step[1] + BandLayout.reach(c)
        extents = (c.copy[0], max(rows, 1), c.copy[2])
        depth, height, width = (-(-e // s) for e, s in zip(extents, c.source_step))
        return depth, height, width

    @property
    def width(self) -> int:
        return self.size[2]

    @property
    def plane(self) -> int:
        return math.prod(self.size)

    @property
    def channel(self) -> int:
        return self.plane * math.prod(self.correlation.source_step)

    def offset(self, coordinates: tuple[int, int, int]) -> int:
        """The place of a coordinate of the copy."""
        steps = self.correlation.source_step
        residue = place = 0
        for coordinate, step, size in zip(coordinates, steps, self.size):
            residue = residue * step + coordinate % step
            place = place * size + coordinate // step
        return residue * self.plane + place

    def taps(self, phase: tuple[Axis, ...]) -> list[tuple[int, int]]:
        """(offset in the copy, index in the kernel) of each tap of a phase."""
        c, result = self.correlation, []
        for taps in itertools.product(*(range(axis.taps) for axis in phase)):
            at = tuple(a.origin + t * step for a, t, step in zip(phase, taps, c.tap_step))
            d, h, w = (a.tap + t * a.tap_stride for a, t in zip(phase, taps))
            result.append((self.offset(at), (d * c.kernel[1] + h) * c.kernel[2] + w))
        return result


class PlanePacker:
    """Writes the planes of a band of some channels of one image."""

    def __init__(
        self, builder: KernelBuilder, vector: Vector, stored: Element, layout: PlaneLayout
    ) -> None:
        self.emitter, self.vector, self.stored = vector.emitter, vector, stored
        self.layout = layout
        self.clear = zero_filler(builder, vector)

    def pack(
        self, source: str, destination: str, *, first_row: Index, rows: Index, channels: Index
    ) -> None:
        """Rows [first_row, first_row + rows) of the copy; `source` is the first channel."""
        emitter, layout = self.emitter, self.layout
        c = layout.correlation
        plane = math.prod(c.source)

        def channel(at: Index, _carried: Sequence[str]) -> None:
            here = self.vector.address(source, emitter.mul(at, plane), self.stored)
            there = self.vector.address(destination, emitter.mul(at, layout.channel))
            # Everything that is not written below is border.
            self.clear.call(emitter, (there,), {"count": layout.channel})
            emitter.loop(0, c.source[0], 1, lambda z, _none: self._slice(here, there, z, area))

        low = emitter.maximum(emitter.sub(first_row, c.border[1]), 0)
        end = emitter.sub(emitter.add(first_row, rows), c.border[1])
        area = (low, emitter.minimum(end, c.source[1]), first_row)
        emitter.loop(0, channels, 1, channel)

    def _slice(
        self, source: str, destination: str, z: Index, area: tuple[Index, Index, Index]
    ) -> None:
        """Rows [low, high) of the source's depth z; the copy's rows count from `first`."""
        emitter, vector, layout = self.emitter, self.vector, self.layout
        c = layout.correlation
        low, high, first = area
        _, height, width = layout.size
        depth_at = emitter.add(z, c.border[0])
        last = c.copy[0] - 1
        cropped = c.border[0] < 0 or c.border[0] + c.source[0] - 1 > last

        def row(y: Index, _carried: Sequence[str]) -> None:
            at_row = emitter.sub(emitter.add(y, c.border[1]), first)
            z_plane = emitter.floor_div(depth_at, c.source_step[0])
            z_residue = emitter.remainder(depth_at, z_plane, c.source_step[0])
            y_plane = emitter.floor_div(at_row, c.source_step[1])
            y_residue = emitter.remainder(at_row, y_plane, c.source_step[1])
            residue = emitter.add(emitter.mul(z_residue, c.source_step[1]), y_residue)
            place = emitter.mul(residue, c.source_step[2] * layout.plane)
            inner = emitter.add(emitter.mul(z_plane, height), y_plane)
            place = emitter.add(place, emitter.mul(inner, width))
            line = emitter.mul(emitter.add(emitter.mul(z, c.source[1]), y), c.source[2])
            self._row(vector.address(source, line, self.stored), vector.address(destination, place))

        def rows() -> None:
            emitter.loop(low, high, 1, row)

        if cropped:
            emitter.when(emitter.compare("ule", depth_at, last), rows)
        else:
            rows()

    def _row(self, source: str, destination: str) -> None:
        """One row of the source into the rows of its residues."""
        emitter, vector, layout = self.emitter, self.vector, self.layout
        c = layout.correlation
        border, step = c.border[2], c.source_step[2]
        first = max(0, -border)
        count = min(c.copy[2] - border, c.source[2]) - first
        if count <= 0:
            return
        source = vector.address(source, first, self.stored)
        places = []
        for residue in range(min(step, count)):
            at = first + border + residue
            places.append((at % step) * layout.plane + at // step)
        if step == 1:
            copy_row(vector, self.stored, source, vector.address(destination, places[0]), count)
        elif step == 2 and count > 1:
            self._split_pairs(source, destination, count, places)
        else:
            for residue, place in enumerate(places):

                def one(at: Index, _none: Sequence[str], residue=residue, place=place) -> None:
                    from_ = emitter.add(emitter.mul(at, step), residue)
                    value = vector.load_scalar(
                        vector.address(source, from_, self.stored), self.stored
                    )
                    to = vector.address(destination, emitter.add(place, at))
                    vector.store_scalar(value, to)

                emitter.loop(0, -(-(count - residue) // step), 1, one)

    def _split_pairs(
        self, source: str, destination: str, count: int, places: Sequence[int]
    ) -> None:
        """Even and odd positions, two vectors at a time."""
        emitter, vector = self.emitter, self.vector
        lanes = vector.lanes

        def pair(at: Index, masks: Sequence[str | None], half: Sequence[str | None]) -> None:
            values = [
                vector.load(
                    vector.address(source, emitter.add(at, v * lanes), self.stored),
                    masks[v],
                    self.stored,
                )
                for v in range(2)
            ]
            to = emitter.floor_div(at, 2)
            for odd in range(2):
                chosen = [2 * lane + odd for lane in range(lanes)]
                value = shuffle(vector, *values, chosen)
                address = vector.address(destination, emitter.add(to, places[odd]))
                vector.store(value, address, half[odd])

        full = count // (2 * lanes) * 2 * lanes
        emitter.loop(0, full, 2 * lanes, lambda at, _none: pair(at, (None, None), (None, None)))
        rest = count - full
        if rest:
            masks = [vector.first(max(0, rest - v * lanes)) for v in range(2)]
            half = [vector.first((rest + 1) // 2), vector.first(rest // 2)]
            pair(full, masks, half)
