"""What frontends know of a backend: a graph in, an `Executable` out.

An executable's `run(inputs, outputs, sizes)` takes addresses of contiguous row-major memory.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..ir.dims import Facts
from ..ir.graph import Graph
from ..ir.interpret import evaluate

if TYPE_CHECKING:
    from ..ir.types import TensorType
    from ..passes.pipeline import Ran

log = logging.getLogger("graphc.verify")


class Executable(Protocol):
    """A compiled graph. Re-entrant: several threads may run one at the same time."""

    #: (result, parameter) that may share memory in `run_over`.
    given: Sequence[tuple[int, int]]

    def run(
        self, inputs: Sequence[int], outputs: Sequence[int], sizes: Sequence[int] = ()
    ) -> None: ...

    def run_over(
        self, inputs: Sequence[int], outputs: Sequence[int], written: list[object]
    ) -> None: ...


class ReferenceExecutable:
    """Runs a graph on the reference interpreter: for tests and numeric verification."""

    given: Sequence[tuple[int, int]] = ()

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, inputs: Sequence[int], outputs: Sequence[int], sizes: Sequence[int] = ()) -> None:
        arrays = [
            view(address, p.type.dtype.numpy, p.type.shape)
            for address, p in zip(inputs, self.graph.params, strict=True)
        ]
        results = evaluate(self.graph, *arrays)
        for address, value, array in zip(outputs, self.graph.results, results, strict=True):
            view(address, value.type.dtype.numpy, value.type.shape)[...] = array

    def run_over(
        self, inputs: Sequence[int], outputs: Sequence[int], written: list[object]
    ) -> None:
        raise AssertionError("nothing is given")


def view(address: int, dtype: np.dtype, shape: tuple) -> np.ndarray:
    """The memory at an address as an array; it does not own the memory."""
    count = 1
    for n in shape:
        count *= n
    if not count:
        return np.empty(shape, dtype)
    raw = (ctypes.c_char * (count * dtype.itemsize)).from_address(address)
    return np.frombuffer(raw, dtype, count).reshape(shape)


def build(
    graph: Graph,
    *,
    name: str = "graph",
    dims: Mapping[str, Facts] | None = None,
    exact: bool = True,
    verify: str | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Executable:
    """The one way from a graph to code that runs: the passes of `core_graph`, then the backend
    that `settings.backend` names.

    dims: facts of symbolic dims. exact: the bits are a function of the graph alone, whatever is
    fused with what. verify: "structure" or "numeric" checks every step (by default
    `settings.verify`): VerifyError names the pass or kernel that broke something. sizes: of the
    symbols in the first run, for autotuning.
    """
    verify = settings.verify if verify is None else verify
    with _collector_waits():
        core = core_graph(graph, dims=dims, verify=verify)
        if not exact and settings.backend != "reference":
            from .llvm.layouts import choose_algorithms

            core = choose_algorithms(core, dims=dims, verify=verify)
        return _compiled(core, exact, name, dims, verify, sizes)


def _compiled(
    core: Graph,
    exact: bool,
    name: str = "graph",
    dims: Mapping[str, Facts] | None = None,
    verify: str | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Executable:
    """The executable of the settings' backend."""
    if settings.backend == "reference":
        return ReferenceExecutable(core)
    if verify is not None:
        from .llvm.verify import compile_verified

        return compile_verified(
            core, numeric=verify == "numeric", name=name, dims=dims, exact=exact, sizes=sizes
        )
    from .llvm.compile import compile_graph

    return compile_graph(core, name=name, dims=dims, exact=exact, sizes=sizes)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A graph whose weights are kept: `early` packs them, `late` is what each call runs.

    early    (weights) -> values of the types `packed`; None where there is nothing to pack
    late     (the other operands, the weights at the places `weights`, packed) -> results
    """

    early: Executable | None
    late: Executable
    packed: list[TensorType]
    weights: list[int]

    def pack(self, addresses: Sequence[int]) -> tuple[list[Any], list[int]]:
        """Packs the weights at these addresses: the memory of the packed ones, and what `late`
        takes after its other operands."""
        from .llvm.memory import heap

        buffers = [heap.alloc(type.dtype.itemsize * math.prod(type.shape)) for type in self.packed]
        made = [buffer.address for buffer in buffers]
        if self.early is not None:
            self.early.run(addresses, made)
        return buffers, [addresses[place] for place in self.weights] + made


def build_split(
    graph: Graph, weights: Sequence[int], *, exact: bool = True, winograd: bool = False
) -> Split:
    """Like `build`, where the parameters `weights` seldom change: what follows from them alone is
    computed ahead, and convolutions get the layout that they like best.

    winograd: they may be computed by that algorithm, which gives other bits.
    """
    from ..passes.hoist import hoist

    with _collector_waits():
        core = core_graph(graph)
        if settings.backend != "reference":
            from .llvm.layouts import choose_layouts

            core = choose_layouts(core, weights, verify=settings.verify, winograd=winograd)
        halves = hoist(core, weights)
        verify = settings.verify
        late = _compiled(halves.late, exact, verify=verify)
        if halves.early is None:
            return Split(None, late, [], halves.weights)
        early = _compiled(halves.early, exact, verify=verify)
        return Split(early, late, [value.type for value in halves.early.results], halves.weights)


def core_graph(
    graph: Graph,
    *,
    dims: Mapping[str, Facts] | None = None,
    verify: str | None = None,
    report: list[Ran] | None = None,
) -> Graph:
    """What a backend is given for a graph: composites expanded, rules applied, loops as scans.

    `report` receives what each pass did and how long it took.
    """
    from ..passes.pipeline import Context, default_pipeline

    context = Context(dims=dims or {})
    if settings.backend != "reference":
        from .llvm.layouts import claim_composites

        claim_composites(context)
    core = default_pipeline(verify).run(graph, context)
    for note in context.notes:
        _note(note)
    if report is not None:
        report += context.report
    return core


def is_numeric(verify: str | None) -> bool:
    """Whether steps are verified numerically; None asks `settings.verify`."""
    return (settings.verify if verify is None else verify) == "numeric"


def check_backward(graph: Graph, wanted: Sequence[int], verify: str | None = None) -> None:
    """Where derivatives of a graph by the parameters `wanted` are taken: checks them, if steps are
    verified numerically."""
    if is_numeric(verify):
        from ..passes.derivative_check import check_derivatives
        from ..passes.numeric import sample_inputs

        _note(check_derivatives(graph, wanted, sample_inputs(graph, {})))


def check_halves(
    joint: Graph, forward: Graph, backward: Graph, n_inputs: int, verify: str | None = None
) -> None:
    """Checks a joint graph that was cut in two, if steps are verified numerically."""
    if is_numeric(verify):
        from ..passes.derivative_check import check_partition
        from ..passes.numeric import sample_inputs

        _note(check_partition(joint, forward, backward, n_inputs, sample_inputs(joint, {})))


def _note(note: str | None) -> None:
    """Says where a verification did not run."""
    if note is not None:
        log.warning("%s", note)


@contextmanager
def _collector_waits() -> Iterator[None]:
    """A compile makes many objects and no garbage cycles: looking for them costs a third of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Settings:
    """backend: "llvm", or "reference" for the numpy interpreter (tests only).
    verify: None, "structure" or "numeric": how the steps of a compile are checked.
    """

    __slots__ = ("backend", "verify")

    def __init__(self) -> None:
        self.backend = os.environ.get("GRAPHC_BACKEND", "llvm")
        self.verify = os.environ.get("GRAPHC_VERIFY") or None


settings = Settings()
