"""`ONNXProgram`: an exported model, as torch.onnx.export returns it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from onnx import ModelProto

from graphc.backends.onnx import check_model, write_model
from graphc.backends.onnx.emitter import tensor
from graphc.ir.errors import ShapeError
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
        destination: str | os.PathLike | BinaryIO,
        *,
        include_initializers: bool = True,
        keep_initializers_as_inputs: bool = False,
        external_data: bool | None = None,
    ) -> None:
        """Writes the model to a path or an open file.

        external_data: True puts the weights into `<destination>.data`, False keeps them in the
        file, None moves them where the file would exceed 2 GB.
        """
        model = self.model_proto
        if not include_initializers or keep_initializers_as_inputs:
            model = _with_inputs(model, include_initializers)
            check_model(model)
        if isinstance(destination, (str, os.PathLike)):
            write_model(model, destination, external_data)
        else:
            destination.write(model.SerializeToString())

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
        feed = {name: value.detach().numpy() for name, value in zip(names, args)}
        return [from_array(np.asarray(array)) for array in session.run(None, feed)]

    def compute_values(
        self, value_names: Sequence[str], args: Any = (), kwargs: Any = None
    ) -> list[Tensor]:
        """The tensors of these names in the model, for these inputs; ValueError for others."""
        if kwargs:
            raise TypeError("inputs are given in their order, not by keyword")
        from onnx import helper
        from onnx.reference import ReferenceEvaluator

        graph = self.model_proto.graph
        known = {o for node in graph.node for o in node.output} | set(self.input_names)
        for name in value_names:
            if name not in known:
                raise ValueError(f"Value {name!r} not found in the model.")
        model = ModelProto()
        model.CopyFrom(self.model_proto)
        del model.graph.output[:]
        model.graph.output.extend([helper.make_empty_tensor_value_info(n) for n in value_names])
        return self._run(ReferenceEvaluator(model), tuple(args))

    def apply_weights(self, state_dict: Mapping[str, Tensor]) -> None:
        """Puts tensors in place of the initializers of their names; others give a warning."""
        stored = {t.name: t for t in self.model_proto.graph.initializer}
        for name, value in state_dict.items():
            if name not in stored:
                warnings.warn(f"Weight {name!r} not found in the model.", stacklevel=2)
                continue
            array = value.detach().numpy()
            made = tensor(array, name)
            if made.data_type != stored[name].data_type or made.dims != stored[name].dims:
                raise ShapeError(f"the weight {name} is {array.dtype}{list(array.shape)}")
            stored[name].CopyFrom(made)
        self.release()

    def optimize(self) -> None:
        """Nothing is left to do: what is constant was computed by the export."""

    def rename_axes(self, rename_mapping: Mapping[str, str]) -> None:
        """Gives symbolic sizes other names."""
        graph = self.model_proto.graph
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param in rename_mapping:
                    dim.dim_param = rename_mapping[dim.dim_param]

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
    for stored in model.graph.initializer:
        if stored.name not in known:
            info = helper.make_tensor_value_info(stored.name, stored.data_type, stored.dims)
            made.graph.input.append(info)
    if not keep:
        del made.graph.initializer[:]
    return made
