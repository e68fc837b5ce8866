"""Compiled graphs on the disk: found by structure, in another process as well, or made again."""

import logging
import subprocess
import sys

import numpy as np
import pytest

from graphc.backends.base import build
from graphc.backends.llvm import compile as llvm_compile
from graphc.backends.llvm import image
from graphc.backends.llvm.settings import settings
from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.dims import Facts
from graphc.ir.errors import BoundsError
from graphc.ir.types import parse_type


@pytest.fixture(autouse=True)
def compiles(tmp_path, monkeypatch):
    """An empty cache; the graphs that were compiled and not found."""
    monkeypatch.setattr(settings, "cache", True)
    monkeypatch.setattr(settings, "cache_dir", tmp_path / "cache")
    made = []
    compiler = llvm_compile.Compiler

    def counted(graph, *rest):
        made.append(graph)
        return compiler(graph, *rest)

    monkeypatch.setattr(llvm_compile, "Compiler", counted)
    return made


def rows(name="x", loc="a.py:1 in f", size="n"):
    with Builder() as b:
        x, i = b.param(parse_type(f"f32[{size}, 3]"), name), b.param(parse_type("i64[2]"), "i")
        b.loc = loc
        table = ops.const(np.arange(6, dtype=np.float32).reshape(2, 3))
        picked = ops.gather(ops.exp(x), i, axis=0)
        return b.graph([picked + table, ops.reduce_sum(x, axes=(0,))])


X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


def values(executable, index=(3, 0)):
    return [array.tolist() for array in executable(X, np.array(index))]


def test_a_graph_is_found_whatever_its_names_and_lines(compiles):
    first = values(build(rows()))
    found = build(rows("weight", "b.py:9 in g"))
    assert values(found) == first
    assert len(compiles) == 1


@pytest.mark.parametrize("options", [{"dims": {"n": Facts(lo=2)}}, {"exact": False}])
def test_other_options_are_other_code(compiles, options):
    build(rows()), build(rows(), **options), build(rows(size=4))
    assert len(compiles) == 3


def test_another_target_is_other_code(compiles):
    graph = rows()
    for target in ("x86-64", "avx2"):
        if llvm_compile.get_target(target).arch != llvm_compile.get_target().arch:
            pytest.skip("another architecture")
        llvm_compile.compile_graph(graph, target=target)
    assert len(compiles) == 2


def test_an_error_of_a_graph_that_was_found_has_its_own_line(compiles):
    build(rows())
    found = build(rows(loc="b.py:9 in g"))
    assert len(compiles) == 1
    with pytest.raises(BoundsError, match=r"b\.py:9"):
        values(found, (4, 0))


def test_reports_of_a_graph_that_was_found(compiles):
    first = build(rows())
    found = build(rows())
    assert [k.name for k in found.kernels] == [k.name for k in first.kernels]
    assert found.text == first.text and found.arena_size([4]) == first.arena_size([4])


def test_a_damaged_entry_is_made_again(compiles, caplog):
    first = values(build(rows()))
    (file,) = image.graph_cache.directory().glob("[0-9a-f]*")
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING, "graphc.cache"):
        assert values(build(rows())) == first
    assert len(compiles) == 2 and "damaged" in caplog.text
    assert values(build(rows())) == first
    assert len(compiles) == 2


def test_an_entry_that_is_no_image_is_made_again(compiles, caplog):
    first = values(build(rows()))
    (file,) = image.graph_cache.directory().glob("[0-9a-f]*")
    for content in (b"[]", b'{"modules": 3}', b"\xff"):
        image.graph_cache.put(file.name, content)
        with caplog.at_level(logging.WARNING, "graphc.cache"):
            assert values(build(rows())) == first
    assert len(compiles) == 4 and len(caplog.records) == 3


def test_it_can_be_switched_off(compiles, monkeypatch):
    monkeypatch.setattr(settings, "cache", False)
    build(rows()), build(rows())
    assert len(compiles) == 2


def test_numeric_verification_takes_nothing_from_the_disk(monkeypatch):
    build(rows())
    monkeypatch.setattr(llvm_compile, "find_image", lambda key: pytest.fail("looked"))
    build(rows(), verify="numeric")


PROGRAM = """
import numpy as np
from graphc.backends.llvm import compile as c
from graphc.backends.llvm.settings import settings
from pathlib import Path
settings.cache, settings.cache_dir = True, Path({cache!r})
from tests.backends.test_graph_cache import X, rows, values
from graphc.backends.base import build
def refuse(*_):
    raise AssertionError("compiled")
c.Compiler = refuse
print(values(build(rows())))
"""


def test_another_process_compiles_nothing(compiles):
    first = values(build(rows()))
    text = PROGRAM.format(cache=str(settings.cache_dir))
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(first)
