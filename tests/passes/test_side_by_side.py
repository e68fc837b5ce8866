"""Maps with long chains take several vectors a step."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph, prepare
from graphc.backends.llvm.target import TARGETS, runs_here
from graphc.ir.interpret import evaluate
from graphc.passes.fuse.expr import computed
from graphc.passes.loop.side_by_side import longest_chain, most_alive, vectors_side_by_side

from .test_repeated import traced
from .test_unread import chain, escape


def roots_of(function, size=4096):
    (group,) = prepare(traced(function, size, size)).plan.groups
    return group.code.roots()


def test_a_long_chain_takes_four_vectors_a_step_and_a_short_one_takes_one():
    assert vectors_side_by_side(roots_of(chain(60)), 32, 64) == 4
    assert vectors_side_by_side(roots_of(chain(20)), 32, 64) == 1


def test_work_that_is_side_by_side_already_takes_one():
    def wide(x, c):
        total = x
        for k in range(8):
            part = x + float(k + 2)
            for _ in range(5):
                part = part * part + c
            total = total + part * c
        return total

    roots = roots_of(wide)
    assert longest_chain(computed(roots)) < 30
    assert vectors_side_by_side(roots, 32, 64) == 1


def test_registers_text_and_the_loop_bound_the_vectors(monkeypatch):
    roots = roots_of(escape(25))
    alive = most_alive(computed(roots), roots)
    assert vectors_side_by_side(roots, 4 * alive, 64) == 4
    assert vectors_side_by_side(roots, 4 * alive - 1, 64) == 2
    assert vectors_side_by_side(roots, 2 * alive - 1, 64) == 1
    assert vectors_side_by_side(roots, 32, 3) == 2
    monkeypatch.setattr("graphc.passes.loop.side_by_side.MOST_TEXT", 3 * len(computed(roots)))
    assert vectors_side_by_side(roots, 32, 64) == 2


def test_registers_do_not_grow_with_the_steps():
    """Values of one step wait for each other, not for the last step."""
    few, many = roots_of(escape(10)), roots_of(escape(25))
    assert most_alive(computed(many), many) == most_alive(computed(few), few) < 10


@pytest.mark.parametrize("level", ["x86-64", "avx2", "avx512"])
@pytest.mark.parametrize("size", [15, 64, 1000, 4099])
def test_bits_do_not_depend_on_the_vectors_a_step(level, size, monkeypatch):
    if not runs_here(TARGETS[level]):
        pytest.skip(f"no {level} here")
    graph = traced(escape(40), size, size)
    random = np.random.default_rng(size)
    arrays = [random.uniform(-2, 1, size).astype(np.float32) for _ in range(2)]
    (found,) = compile_graph(graph, target=level)(*arrays)
    np.testing.assert_array_equal(found, evaluate(graph, *arrays)[0])
    monkeypatch.setattr("graphc.passes.loop.side_by_side.MOST_VECTORS", 1)
    (one,) = compile_graph(graph, target=level)(*arrays)
    np.testing.assert_array_equal(found, one)
