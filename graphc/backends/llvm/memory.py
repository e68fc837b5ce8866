"""Memory of tensors: aligned buffers from free lists, and scratch that calls lease.

A buffer gives its block back when the last reference to it goes. Blocks come in size classes,
four to a power of two, so that a buffer wastes at most a fifth; a block that comes back is
handed out again without a call of the system, and without its page faults.

Nothing here takes a lock: the free lists are touched by single list operations, which are
atomic, and by compiled code under the interpreter's lock. (A lock would also deadlock when the
collector frees a buffer inside of `alloc`.)
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

ALIGNMENT = 64
SLAB_LIMIT = 4096  # blocks up to this size are cut from slabs
_SLAB_BYTES = 1 << 18
_KEEP_BYTES = 1 << 30
_new = object.__new__
#: Words of an allocator's state, which compiled code (`native_buffer`) has part in: counters,
#: objects that it calls, heads of its lists of free buffers.
ALLOCATED, PEAK, KEPT, KEEP, RESERVE, OVERFLOW, TYPE, LISTS = range(8)
WORDS = LISTS + 256


class Allocator(Protocol):
    """What a tensor's storage is taken from."""

    def alloc(self, nbytes: int) -> "Buffer":
        """A buffer of at least `nbytes` bytes with any content, aligned to `ALIGNMENT`."""
        ...


class Buffer:
    """A block of memory, given back when the last reference to this object goes.

    address   of its first byte, a multiple of `ALIGNMENT`
    nbytes    its size as asked for; the block behind it is a whole number of `ALIGNMENT`
              bytes, so a vector that starts inside may be read to its end

    numpy sees the same memory: `np.asarray(buffer)` (uint8) and `buffer.array(dtype, shape)`
    keep the buffer alive.

    Once there is compiled code, buffers are of a type with these methods that is compiled itself:
    see `native_buffer`.
    """

    __slots__ = ("__weakref__", "_allocator", "_size", "address", "nbytes")

    address: int
    nbytes: int
    _size: int
    _allocator: "HeapAllocator"

    def __new__(cls) -> "Buffer":
        raise TypeError("a buffer comes from an allocator's alloc")

    def __del__(self) -> None:
        self._allocator.give_back(self.address, self._size)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "typestr": "|u1",
            "shape": (self.nbytes,),
            "data": (self.address, False),
        }

    def array(
        self,
        dtype: np.dtype | type,
        shape: tuple[int, ...],
        offset: int = 0,
        strides: tuple[int, ...] | None = None,
    ) -> np.ndarray:
        """A numpy view of the memory from byte `offset` on. Raises ValueError past its end."""
        return np.ndarray(shape, dtype, np.asarray(self), offset, strides)

    def __repr__(self) -> str:
        return f"Buffer({self.nbytes} bytes at {self.address:#x})"


def block_size(nbytes: int) -> int:
    """The size class of `nbytes`: the block that a buffer of that many bytes gets."""
    if nbytes <= ALIGNMENT:
        return ALIGNMENT
    last = nbytes - 1
    shift = last.bit_length() - 3
    if shift < 6:
        shift = 6
    return ((last >> shift) + 1) << shift


