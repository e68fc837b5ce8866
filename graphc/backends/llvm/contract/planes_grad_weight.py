"""The gradient of the weights of groups of few channels: lanes along positions.

For each tap a product of vectors, summed: the gradient of the result is laid out with the width
of the input's planes, zeros between its rows, so that a tap is one offset. A unit of work is a
group; its sums are kept as vectors over all images, and added across lanes at the end. (An
infinity in x meets these zeros too, and so makes the gradient of its channel NaN, and of the one
before it in its group.)
"""

import math
from collections.abc import Sequence

from graphc.backends.llvm.contract.conv_pack import BandLayout, zero_filler
from graphc.backends.llvm.contract.conv_problem import Correlation
from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import Kernel, KernelBuilder, Subroutine
from graphc.backends.llvm.contract.packing import copy_row
from graphc.backends.llvm.contract.planes import PlaneLayout, PlanePacker
from graphc.backends.llvm.contract.planes_direct import plane_bands
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

# Most taps whose sums one pass over the positions makes, and most sums of 32 registers.
MOST_TAPS_AT_ONCE = 10
MOST_SUMS = 20


class PlanesWeightGradKernel:
    """Writes one kernel, of a (forward) correlation."""

    def __init__(
        self, correlation: Correlation, stored: Element, batch: int | None, target: Target
    ) -> None:
        self.c, self.stored, self.target = correlation, stored, target
        self.sums = stored.accumulator
        self.builder = KernelBuilder()
        self.sizes = ("batch",) if batch is None else ()
        self.batch: Index = "%batch" if batch is None else batch
        self.entry = Emitter(
            [f"ptr noalias %{name}" for name in ("x", "grad", "out", "scratch")]
            + [f"i64 %{name}" for name in ("lo", "hi", *self.sizes)]
        )
        self.vector = Vector(self.entry, self.sums, target)
        c, lanes = correlation, self.vector.lanes
        self.taps = math.prod(c.kernel)
        self.number = -(-self.taps // max(1, -(-self.taps // MOST_TAPS_AT_ONCE)))
        self.outputs = self._outputs()
        self.elements = c.target_channels * c.source_channels * self.taps  # of a group's weights
        self.bands = plane_bands(c, c.target[1], self.sums.bytes)
        self.band_rows = max(1, -(-c.target[1] // self.bands))
        self.layout = PlaneLayout(c, self.band_rows)
        self.slice = -(-self.band_rows * self.layout.width // lanes) * lanes
        self.channel = c.target[0] * self.slice
        # Positions are summed over whole rows, and in whole vectors: past the last tap's end.
        self.past_end = self.layout.width + lanes
        self.offsets = {"source": 0}
        planes = c.source_channels * self.layout.channel
        self.offsets["grad"] = -(-(planes + self.past_end) // lanes) * lanes
        self.offsets["sums"] = self.offsets["grad"] + c.target_channels * self.channel
        end = self.offsets["sums"] + self.elements * lanes
        self.scratch_bytes = end * self.sums.bytes

    def _outputs(self) -> int:
        """Target channels of a tile, which read each vector of the source once for all."""
        most = max(1, MOST_SUMS * self.target.registers // 32 // max(1, self.number))
        fitting = range(1, min(most, self.c.target_channels) + 1)
        return max([n for n in fitting if self.c.target_channels % n == 0], default=1)

    def _scratch(self, name: str) -> str:
        return self.vector.address("%scratch", self.offsets[name])

    def kernel(self) -> Kernel:
        emitter, c = self.entry, self.c
        self.clear = zero_filler(self.builder, self.vector)
        if self.elements:
            self.tile = self._tile_function()
            emitter.loop("%lo", "%hi", 1, self._unit)
        return self.builder.finish(
            "conv_grad_weight",
            emitter,
            operands=("x", "grad", "out"),
            sizes=self.sizes,
            units=c.groups if self.elements else 0,
            scratch_bytes=self.scratch_bytes,
        )

    def _unit(self, group: Index, _carried: Sequence[str]) -> None:
        """All images of one group."""
        emitter, c, vector = self.entry, self.c, self.vector
        elements = self.elements * vector.lanes
        self.clear.call(emitter, (self._scratch("sums"),), {"count": elements})

        def image(at: Index, _none: Sequence[str]) -> None:
            image_group = emitter.add(emitter.mul(at, c.groups), group)
            emitter.loop(0, self.bands, 1, lambda band, _none: self._band(image_group, band))

        if 0 not in c.target:
            emitter.loop(0, self.batch, 1, image)

        first = emitter.mul(group, self.elements)
        out = vector.address("%out", first, self.stored)

        def add_lanes(at: Index, _none: Sequence[str]) -> None:
            here = vector.address(self._scratch("sums"), emitter.mul(at, vector.lanes))
            total = vector.sum(vector.load(here))
            vector.store_scalar(total, vector.address(out, at, self.stored), self.stored)

        emitter.loop(0, self.elements, 1, add_lanes)

    def _band(self, image_group: Index, band: Index) -> None:
        emitter, c, vector = self.entry, self.c, self.vector
        low = emitter.floor_div(emitter.mul(band, c.target[1]), self.bands)
        high = emitter.floor_div(emitter.mul(emitter.add(band, 1), c.target[1]), self.bands)
        rows = emitter.sub(high, low)
        packer = PlanePacker(self.builder, vector, self.stored, self.layout)
        source = emitter.mul(image_group, c.source_channels * math.prod(c.source))
        packer.pack(
            vector.address("%x", source, self.stored),
            self._scratch("source"),
            first_row=emitter.mul(low, c.source_step[1]),
            rows=emitter.add(emitter.mul(rows, c.source_step[1]), BandLayout.reach(c)),
            channels=c.source_channels,
        )
        # Read along with zeros of the gradient, so it must be finite.
        end = vector.address(self._scratch("source"), c.source_channels * self.layout.channel)
        self.clear.call(emitter, (end,), {"count": self.past_end})
        self._copy_grad(image_group, low, rows)
        count = emitter.mul(rows, self.layout.width)
        depth_stride = self.layout.size[1] * self.layout.width

        def tile(channel: Index, source: Index, depth: Index) -> None:
            x_at = emitter.mul(source, self.layout.channel)
            x_at = emitter.add(x_at, emitter.mul(depth, depth_stride))
            y_at = emitter.add(emitter.mul(channel, self.channel), emitter.mul(depth, self.slice))
            pair = emitter.add(emitter.mul(channel, c.source_channels), source)
            places = (x_at, y_at, emitter.mul(pair, self.taps * vector.lanes))
            bases = [self._scratch(name) for name in ("source", "grad", "sums")]
            pointers = [vector.address(base, place) for base, place in zip(bases, places)]
            self.tile.call(emitter, pointers, {"count": count})

        def channels(channel: Index, _none: Sequence[str]) -> None:
            def planes(source: Index, _none: Sequence[str]) -> None:
                depth = c.target[0]
                emitter.loop(0, depth, 1, lambda depth, _none: tile(channel, source, depth))

            emitter.loop(0, c.source_channels, 1, planes)

        emitter.loop(0, c.target_channels, self.outputs, channels)

    def _copy_grad(self, image_group: Index, low: Index, rows: Index) -> None:
        """Rows of the gradient as wide as the planes, with zeros in between."""
        emitter, c, vector = self.entry, self.c, self.vector
        elements = c.target_channels * self.channel
        self.clear.call(emitter, (self._scratch("grad"),), {"count": elements})
        planes = c.target_channels * c.target[0]
        plane, width = c.target[1] * c.target[2], c.target[2]
        base = emitter.mul(image_group, planes * plane)

        def one(at: Index, _none: Sequence[str]) -> None:
            line = emitter.add(emitter.mul(at, plane), emitter.mul(low, width))
            here = vector.address("%grad", emitter.add(base, line), self.stored)
            there = vector.address(self._scratch("grad"), emitter.mul(at, self.slice))

            def row(y: Index, _carried: Sequence[str]) -> None:
                from_ = vector.address(here, emitter.mul(y, width), self.stored)
                to = vector.address(there, emitter.mul(y, self.layout.width))
                copy_row(vector, self.stored, from_, to, width)

            emitter.loop(0, rows, 1, row)

        emitter.loop(0, planes, 1, one)

    def _tile_function(self) -> Subroutine:
        """Add to the sums of all taps and some target channels, over `count` positions of a
        plane."""
        routine = Subroutine(("x", "y", "sums"), {"count": None})
        emitter, count = routine.emitter, routine.values["count"]
        vector = Vector(emitter, self.sums, self.target)
        phase = tuple(axes[0] for axes in self.c.axes)
        table = self.builder.table([offset for offset, _ in self.layout.taps(phase)])
        number, outputs = self.number, self.outputs
        apart = self.c.source_channels * self.taps * vector.lanes  # sums of two target channels

        def some(first: Index, _carried: Sequence[str]) -> None:
            # The last pass overlaps the one before in taps that both leave alike.
            taps = [emitter.minimum(emitter.add(first, at), self.taps - 1) for at in range(number)]
            starts, places = [], []
            for tap in taps:
                offset = emitter.load("i64", emitter.address(table, tap, "i64"), 8)
                starts.append(vector.address("%x", offset))
                place = vector.address("%sums", emitter.mul(tap, vector.lanes))
                places += [vector.address(place, output * apart) for output in range(outputs)]

            def positions(at: Index, sums: Sequence[str]) -> list[str]:
                here = vector.address("%y", at)
                read = [vector.load(vector.address(here, y * self.channel)) for y in range(outputs)]
                result = []
                for tap, start in enumerate(starts):
                    x = vector.load(vector.address(start, at))
                    for output, y in enumerate(read):
                        total = sums[tap * outputs + output]
                        result.append(vector.multiply_add(x, y, total))
                return result

            carried = [(vector.type, vector.load(place)) for place in places]
            for place, total in zip(
                places, emitter.loop(0, count, vector.lanes, positions, carried)
            ):
                vector.store(total, place)

        emitter.loop(0, self.taps, number, some)
        routine.define(self.builder, f"plane_taps{number}x{outputs}")
        return routine
