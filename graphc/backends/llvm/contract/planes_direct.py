"""Correlations with few target channels in a group: lanes along positions.

Depthwise convolutions, and results of a few channels: there lanes along channels would be
idle. Both operands stay in their layout; sums are made over whole rows of a plane, border
included, and the rows are then written where they belong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.conv_pack import BandLayout
from graphc.backends.llvm.contract.conv_problem import Axis, Correlation
from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.epilogue import Epilogue
from graphc.backends.llvm.contract.finish import finisher
from graphc.backends.llvm.contract.kernel import Kernel, KernelBuilder, Subroutine, parameters
from graphc.backends.llvm.contract.packing import copy_row, shuffle
from graphc.backends.llvm.contract.planes import PlaneLayout, PlanePacker
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

# Bytes of the planes of one band.
BAND_BYTES = 192 << 10
# Target channels of a tile.
MOST_ROWS = 4
# Sums held in registers (of 32): target channels by vectors of positions.
MOST_SUMS = 16


def plane_bands(c: Correlation, height: int, item_bytes: int) -> int:
    """How many bands `height` rows of positions are cut into."""
    row = c.copy[0] * c.copy[2] * c.source_step[1] * c.source_channels * item_bytes
    rows = max(1, BAND_BYTES // max(row, 1))
    return max(1, -(-height // rows))


@dataclass(frozen=True, slots=True)
class _Phase:
    """A phase, and the range of its taps in the tables."""

    axes: tuple[Axis, Axis, Axis]
    taps: tuple[int, int]


class PlanesKernel:
    """Writes one kernel."""

    def __init__(
        self,
        correlation: Correlation,
        stored: Element,
        batch: int | None,
        target: Target,
        *,
        transposed: bool,
        epilogue: Epilogue | None,
    ) -> None:
        """transposed: weights are [source][target][tap]."""
        self.c = correlation
        self.stored = stored
        self.target = target
        self.epilogue = epilogue
        c = correlation
        self.sums = stored.accumulator
        self.builder = KernelBuilder()
        self.extra = epilogue.operands if epilogue else ()
        self.sizes = ("batch",) if batch is None else ()
        self.batch: Index = "%batch" if batch is None else batch
        self.operands = ("x", "w", "out", *self.extra)
        shared = epilogue.shared("out") if epilogue else ()
        self.entry = Emitter(
            parameters((*self.operands, "scratch"), shared)
            + [f"i64 %{name}" for name in ("lo", "hi", *self.sizes)]
        )
        self.vector = Vector(self.entry, self.sums, target)
        self.taps_of_all = math.prod(c.kernel)
        taps = self.taps_of_all
        self.target_stride, self.source_stride = c.source_channels * taps, taps
        if transposed:
            self.target_stride, self.source_stride = taps, c.target_channels * taps
        self.height = max((axis.count for axis in c.axes[1]), default=0)
        self.bands = plane_bands(c, self.height, self.sums.bytes)
        self.band_rows = max(1, -(-self.height // self.bands))
        self.layout = PlaneLayout(c, self.band_rows)
        self._collect_phases()
        self._choose_vectors()
        self._place_scratch()

    def _collect_phases(self) -> None:
        self.phases: list[_Phase] = []
        offsets: list[int] = []
        weights: list[int] = []
        for axes in self.c.phases:
            taps = self.layout.taps(axes)
            self.phases.append(_Phase(axes, (len(offsets), len(offsets) + len(taps))))
            offsets += [offset for offset, _ in taps]
            weights += [weight for _, weight in taps]
        self.offset_table = self.builder.table(offsets or [0])
        self.weight_table = self.builder.table(weights or [0])

    def _choose_vectors(self) -> None:
        """Vectors of positions in a tile: few enough for the registers, little left over."""
        lanes = self.vector.lanes
        channels = self.c.target_channels
        self.rows = max(1, -(-channels // max(1, -(-channels // MOST_ROWS))))
        most = max(1, MOST_SUMS * self.target.registers // 32 // self.rows)
        count = -(-self.band_rows * self.layout.width // lanes)
        choices = range(max(1, most // 2), most + 1)
        self.vectors = min(choices, key=lambda v: (-(-count // v) * v, -v))
        step = self.vectors * lanes
        self.flat = -(-self.band_rows * self.layout.width // step) * step

    def _place_scratch(self) -> None:
        c, step = self.c, self.vectors * self.vector.lanes
        depth = max((axis.count for axis in c.axes[0]), default=0)
        self.slice = self.flat
        self.row_of_sums = depth * self.slice
        self.phase_sums = c.target_channels * self.row_of_sums
        sizes = {
            # Sums are made over whole rows, and in whole tiles: past the last tap's end.
            "source": c.source_channels * self.layout.channel + self.layout.width + step,
            "sums": math.prod(c.target_step) * self.phase_sums,
        }
        align = 64 // self.sums.bytes
        self.offsets, at = {}, 0
        for name, size in sizes.items():
            self.offsets[name] = at
            at += -(-size // align) * align + align
        self.scratch_bytes = at * self.sums.bytes

    def _scratch(self, name: str) -> str:
        return self.vector.address("%scratch", self.offsets[name])

    def kernel(self, stem: str) -> Kernel:
        emitter, c = self.entry, self.c
        empty = 0 in c.target or c.target_channels == 0
        if not empty:
            self.tile = self._tile_function()
            emitter.loop("%lo", "%hi", 1, self._unit)
        count = Emitter(["i64 %batch"], result="i64")
        units = count.mul(self.batch, 0 if empty else c.groups * self.bands)
        if isinstance(units, str):
            count.line(f"ret i64 {units}")
            units = self.builder.define("units", count)
        return self.builder.finish(
            stem,
            emitter,
            operands=self.operands,
            sizes=self.sizes,
            units=units,
            scratch_bytes=self.scratch_bytes,
            over=self.epilogue.over(out=False) if self.epilogue else (),
        )

    def _unit(self, unit: Index, _carried: Sequence[str]) -> None:
        """One band of one group of one image."""
        emitter, c, vector = self.entry, self.c, self.vector
        image_group = emitter.floor_div(unit, self.bands)
        band = emitter.remainder(unit, image_group, self.bands)
        image = emitter.floor_div(image_group, c.groups)
        group = emitter.remainder(image_group, image, c.groups)
        low = emitter.floor_div(emitter.mul(band, self.height), self.bands)
        high = emitter.floor_div(emitter.mul(emitter.add(band, 1), self.height), self.bands)
        source = emitter.mul(image_group, c.source_channels * math.prod(c.source))
        rows = emitter.mul(emitter.sub(high, low), c.source_step[1])
        packer = PlanePacker(self.builder, vector, self.stored, self.layout)
        packer.pack(
            vector.address("%x", source, self.stored),
            self._scratch("source"),
            first_row=emitter.mul(low, c.source_step[1]),
            rows=emitter.add(rows, BandLayout.reach(c)),
            channels=c.source_channels,
        )
        per_group = c.source_channels * c.target_channels * self.taps_of_all
        weights = vector.address("%w", emitter.mul(group, per_group), self.stored)
        self._each_phase(weights, low, high)
        first = emitter.mul(image_group, c.target_channels)
        self._write(image, group, first, (low, high))

    # Sums

    def _tile_function(self) -> Subroutine:
        """Sums of some target channels over `count` positions, for taps [low, high)."""
        c, lanes = self.c, self.vector.lanes
        several = len(self.phases) > 1
        low, high = self.phases[0].taps if self.phases else (0, 0)
        routine = Subroutine(
            ("w", "x", "y"),
            {"count": None, "low": None if several else low, "high": None if several else high},
        )
        emitter, values = routine.emitter, routine.values
        vector = Vector(emitter, self.sums, self.target)

        def positions(at: Index, _carried: Sequence[str]) -> None:
            here = vector.address("%x", at)

            def channel(source: Index, sums: Sequence[str]) -> Sequence[str]:
                plane = vector.address(here, emitter.mul(source, self.layout.channel))
                weights_at = emitter.mul(source, self.source_stride)
                weights = vector.address("%w", weights_at, self.stored)

                def tap(number: Index, inner: Sequence[str]) -> list[str]:
                    return self._tap(vector, (weights, plane), number, inner)

                carried = [(vector.type, value) for value in sums]
                return emitter.loop(values["low"], values["high"], 1, tap, carried)

            zeros = [(vector.type, vector.zero)] * (self.rows * self.vectors)
            sums = emitter.loop(0, c.source_channels, 1, channel, zeros)
            into = vector.address("%y", at)
            for place, value in enumerate(sums):
                row, v = divmod(place, self.vectors)
                to = row * self.row_of_sums + v * lanes
                vector.store(value, vector.address(into, to))

        emitter.loop(0, values["count"], self.vectors * lanes, positions)
        routine.define(self.builder, f"planes{self.rows}x{self.vectors}")
        return routine

    def _tap(
        self, vector: Vector, pointers: tuple[str, str], number: Index, sums: Sequence[str]
    ) -> list[str]:
        emitter = vector.emitter
        weights, plane = pointers

        def entry(table: str) -> str:
            return emitter.load("i64", emitter.address(table, number, "i64"), 8)

        start = vector.address(plane, entry(self.offset_table))
        weight = vector.address(weights, entry(self.weight_table), self.stored)
        values = [vector.load(vector.address(start, v * vector.lanes)) for v in range(self.vectors)]
        result = []
        for row in range(self.rows):
            at = vector.address(weight, row * self.target_stride, self.stored)
            spread = vector.splat(vector.load_scalar(at, self.stored))
            for v, value in enumerate(values):
                total = sums[row * self.vectors + v]
                result.append(vector.multiply_add(spread, value, total))
        return result

    def _each_phase(self, weights: str, low: Index, high: Index) -> None:
        """All sums of a band into their buffer [phase][target channel][depth][position]."""
        emitter = self.entry
        names = ("depth", "height", "low", "high", "place")
        records = []
        steps = self.c.target_step
        for phase in self.phases:
            d, h, w = phase.axes
            place = ((d.first * steps[1] + h.first) * steps[2] + w.first) * self.phase_sums
            records.append((d.count, h.count, *phase.taps, place))
        if len(records) == 1:
            self._phase(dict(zip(names, records[0])), weights, low, high)
            return
        table = self.builder.table([value for record in records for value in record])

        def phase(at: Index, _carried: Sequence[str]) -> None:
            base = emitter.address(table, emitter.mul(at, len(names)), "i64")
            fields: dict[str, Index] = {
                name: emitter.load("i64", emitter.address(base, place, "i64"), 8)
                for place, name in enumerate(names)
            }
            self._phase(fields, weights, low, high)

        emitter.loop(0, len(records), 1, phase)

    def _phase(self, fields: dict[str, Index], weights: str, low: Index, high: Index) -> None:
        emitter, c, vector = self.entry, self.c, self.vector
        end = emitter.minimum(high, fields["height"])
        count = emitter.mul(emitter.sub(end, low), self.layout.width)
        base = vector.address(self._scratch("sums"), fields["place"])
        depth_stride = self.layout.size[1] * self.layout.width

        def tile(depth: Index, channel: Index) -> None:
            at = emitter.mul(channel, self.target_stride)
            x = vector.address(self._scratch("source"), emitter.mul(depth, depth_stride))
            y_at = emitter.add(
                emitter.mul(channel, self.row_of_sums), emitter.mul(depth, self.slice)
            )
            pointers = (vector.address(weights, at, self.stored), x, vector.address(base, y_at))
            self.tile.call(emitter, pointers, {"count": count, **fields})

        def channels(depth: Index, _carried: Sequence[str]) -> None:
            def some(at: Index, _none: Sequence[str]) -> None:
                tile(depth, emitter.minimum(at, c.target_channels - self.rows))

            emitter.loop(0, c.target_channels, self.rows, some)

        emitter.loop(0, fields["depth"], 1, channels)

    # Rows of the target

    def _write(self, image: Index, group: Index, first: Index, rows: tuple[Index, Index]) -> None:
        emitter, c, vector = self.entry, self.c, self.vector
        step = c.target_step
        start = emitter.mul(rows[0], step[1])
        end = emitter.minimum(emitter.mul(rows[1], step[1]), c.target[1])

        def channel(at: Index, _carried: Sequence[str]) -> None:
            sums = vector.address(self._scratch("sums"), emitter.mul(at, self.row_of_sums))
            out_at = emitter.mul(emitter.add(first, at), math.prod(c.target))
            out = vector.address("%out", out_at, self.stored)
            emitter.loop(0, c.target[0], 1, lambda z, _none: in_depth(at, sums, out, z))

        def in_depth(at: Index, sums: str, out: str, z: Index) -> None:
            def row(y: Index, _carried: Sequence[str]) -> None:
                z_place = emitter.floor_div(z, step[0])
                y_place = emitter.floor_div(y, step[1])
                z_phase = emitter.remainder(z, z_place, step[0])
                y_phase = emitter.remainder(y, y_place, step[1])
                phase = emitter.mul(emitter.add(emitter.mul(z_phase, step[1]), y_phase), step[2])
                place = emitter.mul(phase, self.phase_sums)
                place = emitter.add(place, emitter.mul(z_place, self.slice))
                line = emitter.mul(emitter.sub(y_place, rows[0]), self.layout.width)
                here = vector.address(sums, emitter.add(place, line))
                pixel = emitter.mul(emitter.add(emitter.mul(z, c.target[1]), y), c.target[2])
                into = vector.address(out, pixel, self.stored)
                self._row(here, into)
                if self.epilogue is not None:
                    channel_at = emitter.add(emitter.mul(group, c.target_channels), at)
                    self._change(into, (image, channel_at, pixel))

            emitter.loop(start, end, 1, row)

        emitter.loop(0, c.target_channels, 1, channel)

    def _row(self, sums: str, out: str) -> None:
        """One row of the target from its phases' rows of sums."""
        emitter, vector, width, step = self.entry, self.vector, self.c.target[2], self.c.target_step
        if step[2] == 1:
            copy_row(vector, vector.element, sums, out, width, into=self.stored)
        elif step[2] == 2 and width > 1:
            self._join_pairs(sums, out)
        else:
            for phase in range(min(step[2], width)):
                from_ = vector.address(sums, phase * self.phase_sums)

                def one(at: Index, _none: Sequence[str], phase=phase, from_=from_) -> None:
                    value = vector.load_scalar(vector.address(from_, at))
                    to = emitter.add(emitter.mul(at, step[2]), phase)
                    vector.store_scalar(value, vector.address(out, to, self.stored), self.stored)

                emitter.loop(0, -(-(width - phase) // step[2]), 1, one)

    def _join_pairs(self, sums: str, out: str) -> None:
        """Even and odd positions in turns, two vectors at a time."""
        emitter, vector, width = self.entry, self.vector, self.c.target[2]
        lanes = vector.lanes

        def pair(at: Index, masks: Sequence[str | None]) -> None:
            half = emitter.floor_div(at, 2)
            # Reads past a row's end stay within the sums.
            values = [
                vector.load(vector.address(sums, emitter.add(half, phase * self.phase_sums)))
                for phase in range(2)
            ]
            for v in range(2):
                chosen = [(lane + v * lanes) // 2 + (lane % 2) * lanes for lane in range(lanes)]
                value = shuffle(vector, *values, chosen)
                to = vector.address(out, emitter.add(at, v * lanes), self.stored)
                vector.store(value, to, masks[v], self.stored)

        full = width // (2 * lanes) * 2 * lanes
        emitter.loop(0, full, 2 * lanes, lambda at, _none: pair(at, (None, None)))
        if full < width:
            rest = width - full
            pair(full, [vector.first(max(0, rest - v * lanes)) for v in range(2)])

    def _change(self, row: str, place: tuple[Index, Index, Index]) -> None:
        """The epilogue over one row of the target."""
        finish = finisher(self.builder, self.vector, self.stored, self.stored, self.epilogue)
        counts: dict[str, Index] = {"rows": 1, "columns": self.c.target[2]}
        counts |= {"from_stride": 0, "to_stride": 0}
        counts |= dict(zip(("batch", "row", "column"), place))
        finish.call(self.entry, (row, row, *(f"%{name}" for name in self.extra)), counts)
