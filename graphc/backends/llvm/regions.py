"""Which kernels of a program run side by side, and how long its buffers live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphc.backends.llvm.emit.printer import Buffer, dtype_of
from graphc.backends.llvm.emit.program import Call
from graphc.ir.dims import AnyDim, product
from graphc.passes.assembled import NOTHING, Assembled
from graphc.passes.in_place import merged, overwritten, roots
from graphc.passes.loop.ir import Partial
from graphc.passes.memory import Lifetime

#: Bytes of an arena that are worth a fork and a join more.
WORTH = 1 << 20


def buffer_bytes(buffer: Buffer) -> AnyDim:
    """The size of a buffer."""
    if isinstance(buffer, Partial):
        return buffer.lines * buffer.columns * buffer.dtype.itemsize
    return product(buffer.type.shape) * dtype_of(buffer).itemsize


def form_regions(calls: Sequence[Call], assembled: Assembled = NOTHING) -> list[list[Call]]:
    """Neighbouring kernels that do not touch what another of them writes."""
    regions: list[list[Call]] = []
    read: set[Buffer] = set()
    written: set[Buffer] = set()
    for call in calls:
        reads = reads_of(call, assembled)
        conflict = not (
            written.isdisjoint(reads)
            and written.isdisjoint(call.writes)
            and read.isdisjoint(call.writes)
        )
        alone = bool(call.blocks) or (bool(regions) and bool(regions[-1][-1].blocks))
        if conflict or alone or not regions:
            regions.append([])
            read, written = set(), set()
        regions[-1].append(call)
        read |= reads
        written |= call.writes
    return regions


def reads_of(call: Call, assembled: Assembled) -> set[Buffer]:
    """What a kernel reads; of what was written in parts, those too."""
    found = set(call.reads)
    for buffer in call.reads:
        found.update(assembled.parts.get(buffer, ()))
    return found


def in_turn_at_the_peak(
    regions: list[list[Call]],
    table: Mapping[Buffer, int],
    keep: set[Buffer],
    assembled: Assembled = NOTHING,
) -> list[list[Call]]:
    """The regions; where most memory is in use, kernels that might run side by side run in turn, if
    that lowers the peak: what one of them reads last may be gone before the next one's result."""
    while True:
        lifetimes, _ = chains_of(regions, table, keep, assembled)
        number, peak = _peak(lifetimes, len(regions))
        if peak <= WORTH or len(regions[number]) == 1:
            return regions
        apart = [[call] for call in regions[number]]
        cut = [*regions[:number], *apart, *regions[number + 1 :]]
        if _peak(chains_of(cut, table, keep, assembled)[0], len(cut))[1] > peak - WORTH:
            return regions
        regions = cut


def _peak(lifetimes: Sequence[Lifetime], count: int) -> tuple[int, int]:
    """The region in which most bytes of static size are in use, and how many."""
    changes = np.zeros(count + 2, np.int64)
    for life in lifetimes:
        if isinstance(life.size, int):
            changes[life.first] += life.size
            changes[life.last + 1] -= life.size
    used = changes.cumsum()[:count]
    number = int(used.argmax()) if count else 0
    return number, int(used[number]) if count else 0


def chains_of(
    regions: Sequence[Sequence[Call]],
    table: Mapping[Buffer, int],
    keep: set[Buffer],
    assembled: Assembled = NOTHING,
) -> tuple[list[Lifetime], dict[Buffer, Buffer]]:
    """The buffers of the arena that have memory of their own; and in whose memory the others lie,
    which are written over an operand. (What has parts in use gives its memory to nobody.)"""
    lifetimes = lifetimes_of(regions, table, keep, assembled)
    own = {life.buffer for life in lifetimes}
    may_give = own - keep - assembled.parts.keys()
    first = roots(overwritten(regions, may_give, own))
    return merged(lifetimes, first), first


def lifetimes_of(
    regions: Sequence[Sequence[Call]],
    table: Mapping[Buffer, int],
    keep: set[Buffer],
    assembled: Assembled = NOTHING,
) -> list[Lifetime]:
    """The buffers of the arena, from the region that writes them to the last that reads them; of
    parts the whole."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for number, region in enumerate(regions):
        for call in region:
            # In the order of the arguments, not of a set: equal graphs have equal texts.
            results = [buffer for buffer in call.buffers if buffer in call.writes]
            for part in (*results, *call.writes, *call.reads):
                buffer = assembled.whole(part)
                if buffer not in table:
                    first.setdefault(buffer, number)
                    last[buffer] = number
    end = len(regions)
    return [
        Lifetime(buffer, buffer_bytes(buffer), start, end if buffer in keep else last[buffer])
        for buffer, start in first.items()
    ]
