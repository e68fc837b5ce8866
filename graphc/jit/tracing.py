"""jit.trace: a function run once on example inputs, its operations kept as a graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.frontends import execute, modes
from graphc.frontends.locate import user_line, warn_at_user_line
from graphc.frontends.record import (
    Cell,
    Recorder,
    path_graph,
    pop_recorder,
    push_recorder,
    recorder,
    value_of,
)
from graphc.ir.build import dead_code
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Graph, Module, Value
from graphc.ir.types import TensorType
from graphc.passes.clean import clean
from graphc.tensor import Tensor, wrap

from .direct import DirectCalls
from .structure import flatten, restore

_tracing = threading.local()


class TracerWarning(Warning):
    """Something in a traced function that the graph does not hold."""


def is_tracing() -> bool:
    """Whether a function is being traced in this thread."""
    return getattr(_tracing, "depth", 0) > 0


class TracingRecorder(Recorder):
    """Collects a graph; a look computes the value from the example, and warns."""

    def __init__(self) -> None:
        super().__init__(eager=False)
        self.on_look = self._look
        self.on_draw = self._draw
        self.on_numpy, self.operands = self._refuse_numpy, {}
        self.tape.static = True  # the example's sizes are baked in

    def _look(self, cell: Cell) -> None:
        if getattr(_tracing, "quiet", 0) == 0:
            warn_at_user_line(
                "a traced function looks at a value: the graph will hold what follows from the "
                f"example, for all inputs\n  {user_line()}",
                TracerWarning,
            )
        self.compute([cell])

    def _draw(self) -> None:
        warn_at_user_line(
            "a traced function draws random numbers: the graph will hold those of the example "
            f"(trace a module in evaluation mode, with .eval())\n  {user_line()}",
            TracerWarning,
        )

    def _refuse_numpy(self, name: str, cells: Sequence[Cell]) -> None:
        """What numpy makes of constants is a constant; of an operand, the graph cannot hold it."""
        if any([self.depends_on_operands(cell) for cell in cells]):
            raise UnsupportedError(
                f"{name} is computed by numpy and cannot be traced: the graph would hold its "
                "result for the example, for all inputs",
                at=user_line(),
                hint="Call it outside of the traced function and pass its result as an input;\n"
                "graphc.compile computes it anew at each call.",
            )

    def depends_on_operands(self, cell: Cell, without: Any = None) -> bool:
        """Whether a value follows from inputs of the trace, or from a module's tensors.

        without: an op through which dependence does not count.
        """
        if cell.tape is not self.tape:
            return id(cell.buffer) in (self.operands or ())
        values, makers = self.values(), {}
        for step in self.state.path():
            makers.update({value: node for node in step.nodes for value in node.outputs})
        cells = dict(zip(values, self.tape.cells, strict=True))
        waiting, seen = [values[cell.slot]], set()
        while waiting:
            value = waiting.pop()
            node = makers.get(value)
            if node is None and id(cells[value].buffer) in (self.operands or ()):
                return True
            if node is not None and node not in seen and node.op is not without:
                seen.add(node)
                waiting += node.inputs
        return False

    def compute(self, cells: Sequence[Cell]) -> None:
        """Gives cells their values; the recording stays."""
        missing = [cell for cell in cells if cell.buffer is None]
        if not missing:
            return
        live = [cell.slot for cell in missing]
        entry = execute.Entry(self.state, live, with_template=False)
        for cell, buffer in zip(missing, entry.outputs(self.tape), strict=True):
            cell.buffer = buffer
            self.tape.params[cell] = cell.slot  # later steps still use what the graph computes


class Trace:
    """What a traced call recorded: the graph, and which tensors it captured.

    The graph's results are the outputs, and then the new values of tensors that were written:
    `updates` are the places of these among its parameters (the inputs, then the captured ones).
    """

    def __init__(
        self,
        function: Callable,
        args: tuple,
        kwargs: dict[str, Any],
        inner: TracingRecorder | None = None,
    ) -> None:
        self.inputs: list[Tensor] = []
        self.in_structure = flatten([list(args), kwargs], self.inputs)
        inner = TracingRecorder() if inner is None else inner
        stand_ins = [wrap(_copy_of(t)) for t in self.inputs]
        call_args, call_kwargs = restore(self.in_structure, iter(stand_ins))
        buffers = [t._read().buffer for t in stand_ins]
        buffers += [t._storage.cell.buffer for t in _tensors_of(function)]
        inner.operands = {id(buffer): buffer for buffer in buffers if buffer is not None}
        push_recorder(inner)
        _tracing.depth = getattr(_tracing, "depth", 0) + 1
        try:
            slots = [inner.slot_of(t._read()) for t in stand_ins]
            result = function(*call_args, **call_kwargs)
            self.outputs: list[Tensor] = []
            self.out_structure = flatten(result, self.outputs)
            cells = [t._read() for t in self.outputs]
            out_slots = [inner.slot_of(cell) for cell in cells]
            written = self._written(inner, stand_ins, function)
            self._finish(inner, slots, out_slots, written)
            inner.compute(inner.written_cells())
        finally:
            _tracing.depth -= 1
            pop_recorder()

    def _written(
        self, inner: Recorder, stand_ins: Sequence[Tensor], function: Callable
    ) -> list[tuple[int, int]]:
        """(slot before, slot after) of the inputs and module tensors that were written."""
        known = {t._storage for t in stand_ins if not t._chain}
        known.update([t._storage for t in _tensors_of(function)])
        return [
            (inner.slot_of(old), inner.slot_of(storage.cell))
            for storage, old in list(inner.written.items())
            if old is not None and storage in known and storage.cell.tape is inner.tape
        ]

    def _finish(
        self,
        inner: Recorder,
        slots: list[int],
        out_slots: list[int],
        written: list[tuple[int, int]],
    ) -> None:
        values = list(inner.values())
        results = [values[i] for i in (*out_slots, *[after for _, after in written])]
        graph, param_slots = path_graph(inner.state, results)
        cells = inner.tape.cells
        used = {value for node in graph.nodes for value in node.inputs} | set(graph.results)
        used.update([values[before] for before, _ in written])
        captured = [s for s in param_slots if s not in slots and values[s] in used]
        self.captured = [cells[slot] for slot in captured]
        order = [*slots, *captured]
        self.updates = [order.index(before) for before, _ in written]
        self.graph = dead_code(Graph([values[s] for s in order], graph.nodes, graph.results))


def _tensors_of(function: Any) -> list[Tensor]:
    """A module's parameters and buffers."""
    found = []
    for kind in ("named_parameters", "named_buffers"):
        found += [t for _, t in getattr(function, kind, dict)() or () if t is not None]
    return found


