"""Memory planning: where in the arena each intermediate buffer of a compiled graph lives.

Buffers whose lifetimes do not overlap share memory. Static buffers are packed into one slot, the
largest first. A buffer of symbolic size shares a slot with buffers of
the same size; where its slot starts is computed when the graph is entered.
"""

from __future__ import annotations

from bisect import insort
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
    """The largest first, each at the lowest place that is free while it lives; the bytes in all.

    Where buffers are placed in the order of their use instead, small ones come to lie in the
    middle of what large ones need later: up to half as much again.
    """
    placed: list[tuple[int, int, int, int]] = []  # start, end, first, last: by start
    total = 0
    for life in sorted(lifetimes, key=_large_first):
        assert isinstance(life.size, int)
        size, first, last = align(max(life.size, 1)), life.first, life.last
        at = 0
        for start, end, begins, ends in placed:
            if begins <= last and ends >= first:
                if start - at >= size:
                    break
                at = max(at, end)
        insort(placed, (at, at + size, first, last))
        places[life.buffer] = Place(0, at)
        total = max(total, at + size)
    return total


def _large_first(life: Lifetime) -> tuple[AnyDim, int]:
    return -life.size, life.first
