"""torch.onnx.export: a function, module or traced graph as an ONNX model."""

from __future__ import annotations

import enum
import inspect
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from graphc.backends.onnx import DEFAULT_OPSET, Names, check_model, export_graph
from graphc.frontends.generalize import generalize
from graphc.ir.errors import FormatError, GraphcError, UnsupportedError
from graphc.ir.graph import Graph, Module
from graphc.jit.structure import flatten
from graphc.jit.tracing import TracedModule, trace
from graphc.tensor import Tensor, from_array

from .program import ONNXProgram

_state = threading.local()
_VERIFY_TOLERANCE = 1e-4


class OnnxExporterError(GraphcError, RuntimeError):
    """An export that failed its verification."""


class TrainingMode(enum.IntEnum):
    """In which mode the model is while it is traced."""

    EVAL = 0
    PRESERVE = 1
    TRAINING = 2


def is_in_onnx_export() -> bool:
    """Whether an export is tracing in this thread."""
    return getattr(_state, "depth", 0) > 0


def export(
    model: Any,
    args: Any = (),
    f: str | os.PathLike | BinaryIO | None = None,
    *,
    kwargs: dict[str, Any] | None = None,
    verbose: bool | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset_version: int | None = None,
    dynamo: bool = True,
    external_data: bool = True,
    dynamic_shapes: Any = None,
    custom_translation_table: Any = None,
    report: bool = False,
    optimize: bool = True,
    verify: bool = False,
    profile: bool = False,
    dump_exported_program: bool = False,
    artifacts_dir: str | os.PathLike = ".",
    export_params: bool = True,
    keep_initializers_as_inputs: bool = False,
    dynamic_axes: Any = None,
    training: TrainingMode = TrainingMode.EVAL,
    operator_export_type: Any = None,
    do_constant_folding: bool = True,
    custom_opsets: Any = None,
    export_modules_as_functions: Any = False,
    autograd_inlining: bool = True,
) -> ONNXProgram:
    """Exports a model to ONNX's standard domain, and writes it to `f` where that is given.

    model             a module, function, jit.trace's result, IR module or graph
    args, kwargs      example inputs; the model is traced on them
    dynamic_axes      {input name: {axis: size's name} or [axes]}: these sizes stay open
    dynamic_shapes    the same, in the structure of args or by parameter name; a size is a name or
                      an object with a __name__
    opset_version     18 to 24
    external_data     False keeps weights in the file; else they go to `<f>.data` above 2 GB
    verify            also runs the model in onnxruntime and compares

    The other parameters are torch's; they choose between implementations or reports that graphc
    does not have, and change nothing. Each node keeps its source line (`doc_string`, metadata).
    UnsupportedError names the op and source line that ONNX cannot express.
    """
    if custom_translation_table or custom_opsets:
        raise UnsupportedError("exports use ops of ONNX's standard domain only")
    example, named = _arguments(args, kwargs)
    opset = DEFAULT_OPSET if opset_version is None else opset_version
    source = _Source(model, example, named, training)
    graph, weights = source.graph(dynamic_axes, dynamic_shapes, input_names)
    made = export_graph(
        graph,
        name=source.name,
        names=Names(input_names or (), output_names or ()),
        weights=weights,
        opset=opset,
        weights_as_inputs=keep_initializers_as_inputs,
        keep_weights=export_params,
    )
    check_model(made)
    program = ONNXProgram(made)
    if verify:
        _verify(program, model, source)
    if f is not None:
        program.save(f, external_data=None if external_data else False)
    return program


def _arguments(args: Any, kwargs: dict[str, Any] | None) -> tuple[tuple, dict[str, Any]]:
    """Positional and keyword arguments; a last dict in args holds keywords, as in torch."""
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    named = dict(kwargs or {})
    if args and isinstance(args[-1], dict) and kwargs is None:
        named, args = dict(args[-1]), args[:-1]
    return args, named


