"""Files that are not what they should be: an error of at most eight lines, and nothing else."""

import os
import random

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphc.backends.onnx import export_graph
from graphc.frontends.onnx_load import load_module, read_model
from graphc.ir import composite, ops
from graphc.ir.build import Builder
from graphc.ir.dims import symbol
from graphc.ir.errors import MAX_LINES, FormatError, UnsupportedError
from graphc.ir.types import parse_type
from graphc.ir.verify import verify

from .onnx_cases import block

MUTANTS = 200


def _network():
    """Weights, a convolution, pooling, a norm, shapes of a symbolic size, a scan."""
    with Builder() as b:
        x = b.param(parse_type("f32[n, 3, 8, 8]"), "image")
        w, v = b.param(parse_type("f32[4, 3, 3, 3]"), "w"), b.param(parse_type("f32[256, 5]"), "v")
        y = ops.conv(x, w, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1))
        y = ops.reshape(composite.relu(y), shape=(symbol("n"), 256))
        y = composite.softmax(ops.dot(y, v, contract=((1,), (0,))), axis=1)
        step = block(lambda h, r: (ops.tanh(h + r), h), "f32[5]", "f32[5]")
        last, rows = ops.scan(step, [ops.full(0.0, y.dtype, (5,))], [y], length=symbol("n"))
        graph = b.graph([last, rows])
    rng = np.random.default_rng(0)
    weights = {
        p.name: rng.normal(size=p.type.shape).astype(np.float32) for p in graph.params if p is not x
    }
    return export_graph(graph, weights=weights)


def _imported():
    """Loop, If, LSTM, Constant and a function, as other exporters write them."""
    info = helper.make_tensor_value_info
    node = helper.make_node
    f, i, t = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    body = helper.make_graph(
        [node("Identity", ["go"], ["again"]), node("Add", ["h", "one"], ["h2"])], "body",
        [info("i", i, []), info("go", t, []), info("h", f, [2, 3])],
        [info("again", t, []), info("h2", f, [2, 3])],
    )  # fmt: skip
    sides = [
        helper.make_graph([node(kind, ["looped"], [kind])], kind, [], [info(kind, f, [2, 3])])
        for kind in ("Neg", "Exp")
    ]
    nodes = [
        node("Constant", [], ["count"], value=numpy_helper.from_array(np.array(4))),
        node("Constant", [], ["one"], value_float=1.0),
        node("Loop", ["count", "", "x"], ["looped"], body=body),
        node("If", ["p"], ["y"], then_branch=sides[0], else_branch=sides[1]),
        node("Shape", ["y"], ["s"]),
        node("Concat", ["front", "s"], ["s3"], axis=0),
        node("Reshape", ["y", "s3"], ["y3"]),
        node("LSTM", ["y3", "w", "r"], ["out"], hidden_size=2),
        node("Doubled", ["out"], ["z"], domain="own"),
    ]
    double = helper.make_function(
        "own", "Doubled", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )  # fmt: skip
    weights = [
        numpy_helper.from_array(np.ones((1, 8, 3), np.float32), "w"),
        numpy_helper.from_array(np.ones((1, 8, 2), np.float32), "r"),
        numpy_helper.from_array(np.array([1]), "front"),
    ]
    inputs = [info("x", f, [2, 3]), info("p", t, [])]
    graph = helper.make_graph(nodes, "g", inputs, [info("z", f, None)], weights)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=imports, functions=[double], ir_version=10)


MODELS = {"network": _network, "imported": _imported}


