"""./dev with a stand-in for Python, so that every path runs in milliseconds and offline."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ("sh", "dirname", "cat", "cmp", "rm", "cp", "mkdir")

# Notes how it is called; its version, and what it fails at, come from the environment.
STAND_IN = """#!/bin/sh
echo "$@" >>"$STAND_IN_LOG"
case "$*" in
    *platform*) echo "$STAND_IN_VERSION" ;;
    *version_info*) [ "${STAND_IN_VERSION#3.}" != 9.2 ] ;;
    *ensurepip*) [ "${STAND_IN_FAILS-}" != ensurepip ] ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip "*) [ "${STAND_IN_FAILS-}" != pip ] ;;
esac
"""


class Checkout:
    """A checkout with dev and pyproject.toml, and a PATH on which python3 is the stand-in."""

    def __init__(self, folder: Path, with_python: bool = True) -> None:
        self.root = folder / "check out"  # a space, as in many home folders
        self.root.mkdir()
        shutil.copy(ROOT / "dev", self.root / "dev")
        self.project = self.root / "pyproject.toml"
        self.project.write_text("[project]\n")
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.log = folder / "log"
        self.variables = {
            "PATH": str(self.bin),
            "STAND_IN_LOG": str(self.log),
            "STAND_IN_VERSION": "3.11.4",
        }
        if with_python:
            self.put_python(self.bin / "python3")

    def put_python(self, path: Path) -> None:
        path.write_text(STAND_IN)
        path.chmod(0o755)

    def dev(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        return subprocess.run(
            ["./dev", *arguments],
            cwd=self.root,
            env=self.variables | variables,
            capture_output=True,
            text=True,
        )

    def calls(self, prefix: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if line.startswith(prefix)]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def test_first_start_makes_an_environment_and_installs(checkout):
    done = checkout.dev("demo", "--seed", "3")
    assert done.returncode == 0, done.stderr
    assert checkout.calls("-m venv") == [f"-m venv {checkout.root}/.venv"]
    assert checkout.calls("-m pip") == ["-m pip install --quiet --editable .[test]"]
    assert checkout.calls("-m graphc") == ["-m graphc demo --seed 3"]
    assert "making" in done.stderr and "3.11.4" in done.stderr


def test_second_start_only_runs(checkout):
    checkout.dev("test")
    done = checkout.dev("test", "-k", "a or b")
    assert checkout.log.read_text() == "-m pytest --numprocesses auto --dist loadfile -k a or b\n"
    assert done.stderr == ""


def test_a_changed_pyproject_is_installed_into_the_same_environment(checkout):
    checkout.dev("test")
    checkout.project.write_text("[project]\nname = 'other'\n")
    checkout.dev("test")
    assert len(checkout.calls("-m pip")) == 1
    assert checkout.calls("-m venv") == []


def test_a_half_made_environment_is_removed(checkout):
    left = checkout.root / ".venv" / "bin" / "left"
    left.parent.mkdir(parents=True)
    left.touch()
    checkout.put_python(left.with_name("python"))
    assert checkout.dev("test").returncode == 0
    assert not left.exists()
    assert len(checkout.calls("-m venv")) == 1


def test_a_failed_installation_is_made_anew(checkout):
    failed = checkout.dev("test", STAND_IN_FAILS="pip")
    assert failed.returncode == 1
    assert "the installation failed" in failed.stderr
    assert checkout.calls("-m pytest") == []
    assert checkout.dev("test").returncode == 0
    assert len(checkout.calls("-m venv")) == len(checkout.calls("-m pip")) == 1


def test_the_active_environment_is_used(checkout, tmp_path):
    active = tmp_path / "active"
    (active / "bin").mkdir(parents=True)
    checkout.put_python(active / "bin" / "python")
    assert checkout.dev("test", VIRTUAL_ENV=str(active)).returncode == 0
    assert checkout.calls("-m venv") == []
    assert len(checkout.calls("-m pip")) == 1
    assert not (checkout.root / ".venv").exists()
    checkout.dev("test", VIRTUAL_ENV=str(active))
    assert checkout.calls("-m pip") == []


def test_an_active_environment_with_an_old_python_is_named(checkout, tmp_path):
    active = tmp_path / "active"
    (active / "bin").mkdir(parents=True)
    checkout.put_python(active / "bin" / "python")
    done = checkout.dev("test", VIRTUAL_ENV=str(active), STAND_IN_VERSION="3.9.2")
    assert done.returncode == 1
    assert done.stderr == f"dev: graphc needs Python 3.11 or newer; found 3.9.2 in {active}\n"


def test_without_ensurepip_the_package_to_install_is_named(checkout):
    done = checkout.dev("demo", STAND_IN_FAILS="ensurepip")
    assert done.returncode == 1
    assert "sudo apt install python3-venv" in done.stderr
    assert not (checkout.root / ".venv").exists()


def test_an_old_python_is_named(checkout):
    done = checkout.dev("demo", STAND_IN_VERSION="3.9.2")
    assert done.returncode == 1
    expected = f"graphc needs Python 3.11 or newer; found 3.9.2 ({checkout.bin}/python3)"
    assert done.stderr == f"dev: {expected}\n"


def test_without_python_it_says_so(tmp_path):
    done = Checkout(tmp_path, with_python=False).dev("demo")
    assert done.returncode == 1
    assert done.stderr == "dev: graphc needs Python 3.11 or newer; found no Python at all\n"


def test_a_newer_python_under_another_name_is_found(tmp_path):
    checkout = Checkout(tmp_path, with_python=False)
    checkout.put_python(checkout.bin / "python3.12")
    (checkout.bin / "python3").write_text("#!/bin/sh\nexit 127\n")  # as pyenv leaves them
    (checkout.bin / "python3").chmod(0o755)
    assert checkout.dev("test", STAND_IN_VERSION="3.12.1").returncode == 0


@pytest.mark.parametrize("arguments", [(), ("deploy",)])
def test_anything_else_is_misuse(checkout, arguments):
    done = checkout.dev(*arguments)
    assert done.returncode == 2
    assert done.stderr == "usage: ./dev demo|test [options]\n"


@pytest.mark.skipif(shutil.which("dash") is None, reason="needs dash, the strictest common sh")
def test_it_is_posix_sh():
    checked = subprocess.run(["dash", "-n", ROOT / "dev"], capture_output=True, text=True)
    assert checked.stderr == ""
    assert os.access(ROOT / "dev", os.X_OK)
