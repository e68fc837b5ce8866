"""Exported graphs of several ops: sizes, control flow, constants, names, lines, weights, errors."""

import numpy as np
import onnx
import pytest

from graphc.backends.onnx import Names, check_model, export_graph, write_model
from graphc.frontends.onnx_load import load_module, read_model
from graphc.ir import composite, ops
from graphc.ir.build import Builder, trace
from graphc.ir.dims import symbol
from graphc.ir.dtype import BOOL, F32, I64
from graphc.ir.errors import FormatError, UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.types import TensorType, parse_type
from graphc.ir.verify import verify

from .onnx_cases import block, random_array
from .onnx_runner import assert_same, run


def check(graph, *arrays, **options):
    """Exports, checks and runs a graph, and loads it back; the model."""
    model = export_graph(graph, **options)
    check_model(model)
    expected = evaluate(graph, *arrays)
    assert_same(run(model, arrays), expected)
    module = load_module(read_model(model))
    verify(module)
    loaded = module.graphs["main"]
    weights = [module.weights[p.name] for p in loaded.params[len(arrays) :]]
    assert_same(evaluate(loaded, *arrays, *weights), expected)
    return model


def op_types(model):
    return [node.op_type for node in model.graph.node]


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_a_layer_is_gemm_and_tanh():
    def layer(x, w, b):
        h = ops.dot(x, w, contract=((1,), (0,)))
        return ops.tanh(ops.add(h, ops.expand(b, shape=h.shape, axes=(0,))))

    graph = block(layer, "f32[n, 4]", "f32[4, 3]", "f32[3]")
    model = check(graph, floats(5, 4), floats(4, 3), floats(3))
    assert op_types(model) == ["Gemm", "Tanh"]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "n"


def test_numbers_are_broadcast_and_not_expanded():
    graph = block(lambda x: 2.0 * x + 1.0, "f32[3, 4]")
    assert op_types(check(graph, floats(3, 4))) == ["Mul", "Add"]


def test_two_expanded_operands_keep_the_shape_of_the_result():
    def both(a, b):
        wide = [ops.expand(v, shape=(2, 3), axes=(0,)) for v in (a, b)]
        return ops.mul(*wide) + ops.full(1.0, F32, (2, 3))

    check(block(both, "f32[3]", "f32[3]"), floats(3), floats(3, seed=1))


def test_columns_are_broadcast_through_unsqueeze():
    def scaled(x, c):
        return ops.mul(x, ops.expand(c, shape=x.shape, axes=(1,)))

    model = check(block(scaled, "f32[3, 4]", "f32[3]"), floats(3, 4), floats(3))
    assert op_types(model) == ["Unsqueeze", "Mul"]


def test_symbolic_sizes_are_computed_from_the_inputs():
    n = symbol("n")

    def shapes(x):
        flat = ops.reshape(x, shape=(n * 6,))
        parts = ops.slice_(flat, start=(1,), stop=(n * 6 - 1,), step=(1,))
        return parts, ops.iota((n, 2 * n), 1, I64), ops.full(0.5, F32, (n, n))

    graph = block(shapes, "f32[n, 2, 3]")
    model = check(graph, floats(4, 2, 3))
    assert_same(run(model, [floats(2, 2, 3)]), evaluate(graph, floats(2, 2, 3)))


def test_a_symbol_known_only_through_a_multiple_is_divided_out():
    n = symbol("n")
    graph = block(lambda x: ops.full(1.0, F32, (n,)), TensorType(F32, (2 * n + 1,)))
    check(graph, floats(9))


def test_positions_of_a_mask_have_a_size_of_their_own():
    def positive(x):
        k = symbol("k")
        found = ops.compact(ops.lt(ops.full_like(0.0, x), x), size=(k,))
        return found, ops.iota((k,), 0, I64)

    graph = block(positive, "f32[5]")
    x = floats(5)
    count = int((x > 0).sum())
    model = export_graph(graph)
    check_model(model)
    assert_same(run(model, [x]), evaluate(graph, x, sizes={"k": count}))


@pytest.mark.parametrize("flag", [True, False])
def test_if_becomes_if(flag):
    then = block(lambda a, b: (a + b, a), "f32[n]", "f32[n]")
    other = block(lambda a, b: (a * b, b), "f32[n]", "f32[n]")
    graph = block(lambda p, a, b: ops.cond(p, then, other, a, b), "bool[]", "f32[n]", "f32[n]")
    assert op_types(check(graph, np.array(flag), floats(3), floats(3, seed=1))) == ["If"]


def test_if_over_a_mask_runs_both_blocks():
    then = block(lambda a: ops.exp(a), "f32[4, 2]")
    other = block(lambda a: ops.neg(a), "f32[4, 2]")
    graph = block(lambda p, a: ops.cond(p, then, other, a), "bool[4]", "f32[4, 2]")
    assert "Where" in op_types(check(graph, np.array([True, False] * 2), floats(4, 2)))


