"""torch.onnx: models written as ONNX files, and ONNX files as callables.

    graphc.onnx.export(model, (image,), "model.onnx", dynamic_axes={"image": {0: "batch"}})
    run = graphc.onnx.load("model.onnx");  run(image)

What lives here: torch's parameters and what users hold. What must not: how ops are written and
read (graphc.backends.onnx, graphc.frontends.onnx_load, the ops' own declarations).
"""

from .export import OnnxExporterError, TrainingMode, export, is_in_onnx_export
from .loaded import OnnxModel, load
from .program import ONNXProgram

__all__ = [
    "ONNXProgram", "OnnxExporterError", "OnnxModel", "TrainingMode", "export", "is_in_onnx_export",
    "load",
]  # fmt: skip
