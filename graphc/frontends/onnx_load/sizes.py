"""Shape computations, carried out while loading on integers and symbolic sizes.

Exporters write `x.view(x.size(0), -1)` as Shape, Gather, Concat and Reshape. Each rule here gives
the entries of such an integer tensor, an object array of ints and Dims, or None where they are not
known; the nodes then leave nothing in the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir.dims import Dim, divide_exact, is_static
from graphc.ir.dtype import BOOL, I64, DType
from graphc.ir.types import TensorType

from .item import MOST_KNOWN, Item
from .node import OnnxNode

Rule = Callable[..., "np.ndarray | None"]


def compute(node: OnnxNode, items: Sequence[Item | None]) -> Item | None:
    """The output of a node of shape arithmetic; None where the node is not that."""
    if node.type == "Shape" and items and items[0] is not None:
        return _shape(node, items[0])
    if node.type == "Size" and items and items[0] is not None:
        return _size(items[0])
    rule = RULES.get(node.type)
    if rule is None or not items:
        return None
    symbolic = any(i is not None and i.array is None and i.entries is not None for i in items)
    if not symbolic:
        return None  # plain constants are folded by the op's own meaning
    entries = [None if i is None else _entries(i) for i in items]
    if any(e is None and i is not None for e, i in zip(entries, items)):
        return None
    found = rule(node, *entries)
    if found is None or found.size > MOST_KNOWN:
        return None
    return _item(found, _dtype(node, items))


def _entries(item: Item) -> np.ndarray | None:
    if item.array is not None and item.type.dtype is BOOL:
        return item.array.astype(object)
    return item.entries


def _dtype(node: OnnxNode, items: Sequence[Item | None]) -> DType:
    if node.type == "Equal":
        return BOOL
    if node.type == "Cast":
        from .reading import element_type

        return element_type(node.int("to"))
    last = items[-1] if node.type == "Where" else items[0]
    return last.type.dtype if last is not None else I64


def _item(entries: np.ndarray, dtype: DType) -> Item:
    type = TensorType(dtype, entries.shape)
    if dtype is BOOL:
        return Item(type, entries.astype(bool))
    return Item.of_entries(entries, type)


def _shape(node: OnnxNode, x: Item) -> Item:
    start, end = node.int("start", 0), node.int("end", x.rank)
    return _item(objects(x.shape[slice(*slice(start, end).indices(x.rank))]), I64)


def _size(x: Item) -> Item:
    total: Any = 1
    for d in x.shape:
        total = total * d
    made = np.empty((), object)
    made[()] = total
    return _item(made, I64)


def objects(values: Sequence[Any]) -> np.ndarray:
    """A one-axis object array."""
    made = np.empty(len(values), object)
    made[:] = list(values)
    return made


def _static(array: np.ndarray | None) -> list[int] | None:
    if array is None or not is_static(array.flat):
        return None
    return [int(v) for v in array.ravel()]


def _gather(node: OnnxNode, x: np.ndarray, index: np.ndarray) -> np.ndarray | None:
    places = _static(index)
    if places is None or x.ndim != 1:
        return None
    return np.take(x, np.array(places, np.int64)).reshape(index.shape)


def _concat(node: OnnxNode, *parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, node.int("axis"))


def _axes(node: OnnxNode, given: np.ndarray | None) -> list[int] | None:
    return node.ints("axes", None) if given is None else _static(given)


def _unsqueeze(node: OnnxNode, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray | None:
    places = _axes(node, axes)
    return None if places is None else np.expand_dims(x, tuple(places))


def _squeeze(node: OnnxNode, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray | None:
    places = _axes(node, axes)
    return np.squeeze(x, None if places is None else tuple(places))


def _reshape(node: OnnxNode, x: np.ndarray, shape: np.ndarray) -> np.ndarray | None:
    wanted = _static(shape)
    return None if wanted is None or 0 in wanted else x.reshape(wanted)


def _slice(
    node: OnnxNode,
    x: np.ndarray,
    starts: np.ndarray | None = None,
    ends: np.ndarray | None = None,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> np.ndarray | None:
    if node.opset < 10:
        begin, end, along = node.ints("starts"), node.ints("ends"), node.ints("axes", None)
        step: list[int] | None = None
    else:
        begin, end, along, step = map(_static, (starts, ends, axes, steps))
    if x.ndim != 1 or begin is None or end is None or len(begin) != 1:
        return None
    if along not in (None, [0], [-1]):
        return None
    return x[slice(begin[0], end[0], step[0] if step else 1)]


def _by_element(function: Callable[[Any, Any], Any]) -> Rule:
    def rule(node: OnnxNode, a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
        if _is_large(a, b):
            return None
        a, b = np.broadcast_arrays(a, b)
        made = np.empty(a.shape, object)
        for place in np.ndindex(a.shape):
            value = function(a[place], b[place])
            if value is None:
                return None
            made[place] = value
        return made

    return rule


def _quotient(a: Any, b: Any) -> Any:
    """Exact for symbolic sizes; towards 0 for integers, as ONNX's Div."""
    if isinstance(a, Dim) or isinstance(b, Dim):
        return divide_exact(a, b)
    if b == 0:
        return None
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _same(a: Any, b: Any) -> bool | None:
    """Sizes are not negative, so a symbolic one differs from -1; from 1 it may or may not."""
    if isinstance(a, Dim) or isinstance(b, Dim):
        difference = a - b
        if not isinstance(difference, Dim):
            return difference == 0
        number, size = (a, b) if isinstance(b, Dim) else (b, a)
        negative = isinstance(number, int) and number < 0
        return False if negative and all(c > 0 for _, c in size.terms) else None
    return bool(a == b)


def _larger(a: Any, b: Any) -> Any:
    return _extreme(a, b, max)


def _smaller(a: Any, b: Any) -> Any:
    return _extreme(a, b, min)


def _extreme(a: Any, b: Any, choose: Callable) -> Any:
    if isinstance(a, Dim) or isinstance(b, Dim):
        return a if a == b else None
    return choose(a, b)


def _is_large(*arrays: np.ndarray) -> bool:
    return math.prod(np.broadcast_shapes(*[a.shape for a in arrays])) > MOST_KNOWN


def _where(node: OnnxNode, c: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    if _is_large(c, a, b):
        return None
    c, a, b = np.broadcast_arrays(c, a, b)
    return np.where(c.astype(bool), a, b)


def _product(node: OnnxNode, x: np.ndarray, axes: np.ndarray | None = None) -> np.ndarray | None:
    places = _axes(node, axes)
    if x.ndim != 1 or places not in (None, [0], [-1]):
        return None
    total: Any = 1
    for d in x.tolist():
        total = total * d
    made = np.empty((1,) if node.int("keepdims", 1) else (), object)
    made[...] = total
    return made


RULES: dict[str, Rule] = {
    "Gather": _gather,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Slice": _slice,
    "Identity": lambda node, x: x,
    "Cast": lambda node, x: x if _is_integer(node.int("to")) else None,
    "Add": _by_element(lambda a, b: a + b),
    "Sub": _by_element(lambda a, b: a - b),
    "Mul": _by_element(lambda a, b: a * b),
    "Div": _by_element(_quotient),
    "Max": _by_element(_larger),
    "Min": _by_element(_smaller),
    "Equal": _by_element(_same),
    "Where": _where,
    "ReduceProd": _product,
}


def _is_integer(number: int) -> bool:
    from .reading import element_type

    return element_type(number).kind in "iu"
