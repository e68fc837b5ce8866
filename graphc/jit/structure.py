"""Nested arguments and results as flat lists of tensors, and back.

A structure is JSON: null for a tensor, {"list": [...]}, {"tuple": [...]}, {"dict": {...}},
{"value": x} for anything that JSON holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from graphc.ir.errors import FormatError
from graphc.tensor import Tensor


def flatten(value: Any, leaves: list[Tensor]) -> Any:
    """The structure of a value; its tensors are appended to `leaves`."""
    if isinstance(value, Tensor):
        leaves.append(value)
        return None
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [flatten(item, leaves) for item in value]}
    if isinstance(value, dict):
        return {"dict": {str(k): flatten(v, leaves) for k, v in value.items()}}
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise TypeError(
        f"a {type(value).__name__} cannot enter or leave a graph: only tensors, numbers, strings, "
        "and lists, tuples and dicts of them"
    )


def restore(structure: Any, leaves: Iterator[Tensor]) -> Any:
    """The value of a structure, its tensors taken from `leaves` in order."""
    if structure is None:
        return next(leaves)
    if not isinstance(structure, dict) or len(structure) != 1:
        raise FormatError("the structure of arguments or results is malformed")
    ((kind, inner),) = structure.items()
    if kind == "value":
        return inner
    if kind == "list":
        return [restore(item, leaves) for item in inner]
    if kind == "tuple":
        return tuple([restore(item, leaves) for item in inner])
    if kind == "dict":
        return {k: restore(v, leaves) for k, v in inner.items()}
    raise FormatError(f"the structure of arguments or results has a part {kind!r}")
