"""The builder: nodes are made once, told apart by bits; replay, dead code, source lines."""

import threading

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import Builder, dead_code, trace
from graphc.ir.dtype import F32
from graphc.ir.graph import Attrs, Graph
from graphc.ir.interpret import evaluate
from graphc.ir.op import OPS
from graphc.ir.types import parse_type

from .programs import GRAPHS, arrays, traced

VECTOR = parse_type("f32[3]")


def test_a_node_is_made_once():
    with Builder() as b:
        x, y = b.param(VECTOR), b.param(VECTOR)
        assert ops.add(x, y) is ops.add(x, y)
        assert ops.add(x, y) is not ops.add(y, x)
        assert ops.reduce_sum(x, axes=(0,)) is ops.reduce_sum(x, axes=(0,))
        assert len(b.nodes) == 3


def test_attributes_are_told_apart_by_their_bits():
    assert Attrs.of({"value": 0.0}) is not Attrs.of({"value": -0.0})
    assert Attrs.of({"value": 1}) is not Attrs.of({"value": True})
    assert Attrs.of({"value": 1}) is not Attrs.of({"value": 1.0})
    assert Attrs.of({"value": float("nan")}) is Attrs.of({"value": float("nan")})
    assert Attrs.of({"a": 1, "b": 2}).text == "a=1, b=2"
    assert Attrs.of({"a": (1,)}) != Attrs.of({"a": 1})
    with Builder() as b:
        numbers = [ops.full(v, F32) for v in (0.0, -0.0, 0.0, float("nan"), float("nan"))]
        assert len(set(numbers)) == len(b.nodes) == 3
        assert numbers[0] is numbers[2] and numbers[3] is numbers[4]


def test_constants_are_equal_by_content():
    with Builder():
        first = ops.const(np.array([1.0, -0.0]))
        assert ops.const(np.array([1.0, -0.0])) is first
        assert ops.const(np.array([1.0, 0.0])) is not first
        assert ops.const(np.array([1.0, -0.0], np.float32)) is not first
        assert ops.const(np.array([[1.0, -0.0]])) is not first


def test_a_constant_is_a_copy():
    array = np.array([1.0, 2.0])
    graph = trace(lambda: ops.const(array))
    array[0] = 9.0
    (found,) = evaluate(graph)
    assert found.tolist() == [1.0, 2.0] and not found.flags.writeable


@pytest.mark.parametrize("value", [object(), [1, 2], {"a": 1}, np.zeros(2)])
def test_what_cannot_be_printed_cannot_be_an_attribute(value):
    with pytest.raises(TypeError, match="cannot be an attribute"):
        Attrs.of({"value": value})


def test_effects_are_not_merged():
    with Builder() as b:
        x = b.param(VECTOR)
        ops.print_op(x, text="twice")
        ops.print_op(x, text="twice")
        assert [node.op.name for node in b.graph([]).nodes] == ["print", "print"]


def test_numbers_beside_values_become_constants_of_their_type():
    graph = traced(lambda x, i: [2.0 * x - 1.0, ops.mul(i, 3)], "f32[2]", "i64[2]")
    fulls = [node for node in graph.nodes if node.op.name == "full"]
    assert {(n.attrs["value"], n.outputs[0].type.text) for n in fulls} == {
        (2.0, "f32[2]"), (1.0, "f32[2]"), (3, "i64[2]"),
    }  # fmt: skip
    assert all(type(n.attrs["value"]) is (int if n.outputs[0].type.text[0] == "i" else float)
               for n in fulls)  # fmt: skip


def test_an_op_needs_a_builder():
    with pytest.raises(RuntimeError, match="an op was called outside of a builder"):
        OPS["iota"](shape=(2,), axis=0, dtype=F32)


def test_builders_nest_and_belong_to_a_thread():
    seen = []
    with Builder() as outer:
        with Builder() as inner:
            assert Builder.current() is inner
        assert Builder.current() is outer

        def elsewhere():
            with pytest.raises(RuntimeError):
                Builder.current()
            with Builder() as b:
                seen.append(b is Builder.current())

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert seen == [True]


def test_dead_code_goes_and_parameters_stay():
    with Builder() as b:
        x, unused = b.param(VECTOR), b.param(VECTOR)
        ops.exp(x)
        kept = ops.neg(x)
        graph = b.graph([kept])
    assert [n.op.name for n in graph.nodes] == ["neg"]
    assert graph.params == (x, unused)
    assert dead_code(graph) is graph


@pytest.mark.parametrize("name", GRAPHS)
def test_a_replay_on_the_same_values_keeps_every_node(name):
    graph = GRAPHS[name]()
    with Builder(graph.params) as b:
        again = b.graph(b.replay(graph, graph.params))
    assert all(a is b for a, b in zip(again.nodes, graph.nodes, strict=True))


@pytest.mark.parametrize("name", ["mlp", "branches", "composites", "symbolic"])
def test_a_replay_on_other_values_means_the_same(name):
    graph = GRAPHS[name]()
    with Builder() as b:
        params = [b.param(p.type, p.name) for p in graph.params]
        again = b.graph(b.replay(graph, params))
    assert not set(again.nodes) & {n for n in graph.nodes if n.inputs}
    given = arrays(graph, n=4, m=3)
    for a, b in zip(evaluate(graph, *given), evaluate(again, *given), strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_rule_runs_where_a_node_is_about_to_be_made():
    def double(inputs, attrs):
        x, y = inputs
        return (ops.mul(x, 2.0),) if x is y else None

    graph = trace(lambda x: ops.add(x, x), VECTOR, simplify={OPS["add"]: [double]})
    assert [n.op.name for n in graph.nodes] == ["full", "mul"]


def test_nodes_and_what_rules_make_of_them_keep_their_line():
    with Builder() as b:
        x = b.param(VECTOR)
        b.loc = "a.py:1"
        first = ops.add(x, x)
        b.loc = "a.py:2"
        graph = b.graph([ops.neg(first)])
    assert [n.loc for n in graph.nodes] == ["a.py:1", "a.py:2"]

    def double(inputs, attrs):
        return (ops.mul(inputs[0], 2.0),)

    with Builder(simplify={OPS["add"]: [double]}) as b:
        again = b.graph(b.replay(graph, [b.param(VECTOR)]))
    assert [(n.op.name, n.loc) for n in again.nodes] == [
        ("full", "a.py:1"), ("mul", "a.py:1"), ("neg", "a.py:2"),
    ]  # fmt: skip
    assert b.loc == ""


def test_values_and_nodes_show_themselves():
    with Builder() as b:
        x = b.param(VECTOR, "x")
        b.loc = "a.py:3"
        y = ops.neg(x)
    assert repr(x) == "<Value x: f32[3]>" and repr(y) == "<Value neg: f32[3]>"
    assert repr(y.node) == "<Node neg at a.py:3>" and repr(y.node.op) == "<op neg>"
    assert repr(Graph([x], [], [x])).startswith("graph @main(%x: f32[3])")
