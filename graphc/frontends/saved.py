"""Which nodes keep something for a backward, as in torch.

torch gives up what was kept after a backward without retain_graph, and a second backward through
the same node raises. Nodes that keep nothing (sums, views, products with a number) may be passed
any number of times. Sets of nodes are bit masks: bit i is node i of a trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..ir.graph import Node, Value

_KEEP_NOTHING = {"add", "sub", "neg", "real", "imag"}
_PASS_NUMBERS_ON = {"cast", "expand", "reshape"}


def keeps(node: Node) -> bool:
    """Whether the node's derivative reads an operand or a result."""
    op = node.op
    if op.name in _KEEP_NOTHING:
        return False
    if op.name == "mul":
        return not any([_is_number(value) for value in node.inputs])
    if op.name == "div":
        return not _is_number(node.inputs[1])
    return op.bilinear or op.linear != tuple(range(len(node.inputs)))


def _is_number(value: Value) -> bool:
    """Whether the value is one number, spread over a shape."""
    while value.node is not None and value.node.op.name in _PASS_NUMBERS_ON:
        value = value.node.inputs[0]
    if value.node is None:
        return value.type.shape == ()
    return value.node.op.name == "full"


def kept_nodes(nodes: Sequence[Node], wanted: Iterable[Value]) -> dict[Value, int]:
    """For each value that depends on `wanted`: the nodes on the way that keep something."""
    masks: dict[Value, int] = dict.fromkeys(wanted, 0)
    for i, node in enumerate(nodes):
        if node.op.no_derivative:
            continue
        above = [masks[value] for value in node.inputs if value in masks]
        if above:
            mask = 1 << i if keeps(node) else 0
            for one in above:
                mask |= one
            for value in node.outputs:
                masks[value] = mask
    return masks


def upstream(nodes: Sequence[Node], marked: Mapping[Value, int]) -> dict[Value, int]:
    """For each value that depends on a marked one: the bits of the marks, its own included."""
    masks: dict[Value, int] = {}
    for node in nodes:
        mask = 0
        if not node.op.no_derivative:
            for value in node.inputs:
                mask |= masks.get(value, 0)
        for value in node.outputs:
            own = mask | (1 << marked[value] if value in marked else 0)
            if own:
                masks[value] = own
    return masks