def test_while_becomes_loop():
    def below(i, x):
        return ops.lt(i, ops.full_like(5, i))

    def step(i, x):
        return ops.add(i, ops.full_like(1, i)), ops.mul(x, ops.full_like(2.0, x))

    types = ("i64[]", "f32[n]")
    condition, body = block(below, *types), block(step, *types)
    graph = block(lambda i, x: ops.while_loop(condition, body, i, x), *types)
    assert op_types(check(graph, np.array(2), floats(3))) == ["Less", "Loop"]
    check(graph, np.array(7), floats(3))  # no step at all


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_becomes_scan(reverse):
    def step(h, x, w):
        h = ops.tanh(ops.add(ops.dot(h, w, contract=((0,), (0,))), x))
        return h, ops.mul(h, h)

    body = block(step, "f32[3]", "f32[3]", "f32[3, 3]")
    t = symbol("t")
    graph = block(
        lambda h, xs, w: ops.scan(body, [h], [xs], [w], length=t, reverse=reverse),
        "f32[3]", "f32[t, 3]", "f32[3, 3]",
    )  # fmt: skip
    assert op_types(check(graph, floats(3), floats(6, 3), floats(3, 3))) == ["Scan"]


def test_scan_without_rows_runs_over_a_range():
    body = block(lambda h: (h * 2.0, h), "f32[3]")
    graph = block(lambda h: ops.scan(body, [h], [], length=4), "f32[3]")
    assert op_types(check(graph, floats(3))) == ["Range", "Scan"]


def test_control_flow_within_control_flow_sees_sizes_from_outside():
    n = symbol("n")
    then = block(lambda h: ops.add(h, ops.cast(ops.iota((n,), 0, I64), dtype=F32)), "f32[n]")
    other = block(lambda h: h, "f32[n]")

    def step(h, p):
        (made,) = ops.cond(p, then, other, h)
        return made, made

    body = block(step, "f32[n]", "bool[]")
    graph = block(lambda h, ps: ops.scan(body, [h], [ps], length=3), "f32[n]", "bool[3]")
    check(graph, floats(4), np.array([True, False, True]))


@pytest.mark.parametrize(
    ("shapes", "contract", "batch"),
    [
        (("f32[4]", "f32[4]"), ((0,), (0,)), ((), ())),
        (("f32[4]", "f32[4, 3]"), ((0,), (0,)), ((), ())),
        (("f32[2, 4]", "f32[4]"), ((1,), (0,)), ((), ())),
        (("f32[2, 3, 4]", "f32[4, 5]"), ((2,), (0,)), ((), ())),
        (("f32[2, 3]", "f32[4, 5]"), ((), ()), ((), ())),
        (("f32[2, 3, 4]", "f32[3, 4, 5]"), ((1, 2), (0, 1)), ((), ())),
        (("f32[2, 3, 4]", "f32[5, 4, 6]"), ((2,), (1,)), ((), ())),
        (("f32[2, 7, 3, 4]", "f32[2, 7, 4, 5]"), ((3,), (2,)), ((0, 1), (0, 1))),
        (("f32[3, 2, 4]", "f32[2, 4]"), ((2,), (1,)), ((1,), (0,))),
        (("f32[2, 3, 6, 4]", "f32[4, 2, 5]"), ((3,), (0,)), ((0,), (1,))),
        (("i8[3, 4]", "i8[4, 2]"), ((1,), (0,)), ((), ())),
    ],
)  # fmt: skip
def test_dot_over_any_axes(shapes, contract, batch):
    graph = block(lambda a, b: ops.dot(a, b, contract=contract, batch=batch), *shapes)
    check(graph, *[random_array(parse_type(s), seed=i) for i, s in enumerate(shapes)])


@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_a_convolution(groups):
    attrs = {"stride": (2, 1), "padding": ((1, 0), (0, 1)), "dilation": (1, 2), "groups": groups}
    x, w = parse_type("f32[2, 4, 7, 6]"), parse_type(f"f32[6, {4 // groups}, 3, 2]")
    ct = block(lambda x, w: ops.conv(x, w, **attrs), x, w).results[0].type
    for name, other, size in (("input", w, (7, 6)), ("weight", x, (3, 2))):
        op = getattr(ops, f"conv_grad_{name}")
        graph = block(lambda c, o, op=op, size=size: op(c, o, size=size, **attrs), ct, other)
        check(graph, random_array(ct, seed=1), random_array(other, seed=2))


@pytest.mark.parametrize("mode", ["set", "add", "mul", "max", "min"])
def test_scatter_along_an_inner_axis_by_an_index_of_two_axes(mode):
    graph = block(
        lambda x, i, u: ops.scatter(x, i, u, axis=1, mode=mode),
        "f32[2, 9, 3]", "i32[2, 2]", "f32[2, 2, 2, 3]",
    )  # fmt: skip
    index = np.array([[4, 0], [7, 2]], np.int32)
    check(graph, floats(2, 9, 3), index, floats(2, 2, 2, 3, seed=1))


