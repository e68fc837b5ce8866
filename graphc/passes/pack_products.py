"""Products by kept weights take them packed, as convolutions of one tap do.

A product's kernel copies its right matrix into panels before it multiplies. Where that matrix
follows from weights alone the panels can be made ahead: x[..., k] times w is a `conv_last` of
rows of x with a kernel of one element, in bf16 a `dot_pairs`, and the panels are what `hoist` takes
out of the call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.composite.layout import conv_last, dot_pairs, packed, paired
from graphc.ir.dims import product
from graphc.ir.dtype import BF16
from graphc.ir.graph import Graph, Node, Value

from .hoist import weight_values
from .pipeline import Context, Pass

#: The channels of a panel for the right matrix of a `dot`, or None: better as it is.
WidthOf = Callable[[Node], "int | None"]


@dataclass(frozen=True)
class PackProducts(Pass):
    """Products by what follows from the parameters `weights` alone take it in panels."""

    weights: tuple[int, ...]
    width_of: WidthOf
    name: ClassVar[str] = "pack products"

    def run(self, graph: Graph, context: Context) -> Graph:
        known = weight_values(graph, self.weights)
        chosen = {
            node: width
            for node in graph.nodes
            if _is_linear(node, known) and (width := self.width_of(node)) is not None
        }
        return _rebuilt(graph, chosen) if chosen else graph


def _is_linear(node: Node, known: set[Value]) -> bool:
    """Whether the node is x[..., k] times a known matrix, in either order of its axes."""
    if node.op.name != "dot" or node.attrs["batch"] != ((), ()):
        return False
    x, w = node.inputs
    (left, right) = node.attrs["contract"]
    rank = len(x.type.shape)
    return left == (rank - 1,) and len(right) == 1 and len(w.type.shape) == 2 and w in known


def _rebuilt(graph: Graph, chosen: dict[Node, int]) -> Graph:
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = dict(zip(graph.params, graph.params))
        for node in graph.nodes:
            builder.loc = node.loc
            inputs = tuple([new[value] for value in node.inputs])
            made: tuple[Value, ...]
            if node in chosen:
                x, w = inputs
                made = (_product(node, x, w, chosen[node]),)
            else:
                made = builder.emit(node.op, inputs, node.attrs, node.blocks, node)
            new.update(zip(node.outputs, made, strict=True))
        return builder.graph([new[value] for value in graph.results])


def _product(node: Node, x: Value, w: Value, width: int) -> Value:
    ((_,), (axis,)) = node.attrs["contract"]
    if axis == 0:
        w = ops.permute(w, perm=(1, 0))
    outputs, k = w.type.shape
    rows = product(x.type.shape[:-1])
    if x.type.dtype is BF16:
        made = dot_pairs(ops.reshape(x, shape=(rows, k)), paired(w, width))
        return ops.reshape(made, shape=node.outputs[0].type.shape)
    panels = packed(ops.reshape(w, shape=(outputs, k, 1, 1)), width)
    made = conv_last(
        ops.reshape(x, shape=(1, rows, 1, k)), panels, outputs=outputs,
        stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1,
    )  # fmt: skip
    return ops.reshape(made, shape=node.outputs[0].type.shape)
