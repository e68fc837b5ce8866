"""show, compile, explain, doctor and run on the text of a module."""

import platform
import xml.etree.ElementTree as xml

import numpy as np
import pytest

from graphc.cli.console import Console, seconds, size, to_ascii
from graphc.cli.program import example_arrays, input_type
from graphc.cli.stages import STAGES
from graphc.ir.text import parse
from tests.cli.command_line import MLP, run

CNN = """graph @main(%x: f32[2, 3, 8, 8], %w: f32[4, 3, 3, 3]) -> (f32[2, 4, 8, 8]) {
  %h = conv(%x, %w) [stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1] : f32[2, 4, 8, 8]
  %y = relu(%h) : f32[2, 4, 8, 8]
  return %y
}
"""  # noqa: E501


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "mlp.gir").write_text(MLP)
    (tmp_path / "cnn.gir").write_text(CNN)
    return tmp_path


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_as_text(stage, model, capsys):
    assert run("show", f"{model}.gir", "--stage", stage) == 0
    text = capsys.readouterr().out
    expected = {
        "tensor": "return %",
        "core": "return %",
        "fused": "kernel k0 ",
        "loop": "kernel ",
        "llvm": "define ",
        "asm": "\t.text",
    }
    assert expected[stage] in text
    if stage in ("tensor", "core"):
        parse(text)
    if stage == "core":
        assert "softmax" not in text and "relu" not in text


@pytest.mark.parametrize("stage", ["tensor", "core", "fused"])
@pytest.mark.parametrize("form", ["listing", "svg", "html"])
def test_every_drawing(stage, form, capsys):
    assert run("show", "mlp.gir", "--stage", stage, "--format", form) == 0
    text = capsys.readouterr().out
    assert "fc.weight" in text
    if form == "svg":
        assert xml.fromstring(text).tag.endswith("svg")
    if form == "html":
        assert text.startswith("<!doctype html>") and text.endswith("</html>\n")


def test_the_ending_of_the_file_chooses_the_format(folder, capsys):
    assert run("show", "mlp.gir", "-o", "mlp.svg") == 0
    assert capsys.readouterr().out == "mlp.svg: tensor of mlp as svg\n"
    assert xml.fromstring((folder / "mlp.svg").read_text()).tag.endswith("svg")
    assert run("show", "mlp.gir", "-o", "copy.gir") == 0
    parse((folder / "copy.gir").read_text())


def test_one_graph_of_a_module(capsys):
    assert run("show", "mlp.gir", "--graph", "other") == 0
    assert "neg(%x)" in capsys.readouterr().out


def test_code_for_another_processor(capsys):
    assert run("show", "mlp.gir", "--stage", "asm", "--target", "aarch64") == 0
    assert "fmla" in capsys.readouterr().out
    assert run("explain", "mlp.gir", "--target", "aarch64") == 0
    assert "measured" not in capsys.readouterr().out


def test_too_large_a_graph_to_draw(monkeypatch, capsys):
    from graphc.debug import draw

    monkeypatch.setattr(draw, "MOST_ITEMS", 3)
    assert run("show", "mlp.gir", "--format", "svg") == 1
    assert capsys.readouterr().err.startswith("graphc show: a picture of ")


def test_explain_shows_kernels_reasons_lines_and_limits(capsys):
    assert run("explain", "mlp.gir") == 0
    text = capsys.readouterr().out
    for part in ("with n = 64", "GB/s", "at least", "measured", "kernels\n", "not fused\n",
                 "source lines\n", "mlp.py:13"):  # fmt: skip
        assert part in text
    assert "the result of a native kernel" in text


def test_compile_reports(capsys):
    assert run("compile", "cnn.gir") == 0
    text = capsys.readouterr().out
    assert "2 nodes in" in text and "LLVM" in text and "memory of one call" in text
    assert "LLVM 0 ns" not in text  # the code is loaded before the times are read


def test_compile_for_another_machine_says_so(capsys):
    other = "x86-64" if platform.machine() == "aarch64" else "aarch64"
    assert run("compile", "cnn.gir", "--target", other) == 1
    said = capsys.readouterr().err
    assert said.startswith("graphc compile: this machine cannot run code for the target " + other)
    assert "inside of graphc" not in said


