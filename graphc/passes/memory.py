"""Memory planning: where in the arena each intermediate buffer of a compiled graph lives.

Buffers whose lifetimes do not overlap share memory. Static buffers are packed into one slot, by
best fit in the order of their first use. A buffer of symbolic size shares a slot with buffers of
the same size; where its slot starts is computed when the graph is entered.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from graphc.ir.dims import AnyDim

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A buffer of `size` bytes that is in use from step `first` to step `last`, both included."""

    buffer: Hashable
    size: AnyDim
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Place:
    """Byte `offset` of a slot."""

    slot: int
    offset: int


@dataclass(frozen=True, slots=True)
class ArenaPlan:
    """The sizes of the slots, one after the other, each aligned; and the place of each buffer.

    Slot 0 holds all static buffers.
    """

    slots: tuple[AnyDim, ...]
    places: dict[Hashable, Place]


def align(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def plan_memory(lifetimes: Sequence[Lifetime]) -> ArenaPlan:
    """Places all buffers."""
    places: dict[Hashable, Place] = {}
    static = [life for life in lifetimes if isinstance(life.size, int)]
    slots: list[AnyDim] = [_pack(static, places)]
    free: dict[AnyDim, list[tuple[int, int]]] = {}  # size -> (free from this step on, slot)
    for life in sorted(lifetimes, key=lambda life: life.first):
        if isinstance(life.size, int):
            continue
        candidates = free.setdefault(life.size, [])
        reusable = [entry for entry in candidates if entry[0] <= life.first]
        if reusable:
            entry = reusable[-1]
            candidates.remove(entry)
            slot = entry[1]
        else:
            slot = len(slots)
            slots.append(life.size)
        candidates.append((life.last + 1, slot))
        places[life.buffer] = Place(slot, 0)
    return ArenaPlan(tuple(slots), places)


def _pack(lifetimes: Sequence[Lifetime], places: dict[Hashable, Place]) -> int:
    """Best fit over time: the smallest hole that is large enough. The bytes needed in all."""
    holes = _Holes()
    ends: list[tuple[int, int, int]] = []  # step after the last use, offset, size
    for life in sorted(lifetimes, key=lambda life: life.first):
        assert isinstance(life.size, int)
        while ends and ends[0][0] <= life.first:
            _, offset, size = ends.pop(0)
            holes.give(offset, size)
        size = align(max(life.size, 1))
        offset = holes.take(size)
        places[life.buffer] = Place(0, offset)
        insort(ends, (life.last + 1, offset, size))
    return holes.end


class _Holes:
    """Free ranges below `end`, by place and by size."""

    def __init__(self) -> None:
        self.end = 0
        self._starts: list[int] = []
        self._sizes: dict[int, int] = {}
        self._by_size: list[tuple[int, int]] = []

    def take(self, size: int) -> int:
        found = bisect_left(self._by_size, (size, -1))
        if found < len(self._by_size):
            hole, start = self._by_size[found]
            self._remove(start)
            if hole > size:
                self._add(start + size, hole - size)
            return start
        last = self._starts[-1] if self._starts else -1
        if last >= 0 and last + self._sizes[last] == self.end:  # grow the last hole
            self._remove(last)
            self.end = last + size
            return last
        start, self.end = self.end, self.end + size
        return start

    def give(self, start: int, size: int) -> None:
        place = bisect_left(self._starts, start)
        if place < len(self._starts) and self._starts[place] == start + size:
            following = self._starts[place]
            size += self._sizes[following]
            self._remove(following)
        if place > 0:
            before = self._starts[place - 1]
            if before + self._sizes[before] == start:
                size += self._sizes[before]
                self._remove(before)
                start = before
        self._add(start, size)

    def _add(self, start: int, size: int) -> None:
        insort(self._starts, start)
        self._sizes[start] = size
        insort(self._by_size, (size, start))

    def _remove(self, start: int) -> None:
        size = self._sizes.pop(start)
        del self._starts[bisect_left(self._starts, start)]
        del self._by_size[bisect_left(self._by_size, (size, start))]