def _copy_of(tensor: Tensor) -> Cell:
    """The example as a constant of the outer program: tracing does not differentiate through it."""
    cell = tensor._read()
    buffer = value_of(cell)
    return Cell(cell.type, buffer)


class TracedModule:
    """A traced function or module: a graph with its weights, callable on tensors.

    native: what compiled code needs to call it (`native_call`), after a first call.
    """

    __slots__ = ("__dict__", "__weakref__", "native")

    def __init__(
        self,
        graph: Graph,
        weights: dict[str, Tensor],
        in_structure: Any,
        out_structure: Any,
        name: str = "traced",
        updates: Sequence[int] = (),
    ) -> None:
        """The last results of `graph` are written to the operands whose places are `updates`."""
        self.run_graph, self.updates = graph, list(updates)
        n_outputs = len(graph.results) - len(self.updates)
        if updates:
            graph = dead_code(Graph(graph.params, graph.nodes, graph.results[:n_outputs]))
        self.graph, self.weights, self.name = graph, dict(weights), name
        self.in_structure, self.out_structure = in_structure, out_structure
        self.n_inputs = len(graph.params) - len(weights)
        self.training = False
        plain = [{"list": [None] * self.n_inputs}, {"dict": {}}]
        self._takes_tensors = in_structure == {"list": plain} and not self.updates
        self._direct: DirectCalls | None = None

    @property
    def module(self) -> Module:
        """The graph with its weights as an IR module."""
        arrays = {name: np.array(t._array()) for name, t in self.weights.items()}
        return Module({"forward": self.graph}, {}, arrays, self.name)

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the graph on other inputs of the same types."""
        direct = self._direct
        if self._takes_tensors and not kwargs and len(args) == self.n_inputs:
            single = self.out_structure is None
            if direct is None:
                weights = list(self.weights.values())
                direct = self._direct = DirectCalls(self.run_graph, weights, single)
            found = direct.run(args)
            if found is not None:
                if single:
                    self.native = direct.description
                return found[0] if single else restore(self.out_structure, iter(found))
        given: list[Tensor] = []
        structure = flatten([list(args), kwargs], given)
        if structure != self.in_structure:
            raise TypeError(f"{self.name} is called with other arguments than it was traced with")
        operands = [*given, *self.weights.values()]
        for tensor, param in zip(given, self.graph.params[: self.n_inputs], strict=True):
            _check_type(self.name, tensor._type, param)
        outputs = call_graph(self.run_graph, [t._read() for t in operands])
        n_outputs = len(self.graph.results)
        if self.updates:
            before = modes.set_grad(False)
            try:
                for place, cell in zip(self.updates, outputs[n_outputs:], strict=True):
                    operands[place]._write(wrap(cell))
            finally:
                modes.set_grad(before)
        return restore(self.out_structure, iter([wrap(cell) for cell in outputs]))

    __call__ = forward = _call  # until compiled code takes it over: see `native_call`

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_direct": None}  # a copy compiles for itself

    def parameters(self, recurse: bool = True) -> list[Tensor]:
        return [t for t in self.weights.values() if t.requires_grad]

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        return [(name, t) for name, t in self.weights.items() if t.requires_grad]

    def state_dict(self) -> dict[str, Tensor]:
        return {name: t.detach() for name, t in self.weights.items()}

    def load_state_dict(self, state: dict[str, Tensor], strict: bool = True) -> None:
        from graphc.autograd import no_grad

        missing = [name for name in self.weights if name not in state]
        if missing and strict:
            raise RuntimeError(f"Missing key(s) in state_dict: {', '.join(missing)}")
        with no_grad():
            for name, tensor in self.weights.items():
                if name in state:
                    tensor.copy_(state[name])

    def eval(self) -> TracedModule:
        return self

    def train(self, mode: bool = True) -> TracedModule:
        return self

    def save(self, f: Any) -> None:
        """Writes a .gcx file."""
        from .artifact import save

        save(self, f)

    @property
    def code(self) -> str:
        """The graph's text."""
        return str(self.graph)

    def __repr__(self) -> str:
        return f"TracedModule({self.name}, {len(self.graph.nodes)} nodes)"


