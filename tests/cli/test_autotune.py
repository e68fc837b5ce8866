"""`--autotune`: what is measured is shown, and found again."""

import pytest

from graphc import config
from graphc.backends.llvm import tune
from graphc.backends.llvm.settings import settings
from tests.cli.command_line import run

GRAPH = """graph @main(%x: f32[40, 300], %w: f32[300, 70], %v: f32[70, 70]) -> (f32[40, 70]) {
  %h = dot(%x, %w) [contract=((1,), (0,)), batch=((), ())] : f32[40, 70]  # net.py:3 in forward
  %y = dot(%h, %v) [contract=((1,), (0,)), batch=((), ())] : f32[40, 70]  # net.py:4 in forward
  return %y
}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with a graph, caches of the test's own; the first product has a faster
    schedule than its default, the second has none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.gir").write_text(GRAPH)
    monkeypatch.setattr(tune, "LEAST_WORK", 0.0)
    monkeypatch.setattr(tune, "LOOK_S", 0.0)

    def sample(trial):
        small = max([trial.memory.words(b).nbytes for b in trial.memory._buffers]) < 50_000
        trial.best = 1e-5 if trial.name == "" or small else 0.8e-5
        return trial.best

    monkeypatch.setattr(tune._Trial, "sample", sample)
    tune.forget()
    with config.patch(cache=True, cache_dir=tmp_path / "cache"):
        yield tmp_path
    tune.forget()


def shown(capsys, *words):
    assert run(*words) == 0
    return capsys.readouterr().out


def test_explain_shows_what_was_tuned_and_gained(capsys):
    out = shown(capsys, "explain", "net.gir", "--autotune")
    assert "Autotuning 2/2  gemm" in out
    assert "autotuned: 1 of 2 kernels are faster, by up to 1.25 times (2 measured in" in out
    (head,) = [line for line in out.splitlines() if "tried" in line]
    assert head.split() == "kernel kind tried default best gain schedule lines".split()
    rows = out[out.index(head) + len(head) :].split("\n\n")[0].strip().splitlines()
    assert [row.split()[0] for row in rows] == ["k0", "k1"]
    assert "1.25  " in rows[0] and "net.py:3" in rows[0] and "=" in rows[0]
    assert "1.00  the default: nothing is faster" in rows[1] and "net.py:4" in rows[1]


def test_what_was_measured_is_remembered(capsys):
    shown(capsys, "compile", "net.gir", "--autotune")
    tune.forget()
    out = shown(capsys, "compile", "net.gir", "--autotune")
    assert "by up to 1.25 times (0 measured, the others remembered)" in out
    assert "Autotuning" not in out


def test_without_it_nothing_is_tuned(capsys):
    shown(capsys, "compile", "net.gir", "--autotune")
    assert settings.autotune is False
    out = shown(capsys, "explain", "net.gir") + shown(capsys, "compile", "net.gir")
    assert "autotun" not in out.lower()


def test_another_machine_is_misuse(capsys):
    assert run("explain", "net.gir", "--autotune", "--target", "aarch64") == 2
    assert "cannot run code for aarch64" in capsys.readouterr().err