def _mutant(data, rng):
    """Bytes changed, cut out, doubled, or the end cut off."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(made))
        kind = rng.randrange(6)
        if kind <= 2:
            made[at] = rng.randrange(256)
        elif kind == 3:
            del made[at : at + rng.randrange(1, 8)]
        elif kind == 4:
            made[at:at] = made[at : at + rng.randrange(1, 16)]
        else:
            made[at] ^= 1 << rng.randrange(8)
    if rng.randrange(10) == 0:
        del made[rng.randrange(len(made)) :]
    return bytes(made)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_mutants_load_or_are_refused(name):
    data = MODELS[name]().SerializeToString()
    verify(load_module(read_model(data)))
    rng = random.Random(20)
    refused = 0
    for number in range(MUTANTS):
        mutant = _mutant(data, rng)
        try:
            verify(load_module(read_model(mutant)))
        except (FormatError, UnsupportedError) as error:
            refused += 1
            assert len(str(error).splitlines()) <= MAX_LINES, number
        except Exception as error:
            raise AssertionError(f"mutant {number}: {type(error).__name__}: {error}") from error
    assert 0 < refused < MUTANTS


@pytest.mark.parametrize("data", [b"", b"\x00" * 64, b"PK\x03\x04 not a model", os.urandom(256)])
def test_bytes_that_are_no_model_are_refused(data):
    with pytest.raises(FormatError, match="not an ONNX file"):
        read_model(data)


def _external(location, **entries):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g",
        [info("x", TensorProto.FLOAT, [4])], [info("y", TensorProto.FLOAT, [4])], [tensor],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def _load_from(folder, proto):
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return load_module(read_model(folder / "m.onnx"))


def test_weights_beside_the_model_are_read(tmp_path):
    (tmp_path / "sub").mkdir()
    np.arange(8, dtype=np.float32).tofile(tmp_path / "sub" / "w.bin")
    module = _load_from(tmp_path, _external("sub/w.bin", offset=8, length=16))
    assert module.weights["w"].tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "location",
    [
        "",
        "/etc/passwd",
        "../secret",
        "a/../../secret",
        "C:\\secret",
        "..\\secret",
        "\\\\h\\s",
        "a\0",
    ],
)
def test_weights_outside_the_folder_are_refused(tmp_path, location):
    inside = tmp_path / "models"
    inside.mkdir()
    np.zeros(4, np.float32).tofile(tmp_path / "secret")
    with pytest.raises(FormatError, match="not within the model's folder"):
        _load_from(inside, _external(location))


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    inside = tmp_path / "models"
    inside.mkdir()
    np.zeros(4, np.float32).tofile(tmp_path / "secret")
    (inside / "w.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(FormatError, match="link out of the model's folder"):
        _load_from(inside, _external("w.bin"))


@pytest.mark.parametrize(
    "entries", [{"offset": 8}, {"offset": -1}, {"length": 8}, {"offset": "x"}, {"length": 2**62}]
)
def test_places_beyond_the_file_are_refused(tmp_path, entries):
    np.zeros(4, np.float32).tofile(tmp_path / "w.bin")
    with pytest.raises(FormatError):
        _load_from(tmp_path, _external("w.bin", **entries))


def test_a_missing_file_of_weights_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"no file 'gone\.bin'"):
        _load_from(tmp_path, _external("gone.bin"))


def test_weights_in_files_need_a_folder():
    with pytest.raises(FormatError, match="was not read from one"):
        load_module(read_model(_external("w.bin").SerializeToString()))


@pytest.mark.parametrize(
    ("dims", "raw"), [([2], b"\0" * 4), ([-1], b""), ([2**62], b""), ([1] * 40, b"\0" * 4)]
)
def test_tensors_whose_bytes_do_not_fit_are_refused(dims, raw):
    proto = _external("w.bin")
    tensor = proto.graph.initializer[0]
    tensor.CopyFrom(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=raw))
    with pytest.raises(FormatError, match="the tensor 'w'"):
        load_module(read_model(proto))


def test_functions_that_call_each_other_are_refused():
    node = helper.make_node
    calls = [
        helper.make_function("own", a, ["x"], ["y"], [node(b, ["x"], ["y"], domain="own")],
                             [helper.make_opsetid("own", 1)])
        for a, b in (("A", "B"), ("B", "A"))
    ]  # fmt: skip
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node("A", ["x"], ["y"], domain="own")], "g",
        [info("x", TensorProto.FLOAT, [4])], [info("y", TensorProto.FLOAT, [4])],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    with pytest.raises(FormatError, match="nested more than"):
        load_module(read_model(helper.make_model(graph, opset_imports=imports, functions=calls)))
