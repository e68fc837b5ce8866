"""Compiled graphs on disk: an image is found again by structure, options and compiler."""

import os
import subprocess
import sys

import numpy as np
import pytest

from graphc.backends.llvm import image
from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.settings import settings
from graphc.ir.build import trace
from graphc.ir.dims import Facts
from graphc.ir.errors import BoundsError
from graphc.ir.graph import Graph
from graphc.ir.ops.constant import const
from graphc.ir.types import parse_type
from tests.backends.test_compile_ops import o, softmax


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "cache", True)
    monkeypatch.setattr(settings, "cache_dir", tmp_path)


def found_again(graph, **options):
    """Whether a second compile takes the image from the disk."""
    executable = compile_graph(graph, **options)
    return executable, executable._compiler is None


def test_the_second_compile_comes_from_the_disk_with_the_same_bits():
    graph = trace(softmax, parse_type("f32[b, 33]"))
    x = np.random.default_rng(0).random((7, 33), "f4")
    first, cached = found_again(graph)
    assert not cached
    second, cached = found_again(graph)
    assert cached
    assert first(x)[0].tobytes() == second(x)[0].tobytes()
    assert [kernel.kind for kernel in second.kernels] == ["rows"]


def test_constants_and_checks_come_back():
    table = np.arange(10, dtype="f4")
    graph = trace(lambda i: o.gather(const(table), i, axis=0), parse_type("i64[3]"))
    for _ in range(2):
        executable, cached = found_again(graph)
        np.testing.assert_array_equal(executable(np.array([9, 0, 4]))[0], [9, 0, 4])
        with pytest.raises(BoundsError, match="size 10"):
            executable(np.array([9, 10, 4]))
    assert cached


def test_what_decides_the_code_is_in_the_key():
    graph = trace(lambda x: o.neg(o.reduce_sum(x, axes=(1,))), parse_type("f32[b, 33]"))
    compile_graph(graph)
    for options in ({"apart": True}, {"fork": 1.0}, {"dims": {"b": Facts(hi=10)}}):
        assert not found_again(graph, **options)[1]
    assert found_again(graph)[1]


def test_an_unused_parameter_is_another_graph():
    graph = trace(lambda x, y: o.neg(y), parse_type("f32[3]"), parse_type("f32[3]"))
    shorter = Graph(graph.params[1:], graph.nodes, graph.results)
    compile_graph(graph)
    executable, cached = found_again(shorter)
    assert not cached
    np.testing.assert_array_equal(executable(np.ones(3, "f4"))[0], -np.ones(3, "f4"))


def test_large_constants_are_not_kept(monkeypatch):
    monkeypatch.setattr(image, "MAX_CONSTANT_BYTES", 16)
    graph = trace(lambda x: o.add(x, const(np.arange(10, dtype="f4"))), parse_type("f32[10]"))
    compile_graph(graph)
    assert not found_again(graph)[1]


def test_a_change_of_the_compiler_makes_images_anew(monkeypatch):
    graph = trace(lambda x: o.exp(x), parse_type("f32[10]"))
    compile_graph(graph)
    assert found_again(graph)[1]
    monkeypatch.setattr(image, "compiler_stamp", lambda: "another")
    assert not found_again(graph)[1]


_TRAIN = """
import graphc as torch
from graphc.backends.llvm.jit import stats
torch.manual_seed(0)
net = torch.nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
net(torch.ones(2, 5, 32)).square().mean().backward()
print(net.linear1.weight.grad.sum().item(), stats.compiled)
"""


def test_another_process_finds_all_objects_on_the_disk(tmp_path):
    """Whatever order sets have in it."""
    found, caches = [], tmp_path / "caches"
    for seed in ("0", "1", "2", "3"):
        # Without the graphs all texts are made again, and their objects are looked for.
        for path in caches.rglob("*"):
            if "graphs" in path.relative_to(caches).parts and path.is_file():
                path.unlink()
        env = {**os.environ, "PYTHONHASHSEED": seed, "GRAPHC_CACHE_DIR": str(caches)}
        done = subprocess.run(
            [sys.executable, "-c", _TRAIN], env=env, capture_output=True, text=True, check=True
        )
        found.append(done.stdout.split())
    (value, first), *later = found
    assert int(first) > 0
    assert later == [[value, "0"]] * 3
