"""The ONNX backend: a graph becomes a ModelProto, and a file.

`export_graph(graph, ...)` writes each op by its `onnx` or `to_onnx` facet; `write_model` checks the
model and saves it, weights above 2 GB in a file of their own.

Imports from graphc.passes and graphc.ir only.
"""

from .exporter import DEFAULT_OPSET, NEWEST_OPSET, OLDEST_OPSET, Names, export_graph
from .write import check_model, write_model
