"""What starting costs: imports, first calls, export, memory. Each figure from fresh processes.

`python -m benchmarks.compare.system MEASURE CONTENDER` is what such a process runs; it prints one
number.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Measure:
    """A figure: its unit, who has it, and the function of a contender that gives it.

    caches  "" keeps the user's, "cold" begins with empty ones each time, "warm" with those that an
            earlier process left
    """

    unit: str
    contenders: tuple[str, ...]
    run: Callable[[str], float]
    caches: str = ""


def seconds(action: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    action()
    return time.process_time() - began


def imported(name: str) -> float:
    return seconds(lambda: importlib.import_module(name))


def usable(name: str) -> float:
    """Until the first name of the library can be used."""
    return seconds(lambda: importlib.import_module(name).zeros)


def resnet(contender: str) -> tuple[Any, Any, Any]:
    """The library, ResNet-18 and an image."""
    from .workload import frozen
    from .workloads.vision import resnet as build

    torch = importlib.import_module(contender.partition(".")[0])
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    return torch, frozen(torch, build(torch, (2, 2, 2, 2), False)), torch.ones(1, 3, 224, 224)


def first_call(contender: str) -> float:
    torch, network, image = resnet(contender)
    if contender.endswith(".compile"):
        network = torch.compile(network)
    return seconds(lambda: network(image).tolist())


def export(contender: str) -> float:
    torch, network, image = resnet(contender)
    options: dict[str, Any] = {} if contender == "graphc" else {"dynamo": False}
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        return seconds(lambda: torch.onnx.export(network, (image,), path, **options))


def op_latency(contender: str) -> float:
    """Seconds of one of 1,000 additions of 16 numbers, best of 200."""
    torch = importlib.import_module(contender)
    x = torch.ones(16)

    def adds() -> None:
        y = x
        for _ in range(1000):
            y = y + x
        y.tolist()

    return min([seconds(adds) for _ in range(200)]) / 1000


def highest_memory() -> float:
    """MB of this process at its peak."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resnet_steps(torch: Any, images: int) -> Callable[[], None]:
    """Five steps of training ResNet-18 at 32 x 32 by Adam, all but the steps themselves done."""
    from .workload import workloads_in
    from .workloads import training as workloads

    torch.set_num_threads(1)
    workload = workloads_in(workloads.__name__)["training/resnet18-32x32-adam"]
    training = workload.make(torch)
    batch = [torch.tensor(array) for array in workloads.images(images, (3, 32, 32))()]

    def steps() -> None:
        for _ in range(5):
            loss = training.loss(training.model, *batch)
            training.optimizer.zero_grad()
            loss.backward()
            training.optimizer.step()
            loss.item()

    return steps


def peak_memory(contender: str) -> float:
    """MB that the steps add to the process at its peak, 16 images each."""
    steps = resnet_steps(importlib.import_module(contender), 16)
    before = highest_memory()
    steps()
    return highest_memory() - before


def peak_memory_64(contender: str) -> float:
    """MB above those after the import (and use of a name) with the model and steps of 64 images."""
    torch = importlib.import_module(contender)
    torch.zeros(1)
    before = highest_memory()
    resnet_steps(torch, 64)()
    return highest_memory() - before


PAIR = ("graphc", "torch")
MEASURES = {
    "import": Measure("s", ("graphc", "torch", "jax", "onnxruntime", "openvino"), imported),
    "import-and-first-name": Measure("s", PAIR, usable),
    "first-call-cold": Measure("s", (*PAIR, "torch.compile"), first_call, "cold"),
    "first-call-warm": Measure("s", (*PAIR, "torch.compile"), first_call, "warm"),
    "op-latency": Measure("s", PAIR, op_latency),
    "peak-memory": Measure("MB", PAIR, peak_memory),
    "peak-memory-64": Measure("MB", PAIR, peak_memory_64),
    "export": Measure("s", PAIR, export),
}


def is_installed(contender: str) -> bool:
    return importlib.util.find_spec(contender.partition(".")[0]) is not None


def in_process(measure: str, contender: str, caches: str, cpus: Sequence[int]) -> float:
    """The number that a fresh process prints. RuntimeError with its last line where it fails."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    if caches:
        environment |= {"GRAPHC_CACHE_DIR": caches, "TORCHINDUCTOR_CACHE_DIR": caches}
    command = [sys.executable, "-m", __name__, measure, contender]

    def pinned() -> None:
        os.sched_setaffinity(0, cpus)

    try:
        found = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_S,
            preexec_fn=pinned,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no answer within {TIMEOUT_S:.0f} s") from None
    if found.returncode:
        lines = found.stderr.strip().splitlines() or [f"exit code {found.returncode}"]
        raise RuntimeError(lines[-1][:200])
    return float(found.stdout.split()[-1])


def measured(
    names: Sequence[str], rounds: int, cpus: Sequence[int], told: Callable[[str], None]
) -> list[dict[str, Any]]:
    """A row for each measure: {"name", "unit", "entries": {contender: number or why not}}."""
    rows = []
    for name in names:
        measure = MEASURES[name]
        entries: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as kept:
            for number in range(rounds + (measure.caches == "warm")):
                for contender in filter(is_installed, measure.contenders):
                    told(f"system/{name}: {contender}")
                    if isinstance(entries.get(contender), str):
                        continue
                    folder = contender if measure.caches == "warm" else f"{contender}-{number}"
                    caches = str(Path(kept) / folder) if measure.caches else ""
                    try:
                        value = in_process(name, contender, caches, cpus)
                    except RuntimeError as error:
                        entries[contender] = str(error)
                        continue
                    if not (measure.caches == "warm" and number == 0):
                        entries[contender] = min(value, entries.get(contender, value))
        rows.append({"name": f"system/{name}", "unit": measure.unit, "entries": entries})
    return rows


if __name__ == "__main__":
    print(MEASURES[sys.argv[1]].run(sys.argv[2]))
