"""The process of one contender: `python -m benchmarks.compare.worker CONTENDER THREADS CPUS`.

It reads requests from its standard input, a line of JSON each, and answers each by one line. What
libraries print goes to the standard error. Requests, by "do":

    prepare  module, workload, folder  builds it, runs it until it is warm, writes the result to an
                                       .npz file; answers its path, the first call's seconds
    time     seconds                   runs for so long; answers seconds of a call, one number for
                                       each batch of calls
    cost     module, workload          answers its operations and bytes (graphc only)
    limits                             answers what the machine does (graphc only)
    drop                               forgets the workload

An error is answered as {"error": first line, "kind": class}.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH_S = 0.002
WARM_S = 0.05


class Worker:
    """What the process holds: its library, and the workload that is prepared."""

    def __init__(self, name: str, threads: int) -> None:
        from .contenders import CONTENDERS

        self.name, self.threads = name, threads
        self.contender = CONTENDERS[name]
        self.module = self.contender.start(threads)
        self.call: Callable[[], object] | None = None
        self.batch = 1
        # One thread: its own CPU time, which leaves out what other processes take.
        self.clock = time.process_time if threads == 1 else time.perf_counter

    def prepare(self, module: str, workload: str, folder: str) -> dict[str, Any]:
        import numpy as np

        from .workload import workloads_in

        began = time.perf_counter()
        found = workloads_in(module)[workload]
        made = self.contender.prepare(self.module, found, self.threads, Path(folder))
        took = time.perf_counter() - began
        self.call = made.call
        path = Path(folder) / f"{self.name}.npz"
        np.savez(path, *made.result)
        self.batch = self.calls_in(self.warm())
        return {"result": str(path), "prepared_s": took}

    def warm(self) -> float:
        """Runs for a while; the seconds of the fastest call."""
        assert self.call is not None
        best, end = float("inf"), time.perf_counter() + WARM_S
        while True:
            began = self.clock()
            self.call()
            best = min(best, self.clock() - began)
            if time.perf_counter() > end:
                return best

    def calls_in(self, seconds: float) -> int:
        """How many calls make a batch that a clock can time."""
        return max(1, int(BATCH_S / max(seconds, 1e-7)))

    def time(self, seconds: float) -> dict[str, Any]:
        assert self.call is not None, "nothing is prepared"
        call, clock, batch = self.call, self.clock, self.batch
        gc.collect()
        call()  # what others left in the caches goes
        samples: list[float] = []
        end = time.perf_counter() + seconds
        while not samples or time.perf_counter() < end:
            began = clock()
            for _ in range(batch):
                call()
            samples.append((clock() - began) / batch)
        return {"samples": samples}

    def cost(self, module: str, workload: str) -> dict[str, Any]:
        from .limits import cost_of
        from .workload import workloads_in

        flops, moved = cost_of(self.module, workloads_in(module)[workload])
        return {"flops": flops, "bytes": moved}

    def limits(self) -> dict[str, Any]:
        from .limits import measured

        return measured(self.threads)

    def drop(self) -> dict[str, Any]:
        self.call = None
        if self.name == "torch.compile":
            self.module._dynamo.reset()
        gc.collect()
        return {}


def first_line(error: Exception) -> str:
    """The first line of its text that says something: OpenVINO begins with its own places."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return next((line for line in lines if not line.endswith(":")), lines[0])[:200]


def serve(worker: Worker, answers: Any) -> None:
    """Answers requests until there are no more."""
    for line in sys.stdin:
        request = json.loads(line)
        action = getattr(worker, request.pop("do"))
        try:
            answer = action(**request)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            answer = {"error": first_line(error), "kind": type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    name, threads, cpus = sys.argv[1:]
    os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        worker = Worker(name, int(threads))
    except Exception as error:
        print(json.dumps({"error": str(error)[:200], "kind": type(error).__name__}), file=answers)
        return
    print(json.dumps({}), file=answers, flush=True)
    serve(worker, answers)


if __name__ == "__main__":
    main()
