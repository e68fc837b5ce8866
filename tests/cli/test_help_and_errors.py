"""The texts of the command line: help, misuse, errors."""

import subprocess
import sys

import pytest

from graphc.cli import COMMANDS
from graphc.cli.errors import CommandError, told, user_frames
from graphc.ir.errors import ShapeError
from tests.cli.command_line import MLP, golden, plain_help, run


@pytest.fixture
def renew(request):
    return request.config.getoption("--renew")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with an mlp.gir."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlp.gir").write_text(MLP)
    return tmp_path


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command, capsys, monkeypatch, renew):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(*([command] if command else []), "--help") == 0
    text = plain_help(capsys.readouterr().out)
    assert "example" in text
    golden(f"help_{command or 'graphc'}.txt", text, renew)


def test_version(capsys):
    from graphc import __version__

    assert run("--version") == 0
    assert capsys.readouterr().out == f"graphc {__version__}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from graphc.cli import main; main(['--help']); main(['show', '--help']);"
        "heavy = {'numpy', 'onnx', 'networkx', 'llvmlite'} & set(sys.modules);"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


MISUSE = {
    "no_command": [],
    "unknown_command": ["frob"],
    "unknown_option": ["show", "mlp.gir", "--frob"],
    "unknown_stage": ["show", "mlp.gir", "--stage", "frob"],
    "no_target": ["show"],
    "what_is_this": ["show", "model.txt"],
    "no_name": ["show", "net.py"],
    "text_stage_drawn": ["show", "mlp.gir", "--stage", "llvm", "--format", "svg"],
    "unknown_graph": ["show", "mlp.gir", "--graph", "frob"],
    "unknown_cpu": ["compile", "mlp.gir", "--target", "z80"],
    "export_ending": ["export", "mlp.gir", "-o", "mlp.pdf"],
    "compile_ending": ["compile", "mlp.gir", "-o", "mlp.onnx"],
    "bad_input": ["run", "mlp.gir", "--input", "f99[3]"],
    "named_size": ["show", "net.py:f", "--input", "f32[n,3]"],
    "input_count": ["run", "mlp.gir", "--input", "f32[4,64]"],
    "run_what": ["run", "model.txt"],
    "no_epochs": ["demo", "--epochs", "0"],
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_told_in_a_few_lines(name, folder, capsys, renew, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # another test's peer
    (folder / "net.py").write_text("def f(x):\n    return x\n")
    assert run(*MISUSE[name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    if name != "no_command":  # prints the help
        assert len(said.err.splitlines()) <= 8
        golden(f"misuse_{name}.txt", said.err.replace("'", ""), renew)


WEIGHTS = ("--input", "f32[64,128]", "--input", "f32[128]")
FAILURES = {
    "no_file": ["show", "absent.gir"],
    "no_folder": ["show", "mlp.gir", "-o", "absent/x.svg"],
    "unknown_op": ["doctor", "ops", "softmx"],
    "text_without_weights": ["compile", "mlp.gir", "-o", "mlp.gcx"],
    "empty": ["show", "empty.gir"],
    "unparsed": ["show", "unparsed.gir"],
    "not_text": ["explain", "binary.gir"],
    "wrong_type": ["show", "wrong.gir"],
    "script_absent": ["run", "absent.py"],
    "input_type": ["run", "mlp.gir", "--input", "i64[4,64]", *WEIGHTS],
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_told_in_a_few_lines(name, folder, capsys, renew):
    (folder / "empty.gir").write_text("")
    (folder / "binary.gir").write_bytes(b"\xff\xfe\x00" * 9)
    (folder / "unparsed.gir").write_text(MLP.replace("exp(", "frobnicate("))
    (folder / "wrong.gir").write_text(MLP.replace("exp(%a) : f32[n, 128]", "exp(%a) : f32[n, 9]"))
    assert run(*FAILURES[name]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) <= 8
    golden(f"failure_{name}.txt", said.err, renew)


def test_traceback_on_request(folder, capsys, monkeypatch):
    monkeypatch.setenv("GRAPHC_TRACEBACK", "1")
    assert run("show", "absent.gir") == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_errors_show_the_users_lines(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("def head(h):\n    raise ValueError('no ' + h)\n\nhead('luck')\n")
    code = compile(path.read_text(), str(path), "exec")
    with pytest.raises(ValueError) as caught:
        exec(code, {})
    lines = told(caught.value, "graphc run")
    assert lines[0] == "ValueError: no luck"
    assert lines[1] == "  train.py:2: raise ValueError('no ' + h)      in head"
    assert lines[2] == "  train.py:4: head('luck')"


def test_an_error_with_a_place_shows_it_as_it_is():
    error = ShapeError("a and b differ", at="net.py:3: a + b      in forward", hint="Reshape one.")
    assert told(error, "graphc show") == [
        "graphc.ShapeError: a and b differ",
        "  net.py:3: a + b      in forward",
        "  Reshape one.",
    ]


def test_errors_from_inside_say_so_without_a_traceback():
    try:
        raise KeyError("x")
    except KeyError as error:
        error.__traceback__ = None
        assert user_frames(error) == []
        lines = told(error, "graphc show")
    assert lines[0] == "KeyError: 'x'"
    assert "GRAPHC_TRACEBACK=1" in lines[-1]


def test_long_messages_are_cut():
    lines = told(CommandError("\n".join(["x" * 5000] * 30)), "graphc show")
    assert len(lines) == 8
    assert all(len(line) <= 300 for line in lines)
