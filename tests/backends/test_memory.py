"""Buffers: alignment, reuse, lifetime, statistics, threads; arenas leased by calls."""

import gc
import itertools
import threading
import weakref

import numpy as np
import pytest

from graphc.backends.llvm.memory import (
    ALIGNMENT,
    Buffer,
    HeapAllocator,
    ScratchPool,
    block_size,
)


@pytest.mark.parametrize("nbytes", [0, 1, 63, 64, 65, 1000, 4096, 4097, 1 << 20, 3_000_001])
def test_buffers_are_aligned_and_large_enough(nbytes):
    heap = HeapAllocator()
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


def test_a_freed_block_is_used_again():
    heap = HeapAllocator()
    buffer = heap.alloc(100_000)
    address = buffer.address
    del buffer
    assert heap.alloc(99_000).address == address
    assert heap.statistics()["misses"] == 1


def test_numpy_views_keep_the_buffer_alive():
    heap = HeapAllocator()
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


def test_views_with_offset_and_strides_stay_inside():
    buffer = HeapAllocator().alloc(64)
    whole = buffer.array(np.int32, (16,))
    whole[...] = np.arange(16)
    assert buffer.array(np.int32, (3, 2), 8, (4, 12)).tolist() == [[2, 5], [3, 6], [4, 7]]
    with pytest.raises((ValueError, TypeError)):
        buffer.array(np.int32, (17,))


def test_statistics_follow_what_is_held():
    heap = HeapAllocator()
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


def test_free_blocks_are_bounded():
    heap = HeapAllocator(keep_bytes=8 << 20)
    for nbytes in (1 << 20, 3 << 20, 5 << 20):
        held = [heap.alloc(nbytes) for _ in range(8)]
        del held
    assert heap.allocated == 0
    assert heap.reserved <= 8 << 20
    assert heap._kept == heap.reserved


def test_invalid_sizes_are_refused():
    with pytest.raises(ValueError, match="-1 bytes"):
        HeapAllocator().alloc(-1)
    with pytest.raises(TypeError, match="allocator"):
        Buffer()
    with pytest.raises(MemoryError):
        HeapAllocator().alloc(1 << 62)


def test_threads_never_share_a_block():
    heap = HeapAllocator(keep_bytes=1 << 20)
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


def test_scratch_is_leased_to_one_call_at_a_time():
    heap = HeapAllocator()
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
