"""Pipelines: stages, options, and verification that names the pass, node and line."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import Builder, trace
from graphc.ir.dims import Facts
from graphc.ir.errors import VerifyError
from graphc.ir.graph import Graph, Node
from graphc.ir.types import parse_type
from graphc.passes.autodiff import grad
from graphc.passes.clean import clean, table_of
from graphc.passes.numeric import Tolerance
from graphc.passes.pipeline import (
    Clean,
    Context,
    Expand,
    Pass,
    Pipeline,
    Stage,
    default_pipeline,
    function_pass,
)
from graphc.passes.rewrite import Rule

from .derivative_cases import CASES, graph_of


def program():
    with Builder() as b:
        x, y = [b.param(parse_type("f32[n, 4]"), name) for name in "xy"]
        b.loc = "train.py:1 in f"
        h = ops.sin(x)
        b.loc = "train.py:2 in f"
        d = h / y
        b.loc = "train.py:3 in f"
        out = ops.exp(d) * h
        return b.graph([ops.cos(x), out])


def with_rule(rule, name="planted", error="exact"):
    table = table_of([rule])
    return function_pass(name, lambda graph: clean(graph, table), error)


WRONG = {
    "x / y = x - y": Rule(lambda x, y: x / y, lambda x, y: x - y),
    "x / y = x * y**-1": Rule(lambda x, y: x / y, lambda x, y: x * ops.pow_(y, -1.0)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_named_with_its_node_and_line(name):
    pipeline = Pipeline((Clean(), with_rule(WRONG[name]), Clean()), verify="numeric")
    with pytest.raises(VerifyError) as caught:
        pipeline.run(program())
    text = str(caught.value)
    assert "the pass planted (exact) changed result 1" in text
    assert "(div)" in text and "train.py:2 in f" in text
    assert "ran before planted: clean" in text
    assert len(text.splitlines()) <= 8


def test_a_pass_may_move_results_within_its_class():
    rule = WRONG["x / y = x * y**-1"]
    for error in ("ulp:2", "reorder"):
        Pipeline((with_rule(rule, error=error),), verify="numeric").run(program())
    wrong = with_rule(WRONG["x / y = x - y"], error="reorder")
    with pytest.raises(VerifyError, match="changed result 1"):
        Pipeline((wrong,), verify="numeric").run(program())


def test_a_rule_that_is_wrong_at_one_place_is_found_among_rewrites_that_are_right():
    """The double negation vanishes rightly; the sum after it is wrong."""
    with Builder() as b:
        x = b.param(parse_type("f32[5]"))
        b.loc = "a.py:1"
        same = ops.neg(ops.neg(x))
        b.loc = "a.py:2"
        out = same + x
        graph = b.graph([ops.tanh(out)])
    rules = [Rule(lambda x: ops.neg(-x), lambda x: x), Rule(lambda x: x + x, lambda x: x * 3.0)]
    planted = function_pass("planted", lambda g: clean(g, table_of(rules)))
    with pytest.raises(VerifyError, match=r"\(add\)\n  a.py:2"):
        Pipeline((planted,), verify="numeric").run(graph)


def test_structure_is_verified_after_each_pass():
    def swap(graph):
        return Graph(graph.params, graph.nodes[::-1], graph.results)

    with pytest.raises(VerifyError, match="after swap"):
        Pipeline((Clean(), function_pass("swap", swap)), verify="structure").run(program())


def test_a_type_that_a_pass_declares_wrongly_is_found():
    def lie(graph):
        node = graph.nodes[0]
        other = Node(node.op, node.inputs, [parse_type("f32[7]")], node.attrs, (), node.loc)
        return Graph(graph.params, [other], [other.outputs[0]])

    with pytest.raises(VerifyError, match="after lie.*declares"):
        Pipeline((function_pass("lie", lie),), verify="structure").run(program())


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_default_pipeline_keeps_to_its_classes_on_derivatives(name):
    context = Context()
    default_pipeline(verify="numeric").run(grad(graph_of(name)), context)
    assert context.notes == []
    ran = [ran.name for ran in context.report]
    cleaned = [name for name in ran if name != "clean"]
    assert cleaned == ["expand", "lift", "roll"] and ran[0] == "clean"


def test_where_numeric_verification_did_not_run_it_says_so():
    graph = trace(lambda x, i: ops.gather(x, i * 100 + 7, axis=0),
                  parse_type("f32[2]"), parse_type("i64[3]"))  # fmt: skip
    context = Context()
    default_pipeline(verify="numeric").run(graph, context)
    assert len(context.notes) == 4 and "did not run" in context.notes[0]


def test_given_samples_are_used():
    graph = trace(lambda x: x * 0.0, parse_type("f32[2]"))
    zero = with_rule(Rule(lambda x: x * 0.0, lambda x: 0.0))
    harmless = Context(samples=[np.array([1.0, 2.0], np.float32)])
    Pipeline((zero,), verify="numeric").run(graph, harmless)
    telling = Context(samples=[np.array([1.0, np.inf], np.float32)])
    with pytest.raises(VerifyError, match="nan became 0.0"):
        Pipeline((zero,), verify="numeric").run(graph, telling)


def test_symbolic_dims_keep_to_their_facts():
    graph = trace(lambda x: ops.sin(x), parse_type("f32[n]"))
    context = Context(dims={"n": Facts(lo=9, hi=9)})
    shapes = []
    probe = function_pass("probe", lambda g: g)
    pipeline = Pipeline((probe,), verify="numeric")
    shapes.append(pipeline._samples(graph, context).arrays[0].shape)
    assert shapes == [(9,)]


def test_options_are_the_fields_of_a_pass():
    assert [f.name for f in dataclasses.fields(Clean)] == ["final"]
    assert Clean() == Clean(final=False) != Clean(final=True)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Clean().final = True


def test_an_error_class_must_be_one():
    with pytest.raises(ValueError, match="exact, ulp:n or reorder"):
        Pipeline((function_pass("p", lambda g: g, error="ulp:x"),))
    with pytest.raises(ValueError, match="verify"):
        Pipeline((), verify="all")
    assert Tolerance.of("ulp:2").units == 8.0


def test_a_pass_for_an_earlier_stage_is_refused_later():
    @dataclass(frozen=True)
    class Early(Pass):
        name: ClassVar[str] = "early"
        takes: ClassVar[Stage] = Stage.TENSOR

        def run(self, graph, context):
            return graph

    Pipeline((Early(), Expand())).run(program())
    with pytest.raises(VerifyError, match="early takes TENSOR graphs, not CORE"):
        Pipeline((Expand(), Early())).run(program())


def test_what_is_no_graph_is_refused():
    with pytest.raises(VerifyError, match="is no graph of tensors"):
        Pipeline((Clean(),), verify="structure").run(object())
