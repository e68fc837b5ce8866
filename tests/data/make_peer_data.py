"""Makes the numbers of torch that the plain tests check graphc against. Needs torch 2.13.0.

    python tests/data/make_peer_data.py

peer_random.npz      the numbers of each case of random_cases.py, as NAME/INDEX
gpt_losses.json      the loss of each of 200 steps of examples/gpt.py at seed 0
digits_losses.json   the same for one epoch of examples/digits.py, and the accuracy on the digits
                     held back after its twelve epochs
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT))

from graphc import data as digits_data  # noqa: E402
from tests.data import random_cases  # noqa: E402


def load_with_torch(example: str) -> ModuleType:
    """examples/EXAMPLE.py, with torch where it imports graphc."""
    sys.modules |= {"graphc": torch, "graphc.data": digits_data}
    spec = importlib.util.spec_from_file_location(example, ROOT / "examples" / f"{example}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_random() -> None:
    stored = {}
    for name in random_cases.CASES:
        for index, values in enumerate(random_cases.draw(torch, name)):
            stored[f"{name}/{index}"] = values
    np.savez_compressed(HERE / "peer_random.npz", **stored)


def write(name: str, content: dict) -> None:
    """As JSON, one number a line of the diff where a list is long."""
    text = json.dumps(content, indent=1)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


def make_gpt() -> None:
    _, losses = load_with_torch("gpt").train()
    write("gpt_losses.json", {"torch": torch.__version__, "seed": 0, "losses": losses})


def make_digits() -> None:
    digits = load_with_torch("digits")
    training, held_back = digits.read_digits()
    _, losses = digits.train(*training, epochs=1)
    network, _ = digits.train(*training)
    accuracy = digits.accuracy(network, *held_back)
    content = {"torch": torch.__version__, "seed": 0, "losses": losses, "accuracy": accuracy}
    write("digits_losses.json", content)


if __name__ == "__main__":
    torch.set_num_threads(1)
    make_random()
    make_gpt()
    make_digits()
