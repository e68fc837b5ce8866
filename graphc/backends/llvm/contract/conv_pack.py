"""Copies for convolutions: bordered channels-last copies of the source, weights by panels."""

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.conv_problem import Correlation
from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.packing import column_copier, transpose_lanes, transposer
from graphc.backends.llvm.contract.vector import Vector


def zero_filler(builder: KernelBuilder, like: Vector) -> Subroutine:
    """A subroutine that clears `count` elements."""
    routine = Subroutine(("destination",), {"count": None})
    emitter, count = routine.emitter, routine.values["count"]
    vector = Vector(emitter, like.element, like.target, like.lanes)
    full = emitter.round_down(count, vector.lanes)

    def whole(at: Index, _carried: Sequence[str]) -> None:
        vector.store(vector.zero, vector.address("%destination", at))

    def single(at: Index, _carried: Sequence[str]) -> None:
        to = vector.address("%destination", at)
        zero = "0.0" if vector.element.floating else "0"
        emitter.store(vector.element.llvm, zero, to, vector.element.bytes)

    emitter.loop(0, full, vector.lanes, whole)
    emitter.loop(full, count, 1, single)
    routine.define(builder, "clear")
    return routine


@dataclass(frozen=True, slots=True)
class BandLayout:
    """The bordered copy of a band: [channel block][depth][rows][width][channel].

    block  channels of a block: all, or a multiple of the side of a transpose
    rows   rows at most
    """

    correlation: Correlation
    block: int
    rows: int

    @staticmethod
    def reach(correlation: Correlation) -> int:
        """n rows of positions read n * source_step + reach rows of the copy."""
        c = correlation
        ends = (a.origin + (a.taps - 1) * c.tap_step[1] + 1 for a in c.axes[1] if a.taps)
        return max(ends, default=1) - c.source_step[1]

    @staticmethod
    def of(correlation: Correlation, block: int, band_rows: int) -> "BandLayout":
        """The layout for bands of that many rows of positions."""
        rows = band_rows * correlation.source_step[1] + BandLayout.reach(correlation)
        return BandLayout(correlation, block, max(rows, 1))

    @property
    def is_plain(self) -> bool:
        """Whether positions lie one after the other.

        At multiples of 2 KB they would share a few sets of the first cache.
        """
        return self.block % 512 != 0

    @property
    def pixel(self) -> int:
        """Elements from one position to the next."""
        return self.block + (0 if self.is_plain else 16)

    @property
    def row(self) -> int:
        """Elements of one row of one block."""
        return self.correlation.copy[2] * self.pixel

    @property
    def plane(self) -> int:
        return self.rows * self.row

    @property
    def one_block(self) -> int:
        return self.correlation.copy[0] * self.plane

    @property
    def blocks(self) -> int:
        return -(-self.correlation.source_channels // self.block)


class SourcePacker:
    """Writes the bordered copy of a band of one image's source channels of one group."""

    def __init__(
        self, builder: KernelBuilder, vector: Vector, stored: Element, layout: BandLayout
    ) -> None:
        self.emitter = vector.emitter
        self.vector = vector
        self.stored = stored
        self.layout = layout
        self.side = transpose_lanes(vector)
        self.clear = zero_filler(builder, vector)
        self.partial = layout.block < self.side
        self.transpose = transposer(builder, vector, stored, exact=self.partial)

    def pack(
        self,
        source: str,
        destination: str,
        *,
        first_row: Index,
        rows: Index,
        blocks: tuple[Index, Index],
    ) -> None:
        """Rows [first_row, first_row + rows) of the copy, of a range of channel blocks.

        source  the first channel of the group in its image
        """
        emitter, layout = self.emitter, self.layout
        c = layout.correlation

        def row(block: Index, depth: Index, at: Index) -> None:
            place = emitter.add(emitter.mul(depth, layout.plane), emitter.mul(at, layout.row))
            place = emitter.add(place, emitter.mul(block, layout.one_block))
            there = self.vector.address(destination, place)
            z = emitter.sub(depth, c.border[0])
            y = emitter.sub(emitter.add(first_row, at), c.border[1])
            inside = self._inside(z, c.source[0], y, c.source[1])
            here = emitter.add(
                emitter.mul(z, c.source[1] * c.source[2]), emitter.mul(y, c.source[2])
            )
            channel = emitter.mul(block, layout.block)
            emitter.when(
                inside,
                lambda: self._row(source, here, channel, there),
                lambda: self._clear(there, c.copy[2]),
            )

        def in_depth(block: Index, depth: Index) -> None:
            emitter.loop(0, rows, 1, lambda at, _none: row(block, depth, at))

        def in_block(block: Index, _carried: Sequence[str]) -> None:
            emitter.loop(0, c.copy[0], 1, lambda depth, _none: in_depth(block, depth))

        emitter.loop(*blocks, 1, in_block)

    def _inside(self, z: Index, depth: int, y: Index, height: int) -> str | bool:
        emitter = self.emitter
        if isinstance(z, int):
            return emitter.compare("ult", y, height) if 0 <= z < depth else False
        conditions = (emitter.compare("ult", z, depth), emitter.compare("ult", y, height))
        return emitter.value(f"and i1 {conditions[0]}, {conditions[1]}")

    def _clear(self, pointer: str, pixels: int) -> None:
        if pixels > 0:
            count = pixels * self.layout.pixel
            self.clear.call(self.emitter, (pointer,), {"count": count})

    def _row(self, source: str, here: Index, channel: Index, there: str) -> None:
        """One row that the source has: its border, and its pixels channels-last."""
        emitter, vector, layout = self.emitter, self.vector, self.layout
        c = layout.correlation
        start = max(c.border[2], 0)
        end = min(c.copy[2], c.border[2] + c.source[2])
        start, end = min(start, c.copy[2]), max(end, min(start, c.copy[2]))
        self._clear(there, start)
        self._clear(vector.address(there, end * layout.pixel), c.copy[2] - end)
        if end == start:
            return
        channel_stride = c.source[0] * c.source[1] * c.source[2]
        from_pixel = emitter.add(here, start - c.border[2])
        to_pixel = vector.address(there, start * layout.pixel)
        whole = layout.blocks == 1
        channels: Index = c.source_channels
        if not whole:
            rest = emitter.sub(c.source_channels, channel)
            channels = emitter.minimum(rest, layout.block)
        overlap = whole and not self.partial and c.source_channels >= self.side

        def some(at: Index, _carried: Sequence[str]) -> None:
            if overlap:
                at = emitter.minimum(at, c.source_channels - self.side)
            first = emitter.mul(emitter.add(channel, at), channel_stride)
            pixel = vector.address(source, emitter.add(from_pixel, first), self.stored)
            counts: dict[str, Index] = {
                "rows": self.side
                if overlap
                else emitter.minimum(emitter.sub(channels, at), self.side),
                "count": end - start,
                "from_stride": channel_stride,
                "to_stride": layout.pixel,
            }
            self.transpose.call(emitter, (pixel, vector.address(to_pixel, at)), counts)

        emitter.loop(0, channels, self.side, some)


class WeightPacker:
    """Writes weights as [group][panel][tap][source channel][columns of a panel].

    Taps are listed phase by phase. Columns that do not exist repeat one that does.
    """

    # Elements of k that are transposed before they are put in their places.
    CHUNK = 64
    # Chunks ahead of use to fetch: they are pieces of more rows than the processor follows itself.
    AHEAD = 3

    def __init__(
        self,
        builder: KernelBuilder,
        vector: Vector,
        stored: Element,
        correlation: Correlation,
        columns: int,
        *,
        transposed: bool,
    ) -> None:
        """transposed: weights are [source][target][tap] (for the input's gradient)."""
        self.emitter, self.vector, self.stored = vector.emitter, vector, stored
        self.correlation, self.columns, self.transposed = correlation, columns, transposed
        self.side = transpose_lanes(vector)
        self.builder = builder
        c = correlation
        positions = c.tap_positions
        self.taps = len(positions)
        ordered = positions == list(range(self.taps))
        self.order = None if ordered else positions
        self.chunk = 1 if transposed else max(1, min(c.source_channels, self.CHUNK // self.taps))
        self.scratch_elements = self.chunk * self.taps * columns

    @property
    def panels(self) -> int:
        return -(-self.correlation.target_channels // self.columns)

    @property
    def panel_elements(self) -> int:
        return self.taps * self.correlation.source_channels * self.columns

    @property
    def elements(self) -> int:
        """Of all packed weights."""
        return self.correlation.groups * self.panels * self.panel_elements

    def pack_panels(
        self, weights: str, destination: str, scratch: str, low: Index, high: Index
    ) -> None:
        """Panels [low, high), counted over all groups, to their places in `destination`."""

        def panel(at: Index, _carried: Sequence[str]) -> None:
            place = self.emitter.mul(at, self.panel_elements)
            self.pack_panel(weights, self.vector.address(destination, place), scratch, at)

        self.emitter.loop(low, high, 1, panel)

    def pack_panel(self, weights: str, destination: str, scratch: str, panel: Index) -> None:
        """One panel, to `destination`."""
        emitter, c = self.emitter, self.correlation
        group = emitter.floor_div(panel, self.panels)
        first = emitter.mul(emitter.remainder(panel, group, self.panels), self.columns)
        exist = emitter.minimum(emitter.sub(c.target_channels, first), self.columns)
        group_at = c.source_channels * c.target_channels * self.taps
        source_stride, target_stride = self.taps, c.source_channels * self.taps
        if self.transposed:
            source_stride, target_stride = c.target_channels * self.taps, self.taps
        here = emitter.add(emitter.mul(group, group_at), emitter.mul(first, target_stride))
        strides = (source_stride, target_stride)
        if target_stride == 1:
            self._rows(self.vector.address(weights, here, self.stored), destination, first)
            return

        def some(channel: Index, _none: Sequence[str]) -> None:
            count = emitter.minimum(emitter.sub(c.source_channels, channel), self.chunk)
            at_channel = emitter.add(here, emitter.mul(channel, source_stride))
            from_ = self.vector.address(weights, at_channel, self.stored)
            self._chunk(from_, destination, scratch, (channel, count), exist, strides)

        emitter.loop(0, c.source_channels, self.chunk, some)

    def _rows(self, source: str, panel: str, first: Index) -> None:
        """One panel whose columns lie side by side in the weights."""
        emitter, c, vectors = self.emitter, self.correlation, self.columns // self.vector.lanes
        counts: dict[str, Index] = {"count": c.source_channels}
        counts |= {"from_stride": c.target_channels, "to_stride": self.columns}

        def copy(columns: int) -> None:
            copier = column_copier(self.builder, self.vector, self.stored, columns, vectors)
            copier.call(emitter, (source, panel), counts)

        full, rest = divmod(c.target_channels, self.columns)
        if not full or not rest:
            copy(self.columns if full else rest)
            return
        whole = emitter.less(first, full * self.columns)
        emitter.when(whole, lambda: copy(self.columns), lambda: copy(rest))

    def _fetch(self, source: str, strides: tuple[int, int]) -> None:
        """What a later chunk has of the rows of a square."""
        routine = Subroutine(("source",), {})
        emitter, vector, size = routine.emitter, self.vector.on(routine.emitter), self.stored.bytes
        ahead, length = self.AHEAD * self.chunk * strides[0], self.chunk * self.taps
        first = vector.address("%source", ahead, self.stored)

        def row(at: Index, _carried: Sequence[str]) -> None:
            here = vector.address(first, emitter.mul(at, strides[1]), self.stored)
            for line in range(0, length, 64 // size):
                emitter.prefetch(vector.address(here, line, self.stored), far=True)

        emitter.loop(0, self.side, 1, row)
        routine.define(self.builder, "fetch")
        routine.call(self.emitter, (source,), {})

    def _chunk(
        self,
        source: str,
        panel: str,
        scratch: str,
        channels: tuple[Index, Index],
        exist: Index,
        strides: tuple[int, int],
    ) -> None:
        """Some source channels of one panel: transposed into scratch, then put in place."""
        emitter, vector = self.emitter, self.vector
        first, count = channels
        transpose = transposer(self.builder, vector, self.stored)

        def columns(at: Index, _carried: Sequence[str]) -> None:
            from_ = vector.address(source, emitter.mul(at, strides[1]), self.stored)
            self._fetch(from_, strides)
            counts: dict[str, Index] = {
                "rows": emitter.minimum(emitter.sub(exist, at), self.side),
                "count": emitter.mul(count, self.taps),
                "from_stride": strides[1],
                "to_stride": self.columns,
            }
            transpose.call(emitter, (from_, vector.address(scratch, at)), counts)

        emitter.loop(0, exist, self.side, columns)

        def tap(at: Index, _carried: Sequence[str]) -> None:
            place = at
            if self.order is not None:
                address = emitter.address(self.builder.table(self.order), at, "i64")
                place = emitter.load("i64", address, 8)
            row = emitter.add(emitter.mul(place, self.correlation.source_channels), first)
            there = vector.address(panel, emitter.mul(row, self.columns))
            here = vector.address(scratch, emitter.mul(at, self.columns))

            def channel(step: Index, _none: Sequence[str]) -> None:
                from_ = vector.address(here, emitter.mul(step, self.taps * self.columns))
                to = vector.address(there, emitter.mul(step, self.columns))
                for lane in range(0, self.columns, vector.lanes):
                    value = vector.load(vector.address(from_, lane))
                    vector.store(value, vector.address(to, lane))

            emitter.loop(0, count, 1, channel)

        emitter.loop(0, self.taps, 1, tap)
