"""Comparisons with peers (torch, onnxruntime): where they run, and that they are not skipped by
mistake.

A test file that says `pytest.importorskip("torch")` or `("onnxruntime")` is marked `peer`, so that
`pytest -m peer` runs all comparisons and nothing else. With GRAPHC_REQUIRE_PEERS set, a missing
peer is an error instead of a skip.
"""

import functools
import importlib.util
import os
import re
from pathlib import Path

import pytest

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
