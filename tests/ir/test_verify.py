"""The verifier's messages: which node of which graph, what is wrong, and the user's line."""

import pytest

from graphc.ir import ops
from graphc.ir.build import Builder, trace
from graphc.ir.dtype import F32
from graphc.ir.errors import MAX_LINES, GraphcError, VerifyError
from graphc.ir.graph import Attrs, Graph, Module, Node, Value
from graphc.ir.op import OPS
from graphc.ir.text import parse
from graphc.ir.types import TensorType, parse_type
from graphc.ir.verify import verify

from .programs import GRAPHS, module, traced

VECTOR = parse_type("f32[3]")


def node(name, inputs, types, attrs=None, blocks=(), loc="net.py:7 in forward"):
    return Node(OPS[name], tuple(inputs), types, Attrs.of(attrs or {}), blocks, loc)


def message(graph):
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    text = str(caught.value)
    assert len(text.splitlines()) <= MAX_LINES
    return text


@pytest.mark.parametrize("name", GRAPHS)
def test_built_graphs_are_right(name):
    verify(GRAPHS[name]())


def test_modules_are_checked_graph_by_graph():
    verify(module())
    x = Value(VECTOR, name="x")
    text = message(Module({"good": GRAPHS["mlp"](), "bad": Graph([], [], [x])}))
    assert text == "@bad: result 0 is not defined in the graph"


def test_a_value_of_another_graph_is_not_defined():
    x, y = Value(VECTOR, name="x"), Value(VECTOR, name="y")
    add = node("add", [x, y], [VECTOR])
    assert message(Graph([x], [add], add.outputs)) == (
        "@main, node 0 (add): operand 1 is not defined before it is used\n  net.py:7 in forward"
    )


def test_an_order_in_which_a_node_precedes_its_operand():
    x = Value(VECTOR, name="x")
    first = node("neg", [x], [VECTOR])
    second = node("exp", first.outputs, [VECTOR], loc="")
    assert message(Graph([x], [second, first], second.outputs)) == (
        "@main, node 0 (exp): operand 0 is not defined before it is used"
    )


def test_a_node_that_stands_twice():
    x = Value(VECTOR, name="x")
    neg = node("neg", [x], [VECTOR])
    assert message(Graph([x], [neg, neg], neg.outputs)) == (
        "@main, node 1 (neg): stands in the graph twice\n  net.py:7 in forward"
    )


def test_parameters_that_are_none():
    x = Value(VECTOR, name="x")
    text = "@main: the parameter %x is not one, or there twice"
    assert message(Graph([x, x], [], [x])) == text
    with Builder() as b:
        made = ops.neg(b.param(VECTOR))
        made.name = "x"
    assert message(Graph([made], [], [made])) == text


def test_a_type_that_is_not_the_inferred_one():
    x = Value(VECTOR, name="x")
    neg = node("neg", [x], [parse_type("f32[4]")])
    assert message(Graph([x], [neg], neg.outputs)) == (
        "@main, node 0 (neg): declares f32[4], but infers f32[3]\n  net.py:7 in forward"
    )
    none = node("neg", [x], [])
    assert message(Graph([x], [none], [])).startswith(
        "@main, node 0 (neg): declares nothing, but infers f32[3]"
    )


@pytest.mark.parametrize(("op", "types", "attrs", "expected"), [
    ("add", ("f32[3]", "f32[4]"), {}, "add: shapes differ: f32[3], f32[4]"),
    ("add", ("f32[3]", "f64[3]"), {}, "add: dtypes differ: f32[3], f64[3]"),
    ("exp", ("i64[3]",), {}, "exp is not defined for i64[3]: x is float or complex"),
    ("exp", ("f32[3]", "f32[3]"), {}, "exp takes 1 operands, not 2"),
    ("exp", ("int",), {}, "exp: x must be a tensor, not int"),
    ("reduce_sum", ("f32[3]",), {}, "reduce_sum needs the attribute 'axes' (a tuple of ints)"),
    ("reduce_sum", ("f32[3]",), {"axes": 0}, "reduce_sum: axes must be a tuple of ints, not 0"),
    ("reduce_sum", ("f32[3]",), {"axes": (1,)}, "reduce_sum: (1,) are no axes of f32[3]"),
    ("dot", ("f32[2, 3]", "f32[4, 2]"), {"contract": ((1,), (0,)), "batch": ((), ())},
     "cannot contract f32[2, 3] with f32[4, 2]: 3 and 4 differ"),
    ("reshape", ("f32[n]",), {"shape": (3,)}, "cannot reshape f32[n] to [3]: the sizes differ"),
    ("scan", ("f32[3]",), {}, "scan: length must be a size"),
    ("if", ("f32[3]",), {}, "if needs a predicate and two blocks"),
])  # fmt: skip
def test_what_an_op_refuses(op, types, attrs, expected):
    params = [Value(parse_type(t), name=f"x{i}") for i, t in enumerate(types)]
    made = node(op, params, [VECTOR], attrs)
    assert message(Graph(params, [made], made.outputs)) == (
        f"@main, node 0 ({op}): {expected}\n  net.py:7 in forward"
    )