def test_run_on_inputs_from_files(folder, capsys):
    stream = np.random.default_rng(1)
    arrays = [stream.standard_normal(s).astype("f4") for s in ((5, 64), (64, 128), (128,))]
    words = []
    for k, array in enumerate(arrays):
        np.save(f"{k}.npy", array)
        words += ["--input", f"{k}.npy"]
    assert run("run", "mlp.gir", *words, "-o", "out.npz") == 0
    assert "float32[5, 128]" in capsys.readouterr().out
    x, w, b = arrays
    h = np.exp(x.astype("f8") @ w + b)
    h -= h.max(1, keepdims=True)
    expected = np.exp(h) / np.exp(h).sum(1, keepdims=True)
    np.testing.assert_allclose(np.load("out.npz")["s"], expected, atol=1e-4)


def test_doctor(capsys):
    assert run("doctor") == 0
    text = capsys.readouterr().out
    for part in ("vectors", "object cache", "numpy", "GFLOP/s"):
        assert part in text


def test_doctor_ops(capsys):
    assert run("doctor", "ops") == 0
    text = capsys.readouterr().out
    for part in ("reduce_sum", "softmax", "composite", "LayerNormalization"):
        assert part in text
    assert run("doctor", "ops", "tanh") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tanh: (x: float or complex)"
    assert any("derivative" in line and "graphc/ir/ops/unary.py:" in line for line in lines)


def test_types_of_inputs():
    assert input_type("f32[1,3]").text == "f32[1, 3]"
    assert input_type("i64").text == "i64[]"
    made = example_arrays(["f32[2,3]", "i64[4]", "bool[5]", "c64[2]", "bf16[2]"])
    assert [a.dtype.name for a in made] == ["float32", "int64", "bool", "complex64", "bfloat16"]
    assert [a.shape for a in made] == [(2, 3), (4,), (5,), (2,), (2,)]


class Stream:
    """A stream that may be a terminal."""

    encoding = "utf-8"

    def __init__(self, terminal: bool) -> None:
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_colours_only_on_terminals_that_want_them(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Console(Stream(True)).bold("x") == "\x1b[1mx\x1b[0m"
    assert Console(Stream(False)).bold("x") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Console(Stream(True)).bold("x") == "x"


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal, file = Stream(True), Stream(False)
    for stream in (terminal, file):
        progress = Console(stream).progress("Training", 4)
        for done in range(5):
            progress.at(done, f"loss {done}")
    assert file.text.splitlines() == [f"Training {k}/4  loss {k}" for k in (1, 2, 3, 4)]
    assert "\r\x1b[KTraining ██████████████░░░░░░░░░░░░░░ 2/4  loss 2" in terminal.text


def test_ascii_where_nothing_else_is_encoded():
    stream = Stream(False)
    stream.encoding = "ascii"
    console = Console(stream)
    console.line("8×8 · π")
    assert stream.text == "8x8 . ?\n"
    assert console.sparkline([1, 2, 3]).isascii()
    assert to_ascii("µs") == "us"


def test_units():
    assert [seconds(s) for s in (2e-5, 0.5, 12, 125)] == ["20 µs", "500 ms", "12.0 s", "2 min 5 s"]
    assert [size(n) for n in (12, 4500, 2.5e6)] == ["12 B", "4.5 kB", "2.5 MB"]


def test_explain_shows_where_compile_time_goes(capsys):
    assert run("explain", "mlp.gir", "--compile") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "objects were on the disk" in lines[0]
    steps = list(dict.fromkeys([line.split()[0] for line in lines if line[:2] == "  "]))[1:]
    passes = ["clean", "expand", "lift", "roll"]
    assert steps == ["trace", *passes, "fuse", "lower", "emit", "LLVM", "load"]
    assert run("explain", "mlp.gir", "--compile", "--target", "aarch64") == 0
    assert "no code for aarch64 runs here" in capsys.readouterr().out
