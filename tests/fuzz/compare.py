"""One program in every way of running it: what disagrees, and what a way does not reach."""

import contextlib
import importlib.util
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphc.backends.llvm.compile import compile_graph
from graphc.backends.llvm.target import TARGETS, runs_here
from graphc.backends.onnx import export_graph
from graphc.ir.diff import structural_hash
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Graph
from graphc.ir.interpret import evaluate
from graphc.ir.text import parse, print_graph
from graphc.ir.verify import verify

from .bounds import Ranged, bounded_run, disagreement, unit_of
from .program import Program

LEVELS = tuple(name for name, target in TARGETS.items() if runs_here(target))
# onnxruntime's functions have classes of their own: some are polynomials of fewer terms.
# Its sigmoid is right to some units of 1, not of the result, and silu multiplies that.
ONNX_SLACK, ONNX_UNITS = 64.0, 4.0
HAS_RUNTIME = importlib.util.find_spec("onnxruntime") is not None


@dataclass
class Report:
    """`reached`: the ways that ran the program; `failures`: way -> what is wrong."""

    reached: set[str] = field(default_factory=set)
    failures: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    determined: float = 1.0  # share of the elements whose bound is finite


def through_text(graph: Graph, arrays, sizes) -> Sequence[np.ndarray]:
    again = parse(print_graph(graph))
    verify(again)
    if structural_hash(again) != structural_hash(graph):
        raise AssertionError("the text form does not keep the structure")
    return interpreted(again, arrays, sizes)


def interpreted(graph: Graph, arrays, sizes) -> Sequence[np.ndarray]:
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluate(graph, *arrays, sizes=sizes)


def compiled(level: str) -> Callable[..., Sequence[np.ndarray]]:
    def run(graph: Graph, arrays, sizes) -> Sequence[np.ndarray]:
        with contextlib.redirect_stdout(io.StringIO()):
            return compile_graph(graph, target=level)(*arrays)

    return run


def through_onnx(graph: Graph, arrays, sizes) -> Sequence[np.ndarray]:
    """In onnxruntime; where it lacks a kernel (some functions of f64), in onnx's own evaluator."""
    model = export_graph(graph)
    feed = dict(zip([i.name for i in model.graph.input], arrays, strict=True))
    found = _in_runtime(model, feed) if HAS_RUNTIME else None
    return _in_reference(model, feed) if found is None else found


def _in_runtime(model, feed):
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, ["CPUExecutionProvider"]
        )
    except NoKernel:
        return None
    return session.run(None, feed)


def _in_reference(model, feed):
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class Erf(OpRun):
        """onnx's own computes in float32 for every element type."""

        def _run(self, x):
            return (np.asarray(np.vectorize(math.erf, otypes=[float])(x)).astype(x.dtype),)

    names = {node.op_type for node in model.graph.node}
    if "Gelu" in names:
        raise UnsupportedError("onnx's evaluator computes Gelu in float32")
    try:
        with np.errstate(all="ignore"):
            return ReferenceEvaluator(model, new_ops=[Erf]).run(None, feed)
    except RuntimeError as error:
        if "is not implemented" in str(error):
            raise UnsupportedError(f"onnx's evaluator: {error}") from None
        raise


WAYS: dict[str, Callable[..., Sequence[np.ndarray]]] = {
    "interpreter": interpreted,
    "text": through_text,
    **{level: compiled(level) for level in LEVELS},
    "onnx": through_onnx,
}


def _largest(array: np.ndarray) -> float:
    """The largest finite magnitude."""
    size = np.abs(np.asarray(array, np.float64 if array.dtype.kind != "c" else np.complex128))
    return float(np.max(size, initial=0.0, where=np.isfinite(size)))


def problem(way: str, graph: Graph, arrays, sizes, expected: Sequence[Ranged]) -> str:
    """What is wrong with one way; empty where nothing is. UnsupportedError passes through."""
    try:
        found = WAYS[way](graph, arrays, sizes)
    except UnsupportedError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    slack, units = 1.0, 0.0
    if way == "onnx":
        slack, units = ONNX_SLACK, ONNX_UNITS * max(1.0, *map(_largest, arrays), 1.0)
    for i, (array, want, value) in enumerate(zip(found, expected, graph.results, strict=True)):
        array = np.asarray(array)
        if array.dtype != value.type.dtype.numpy:
            return f"result {i} is {array.dtype}, not {value.type.text}"
        floor = units * unit_of(value.type.dtype) if want.is_float else 0.0
        wrong = disagreement(array, want, slack, floor, bits=way != "onnx")
        if wrong:
            return f"result {i}, {value.type.text}: {wrong}"
    return ""


def check(program: Program, ways: Sequence[str] = tuple(WAYS)) -> Report:
    """Runs the program in these ways and compares each with the bounded float64 run."""
    report = Report()
    verify(program.graph)
    expected = bounded_run(program.graph, program.arrays)
    sizes = [e.error.size for e in expected]
    finite = sum(int(np.isfinite(e.error).sum()) for e in expected)
    report.determined = finite / max(1, sum(sizes))
    for way in ways:
        try:
            wrong = problem(way, program.graph, program.arrays, program.sizes, expected)
        except UnsupportedError as error:
            report.refused[way] = error.message
            continue
        report.reached.add(way)
        if wrong:
            report.failures[way] = wrong
    return report
