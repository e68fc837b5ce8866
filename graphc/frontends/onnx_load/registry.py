"""Which function loads which ONNX op of the standard domain.

A loader takes (g, node, *items), with None for an input that is left out, and returns what its
outputs are: a Value, an Item, or a tuple of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.ir import composite, ops  # noqa: F401  (declares the ops)
from graphc.ir.errors import UnsupportedError
from graphc.ir.op import OPS, Op, Pointwise

Load = Callable[..., Any]
LOADERS: dict[str, Load] = {}


def loads(*names: str) -> Callable[[Load], Load]:
    """Declares the function that loads these ops."""

    def declare(function: Load) -> Load:
        for name in names:
            if name in LOADERS:
                raise TypeError(f"the ONNX op {name} has two loaders")
            LOADERS[name] = function
        return function

    return declare


def _elementwise() -> dict[str, list[Op]]:
    """The elementwise ops whose facet is the whole mapping, by ONNX name."""
    found: dict[str, list[Op]] = {}
    for op in OPS.values():
        if op.onnx is None or hasattr(op, "to_onnx") or op.onnx.attrs or op.onnx.name == "Identity":
            continue
        if isinstance(op, Pointwise) or op.name in _ELEMENTWISE_COMPOSITES:
            found.setdefault(op.onnx.name, []).append(op)
    return found


_ELEMENTWISE_COMPOSITES = ("relu", "sigmoid")


def declare_by_facet() -> None:
    """Loaders of ops that one facet describes: operands broadcast, no attributes."""
    for name, candidates in _elementwise().items():
        if name not in LOADERS:
            LOADERS[name] = _by_facet(name, candidates)


def _by_facet(name: str, candidates: list[Op]) -> Load:
    def load(g: Any, node: Any, *items: Any) -> Any:
        values = g.broadcast(*items)
        for op in candidates:  # Div is div of floats and quo of integers
            if all(kinds.admits(v.type.dtype) for v, (_, kinds) in zip(values, op.operands)):
                return op(*values)
        raise UnsupportedError(f"{name} of {values[-1].type.text} is not supported")

    return load