DirectCalls.traced = TracedModule


def _check_type(name: str, given: TensorType, param: Value) -> None:
    from graphc.ir.dims import is_static
    from graphc.ir.errors import ShapeError

    wanted = param.type
    if given is wanted:
        return
    fits = given.dtype is wanted.dtype and len(given.shape) == len(wanted.shape)
    if fits and not is_static(wanted.shape):
        return
    raise ShapeError(
        f"{name} was traced with {wanted.text}, and is called with {given.text}",
        hint="Trace it again with an example of that type.",
    )


def call_graph(graph: Graph, cells: Sequence[Cell]) -> list[Cell]:
    """Records a graph as one step of the program."""
    from graphc.frontends import symbolic
    from graphc.ir import ops
    from graphc.ir.errors import GraphcError

    rec = recorder()
    slots = [rec.slot_of(cell) for cell in cells]
    wants = [cell.requires_grad for cell in cells]
    grad = modes.grad_enabled() and any(wants)
    stop = any(wants) and not grad

    def build(*values: Value) -> tuple:
        outputs = symbolic.replay(graph, values)
        if stop:
            outputs = [ops.detach(v) if v.type.dtype.kind in "fc" else v for v in outputs]
        return outputs, [grad and v.type.dtype.kind in "fc" for v in outputs], None

    try:
        return rec.step(("graph", graph, modes.word(), *slots), slots, build)
    except GraphcError:
        if not rec.tape.sizes:
            raise
        rec.go_static()  # the graph's sizes are numbers, the tape's were symbols
        return call_graph(graph, cells)


def trace(func: Any, example_inputs: Any = None, optimize: Any = None, check_trace: bool = True,
          check_inputs: Any = None, check_tolerance: float = 1e-5, strict: bool = True,
          _force_outplace: bool = False, _module_class: Any = None, _compilation_unit: Any = None,
          example_kwarg_inputs: dict | None = None, _store_inputs: bool = True,
          ) -> TracedModule:  # fmt: skip
    """Runs a function or module once on example inputs and keeps its operations as a graph.

    Python control flow, sizes and numbers are baked in as the example had them.
    """
    args = () if example_inputs is None else example_inputs
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    names = _names_of(func)
    traced = Trace(func, args, example_kwarg_inputs or {})
    weights: dict[str, Tensor] = {}
    n_inputs = len(traced.inputs)
    for i, (cell, param) in enumerate(
        zip(traced.captured, traced.graph.params[n_inputs:], strict=True)
    ):
        owner = cell.owner() if cell.owner is not None else None
        name, tensor = names.get(id(cell.buffer), (f"constant.{i}", None))
        tensor = owner if owner is not None else (tensor if tensor is not None else wrap(cell))
        weights[name] = tensor
        param.name = name
    _name_inputs(traced, func)
    graph = clean(traced.graph)
    name = getattr(func, "__name__", type(func).__name__)
    return TracedModule(
        graph, weights, traced.in_structure, traced.out_structure, name, traced.updates
    )


def _name_inputs(traced: Trace, func: Any) -> None:
    import inspect

    try:
        target = func.forward if hasattr(func, "forward") else func
        names = [n for n in inspect.signature(target).parameters if n != "self"]
    except (TypeError, ValueError):
        names = []
    for i, param in enumerate(traced.graph.params[: len(traced.inputs)]):
        param.name = names[i] if len(traced.inputs) <= len(names) else f"input.{i}"


def _names_of(func: Any) -> dict[int, tuple[str, Tensor]]:
    """Names of a module's parameters and buffers, by the memory that they stand in."""
    found: dict[int, tuple[str, Tensor]] = {}
    for kind in ("named_parameters", "named_buffers"):
        for name, tensor in getattr(func, kind, dict)() or ():
            if tensor is not None:
                found[id(value_of(tensor._read()))] = (name, tensor)
    return found


def trace_module(mod: Any, inputs: dict[str, Any], **options: Any) -> TracedModule:
    """Traces the method of a module that `inputs` names."""
    if list(inputs) != ["forward"]:
        raise TypeError("trace_module traces the method forward only")
    return trace(mod, inputs["forward"], **options)
