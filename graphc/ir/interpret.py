"""The reference interpreter: what a graph means, node by node, in numpy.

It is the oracle of tests and of numeric verification, never the way a user's value is computed
once a backend exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .dims import Dim, divide_exact, evaluate_dim, substitute
from .errors import ShapeError
from .graph import Attrs, Graph, Value
from .types import TensorType


def evaluate(
    graph: Graph, *arrays: Any, sizes: Mapping[str, int] | None = None
) -> list[np.ndarray]:
    """The results of a graph on arrays (or numbers), in the dtypes that the types say.

    `sizes` gives dims; those that a parameter's shape determines are found from the arrays.
    """
    arguments = [as_array(a, p) for a, p in zip(arrays, graph.params, strict=True)]
    env: dict[str, int] = dict(sizes or {})
    bind_sizes(graph, [a.shape for a in arguments], env)
    with np.errstate(all="ignore"):
        return run(graph, arguments, env)


def run(graph: Graph, arguments: Sequence[np.ndarray], sizes: Mapping[str, int]) -> list:
    """Evaluates with every dim known; blocks of control flow come back here."""
    env: dict[Value, Any] = dict(zip(graph.params, arguments, strict=True))
    for node in graph.nodes:
        attrs = concrete(node.attrs, sizes) if _has_dims(node.attrs) else node.attrs
        found = node.op.eval_node(node, [env[value] for value in node.inputs], attrs)
        for value, array in zip(node.outputs, found, strict=True):
            env[value] = _as_type(array, value.type, sizes)
    return [env[value] for value in graph.results]


def as_array(value: Any, param: Value) -> np.ndarray:
    if not isinstance(param.type, TensorType):
        return value
    array = np.asarray(value, dtype=param.type.dtype.numpy)
    if array.ndim != len(param.type.shape):
        raise ShapeError(f"%{param.name} is {param.type.text}, not of shape {array.shape}")
    return array


def _as_type(array: Any, type: Any, sizes: Mapping[str, int]) -> Any:
    if not isinstance(type, TensorType):
        return array
    array = np.asarray(array)
    if array.dtype != type.dtype.numpy:
        array = array.astype(type.dtype.numpy)
    expected = tuple([d if d.__class__ is int else evaluate_dim(d, sizes) for d in type.shape])
    if array.shape != expected:
        raise ShapeError(f"evaluated to shape {array.shape}, but the type is {type.text}")
    return array


@lru_cache(maxsize=65536)
def _has_dims(attrs: Attrs) -> bool:
    return any(_holds_dim(value) for value in attrs.values())


def _holds_dim(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_holds_dim, value))
    return isinstance(value, Dim)


def concrete(attrs: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Attributes with sizes put in for dims."""
    return {key: _concrete(value, sizes) for key, value in attrs.items()}


def _concrete(value: Any, sizes: Mapping[str, int]) -> Any:
    if isinstance(value, Dim):
        return evaluate_dim(value, sizes)
    if isinstance(value, tuple):
        return tuple([_concrete(item, sizes) for item in value])
    return value


def bind_sizes(graph: Graph, shapes: Sequence[Sequence[int]], sizes: dict[str, int]) -> None:
    """Finds the symbols of the parameters' dims from actual shapes; ShapeError where none fits."""
    pending: list[tuple[Any, int, str]] = []
    for param, shape in zip(graph.params, shapes, strict=True):
        if isinstance(param.type, TensorType):
            if len(shape) != len(param.type.shape):
                raise ShapeError(f"%{param.name} is {param.type.text}, not of shape {tuple(shape)}")
            pending += [
                (d, int(n), f"%{param.name}: {param.type.text} with shape {tuple(shape)}")
                for d, n in zip(param.type.shape, shape, strict=True)
            ]
    while pending:
        rest = []
        for d, n, where in pending:
            known = substitute(d, sizes)
            if isinstance(known, int):
                if known != n:
                    raise ShapeError(f"a size is {n}, not {known} ({d}), in {where}")
            elif not _solve(known, n, sizes, where):
                rest.append((d, n, where))
        if len(rest) == len(pending):
            raise ShapeError(f"the sizes do not determine {rest[0][0]} in {rest[0][2]}")
        pending = rest


def _solve(d: Dim, n: int, sizes: dict[str, int], where: str) -> bool:
    """Solves c * s + k = n for a dim that is linear in one symbol."""
    if len(d.symbols) != 1:
        return False
    name = d.symbols[0]
    terms = dict(d.terms)
    slope, constant = terms.pop((name,), 0), terms.pop((), 0)
    if terms or not slope:
        return False
    size = divide_exact(n - constant, slope)
    if size is None or not isinstance(size, int) or size < 0:
        raise ShapeError(f"no size of {name} makes {d} equal {n} in {where}")
    sizes[name] = size
    return True
