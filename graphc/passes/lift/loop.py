"""A scan being taken apart: its operands by role, its step, and what is known of its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from graphc.ir import ops
from graphc.ir.build import Builder, dead_code
from graphc.ir.dims import AnyDim
from graphc.ir.graph import Attrs, Graph, Node, Value, has_effect
from graphc.ir.op import OPS, Pointwise

from ..batch import batch
from ..batch.walk import RULES

#: From the outputs of the smaller loop to those of the loop.
Finish = Callable[[list[Value]], list[Value]]

DOT = OPS["dot"]
#: What a value depends on: constants alone, rows and constants, the state.
FIXED, ROW, STATE = 0, 1, 2


@dataclass(frozen=True)
class Loop:
    """A scan before it is built. The step takes (carries, rows, constants)."""

    init: tuple[Value, ...]
    rows: tuple[Value, ...]
    fixed: tuple[Value, ...]
    block: Graph
    length: AnyDim
    reverse: bool

    @staticmethod
    def of(inputs: Sequence[Value], attrs: Attrs, block: Graph) -> Loop:
        n, end = attrs["carry"], attrs["carry"] + attrs["xs"]
        parts = tuple(inputs[:n]), tuple(inputs[n:end]), tuple(inputs[end:])
        return Loop(*parts, block, attrs["length"], attrs["reverse"])

    def run(self) -> list[Value]:
        """Builds the scan."""
        return list(
            ops.scan(self.block, self.init, self.rows, self.fixed, self.length, self.reverse)
        )

    @property
    def carries(self) -> range:
        """Places of the carries among parameters and results."""
        return range(len(self.init))

    @property
    def row_params(self) -> tuple[Value, ...]:
        return self.block.params[len(self.init) :][: len(self.rows)]

    @property
    def fixed_params(self) -> tuple[Value, ...]:
        return self.block.params[len(self.init) + len(self.rows) :]

    def levels(self) -> dict[Value, int]:
        """What each value of the step depends on; an effect stays where it is."""
        level = dict.fromkeys(self.block.params, STATE)
        level.update(dict.fromkeys(self.row_params, ROW))
        level.update(dict.fromkeys(self.fixed_params, FIXED))
        for node in self.block.nodes:
            found = STATE if has_effect(node) else FIXED
            for value in node.inputs:
                found = max(found, level[value])
            level.update(dict.fromkeys(node.outputs, found))
        return level

    def outside(
        self, wanted: Sequence[Value], known: Sequence[tuple[Value, Value]] = ()
    ) -> list[tuple[Value, bool]]:
        """Values of the step for all rows at once, each with whether it has the axis of rows.

        They depend on rows, constants, and the values `known`, given with their stacked rows.
        """
        given = [*self.row_params, *[value for value, _ in known]]
        arguments = [*self.rows, *[rows for _, rows in known], *self.fixed]
        with Builder() as b:  # (what is known may be computed in the step: it becomes a parameter)
            new = {v: b.param(v.type) for v in (*given, *self.fixed_params)}
            for node in _between(self.block.nodes, new, wanted):
                b.loc = node.loc
                inputs = tuple([new[v] for v in node.inputs])
                made = b.emit(node.op, inputs, node.attrs, node.blocks)
                for value, copy in zip(node.outputs, made, strict=True):
                    new.setdefault(value, copy)
            graph = b.graph([new[v] for v in wanted])
        wide, mapped = batch(graph, set(range(len(given))), self.length)
        found = Builder.current().replay(wide, arguments)
        return [(value, i in mapped) for i, value in enumerate(found)]

    def with_step(
        self,
        *,
        carries: Sequence[int],
        results: Sequence[Value],
        rows: Sequence[tuple[Value, Value]] = (),
        fixed: Sequence[tuple[Value, Value]] = (),
    ) -> Loop:
        """The loop with these carries alone, the stacked results `results`, and values of the step
        that are given from outside now: rows and constants, each with what it is there."""
        block = self.block
        init = [block.params[i] for i in carries]
        params = [
            *init, *self.row_params, *[v for v, _ in rows],
            *self.fixed_params, *[v for v, _ in fixed],
        ]  # fmt: skip
        with Builder() as b:
            new = {v: b.param(v.type) for v in params}
            wanted = [*[block.results[i] for i in carries], *results]
            for node in _between(block.nodes, new, wanted):
                b.loc = node.loc
                inputs = tuple([new[v] for v in node.inputs])
                made = b.emit(node.op, inputs, node.attrs, node.blocks)
                for value, copy in zip(node.outputs, made, strict=True):
                    new.setdefault(value, copy)
            step = b.graph([new[v] for v in wanted])
        return Loop(
            tuple([self.init[i] for i in carries]),
            (*self.rows, *[there for _, there in rows]),
            (*self.fixed, *[there for _, there in fixed]),
            dead_code(step),
            self.length,
            self.reverse,
        )


def _between(nodes: Sequence[Node], given: Iterable[Value], wanted: Iterable[Value]) -> list[Node]:
    """The nodes that compute what is wanted from what is given, and effects."""
    have, want, found = set(given), set(wanted), []
    for node in reversed(nodes):
        missing = [v for v in node.outputs if v in want and v not in have]
        if missing or has_effect(node):
            found.append(node)
            want.update(node.inputs)
    return found[::-1]


def can_batch(node: Node) -> bool:
    """Whether the node over all rows at once is no slower than row by row."""
    return not node.blocks and (
        isinstance(node.op, Pointwise) or node.op in RULES or not node.inputs
    )
