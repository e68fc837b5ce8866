"""`ONNXProgram`: an exported model, as torch.onnx.export returns it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from onnx import ModelProto

from graphc.backends.onnx import check_model, write_model
from graphc.ir.errors import FormatError
from graphc.tensor import Tensor, from_array


class ONNXProgram:
    """`model_proto` is the ONNX model; calling the program runs it in onnxruntime, where that is
    installed, else in onnx's reference evaluator."""

    def __init__(self, model_proto: ModelProto) -> None:
        self.model_proto = model_proto
        self._session: Any = None

    @property
    def input_names(self) -> list[str]:
        stored = {t.name for t in self.model_proto.graph.initializer}
        return [i.name for i in self.model_proto.graph.input if i.name not in stored]

    @property
    def output_names(self) -> list[str]:
        return [o.name for o in self.model_proto.graph.output]

    def save(
        self,
        destination: str | os.PathLike,
        *,
        include_initializers: bool = True,
        keep_initializers_as_inputs: bool = False,
        external_data: bool | None = None,
    ) -> None:
        """Writes the model to a file.

        external_data: True puts the weights into `<destination>.data`, False keeps them in the
        file, None moves them where the file would exceed 2 GB.
        """
        model = self.model_proto
        if not include_initializers or keep_initializers_as_inputs:
            model = _with_inputs(model, include_initializers)
            check_model(model)
        write_model(model, destination, external_data)

    def initialize_inference_session(self, initializer: Any = None) -> None:
        """Opens the session that calls use; `initializer` makes one of the model's bytes."""
        if initializer is not None:
            self._session = initializer(self.model_proto.SerializeToString())
            return
        try:
            import onnxruntime
        except ImportError:
            self._session = self._reference()
            return
        self._session = onnxruntime.InferenceSession(
            self.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def _reference(self) -> Any:
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(self.model_proto)

    def __call__(self, *args: Tensor) -> list[Tensor]:
        """The outputs for these inputs."""
        if self._session is None:
            self.initialize_inference_session()
        return self._run(self._session, args)

    def call_reference(self, *args: Tensor) -> list[Tensor]:
        """The outputs, computed by onnx's reference evaluator."""
        return self._run(self._reference(), args)

    def _run(self, session: Any, args: tuple[Tensor, ...]) -> list[Tensor]:
        names = self.input_names
        if len(args) != len(names):
            raise TypeError(f"the model takes {len(names)} inputs, not {len(args)}")
        feed = {name: tensor.detach().numpy() for name, tensor in zip(names, args)}
        return [from_array(np.asarray(array)) for array in session.run(None, feed)]

    def release(self) -> None:
        """Closes the session."""
        self._session = None

    def __repr__(self) -> str:
        graph = self.model_proto.graph
        inputs, outputs = ", ".join(self.input_names), ", ".join(self.output_names)
        return f"ONNXProgram({inputs} -> {outputs}: {len(graph.node)} nodes)"


def _with_inputs(model: ModelProto, keep: bool) -> ModelProto:
    """The model with its initializers listed as inputs, and without them where not `keep`."""
    from onnx import helper

    made = ModelProto()
    made.CopyFrom(model)
    known = {i.name for i in made.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in known:
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            made.graph.input.append(info)
    if not keep:
        del made.graph.initializer[:]
    if not made.graph.output:
        raise FormatError("the model has no outputs")
    return made
