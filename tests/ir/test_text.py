"""The text form: parse(print(g)) == g, for everything that a graph can hold."""

import re

import numpy as np
import pytest

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.diff import structural_hash
from graphc.ir.dims import Facts
from graphc.ir.errors import FormatError
from graphc.ir.graph import Attrs, Graph, Module
from graphc.ir.interpret import evaluate
from graphc.ir.text import iter_graphs, parse, print_graph, print_module
from graphc.ir.types import parse_type
from graphc.ir.verify import verify

from .programs import GRAPHS, arrays, module

TEXT = """\
graph @main(%x: f32[n, 4], %w1: f32[4, 8], %b1: f32[8], %w2: f32[8, 2]) -> (f32[n, 2]) {
  %4 = dot(%x, %w1) [contract=((1,), (0,)), batch=((), ())] : f32[n, 8]  # mlp.py:12 in forward
  %5 = expand(%b1) [shape=(n, 8), axes=(0,)] : f32[n, 8]  # mlp.py:13 in forward & mlp.py:14 in forward
  %6 = add(%4, %5) : f32[n, 8]  # mlp.py:13 in forward & mlp.py:14 in forward
  %7 = tanh(%6) : f32[n, 8]  # mlp.py:13 in forward & mlp.py:14 in forward
  %8 = dot(%7, %w2) [contract=((1,), (0,)), batch=((), ())] : f32[n, 2]
  return %8
}"""  # noqa: E501


def test_the_text_of_a_layer():
    assert print_graph(GRAPHS["mlp"]()) == TEXT
    assert print_graph(GRAPHS["mlp"](), locs=False) == re.sub("  # .*", "", TEXT)


@pytest.mark.parametrize("name", GRAPHS)
def test_parse_gives_back_what_was_printed(name):
    graph = GRAPHS[name]()
    text = print_graph(graph, name)
    again = parse(text)
    verify(again)
    assert print_graph(again, name) == text
    assert structural_hash(again) == structural_hash(graph)
    assert [n.loc for n in again.nodes] == [n.loc for n in graph.nodes]
    given = arrays(graph, n=4, m=3)
    for a, b in zip(evaluate(graph, *given), evaluate(again, *given), strict=True):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


def test_a_module_keeps_its_graphs_and_the_facts_of_its_dims():
    made = module()
    text = print_module(made)
    again = parse(text)
    verify(again)
    assert isinstance(again, Module)
    assert (again.name, again.dims) == (made.name, made.dims)
    assert list(again.graphs) == list(made.graphs)
    assert str(again) == text
    assert text.splitlines()[1:3] == ["  dim n in 1..4096 ~ 32", "  dim m in 0.. ~ 7"]


def test_a_dim_without_a_hint_gets_the_usual_one():
    (fact,) = parse('module "" {\n  dim k in -3..9\n}').dims.values()
    assert fact == Facts(-3, 9, 256)


def test_names_are_kept_where_they_are_unique():
    text = print_graph(GRAPHS["names_that_collide"]())
    found = re.findall(r"^  (%\S+) =", text, re.M)
    assert found == ["%x.2", "%x.2.3", "%4"]
    assert re.findall(r"%x[\w.]*(?=: )", text.splitlines()[0]) == ["%x", "%x.1"]


@pytest.mark.parametrize("value", [
    float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 5e-324, 1.7976931348623157e308, 0.1,
    True, False, 0, -1, 2**63, "",
    'a "b" \\ c\nd # e ] } {', "é", "\r\x0b\x1c\u2028\0\t", None, (), (1,), ((1, 2), ()),
    complex(0.0, -0.0), complex(float("nan"), float("inf")), complex(-1.5, 2),
])  # fmt: skip
def test_attributes_survive_to_the_bit(value):
    """As an attribute of a node that no verifier looks at."""
    with Builder() as b:
        x = b.param(parse_type("f32[]"), "x")
        node = ops.neg(x).node
    node.attrs = Attrs.of({"value": value, "other": (value, value)})
    graph = Graph([x], [node], node.outputs)
    again = parse(print_graph(graph))
    assert again.nodes[0].attrs is node.attrs


