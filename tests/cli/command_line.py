"""Runs the command line in this process, and files that several tests use."""

from __future__ import annotations

import re
from pathlib import Path

from graphc.cli import main

MLP = """module "mlp" {
  dim n in 1..4096 ~ 64
  graph @forward(%x: f32[n, 64], %fc.weight: f32[64, 128], %fc.bias: f32[128]) -> (f32[n, 128]) {
    %h = dot(%x, %fc.weight) [contract=((1,), (0,)), batch=((), ())] : f32[n, 128]  # mlp.py:12 in forward
    %b = expand(%fc.bias) [shape=(n, 128), axes=(0,)] : f32[n, 128]  # mlp.py:12 in forward
    %a = add(%h, %b) : f32[n, 128]  # mlp.py:12 in forward
    %t = exp(%a) : f32[n, 128]  # mlp.py:13 in forward
    %s = softmax(%t) [axis=1] : f32[n, 128]  # mlp.py:14 in forward
    return %s
  }
  graph @other(%x: f32[4]) -> (f32[4]) {
    %y = neg(%x) : f32[4]
    return %y
  }
}
"""  # noqa: E501

NET = """import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.up = nn.Linear(8, width)

    def forward(self, x):
        return torch.relu(self.up(x))


class Wide(nn.Module):
    def __init__(self, width):
        super().__init__()


def wrong(x):
    weight = torch.zeros(9, 3)
    return x @ weight


def broken(x):
    return {}["absent"]


number = 3
"""


def run(*words: object) -> int:
    return main([str(word) for word in words])


def golden(name: str, text: str, renew: bool) -> None:
    """Compares with tests/cli/golden/NAME, or writes it."""
    path = Path(__file__).with_name("golden") / name
    if renew:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def plain_help(text: str) -> str:
    """Help as Python 3.11 formats it: later ones name an option's argument once, and wrap usage."""
    text = re.sub(r"(-\w), (--[\w-]+) ([A-Z]+)", r"\1 \3, \2 \3", text)
    head, blank, rest = text.partition("\n\n")
    head = " ".join(head.split())
    rest = re.sub(r"\n {4,}", " ", rest)
    return head + blank + re.sub(r"  +", "  ", rest)
