"""The thread pool, written as LLVM IR and called by compiled code.

    void graphc_parallel(ptr job, ptr context, i64 chunks)
    void graphc_parallel_within(ptr job, ptr context, i64 chunks, i64 threads)

run `job(context, chunk, thread)`, of type `void (ptr, i64, i64)`, once for each chunk in
[0, chunks) and return when all are done. The calling thread takes part. `thread` is below the
number of threads, and no two chunks that run at one time have the same: it names scratch.
`graphc_parallel_within` keeps it below `threads` as well, which the caller has scratch for.

A call joins on chunks, not on threads: a worker that the system has not scheduled, and that
holds no chunk, is not waited for. One job runs at a time. A call that finds the pool busy (a
nested call, or one from another Python thread) runs its chunks itself, in order, as thread 0;
so do calls with one chunk or one thread. What a job computes must not depend on it.

The state is one word, generation << 32 | next chunk, and a chunk is claimed by a compare and
exchange of it. After the join, the chunk field is set to its maximum. Otherwise a worker that
is late may read the larger chunk count of the next job, while the word still shows the
finished one, and claim a chunk that does not exist.

Workers take over the caller's control word of floating point (rounding, flushing of denormals)
and block all signals, which belong to Python's main thread. They start with the first job that
can use them. A child of a fork starts its own. Without Linux's futex, all jobs run serially.
"""

import ctypes
import os
import sys
from string import Template

from graphc.backends.llvm import float_control, jit
from graphc.backends.llvm.cores import usable_cores
from graphc.backends.llvm.settings import settings
from graphc.backends.llvm.target import host_target

MAX_THREADS = 256

# Byte offsets in @pool. What several threads poll or write has a cache line of its own.
_FIELDS = {
    "STATE": 0,
    "JOB": 64,
    "CONTEXT": 72,
    "CHUNKS": 80,
    "LIMIT": 88,
    "CONTROL": 96,
    "DONE": 128,
    "SLEEPERS": 192,
    "WAKE": 256,
    "LOCK": 320,
    "WANTED": 384,
    "RUNNING": 392,
    "SPIN": 400,
    "THREADS": 448,
}
_CLOSED = 0x7FFFFFFF  # the chunk field when no chunk is left
_SPINS_BEFORE_YIELD = 200
_SIGSET_BYTES = 128
_SIG_SETMASK = 2
_FUTEX = {"x86_64": 202, "aarch64": 98}
_FUTEX_WAIT_PRIVATE, _FUTEX_WAKE_PRIVATE = 128, 129

_SERIAL = """
define internal void @serial(ptr %job, ptr %context, i64 %chunks) nounwind {
entry:
  %some = icmp sgt i64 %chunks, 0
  br i1 %some, label %next, label %out
next:
  %chunk = phi i64 [ 0, %entry ], [ %following, %next ]
  call void %job(ptr %context, i64 %chunk, i64 0)
  %following = add i64 %chunk, 1
  %more = icmp slt i64 %following, %chunks
  br i1 %more, label %next, label %out
out:
  ret void
}
"""

_ONLY_SERIAL = """
define void @graphc_parallel(ptr %job, ptr %context, i64 %chunks) nounwind {
  call void @serial(ptr %job, ptr %context, i64 %chunks)
  ret void
}
define void @graphc_parallel_within(ptr %job, ptr %context, i64 %chunks, i64 %t) nounwind {
  call void @serial(ptr %job, ptr %context, i64 %chunks)
  ret void
}
define void @pool_configure(i64 %threads, i64 %spin) nounwind {
  ret void
}
define void @pool_reset() nounwind {
  ret void
}
"""

# Claim and run chunks of generation %mine until there is none.
_DRAIN = """
define internal void @drain(i64 %mine, i64 %thread) nounwind {
entry:
  %job = load atomic ptr, ptr $JOB monotonic, align 8
  %context = load atomic ptr, ptr $CONTEXT monotonic, align 8
  %chunks = load atomic i64, ptr $CHUNKS monotonic, align 8
  %limit = load atomic i64, ptr $LIMIT monotonic, align 8
  %allowed = icmp slt i64 %thread, %limit
  br i1 %allowed, label %look, label %out
look:
  %state = load atomic i64, ptr $STATE acquire, align 8
  %generation = lshr i64 %state, 32
  %chunk = and i64 %state, 4294967295
  %same = icmp eq i64 %generation, %mine
  %left = icmp slt i64 %chunk, %chunks
  %open = and i1 %same, %left
  br i1 %open, label %claim, label %out
claim:
  %claimed = add i64 %state, 1
  %exchange = cmpxchg ptr $STATE, i64 %state, i64 %claimed acq_rel acquire
  %won = extractvalue { i64, i1 } %exchange, 1
  br i1 %won, label %run, label %look
run:
  call void %job(ptr %context, i64 %chunk, i64 %thread)
  %done = atomicrmw add ptr $DONE, i64 1 acq_rel
  br label %look
out:
  ret void
}
"""

