"""Caches of the tests' own, and comparisons with peers (torch, onnxruntime): where they run, and
that they are not skipped by mistake.

Compiled code is kept in a folder that lasts as long as the run: nothing passes because of what an
earlier run left. The processes of a run share it.

A test file that says `pytest.importorskip("torch")` or `("onnxruntime")` is marked `peer`, so that
`pytest -m peer` runs all comparisons and nothing else. With GRAPHC_REQUIRE_PEERS set, a missing
peer is an error instead of a skip.
"""

import atexit
import functools
import importlib.util
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

if "GRAPHC_CACHE_DIR" not in os.environ:
    _folder = os.environ["GRAPHC_CACHE_DIR"] = tempfile.mkdtemp(prefix="graphc-tests-")
    _maker = os.getpid()

    @atexit.register
    def _remove_caches() -> None:
        if os.getpid() == _maker:  # and not a child that a test forked
            shutil.rmtree(_folder, ignore_errors=True)


PEERS = ("torch", "onnxruntime")
NEEDS_PEER = re.compile(rf"""importorskip\(\s*["']({"|".join(PEERS)})["']""")


@functools.cache
def _needs_peer(path: Path) -> bool:
    return NEEDS_PEER.search(path.read_text(encoding="utf-8")) is not None


def _missing() -> list[str]:
    return [name for name in PEERS if importlib.util.find_spec(name) is None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="write the text goldens anew")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("GRAPHC_REQUIRE_PEERS") and _missing():
        raise pytest.UsageError(f"GRAPHC_REQUIRE_PEERS is set, not installed: {_missing()}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = _missing()
    absent = pytest.mark.skip(reason=f"compares with a peer; not installed: {', '.join(missing)}")
    for item in items:
        if _needs_peer(item.path):
            item.add_marker(pytest.mark.peer)
        elif missing and item.get_closest_marker("peer"):
            item.add_marker(absent)
