"""The stored numbers of the programs are what torch gives today."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .compare import difference, stored
from .run import programs

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def torchs():
    """The programs' results with torch, from a process of their own."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.programs.run", "torch"]
    done = subprocess.run(
        [*command, "--json", "--repeats", "0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {result["name"]: result for result in results}


@pytest.mark.parametrize("name", programs())
def test_torch_gives_the_stored_numbers(name, torchs):
    result = torchs[name]
    assert "error" not in result, result["error"]
    assert difference(name, result["numbers"], stored()[name]) is None
