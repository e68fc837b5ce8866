"""Buffers: alignment, reuse, lifetime, statistics, threads; arenas leased by calls."""

import gc
import itertools
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

from graphc.backends.llvm import entry, native_buffer
from graphc.backends.llvm.memory import (
    ALIGNMENT,
    Buffer,
    HeapAllocator,
    ScratchPool,
    block_size,
)


def compiled(**options):
    """An allocator whose buffers are of the compiled type."""
    heap = HeapAllocator(**options)
    heap.use_native()
    assert type(heap.alloc(1)) is heap.native_type is not Buffer
    heap.reset_peak()
    heap.reserved, heap.misses = 0, 0  # of the slab that this took
    return heap


@pytest.fixture(params=[HeapAllocator, compiled], ids=["python", "compiled"])
def allocator(request):
    """What makes an allocator, with buffers of either type."""
    return request.param


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 1000, 4096, 4097, 1 << 20, 3_000_001])
def test_buffers_are_aligned_and_large_enough(nbytes, allocator):
    heap = allocator()
    buffers = [heap.alloc(nbytes) for _ in range(5)]
    spans = sorted((b.address, b.address + block_size(nbytes)) for b in buffers)
    assert all(b.address % ALIGNMENT == 0 and b.nbytes == nbytes for b in buffers)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    for number, buffer in enumerate(buffers):
        buffer.array(np.uint8, (nbytes,))[...] = number
    for number, buffer in enumerate(buffers):
        assert (np.asarray(buffer) == number).all()


def test_size_classes_waste_at_most_a_quarter():
    for nbytes in [*range(1, 5000), *(int(1.07**k) for k in range(130, 400))]:
        size = block_size(nbytes)
        assert size % ALIGNMENT == 0 and nbytes <= size
        assert size <= max(nbytes * 1.25, nbytes + ALIGNMENT - 1)
        heap_size = HeapAllocator().alloc(nbytes)._size if nbytes < 5000 else size
        assert heap_size == size


def test_a_freed_block_is_used_again(allocator):
    heap = allocator()
    buffer = heap.alloc(100_000)
    address = buffer.address
    del buffer
    assert heap.alloc(99_000).address == address
    assert heap.statistics()["misses"] == 1


def test_numpy_views_keep_the_buffer_alive(allocator):
    heap = allocator()
    buffer = heap.alloc(4 * 6)
    alive = weakref.ref(buffer)
    view = buffer.array(np.float32, (2, 3))
    view[...] = 7
    inner = view[1:]
    del buffer, view
    gc.collect()
    assert alive() is not None and heap.allocated == 64
    assert (inner == 7).all()
    del inner
    assert alive() is None and heap.allocated == 0


def test_views_with_offset_and_strides_stay_inside(allocator):
    buffer = allocator().alloc(64)
    whole = buffer.array(np.int32, (16,))
    whole[...] = np.arange(16)
    assert buffer.array(np.int32, (3, 2), 8, (4, 12)).tolist() == [[2, 5], [3, 6], [4, 7]]
    with pytest.raises((ValueError, TypeError)):
        buffer.array(np.int32, (17,))


def test_statistics_follow_what_is_held(allocator):
    heap = allocator()
    first = heap.alloc(1 << 20)
    second = heap.alloc(1 << 20)
    assert heap.allocated == heap.peak == heap.reserved == 2 << 20
    del first
    assert (heap.allocated, heap.peak, heap.reserved) == (1 << 20, 2 << 20, 2 << 20)
    heap.reset_peak()
    assert heap.peak == 1 << 20
    heap.release_free()
    assert heap.reserved == 1 << 20
    del second
    assert heap.statistics() == {
        "allocated": 0,
        "peak": 1 << 20,
        "reserved": 1 << 20,
        "misses": 2,
    }


def test_free_blocks_are_bounded(allocator):
    heap = allocator(keep_bytes=8 << 20)
    for nbytes in (1 << 20, 3 << 20, 5 << 20):
        held = [heap.alloc(nbytes) for _ in range(8)]
        del held
    assert heap.allocated == 0
    assert heap.reserved <= 8 << 20
    assert heap.kept == heap.reserved


def test_invalid_sizes_are_refused(allocator):
    with pytest.raises(ValueError, match="-1 bytes"):
        allocator().alloc(-1)
    with pytest.raises(TypeError):
        type(allocator().alloc(1))()
    with pytest.raises(MemoryError):
        allocator().alloc(1 << 62)


def test_threads_never_share_a_block(allocator):
    heap = allocator(keep_bytes=1 << 20)
    faults = []

    def work(mark):
        rng = np.random.default_rng(mark)
        held = []
        for nbytes in rng.integers(1, 60_000, 1500).tolist():
            buffer = heap.alloc(nbytes)
            np.asarray(buffer)[...] = mark
            held.append(buffer)
            if len(held) > 12:
                old = held.pop(int(rng.integers(len(held))))
                if not (np.asarray(old) == mark).all():
                    faults.append(old)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert heap.allocated == 0


