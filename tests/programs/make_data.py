"""Makes tests/data/programs.json: the numbers that torch gives for each program.

python -m tests.programs.make_data
"""

import json

import torch

from .compare import DATA
from .run import programs, run


def rounded(numbers: list[float]) -> list[float]:
    return [float(f"{number:.9g}") for number in numbers]


def main() -> None:
    torch.set_num_threads(1)
    found = {
        name: {key: rounded(numbers) for key, numbers in run(torch, name).items()}
        for name in programs()
    }
    lines = [f" {json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in found.items()]
    text = f'{{"torch": "{torch.__version__}", "programs": {{\n' + ",\n".join(lines) + "\n}}\n"
    DATA.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
