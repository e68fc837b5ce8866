"""Runs ONNX models in onnxruntime, and where it lacks a kernel in onnx's reference evaluator."""

import importlib.util

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from graphc.ir.dtype import from_numpy

RUNTIME = importlib.util.find_spec("onnxruntime") is not None
# onnx's reference evaluator computes erf in float32 for every element type.
ERF = 1e-6
_TOLERANCE = {"f64": 1e-9, "f32": 2e-5, "f16": 4e-3, "bf16": 3e-2}
_ML_DTYPES = ("bf16", "f8e4m3", "f8e5m2")


def run(model, arrays):
    """The outputs of a model on arrays, in the order of its inputs."""
    names = [i.name for i in model.graph.input]
    feed = dict(zip(names, arrays, strict=True))
    if RUNTIME and not any(from_numpy(a.dtype).name in _ML_DTYPES for a in arrays):
        found = _run_in_runtime(model, feed)
        if found is not None:
            return found
    gap = None if RUNTIME else _gap_of_the_evaluator(model.graph)
    if gap is not None:
        pytest.skip(f"onnx's reference evaluator has no {gap}; onnxruntime is not installed")
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(model).run(None, feed)


def _gap_of_the_evaluator(graph):
    """What a graph needs that onnx's reference evaluator lacks, or gets wrong; else None."""
    for node in graph.node:
        attributes = {a.name: a for a in node.attribute}
        if node.op_type == "Scan":
            for name in ("scan_input_directions", "scan_output_directions", "scan_input_axes"):
                if name in attributes and any(attributes[name].ints):
                    return f"Scan with {name}"
        if node.op_type == "ConvTranspose" and "group" in attributes and attributes["group"].i > 1:
            return "ConvTranspose in groups"
        if node.op_type == "LSTM" and len(node.input) > 4 and node.input[4]:
            return "LSTM with lengths"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found = _gap_of_the_evaluator(attribute.g)
                if found is not None:
                    return found
    return None


def _run_in_runtime(model, feed):
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"]
        )
    except NoKernel:
        return None
    return session.run(None, feed)


def assert_same(found, expected, what="", at_least=0.0):
    """Equal shapes and dtypes; floats within a few ulp of their precision, nan equal to nan."""
    assert len(found) == len(expected)
    for got, want in zip(found, expected):
        got, want = np.asarray(got), np.asarray(want)
        assert got.shape == want.shape, what
        assert got.dtype == want.dtype, what
        name = from_numpy(want.dtype).name
        if name in _TOLERANCE:
            tolerance = max(_TOLERANCE[name], at_least)
            np.testing.assert_allclose(
                got.astype(np.float64), want.astype(np.float64), tolerance, tolerance, err_msg=what
            )
        else:
            np.testing.assert_array_equal(got, want, err_msg=what)
