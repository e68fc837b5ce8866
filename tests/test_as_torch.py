"""`import torch` means graphc after as_torch(); each case runs in a process of its own."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

PROGRAM = """
import graphc
graphc.as_torch()
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset
from torch.nn.modules.linear import Linear
from torch.autograd import Function, gradcheck
import torch.linalg, torch.special, torch.cuda, torch.utils.checkpoint

assert torch is graphc and Tensor is graphc.Tensor and Linear is nn.Linear
assert torch.nn is graphc.nn and F is graphc.nn.functional
assert issubclass(StepLR, optim.lr_scheduler.LRScheduler)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = optim.SGD(model.parameters(), lr=0.1)
schedule = StepLR(optimizer, 1)
data = TensorDataset(torch.randn(8, 3), torch.randint(0, 2, (8,)))
for x, y in DataLoader(data, batch_size=4, shuffle=True):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
schedule.step()
graphc.as_torch()
try:
    import torch.no_such_module
except ModuleNotFoundError as error:
    print(error.name)
"""


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


def test_a_program_for_torch_runs():
    found = run(PROGRAM)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "torch.no_such_module\n"


def test_refuses_beside_torch_itself():
    pytest.importorskip("torch")
    try:
        version("torch")  # graphc may be shown under that name in this process
    except PackageNotFoundError:
        pytest.skip("torch is not installed")
    found = run("import torch, graphc; graphc.as_torch()")
    assert found.returncode == 1
    assert "torch itself is imported already" in found.stderr.splitlines()[-1]
