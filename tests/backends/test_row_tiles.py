"""Rows that run across memory: put into scratch by tiles, and reduced to the bits of rows in it."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.ir.build import trace
from graphc.ir.dims import Facts
from graphc.ir.types import parse_type
from graphc.passes.loop.text import show_kernel
from tests.backends.test_compile_ops import o

pytestmark = pytest.mark.usefixtures("three_threads")

LEVELS = ["host", "avx2", "x86-64"]
#: The order of axes, and shapes in memory: whole tiles, rest of rows and of lanes, a batch.
TURNS = {
    "whole": ((1, 0), "f32[128, 192]"),
    "rest": ((1, 0), "f32[203, 137]"),
    "few": ((1, 0), "f32[70, 9]"),
    "long": ((1, 0), "f32[40003, 17]"),
    "batch": ((0, 2, 1), "f32[5, 67, 75]"),
    "between": ((1, 2, 0), "f32[99, 3, 41]"),
}


def wide(row, x):
    return o.expand(row, shape=x.type.shape, axes=(len(x.type.shape) - 1,))


def every(x):
    """One result of a row, and results for each of its points that read others of the row."""
    last = (len(x.type.shape) - 1,)
    total, largest = o.reduce_sum(x, axes=last), o.reduce_max(x, axes=last)
    powers = o.exp(o.sub(x, wide(largest, x)))
    softmax = o.div(powers, wide(o.reduce_sum(powers, axes=last), x))
    place = o.arg_reduce(x, axis=last[0], mode="min")
    return [total, largest, place, o.reduce_prod(x, axes=last), softmax, o.sub(x, wide(total, x))]


def loops_of(graph, **options):
    reports = prepare(graph, **options).reports
    return [show_kernel(report.loops) for report in reports if report.loops]


def turned(function, perm):
    return lambda x: function(o.permute(x, perm=perm))


def numbers(type, low=-4, high=5):
    integers = np.random.default_rng(0).integers(low, high, type.shape)
    return (integers / 3).astype(type.dtype.numpy)


def assert_bits_of_rows(function, perm, type, target):
    """Across memory, on one thread and on three, as along it."""
    x = numbers(type)
    across = trace(turned(function, perm), type)
    there = np.ascontiguousarray(np.transpose(x, perm))
    text = f"{type.dtype.name}[{', '.join(map(str, there.shape))}]"
    along = compile_graph(trace(function, parse_type(text)), target=target)
    wanted = [result.tobytes() for result in along(there)]
    for fork in (0.0, 1e18):
        found = compile_graph(across, target=target, fork=fork)(x)
        assert [result.tobytes() for result in found] == wanted
    return across


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("name", TURNS)
def test_bits_are_those_of_rows_in_memory(name, target):
    perm, text = TURNS[name]
    graph = assert_bits_of_rows(every, perm, parse_type(text), target)
    tiled = [kernel for kernel in loops_of(graph) if "rows of scratch" in kernel]
    assert bool(tiled) == (name != "long"), "rows that scratch does not hold are read as they are"


@pytest.mark.parametrize("target", LEVELS)
@pytest.mark.parametrize("dtype", ["f64", "f16", "bf16", "i64", "i32", "u8"])
def test_other_types(dtype, target):
    def sums(x):
        return [o.reduce_sum(x, axes=(1,)), o.reduce_max(x, axes=(1,)), o.reduce_min(x, axes=(1,))]

    graph = assert_bits_of_rows(sums, (1, 0), parse_type(f"{dtype}[101, 70]"), target)
    assert "rows of scratch" in loops_of(graph)[0]


@pytest.mark.parametrize("target", LEVELS)
def test_two_operands_and_one_along_the_row(target):
    """Loads that run across share the loop of their tiles; what is near is read in place."""

    def product(x, y, z):
        x, y = o.permute(x, perm=(1, 0)), o.permute(y, perm=(1, 0))
        return o.reduce_sum(o.mul(o.add(x, y), z), axes=(1,))

    x, y = [np.random.default_rng(k).standard_normal((150, 45), "f4") for k in (0, 1)]
    z = np.random.default_rng(2).standard_normal((45, 150), "f4")
    graph = trace(product, *map(parse_type, ["f32[150, 45]", "f32[150, 45]", "f32[45, 150]"]))
    (kernel,) = loops_of(graph)
    assert kernel.count("tiles of") == 1 and kernel.count("rows of scratch") == 1
    (found,) = compile_graph(graph, target=target, fork=0.0)(x, y, z)
    plain = trace(lambda a: o.reduce_sum(a, axes=(1,)), parse_type("f32[45, 150]"))
    (wanted,) = compile_graph(plain, target=target)((x.T + y.T) * z)
    assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("target", LEVELS)
def test_symbolic_sizes(target):
    facts = {"n": Facts(lo=1, hint=500), "m": Facts(lo=1, hint=300)}
    across = trace(turned(every, (1, 0)), parse_type("f32[n, m]"))
    assert any("rows of scratch" in kernel for kernel in loops_of(across, dims=facts))
    along = trace(every, parse_type("f32[m, n]"))
    both = [compile_graph(g, target=target, fork=0.0, dims=facts) for g in (across, along)]
    for shape in ((1, 1), (1, 70), (31, 33), (129, 16), (1000, 7), (70, 410), (33000, 3)):
        x = numbers(parse_type(f"f32[{shape[0]}, {shape[1]}]"))
        found, wanted = both[0](x), both[1](np.ascontiguousarray(x.T))
        for a, b in zip(found, wanted, strict=True):
            assert a.tobytes() == b.tobytes(), shape