def test_data_survives_to_the_bit():
    for array in (
        np.array([np.nan, -np.nan, -0.0, 1e-310]), np.zeros((0, 2), np.int8), np.array(True),
        np.arange(6, dtype=np.int64).reshape(2, 3).T, np.array([1 + 2j], np.complex64),
    ):  # fmt: skip
        with Builder() as b:
            graph = b.graph([ops.const(array)])
        (found,) = evaluate(parse(print_graph(graph)))
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("name", ["a b", "input:0", "/conv/out", "<lambda>", "é", "7", "²", "x\n"])
def test_names_may_hold_anything(name):
    """They are written with underscores, and still told apart."""
    with Builder() as b:
        x = b.param(parse_type("f32[]"), name)
        y = b.param(parse_type("f32[]"), name)
        made = ops.sub(x, y)
        made.name = name
        graph = b.graph([made])
    for text in (print_graph(graph, name), str(Module({name: graph}, name=name))):
        again = parse(text)
        found = again
        if isinstance(again, Module):
            assert str(again) == text
            (found,) = again.graphs.values()
        assert evaluate(found, 3.0, 1.0) == [2.0]


@pytest.mark.parametrize("name", ['a "quoted" \\ name', "two\nlines", "\u2028"])
def test_a_module_may_have_any_name(name):
    assert parse(str(Module({}, name=name))).name == name


def test_source_lines_may_hold_anything_but_a_line_break():
    with Builder() as b:
        x = b.param(parse_type("f32[]"), "x")
        b.loc = 'a b.py:3 in f["k"] {  # not the start } via autodiff'
        graph = b.graph([ops.neg(x)])
    assert parse(print_graph(graph)).nodes[0].loc == graph.nodes[0].loc
    graph.nodes[0].loc = "a.py:1\nb.py:2\x0c\u2028c.py:3"
    assert parse(print_graph(graph)).nodes[0].loc == "a.py:1 b.py:2 c.py:3"


def test_blocks_keep_their_lines():
    graph = GRAPHS["branches"]()
    for part in iter_graphs(graph):
        for i, node in enumerate(part.nodes):
            node.loc = f"deep.py:{i}"
    again = parse(print_graph(graph))
    lines = [[n.loc for n in part.nodes] for part in iter_graphs(again)]
    assert lines == [[n.loc for n in part.nodes] for part in iter_graphs(graph)]
    assert len(lines) == 7 and all(all(row) for row in lines)


HEAD = "graph @main(%x: f32[2]) -> (f32[2]) {\n"
MALFORMED = {
    "": "the text is empty",
    "graph": "line 1: expected graph @name",
    "module {": 'line 1: expected module "name" {',
    'module "a" {\n  dim n 3\n}': "line 2: cannot read the dim 'dim n 3'",
    'module "a" {\n': "the text ends inside a graph or a module",
    HEAD: "the text ends inside a graph or a module",
    HEAD + "  return %x\n": "the text ends inside a graph or a module",
    HEAD + "  return %x\n}\n}": "line 4: text after the end: '}'",
    HEAD + "  return %x\n  return %x\n}": "line 3: expected } after return",
    HEAD + "  return %y\n}": "line 2: '%y' is not defined before it is used",
    HEAD + "  return\n}": "line 1: the results are not of the types that the head declares",
    HEAD + "  %y = negg(%x) : f32[2]\n  return %y\n}": "line 2: no op is called 'negg'",
    HEAD + "  %y = neg(%z) : f32[2]\n  return %y\n}": "line 2: '%z' is not defined before",
    HEAD + "  %x = neg(%x) : f32[2]\n  return %x\n}": "line 2: %x is defined twice",
    HEAD + "  %y, %z = neg(%x) : f32[2]\n  return %y\n}": "line 2: 2 names for 1 types",
    HEAD + "  %y = neg(%x) : f99[2]\n  return %y\n}": "no element type is called 'f99'",
    HEAD + "  %y = neg(%x) [a=open('x')] : f32[2]\n  return %y\n}": "line 2: cannot read the attr",
    HEAD + "  %y = neg(%x) [a=[1]] : f32[2]\n  return %y\n}": "line 2: cannot read",
    HEAD + "  what is this\n  return %x\n}": "line 2: cannot read 'what is this'",
    "graph @f(%x: f32[2], %x: f32[2]) -> () {\n  return\n}": "the parameter %x is defined twice",
    "graph @f(%x f32[2]) -> () {\n  return\n}": "line 1: cannot read the parameters",
    'module "a" {\n' + (HEAD + "  return %x\n}\n") * 2 + "}": "two graphs are called @main",
}  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_text_says_where(text):
    with pytest.raises(FormatError, match=re.escape(MALFORMED[text])) as caught:
        parse(text)
    assert len(str(caught.value).splitlines()) <= 8


def test_blocks_nested_without_end_are_refused():
    depth = 3000
    text = HEAD + ("  %y = if(%x) : f32[2] {\nblock (%x: f32[2]) -> (f32[2]) {\n") * depth
    with pytest.raises(FormatError, match="blocks are nested more than 64 deep"):
        parse(text)
