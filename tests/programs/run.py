"""Runs the programs with one module as `torch`; prints their numbers, times and compiles.

    python -m tests.programs.run graphc              every program
    python -m tests.programs.run torch vae gan       some of them, with PyTorch
    python -m tests.programs.run graphc --json       for another program to read

`first` and `again` are the seconds of a program's first run in the process and of the best of two
more; `compiles` are those of the first run and of the last.
"""

import argparse
import functools
import importlib
import json
import time
import traceback
import types
from collections.abc import Callable
from typing import Any

import numpy as np

FILES = (
    "vision",
    "vision_blocks",
    "sequence",
    "attention",
    "classic",
    "science",
    "control",
    "training",
    "state",
    "tensors",
    "deployment",
)


@functools.cache
def programs() -> dict[str, Callable]:
    """Each public function of the files, by its name."""
    found = {}
    for file in FILES:
        module = importlib.import_module(f"tests.programs.{file}")
        for name, value in vars(module).items():
            if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
                if not name.startswith("_"):
                    found[name] = value
    return found


def numbers(result: Any) -> dict[str, list[float]]:
    """What a program returned as lists of floats by name; nested lists and arrays are flattened."""
    if isinstance(result, dict):
        flat = {}
        for key, value in result.items():
            inner = numbers(value)
            flat |= {f"{key}.{name}".rstrip("."): each for name, each in inner.items()}
        return flat
    return {"": _floats(result)}


def _floats(value: Any) -> list[float]:
    if isinstance(value, (list, tuple)):
        return [number for each in value for number in _floats(each)]
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    return [float(number) for number in np.asarray(value, np.float64).ravel()]


def run(torch: types.ModuleType, name: str) -> dict[str, list[float]]:
    """The numbers of one program."""
    return numbers(programs()[name](torch))


def _compiled(torch: types.ModuleType) -> int:
    if torch.__name__ != "graphc":
        return 0
    from graphc.frontends.record import recorder

    return recorder().compiled


def measured(torch: types.ModuleType, name: str, repeats: int) -> dict[str, Any]:
    """One program's numbers, seconds and compiles, or its traceback as `error`."""
    seconds, compiles, values = [], [_compiled(torch)], {}
    try:
        for _ in range(1 + repeats):
            start = time.perf_counter()
            values = run(torch, name)
            seconds.append(time.perf_counter() - start)
            compiles.append(_compiled(torch))
    except Exception:
        return {"error": traceback.format_exc()}
    again = min(seconds[1:], default=seconds[0])
    counts = [compiles[1] - compiles[0], compiles[-1] - compiles[-2]]
    return {"numbers": values, "first": seconds[0], "again": again, "compiles": counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", choices=("torch", "graphc"))
    parser.add_argument("names", nargs="*", help="programs; all of them by default")
    parser.add_argument("--repeats", type=int, default=2, help="runs after the first")
    parser.add_argument("--json", action="store_true", help="print one JSON object a program")
    asked = parser.parse_args()
    torch = importlib.import_module(asked.module)
    torch.set_num_threads(1)
    for name in asked.names or programs():
        found = measured(torch, name, asked.repeats)
        if asked.json:
            print(json.dumps({"name": name, **found}), flush=True)
        elif "error" in found:
            print(f"{name}\n{found['error']}", flush=True)
        else:
            print(
                f"{name:24} first {found['first']:7.3f} s  again {found['again']:7.3f} s  "
                f"compiles {found['compiles']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
