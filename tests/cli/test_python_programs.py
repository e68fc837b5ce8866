"""Commands on Python files, .gcx and .onnx: each in a process of its own, where torch is graphc."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command_line import NET

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    return tmp_path


def graphc(folder, *words: str, code: int = 0) -> str:
    """Runs graphc there; returns what it printed, to stderr where it should fail."""
    paths = {"PYTHONPATH": str(ROOT), "GRAPHC_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "graphc", *words],
        cwd=folder,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


def test_show_a_module_with_its_lines(folder):
    text = graphc(folder, "show", "net.py:Net", "--input", "f32[2,8]")
    assert "relu(" in text and "# net.py:11 in forward" in text
    page = graphc(folder, "show", "net.py:Net", "--input", "f32[2,8]", "--stage", "fused",
                  "--format", "html")  # fmt: skip
    assert '<div data-line="net.py:11" class="used">' in page


def test_compile_export_and_run_a_model(folder):
    graphc(folder, "compile", "net.py:Net", "--input", "f32[2,8]", "-o", "net.gcx")
    graphc(folder, "export", "net.gcx", "-o", "net.onnx")
    graphc(folder, "export", "net.onnx", "-o", "again.gcx")
    outputs = [
        graphc(folder, "run", name, "--input", "f32[2,8]").partition("float32")[2]
        for name in ("net.gcx", "net.onnx", "again.gcx")
    ]
    assert outputs[0].startswith("[2, 8]")
    assert outputs == [outputs[0]] * 3


def test_a_script_runs_with_graphc_as_torch(folder):
    (folder / "train.py").write_text(
        "import sys\nimport torch, torch.nn as nn\n"
        "print(torch.__name__, sys.argv[1:], nn.Linear(2, 3)(torch.ones(4, 2)).shape)\n"
        "sys.exit(3)\n"
    )
    said = graphc(folder, "run", "train.py", "--epochs", "2", code=3)
    assert said == ""


def test_what_a_script_prints(folder):
    (folder / "hello.py").write_text("import torch\nprint(torch.arange(3).sum().item())\n")
    assert graphc(folder, "run", "hello.py") == "3\n"


@pytest.mark.parametrize(
    ("name", "code", "parts"),
    [
        ("wrong", 1, ("graphc.ShapeError: ", "net.py:21: return x @ weight")),
        ("broken", 1, ("KeyError: 'absent'", 'net.py:25: return {}["absent"]')),
        ("absent", 1, ("net.py has no 'absent'", "Net, Wide, wrong, broken")),
        ("number", 1, ("net.py:number is no function or module: int",)),
        ("Wide", 1, ("cannot be made without arguments: it needs width",)),
    ],
)
def test_errors_name_the_users_lines(folder, name, code, parts):
    said = graphc(folder, "show", f"net.py:{name}", "--input", "f32[2,8]", code=code)
    assert len(said.splitlines()) <= 8
    for part in parts:
        assert part in said


def test_inputs_are_asked_for(folder):
    said = graphc(folder, "show", "net.py:Net", code=2)
    assert "needs the types of its inputs" in said and "--input f32[1,3,224,224]" in said


def test_a_file_that_does_not_parse(folder):
    (folder / "bad.py").write_text("def f(x)\n    return x\n")
    said = graphc(folder, "show", "bad.py:f", "--input", "f32[2]", code=1)
    assert said.splitlines()[0].startswith("SyntaxError: ")
    assert "bad.py:1: def f(x)" in said
