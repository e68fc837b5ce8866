"""The gradient of a convolution's weights.

    grad_w[o, c, tap] = sum over images and positions of grad[o, position] * x[c, position + tap]

Both are copied band by band: x by blocks of channels, the gradient by panels of channels, so
that a tile reads consecutive memory. Tiles (input channels by a panel of output channels, for
each tap) add to a buffer [panel][c][tap][column], which at the end is turned into weights. A
unit of work is a panel or a block of channels and sums over all images, in one order.
"""

import math
from collections.abc import Sequence

from graphc.backends.llvm.contract.conv_pack import BandLayout, SourcePacker, zero_filler
from graphc.backends.llvm.contract.conv_problem import Correlation
from graphc.backends.llvm.contract.conv_schedule import WeightGradSchedule
from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.kernel import Kernel, KernelBuilder, Subroutine, entry_emitter
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer
from graphc.backends.llvm.contract.tile import Nest, Operands, contract
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

# Bytes of the copies of all images and of one panel of all gradients, for which a tile adds up
# all of a batch: a panel is read for each tile, so it should stay in the second cache.
MOST_AT_ONCE = 2 << 20
MOST_PANEL = 256 << 10

# (first, end) of a range of panels or blocks
Range = tuple[Index, Index]


class WeightGradKernel:
    """Writes one kernel."""

    def __init__(
        self,
        correlation: Correlation,
        stored: Element,
        batch: int | None,
        target: Target,
        schedule: WeightGradSchedule,
    ) -> None:
        self.c, self.stored, self.schedule, self.target = correlation, stored, schedule, target
        self.sums = stored.accumulator
        self.builder = KernelBuilder()
        self.sizes = ("batch",) if batch is None else ()
        self.batch: Index = "%batch" if batch is None else batch
        self.entry = entry_emitter(("x", "grad", "out"), self.sizes)
        self.vector = vector = Vector(self.entry, self.sums, target)
        self.columns = schedule.vectors * vector.lanes
        c = correlation
        self.taps = math.prod(c.kernel)
        self.band_rows = max(1, -(-c.target[1] // schedule.bands))
        self.layout = BandLayout.of(c, schedule.block, self.band_rows)
        self.panels = -(-c.target_channels // self.columns)
        self.blocks = self.layout.blocks
        self.positions = c.target[0] * self.band_rows * c.target[2]
        self.x_image = self.blocks * self.layout.one_block
        self.at_once = self._is_at_once()
        self.images = schedule.images if self.at_once is None else self.at_once
        self.panel = self.images * self.positions * self.columns
        padded = -(-c.source_channels // schedule.rows) * schedule.rows
        self.sum_row = self.taps * self.columns
        self.sum_panel = padded * self.sum_row
        self._place_scratch()

    def _is_at_once(self) -> int | None:
        """The batch, where all of it is copied before the first tile; else None.

        A tile then adds up all images, so sums wait for no other visit: a block of them is turned
        into weights while it is in the first cache. Weights of many channels would otherwise go
        to memory and back with each visit, which takes longer than few positions compute.
        """
        schedule = self.schedule
        if self.batch == 0 or not isinstance(self.batch, int):
            return None
        if schedule.bands > 1 or not schedule.by_output or 0 in self.c.target:
            return None
        grad = self.batch * self.positions * self.columns
        copies = self.batch * self.x_image + grad
        fits = copies * self.sums.bytes <= MOST_AT_ONCE and grad * self.sums.bytes <= MOST_PANEL
        return self.batch if fits else None

    def _place_scratch(self) -> None:
        at_once = self.at_once is not None
        sizes = {
            "x": self.images * self.x_image,
            "grad": self.panel * (1 if at_once else self.panels),
            "sums": self.schedule.block * self.sum_row if at_once else self.panels * self.sum_panel,
        }
        align = 64 // self.sums.bytes
        self.offsets, at = {}, 0
        for name, size in sizes.items():
            self.offsets[name] = at
            at += -(-size // align) * align + align
        self.scratch_bytes = at * self.sums.bytes

    def _scratch(self, name: str) -> str:
        return self.vector.address("%scratch", self.offsets[name])

    def kernel(self) -> Kernel:
        emitter, c = self.entry, self.c
        inner = self.panels if self.schedule.by_output else self.blocks
        if 0 in (c.source_channels, c.target_channels, self.taps):
            inner = 0
        clear = zero_filler(self.builder, self.vector)
        self.tile = self._tile_function() if inner else None
        self.packer = SourcePacker(self.builder, self.vector, self.stored, self.layout)
        self.turn = transposer(self.builder, self.vector, self.stored)

        def group(which: Index, _carried: Sequence[str]) -> None:
            base = emitter.mul(which, inner)
            low = emitter.maximum(emitter.sub("%lo", base), 0)
            high = emitter.minimum(emitter.sub("%hi", base), inner)
            panels, blocks = (low, high), (0, self.blocks)
            if not self.schedule.by_output:
                panels, blocks = (0, self.panels), (low, high)
            if self.at_once is not None:
                self._panels(which, self.at_once, panels)
                return
            count = {"count": self.panels * self.sum_panel}
            clear.call(emitter, (self._scratch("sums"),), count)
            self._images(which, panels, blocks)
            self._finish(which, panels, blocks)

        def walk() -> None:
            first = emitter.floor_div("%lo", inner)
            last = emitter.floor_div(emitter.sub("%hi", 1), inner)
            emitter.loop(first, emitter.add(last, 1), 1, group)

        if inner:
            emitter.when(emitter.less("%lo", "%hi"), walk)
        return self.builder.finish(
            "conv_grad_weight",
            emitter,
            operands=("x", "grad", "out"),
            sizes=self.sizes,
            units=c.groups * inner,
            scratch_bytes=self.scratch_bytes,
        )

    # All images at once

    def _panels(self, group: Index, images: int, panels: Range) -> None:
        """The weights of some panels: copies of all images, then block after block."""
        emitter, c = self.entry, self.c
        rows = (0, c.target[1])

        def place(image: Index) -> Index:
            return emitter.add(emitter.mul(image, c.groups), group)

        def copy(image: Index, _carried: Sequence[str]) -> None:
            self._pack_x(place(image), image, rows, (0, self.blocks))

        def panel(at: Index, _carried: Sequence[str]) -> None:
            def turn(image: Index, _none: Sequence[str]) -> None:
                self._pack_grad(place(image), image, rows, (at, emitter.add(at, 1)))

            def block(which: Index, _none: Sequence[str]) -> None:
                blocks = (which, emitter.add(which, 1))
                self._tiles(images, c.target[1], (at, emitter.add(at, 1)), blocks)
                self._finish(group, (at, emitter.add(at, 1)), blocks)

            emitter.loop(0, images, 1, turn)
            emitter.loop(0, self.blocks, 1, block)

        emitter.loop(0, images, 1, copy)
        emitter.loop(*panels, 1, panel)

    # The sum over images, a few at a time

    def _images(self, group: Index, panels: Range, blocks: Range) -> None:
        emitter, schedule, c = self.entry, self.schedule, self.c
        if 0 in c.target:
            return

        def visit(image: Index, _carried: Sequence[str]) -> None:
            images = emitter.minimum(emitter.sub(self.batch, image), schedule.images)
            if schedule.images == 1:
                images = 1
            emitter.loop(
                0,
                schedule.bands,
                1,
                lambda band, _none: self._band(group, (image, images), band, panels, blocks),
            )

        emitter.loop(0, self.batch, schedule.images, visit)

    def _band(self, group: Index, images: Range, band: Index, panels: Range, blocks: Range) -> None:
        """Copy one band of some images (first, how many), and add its tiles."""
        emitter, c, bands = self.entry, self.c, self.schedule.bands
        low = emitter.floor_div(emitter.mul(band, c.target[1]), bands)
        high = emitter.floor_div(emitter.mul(emitter.add(band, 1), c.target[1]), bands)
        rows = emitter.sub(high, low)

        def copy(step: Index, _carried: Sequence[str]) -> None:
            at = emitter.add(emitter.mul(emitter.add(images[0], step), c.groups), group)
            self._pack_x(at, step, (low, rows), blocks)
            self._pack_grad(at, step, (low, rows), panels)

        emitter.loop(0, images[1], 1, copy)
        self._tiles(images[1], rows, panels, blocks)

    def _pack_x(self, image_group: Index, step: Index, rows: Range, blocks: Range) -> None:
        emitter, c = self.entry, self.c
        source = emitter.mul(image_group, c.source_channels * math.prod(c.source))
        there = emitter.mul(step, self.x_image)
        count = emitter.add(emitter.mul(rows[1], c.source_step[1]), BandLayout.reach(c))
        self.packer.pack(
            self.vector.address("%x", source, self.stored),
            self.vector.address(self._scratch("x"), there),
            first_row=emitter.mul(rows[0], c.source_step[1]),
            rows=count,
            blocks=blocks,
        )

    def _pack_grad(self, image_group: Index, step: Index, rows: Range, panels: Range) -> None:
        """Positions of the band as rows of a panel, position after position, image by image."""
        emitter, c, vector = self.entry, self.c, self.vector
        plane, side = math.prod(c.target), transpose_lanes(vector)
        count = emitter.mul(rows[1], c.target[2])
        per_image = emitter.mul(count, c.target[0])

        def channels(panel: Index, depth: Index) -> None:
            first = emitter.mul(panel, self.columns)
            exist = emitter.minimum(emitter.sub(c.target_channels, first), self.columns)
            row = emitter.add(emitter.mul(depth, c.target[1]), rows[0])
            channel = emitter.add(emitter.mul(image_group, c.target_channels), first)
            pixel = emitter.add(emitter.mul(channel, plane), emitter.mul(row, c.target[2]))
            position = emitter.add(emitter.mul(step, per_image), emitter.mul(depth, count))
            place = emitter.add(self._panel_at(panel), emitter.mul(position, self.columns))
            there = vector.address(self._scratch("grad"), place)

            def some(at: Index, _carried: Sequence[str]) -> None:
                source = emitter.add(pixel, emitter.mul(at, plane))
                counts: dict[str, Index] = {
                    "rows": emitter.minimum(emitter.sub(exist, at), side),
                    "count": count,
                    "from_stride": plane,
                    "to_stride": self.columns,
                }
                here = vector.address("%grad", source, self.stored)
                self.turn.call(emitter, (here, vector.address(there, at)), counts)

            emitter.loop(0, exist, side, some)

        def in_panel(panel: Index, _carried: Sequence[str]) -> None:
            emitter.loop(0, c.target[0], 1, lambda depth, _none: channels(panel, depth))

        emitter.loop(*panels, 1, in_panel)

    @property
    def _tap_strides(self) -> list[int]:
        """Elements of the copy of x from one tap to the next, in each dimension."""
        steps = (self.layout.plane, self.layout.row, self.layout.pixel)
        return [tap * step for tap, step in zip(self.c.tap_step, steps)]

    def _panel_at(self, panel: Index) -> Index:
        """Where a panel of the gradient lies in its copy, which may hold one panel only."""
        return 0 if self.at_once is not None else self.entry.mul(panel, self.panel)

    def _tile_function(self) -> Subroutine:
        """Pointers a (x), b (a panel of the gradient), c (sums); counts of images and rows."""
        c, schedule, layout = self.c, self.schedule, self.layout
        images = 1 if self.images == 1 else self.at_once
        rows = c.target[1] if schedule.bands == 1 else None
        routine = Subroutine(("a", "b", "c"), {"images": images, "rows": rows})
        emitter = routine.emitter
        vector = Vector(emitter, self.sums, self.target)
        nest = Nest.of(
            (routine.values["images"], self.x_image),
            (c.target[0], c.source_step[0] * layout.plane),
            (routine.values["rows"], c.source_step[1] * layout.row),
            (c.target[2], c.source_step[2] * layout.pixel),
        )
        taps = [(y, x) for y in range(schedule.taps[0]) for x in range(schedule.taps[1])]
        places = [
            vector.address("%c", row * self.sum_row + number * self.columns + v * vector.lanes)
            for number in range(len(taps))
            for row in range(schedule.rows)
            for v in range(schedule.vectors)
        ]
        _, down, across = self._tap_strides
        a_rows = [y * down + x * across + row for y, x in taps for row in range(schedule.rows)]
        start = [vector.load(place) if self.at_once is None else vector.zero for place in places]
        masks = [None] * schedule.vectors
        operands = Operands("%a", "%b", a_rows, self.columns, masks)
        for place, value in zip(places, contract(emitter, vector, operands, nest, start)):
            vector.store(value, place)
        routine.define(self.builder, f"grad{len(a_rows)}x{schedule.vectors}")
        return routine

    def _tiles(self, images: Index, rows: Index, panels: Range, blocks: Range) -> None:
        emitter, c, vector = self.entry, self.c, self.vector
        layout, schedule = self.layout, self.schedule
        end = emitter.minimum(emitter.mul(blocks[1], schedule.block), c.source_channels)
        strides = self._tap_strides

        def tile(panel: Index, tap: tuple[Index, Index], channel: Index) -> None:
            block = emitter.floor_div(channel, schedule.block)
            within = emitter.remainder(channel, block, schedule.block)
            a_at = emitter.add(emitter.mul(block, layout.one_block), within)
            a = vector.address(self._scratch("x"), emitter.add(a_at, tap[1]))
            b = vector.address(self._scratch("grad"), self._panel_at(panel))
            if self.at_once is None:
                c_at = emitter.mul(panel, self.sum_panel)
                c_at = emitter.add(c_at, emitter.mul(channel, self.sum_row))
            else:
                c_at = emitter.mul(within, self.sum_row)
            c_at = emitter.add(c_at, emitter.mul(tap[0], self.columns))
            into = vector.address(self._scratch("sums"), c_at)
            assert self.tile is not None
            self.tile.call(emitter, (a, b, into), {"images": images, "rows": rows})

        def each_tap(panel: Index, channel: Index) -> None:
            def at(depth: Index, height: Index, width: Index) -> None:
                number = emitter.add(emitter.mul(depth, c.kernel[1]), height)
                number = emitter.add(emitter.mul(number, c.kernel[2]), width)
                place: Index = 0
                for tap, stride in zip((depth, height, width), strides):
                    place = emitter.add(place, emitter.mul(tap, stride))
                tile(panel, (number, place), channel)

            def across(depth: Index, height: Index) -> None:
                step = schedule.taps[1]
                emitter.loop(0, c.kernel[2], step, lambda width, _none: at(depth, height, width))

            def down(depth: Index, _none: Sequence[str]) -> None:
                step = schedule.taps[0]
                emitter.loop(0, c.kernel[1], step, lambda height, _none: across(depth, height))

            emitter.loop(0, c.kernel[0], 1, down)

        def in_panel(panel: Index, _carried: Sequence[str]) -> None:
            first = emitter.mul(blocks[0], schedule.block)
            emitter.loop(first, end, schedule.rows, lambda at, _none: each_tap(panel, at))

        emitter.loop(*panels, 1, in_panel)

    # The result

    def _finish(self, group: Index, panels: Range, blocks: Range) -> None:
        """Turn the sums of the panels and blocks into weights [o][c][tap]."""
        emitter, c, vector = self.entry, self.c, self.vector
        side, schedule = transpose_lanes(vector), self.schedule
        low = emitter.mul(blocks[0], schedule.block * self.taps)
        end = emitter.minimum(emitter.mul(blocks[1], schedule.block), c.source_channels)
        high = emitter.mul(end, self.taps)
        total = c.source_channels * self.taps
        least = total
        if (self.at_once is not None or not schedule.by_output) and self.blocks > 1:
            least = (c.source_channels - (self.blocks - 1) * schedule.block) * self.taps
        exact = least < side
        turn = transposer(self.builder, vector, self.sums, into=self.stored, exact=exact)

        def panel(at: Index, _carried: Sequence[str]) -> None:
            first = emitter.mul(at, self.columns)
            exist = emitter.minimum(emitter.sub(c.target_channels, first), self.columns)
            source = self._scratch("sums")
            if self.at_once is None:
                source = vector.address(source, emitter.mul(at, self.sum_panel))
            row = emitter.add(emitter.mul(group, c.target_channels), first)
            out = vector.address("%out", emitter.mul(row, total), self.stored)

            def some(place: Index, _none: Sequence[str]) -> None:
                if not exact:
                    place = emitter.minimum(place, emitter.sub(high, side))
                within = place if self.at_once is None else emitter.sub(place, low)
                here = vector.address(source, emitter.mul(within, self.columns))
                counts: dict[str, Index] = {
                    "rows": emitter.minimum(emitter.sub(high, place), side) if exact else side,
                    "count": exist,
                    "from_stride": self.columns,
                    "to_stride": total,
                }
                turn.call(emitter, (here, vector.address(out, place, self.stored)), counts)

            emitter.loop(low, high, side, some)

        emitter.loop(*panels, 1, panel)
