"""The examples, at small size: their losses are torch's, and the same bits however they run."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import graphc

ROOT = Path(__file__).resolve().parent.parent


def load(example):
    spec = importlib.util.spec_from_file_location(example, ROOT / "examples" / f"{example}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept(example):
    return json.loads((ROOT / "tests" / "data" / f"{example}_losses.json").read_text())


@pytest.fixture
def threads():
    before = graphc.get_num_threads()
    yield graphc.set_num_threads
    graphc.set_num_threads(before)


def test_the_first_losses_of_the_gpt_are_those_of_torch():
    # The learning rate depends on the number of steps only after the warm-up of 20.
    _, losses = load("gpt").train(steps=4)
    assert losses == pytest.approx(kept("gpt")["losses"][:4], abs=1e-4)


@pytest.mark.parametrize("mode", ["eager", "compile", "step"])
def test_the_losses_of_the_gpt_do_not_depend_on_how_it_runs(mode, threads):
    gpt = load("gpt")
    threads(1)
    _, expected = gpt.train(steps=3, batch=8)
    threads(2)
    _, losses = gpt.train(steps=3, batch=8, mode=mode)
    assert losses == expected


def test_the_losses_of_the_digits_are_those_of_torch():
    digits = load("digits")
    training, _ = digits.read_digits()
    _, losses = digits.train(*training, epochs=1)
    assert losses == pytest.approx(kept("digits")["losses"], abs=1e-3)


@pytest.mark.parametrize(
    "command, expected",
    [
        (("gpt.py", "--steps", "2", "--batch", "4"), "mean of the last 2: "),
        (("digits.py", "--epochs", "1", "--threads", "1"), "accuracy on 360 held back: "),
    ],
)
def test_an_example_runs_as_a_program(command, expected):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / command[0], *command[1:]],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
