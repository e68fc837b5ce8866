"""The verifier: raises VerifyError where a graph breaks a rule of the IR.

1. Every value is defined before it is used, and once.
2. Operands and attributes fit the op's schema; the outputs have the types that the op infers.
3. Blocks are closed graphs that obey 1 and 2.
"""

from __future__ import annotations

from .errors import GraphcError, VerifyError
from .graph import Graph, Module, Node, Value


def verify(graph: Graph | Module, name: str = "main") -> None:
    """Checks a graph, or every graph of a module; says which node and source line is wrong."""
    if isinstance(graph, Module):
        for key, part in graph.graphs.items():
            verify(part, key)
        return
    known: set[Value] = set()
    for param in graph.params:
        if param in known or param.node is not None:
            raise VerifyError(f"@{name}: the parameter %{param.name} is not one, or there twice")
        known.add(param)
    for number, node in enumerate(graph.nodes):
        _check_node(node, known, f"@{name}, node {number} ({node.op.name})")
        for i, block in enumerate(node.blocks):
            verify(block, f"{name}.{node.op.name}.{i}")
        known.update(node.outputs)
    for i, value in enumerate(graph.results):
        if value not in known:
            raise VerifyError(f"@{name}: result {i} is not defined in the graph")


def _check_node(node: Node, known: set[Value], where: str) -> None:
    if not known.issuperset(node.inputs):
        i = next(i for i, value in enumerate(node.inputs) if value not in known)
        raise VerifyError(f"{where}: operand {i} is not defined before it is used", at=node.loc)
    if not known.isdisjoint(node.outputs):
        raise VerifyError(f"{where}: stands in the graph twice", at=node.loc)
    try:
        types = node.op.infer(node.attrs, [value.type for value in node.inputs], node.blocks)
    except (GraphcError, TypeError, ValueError) as error:
        message = getattr(error, "message", str(error))
        raise VerifyError(f"{where}: {message}", at=node.loc) from None
    declared = [value.type for value in node.outputs]
    if types != declared:
        raise VerifyError(
            f"{where}: declares {_texts(declared)}, but infers {_texts(types)}", at=node.loc
        )


def _texts(types: list) -> str:
    return ", ".join(type.text for type in types) or "nothing"
