"""A graph with symbolic sizes, from traces of one function at several sizes.

A trace holds sizes as numbers. Each number that differs between traces is fitted by a polynomial
of the sizes with integer coefficients, at most quadratic in each; one more trace, at sizes that
took no part in the fit, checks the result. A function whose operations differ with the sizes, or
whose numbers follow no such polynomial, is refused with the source line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import product as combinations
from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.dims import AnyDim, evaluate_dim, symbol
from graphc.ir.errors import GraphcError, UnsupportedError
from graphc.ir.graph import Attrs, Graph, Node, Value, show
from graphc.ir.ops.constant import dim_value
from graphc.ir.types import TensorType

Sizes = dict[str, int]
_MOST_SYMBOLS = 5


def generalize(graph_at: Callable[[Sizes], Graph], example: Mapping[str, int]) -> Graph:
    """The graph with a symbol for each name of `example`.

    graph_at gives the graph traced at sizes; `example` the sizes that are known to work: multiples
    of them are tried, so that what must be divisible stays so. UnsupportedError where the graphs
    do not agree.
    """
    names = list(example)
    if not 1 <= len(names) <= _MOST_SYMBOLS:
        raise UnsupportedError(f"{len(names)} symbolic sizes: there may be 1 to {_MOST_SYMBOLS}")
    bases = [max(example[name], 2) for name in names]
    multiples = (1, 2, 3) if len(names) <= 3 else (1, 2)
    grid = [
        {name: base * m for name, base, m in zip(names, bases, chosen)}
        for chosen in combinations(multiples, repeat=len(names))
    ]
    check = {name: base * (5 + 2 * i) for i, (name, base) in enumerate(zip(names, bases))}
    fit = Fit(names, bases, multiples, check)
    return fit.graph([graph_at(point) for point in (*grid, check)])


class Fit:
    """Fits graphs that were traced at a grid of sizes; the last one is traced at `check`."""

    def __init__(
        self, names: list[str], bases: list[int], multiples: tuple[int, ...], check: Sizes
    ) -> None:
        self.names, self.check = names, check
        self.grid = (len(multiples),) * len(names)
        self.inverses = [_inverse_vandermonde([base * m for m in multiples]) for base in bases]

    def graph(self, graphs: Sequence[Graph]) -> Graph:
        """One graph for all; blocks come back here."""
        first = graphs[0]
        for other in graphs[1:]:
            if len(other.nodes) != len(first.nodes) or len(other.params) != len(first.params):
                raise _different(first, other)
        with Builder() as builder:
            places: list[dict[Value, int]] = [{} for _ in graphs]
            made: list[Value] = []
            for params in zip(*[graph.params for graph in graphs]):
                made.append(builder.param(self.type(params), params[0].name))
                _number(places, params)
            for nodes in zip(*[graph.nodes for graph in graphs]):
                builder.loc = nodes[0].loc
                made += self.node(builder, nodes, places, made)
                for outputs in zip(*[node.outputs for node in nodes]):
                    _number(places, outputs)
            results = [made[places[0][value]] for value in first.results]
            return builder.graph(results)

    def node(
        self, builder: Builder, nodes: Sequence[Node], places: list[dict], made: list[Value]
    ) -> Sequence[Value]:
        """The node that stands for one node of each graph."""
        first = nodes[0]
        wiring = [[place[value] for value in node.inputs] for node, place in zip(nodes, places)]
        if any(n.op is not first.op for n in nodes) or any(w != wiring[0] for w in wiring):
            raise UnsupportedError(
                f"the operations differ with the sizes, at {first.op.name}", at=first.loc
            )
        inputs = tuple([made[i] for i in wiring[0]])
        try:
            if first.op.name == "full" and _numbers_differ(nodes):
                return [self.number(nodes)]
            keys = list(first.attrs)
            attrs = {key: self.attribute([n.attrs[key] for n in nodes]) for key in keys}
            blocks = tuple([self.graph(same) for same in zip(*[n.blocks for n in nodes])])
            return builder.emit(first.op, inputs, Attrs.of(attrs), blocks)
        except GraphcError as error:
            if error.at:
                raise
            raise UnsupportedError(
                f"{first.op.name} does not work for all sizes: {error.message}", at=first.loc
            ) from error

    def type(self, values: Sequence[Value]) -> TensorType:
        shapes = self.attribute([value.type.shape for value in values])
        return values[0].type.with_shape(shapes)

    def attribute(self, values: Sequence[Any]) -> Any:
        """One value for all: the same, or integers that follow a polynomial."""
        first = values[0]
        if isinstance(first, tuple):
            if any(len(v) != len(first) for v in values):
                raise UnsupportedError("the number of axes differs with the sizes")
            return tuple([self.attribute(parts) for parts in zip(*values)])
        if all(type(v) is int for v in values):
            return self.polynomial(values)
        if any(show(v) != show(first) for v in values):
            raise UnsupportedError("a constant differs with the sizes")
        return first

    def polynomial(self, values: Sequence[int]) -> AnyDim:
        """The polynomial with these values at the grid's points and at the check."""
        if len(set(values)) == 1:
            return values[0]
        table = np.array([Fraction(v) for v in values[:-1]], object).reshape(self.grid)
        for axis, inverse in enumerate(self.inverses):
            table = np.moveaxis(np.tensordot(inverse, table, axes=([1], [axis])), 0, axis)
        total: AnyDim = 0
        for powers in np.ndindex(table.shape):
            coefficient: Any = table[powers]
            if coefficient.denominator != 1:
                raise self._no_polynomial(values)
            term: AnyDim = int(coefficient)
            for name, power in zip(self.names, powers):
                for _ in range(power):
                    term = term * symbol(name)
            total = total + term
        if evaluate_dim(total, self.check) != values[-1]:
            raise self._no_polynomial(values)
        return total

    def _no_polynomial(self, values: Sequence[int]) -> UnsupportedError:
        return UnsupportedError(
            f"a size is {values[0]} to {values[-1]}: no polynomial with integer coefficients of "
            f"{', '.join(self.names)}"
        )

    def number(self, nodes: Sequence[Node]) -> Value:
        """A constant that is a size, or one over a size (of a mean)."""
        values = [float(node.attrs["value"]) for node in nodes]
        type = self.type([node.outputs[0] for node in nodes])
        for inverse in (False, True):
            sizes = [_whole(1 / v if inverse else v) for v in values if v]
            if len(sizes) == len(values) and None not in sizes:
                size = dim_value(self.polynomial(sizes), type.shape, type.device)  # type: ignore
                made = ops.cast(size, dtype=type.dtype)
                return ops.div(ops.full_like(1.0, made), made) if inverse else made
        raise UnsupportedError(f"a number is {values[0]} to {values[-1]}, depending on the sizes")


