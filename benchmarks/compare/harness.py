"""Starts contenders, gives them turns, compares their results, and keeps to limits of time."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .contenders import CONTENDERS, REFERENCE
from .limits import least_seconds
from .results import Entry, Measured, median
from .workload import Workload

#: Where `benchmarks` is found.
ROOT = Path(__file__).resolve().parents[2]
#: The first of these that gives a result is right; the numpy interpreter is asked where none is.
JUDGES = ("torch", "onnxruntime", "jax.jit")
#: CPUs that others may keep busy while wall times are taken, and how long that is waited for.
QUIET, QUIET_WAIT_S = 0.25, 15.0


class Failed(Exception):
    """A contender did not answer, or answered with an error; the first line of why."""


class Absent(Exception):
    """A contender has no version of a workload."""


@dataclass(frozen=True)
class Budget:
    """Limits of time in seconds, and how often each contender has its turn."""

    rounds: int = 7
    turn_s: float = 0.06
    prepare_s: float = 120.0
    rounds_s: float = 25.0  # of a workload's rounds in all; two are done in any case


class Process:
    """A worker: one contender in a process of its own."""

    def __init__(self, name: str, threads: int, cpus: Sequence[int], folder: Path) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        environment = {**os.environ, **CONTENDERS[name].environment(threads)}
        command = [sys.executable, "-m", f"{__package__}.worker", name, str(threads)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, ",".join(map(str, cpus))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
                cwd=ROOT,
            )
        self.rest = b""
        self.answer(60.0)

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """The answer to a request. Failed for an error, an end of the process, or no answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self.ending()) from None
        return self.answer(timeout)

    def answer(self, timeout: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        file, end = self.process.stdout.fileno(), time.monotonic() + timeout
        while b"\n" not in self.rest:
            ready, _, _ = select.select([file], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.kill()
                raise Failed(f"no answer within {timeout:.0f} s")
            more = os.read(file, 1 << 16)
            if not more:
                raise Failed(self.ending())
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        found = json.loads(line)
        if found.get("kind") == "NotThere":
            raise Absent(found["error"])
        if "error" in found:
            raise Failed(f"{found['kind']}: {found['error']}")
        return found

    def ending(self) -> str:
        """How the process ended, with the last line that it wrote."""
        try:
            code = self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it closed its output"
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{how}: {lines[-1][:160]}" if lines else how

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Ends the process, and those that it started."""
        if self.is_alive:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@dataclass
class Harness:
    """Workers by contender, and what a run needs of them.

    cpus     those that processes may use, for `threads` threads
    limits   what the machine does, measured with as many threads
    told     receives a line about what is going on
    """

    contenders: Sequence[str]
    threads: int
    cpus: Sequence[int]
    budget: Budget = Budget()
    limits: dict[str, float] = field(default_factory=dict)
    told: Callable[[str], None] = lambda line: None
    workers: dict[str, Process] = field(default_factory=dict)

    def __enter__(self) -> Harness:
        self._folder = tempfile.TemporaryDirectory(prefix="compare-")
        self.folder = Path(self._folder.name)
        if not self.limits:
            self.limits = self.worker("graphc").ask(60.0, do="limits")
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._folder.cleanup()

    def stop(self) -> None:
        """Ends all workers; the next workload has new ones."""
        for process in self.workers.values():
            process.kill()
        self.workers.clear()

    def worker(self, name: str) -> Process:
        """The contender's process, a new one where the last has ended."""
        found = self.workers.get(name)
        if found is None or not found.is_alive:
            if found is not None:
                found.kill()
                del self.workers[name]
            self.workers[name] = Process(name, self.threads, self.cpus, self.folder)
        return self.workers[name]

    def run(self, module: str, workload: Workload) -> Measured:
        """Prepares the workload in all contenders, compares results, and times by turns."""
        entries: dict[str, Entry] = {}
        results: dict[str, list[np.ndarray]] = {}
        for name in self.contenders:
            self.told(f"{workload.name}: {name} prepares")
            entries[name] = self.prepare(name, module, workload, results)
        self.judge(module, workload, entries, results)
        load = quiet() if self.threads > 1 else busy()
        self.told(f"{workload.name}: rounds")
        self.rounds(entries)
        found = Measured(workload.name, self.threads, workload.least, entries, load=load)
        self.add_cost(module, workload, found)
        for process in self.workers.values():
            if process.is_alive:
                self.asked(process.name, 30.0, do="drop")
        return found

    def prepare(
        self, name: str, module: str, workload: Workload, results: dict[str, list[np.ndarray]]
    ) -> Entry:
        """The entry of a contender that is ready, with its result; or of one that is not."""
        if name in workload.absent:
            return Entry("absent", workload.absent[name])
        request = {"module": module, "workload": workload.name, "folder": str(self.folder)}
        try:
            found = self.worker(name).ask(self.budget.prepare_s, do="prepare", **request)
        except Absent as why:
            return Entry("absent", str(why))
        except Failed as why:
            return Entry("failed", str(why))
        with np.load(found["result"]) as file:
            results[name] = [file[key] for key in file.files]
        return Entry("timed", prepared_s=found["prepared_s"])

    def judge(
        self,
        module: str,
        workload: Workload,
        entries: dict[str, Entry],
        results: dict[str, list[np.ndarray]],
    ) -> None:
        """Marks entries whose results differ from the judge's."""
        judge = next((name for name in JUDGES if name in results), None)
        if judge is None and results and "graphc" in self.contenders:
            reference = self.prepare(REFERENCE, module, workload, results)
            judge = REFERENCE if reference.is_timed else None
        for name, entry in entries.items():
            if not entry.is_timed or name == judge:
                continue
            if judge is None:
                entry.state, entry.note = "failed", "there is no result to compare its own with"
                continue
            wrong = difference(results[name], results[judge], workload)
            if wrong:
                entry.state, entry.note = "wrong", f"{wrong} ({judge} is the judge)"

    def rounds(self, entries: dict[str, Entry]) -> None:
        """Turns of all that are ready, each round beginning with another one."""
        samples: dict[str, list[float]] = {name: [] for name, e in entries.items() if e.is_timed}
        began = time.monotonic()
        for number in range(self.budget.rounds):
            if number >= 2 and time.monotonic() - began > self.budget.rounds_s:
                break
            names = list(samples)
            start = number % max(len(names), 1)
            for name in names[start:] + names[:start]:
                if not entries[name].is_timed:
                    continue
                found = self.asked(name, 60.0, do="time", seconds=self.budget.turn_s)
                if "error" in found:
                    entries[name].state, entries[name].note = "failed", found["error"]
                else:
                    samples[name] += found["samples"]
        for name, values in samples.items():
            if entries[name].is_timed:
                entries[name].best, entries[name].median = min(values), median(values)

    def asked(self, name: str, timeout: float, **request: Any) -> dict[str, Any]:
        """The answer, or {"error": why}."""
        try:
            return self.workers[name].ask(timeout, **request)
        except (Failed, Absent) as why:
            return {"error": str(why)}

    def add_cost(self, module: str, workload: Workload, found: Measured) -> None:
        """Operations and bytes, where graphc can trace the workload."""
        graphc = found.entries.get("graphc")
        if graphc is None or not graphc.is_timed:
            return
        cost = self.asked("graphc", 60.0, do="cost", module=module, workload=workload.name)
        if "error" not in cost:
            found.flops, found.bytes = cost["flops"], cost["bytes"]
            found.least_s = least_seconds(found.flops, found.bytes, self.limits)


def difference(found: list[np.ndarray], wanted: list[np.ndarray], workload: Workload) -> str:
    """What is wrong with a result, "" where nothing is."""
    if len(found) != len(wanted):
        return f"{len(found)} results instead of {len(wanted)}"
    for a, b in zip(found, wanted):
        if a.shape != b.shape:
            return f"shape {a.shape} instead of {b.shape}"
        if a.size == 0:
            continue
        a, b = a.astype(np.float64), b.astype(np.float64)
        if workload.statistics:
            a, b = np.array([a.mean(), a.std()]), np.array([b.mean(), b.std()])
        if not np.array_equal(np.isfinite(a), np.isfinite(b)):
            return "other numbers are not finite"
        gap = np.abs(np.where(np.isfinite(a), a, 0) - np.where(np.isfinite(b), b, 0)).max()
        scale = np.abs(b[np.isfinite(b)]).max(initial=0.0) or 1.0
        if gap > workload.tolerance * scale:
            return f"it differs by {gap / scale:.1e} of the largest number"
    return ""


def busy(seconds: float = 0.1) -> float:
    """CPUs that are busy while this benchmark waits; the load average where that is unknown."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return os.getloadavg()[0]

    def now() -> tuple[int, int]:
        numbers = [int(n) for n in stat.read_text().partition("\n")[0].split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]

    all_before, idle_before = now()
    time.sleep(seconds)
    everything, idle = now()
    passed = max(everything - all_before, 1)
    return round((1 - (idle - idle_before) / passed) * (os.cpu_count() or 1), 2)


def quiet() -> float:
    """Waits until other processes leave the CPUs alone, or for a limited time; the load then."""
    end, load = time.monotonic() + QUIET_WAIT_S, busy()
    while load > QUIET and time.monotonic() < end:
        load = busy(0.5)
    return load
