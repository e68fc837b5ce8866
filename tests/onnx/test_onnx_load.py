"""Models written by hand, loaded: sizes, weights, control flow, recurrent layers, refusals."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphc.frontends.onnx_load import SymbolicSizeError, load_module, read_model
from graphc.ir.dims import symbol
from graphc.ir.errors import FormatError, UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.verify import verify

from .onnx_runner import assert_same, run

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, weights=None, opset=18, **options):
    tensors = [numpy_helper.from_array(a, n) for n, a in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset), *options.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **options)


def node(kind, inputs, outputs, **attrs):
    return helper.make_node(kind, inputs.split(), outputs.split(), name=f"the_{kind}", **attrs)


def load(proto, **options):
    module = load_module(read_model(proto.SerializeToString()), **options)
    verify(module)
    return module


def check(proto, *arrays):
    """Loads and evaluates; compares with onnxruntime. The module."""
    module = load(proto)
    graph = module.graphs["main"]
    weights = [module.weights[p.name] for p in graph.params[len(arrays) :]]
    assert_same(evaluate(graph, *arrays, *weights), run(proto, arrays))
    return module


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def op_names(module):
    return [n.op.name for n in module.graphs["main"].nodes]


# --- sizes ---------------------------------------------------------------------------------------


def test_a_shape_computation_leaves_only_the_reshape():
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Unsqueeze", "n axis", "n1"),
        node("Concat", "n1 rest", "wanted", axis=0),
        node("Reshape", "x wanted", "y"),
    ]
    weights = {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
    proto = model(nodes, [info("x", FLOAT, ["batch", 3, 4])], [info("y", FLOAT, None)], weights)
    module = check(proto, floats(2, 3, 4))
    assert op_names(module) == ["reshape"]
    assert module.graphs["main"].results[0].type.text == "f32[batch, 12]"
    assert "batch" in module.dims


def test_sizes_are_multiplied_divided_and_compared():
    nodes = [
        node("Shape", "x", "s"),
        node("Mul", "s two", "double"),
        node("Div", "double two", "same"),
        node("Equal", "same minus", "unknown"),
        node("Where", "unknown ones same", "wanted"),
        node("Expand", "y wanted", "z"),
    ]
    weights = {"two": np.array([2, 2]), "minus": np.array([-1, -1]), "ones": np.array([1, 1])}
    inputs = [info("x", FLOAT, ["n", "m"]), info("y", FLOAT, ["n", 1])]
    module = check(
        model(nodes, inputs, [info("z", FLOAT, None)], weights), floats(2, 3), floats(2, 1)
    )
    assert op_names(module) == ["reshape", "expand"]


def test_a_size_may_become_a_number():
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Cast", "n", "f", to=FLOAT),
        node("Div", "x f", "y"),
    ]
    inputs = [info("x", FLOAT, ["n", 3])]
    check(model(nodes, inputs, [info("y", FLOAT, None)], {"zero": np.array(0)}), floats(2, 3))


def test_a_slice_to_a_symbolic_size_makes_a_fact():
    nodes = [
        node("Shape", "x", "s", start=1, end=2),
        node("Slice", "table zero s one", "rows"),
        node("Add", "x rows", "y"),
    ]
    weights = {"table": floats(1, 16), "zero": np.array([0]), "one": np.array([1])}
    inputs = [info("x", FLOAT, ["n", "t"])]
    module = check(model(nodes, inputs, [info("y", FLOAT, None)], weights), floats(2, 5))
    assert module.dims["t"].hi == 16


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("2*n + 1", "2*n + 1"),
        ("batch-size", "batch_size"),
        ("3", "d3"),
        ("a b", "a_b"),
        ("n*n", "n_n"),
    ],
)
def test_names_of_sizes(name, text):
    proto = model([node("Relu", "x", "y")], [info("x", FLOAT, [name])], [info("y", FLOAT, None)])
    assert load(proto).graphs["main"].params[0].type.text == f"f32[{text}]"


def test_unnamed_sizes_get_symbols_and_may_be_given():
    proto = model([node("Relu", "x", "y")], [info("x", FLOAT, [None, 3])], [info("y", FLOAT, None)])
    assert load(proto).graphs["main"].params[0].type.text == "f32[x_0, 3]"
    given = load(proto, shapes={"x": (symbol("k"), 3)})
    assert given.graphs["main"].params[0].type.text == "f32[k, 3]"


def test_a_shape_computed_from_data_is_refused():
    inputs = [info("x", FLOAT, [6]), info("s", INT64, [2])]
    proto = model([node("Reshape", "x s", "y")], inputs, [info("y", FLOAT, None)])
    with pytest.raises(UnsupportedError, match="shape operand is computed from data") as caught:
        load(proto)
    assert "'the_Reshape' (Reshape)" in str(caught.value)


@pytest.mark.parametrize(("exponent", "ops"), [(2, 1), (3, 2)])
def test_squares_and_cubes_are_products(exponent, ops):
    for power in (np.float32(exponent), np.array([exponent])):
        proto = model(
            [node("Pow", "x power", "y")],
            [info("x", FLOAT, ["n", 3])],
            [info("y", FLOAT, None)],
            {"power": np.asarray(power)},
        )
        assert op_names(check(proto, floats(4, 3))) == ["mul"] * ops


# --- weights -------------------------------------------------------------------------------------


def test_stored_arrays_become_weights_and_stored_numbers_constants():
    nodes = [node("MatMul", "x w", "h"), node("Mul", "h two", "y")]
    weights = {"w": floats(4, 1), "two": np.array(2.0, np.float32)}
    proto = model(nodes, [info("x", FLOAT, ["n", 4])], [info("y", FLOAT, None)], weights)
    module = check(proto, floats(3, 4))
    assert list(module.weights) == ["w"]
    assert op_names(module) == ["dot", "full", "mul"]


def test_typed_fields_are_read_as_well_as_bytes():
    for kind, array in [
        (FLOAT, np.array([1.5, -2.0], np.float32)),
        (TensorProto.DOUBLE, np.array([1.5, -2.0])),
        (TensorProto.FLOAT16, np.array([1.5, -2.0], np.float16)),
        (TensorProto.BFLOAT16, np.array([1.5, -2.0], np.float32)),
        (TensorProto.INT8, np.array([3, -2], np.int8)),
        (TensorProto.UINT64, np.array([3, 2**63], np.uint64)),
        (BOOL, np.array([True, False])),
    ]:
        tensor = helper.make_tensor("c", kind, [2], array.tolist())
        proto = model([node("Constant", "", "y", value=tensor)], [], [info("y", kind, [2])])
        (found,) = evaluate(load(proto).graphs["main"])
        assert found.dtype == np.dtype(helper.tensor_dtype_to_np_dtype(kind))
        np.testing.assert_array_equal(found.astype(array.dtype), array)


# --- control flow --------------------------------------------------------------------------------


def loop_model(trips, cond, extra=()):
    body = helper.make_graph(
        [
            node("Identity", "go", "again"),
            node("Add", "h step_size", "h2"),
            node("Cast", "i", "fi", to=FLOAT),
            node("Mul", "h2 fi", "row"),
        ],
        "body",
        [info("i", INT64, []), info("go", BOOL, []), info("h", FLOAT, ["n"])],
        [info("again", BOOL, []), info("h2", FLOAT, ["n"]), info("row", FLOAT, ["n"])],
    )
    nodes = [*extra, node("Loop", f"{trips} {cond} x", "last rows", body=body)]
    weights = {
        "five": np.array(5),
        "true": np.array(True),
        "step_size": np.array(0.5, np.float32),
    }
    inputs = [info("x", FLOAT, ["n"])]
    outputs = [info("last", FLOAT, ["n"]), info("rows", FLOAT, ["k", "n"])]
    return model(nodes, inputs, outputs, weights)


def test_a_loop_of_known_length_becomes_a_scan():
    module = check(loop_model("five", "true"), floats(3))
    assert "scan" in op_names(module)


def test_a_loop_over_a_symbolic_size_becomes_a_scan():
    extra = [node("Shape", "x", "s"), node("Squeeze", "s", "count")]
    check(loop_model("count", "true", extra), floats(4))


def test_a_loop_until_a_condition_becomes_a_while():
    body = helper.make_graph(
        [node("Add", "h offset", "h2"), node("ReduceSum", "h2", "total", keepdims=0),
         node("Less", "total limit", "again")],
        "body",
        [info("i", INT64, []), info("go", BOOL, []), info("h", FLOAT, [3])],
        [info("again", BOOL, []), info("h2", FLOAT, [3])],
    )  # fmt: skip
    weights = {"limit": np.array(20.0, np.float32), "true": np.array(True), "many": np.array(50)}
    nodes = [node("Loop", "many true x", "y", body=body)]
    inputs = [info("x", FLOAT, [3]), info("offset", FLOAT, [3])]
    proto = model(nodes, inputs, [info("y", FLOAT, [3])], weights)
    module = check(proto, floats(3), np.ones(3, np.float32))
    assert op_names(module)[-1] == "while"


def if_model(predicate_input):
    then = helper.make_graph([node("Add", "x w", "t")], "then", [], [info("t", FLOAT, ["n", 20])])
    other = helper.make_graph([node("Neg", "x", "e")], "else", [], [info("e", FLOAT, ["n", 20])])
    nodes = [node("If", "p", "y", then_branch=then, else_branch=other)]
    weights = {"w": floats(20)}
    inputs = [info("x", FLOAT, ["n", 20])]
    if predicate_input:
        inputs.insert(0, info("p", BOOL, []))
    else:
        weights["p"] = np.array(True)
    return model(nodes, inputs, [info("y", FLOAT, None)], weights)


@pytest.mark.parametrize("predicate", [True, False])
def test_if_takes_what_its_branches_see(predicate):
    module = check(if_model(True), np.array(predicate), floats(3, 20))
    assert op_names(module) == ["if"]


def test_if_of_a_known_predicate_is_its_branch():
    assert "if" not in op_names(check(if_model(False), floats(3, 20)))


def test_branches_of_different_types_are_refused():
    proto = if_model(True)
    branch = proto.graph.node[0].attribute[0].g  # else_branch
    branch.node[0].CopyFrom(node("ReduceSum", "x", "e"))
    with pytest.raises(UnsupportedError, match="branches give different types"):
        load(proto)


@pytest.mark.parametrize("direction", [0, 1])
def test_scan_with_axes_and_directions(direction):
    body = helper.make_graph(
        [node("Add", "h r", "h2"), node("Mul", "h2 r", "row")],
        "body",
        [info("h", FLOAT, [2]), info("r", FLOAT, [2])],
        [info("h2", FLOAT, [2]), info("row", FLOAT, [2])],
    )
    attrs = {
        "num_scan_inputs": 1, "scan_input_axes": [1], "scan_output_axes": [1],
        "scan_input_directions": [direction], "scan_output_directions": [direction],
    }  # fmt: skip
    nodes = [node("Scan", "h0 xs", "h ys", body=body, **attrs)]
    inputs = [info("h0", FLOAT, [2]), info("xs", FLOAT, [2, "t"])]
    outputs = [info("h", FLOAT, [2]), info("ys", FLOAT, [2, "t"])]
    check(model(nodes, inputs, outputs), floats(2), floats(2, 5))


def test_a_function_of_the_model_is_inlined():
    body = [
        helper.make_node("Constant", [], ["scale"], value_float=3.0),
        node("Mul", "a scale", "b"),
        helper.make_node("LeakyRelu", ["b"], ["c"]),
    ]
    body[2].attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    function = helper.make_function(
        "custom", "Scaled", ["a"], ["c"], body, [helper.make_opsetid("", 18)], ["slope"]
    )
    call = helper.make_node("Scaled", ["x"], ["y"], domain="custom", slope=0.25)
    proto = model([call], [info("x", FLOAT, [4])], [info("y", FLOAT, [4])],
                  functions=[function], imports=[helper.make_opsetid("custom", 1)])  # fmt: skip
    x = floats(4)
    (found,) = evaluate(load(proto).graphs["main"], x)
    np.testing.assert_allclose(found, np.where(x < 0, 0.75 * x, 3 * x), 1e-6)


# --- recurrent layers ----------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "GRU-before", "LSTM", "LSTM-peepholes"])
def test_recurrent_layers(kind, direction):
    name, _, option = kind.partition("-")
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[name]
    d, hidden, width = (2 if direction == "bidirectional" else 1), 3, 2
    weights = {
        "w": floats(d, gates * hidden, width, seed=1),
        "r": floats(d, gates * hidden, hidden, seed=2),
        "b": floats(d, 2 * gates * hidden, seed=3),
        "h0": floats(d, 4, hidden, seed=4),
    }
    outputs = "y y_h"
    names = ["x", "w", "r", "b", "", "h0"]
    if name == "LSTM":
        weights["c0"] = floats(d, 4, hidden, seed=5)
        names.append("c0")
        outputs += " y_c"
    if option == "peepholes":
        weights["p"] = floats(d, 3 * hidden, seed=6)
        names.append("p")
    attrs = {"linear_before_reset": 1} if option == "before" else {}
    made = helper.make_node(
        name, names, outputs.split(), hidden_size=hidden, direction=direction, **attrs
    )
    declared = [info(o, FLOAT, None) for o in outputs.split()]
    module = check(model([made], [info("x", FLOAT, ["t", 4, width])], declared, weights),
                   floats(5, 4, width))  # fmt: skip
    assert op_names(module).count("scan") == d


def test_an_lstm_stops_each_example_at_its_length():
    weights = {
        "w": floats(1, 12, 2, seed=1), "r": floats(1, 12, 3, seed=2), "b": floats(1, 24, seed=3),
        "lengths": np.array([5, 2, 1, 4], np.int32),
    }  # fmt: skip
    nodes = [node("LSTM", "x w r b lengths", "y y_h y_c", hidden_size=3)]
    outputs = [info(o, FLOAT, None) for o in ("y", "y_h", "y_c")]
    check(model(nodes, [info("x", FLOAT, [5, 4, 2])], outputs, weights), floats(5, 4, 2))


# --- refusals ------------------------------------------------------------------------------------


def test_all_unsupported_ops_are_listed_in_one_error():
    nodes = [
        helper.make_node("Unique", ["x"], ["a"], name="first"),
        helper.make_node("FusedMatMul", ["x", "x"], ["b"], name="second", domain="com.microsoft"),
        helper.make_node("Unique", ["x"], ["c"], name="third"),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    proto = model(nodes, [info("x", FLOAT, [4])], [info("y", FLOAT, [4])],
                  imports=[helper.make_opsetid("com.microsoft", 1)])  # fmt: skip
    with pytest.raises(UnsupportedError) as caught:
        load(proto)
    text = str(caught.value)
    assert "2 ops" in text
    assert "Unique: 'first', 'third'" in text
    assert "com.microsoft::FusedMatMul: 'second'" in text


def test_many_unsupported_ops_still_fit_eight_lines():
    nodes = [helper.make_node(f"Op{i}", ["x"], [f"y{i}"], name=f"n{i}") for i in range(20)]
    proto = model(nodes, [info("x", FLOAT, [4])], [info("y0", FLOAT, [4])])
    with pytest.raises(UnsupportedError) as caught:
        load(proto)
    text = str(caught.value)
    assert len(text.splitlines()) <= 8
    assert all(f"Op{i}: 'n{i}'" in text for i in range(20))


def test_shapes_that_do_not_fit_name_the_node():
    inputs = [info("x", FLOAT, [2, 3]), info("w", FLOAT, [4, 5])]
    proto = model([node("MatMul", "x w", "y")], inputs, [info("y", FLOAT, None)])
    with pytest.raises(FormatError, match="cannot contract") as caught:
        load(proto)
    assert "'the_MatMul' (MatMul)" in str(caught.value)


def test_a_tensor_that_nobody_computes_is_named():
    proto = model([node("Relu", "ghost", "y")], [], [info("y", FLOAT, None)])
    with pytest.raises(FormatError, match="'ghost' is used before it is computed"):
        load(proto)


def test_a_model_that_needs_numbers_for_its_sizes_says_so():
    inputs = [info("x", FLOAT, ["n", 3]), info("y", FLOAT, ["m", 3])]
    proto = model([node("Add", "x y", "z")], inputs, [info("z", FLOAT, None)])
    with pytest.raises(SymbolicSizeError, match="Give the sizes of the inputs"):
        load(proto)
    given = load(proto, shapes={"x": (4, 3), "y": (1, 3)})
    assert given.graphs["main"].results[0].type.text == "f32[4, 3]"
