"""300 random IR programs: every way of running them gives the same, and every op occurs."""

import pytest

from graphc.backends.llvm.settings import settings

from .compare import WAYS
from .ir_run import Totals, ran, shown
from .steps import STEPS

COUNT, CHUNK = 300, 20
_totals = Totals()


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    before = settings.cache_dir
    settings.cache_dir = tmp_path_factory.mktemp("objects")
    yield
    settings.cache_dir = before


@pytest.mark.parametrize("start", range(0, COUNT, CHUNK))
def test_all_ways_agree(start):
    found = ran(range(start, start + CHUNK))
    _totals.programs += found.programs
    _totals.ops += found.ops
    _totals.reached += found.reached
    _totals.determined += found.determined
    assert not found.failures, "\n\n".join(map(shown, found.failures[:2]))


def test_what_the_programs_reached():
    """Every op; every level nearly always; ONNX in most programs; bounds that say something."""
    if _totals.programs < COUNT:
        pytest.skip("runs after all programs of this file")
    assert set(STEPS) <= set(_totals.ops)
    assert sorted(_totals.ops[name] for name in STEPS)[len(STEPS) // 10] >= 5
    for way in WAYS:
        assert _totals.share(way) >= (0.6 if way == "onnx" else 0.85), way
    assert _totals.determined / _totals.programs > 0.9