def test_a_block_that_reads_a_value_from_outside():
    x = Value(VECTOR, name="x")
    p = Value(parse_type("bool[]"), name="p")
    inner = Value(VECTOR, name="y")
    leaking = node("add", [inner, x], [VECTOR], loc="net.py:9")
    block = Graph([inner], [leaking], leaking.outputs)
    good = traced(lambda y: ops.neg(y), "f32[3]")
    made = node("if", [p, x], [VECTOR], {}, (good, block))
    assert message(Graph([p, x], [made], made.outputs)) == (
        "@main.if.1, node 0 (add): operand 1 is not defined before it is used\n  net.py:9"
    )


@pytest.mark.parametrize(("other", "expected"), [
    (traced(lambda y: ops.neg(y), "f32[4]"), "a block of if takes (f32[4]), but is given (f32[3])"),
    (traced(lambda y: ops.lt(y, y), "f32[3]"), "the blocks of if give results of different types"),
])  # fmt: skip
def test_blocks_that_do_not_fit(other, expected):
    x, p = Value(VECTOR, name="x"), Value(parse_type("bool[]"), name="p")
    made = node("if", [p, x], [VECTOR], {}, (traced(lambda y: ops.neg(y), "f32[3]"), other))
    assert message(Graph([p, x], [made], made.outputs)).startswith(
        f"@main, node 0 (if): {expected}"
    )


def test_control_flow_refuses_attributes_and_operands_that_do_not_fit():
    body = traced(lambda c: [ops.neg(c)], "f32[3]")
    x, token = Value(VECTOR, name="x"), Value(parse_type("token"), name="t")
    attrs = {"length": 2, "carry": 2, "xs": 0, "reverse": False}
    found = [
        message(Graph([v], [made], made.outputs))
        for v, made in (
            (x, node("scan", [x], [VECTOR], attrs, (body,), "")),
            (token, node("scan", [token], [VECTOR], {**attrs, "carry": 1}, (body,), "")),
            (x, node("scan", [x], [VECTOR], {"length": 2}, (body,), "")),
        )
    ]
    assert found == [
        "@main, node 0 (scan): scan of 1 operands: 2 carried, 0 with rows",
        "@main, node 0 (scan): scan: an operand must be a tensor, not token",
        "@main, node 0 (scan): scan: carry must be an int",
    ]


def test_a_mask_chooses_along_the_leading_axes():
    block = traced(lambda a: ops.neg(a), "f32[3, 2]")
    x, p = Value(parse_type("f32[3, 2]"), name="x"), Value(parse_type("bool[2]"), name="p")
    made = node("if", [p, x], [x.type], {}, (block, block), "")
    assert message(Graph([p, x], [made], made.outputs)) == (
        "@main, node 0 (if): a predicate bool[2] cannot choose along f32[3, 2]"
    )


def test_devices_do_not_mix():
    x, y = Value(VECTOR, name="x"), Value(TensorType(F32, (3,), "cuda:0"), name="y")
    made = node("add", [x, y], [VECTOR])
    assert "found cpu and cuda:0 in add" in message(Graph([x, y], [made], made.outputs))


def test_what_is_built_is_checked_while_it_is_built():
    with pytest.raises(GraphcError, match="add: shapes differ"):
        trace(ops.add, VECTOR, parse_type("f32[4]"))


def test_a_text_with_a_wrong_type_is_read_and_then_refused():
    graph = parse(
        "graph @main(%x: f32[3]) -> (f32[3]) {\n  %y = exp(%x) : f32[3]  # a.py:1\n"
        "  %z = reshape(%y) [shape=(4,)] : f32[3]  # a.py:2\n  return %z\n}"
    )
    assert message(graph) == (
        "@main, node 1 (reshape): cannot reshape f32[3] to [4]: the sizes differ\n  a.py:2"
    )
