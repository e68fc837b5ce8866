"""The thread pool: every chunk once, on any number of threads, nested, concurrent, forked."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from graphc.backends.llvm import float_control, jit, pool
from graphc.backends.llvm.cores import usable_cores
from graphc.backends.llvm.target import TARGETS

# count: adds 1 to the chunk's counter, and marks the thread's number as seen.
# run: forks of 2, 16 and 5 chunks in turn, `times` times.
_JOBS = """
declare void @graphc_parallel(ptr, ptr, i64)
declare void @graphc_parallel_within(ptr, ptr, i64, i64)
define internal void @count(ptr %context, i64 %chunk, i64 %thread) {
  %at = getelementptr i32, ptr %context, i64 %chunk
  %old = atomicrmw add ptr %at, i32 1 monotonic
  %number = add i64 %thread, 64
  %seen = getelementptr i32, ptr %context, i64 %number
  store atomic i32 1, ptr %seen monotonic, align 4
  ret void
}
define void @run(ptr %context, i64 %times) {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %following, %next ]
  call void @graphc_parallel(ptr @count, ptr %context, i64 2)
  call void @graphc_parallel(ptr @count, ptr %context, i64 16)
  call void @graphc_parallel(ptr @count, ptr %context, i64 5)
  %following = add i64 %i, 1
  %more = icmp slt i64 %following, %times
  br i1 %more, label %next, label %out
