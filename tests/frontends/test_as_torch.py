"""graphc.as_torch(), in processes of their own: what it does to imports is not undone."""

import subprocess
import sys


def output(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_and_its_modules_are_graphcs_own_objects():
    code = """
import graphc
graphc.as_torch()
graphc.as_torch()
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD
import graphc.nn.functional, graphc.optim
assert torch is graphc and nn is graphc.nn and SGD is graphc.optim.SGD
assert F is graphc.nn.functional and torch.nn is nn
assert nn.__spec__.name == nn.__name__ == "graphc.nn"
print(type(nn.Linear(2, 3)).__module__)
"""
    assert output(code).startswith("graphc.nn")


def test_what_graphc_lacks_is_not_found_under_torchs_name():
    code = """
import graphc
graphc.as_torch()
try:
    import torch.nonexistent
except ModuleNotFoundError as error:
    print(error)
"""
    assert "torch.nonexistent" in output(code)


def test_a_real_torch_that_is_there_first_is_an_error():
    code = """
import sys, types
sys.modules["torch"] = types.ModuleType("torch")
import graphc
try:
    graphc.as_torch()
except RuntimeError as error:
    print(error)
"""
    assert "torch itself is imported already" in output(code)
