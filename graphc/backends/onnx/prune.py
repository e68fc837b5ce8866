"""Removes ONNX nodes that no output needs, and copies that only name an output."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import NodeProto


def reads(node: NodeProto) -> set[str]:
    """The tensors that a node reads, those that its subgraphs take from around them included."""
    found = {i for i in node.input if i}
    for attr in node.attribute:
        if attr.HasField("g"):
            for inner in attr.g.node:
                found |= reads(inner)
            found |= {o.name for o in attr.g.output}
    return found


def needed(nodes: Sequence[NodeProto], live: set[str]) -> list[NodeProto]:
    """The nodes that the live tensors depend on."""
    live = set(live)
    kept = []
    for node in reversed(nodes):
        if not live.isdisjoint(node.output):
            kept.append(node)
            live |= reads(node)
    return kept[::-1]


def without_copies(nodes: Sequence[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Where an output is a copy of a tensor that a node makes for nobody else, names that one so.

    A tensor that a subgraph or another output reads as well keeps its copy.
    """
    made = {o: node for node in nodes for o in node.output if o}
    readers: dict[str, int] = {}
    for node in nodes:
        for name in reads(node):
            readers[name] = readers.get(name, 0) + 1
    dropped = set()
    for node in nodes:
        source = node.input[0] if node.input else ""
        if node.op_type == "Identity" and node.output[0] in outputs and readers.get(source) == 1:
            maker = made.get(source)
            if maker is not None and source not in outputs:
                place = list(maker.output).index(source)
                maker.output[place] = node.output[0]
                dropped.add(id(node))
    return [node for node in nodes if id(node) not in dropped]
