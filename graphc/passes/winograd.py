"""Single convolutions by Winograd's algorithm, where weights are not kept between calls.

Each convolution is decided by itself, from its sizes: its operands are turned to have channels
last and its result is turned back, so that the graph around it stays as it is. A gradient of the
input is a convolution of the cotangent by flipped kernels, where the stride is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.composite.layout import turned
from graphc.ir.composite.winograd import conv_winograd, winograd_weight
from graphc.ir.graph import Graph, Node, Value

from .pipeline import Context, Pass

Padding = tuple[tuple[int, int], ...]
#: The channels of a panel of the transformed weight; None where the plain kernel is better.
WidthOf = Callable[[Node], "int | None"]


@dataclass(frozen=True)
class Winograd(Pass):
    """Convolutions and gradients of inputs that the backend computes faster by that algorithm."""

    width_of: WidthOf
    name: ClassVar[str] = "winograd"
    error: ClassVar[str] = "reorder"

    def run(self, graph: Graph, context: Context) -> Graph:
        return _rebuilt(graph, self.width_of)


def back_padding(padding: Padding) -> Padding:
    """The padding of the 3 x 3 convolution that is the gradient of the input of one."""
    return tuple([(2 - before, 2 - after) for before, after in padding])


def _rebuilt(graph: Graph, width_of: WidthOf) -> Graph:
    if not _has_some(graph, width_of):
        return graph
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = dict(zip(graph.params, graph.params))
        for node in graph.nodes:
            builder.loc = node.loc
            inputs = tuple([new[value] for value in node.inputs])
            width = width_of(node)
            made: tuple[Value, ...]
            if width is not None:
                x, w = inputs
                made = (_transformed(node, x, w, width),)
            else:
                blocks = tuple([_rebuilt(block, width_of) for block in node.blocks])
                made = builder.emit(node.op, inputs, node.attrs, blocks, node)
            new.update(zip(node.outputs, made, strict=True))
        return builder.graph([new[value] for value in graph.results])


def _has_some(graph: Graph, width_of: WidthOf) -> bool:
    for node in graph.nodes:
        if width_of(node) is not None or any([_has_some(b, width_of) for b in node.blocks]):
            return True
    return False


def _transformed(node: Node, x: Value, w: Value, width: int) -> Value:
    back, padding = node.op.name == "conv_grad_input", node.attrs["padding"]
    batch, outputs, *size = node.outputs[0].type.shape
    u = winograd_weight(w, width=width, back=back)
    made = conv_winograd(
        ops.permute(x, perm=(0, 2, 3, 1)), u, outputs=outputs,
        padding=back_padding(padding) if back else padding,
    )  # fmt: skip
    made = turned(ops.reshape(made, shape=(batch, size[0] * size[1], outputs)))
    return ops.reshape(made, shape=node.outputs[0].type.shape)
