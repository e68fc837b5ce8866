"""The layouts that this backend wants in a graph whose weights are packed ahead."""

from __future__ import annotations

from graphc.backends.llvm.channels_last import packing_of
from graphc.backends.llvm.target import Target, get_target
from graphc.ir.graph import Graph
from graphc.passes.layout import ChannelsLast
from graphc.passes.pipeline import Context, Pipeline


def choose_layouts(graph: Graph, verify: str | None = None, target: Target | None = None) -> Graph:
    """The CORE graph with its convolutions channels last, where that pays."""
    cpu = target or get_target()
    chosen = ChannelsLast(lambda node: packing_of(node, cpu))
    context = Context(claimed=frozenset(["conv_last", "conv_grad_input_last"]))
    return Pipeline((chosen,), verify).run(graph, context)