class HeapAllocator:
    """Memory of this process, cached by size class.

    allocated  bytes of the blocks that buffers hold now
    peak       the most that `allocated` has been since `reset_peak`
    reserved   bytes held from the system, free blocks included
    misses     how often no free block of the class was there
    """

    drain: Any = None  # of `native_buffer`: gives the address of a parked block, or None
    native_type: Any = None
    allocate_address = 0  # where the compiled `alloc` is, for compiled code

    def __init__(self, keep_bytes: int = _KEEP_BYTES) -> None:
        """`keep_bytes`: free blocks beyond that go back to the system (slabs stay)."""
        self.words = (ctypes.c_int64 * WORDS)()
        self.words[KEEP] = keep_bytes
        self.reserved = 0
        self.misses = 0
        self._free: dict[int, list[int]] = {}
        self._memory: dict[int, np.ndarray] = {}  # by the address of the block, or of the slab

    @property
    def allocated(self) -> int:
        return self.words[ALLOCATED]

    @property
    def peak(self) -> int:
        return self.words[PEAK]

    @property
    def kept(self) -> int:
        """Bytes of free blocks that are no part of a slab."""
        return self.words[KEPT]

    def alloc(self, nbytes: int) -> "Buffer":
        """A buffer of `nbytes` bytes with any content. Raises MemoryError, ValueError."""
        address, size, words = self.block_of(nbytes), block_size(nbytes), self.words
        allocated = words[ALLOCATED] = words[ALLOCATED] + size
        if allocated > words[PEAK]:
            words[PEAK] = allocated
        buffer = _new(Buffer)
        buffer.address = address
        buffer.nbytes = nbytes
        buffer._size = size
        buffer._allocator = self
        return buffer

    def block_of(self, nbytes: int) -> int:
        """The address of a block for that many bytes, which no buffer has. Raises as `alloc`."""
        if nbytes < 0:
            raise ValueError(f"a buffer cannot have {nbytes} bytes")
        size = block_size(nbytes)
        try:
            address = self._free[size].pop()
        except (KeyError, IndexError):
            return self._reserve(size)
        if size > SLAB_LIMIT:
            self.words[KEPT] -= size
        return address

    def use_native(self) -> None:
        """Makes buffers of the compiled type from now on, if this interpreter permits it."""
        from graphc.backends.llvm import native_buffer  # it compiles: only programs that compute do

        if self.native_type is None and native_buffer.fault() is None:
            native_buffer.install(self)

    def _reserve(self, size: int) -> int:
        self.misses += 1
        free = self._free.setdefault(size, [])
        if size > SLAB_LIMIT:
            return self._from_system(size)
        slab = self._from_system(_SLAB_BYTES)
        blocks = _SLAB_BYTES // size
        free.extend(range(slab + size * (blocks - 1), slab, -size))
        return slab

    def _from_system(self, nbytes: int) -> int:
        try:
            memory = np.empty(nbytes + ALIGNMENT, np.uint8)
        except MemoryError:
            self.release_free()
            memory = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = memory.ctypes.data
        address = start + -start % ALIGNMENT
        self._memory[address] = memory
        self.reserved += nbytes
        return address

    def give_back(self, address: int, size: int) -> None:
        """The block of a buffer that goes."""
        words = self.words
        words[ALLOCATED] -= size
        self._free[size].append(address)
        if size > SLAB_LIMIT:
            words[KEPT] += size
            if words[KEPT] > words[KEEP]:
                self.drop_half()

    def drop_half(self) -> None:
        """Give back the older half of each class: what no longer recurs is soon gone."""
        for size, free in list(self._free.items()):
            if size > SLAB_LIMIT:
                self._collect(size, free)
                self._drop(size, (len(free) + 1) // 2)

    def _collect(self, size: int, free: list[int]) -> None:
        """The blocks of parked buffers join the others; the end is the most recent."""
        parked = []
        while self.drain is not None and (address := self.drain(size)) is not None:
            parked.append(address)
        free += reversed(parked)

    def _drop(self, size: int, count: int) -> None:
        free = self._free[size]
        for _ in range(count):
            try:
                address = free.pop(0)
            except IndexError:
                return
            self.words[KEPT] -= size
            self.reserved -= size
            del self._memory[address]

    def release_free(self) -> None:
        """Give all free blocks back to the system (`torch.cuda.empty_cache`)."""
        for size, free in list(self._free.items()):
            if size > SLAB_LIMIT:
                self._collect(size, free)
                self._drop(size, len(free))

    def reset_peak(self) -> None:
        """Start measuring `peak` anew."""
        self.words[PEAK] = self.allocated

    def statistics(self) -> dict[str, int]:
        """`allocated`, `peak`, `reserved` in bytes; `misses` of the free lists."""
        return {
            "allocated": self.allocated,
            "peak": self.peak,
            "reserved": self.reserved,
            "misses": self.misses,
        }


heap = HeapAllocator()


class ScratchPool:
    """Arenas of one size, leased for the length of a call.

    A compiled graph keeps its temporaries in an arena. Several threads may run one graph at a
    time: each call takes an arena of its own, and leaves it for the next. `threads`: the most that
    a call with such an arena may run on, which it has scratch for.
    """

    __slots__ = ("_allocator", "_free", "nbytes", "threads")

    def __init__(self, nbytes: int, allocator: Allocator = heap, threads: int = 1) -> None:
        self.nbytes, self.threads = nbytes, threads
        self._allocator = allocator
        self._free: list[Buffer] = []

    def take(self) -> Buffer:
        """An arena that nobody else has, with any content. Give it back with `give`."""
        try:
            return self._free.pop()
        except IndexError:
            return self._allocator.alloc(self.nbytes)

    def give(self, arena: Buffer) -> None:
        """Leave an arena for the next call."""
        self._free.append(arena)

    @contextmanager
    def lease(self) -> Iterator[Buffer]:
        """`take` and `give` around a block."""
        arena = self.take()
        try:
            yield arena
        finally:
            self.give(arena)

    def clear(self) -> None:
        """Drop the arenas that are not in use."""
        self._free.clear()
