"""Autotuning: of the schedules that give a kernel's bits, the one that this machine runs fastest.

A kernel's candidates are compiled and run in turns on made-up operands of the real sizes. The best
is remembered on disk, by the kernel's text, its sizes, the target, the processor, the number of
threads and the compiler's source, so that it is measured once a machine. What is remembered names
one of the candidates; it is never run itself.

A candidate that cannot be compiled, fails, or gives other bits is left out with a warning.
"""

from __future__ import annotations

import ctypes
import json
import logging
import math
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from graphc.backends.llvm import jit
from graphc.backends.llvm.cache import DiskCache, cache_key, compiler_stamp
from graphc.backends.llvm.emit.printer import Buffer, dtype_of
from graphc.backends.llvm.emit.program import Call, Program
from graphc.backends.llvm.memory import heap
from graphc.backends.llvm.native import NativeCall
from graphc.backends.llvm.regions import buffer_bytes, form_regions
from graphc.backends.llvm.target import Target, host_target, runs_here
from graphc.ir.dims import AnyDim
from graphc.ir.dtype import DType
from graphc.passes.memory import ALIGNMENT, ArenaPlan, align

log = logging.getLogger("graphc.tune")
tune_cache = DiskCache("tuned")

#: Seconds for the first look at candidates, compiling included; so many are looked at in any case.
LOOK_S, LEAST_TRIALS = 0.3, 4
#: Those within this factor of the best are measured on, so many besides the default.
NEAR, MOST_NEAR = 1.1, 3
#: Seconds of a race of these, and of the duel of the best with the default; and rounds of either.
RACE_S, LEAST_ROUNDS, MOST_ROUNDS = 0.1, 3, 15
#: The part of the default's time that the winner has to stay under, in its best run and in the
#: median of the duel's rounds: less is noise.
GAIN = 0.975
#: Bytes that are read between runs: what a kernel reads was not in the second cache before either.
SWEPT = 4 << 20
#: A kernel that takes less (nanoseconds, estimated) is left as it is.
LEAST_WORK = 5000.0


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found for a kernel.

    schedule   fields of the chosen one that differ from the default; "" where that stays
    tried      how many candidates were measured, the default included
    default_s  seconds of a run with the default schedule, and
    best_s     with the chosen one; both 0 where nothing was measured
    remembered whether an earlier compile found it
    """

    schedule: str
    tried: int
    default_s: float
    best_s: float
    remembered: bool = False

    @property
    def gain(self) -> float:
        """How many times as long the default takes."""
        return self.default_s / self.best_s if self.best_s else 1.0


class Tuner:
    """Tunes the kernels of one compile.

    calls_of: makes program calls of a native call. sizes: of the symbols, for the measurement.
    """

    def __init__(
        self,
        target: Target,
        threads: int,
        fork: float,
        sizes: Callable[[AnyDim], int],
        calls_of: Callable[[NativeCall, frozenset[Buffer]], list[Call]],
    ) -> None:
        self.target, self.threads, self.fork = target, threads, fork
        self.size, self.calls_of = sizes, calls_of
        self.total = self.done = self.ns = 0  # kernels to come, kernels seen, time of all
        self.found: list[Tuned] = []
        self.runs = runs_here(target)
        if not self.runs:
            log.info("nothing is tuned: this machine cannot run code for %s", target.name)

    def choose(
        self, built: NativeCall, writes: frozenset[Buffer]
    ) -> tuple[NativeCall, Tuned | None]:
        """The call with the best schedule, and what was found; None where there is no choice.

        writes: the buffers that it leaves.
        """
        self.done += 1
        choice = built.schedules
        if choice is None or built.work < LEAST_WORK or not self.runs:
            return built, None
        records = list(choice.records())
        if len(records) < 2:
            return built, None
        start = time.perf_counter_ns()
        names = {_text(record, records[0]): record for record in records}
        found = self._found(built, writes, names)
        self.ns += time.perf_counter_ns() - start
        self.found.append(found)
        if not found.schedule:
            return built, found
        return choice.build(names[found.schedule]), found

    def _found(
        self, built: NativeCall, writes: frozenset[Buffer], names: Mapping[str, Any]
    ) -> Tuned:
        """What is remembered, or measured now."""
        key = self._key(built)
        with _lock:
            found = _remembered(key, names)
            if found is None:
                for tell in _watchers:
                    tell(self.done, self.total, built.kernel.name.rpartition("_")[0])
                try:
                    found = self._measured(built, writes, names)
                except Exception as error:
                    log.warning("%s cannot be tuned: %s", built.kernel.name, error)
                    found = _known[key] = Tuned("", 0, 0.0, 0.0)
                else:
                    _remember(key, found)
        return found

    def report(self, name: str) -> None:
        """Logs what was found in this compile, and how long it took."""
        measured = [tuned for tuned in self.found if not tuned.remembered]
        if measured:
            log.info(
                "%s: %d kernels tuned in %.2f s, %d are faster",
                name, len(measured), self.ns / 1e9, len([t for t in measured if t.schedule]),
            )  # fmt: skip

    def _key(self, built: NativeCall) -> str:
        sizes = [self.size(size) for size in built.sizes]
        before = built.before.kernel.name if built.before else ""
        return cache_key(
            "tuned",
            compiler_stamp(),
            built.kernel.name,
            before,
            repr((sizes, self.threads, self.fork)),
            self.target.fingerprint,
            host_target().fingerprint,
        )

    def _measured(
        self, built: NativeCall, writes: frozenset[Buffer], names: Mapping[str, Any]
    ) -> Tuned:
        """Looks at the candidates, races the best of them, and has the default fight the winner."""
        trials = self._trials(built, writes, names)
        first = trials[0]
        others = sorted(trials[1:], key=lambda trial: trial.best)
        limit = NEAR * min([trial.best for trial in trials])
        near = [trial for trial in others[:MOST_NEAR] if trial.best <= limit]
        _race([first, *near])
        best = min([first, *near], key=lambda trial: trial.best)
        if best is not first:
            pairs = _race([first, best])
            ratio = statistics.median([b / a for a, b in pairs])
            if max(ratio, best.best / first.best) > GAIN:
                best = first
        return Tuned(best.name, len(trials), first.best, best.best)

    def _trials(
        self, built: NativeCall, writes: frozenset[Buffer], names: Mapping[str, Any]
    ) -> list[_Trial]:
        """The default, then as many candidates as there is time for, each compiled and run."""
        start = time.perf_counter()
        assert built.schedules is not None
        default, *others = names
        memory = _Memory(self.size)
        first = _Trial(default, self, self.calls_of(built, writes), memory)
        wanted = [words.copy() for words in first.results()]
        first.sample(), first.sample()
        trials = [first]
        for name in others:
            if len(trials) > LEAST_TRIALS and time.perf_counter() > start + LOOK_S:
                break
            try:
                other = built.schedules.build(names[name])
                trial = _Trial(name, self, self.calls_of(other, writes), memory)
                if not all(map(np.array_equal, trial.results(), wanted)):
                    log.warning("the schedule %s gives other bits, it is not taken", name)
                    continue
                trial.sample(), trial.sample()
            except Exception as error:
                log.warning("the schedule %s cannot be tried: %s", name, error)
                continue
            trials.append(trial)
        return trials


def _text(record: Any, default: Any) -> str:
    """A schedule as text: the fields that differ from the default's."""
    usual = asdict(default)
    changed = [(name, value) for name, value in asdict(record).items() if value != usual[name]]
    return ", ".join([f"{name}={value}" for name, value in changed])


