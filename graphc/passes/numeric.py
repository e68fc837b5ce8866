"""Numeric comparison of a graph before and after a pass, by the reference interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from graphc.ir.dims import Dim, Facts, evaluate_dim
from graphc.ir.errors import GraphcError
from graphc.ir.graph import Graph, Node, Value, symbols_of
from graphc.ir.interpret import as_array, bind_sizes, concrete
from graphc.ir.types import TensorType

SMALL_SIZES = (3, 4, 5, 2, 6)  # of symbolic dims: distinct, so that mixed-up axes show


@dataclass(frozen=True)
class Tolerance:
    """How far a result may move: `units` in the last place of the largest number of its tensor
    (None: not by a bit)."""

    units: float | None

    @staticmethod
    def of(error: str) -> Tolerance:
        """The tolerance of an error class: exact, ulp:n or reorder; ValueError otherwise."""
        if error == "exact":
            return Tolerance(None)
        if error == "reorder":
            return Tolerance(256.0)
        kind, _, n = error.partition(":")
        if kind == "ulp" and n.isdigit():
            return Tolerance(4.0 * int(n))
        raise ValueError(f"an error class is exact, ulp:n or reorder, not {error!r}")

    def first_outside(self, a: np.ndarray, b: np.ndarray) -> int | None:
        """The first place, in row-major order, where b is not what a is; None where it is."""
        if a.shape != b.shape or a.dtype != b.dtype:
            return 0
        if a.dtype.kind == "c":
            parts = [self.first_outside(part(a), part(b)) for part in (np.real, np.imag)]
            return min([at for at in parts if at is not None], default=None)
        if a.dtype.kind in "iub":
            same = a == b
        else:
            same = self._near(a, b)
        return None if same.all() else int(np.argmin(np.ravel(same)))

    def _near(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        eps = float(ml_dtypes.finfo(a.dtype).eps)
        a, b = a.astype(np.float64), b.astype(np.float64)
        same = (a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b)
        if self.units is None:
            return same
        finite = np.abs(a)[np.isfinite(a)]
        room = self.units * eps * (finite.max() if finite.size else 0.0)
        with np.errstate(all="ignore"):
            return same | (np.abs(a - b) <= room)


@dataclass(frozen=True)
class Moved:
    """A result that moved: its place, a value before and after, and the node where it began."""

    result: int
    was: Any
    became: Any
    node: str
    loc: str


@dataclass(frozen=True)
class Samples:
    """Arrays for the parameters, and the sizes of symbolic dims."""

    arrays: tuple[Any, ...]
    sizes: Mapping[str, int]


def sample_inputs(
    graph: Graph,
    dims: Mapping[str, Facts],
    given: Sequence[Any] | None = None,
    small: Sequence[int] = SMALL_SIZES,
) -> Samples:
    """The given arrays, or made-up ones: normal floats, integers 0 and 1, symbolic dims from
    `small`."""
    sizes: dict[str, int] = {}
    if given is not None:
        arrays = [as_array(a, p) for a, p in zip(given, graph.params, strict=True)]
        bind_sizes(graph, [a.shape for a in arrays], sizes)
        return Samples(tuple(arrays), sizes)
    for i, name in enumerate(symbols_of(graph)):
        fact = dims.get(name, Facts())
        size = max(small[i % len(small)], fact.lo)
        sizes[name] = size if fact.hi is None else min(size, fact.hi)
    random = np.random.default_rng(0)
    made = {p: _sample(p.type, sizes, random) for p in graph.params}
    for node in graph.nodes:
        if node.op.name == "searchsorted" and node.inputs[0] in made:
            made[node.inputs[0]] = np.sort(made[node.inputs[0]])
    return Samples(tuple(made.values()), sizes)


def _sample(type: Any, sizes: Mapping[str, int], random: np.random.Generator) -> Any:
    if not isinstance(type, TensorType):
        return {"int": 2, "float": 0.5, "bool": True, "str": ""}.get(type.text)
    shape = [evaluate_dim(d, sizes) if isinstance(d, Dim) else d for d in type.shape]
    if type.dtype.kind in "iub":
        return np.asarray(random.integers(0, 2, size=shape)).astype(type.dtype.numpy)
    numbers = np.asarray(random.normal(size=shape))
    if type.dtype.kind == "c":
        numbers = numbers + 1j * random.normal(size=shape)
    return numbers.astype(type.dtype.numpy)


def first_move(
    before: Graph, after: Graph, samples: Samples, tolerance: Tolerance
) -> Moved | str | None:
    """Where `after` first gives other results than `before`; None where it does not, a text where
    the comparison could not run."""
    try:
        old = all_values(before, samples)
    except (GraphcError, ArithmeticError, IndexError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    new = all_values(after, samples)
    for i, (a, b) in enumerate(zip(before.results, after.results, strict=True)):
        at = tolerance.first_outside(old[a], new[b])
        if at is not None:
            node = _origin(a, old, new, tolerance)
            was, became = np.ravel(old[a])[at], np.ravel(new[b])[at]
            place = f"node {_number(before, node)} ({node.op.name})" if node else "a parameter"
            return Moved(i, was, became, place, node.loc if node else "")
    return None


def all_values(graph: Graph, samples: Samples) -> dict[Value, Any]:
    """The value of every node; effects without outputs are left out."""
    env: dict[Value, Any] = dict(zip(graph.params, samples.arrays, strict=True))
    for node in graph.nodes:
        if node.outputs:
            found = evaluate_node(node, [env[v] for v in node.inputs], samples.sizes)
            env.update(zip(node.outputs, found, strict=True))
    return env


def evaluate_node(node: Node, operands: Sequence[Any], sizes: Mapping[str, int]) -> list[Any]:
    """The results of one node in the dtypes that its types say."""
    attrs = concrete(node.attrs, sizes) if sizes else node.attrs
    with np.errstate(all="ignore"):
        found = node.op.eval_node(node, operands, dict(attrs))
    return [
        np.asarray(array).astype(value.type.dtype.numpy)
        if isinstance(value.type, TensorType)
        else array
        for value, array in zip(node.outputs, found, strict=True)
    ]


def _origin(
    result: Value, old: Mapping[Value, Any], new: Mapping[Value, Any], tolerance: Tolerance
) -> Node | None:
    """The node where a wrong result began: its operands are still computed after the pass, and it
    is not."""
    by_shape: dict[tuple, list[np.ndarray]] = {}
    for array in new.values():
        if isinstance(array, np.ndarray):
            by_shape.setdefault((array.shape, array.dtype), []).append(array)

    def survives(value: Value) -> bool:
        array = old[value]
        if value.node is None or not value.node.inputs or not isinstance(array, np.ndarray):
            return True  # a constant is folded into what reads it
        others = by_shape.get((array.shape, array.dtype), [])
        return any(tolerance.first_outside(array, other) is None for other in others)

    node = result.node
    while node is not None:
        lost = [v.node for v in node.inputs if not survives(v)]
        if not lost:
            break
        node = lost[0]
    return node


def _number(graph: Graph, node: Node | None) -> int:
    return graph.nodes.index(node) if node in graph.nodes else -1