# Poll for a new generation, then sleep until one is published; leave when there are more
# threads than wanted.
_WORKER = """
define internal ptr @worker(ptr %argument) nounwind {
entry:
  %thread = ptrtoint ptr %argument to i64
  br label %wait
wait:
  %seen = phi i64 [ 0, %entry ], [ %new, %work ]
  br label %poll
poll:
  %count = phi i64 [ 0, %wait ], [ %polls, %again ], [ 0, %sleep ]
  %wanted = load atomic i64, ptr $WANTED acquire, align 8
  %kept = icmp slt i64 %thread, %wanted
  br i1 %kept, label %look, label %leave
look:
  %state = load atomic i64, ptr $STATE acquire, align 8
  %new = lshr i64 %state, 32
  %changed = icmp ne i64 %new, %seen
  br i1 %changed, label %work, label %again
again:
  $PAUSE
  %polls = add i64 %count, 1
  %spin = load atomic i64, ptr $SPIN monotonic, align 8
  %more = icmp slt i64 %polls, %spin
  br i1 %more, label %poll, label %sleep
sleep:
  %in = atomicrmw add ptr $SLEEPERS, i32 1 seq_cst
  %expected = trunc i64 %seen to i32
  %r = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr $WAKE, i64 $WAITING, i32 %expected, ptr null)
  %awake = atomicrmw sub ptr $SLEEPERS, i32 1 seq_cst
  br label %poll
work:
  %control = load atomic i32, ptr $CONTROL monotonic, align 4
  call void @set_control(i32 %control)
  call void @drain(i64 %new, i64 %thread)
  br label %wait
leave:
  ret ptr null
}
"""

# The rest is called with the lock held. A thread that cannot be started is not waited for:
# fewer threads give the same results.
_START = """
define internal void @start() noinline nounwind {
entry:
  %all = alloca [$SIGSET_BYTES x i8], align 16
  %before = alloca [$SIGSET_BYTES x i8], align 16
  %a = call i32 @sigfillset(ptr %all)
  %b = call i32 @pthread_sigmask(i32 $SIG_SETMASK, ptr %all, ptr %before)
  %wanted = load atomic i64, ptr $WANTED monotonic, align 8
  %running = load i64, ptr $RUNNING
  br label %check
check:
  %thread = phi i64 [ %running, %entry ], [ %following, %create ]
  %missing = icmp slt i64 %thread, %wanted
  br i1 %missing, label %create, label %out
create:
  %handle = getelementptr i64, ptr $THREADS, i64 %thread
  %argument = inttoptr i64 %thread to ptr
  %error = call i32 @pthread_create(ptr %handle, ptr null, ptr @worker, ptr %argument)
  %following = add i64 %thread, 1
  %made = icmp eq i32 %error, 0
  br i1 %made, label %check, label %fewer
fewer:
  store atomic i64 %thread, ptr $WANTED release, align 8
  br label %out
out:
  %now = phi i64 [ %thread, %check ], [ %thread, %fewer ]
  store i64 %now, ptr $RUNNING
  %c = call i32 @pthread_sigmask(i32 $SIG_SETMASK, ptr %before, ptr null)
  ret void
}
"""