# --- what is remembered --------------------------------------------------------------------------

_known: dict[str, Tuned] = {}  # of this process
_lock = threading.Lock()  # one thread measures at a time


def _new_lock() -> None:
    """A child must not wait for a thread that it does not have."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def _remembered(key: str, names: Mapping[str, Any]) -> Tuned | None:
    """What was found before; None where nothing was, or what is written there makes no sense."""
    found = _known.get(key)
    if found is not None:
        return found
    data = tune_cache.get(key)
    if data is None:
        return None
    try:
        schedule, tried, default_s, best_s = json.loads(data)
        found = Tuned(str(schedule), int(tried), float(default_s), float(best_s), True)
    except (ValueError, TypeError) as error:
        log.warning("what was tuned before cannot be read, it is measured again: %s", error)
        return None
    if found.schedule and found.schedule not in names:
        log.warning("no schedule %s is known, it is measured again", found.schedule)
        return None
    _known[key] = found
    return found


def _remember(key: str, found: Tuned) -> None:
    _known[key] = replace(found, remembered=True)
    fields = [found.schedule, found.tried, found.default_s, found.best_s]
    tune_cache.put(key, json.dumps(fields).encode())


def forget() -> None:
    """Forgets what this process remembers, not what is on disk: for tests."""
    _known.clear()


# --- progress ------------------------------------------------------------------------------------

Tell = Callable[[int, int, str], None]
_watchers: list[Tell] = []


@contextmanager
def watched(tell: Tell) -> Iterator[None]:
    """Calls `tell` with (number of the kernel, how many there are, what it is) ahead of each that
    is measured."""
    _watchers.append(tell)
    try:
        yield
    finally:
        _watchers.remove(tell)


# --- running a candidate -------------------------------------------------------------------------


class _Memory:
    """Operands of a kernel: small numbers in what it reads, shared by its candidates."""

    def __init__(self, size: Callable[[AnyDim], int]) -> None:
        self.size = size
        self._buffers: dict[Buffer, Any] = {}
        self._swept = np.zeros(SWEPT // 8)
        self._some = np.random.default_rng(0).standard_normal(4096)

    def address(self, buffer: Buffer, written: bool) -> int:
        found = self._buffers.get(buffer)
        if found is None:
            found = self._buffers[buffer] = heap.alloc(align(self.size(buffer_bytes(buffer)) + 1))
            if not written:
                self._fill(found, dtype_of(buffer))
        return found.address

    def _fill(self, buffer: Any, dtype: DType) -> None:
        memory = np.asarray(buffer)
        memory[...] = 0
        if dtype.kind == "f":
            numbers = memory[: memory.size // dtype.itemsize * dtype.itemsize].view(dtype.numpy)
            numbers[...] = np.resize(self._some.astype(dtype.numpy), numbers.shape)

    def sweep(self) -> None:
        """Reads other memory."""
        self._swept.sum()

    def words(self, buffer: Buffer) -> np.ndarray:
        return np.asarray(self._buffers[buffer]).view(np.int64)


class _Trial:
    """One candidate as machine code: a program of its kernel, and of the one that packs for it."""

    def __init__(self, name: str, tuner: Tuner, given: Sequence[Call], memory: _Memory) -> None:
        self.name, self.memory, self.best = name, memory, math.inf
        calls = [_with_numbers(call, tuner.size) for call in given]
        self.writes = [buffer for buffer in calls[-1].buffers if buffer in calls[-1].writes]
        written = {buffer for call in calls for buffer in call.writes}
        buffers = list(dict.fromkeys([buffer for call in calls for buffer in call.buffers]))
        table: dict[Buffer, int] = {buffer: k for k, buffer in enumerate(buffers)}
        arena = len(buffers)
        program = Program(
            form_regions(calls), table, arena, ArenaPlan((), {}), {}, arena + 1, fork=tuner.fork
        )
        scratch = align(max([tuner.size(call.scratch) for call in calls]))
        self._arena = heap.alloc(scratch * tuner.threads + ALIGNMENT)
        self._code = _code(program, calls, tuner.target)
        addresses = [memory.address(buffer, buffer in written) for buffer in buffers]
        numbers = [*addresses, self._arena.address, tuner.threads]
        self._table = (ctypes.c_int64 * len(numbers))(*numbers)
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
        self._run = kind(self._code["run"])
        self._clock = time.thread_time if tuner.threads == 1 else time.perf_counter

    def run(self) -> None:
        self._run(ctypes.addressof(self._table))

    def results(self) -> list[np.ndarray]:
        """The memory that a run writes: whole words, of which the last may be no results."""
        found = [self.memory.words(buffer) for buffer in self.writes]
        for words in found:
            words[...] = -1
        self.run()
        return found

    def sample(self) -> float:
        """Seconds of a run."""
        self.memory.sweep()
        start = self._clock()
        self.run()
        took = self._clock() - start
        self.best = min(self.best, took)
        return took


def _race(trials: Sequence[_Trial]) -> list[list[float]]:
    """Runs candidates in turns: the seconds of each, round by round."""
    rounds: list[list[float]] = []
    end = time.perf_counter() + RACE_S
    while len(rounds) < LEAST_ROUNDS or (len(rounds) < MOST_ROUNDS and time.perf_counter() < end):
        rounds.append([trial.sample() for trial in trials])
    return rounds


def _with_numbers(call: Call, size: Callable[[AnyDim], int]) -> Call:
    """The call at the sizes of the measurement."""
    units = call.units if isinstance(call.units, str) else size(call.units)
    points = size(call.points)
    return replace(
        call,
        sizes=[size(one) for one in call.sizes],
        units=units,
        scratch=size(call.scratch),
        points=points,
        work=points * call.point_ns or call.work,
    )


def _code(program: Program, calls: Sequence[Call], target: Target) -> jit.Code:
    kernels: dict[str, jit.Code] = {}
    for call in calls:
        code = jit.load(call.module, call.exports, {}, target)
        kernels.update(dict.fromkeys(call.exports, code))
    return jit.load(program.entry(), ["run"], kernels, target)