def _numbers_differ(nodes: Sequence[Node]) -> bool:
    first = nodes[0].attrs["value"]
    return any(show(node.attrs["value"]) != show(first) for node in nodes)


def _whole(value: float) -> int | None:
    near = round(value)
    return near if abs(value - near) <= 1e-9 * max(abs(value), 1.0) else None


def _number(places: list[dict[Value, int]], values: Sequence[Value]) -> None:
    for place, value in zip(places, values):
        place[value] = len(place)


def _inverse_vandermonde(points: list[int]) -> np.ndarray:
    """Row p: the coefficients by which values at the points give the coefficient of x ** p."""
    n = len(points)
    rows = [[Fraction(x) ** p for p in range(n)] + [Fraction(int(i == j)) for j in range(n)]
            for i, x in enumerate(points)]  # fmt: skip
    for i in range(n):
        rows[i] = [v / rows[i][i] for v in rows[i]]
        for j in range(n):
            if j != i:
                rows[j] = [a - rows[j][i] * b for a, b in zip(rows[j], rows[i])]
    return np.array([row[n:] for row in rows], object)


def _different(first: Graph, other: Graph) -> UnsupportedError:
    for a, b in zip(first.nodes, other.nodes):
        if a.op is not b.op:
            return UnsupportedError(
                f"the operations differ with the sizes: {a.op.name} and {b.op.name}", at=a.loc
            )
    return UnsupportedError("the number of operations differs with the sizes")
