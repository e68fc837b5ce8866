"""Threads of a test's own."""

from collections.abc import Iterator

import pytest

from graphc.backends.llvm import pool


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = pool.get_num_threads()
    pool.set_num_threads(3)
    yield
    pool.set_num_threads(before)