def test_scratch_is_leased_to_one_call_at_a_time(allocator):
    heap = allocator()
    pool = ScratchPool(1000, heap)
    with pool.lease() as outer:
        with pool.lease() as inner:
            assert inner.address != outer.address
        again = pool.take()
        assert again is inner
        pool.give(again)
    with pytest.raises(RuntimeError), pool.lease():
        raise RuntimeError
    assert len(pool._free) == 2
    pool.clear()
    del outer, inner, again
    assert heap.allocated == 0


def test_compiled_buffers_use_the_size_classes_of_python():
    heap = HeapAllocator()
    heap.use_native()
    assert native_buffer.fault() is None
    for nbytes in [*range(0, 5000, 7), *(int(1.2**k) for k in range(47, 110))]:
        assert heap.alloc(nbytes)._size == block_size(nbytes)


def test_buffers_of_both_types_go_back_to_one_allocator():
    heap = HeapAllocator()
    old = [heap.alloc(n) for n in (100, 10_000)]
    addresses = [buffer.address for buffer in old]
    heap.use_native()
    young = [heap.alloc(n) for n in (100, 10_000)]
    assert not {b.address for b in young} & set(addresses)
    del old
    assert heap.allocated == 128 + 10_240 and heap.kept == 10_240
    assert [heap.alloc(n).address for n in (100, 10_000)] == addresses
    heap.release_free()
    assert heap.kept == 0
    del young
    assert heap.allocated == 0 and heap.kept == 10_240


def test_references_to_a_compiled_buffer_and_its_type_are_counted():
    heap = compiled()
    kind = heap.native_type
    buffer = heap.alloc(1000)
    address, before = buffer.address, sys.getrefcount(kind)
    assert sys.getrefcount(buffer) == 2
    for _ in range(1000):
        heap.alloc(1000)
        buffer.array(np.uint8, (3,))
    assert sys.getrefcount(buffer) == 2 and buffer.address == address
    assert sys.getrefcount(kind) == before + 1  # one more object is parked
    with pytest.raises(AttributeError):
        buffer.address = 0
    heap._collect(block_size(1000), [])  # it gives up its type
    assert sys.getrefcount(kind) == before


def test_allocations_do_not_leak():
    heap = compiled(keep_bytes=1 << 18)
    sizes = [1, 100, 5000, 70_000, 140_000]

    def rounds(count):
        for _ in range(count):
            held = [heap.alloc(n) for n in sizes]
            del held

    rounds(100)
    gc.collect()
    tracemalloc.start()
    try:
        rounds(10)
        before = tracemalloc.get_traced_memory()[0]
        rounds(2000)
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
    assert heap.allocated == 0 and heap.kept <= 1 << 18


def test_a_failed_allocation_leaves_nothing_behind():
    heap = compiled()

    def fails(times):
        for _ in range(times):
            with pytest.raises(MemoryError):
                heap.alloc(1 << 61)
            with pytest.raises(ValueError, match="-5"):
                heap.alloc(-5)
            with pytest.raises(OverflowError):
                heap.alloc(1 << 70)

    fails(10)
    before = sys.getrefcount(heap.native_type)
    fails(100)
    after = sys.getrefcount(heap.native_type)
    assert after == before
    assert heap.allocated == 0


def test_a_weak_reference_may_allocate_when_its_buffer_goes():
    heap, found = compiled(), []
    buffer = heap.alloc(100)
    ref = weakref.ref(buffer, lambda gone: found.append(heap.alloc(100)))
    address = buffer.address
    del buffer
    assert ref() is None and found[0].address != address
    assert heap.allocated == 128 and heap.alloc(100).address == address


def test_an_error_that_is_raised_passes_the_end_of_a_large_buffer():
    heap = compiled(keep_bytes=0)

    def fails():
        buffer = heap.alloc(1 << 20)
        raise KeyError(buffer.nbytes)

    for _ in range(5):
        try:
            fails()
        except KeyError as error:
            assert error.args == (1 << 20,)
    assert heap.kept == 0 and heap.allocated == 0


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("  store ptr %following, ptr %head\n", "", "twice"),
        ("  %allocated = sub i64 %before, %size", "  %allocated = add i64 %before, 0", "give"),
        ("icmp slt i64 %bytes, 0", "icmp slt i64 %bytes, -5", "negative"),
    ],
)
def test_the_self_test_finds_a_broken_type(monkeypatch, old, new, problem):
    assert old in native_buffer.TEXT
    monkeypatch.setattr(native_buffer, "TEXT", native_buffer.TEXT.replace(old, new))
    native_buffer.fault.cache_clear()
    try:
        found = native_buffer.fault()
        assert problem in found
    finally:
        monkeypatch.undo()
        native_buffer.fault.cache_clear()


def test_python_makes_buffers_where_the_type_cannot_be_trusted(monkeypatch):
    monkeypatch.setattr(native_buffer, "fault", lambda: "a reason")
    heap = HeapAllocator()
    heap.use_native()
    assert type(heap.alloc(10)) is Buffer
    entry._native_buffers.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="made by Python: a reason"):
            entry._native_buffers()
    finally:
        monkeypatch.undo()
        entry._native_buffers.cache_clear()
