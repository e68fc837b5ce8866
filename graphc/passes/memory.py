"""Memory planning: where in the arena each intermediate buffer of a compiled graph lives.

Buffers whose lifetimes do not overlap share memory. Static buffers are packed into one slot, the
largest first. A buffer of symbolic size shares a slot with buffers of
the same size; where its slot starts is computed when the graph is entered.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

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
    count = len(lifetimes)
    starts, ends, firsts, lasts = np.empty((4, count), np.int64)
    total = 0
    for k, life in enumerate(sorted(lifetimes, key=_large_first)):
        assert isinstance(life.size, int)
        size = align(max(life.size, 1))
        beside = np.flatnonzero((firsts[:k] <= life.last) & (lasts[:k] >= life.first))
        at = _lowest(starts[beside], ends[beside], size)
        starts[k], ends[k], firsts[k], lasts[k] = at, at + size, life.first, life.last
        places[life.buffer] = Place(0, at)
        total = max(total, at + size)
    return total


def _lowest(starts: np.ndarray, ends: np.ndarray, size: int) -> int:
    """The lowest place of so many bytes beside ranges that are taken."""
    if not len(starts):
        return 0
    order = starts.argsort(kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    if starts[0] >= size:
        return 0
    room = np.flatnonzero(starts[1:] - ends[:-1] >= size)
    return int(ends[room[0]] if len(room) else ends[-1])


def _large_first(life: Lifetime) -> tuple[AnyDim, int]:
    return -life.size, life.first
