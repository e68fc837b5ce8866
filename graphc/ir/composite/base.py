"""`Composite`: an op that is defined by an expansion into other ops.

Inference, meaning and derivatives follow from `expand`; a composite may declare a better `pull`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..build import trace
from ..graph import Attrs, Graph, Node
from ..interpret import bind_sizes, run
from ..op import Op
from ..types import Type


class Composite(Op):
    """Declares `expand(*inputs, **attrs)`; all else is derived from it."""

    composite = True

    def graph(self, types: tuple[Type, ...], attrs: Attrs) -> Graph:
        """The expansion for these operand types."""
        return _expansion(self, types, attrs)

    def infer(self, attrs: Attrs, types: Sequence[Type], blocks: tuple[Graph, ...] = ()) -> list:
        self.check(attrs, types)
        return [value.type for value in self.graph(tuple(types), attrs).results]

    def eval_node(self, node: Node, arrays: Sequence[Any], attrs: dict) -> Sequence:
        graph = self.graph(tuple([value.type for value in node.inputs]), node.attrs)
        sizes: dict[str, int] = {}
        bind_sizes(graph, [a.shape for a in arrays], sizes)
        return run(graph, arrays, sizes)


@lru_cache(maxsize=4096)
def _expansion(op: Any, types: tuple[Type, ...], attrs: Attrs) -> Graph:
    return trace(lambda *values: op.expand(*values, **attrs), *types)
