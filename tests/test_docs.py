"""The Python blocks of README.md and docs/*.md run, and print what the pages say.

The blocks of one page are one program, in order. A block fenced as "text output" right after a
Python block holds what that block prints; `--renew` writes these anew. Blocks that are not to run
are fenced as text.
"""

import contextlib
import io
import linecache
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from graphc.ir.op import OPS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n?^```text output\n(.*?)^```\n)?", re.M | re.S)
NAME = "example.py"  # what source lines and errors call a block


@pytest.fixture
def run():
    """Runs a block and returns what it prints; each page in a thread of its own, whose recording
    starts empty. Ops that a page declares, as example_NAME, are forgotten after it."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda source, names: thread.submit(printed_by, source, names).result()
    for name in [name for name in OPS if name.startswith("example_")]:
        del OPS[name]


def printed_by(source, names):
    """What a block prints."""
    lines = source.splitlines(keepends=True)
    linecache.cache[NAME] = (len(source), None, lines, NAME)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, NAME, "exec"), names)
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run_and_print_what_the_page_says(page, run, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names = {"__name__": "example"}
    pieces, at = [], 0
    for block in BLOCK.finditer(text):
        source, expected = block.groups()
        printed = run(source, names)
        if expected is None:
            assert printed == "", f"{page.name} does not say that this prints:\n{printed}"
        elif request.config.getoption("--renew"):
            pieces += [text[at : block.start(2)], printed]
            at = block.end(2)
        else:
            assert printed == expected
    if pieces:
        page.write_text("".join(pieces) + text[at:], encoding="utf-8")


def test_links_lead_to_files():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_places_in_the_code_exist():
    """`graphc/...py` in the pages, and the names after it: `graphc/tensor.py` (`Storage.write`)."""
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        for path, _, names in re.findall(
            r"`((?:graphc|tests|benchmarks|examples)/[\w/.]+)`( \(((?:`[\w.]+`(?:, )?)+)\))?", text
        ):
            file = ROOT / path
            assert file.exists(), f"{page.name} names {path}"
            for name in re.findall(r"`([\w.]+)`", names):
                last = name.rpartition(".")[2]
                assert re.search(rf"\b{last}\b", file.read_text()), f"{path} holds no {name}"