def test_weights_become_initializers_and_names_are_the_callers():
    with Builder() as b:
        x, w = b.param(parse_type("f32[2, 3]"), "x"), b.param(parse_type("f32[3]"), "fc.weight")
        graph = b.graph([ops.mul(x, ops.expand(w, shape=(2, 3), axes=(0,)))])
    weight = floats(3)
    options = {"weights": {"fc.weight": weight}, "names": Names(["input"], ["mul"])}
    model = export_graph(graph, **options)
    check_model(model)
    assert [i.name for i in model.graph.input] == ["input"]
    assert [o.name for o in model.graph.output] == ["mul"]
    assert [t.name for t in model.graph.initializer] == ["fc.weight"]
    assert_same(run(model, [floats(2, 3, seed=1)]), [floats(2, 3, seed=1) * weight])
    listed = export_graph(graph, weights_as_inputs=True, **options)
    assert [i.name for i in listed.graph.input] == ["input", "fc.weight"]
    empty = export_graph(graph, keep_weights=False, **options)
    check_model(empty)
    assert not empty.graph.initializer


def test_a_result_may_be_an_input_or_stand_there_twice():
    def same(x):
        y = ops.exp(x)
        return x, y, y

    check(block(same, "f32[3]"), floats(3))


def test_nodes_keep_their_source_line():
    with Builder() as b:
        x = b.param(parse_type("f32[3]"), "x")
        b.loc = "mlp.py:12 in forward"
        y = ops.expm1(x)
        graph = b.graph([y])
    for node in export_graph(graph).graph.node:
        assert node.doc_string == "mlp.py:12 in forward"
        assert {(p.key, p.value) for p in node.metadata_props} == {
            ("graphc.op", "expm1"),
            ("graphc.source", "mlp.py:12 in forward"),
        }


def test_a_composite_is_one_node_where_the_opset_has_it():
    graph = block(lambda x: composite.gelu(x, approximate="tanh"), "f32[3]")
    assert op_types(check(graph, floats(3), opset=20)) == ["Gelu"]
    assert "Tanh" in op_types(check(graph, floats(3), opset=18))


def test_what_the_standard_domain_lacks_is_named_with_its_line():
    with Builder(loc="model.py:3 in forward") as b:
        x = b.param(parse_type("f32[3]"), "x")
        graph = b.graph([ops.erfinv(x)])
    with pytest.raises(UnsupportedError, match="erfinv") as caught:
        export_graph(graph)
    assert "model.py:3" in str(caught.value)


def test_a_complex_operand_is_refused():
    with pytest.raises(UnsupportedError, match="Add takes no complex64"):
        export_graph(block(lambda x: x + x, "c64[3]"))


def test_an_opset_out_of_range_is_refused():
    with pytest.raises(UnsupportedError, match="opset 9"):
        export_graph(block(ops.exp, "f32[3]"), opset=9)


def test_weights_may_lie_beside_the_model(tmp_path):
    with Builder() as b:
        x, w = b.param(parse_type("f32[40, 40]"), "x"), b.param(parse_type("f32[40, 40]"), "w")
        graph = b.graph([ops.mul(x, w)])
    weight = floats(40, 40)
    model = export_graph(graph, weights={"w": weight})
    write_model(model, tmp_path / "one.onnx")
    write_model(model, tmp_path / "two.onnx", external_data=True)
    assert (tmp_path / "two.onnx.data").stat().st_size >= weight.nbytes
    assert (tmp_path / "two.onnx").stat().st_size < 2000 < (tmp_path / "one.onnx").stat().st_size
    for name in ("one.onnx", "two.onnx"):
        loaded = onnx.load(str(tmp_path / name))
        assert_same(run(loaded, [weight]), [weight * weight])


def test_weights_that_one_file_cannot_hold_go_beside_it(tmp_path, monkeypatch):
    from graphc.backends.onnx import write

    with Builder() as b:
        x, w = b.param(parse_type("f32[40, 40]"), "x"), b.param(parse_type("f32[40, 40]"), "w")
        graph = b.graph([ops.mul(x, w)])
    model = export_graph(graph, weights={"w": floats(40, 40)})
    monkeypatch.setattr(write, "LARGEST_MESSAGE", 6000)
    with pytest.raises(FormatError, match="one ONNX file holds at most 2 GB"):
        write_model(model, tmp_path / "m.onnx", external_data=False)
    write_model(model, tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").stat().st_size >= 6400
    assert len(model.graph.initializer[0].raw_data) == 6400  # the model itself keeps its weights


def test_an_invalid_model_is_refused():
    model = export_graph(block(ops.exp, "f32[3]"))
    model.graph.node[0].input[0] = "missing"
    with pytest.raises(FormatError, match="not valid"):
        check_model(model)


def test_every_opset_from_18_passes_the_checker():
    def mixed(x):
        y = composite.softmax(x, axis=1)
        return ops.reduce_sum(y, axes=(1,)), ops.lt(x, y), ops.cast(x, dtype=BOOL)

    graph = trace(mixed, parse_type("f32[2, 3]"))
    for opset in range(18, 25):
        check(graph, floats(2, 3), opset=opset)
