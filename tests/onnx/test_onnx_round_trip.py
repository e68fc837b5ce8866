"""Each op that has an ONNX mapping: exported, loaded back, and compared with its meaning."""

import pytest

from graphc.backends.onnx import export_graph
from graphc.frontends.onnx_load import load_module, read_model
from graphc.ir.interpret import evaluate
from graphc.ir.verify import verify

from .onnx_cases import samples
from .onnx_runner import assert_same


@pytest.mark.parametrize("sample", samples(), ids=repr)
def test_op_comes_back_from_onnx(sample):
    model = export_graph(sample.graph)
    module = load_module(read_model(model.SerializeToString()))
    verify(module)
    graph = module.graphs["main"]
    weights = [module.weights[p.name] for p in graph.params[len(sample.arrays) :]]
    expected = evaluate(sample.graph, *sample.arrays)
    assert_same(evaluate(graph, *sample.arrays, *weights), expected, sample.name)
