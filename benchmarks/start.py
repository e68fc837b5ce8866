"""How long `import graphc` takes, against `import numpy`.

    python -m benchmarks.start

Fresh processes in turns, the best of nine. "first use" is what the first public name adds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

ROUNDS = 9
STATEMENTS = {
    "numpy": "import numpy",
    "graphc": "import graphc",
    "graphc and its first name": "import graphc; graphc.Tensor",
    "torch": "import torch",
}
PROGRAM = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def seconds(statement: str) -> float:
    """What a statement takes in a new process."""
    command = [sys.executable, "-c", PROGRAM.format(statement)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(found.stdout)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    best = dict.fromkeys(STATEMENTS, float("inf"))
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            best[name] = min(best[name], seconds(statement))
    for name, took in best.items():
        print(f"import {name:27s} {took * 1e3:7.1f} ms   {took / best['numpy']:5.2f} of numpy's")


if __name__ == "__main__":
    main()
