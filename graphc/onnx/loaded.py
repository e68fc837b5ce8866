"""`OnnxModel`: an ONNX file as a callable on tensors."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from graphc.frontends.by_size import at_sizes
from graphc.frontends.locate import reading
from graphc.frontends.onnx_load import (
    ModelFile,
    SymbolicSizeError,
    load_module,
    output_names,
    read_model,
)
from graphc.ir.dims import AnyDim
from graphc.ir.errors import DTypeError
from graphc.ir.graph import Graph, Module, Value, symbols_of
from graphc.ir.interpret import bind_sizes
from graphc.jit.direct import DirectCalls
from graphc.jit.tracing import TracedModule, call_graph
from graphc.tensor import Tensor, from_array, wrap

#: Calls with the same sizes from which on these have code of their own, and how many sizes may.
OFTEN, MOST_SIZES = 3, 4


def load(
    f: str | os.PathLike | bytes, *, shapes: Mapping[str, Sequence[AnyDim]] | None = None
) -> OnnxModel:
    """The model in a file (or in bytes) as a callable that takes tensors in its inputs' order.

    shapes: sizes of inputs, by name, in place of those that the file declares. Sizes that it names
    but does not fix may differ from call to call. FormatError for a malformed file;
    UnsupportedError, one for all, where ops are not supported.
    """
    with reading(f):
        return OnnxModel(read_model(f), shapes)


class OnnxModel(TracedModule):
    """A loaded model. `graph` and `module` are its IR, `weights` its initializers as tensors."""

    def __init__(self, file: ModelFile, shapes: Mapping[str, Sequence[AnyDim]] | None) -> None:
        self._file, self._shapes = file, dict(shapes or {})
        self._loaded: dict[tuple, Module] = {}
        self._needs_sizes: SymbolicSizeError | None = None
        self._direct_calls: dict[tuple, DirectCalls] = {}
        self._seen: Counter[tuple] = Counter()
        stored = {t.name for t in file.proto.graph.initializer}
        self.input_names = [i.name for i in file.proto.graph.input if i.name not in stored]
        self.output_names = output_names(file)
        self.training = False
        self.name = file.name
        self.n_inputs = len(self.input_names)
        self.weights: dict[str, Tensor] = {}
        self.in_structure = {"list": [{"list": [None] * self.n_inputs}, {"dict": {}}]}
        self.out_structure = {"tuple": [None] * len(self.output_names)}
        if len(self.output_names) == 1:
            self.out_structure = None
        try:
            self._module = load_module(file, shapes)
            self._bind(self._module)
        except SymbolicSizeError as error:
            self._needs_sizes = error

    @property
    def graph(self) -> Any:
        """The graph, with a symbol for each size that the file leaves open."""
        return self.module.graphs["main"]

    @property
    def module(self) -> Module:
        if self._needs_sizes is not None:
            raise self._needs_sizes
        return self._module

    def _bind(self, module: Module) -> list[Tensor]:
        """The weights of a module as tensors; one tensor for each name."""
        params = module.graphs["main"].params[self.n_inputs :]
        for param in params:
            if param.name not in self.weights:
                self.weights[param.name] = from_array(module.weights[param.name])
        return [self.weights[param.name] for param in params]

    def _for(self, given: Sequence[Tensor]) -> Module:
        """The module for inputs of these shapes: that of all sizes, or one with these numbers."""
        key = tuple([tuple(t.shape) for t in given])
        found = self._loaded.get(key)
        if found is None:
            if self._needs_sizes is None and _serves(self._module, key):
                found = self._module
            else:
                found = load_module(self._file, dict(zip(self.input_names, key)))
            self._loaded[key] = found
        return found

    def __call__(self, *args: Tensor) -> Any:
        """The output, or a tuple of the outputs."""
        if len(args) != self.n_inputs:
            names = ", ".join(self.input_names)
            raise TypeError(f"the model takes {self.n_inputs} inputs ({names}), not {len(args)}")
        module = self._for(args)
        graph = module.graphs["main"]
        for tensor, param in zip(args, graph.params):
            _check_dtype(tensor, param)
        found = self._run_directly(module, args)
        if found is not None:
            return found[0] if self.out_structure is None else tuple(found)
        operands = [*args, *self._bind(module)]
        outputs = [wrap(cell) for cell in call_graph(graph, [t._read() for t in operands])]
        return outputs[0] if self.out_structure is None else tuple(outputs)

    forward = __call__

    def _run_directly(self, module: Module, args: Sequence[Tensor]) -> list[Tensor] | None:
        """The outputs by code for these sizes alone, which packs the weights ahead; None where the
        call is to be recorded. Sizes that the file leaves open get such code when they come often,
        and so do the first few of them only."""
        key = tuple([tuple(t.shape) for t in args])
        direct = self._direct_calls.get(key)
        if direct is None:
            graph = module.graphs["main"]
            if symbols_of(graph):
                self._seen[key] += 1
                if self._seen[key] < OFTEN or len(self._direct_calls) >= MOST_SIZES:
                    return None
                sizes: dict[str, int] = {}
                bind_sizes(Graph(graph.params[: len(key)], (), ()), key, sizes)
                graph = at_sizes(graph, sizes)
            direct = self._direct_calls[key] = DirectCalls(graph, self._bind(module))
        return direct.run(args)

    def __repr__(self) -> str:
        inputs, outputs = ", ".join(self.input_names), ", ".join(self.output_names)
        return f"OnnxModel({self.name}: {inputs} -> {outputs})"


def _serves(module: Module, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether these shapes give sizes to a module's symbols that fit its facts."""
    graph = module.graphs["main"]
    sizes: dict[str, int] = {}
    inputs = Graph(graph.params[: len(shapes)], (), ())
    bind_sizes(inputs, shapes, sizes)
    facts = [(sizes[name], fact) for name, fact in module.dims.items() if name in sizes]
    return all(f.lo <= n and (f.hi is None or n <= f.hi) for n, f in facts)


def _check_dtype(tensor: Tensor, param: Value) -> None:
    given, wanted = tensor._type, param.type
    if given.dtype is not wanted.dtype:
        raise DTypeError(f"the input {param.name} is {wanted.text}, not {given.text}")