out:
  ret void
}
define void @once(ptr %context, i64 %chunks) {
  call void @graphc_parallel(ptr @count, ptr %context, i64 %chunks)
  ret void
}
define void @within(ptr %context, i64 %threads) {
  call void @graphc_parallel_within(ptr @count, ptr %context, i64 16, i64 %threads)
  ret void
}
define internal void @inner(ptr %context, i64 %chunk, i64 %thread) {
  call void @graphc_parallel(ptr @count, ptr %context, i64 8)
  ret void
}
define void @nested(ptr %context, i64 %chunks) {
  call void @graphc_parallel(ptr @inner, ptr %context, i64 %chunks)
  ret void
}
; waits until `chunks` chunks run at the same time, or for a bounded number of polls
define internal void @meet(ptr %context, i64 %chunk, i64 %thread) {
entry:
  %old = atomicrmw add ptr %context, i32 1 seq_cst
  br label %poll
poll:
  %i = phi i64 [ 0, %entry ], [ %following, %poll ]
  %here = load atomic i32, ptr %context seq_cst, align 4
  %alone = icmp slt i32 %here, 2
  %following = add i64 %i, 1
  %patient = icmp slt i64 %following, 2000000000
  %again = and i1 %alone, %patient
  br i1 %again, label %poll, label %out
out:
  call void @count(ptr %context, i64 %chunk, i64 %thread)
  ret void
}
define void @together(ptr %context, i64 %chunks) {
  call void @graphc_parallel(ptr @meet, ptr %context, i64 %chunks)
  ret void
}
; a product that is denormal, by each chunk
define internal void @tiny(ptr %context, i64 %chunk, i64 %thread) {
  %at = getelementptr float, ptr %context, i64 %chunk
  %x = load float, ptr %at
  %y = fmul float %x, 5.000000e-01
  store float %y, ptr %at
  ret void
}
define void @halve(ptr %context, i64 %chunks) {
  call void @graphc_parallel(ptr @tiny, ptr %context, i64 %chunks)
  ret void
}
"""
_NAMES = ("run", "once", "within", "nested", "together", "halve")


@pytest.fixture(scope="module")
def jobs():
    code = jit.load(_JOBS, _NAMES)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    functions = {name: kind(code[name]) for name in _NAMES}

    def call(name, array, number):
        functions[name](array.ctypes.data, number)

    call.code = code
    return call


@pytest.fixture(autouse=True)
def restore_threads():
    before = pool.get_num_threads()
    yield
    pool.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("chunks", [0, 1, 2, 7, 64])
def test_every_chunk_runs_once(jobs, threads, chunks):
    pool.set_num_threads(threads)
    counts = np.zeros(64 + pool.MAX_THREADS, np.int32)
    jobs("once", counts, chunks)
    assert (counts[:chunks] == 1).all() and not counts[chunks:64].any()
    assert not counts[64 + threads :].any()


def test_no_chunk_of_a_finished_job_is_claimed(jobs):
    """Hangs, or counts twice, when the state word is left open after a join."""
    for threads in (2, 3, 6):
        pool.set_num_threads(threads)
        counts = np.zeros(64 + pool.MAX_THREADS, np.int32)
        end = time.perf_counter() + 0.7
        times = 0
        while time.perf_counter() < end:
            jobs("run", counts, 500)
            times += 500
        expected = np.zeros(64, np.int32)
        for chunks in (2, 16, 5):
            expected[:chunks] += times
        assert (counts[:64] == expected).all()


def test_workers_take_part(jobs):
    pool.set_num_threads(2)
    counts = np.zeros(64 + pool.MAX_THREADS, np.int32)
    jobs("together", counts, 2)  # each chunk waits for the other to start
    assert counts[64] == counts[65] == 1


def test_sleeping_workers_are_woken(jobs):
    pool.set_num_threads(2)
    for _ in range(5):
        time.sleep(0.02)
        counts = np.zeros(64 + pool.MAX_THREADS, np.int32)
        jobs("together", counts, 2)
        assert counts[64] == counts[65] == 1


def test_the_limit_of_threads_is_kept(jobs):
    pool.set_num_threads(6)
    for limit in (1, 2, 4):
        counts = np.zeros(64 + pool.MAX_THREADS, np.int32)
        for _ in range(300):
            jobs("within", counts, limit)
        assert (counts[:16] == 300).all()
        assert not counts[64 + limit :].any()


def test_nested_jobs_run_inline(jobs):
    pool.set_num_threads(3)
    counts = np.zeros(64 + pool.MAX_THREADS, np.int32)
    for _ in range(100):
        jobs("nested", counts, 6)
    assert (counts[:8] == 600).all() and not counts[8:64].any()
    assert not counts[65:].any()  # as thread 0


def test_threads_of_python_share_the_pool(jobs):
    pool.set_num_threads(3)
    arrays = [np.zeros(64 + pool.MAX_THREADS, np.int32) for _ in range(8)]
    threads = [threading.Thread(target=jobs, args=("run", array, 2000)) for array in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = np.zeros(64, np.int32)
    for chunks in (2, 16, 5):
        expected[:chunks] += 2000
    assert all((array[:64] == expected).all() for array in arrays)


def test_the_number_of_threads_changes_while_jobs_run(jobs):
    counts = np.zeros(64 + pool.MAX_THREADS, np.int32)
    thread = threading.Thread(target=jobs, args=("run", counts, 20_000))
    thread.start()
    changes = 0
    while thread.is_alive() or changes < 6:
        pool.set_num_threads(1 + changes % 5)
        changes += 1
    thread.join()
    assert (counts[:2] == 60_000).all() and (counts[5:16] == 20_000).all()
    assert pool.get_num_threads() == 1 + (changes - 1) % 5


def _threads_of_this_process():
    return len(os.listdir("/proc/self/task"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_dismissed_workers_leave(jobs):
    pool.set_num_threads(1)
    before = _threads_of_this_process()
    counts = np.zeros(64 + pool.MAX_THREADS, np.int32)
    pool.set_num_threads(5)
    assert _threads_of_this_process() == before  # they start with the first job
    jobs("once", counts, 16)
    assert _threads_of_this_process() == before + 4
    pool.set_num_threads(2)
    deadline = time.perf_counter() + 5
    while _threads_of_this_process() > before + 1 and time.perf_counter() < deadline:
        time.sleep(0.01)  # a joined thread is in /proc for a moment longer
    assert _threads_of_this_process() == before + 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_block_signals(jobs):
    pool.set_num_threads(1)
    before = set(os.listdir("/proc/self/task"))
    pool.set_num_threads(3)
    jobs("once", np.zeros(64 + pool.MAX_THREADS, np.int32), 16)
    workers = set(os.listdir("/proc/self/task")) - before
    assert len(workers) == 2
    for worker in workers:
        with open(f"/proc/self/task/{worker}/status") as status:
            blocked = next(line for line in status if line.startswith("SigBlk"))
        assert int(blocked.split()[1], 16) >> (signal.SIGINT - 1) & 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_fork_has_its_own_workers(jobs):
    pool.set_num_threads(2)
    jobs("once", np.zeros(64 + pool.MAX_THREADS, np.int32), 16)
    busy = np.zeros(64 + pool.MAX_THREADS, np.int32)
    thread = threading.Thread(target=jobs, args=("run", busy, 50_000))
    thread.start()  # holds the pool, most of the time, while the process forks
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            counts = np.zeros(64 + pool.MAX_THREADS, np.int32)
            jobs("together", counts, 2)
            right = counts[64] == counts[65] == 1
            jobs("run", counts, 50)
            jit.compile_text("define void @f() {\n  ret void\n}\n")
            os._exit(0 if right and counts[1] == 151 else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    thread.join()
    assert (busy[:2] == 150_000).all()


def test_jobs_flush_denormals_as_their_caller_does(jobs):
    pool.set_num_threads(2)
    smallest = np.finfo(np.float32).tiny
    assert not float_control.get_flush_denormal()
    for flush in (False, True, False):
        values = np.full(64, smallest, np.float32)
        float_control.set_flush_denormal(flush)
        assert float_control.get_flush_denormal() == flush
        for _ in range(50):
            jobs("halve", values, 64)
            values.view(np.int32)[values.view(np.int32) == 1 << 22] = 1 << 23
        jobs("halve", values, 64)
        bits = values.view(np.int32).copy()
        float_control.set_flush_denormal(False)
        assert (bits == (0 if flush else 1 << 22)).all()


_SHORT_PROGRAM = """
import ctypes
from graphc.backends.llvm import jit, pool

pool.set_num_threads(4)
code = jit.load(
    '''
declare void @graphc_parallel(ptr, ptr, i64)
define internal void @job(ptr %context, i64 %chunk, i64 %thread) {
  ret void
}
define void @run() {
  call void @graphc_parallel(ptr @job, ptr null, i64 9)
  ret void
}
''',
    ["run"],
)
ctypes.CFUNCTYPE(None)(code["run"])()
"""


def test_a_process_ends_while_workers_poll():
    for _ in range(3):
        subprocess.run([sys.executable, "-c", _SHORT_PROGRAM], check=True, timeout=60)


def test_invalid_counts_are_refused():
    for count in (0, -1, pool.MAX_THREADS + 1):
        with pytest.raises(ValueError, match="number of threads"):
            pool.set_num_threads(count)


def test_cores_are_counted():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("arch", ["x86_64", "aarch64", "riscv64"])
@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_the_text_compiles_for_each_platform(arch, system):
    target = TARGETS["aarch64" if arch == "aarch64" else "x86-64"]
    assert jit.compile_text(pool.pool_text(arch, system), target).startswith(b"\x7fELF")