_PARALLEL = """
define void @graphc_parallel(ptr %job, ptr %context, i64 %chunks) nounwind {
  call void @graphc_parallel_within(ptr %job, ptr %context, i64 %chunks, i64 $MAX_THREADS)
  ret void
}
define void @graphc_parallel_within(ptr %job, ptr %context, i64 %chunks, i64 %threads) nounwind {
entry:
  %wanted = load atomic i64, ptr $WANTED monotonic, align 8
  %several = icmp sgt i64 %chunks, 1
  %others = icmp sgt i64 %wanted, 1
  %room = icmp sgt i64 %threads, 1
  %useful1 = and i1 %several, %others
  %useful = and i1 %useful1, %room
  br i1 %useful, label %try, label %alone
try:
  %taken = cmpxchg ptr $LOCK, i32 0, i32 1 acquire monotonic
  %locked = extractvalue { i32, i1 } %taken, 1
  br i1 %locked, label %enter, label %alone
alone:
  call void @serial(ptr %job, ptr %context, i64 %chunks)
  ret void
enter:
  %running = load i64, ptr $RUNNING
  %full = icmp sge i64 %running, %wanted
  br i1 %full, label %publish, label %begin
begin:
  call void @start()
  br label %publish
publish:
  store atomic ptr %job, ptr $JOB monotonic, align 8
  store atomic ptr %context, ptr $CONTEXT monotonic, align 8
  store atomic i64 %chunks, ptr $CHUNKS monotonic, align 8
  store atomic i64 %threads, ptr $LIMIT monotonic, align 8
  %control = call i32 @get_control()
  store atomic i32 %control, ptr $CONTROL monotonic, align 4
  store atomic i64 0, ptr $DONE monotonic, align 8
  %state = load atomic i64, ptr $STATE monotonic, align 8
  %old = lshr i64 %state, 32
  %next = add i64 %old, 1
  %opened = shl i64 %next, 32
  %mine = lshr i64 %opened, 32
  %wake = trunc i64 %mine to i32
  store atomic i32 %wake, ptr $WAKE seq_cst, align 4
  store atomic i64 %opened, ptr $STATE seq_cst, align 8
  %asleep = load atomic i32, ptr $SLEEPERS seq_cst, align 4
  %any = icmp ne i32 %asleep, 0
  br i1 %any, label %rouse, label %work
rouse:
  %helpers = sub i64 %chunks, 1
  %number = trunc i64 %helpers to i32
  %r = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr $WAKE, i64 $WAKING, i32 %number, ptr null)
  br label %work
work:
  call void @drain(i64 %mine, i64 0)
  br label %join
join:
  %count = phi i64 [ 0, %work ], [ %polls, %again ], [ 0, %yield ]
  %done = load atomic i64, ptr $DONE acquire, align 8
  %all = icmp eq i64 %done, %chunks
  br i1 %all, label %close, label %hold
hold:
  %polls = add i64 %count, 1
  %patient = icmp slt i64 %polls, $SPINS_BEFORE_YIELD
  br i1 %patient, label %again, label %yield
again:
  $PAUSE
  br label %join
yield:
  %y = call i32 @sched_yield()
  br label %join
close:
  %closed = or i64 %opened, $CLOSED
  store atomic i64 %closed, ptr $STATE seq_cst, align 8
  store atomic i32 0, ptr $LOCK release, align 4
  ret void
}
"""

# Called from Python with the interpreter's lock released. Threads that are too many have left,
# and their numbers are free, before the next job may start new ones.
_CONFIGURE = """
define void @pool_configure(i64 %threads, i64 %spin) nounwind {
entry:
  br label %try
try:
  %taken = cmpxchg ptr $LOCK, i32 0, i32 1 acquire monotonic
  %locked = extractvalue { i32, i1 } %taken, 1
  br i1 %locked, label %enter, label %wait
wait:
  %y = call i32 @sched_yield()
  br label %try
enter:
  store atomic i64 %spin, ptr $SPIN monotonic, align 8
  store atomic i64 %threads, ptr $WANTED seq_cst, align 8
  %running = load i64, ptr $RUNNING
  %fewer = icmp sgt i64 %running, %threads
  br i1 %fewer, label %dismiss, label %out
dismiss:
  ; a new generation that has no chunk: sleepers see another wake word
  %state = load atomic i64, ptr $STATE monotonic, align 8
  %old = lshr i64 %state, 32
  %next = add i64 %old, 1
  %opened = shl i64 %next, 32
  %closed = or i64 %opened, $CLOSED
  %mine = lshr i64 %opened, 32
  %wake = trunc i64 %mine to i32
  store atomic i32 %wake, ptr $WAKE seq_cst, align 4
  store atomic i64 %closed, ptr $STATE seq_cst, align 8
  %r = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr $WAKE, i64 $WAKING, i32 $CLOSED, ptr null)
  br label %join
join:
  %thread = phi i64 [ %threads, %dismiss ], [ %following, %join ]
  %slot = getelementptr i64, ptr $THREADS, i64 %thread
  %handle = load i64, ptr %slot
  %j = call i32 @pthread_join(i64 %handle, ptr null)
  %following = add i64 %thread, 1
  %more = icmp slt i64 %following, %running
  br i1 %more, label %join, label %left
left:
  store i64 %threads, ptr $RUNNING
  br label %out
out:
  store atomic i32 0, ptr $LOCK release, align 4
  ret void
}

; in the child of a fork, which has no workers, and whose lock may have been held
define void @pool_reset() nounwind {
  store atomic i64 $CLOSED, ptr $STATE seq_cst, align 8
  store atomic i32 0, ptr $WAKE seq_cst, align 4
  store atomic i32 0, ptr $SLEEPERS seq_cst, align 4
  store i64 1, ptr $RUNNING
  store atomic i32 0, ptr $LOCK seq_cst, align 4
  ret void
}
"""

