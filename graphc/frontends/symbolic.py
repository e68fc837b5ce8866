"""Sizes that became symbols: how a trace that serves many sizes is chosen, matched and replayed.

A trace's first run has static sizes. Where the same place of the program sees a tensor of the
same rank with other sizes, the differing dims become symbols of a new branch, whose trace then
serves every size. In a tape the symbols have values (`Tape.sizes`); a Python integer that equals
one of them, or a simple expression of it, is recorded as that expression and compared by value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..ir.build import Builder
from ..ir.dims import AnyDim, Dim, evaluate_dim, substitute, symbol
from ..ir.graph import Attrs, Graph, Value
from ..ir.types import TensorType

SMALLEST = 2  # sizes 0 and 1 stay static: they broadcast, or leave nothing to compute


def matches(pattern: TensorType, type: TensorType, sizes: Mapping[str, int]) -> dict | None:
    """The symbols that `type` binds anew if it fits the pattern, else None."""
    found: dict[str, int] = {}
    for d, n in zip(pattern.shape, type.shape, strict=True):
        if isinstance(d, int):
            if d != n:
                return None
            continue
        name = d.symbols[0]  # a parameter's dims are ints or plain symbols
        bound = sizes.get(name, found.get(name))
        if bound is None:
            if n < SMALLEST:
                return None
            found[name] = n
        elif bound != n:
            return None
    return found


def generalised(
    type: TensorType,
    seen: Sequence[TensorType],
    sizes: Mapping[str, int],
    fresh: int,
    may_share: bool,
) -> TensorType | None:
    """The symbolic type for a parameter where others were seen; None where none is due.

    A dim becomes a symbol where it differs from a size seen here, or (in a trace that has symbols
    already, for tensors that are no weights) where it equals a symbol's value.
    """
    differing: set[int] = set()
    for other in seen:
        if other.dtype is type.dtype and len(other.shape) == len(type.shape):
            differing |= {
                i for i, (a, b) in enumerate(zip(other.shape, type.shape)) if a != b and b != 1
            }
    by_value = {n: name for name, n in reversed(sizes.items())}
    shape: list[AnyDim] = []
    for i, n in enumerate(type.shape):
        assert isinstance(n, int)
        if n >= SMALLEST and n in by_value and (may_share or i in differing):
            shape.append(symbol(by_value[n]))
        elif n >= SMALLEST and i in differing:
            name = f"s{fresh}"
            by_value[n] = name
            fresh += 1
            shape.append(symbol(name))
        else:
            shape.append(n)
    made = type.with_shape(shape)
    return None if made is type else made


def expression(number: int, sizes: Mapping[str, int], factors: Sequence[int]) -> AnyDim:
    """A Python integer as an expression of the symbols, where it plainly is one."""
    if number < SMALLEST:
        return number
    for name, n in sizes.items():
        if number == n:
            return symbol(name)
    for name, n in sizes.items():
        if number in (n + 1, n - 1):
            return symbol(name) + (number - n)
        times, rest = divmod(number, n)
        if not rest and times in factors:
            return symbol(name) * times
    names = list(sizes)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if number == sizes[a] * sizes[b]:
                return symbol(a) * symbol(b)
    return number


def concrete_type(type: TensorType, sizes: Mapping[str, int]) -> TensorType:
    """The type with sizes in place of symbols."""
    if type.is_static:
        return type
    return type.with_shape([evaluate_dim(d, sizes) for d in type.shape])


def replay(graph: Graph, operands: Sequence[Value]) -> list[Value]:
    """Builds a graph on operands whose dims are named otherwise: its own are substituted."""
    builder = Builder.current()
    names: dict[str, AnyDim] = {}
    for param, value in zip(graph.params, operands, strict=True):
        if param.type is value.type or param.type.is_static:
            continue
        for d, n in zip(param.type.shape, value.type.shape, strict=True):
            if isinstance(d, Dim) and d.symbols and d == symbol(d.symbols[0]):
                names.setdefault(d.symbols[0], n)
    if not names:
        return builder.replay(graph, operands)
    new: dict[Value, Value] = dict(zip(graph.params, operands, strict=True))
    outer = builder.loc
    for node in graph.nodes:
        attrs = _substituted_attrs(node.attrs, names)
        inputs = tuple([new[v] for v in node.inputs])
        builder.loc = node.loc
        blocks = tuple([_renamed(block, names) for block in node.blocks])
        made = builder.emit(node.op, inputs, attrs, blocks)
        new.update(zip(node.outputs, made, strict=True))
    builder.loc = outer
    return [new[v] for v in graph.results]


def _renamed(block: Graph, names: Mapping[str, AnyDim]) -> Graph:
    with Builder() as builder:
        params = [builder.param(_substituted_type(p.type, names)) for p in block.params]
        return builder.graph(replay(block, params))


def _substituted_type(type: Any, names: Mapping[str, AnyDim]) -> Any:
    if not isinstance(type, TensorType) or type.is_static:
        return type
    return type.with_shape([substitute(d, names) for d in type.shape])


def _substituted_attrs(attrs: Attrs, names: Mapping[str, AnyDim]) -> Attrs:
    changed = {key: _substituted(value, names) for key, value in attrs.items()}
    return Attrs.of(changed)


def _substituted(value: Any, names: Mapping[str, AnyDim]) -> Any:
    if isinstance(value, Dim):
        return substitute(value, names)
    if isinstance(value, tuple):
        return tuple([_substituted(item, names) for item in value])
    return value
