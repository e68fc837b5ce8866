"""The weights of Winograd's algorithm: transformed and packed, a panel at a time."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from graphc.backends.llvm.contract.conv_pack import zero_filler
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.kernel import Kernel, KernelBuilder, entry_emitter
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target
from graphc.ir.composite.winograd import PATCH

TAPS = 9


def winograd_weight(
    outputs: int, channels: int, width: int, target: Target, *, back: bool = False
) -> Kernel:
    """Operands w [outputs, channels, 3, 3] and u [panel, 6, 6, channel, width], f32; a unit is a
    panel. What a panel has no output for is zero.

    back: w is [channels, outputs, 3, 3], with kernels that are flipped.
    """
    builder, operands = KernelBuilder(), ("w", "u")
    emitter = entry_emitter(operands, ())
    stored = element("f32")
    vector = Vector(emitter, stored, target)
    side = transpose_lanes(vector)
    turn = transposer(builder, vector, stored, exact=True)
    clear = zero_filler(builder, vector)
    columns = channels * TAPS

    def gather(first: Index, exist: Index, c: Index) -> None:
        """The kernels of a panel as rows [channel][tap], columns outputs: those of all channels,
        or, where the outputs of one lie together, of the channel c."""
        count, apart = (TAPS, TAPS) if back else (columns, columns)
        source = vector.address("%w", emitter.mul(emitter.mul(c, outputs), TAPS))
        source = vector.address(source, emitter.mul(first, apart))
        into = vector.address("%scratch", emitter.mul(c, TAPS * width))

        def rows(start: Index, _none: Sequence[str]) -> None:
            counts: dict[str, Index] = {
                "rows": emitter.minimum(emitter.sub(exist, start), side),
                "count": count,
                "from_stride": apart,
                "to_stride": width,
            }
            here = vector.address(source, emitter.mul(start, apart))
            turn.call(emitter, (here, vector.address(into, start)), counts)

        emitter.loop(0, exist, side, rows)

    def panel(at: Index, _none: Sequence[str]) -> None:
        first = emitter.mul(at, width)
        exist = emitter.minimum(emitter.sub(outputs, first), width)
        if outputs % width:
            clear.call(emitter, ("%scratch",), {"count": columns * width})
        if back:
            emitter.loop(0, channels, 1, lambda c, _none: gather(first, exist, c))
        else:
            gather(first, exist, 0)
        to = vector.address("%u", emitter.mul(at, PATCH * PATCH * channels * width))

        def channel(c: Index, _none: Sequence[str]) -> None:
            emitter.loop(0, width, vector.lanes, lambda v, _none: transform(c, v, to))

        emitter.loop(0, channels, 1, channel)

    def transform(c: Index, v: Index, to: str) -> None:
        taps = []
        for tap in reversed(range(TAPS)) if back else range(TAPS):
            row = emitter.add(emitter.mul(c, TAPS), tap)
            place = emitter.add(emitter.mul(row, width), v)
            taps.append(vector.load(vector.address("%scratch", place)))
        columns_made = [_times_kernel(vector, taps[j::3]) for j in range(3)]
        for i in range(PATCH):
            for j, value in enumerate(_times_kernel(vector, [made[i] for made in columns_made])):
                matrix = vector.address(to, (i * PATCH + j) * channels * width)
                place = emitter.add(emitter.mul(c, width), v)
                vector.store(value, vector.address(matrix, place))

    emitter.loop("%lo", "%hi", 1, panel)
    return builder.finish(
        "winograd_weight",
        emitter,
        operands=operands,
        sizes=(),
        units=-(-outputs // width),
        scratch_bytes=4 * columns * width,
    )


def _times_kernel(vector: Vector, g: Sequence[str]) -> list[str]:
    """The matrix `KERNEL` times a column."""
    ends = vector.add(g[0], g[2])
    far = vector.multiply_add(g[2], _constant(vector, 4.0), g[0])
    near = _scaled(vector, g[1], 2.0)
    return [
        _scaled(vector, g[0], 1 / 4),
        _scaled(vector, vector.add(ends, g[1]), -1 / 6),
        _scaled(vector, _sub(vector, ends, g[1]), -1 / 6),
        _scaled(vector, vector.add(far, near), 1 / 24),
        _scaled(vector, _sub(vector, far, near), 1 / 24),
        g[2],
    ]


def _sub(vector: Vector, a: str, b: str) -> str:
    return vector.emitter.value(f"fsub {vector.type} {a}, {b}")


def _scaled(vector: Vector, a: str, factor: float) -> str:
    """The product; where that is zero, a positive one, as sums of products are."""
    return vector.multiply_add(a, _constant(vector, factor), vector.zero)


def _constant(vector: Vector, number: float) -> str:
    """All lanes; LLVM reads floats as the digits of the double of the same value."""
    digits = struct.pack(">d", float(np.float32(number))).hex()
    return "<" + ", ".join([f"{vector.element.llvm} 0x{digits}"] * vector.lanes) + ">"
