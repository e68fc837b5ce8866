"""What holds for the repository as a whole: its layout, its links, the direction of imports."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "graphc"
STAGES = ("ir", "passes", "backends", "frontends")
SOURCES = sorted(PACKAGE.rglob("*.py"))

# What each stage may import of graphc. `import graphc` alone is none of these: it reaches upwards,
# to the public names.
BELOW = {stage: {"__version__", *STAGES[: depth + 1]} for depth, stage in enumerate(STAGES)}


def test_the_package_was_found():
    assert len(SOURCES) > 4


@pytest.mark.parametrize("stage", STAGES)
def test_the_root_shows_each_stage_by_a_link(stage):
    link = ROOT / stage
    assert link.is_symlink()
    assert link.readlink() == Path("graphc") / stage
    assert (link / "__init__.py").is_file()


@pytest.mark.parametrize("stage", STAGES)
def test_importing_through_a_link_names_the_right_module(stage):
    done = subprocess.run(
        [sys.executable, "-c", f"import {stage}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError:") and f"import graphc.{stage}" in last


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_of_the_package_is_over_700_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 700


def test_few_files_know_of_one_function():
    found = [path for path in SOURCES if re.search(r"\btanh\b", path.read_text(encoding="utf-8"))]
    assert PACKAGE / "ir/ops/unary.py" in found and len(found) <= 8, found


def imported_modules(path: Path) -> list[tuple[int, str]]:
    """Each (line, dotted name) that the file imports, also inside functions; relative ones
    resolved. `from a import b` gives a.b, since b may be a module."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*base, *([node.module] if node.module else [])))
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def forbidden_imports(path: Path, stage: str) -> list[str]:
    """The imports of a file of `stage` that do not go down."""
    wrong = []
    for line, name in imported_modules(path):
        top, _, rest = name.partition(".")
        through_link = top in STAGES
        upwards = top == "graphc" and rest.split(".")[0] not in BELOW[stage]
        if through_link or upwards:
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    return wrong


@pytest.mark.parametrize("stage", STAGES)
def test_imports_run_one_way(stage):
    wrong = [
        found
        for path in sorted((PACKAGE / stage).rglob("*.py"))
        for found in forbidden_imports(path, stage)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "source, expected",
    [
        ("import graphc.ir.types", []),
        ("from graphc import passes, ir", []),
        ("from . import rules\nfrom .rules import algebra", []),
        ("def f():\n    from graphc.backends import llvm", ["2 imports graphc.backends.llvm"]),
        ("from .. import tensor", ["1 imports graphc.tensor"]),
        ("import graphc as torch", ["1 imports graphc"]),
        ("from ir import types", ["1 imports ir.types"]),
    ],
)
def test_the_check_of_imports_sees_each_form(tmp_path, monkeypatch, source, expected):
    path = tmp_path / "graphc" / "passes" / "some_pass.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    found = forbidden_imports(path, "passes")
    assert [entry.partition(":")[2] for entry in found] == expected
