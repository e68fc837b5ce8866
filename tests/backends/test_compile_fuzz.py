"""Random graphs: compiled, against the interpreter; and the same bits however they are fused."""

import numpy as np
import pytest

from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.target import TARGETS, runs_here
from graphc.ir.interpret import evaluate
from tests.backends.random_graphs import SYMBOLS, random_graph, random_inputs

LEVELS = [name for name, target in TARGETS.items() if runs_here(target)]


def difference(found, expected):
    """The largest error in units of the largest number; 1 where an integer differs."""
    if expected.dtype.kind != "f":
        return float(not np.array_equal(found, expected))
    wide = expected.astype(np.float64)
    same = (found == expected) | (np.isnan(found) & np.isnan(expected))
    with np.errstate(all="ignore"):
        error = np.where(same, 0, np.abs(found.astype(np.float64) - wide))
    scale = max(1.0, np.abs(wide[np.isfinite(wide)]).max(initial=0))
    return float(np.nan_to_num(error, nan=9, posinf=9).max(initial=0) / scale)


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs_give_the_interpreters_results(seed):
    graph = random_graph(seed)
    inputs = random_inputs(graph, seed)
    found = compile_graph(graph)(*inputs)
    for array, expected in zip(found, evaluate(graph, *inputs), strict=True):
        assert difference(array, expected) < 1e-3, str(graph)


@pytest.mark.parametrize("seed", range(100, 112))
def test_bits_do_not_depend_on_fusion(seed):
    graph = random_graph(seed)
    inputs = random_inputs(graph, seed)
    together, apart = [compile_graph(graph, apart=apart)(*inputs) for apart in (False, True)]
    for a, b in zip(together, apart, strict=True):
        assert a.tobytes() == b.tobytes(), str(graph)


@pytest.mark.parametrize("seed", range(200, 204))
@pytest.mark.parametrize("level", LEVELS)
def test_each_level_of_instructions_gives_the_interpreters_results(level, seed):
    graph = random_graph(seed)
    inputs = random_inputs(graph, seed)
    found = compile_graph(graph, target=level)(*inputs)
    for array, expected in zip(found, evaluate(graph, *inputs), strict=True):
        assert difference(array, expected) < 1e-3, str(graph)


@pytest.mark.parametrize("seed", range(400, 412))
def test_random_graphs_of_symbolic_sizes(seed):
    graph = random_graph(seed, symbolic=True)
    executable = compile_graph(graph)
    for sizes in (SYMBOLS, {"a": 17, "b": 4, "c": 9}, {"a": 4, "b": 65, "c": 16}):
        inputs = random_inputs(graph, seed, sizes)
        for array, expected in zip(executable(*inputs), evaluate(graph, *inputs), strict=True):
            assert difference(array, expected) < 1e-3, (sizes, str(graph))