_DECLARATIONS = """
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i32 @sched_yield()
declare i64 @syscall(i64, ...)
@pool = internal global [$BYTES x i8] zeroinitializer, align 64
"""


def pool_text(arch: str, system: str) -> str:
    """The pool as a module's text, for `arch` ("x86_64", "aarch64") on `system` ("linux")."""
    if system != "linux" or arch not in _FUTEX:
        return _SERIAL + _ONLY_SERIAL
    words: dict[str, object] = {
        name: f"getelementptr (i8, ptr @pool, i64 {offset})" for name, offset in _FIELDS.items()
    }
    words |= {
        "BYTES": _FIELDS["THREADS"] + 8 * MAX_THREADS,
        "MAX_THREADS": MAX_THREADS,
        "CLOSED": _CLOSED,
        "FUTEX": _FUTEX[arch],
        "WAITING": _FUTEX_WAIT_PRIVATE,
        "WAKING": _FUTEX_WAKE_PRIVATE,
        "SIGSET_BYTES": _SIGSET_BYTES,
        "SIG_SETMASK": _SIG_SETMASK,
        "SPINS_BEFORE_YIELD": _SPINS_BEFORE_YIELD,
        "PAUSE": float_control.PAUSE[arch],
    }
    parts = (_DECLARATIONS, _SERIAL, _DRAIN, _WORKER, _START, _PARALLEL, _CONFIGURE)
    return Template("".join(parts)).substitute(words) + float_control.TEXT[arch]


class _Pool:
    """The pool's code, loaded once in a process and never unloaded: workers sleep in it."""

    def __init__(self) -> None:
        text = pool_text(host_target().arch, sys.platform)
        names = (*_ENTRIES, "pool_configure", "pool_reset")
        self.code = jit.load(text, names, target=host_target())
        self.code.keep()
        two_numbers = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)
        self.configure = two_numbers(self.code["pool_configure"])
        self.reset = ctypes.CFUNCTYPE(None)(self.code["pool_reset"])
        self.reset()
        self.configure(get_num_threads(), settings.spin)


_ENTRIES = ("graphc_parallel", "graphc_parallel_within")
_pool: _Pool | None = None


def address(name: str) -> int:
    """The address of "graphc_parallel" or "graphc_parallel_within"; loads the pool if need be."""
    global _pool
    if _pool is None:
        with jit.lock:
            if _pool is None:
                _pool = _Pool()
    return _pool.code[name]


def get_num_threads() -> int:
    """How many threads a job may run on, the caller's included."""
    return settings.num_threads or default_threads()


def default_threads() -> int:
    """One thread a core."""
    return min(usable_cores(), MAX_THREADS)


def set_num_threads(count: int) -> None:
    """Let jobs run on `count` threads, the caller's included. Waits for a job that is running.

    Raises ValueError unless 1 <= count <= MAX_THREADS.
    """
    if not 1 <= count <= MAX_THREADS:
        raise ValueError(f"the number of threads must be in 1..{MAX_THREADS}, not {count}")
    with jit.lock:
        settings.num_threads = count
        if _pool is not None:
            _pool.configure(count, settings.spin)


def _forget_workers() -> None:
    if _pool is not None:
        _pool.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
