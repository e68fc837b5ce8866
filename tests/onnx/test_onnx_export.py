"""Each op that has an ONNX mapping, exported from its samples and run, against its meaning."""

import pytest

from graphc.backends.onnx import check_model, export_graph
from graphc.ir.interpret import evaluate

from .onnx_cases import samples
from .onnx_runner import ERF, assert_same, run


@pytest.mark.parametrize("sample", samples(), ids=repr)
def test_op_gives_the_same_in_onnx(sample):
    model = export_graph(sample.graph)
    check_model(model)
    expected = evaluate(sample.graph, *sample.arrays)
    loose = ERF if sample.name in ("erf-f64", "gelu-f64") else 0.0
    assert_same(run(model, sample.arrays), expected, sample.name, loose)
