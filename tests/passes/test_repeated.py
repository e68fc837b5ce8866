"""Values that are read at several places and too dear for it have memory of their own."""

import itertools

import numpy as np

import graphc as torch
from graphc.backends.llvm.compile import compile_graph
from graphc.ir.interpret import evaluate
from graphc.passes.clean import clean
from graphc.passes.expand import expand_composites
from graphc.passes.fuse.fuse import fuse
from graphc.passes.fuse.repeated import repeated_values
from graphc.passes.fuse.sizes import Sizes


def traced(function, *shapes):
    graph = torch.jit.trace(function, tuple(torch.ones(shape) for shape in shapes)).graph
    return clean(expand_composites(graph, frozenset()))


def agrees(graph):
    random = np.random.default_rng(0)
    arrays = [random.normal(size=p.type.shape).astype(np.float32) for p in graph.params]
    found = compile_graph(graph)(*arrays)
    for array, expected in zip(found, evaluate(graph, *arrays)):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


def largest_kernel(graph):
    return max(len(group.memo) for group in fuse(graph).groups)


def smooth(x):
    for _ in range(30):
        x = torch.cat([x[:1], (x[:-2] + x[1:-1] + x[2:]) * 0.25, x[-1:]]).sin()
    return x


def test_steps_of_a_stencil_are_kept():
    """Three elements are read for each: at most two steps are computed in one kernel."""
    graph = traced(smooth, 40)
    kept = repeated_values(graph, Sizes())
    sines = [node.outputs[0] for node in graph.nodes if node.op.name == "sin"]
    assert len(sines) == 30 and kept & set(sines)
    assert all(kept & set(pair) for pair in itertools.pairwise(sines[:-1]))


def test_a_long_chain_of_stencils_compiles_and_agrees():
    graph = traced(smooth, 40)
    assert largest_kernel(graph) < 100
    agrees(graph)


def test_rows_written_one_after_another():
    """Few elements are computed again, but the code for them would double with each write."""

    def function(x):
        x = x.clone()
        for row in range(1, 16):
            x[row] = x[row - 1] * 0.5 + 1.0
        return x

    graph = traced(function, (16, 8))
    assert largest_kernel(graph) < 400
    agrees(graph)


def test_parts_that_share_nothing_are_not_kept():
    """The gates of a recurrent cell: four parts, each read once."""

    def function(x, y):
        i, f, g, o = (x + y * 2.0).chunk(4, 1)
        return i.sigmoid() * g.tanh() + f.sigmoid() * o.sigmoid()

    assert repeated_values(traced(function, (4, 32), (4, 32)), Sizes()) == set()


def test_what_is_expanded_and_read_where_it_stands_is_one_place():
    def function(x, y):
        scale = ((x * 2.0).sin() + 1.0).exp()
        return scale.view(1, 64) * y + scale

    assert repeated_values(traced(function, 64, (8, 64)), Sizes()) == set()


def test_chains_side_by_side_are_one_kernel_and_come_step_by_step():
    """The values of an unrolled loop: a count of the steps within a bound, and the place."""

    def steps(x, c):
        count = x * 0
        for _ in range(60):
            near = x * x < 4.0
            x, count = torch.where(near, x * x + c, x), torch.where(near, count + 1, count)
        return count

    graph = traced(steps, 1000, 1000)
    agrees(graph)
    compiled = compile_graph(graph)
    assert len(compiled.kernels) == 1
    (text,) = [text for name, text in compiled.compiler.calls[0].functions if "fcmp" in text]
    vectors = compiled.compiler.reports[0].loops.body[0].unroll
    assert most_alive(text, "fcmp") <= 4 * vectors  # no mask waits for the last step


def most_alive(text, instruction):
    """How many results of such instructions wait for a later reader at the same time."""
    lines = text.splitlines()
    made = {line.split(" = ")[0].strip(): k for k, line in enumerate(lines) if instruction in line}
    ends = {
        name: max([k for k, line in enumerate(lines) if f"{name}," in line or f"{name})" in line])
        for name in made
    }
    return max([sum([made[n] < k <= ends[n] for n in made]) for k in range(len(lines))])
