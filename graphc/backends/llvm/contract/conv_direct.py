"""Direct correlations: the kernel of a convolution, and of the gradient of its input.

A band of an image is copied channels-last with its border; for each panel of target channels
the tiles fill a channels-last buffer, which then is turned into the target's layout. Units of
work are bands of images, or, where an image is one band, panels of its channels.
"""

import math
from collections.abc import Callable, Sequence

from graphc.backends.llvm.contract.conv_pack import BandLayout, SourcePacker, WeightPacker
from graphc.backends.llvm.contract.conv_problem import Correlation
from graphc.backends.llvm.contract.conv_schedule import ConvSchedule
from graphc.backends.llvm.contract.conv_tile import TAPS, ConvTiles
from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.epilogue import Epilogue
from graphc.backends.llvm.contract.finish import finisher
from graphc.backends.llvm.contract.kernel import Kernel, KernelBuilder, entry_emitter
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

# Fields of a phase as the kernel reads them, each an i64.
PHASE = ("depth", "height", "width", "source", "target", *TAPS, "weights")


class DirectKernel:
    """Writes one kernel."""

    def __init__(
        self,
        correlation: Correlation,
        stored: Element,
        batch: int | None,
        target: Target,
        schedule: ConvSchedule,
        *,
        transposed: bool,
        packed_weights: bool,
        epilogue: Epilogue | None,
    ) -> None:
        """
        transposed      weights are [source][target][tap]
        packed_weights  the second operand is already what `WeightPacker` writes
        """
        self.c = correlation
        self.stored = stored
        self.schedule = schedule
        self.epilogue = epilogue
        self.sums = stored.accumulator
        self.builder = KernelBuilder()
        self.extra = epilogue.operands if epilogue else ()
        self.sizes = ("batch",) if batch is None else ()
        self.batch: Index = "%batch" if batch is None else batch
        self.operands = ("x", "w", "out", *self.extra)
        shared = epilogue.shared("out") if epilogue else ()
        self.entry = entry_emitter(self.operands, self.sizes, shared)
        self.vector = vector = Vector(self.entry, self.sums, target)
        self.columns = schedule.vectors * vector.lanes
        c = correlation
        self.height = max((axis.count for axis in c.axes[1]), default=0)
        self.band_rows = schedule.band_rows(self.height)
        self.reach = BandLayout.reach(c)
        self.layout = BandLayout.of(c, c.source_channels, self.band_rows)
        self.out_pixel = self.columns
        self.out_plane = self.band_rows * c.target_step[1] * c.target[2]
        self.weights = WeightPacker(
            self.builder, vector, stored, c, self.columns, transposed=transposed
        )
        self.packed_weights = packed_weights
        self.tiles = ConvTiles(
            self.builder, target, self.sums, self.layout, schedule, self.columns, self.out_pixel
        )
        self._plan()
        # Weights that one call uses once are packed when they are used, panel by panel.
        self.packs_each = not packed_weights and batch == 1 and schedule.bands == 1
        self._place_scratch()

    def _plan(self) -> None:
        """Another plan of a subclass."""

    @property
    def skips(self) -> bool:
        """Whether tiles leave out the taps that read only border."""
        return self.schedule.rows == 1 and self.c.skips_border_rows

    @property
    def buffered(self) -> int:
        """Elements of the buffer of one panel."""
        return self.c.target[0] * self.out_plane * self.out_pixel

    def _place_scratch(self) -> None:
        weights = self.weights.panel_elements if self.packs_each else self.weights.elements
        sizes = {
            "source": self.layout.one_block,
            "target": self.buffered,
            "weights": 0 if self.packed_weights else weights,
            "chunk": 0 if self.packed_weights else self.weights.scratch_elements,
        }
        align = 64 // self.sums.bytes
        self.offsets, at = {}, 0
        for name, size in sizes.items():
            self.offsets[name] = at
            at += -(-size // align) * align + align
        self.scratch_bytes = at * self.sums.bytes

    def _scratch(self, name: str) -> str:
        return self.vector.address("%scratch", self.offsets[name])

    @property
    def panels(self) -> int:
        return self.weights.panels

    @property
    def units_of_an_image(self) -> int:
        per_group = self.panels if self.schedule.by_channels else self.schedule.bands
        return self.c.groups * per_group

    def kernel(self, stem: str) -> Kernel:
        emitter = self.entry
        empty = 0 in self.c.target or self.c.target_channels == 0
        if not empty:
            emitter.when(emitter.less("%lo", "%hi"), self._units)
        count = Emitter(["i64 %batch"], result="i64")
        units = count.mul(self.batch, 0 if empty else self.units_of_an_image)
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
            over=self.over,
        )

    @property
    def over(self) -> tuple[str, ...]:
        """`Kernel.over`: the sums come to lie in the output before the epilogue."""
        return self.epilogue.over(out=False) if self.epilogue else ()

    @property
    def packed_bytes(self) -> int:
        """Size of the packed weights."""
        return self.weights.elements * self.sums.bytes

    def weight_kernel(self) -> Kernel:
        """The kernel that packs weights alone; it takes the place of this one."""
        self.entry = emitter = entry_emitter(("w", "packed"), ())
        self.weights.emitter = self.weights.vector.emitter = emitter
        self.weights.pack_panels("%w", "%packed", "%scratch", "%lo", "%hi")
        return self.builder.finish(
            "conv_weights",
            emitter,
            operands=("w", "packed"),
            sizes=(),
            units=self.c.groups * self.panels,
            scratch_bytes=self.weights.scratch_elements * self.sums.bytes,
        )

    def _units(self) -> None:
        """Units are (image, group, band or panel), walked by group of an image."""
        emitter, schedule, c = self.entry, self.schedule, self.c
        inner = self.units_of_an_image // c.groups
        first = emitter.floor_div("%lo", inner)
        last = emitter.floor_div(emitter.sub("%hi", 1), inner)
        self.packed = "%w"
        if not self.packed_weights:
            self.packed = self._scratch("weights")
            if not self.packs_each:
                self._pack_weights(first, last)

        def group(outer: Index, _carried: Sequence[str]) -> None:
            base = emitter.mul(outer, inner)
            low = emitter.maximum(emitter.sub("%lo", base), 0)
            high = emitter.minimum(emitter.sub("%hi", base), inner)
            image = emitter.floor_div(outer, c.groups)
            which = emitter.remainder(outer, image, c.groups)
            bands, panels = (low, high), (0, self.panels)
            if schedule.by_channels:
                bands, panels = (0, schedule.bands), (low, high)
            if inner == 1:
                bands, panels = (0, schedule.bands), (0, self.panels)
            emitter.loop(*bands, 1, lambda band, _none: self._band(image, which, band, panels))

        emitter.loop(first, emitter.add(last, 1), 1, group)

    def _pack_weights(self, first: Index, last: Index) -> None:
        """All weights; of a range within one group of an image those of its panels."""
        emitter, groups, panels = self.entry, self.c.groups, self.panels
        low: Index = 0
        high: Index = groups * panels
        if self.schedule.by_channels and panels > 1:
            alone = emitter.compare("eq", first, last)
            # Units count panels of all images; this group's are from `base` on.
            image = emitter.floor_div(first, groups)
            base = emitter.mul(image, groups * panels)
            low = emitter.select(alone, emitter.sub("%lo", base), low)
            high = emitter.select(alone, emitter.sub("%hi", base), high)
        self.weights.pack_panels("%w", self.packed, self._scratch("chunk"), low, high)

    def rows_of(self, band: Index) -> tuple[Index, Index]:
        """The rows of a phase's positions that are a band's: whole tiles, the rest in the last."""
        emitter, bands, rows = self.entry, self.schedule.bands, self.schedule.rows
        if bands == 1:
            return 0, self.height
        tiles, after = self.height // rows, emitter.add(band, 1)
        low = emitter.mul(emitter.floor_div(emitter.mul(band, tiles), bands), rows)
        high = emitter.mul(emitter.floor_div(emitter.mul(after, tiles), bands), rows)
        if self.height % rows:
            last = emitter.compare("eq", after, bands)
            high = emitter.select(last, self.height, high)
        return low, high

    def _band(self, image: Index, group: Index, band: Index, panels: tuple[Index, Index]) -> None:
        emitter, c = self.entry, self.c
        low, high = self.rows_of(band)
        image_group = emitter.add(emitter.mul(image, c.groups), group)
        source_at = emitter.mul(image_group, c.source_channels * math.prod(c.source))
        steps = emitter.mul(emitter.sub(high, low), c.source_step[1])
        self.source = self._scratch("source")
        packer = SourcePacker(self.builder, self.vector, self.stored, self.layout)
        packer.pack(
            self.vector.address("%x", source_at, self.stored),
            self.source,
            first_row=emitter.mul(low, c.source_step[1]),
            rows=emitter.add(steps, self.reach),
            blocks=(0, 1),
        )

        def panel(at: Index, _carried: Sequence[str]) -> None:
            which = emitter.add(emitter.mul(group, self.panels), at)
            weights = self.packed
            if self.packs_each:
                self.weights.pack_panel("%w", weights, self._scratch("chunk"), which)
            else:
                place = emitter.mul(which, self.weights.panel_elements)
                weights = self.vector.address(weights, place)
            self._phases(low, high, weights, at)
            first = emitter.mul(at, self.columns)
            self._unpack(image_group, image, group, (low, high), first)

        emitter.loop(*panels, 1, panel)

    # Tiles

    def _phases(self, low: Index, high: Index, weights: str, panel: Index) -> None:
        """Fill the buffer of one panel over positions [low, high) of each phase's rows."""
        emitter, c = self.entry, self.c
        records = [self._record(phase) for phase in c.phases]
        if len(records) == 1:
            self._phase(dict(zip(PHASE, records[0])), low, high, weights, panel)
            return
        table = self.builder.table([value for record in records for value in record])

        def phase(at: Index, _carried: Sequence[str]) -> None:
            base = emitter.address(table, emitter.mul(at, len(PHASE)), "i64")
            fields: dict[str, Index] = {}
            for place, name in enumerate(PHASE):
                column = {record[place] for record in records}
                fields[name] = (
                    column.pop()
                    if len(column) == 1
                    else emitter.load("i64", emitter.address(base, place, "i64"), 8)
                )
            self._phase(fields, low, high, weights, panel)

        emitter.loop(0, len(records), 1, phase)

    def _record(self, phase: Sequence) -> tuple[int, ...]:
        """The fields of `PHASE`; places are in elements, of the target in positions."""
        layout, c = self.layout, self.c
        steps = (layout.plane, layout.row, layout.pixel)
        source = sum(axis.origin * step for axis, step in zip(phase, steps))
        out_steps = (self.out_plane, c.target[2], 1)
        target = sum(axis.first * step for axis, step in zip(phase, out_steps))
        weights = c.taps_before(phase) * c.source_channels * self.columns
        taps = tuple(axis.taps for axis in phase)
        return (*(axis.count for axis in phase), source, target, *taps, weights)

    def _phase(
        self, fields: dict[str, Index], low: Index, high: Index, weights: str, panel: Index
    ) -> None:
        emitter, c, vector = self.entry, self.c, self.vector
        schedule, layout = self.schedule, self.layout
        a_base = vector.address(self.source, fields["source"])
        b = vector.address(weights, fields["weights"])
        end = emitter.minimum(high, fields["height"])
        rows = emitter.sub(end, low)

        def tile(depth: Index, row: Index, column: Index) -> None:
            nominal = (row, column)
            if not isinstance(row, int) or row:
                row = emitter.minimum(row, emitter.sub(rows, schedule.rows))
            if not isinstance(column, int) or column:
                column = emitter.minimum(column, emitter.sub(fields["width"], schedule.columns))
            a_at = emitter.mul(depth, c.source_step[0] * layout.plane)
            a_at = emitter.add(a_at, emitter.mul(row, c.source_step[1] * layout.row))
            a_at = emitter.add(a_at, emitter.mul(column, c.source_step[2] * layout.pixel))
            c_at = emitter.add(
                fields["target"], emitter.mul(depth, c.target_step[0] * self.out_plane)
            )
            c_at = emitter.add(c_at, emitter.mul(row, c.target_step[1] * c.target[2]))
            c_at = emitter.add(c_at, emitter.mul(column, c.target_step[2]))
            taps = dict(fields) | self._skipped(nominal, (row, column))
            b_here = b
            if self.skips:
                skipped, taps["taps_h"] = self._taps_inside(emitter.add(low, row))
                a_at = emitter.add(a_at, emitter.mul(skipped, c.tap_step[1] * layout.row))
                per_row = c.kernel[2] * c.source_channels * self.columns
                b_here = vector.address(b, emitter.mul(skipped, per_row))
            self._tile(panel, vector.address(a_base, a_at), b_here, c_at, taps)

        def across(depth: Index, row: Index) -> None:
            emitter.loop(
                0, fields["width"], schedule.columns, lambda at, _none: tile(depth, row, at)
            )

        def down(depth: Index, _carried: Sequence[str]) -> None:
            emitter.loop(0, rows, schedule.rows, lambda at, _none: across(depth, at))

        emitter.loop(0, fields["depth"], 1, down)

    def _skipped(
        self, nominal: tuple[Index, Index], start: tuple[Index, Index]
    ) -> dict[str, Index]:
        """What a subclass tells a tile that starts before its place, for its end's sake."""
        return {}

    def _tile(self, panel: Index, a: str, b: str, at: Index, taps: dict[str, Index]) -> None:
        """One tile, whose first position is `at` in the buffer."""
        place = self.entry.mul(at, self.out_pixel)
        pointers = (a, b, self.vector.address(self._scratch("target"), place))
        self._by_vectors(
            panel, lambda vectors: self.tiles.function(vectors).call(self.entry, pointers, taps)
        )

    def _taps_inside(self, row: Index) -> tuple[Index, Index]:
        """(the first, how many) of the vertical taps that read rows of the source."""
        emitter, c = self.entry, self.c
        axis, step = c.axes[1][0], c.tap_step[1]
        if c.inside == 1:
            return 0, axis.taps
        # Counted in rows of the copy from tap 0 on; `floor_div` wants no negative numbers.
        start = emitter.add(emitter.mul(row, c.source_step[1]), axis.origin)
        before = emitter.maximum(emitter.sub(c.border[1], start), 0)
        first = emitter.minimum(emitter.ceil_div(before, step), axis.taps)
        left = emitter.sub(c.border[1] + c.source[1] + step - 1, start)
        end = emitter.floor_div(emitter.maximum(left, 0), step)
        end = emitter.minimum(end, axis.taps)
        return first, emitter.maximum(emitter.sub(end, first), 0)

    def _by_vectors(self, panel: Index, body: Callable[[int], None]) -> None:
        """body(vectors of the panel), written once for each number that occurs."""
        full, rest = divmod(self.c.target_channels, self.columns)
        last = -(-rest // self.vector.lanes)
        if not rest or last == self.schedule.vectors:
            body(self.schedule.vectors)
        elif not full:
            body(last)
        else:
            self.entry.when(
                self.entry.less(panel, full),
                lambda: body(self.schedule.vectors),
                lambda: body(last),
            )

    # The target's layout

    def _unpack(
        self,
        image_group: Index,
        image: Index,
        group: Index,
        rows: tuple[Index, Index],
        first: Index,
    ) -> None:
        """Turn the buffer of one panel into rows of positions, channel by channel."""
        emitter, c, vector = self.entry, self.c, self.vector
        positions = math.prod(c.target)
        step = c.target_step[1]
        start = emitter.mul(rows[0], step)
        end = emitter.minimum(emitter.mul(rows[1], step), c.target[1])
        count = emitter.mul(emitter.sub(end, start), c.target[2])
        if self.schedule.bands == 1:
            count = c.target[1] * c.target[2]
        channels = emitter.minimum(emitter.sub(c.target_channels, first), self.columns)
        channel = emitter.add(emitter.mul(image_group, c.target_channels), first)
        side = transpose_lanes(vector)
        least = c.target[2] * (c.target[1] if self.schedule.bands == 1 else 1)
        exact = least < side
        turn = transposer(self.builder, vector, self.sums, into=self.stored, exact=exact)

        def plane(depth: Index, _carried: Sequence[str]) -> None:
            first_place = emitter.mul(depth, self.out_plane * self.out_pixel)
            source = vector.address(self._scratch("target"), first_place)
            at_row = emitter.add(emitter.mul(depth, c.target[1]), start)
            pixel = emitter.mul(at_row, c.target[2])
            into = emitter.add(emitter.mul(channel, positions), pixel)
            out = vector.address("%out", into, self.stored)

            def some(at: Index, _none: Sequence[str]) -> None:
                if not exact:
                    at = emitter.minimum(at, emitter.sub(count, side))
                here = vector.address(source, emitter.mul(at, self.columns))
                counts: dict[str, Index] = {
                    "rows": emitter.minimum(emitter.sub(count, at), side) if exact else side,
                    "count": channels,
                    "from_stride": self.columns,
                    "to_stride": positions,
                }
                turn.call(emitter, (here, vector.address(out, at, self.stored)), counts)

            emitter.loop(0, count, side, some)
            if self.epilogue is not None:
                at_channel = emitter.add(emitter.mul(group, c.target_channels), first)
                self._change(out, (image, at_channel, pixel), (channels, count), positions)

        emitter.loop(0, c.target[0], 1, plane)

    def _change(
        self,
        out: str,
        origin: tuple[Index, Index, Index],
        extent: tuple[Index, Index],
        stride: int,
    ) -> None:
        """The epilogue over rows of positions (row: channel, column: position)."""
        finish = finisher(self.builder, self.vector, self.stored, self.stored, self.epilogue)
        counts: dict[str, Index] = {"rows": extent[0], "columns": extent[1]}
        counts |= {"from_stride": stride, "to_stride": stride}
        counts |= dict(zip(("batch", "row", "column"), origin))
        finish.call(self.entry, (out, out, *(f"%{name}" for name in self.extra)), counts)
