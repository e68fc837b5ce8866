"""One way into the backend: what is compiled is what the stages show, and bits do not move."""

import numpy as np
import pytest

import graphc
from graphc.backends import base
from graphc.ir import ops
from graphc.ir.build import trace
from graphc.ir.diff import structural_hash
from graphc.ir.errors import VerifyError
from graphc.ir.types import parse_type
from graphc.passes.pipeline import ROLL_MOVED, ROLL_SAVED, default_pipeline


def many_steps(x, y):
    for _ in range(200):
        x = ops.sin(x) * y + x
    return x


def run(graph, *arrays):
    executable = base.build(graph)
    return executable(*arrays)


def test_long_loops_become_scans_with_the_same_bits():
    graph = trace(many_steps, *map(parse_type, ["f32[16]", "f32[16]"]))
    core = base.core_graph(graph)
    assert [node.op.name for node in core.nodes] == ["scan"]
    x = np.linspace(-1, 1, 16, dtype=np.float32)
    y = np.linspace(0, 0.1, 16, dtype=np.float32)
    from graphc.backends.llvm.compile import compile_graph

    plain = compile_graph(graph)(x, y)[0]
    assert np.array_equal(run(graph, x, y)[0].view(np.int32), plain.view(np.int32))


@pytest.mark.parametrize("size", [ROLL_MOVED // 4, "n"])
def test_loops_over_much_memory_stay_fused(size):
    graph = trace(many_steps, *map(parse_type, [f"f32[{size}, 2]"] * 2))
    assert len(base.core_graph(graph).nodes) == len(graph.nodes) > ROLL_SAVED


def test_the_stages_that_are_shown_are_those_that_run(tmp_path):
    from graphc.cli.program import load
    from graphc.cli.stages import Stages

    graph = trace(many_steps, *map(parse_type, ["f32[16]", "f32[16]"]))
    file = tmp_path / "steps.gir"
    file.write_text(str(graph))
    stages = Stages(load(str(file), [], None))
    wanted = structural_hash(base.core_graph(graph))
    assert structural_hash(stages.core) == wanted
    assert structural_hash(stages.compiled.graph) == wanted


def test_eager_code_goes_through_the_passes(monkeypatch):
    seen = []
    run = base.core_graph

    def spy(graph, **options):
        seen.append((options, run(graph, **options)))
        return seen[-1][1]

    monkeypatch.setattr(base, "core_graph", spy)
    x = graphc.ones(3)
    assert (x * 1 + 0 * x).tolist() == [1.0, 1.0, 1.0]
    assert seen[-1][0]["verify"] is None

    compiled = graphc.compile(lambda x: x.exp().log(), verify="structure")
    assert compiled(x).tolist() == [1.0, 1.0, 1.0]
    assert seen[-1][0]["verify"] == "structure"


def test_verify_is_one_of_three():
    with pytest.raises(ValueError, match="structure"):
        graphc.compile(lambda x: x, verify="all")


def test_verification_of_the_structure_reaches_entries(monkeypatch):
    from graphc.passes import pipeline

    def swapped(graph, table):
        return type(graph)(graph.params, graph.nodes[::-1], graph.results)

    monkeypatch.setattr(pipeline, "clean", swapped)
    with pytest.raises(VerifyError, match="after clean"):
        graphc.compile(lambda x: x.exp().log(), verify="structure")(graphc.ones(3))


def test_a_pass_is_not_run_again_on_what_it_made():
    graph = trace(lambda x: ops.sin(x), parse_type("f32[4]"))
    from graphc.passes.pipeline import Context

    context = Context()
    default_pipeline().run(graph, context)
    assert [ran.name for ran in context.report] == ["clean", "expand", "lift", "roll"]
