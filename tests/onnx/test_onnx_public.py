"""graphc.onnx: torch's parameters, dynamic sizes, loaded models as callables."""

import io

import numpy as np
import onnx
import pytest

import graphc as torch
import graphc.onnx
from graphc import nn
from graphc.ir.errors import DTypeError, FormatError, UnsupportedError
from graphc.ir.interpret import evaluate

from .onnx_runner import run


class Net(nn.Module):
    """A convolution, a norm, pooling, dropout and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.drop = nn.Dropout()
        self.head = nn.Linear(4 * 9, 5)

    def forward(self, image):
        x = self.body(image)
        return self.head(self.drop(x.view(x.size(0), -1)))


def image(n=2, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, 2, 6, 6)).astype(np.float32))


def dims_of(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), 1e-4, 1e-4)


def test_export_traces_in_eval_mode_and_keeps_names(tmp_path):
    net = Net()
    program = graphc.onnx.export(
        net, (image(),), tmp_path / "net.onnx", input_names=["x"], output_names=["scores"]
    )
    assert net.training
    assert (program.input_names, program.output_names) == (["x"], ["scores"])
    kinds = [node.op_type for node in program.model_proto.graph.node]
    assert kinds[:4] == ["Conv", "BatchNormalization", "Relu", "MaxPool"]
    assert "Dropout" not in kinds
    names = {t.name for t in program.model_proto.graph.initializer}
    assert {"body.0.weight", "head.bias"} <= names
    net.eval()
    close(program(image())[0], net(image()))
    assert onnx.load(str(tmp_path / "net.onnx")) == program.model_proto


def test_source_lines_are_in_the_file():
    program = graphc.onnx.export(Net(), (image(),))
    lines = [node.doc_string for node in program.model_proto.graph.node]
    assert all("test_onnx_public.py:" in line for line in lines)


@pytest.mark.parametrize(
    "options",
    [
        {"dynamic_axes": {"image": {0: "batch"}}},
        {"dynamic_shapes": ({0: "batch"},)},
        {"dynamic_shapes": {"image": {0: "batch"}}},
        {"dynamic_shapes": (("batch", None, None, None),)},
    ],
)
def test_open_sizes(options):
    net = Net().eval()
    model = graphc.onnx.export(net, (image(),), **options).model_proto
    assert dims_of(model.graph.input[0]) == ["batch", 2, 6, 6]
    assert dims_of(model.graph.output[0]) == ["batch", 5]
    x = image(7, seed=1)
    (found,) = run(model, [x.numpy()])
    traced = torch.jit.trace(net, (x,))
    module = traced.module
    weights = [module.weights[p.name] for p in traced.graph.params[1:]]
    np.testing.assert_allclose(found, evaluate(traced.graph, x.numpy(), *weights)[0], 1e-4, 1e-4)


def test_keyword_and_nested_arguments():
    def function(pair, scale=None, shift=0.5):
        return {"sum": pair[0] + pair[1] * scale, "rest": [pair[0] - shift]}

    a, b, s = [torch.tensor([1.0, 2.0]) * k for k in (1, 2, 3)]
    program = graphc.onnx.export(function, ([a, b],), kwargs={"scale": s})
    found = program.call_reference(a, b, s)
    close(found[0], a + b * s)
    close(found[1], a - 0.5)


def test_a_size_that_changes_the_operations_is_refused():
    def function(x):
        return x.exp() if x.shape[0] > 4 else x.neg()

    with pytest.raises(UnsupportedError, match="operations differ with the sizes"):
        graphc.onnx.export(function, (torch.ones(2),), dynamic_axes={"x": {0: "n"}})


def test_a_training_step_keeps_its_batch_open():
    def step(x, labels, weight, momentum):
        weight = weight.detach().requires_grad_()
        loss = nn.functional.cross_entropy(torch.relu(x) @ weight, labels)
        (grad,) = torch.autograd.grad(loss, [weight])
        momentum = 0.9 * momentum + grad
        return loss, weight - 0.1 * momentum, momentum

    def inputs(n):
        x = torch.tensor(np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32))
        return x, torch.arange(n) % 3, torch.ones(4, 3), torch.zeros(4, 3)

    axes = {"x": {0: "n"}, "labels": {0: "n"}}
    program = graphc.onnx.export(step, inputs(4), dynamic_axes=axes)
    for found, expected in zip(program(*inputs(9)), step(*inputs(9))):
        close(found, expected)


def test_verify_compares_with_a_runtime():
    graphc.onnx.export(Net().eval(), (image(),), verify=True)


def test_weights_beside_the_file(tmp_path):
    x = torch.ones(2, 64)
    program = graphc.onnx.export(nn.Linear(64, 32), (x,))
    program.save(tmp_path / "m.onnx", external_data=True)
    assert (tmp_path / "m.onnx.data").stat().st_size >= 64 * 32 * 4
    close(graphc.onnx.load(tmp_path / "m.onnx")(x), program(x)[0])


def test_an_open_file_is_written():
    file = io.BytesIO()
    program = graphc.onnx.export(Net(), (image(),), file)
    close(graphc.onnx.load(file.getvalue())(image()), program(image())[0])


def test_a_name_for_a_size_must_be_one():
    with pytest.raises(FormatError, match="is no name for a size"):
        graphc.onnx.export(Net(), (image(),), dynamic_axes={"image": {0: "a b"}})


def test_is_in_onnx_export_while_tracing():
    seen = []

    def function(x):
        seen.append(graphc.onnx.is_in_onnx_export())
        return x + 1

    graphc.onnx.export(function, (torch.ones(2),))
    assert seen == [True]
    assert not graphc.onnx.is_in_onnx_export()


def test_a_loaded_model_takes_tensors_in_order(tmp_path):
    net = Net().eval()
    path = tmp_path / "net.onnx"
    graphc.onnx.export(net, (image(),), path, dynamic_axes={"image": {0: "batch"}})
    loaded = graphc.onnx.load(path)
    assert loaded.input_names == ["image"]
    assert loaded.graph.params[0].type.text == "f32[batch, 2, 6, 6]"
    for n in (2, 3):
        x = image(n, seed=n)
        close(loaded(x), torch.jit.trace(net, (x,))(x))


def test_a_loaded_model_has_weights_that_can_be_replaced(tmp_path):
    layer = nn.Linear(4, 30)
    graphc.onnx.export(layer, (torch.ones(2, 4),), tmp_path / "m.onnx")
    loaded = graphc.onnx.load(tmp_path / "m.onnx")
    close(loaded(torch.ones(2, 4)), layer(torch.ones(2, 4)))
    state = {name: torch.zeros_like(t) for name, t in loaded.state_dict().items()}
    loaded.load_state_dict(state)
    close(loaded(torch.ones(2, 4)), torch.zeros(2, 30))


def test_wrong_inputs_of_a_loaded_model():
    data = graphc.onnx.export(lambda x, y: x + y, (torch.ones(2), torch.ones(2)))
    loaded = graphc.onnx.load(data.model_proto.SerializeToString())
    with pytest.raises(TypeError, match=r"takes 2 inputs \(x, y\), not 1"):
        loaded(torch.ones(2))
    with pytest.raises(DTypeError, match="the input y is"):
        loaded(torch.ones(2), torch.ones(2, dtype=torch.int64))


def test_a_model_that_loads_only_with_numbers_runs():
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "y"], ["z"])], "g",
        [info("x", kind, ["n", 3]), info("y", kind, ["m", 3])], [info("z", kind, None)],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    loaded = graphc.onnx.load(model.SerializeToString())
    close(loaded(torch.ones(4, 3), torch.ones(1, 3)), torch.full((4, 3), 2.0))
    with pytest.raises(UnsupportedError, match="Give the sizes"):
        loaded.graph


def test_a_program_can_be_changed_and_looked_into():
    layer, x = nn.Linear(4, 3), torch.ones(2, 4)
    program = graphc.onnx.export(layer, (x,), dynamic_axes={"input": {0: "n"}})
    program.rename_axes({"n": "batch"})
    assert dims_of(program.model_proto.graph.input[0]) == ["batch", 4]
    inner = program.model_proto.graph.node[0].output[0]
    close(program.compute_values([inner], (x,))[0], layer(x))
    program.apply_weights({"weight": torch.zeros(3, 4), "bias": torch.ones(3)})
    close(program(x)[0], torch.ones(2, 3))
    with pytest.warns(UserWarning, match="'other' not found"):
        program.apply_weights({"other": x})
    with pytest.raises(ValueError, match="'nothing' not found"):
        program.compute_values(["nothing"], (x,))
