"""Structural hash and structural difference of graphs."""

from __future__ import annotations

import hashlib

from .graph import Graph, Value, has_effect


def structural_hash(graph: Graph) -> str:
    """Equal for graphs that mean the same node for node: blind to names, source lines, the order
    of independent nodes and dead nodes. Effects count in their order."""
    return _digest(graph).hex()


def _digest(graph: Graph) -> bytes:
    digest: dict[Value, bytes] = {}
    for i, param in enumerate(graph.params):
        digest[param] = b"%d %s" % (i, param.type.text.encode())
    effects = []
    for node in graph.nodes:
        own = f"{node.op.name}|{node.attrs.text}".encode()
        h = hashlib.blake2b(own, digest_size=16)
        for block in node.blocks:
            h.update(_digest(block))
        for value in node.inputs:
            h.update(digest[value])
        found = h.digest()
        if has_effect(node):
            effects.append(found)
        for value in node.outputs:
            digest[value] = found + b"%d" % value.index
    total = hashlib.blake2b(digest_size=16)
    for part in (*[digest[v] for v in graph.results], b"effects", *effects):
        total.update(part)
    return total.digest()


def same(a: Graph, b: Graph) -> bool:
    """Whether two graphs are structurally equal."""
    return structural_hash(a) == structural_hash(b)


def diff(a: Graph, b: Graph) -> str:
    """What differs, as lines of a unified diff of the anonymous texts; empty where equal."""
    if same(a, b):
        return ""
    from difflib import unified_diff

    from .text import print_graph

    before, after = [print_graph(_anonymous(g), locs=False).splitlines() for g in (a, b)]
    return "\n".join(unified_diff(before, after, "a", "b", lineterm=""))


def _anonymous(graph: Graph) -> Graph:
    from .build import Builder

    with Builder() as b:
        params = [b.param(p.type) for p in graph.params]
        new = dict(zip(graph.params, params, strict=True))
        for node in graph.nodes:
            made = b.emit(node.op, tuple([new[v] for v in node.inputs]), node.attrs, node.blocks)
            new.update(zip(node.outputs, made, strict=True))
        return Graph(b.params, b.nodes, [new[v] for v in graph.results])
