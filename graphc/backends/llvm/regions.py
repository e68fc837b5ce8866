"""Which kernels of a program run side by side, and how long its buffers live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.backends.llvm.emit.printer import Buffer, dtype_of
from graphc.backends.llvm.emit.program import Call
from graphc.ir.dims import AnyDim, product
from graphc.passes.loop.ir import Partial
from graphc.passes.memory import Lifetime


def buffer_bytes(buffer: Buffer) -> AnyDim:
    """The size of a buffer."""
    if isinstance(buffer, Partial):
        return buffer.lines * buffer.columns * buffer.dtype.itemsize
    return product(buffer.type.shape) * dtype_of(buffer).itemsize


def form_regions(calls: Sequence[Call]) -> list[list[Call]]:
    """Neighbouring kernels that do not touch what another of them writes."""
    regions: list[list[Call]] = []
    read: set[Buffer] = set()
    written: set[Buffer] = set()
    for call in calls:
        conflict = not (
            written.isdisjoint(call.reads)
            and written.isdisjoint(call.writes)
            and read.isdisjoint(call.writes)
        )
        alone = bool(call.blocks) or (bool(regions) and bool(regions[-1][-1].blocks))
        if conflict or alone or not regions:
            regions.append([])
            read, written = set(), set()
        regions[-1].append(call)
        read |= call.reads
        written |= call.writes
    return regions


def lifetimes_of(
    regions: Sequence[Sequence[Call]], table: Mapping[Buffer, int], keep: set[Buffer]
) -> list[Lifetime]:
    """The buffers of the arena, from the region that writes them to the last that reads them."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, region in enumerate(regions):
        for call in region:
            for buffer in (*call.writes, *call.reads):
                if buffer not in table:
                    first.setdefault(buffer, number)
                    last[buffer] = number
    end = len(regions)
    return [
        Lifetime(buffer, buffer_bytes(buffer), start, end if buffer in keep else last[buffer])
        for buffer, start in first.items()
    ]
