"""Each op that has an ONNX mapping: exported, loaded back, and compared with its meaning."""

import pytest

from graphc.backends.onnx import export_graph
from graphc.frontends.onnx_load import load_module, read_model
from graphc.ir.errors import UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.verify import verify

from .onnx_cases import samples
from .onnx_runner import assert_same

# ONNX's Slice from computed places has a computed size; dynamic_slice has a fixed one.
ONE_WAY = {"dynamic_slice"}
SAMPLES = [s for s in samples() if s.name.partition("-")[0] not in ONE_WAY]


@pytest.mark.parametrize("sample", SAMPLES, ids=repr)
def test_op_comes_back_from_onnx(sample):
    model = export_graph(sample.graph)
    module = load_module(read_model(model.SerializeToString()))
    verify(module)
    graph = module.graphs["main"]
    weights = [module.weights[p.name] for p in graph.params[len(sample.arrays) :]]
    expected = evaluate(sample.graph, *sample.arrays)
    assert_same(evaluate(graph, *sample.arrays, *weights), expected, sample.name)


def test_a_slice_at_computed_places_is_refused():
    (sample,) = [s for s in samples() if s.name.startswith("dynamic_slice-")]
    with pytest.raises(UnsupportedError, match="starts operand is computed from data"):
        load_module(read_model(export_graph(sample.graph)))