class _Source:
    """What is exported, and how to trace it at other sizes."""

    def __init__(self, model: Any, args: tuple, kwargs: dict, training: TrainingMode) -> None:
        self.model, self.args, self.kwargs, self.training = model, args, kwargs, training
        self.name = getattr(model, "__name__", None) or type(model).__name__
        self.tensors: list[Tensor] = []
        self.structure = flatten([list(args), kwargs], self.tensors)

    def graph(
        self, dynamic_axes: Any, dynamic_shapes: Any, input_names: Sequence[str] | None
    ) -> tuple[Graph, dict[str, np.ndarray]]:
        if isinstance(self.model, Graph):
            return self.model, {}
        if isinstance(self.model, Module):
            graphs = self.model.graphs
            name = "forward" if "forward" in graphs else next(iter(graphs))
            return graphs[name], self.model.weights
        if isinstance(self.model, TracedModule):
            if dynamic_axes or dynamic_shapes:
                raise UnsupportedError(
                    "a traced module has the sizes of its trace",
                    hint="Export the module or function itself to keep sizes open.",
                )
            module = self.model.module
            return next(iter(module.graphs.values())), module.weights
        traced = self._trace(self.tensors)
        names = self._names(traced, input_names)
        open_sizes = _dynamic_axes(dynamic_axes, names)
        if dynamic_shapes is not None:
            open_sizes = _dynamic_shapes(dynamic_shapes, self.structure, self.kwargs, self._slots())
        weights = traced.module.weights
        if not open_sizes:
            return traced.graph, weights
        example = {
            symbol: int(self.tensors[i].shape[axis]) for (i, axis), symbol in open_sizes.items()
        }
        return generalize(lambda sizes: self._at(sizes, open_sizes), example), weights

    def _trace(self, tensors: Sequence[Tensor]) -> TracedModule:
        from graphc.jit.structure import restore

        args, kwargs = restore(self.structure, iter(tensors))
        was_training = getattr(self.model, "training", None)
        switch = self.training is TrainingMode.EVAL and was_training is True
        if switch:
            self.model.eval()
        _state.depth = getattr(_state, "depth", 0) + 1
        try:
            return trace(self.model, tuple(args), example_kwarg_inputs=kwargs)
        finally:
            _state.depth -= 1
            if switch:
                self.model.train()

    def _at(self, sizes: Mapping[str, int], open_sizes: Mapping[tuple[int, int], str]) -> Graph:
        """The trace with the examples repeated or cut to other sizes."""
        tensors = list(self.tensors)
        for (i, axis), symbol in open_sizes.items():
            array = tensors[i].detach().numpy()
            if not array.shape[axis]:
                raise UnsupportedError(f"the example's size {symbol} is 0: it must be at least 1")
            places = np.arange(sizes[symbol]) % array.shape[axis]
            tensors[i] = from_array(np.take(array, places, axis))
        return self._trace(tensors).graph

    def _names(self, traced: TracedModule, given: Sequence[str] | None) -> list[str]:
        names = [param.name for param in traced.graph.params[: len(self.tensors)]]
        names[: len(given or ())] = list(given or ())
        return names

    def _slots(self) -> list[str]:
        """The names of the model's parameters."""
        target = getattr(self.model, "forward", self.model)
        return [name for name in inspect.signature(target).parameters if name != "self"]


OpenSizes = dict[tuple[int, int], str]


def _dynamic_axes(given: Any, names: list[str]) -> OpenSizes:
    """(number of the input, axis) -> name of the size. Names of outputs are skipped."""
    found: OpenSizes = {}
    for name, axes in dict(given or {}).items():
        if name not in names:
            continue
        items = axes.items() if isinstance(axes, Mapping) else [(a, None) for a in axes]
        for axis, symbol in items:
            found[names.index(name), int(axis)] = _symbol(symbol, f"{name}_{axis}")
    return found


def _dynamic_shapes(given: Any, structure: Any, kwargs: dict, slots: list[str]) -> OpenSizes:
    """The same from torch's dynamic_shapes, which has the structure of the arguments."""
    found: OpenSizes = {}
    positional, keywords = structure["list"]
    if isinstance(given, Mapping):
        ordered = [given.get(name) for name in slots[: len(positional["list"])]]
        named = {name: given.get(name) for name in kwargs}
    else:
        ordered, named = list(given), {}
    count = 0
    pairs = [*zip(positional["list"], ordered), *((s, named.get(k)) for k, s in
                                                  keywords["dict"].items())]  # fmt: skip
    for inner, spec in pairs:
        count = _walk(inner, spec, count, found)
    return found


def _walk(structure: Any, spec: Any, count: int, found: OpenSizes) -> int:
    """Matches a spec with the tensors of an argument; the number of tensors so far."""
    if structure is None:
        if spec is not None:
            axes = spec.items() if isinstance(spec, Mapping) else enumerate(spec)
            for axis, symbol in axes:
                if symbol is not None and not isinstance(symbol, int):
                    found[count, int(axis)] = _symbol(symbol, f"d{count}_{axis}")
        return count + 1
    ((kind, parts),) = structure.items()
    if kind == "value":
        return count
    keyed = kind == "dict"
    for key, part in parts.items() if keyed else enumerate(parts):
        count = _walk(part, None if spec is None else spec[key], count, found)
    return count


def _symbol(given: Any, default: str) -> str:
    if given is None:
        return "".join(c if c.isalnum() else "_" for c in default)
    name = given if isinstance(given, str) else getattr(given, "__name__", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise FormatError(f"{given!r} is no name for a size")
    return name


def _verify(program: ONNXProgram, model: Any, source: _Source) -> None:
    """OnnxExporterError where the ONNX model gives something else than the model."""
    if isinstance(model, (Graph, Module)):
        raise UnsupportedError("verify needs a model that can be called on tensors")
    outputs: list[Tensor] = []
    flatten(model(*source.args, **source.kwargs), outputs)
    for name, want, found in zip(program.output_names, outputs, program(*source.tensors)):
        a, b = want.detach().numpy(), found.numpy()
        if a.shape != b.shape or not np.allclose(
            a, b, _VERIFY_TOLERANCE, _VERIFY_TOLERANCE, equal_nan=True
        ):
            raise OnnxExporterError(f"the output {name} of the exported model differs")
