"""The onnx package's own cases of each op, and its models: loaded and evaluated."""

import importlib
import os
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case import node as node_cases

from graphc.frontends.onnx_load import load_module, read_model
from graphc.ir.errors import UnsupportedError
from graphc.ir.interpret import evaluate
from graphc.ir.verify import verify

# Making these cases takes seconds; the models of the second test pool as well.
SLOW = {"averagepool", "lppool", "maxpool", "image_decoder"}
# The cases of Loop, Not and Range are of sequences, sizes from data or opset 1; the ops
# themselves are tested in test_onnx_load.
NOT_LOADED = {
    "Bernoulli", "BitCast", "Col2Im", "ConvInteger", "DFT", "DeformConv", "Det", "GridSample",
    "Loop", "MaxUnpool", "MelWeightMatrix", "NonMaxSuppression", "Not", "OptionalGetElement",
    "OptionalHasElement", "RandomUniformLike", "Range", "RegexFullMatch", "RoiAlign", "STFT",
    "SequenceInsert", "SequenceMap", "SplitToSequence", "StringConcat", "StringNormalizer",
    "StringSplit", "TensorScatter", "TfIdfVectorizer", "Unique",
}  # fmt: skip
# What loaded ops refuse: each a part of the error's message.
REFUSED = (
    "ONNX's element type", "cubic", "antialias", "tf_crop_and_resize", "training mode",
    "Scan of opset 8", "by blocks", "quantization to f8", "a repeated axis", "is no tensor",
    "indices of MaxPool", "that collects results", "opset 1 is not", "a bound of Range",
    "Optional", "SequenceConstruct", "computed from data",
)  # fmt: skip
# Extremes over no elements are an error in graphc; float8 beyond its range becomes inf or nan.
DIFFERENT = ("empty_set", "FLOAT8", "e4m3", "e5m2")


def _collect():
    cases = {}
    folder = Path(node_cases.__file__).parent
    before = len(node_cases._NodeTestCases)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sorted(p.stem for p in folder.glob("*.py") if p.stem not in SLOW):
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
    for case in node_cases._NodeTestCases[before:]:
        if case.name.endswith("_expanded") or any(n.domain for n in case.model.graph.node):
            continue
        cases.setdefault(case.model.graph.node[-1].op_type, []).append(case)
    return cases


CASES = _collect()


def _array(value):
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def _module(model, inputs):
    """Shapes that a case gives as inputs become constants, where loading needs to know them."""
    try:
        return load_module(read_model(model))
    except UnsupportedError as error:
        if not any(word in str(error) for word in ("computed from data", "not a constant")):
            raise
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    first = 1 if len(inputs) > 1 else 0
    for declared, array in list(zip(model.graph.input, inputs))[first:]:
        fixed.graph.initializer.append(numpy_helper.from_array(np.asarray(array), declared.name))
    return load_module(read_model(fixed))


def _check(model, inputs, outputs):
    module = _module(model, inputs)
    verify(module)
    graph = module.graphs["main"]
    feed = {d.name: a for d, a in zip(model.graph.input, inputs)}
    arrays = [module.weights.get(p.name, feed.get(p.name)) for p in graph.params]
    counts = {s: np.size(outputs[0]) for s in module.dims if s.startswith(("nonzero_", "kept_"))}
    if counts and model.graph.node[0].op_type == "NonZero":
        counts = {s: outputs[0].shape[1] for s in counts}
    elif counts:
        counts = {s: int(np.sum(inputs[1])) for s in counts}
    found = evaluate(graph, *arrays, sizes=counts)
    for got, want in zip(found, outputs, strict=True):
        want = np.asarray(want)
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        loose = 2e-2 if want.dtype.itemsize == 2 and want.dtype.kind not in "iu" else 1e-3
        if want.dtype.kind != "c":
            got, want = got.astype(np.float64), want.astype(np.float64)
        np.testing.assert_allclose(got, want, loose, loose / 100)


@pytest.mark.parametrize("op_type", sorted(set(CASES) - NOT_LOADED))
def test_cases_of_the_standard(op_type):
    ran = 0
    for case in CASES[op_type]:
        if any(word in case.name for word in DIFFERENT):
            continue
        for inputs, outputs in case.data_sets:
            try:
                _check(case.model, list(map(_array, inputs)), list(map(_array, outputs)))
                ran += 1
            except UnsupportedError as error:
                assert any(word in str(error) for word in REFUSED), (case.name, str(error))
            except Exception as error:
                raise AssertionError(f"{case.name}: {error}") from error
    assert ran


@pytest.mark.parametrize("op_type", sorted(set(CASES) & NOT_LOADED))
def test_what_is_not_loaded_is_refused(op_type):
    for case in CASES[op_type]:
        with pytest.raises(UnsupportedError):
            load_module(read_model(case.model))


DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
MODELS = sorted(p.parent for p in DATA.glob("pytorch-*/*/model.onnx"))


@pytest.mark.parametrize("folder", MODELS, ids=lambda p: p.name.removeprefix("test_"))
def test_models_from_pytorch(folder):
    for data in folder.glob("test_data_set_*"):
        arrays = {
            kind: [
                numpy_helper.to_array(onnx.load_tensor(str(data / f"{kind}_{i}.pb")))
                for i in range(len(list(data.glob(f"{kind}_*.pb"))))
            ]
            for kind in ("input", "output")
        }
        _check(onnx.load(str(folder / "model.onnx")), arrays["input"], arrays["output"])


@pytest.mark.parametrize("path", sorted(DATA.glob("light/*.onnx")), ids=lambda p: p.stem)
def test_networks_of_the_model_zoo_load(path):
    module = load_module(read_model(os.fspath(path)))
    verify(module)
    assert [v.type.text.partition("[")[0] for v in module.graphs["main"].results] == ["f32"]
