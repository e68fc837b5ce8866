"""ONNX models -> IR.

`load_module(read_model(path))` gives the module of a model: every op by a loader of its family,
those that the ONNX standard defines by others through that definition; shape computations are
carried out while loading. A model's bytes are not trusted: what is malformed gives a FormatError.

Not here: the callable that users get (graphc.onnx), and export (graphc.backends.onnx).
"""

from . import (
    contraction,
    control_flow,
    creation,
    indexing,
    movement,
    normalization,
    pointwise,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
)
from .loader import SymbolicSizeError
from .model import ModelFile, load_module, output_names, read_model
from .registry import LOADERS, declare_by_facet

declare_by_facet()
