"""What this backend wants of a graph: layouts and packed weights where weights are kept, and the
algorithms that are faster where other bits are allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.backends.llvm import attention  # noqa: F401  (registers its kernels)
from graphc.backends.llvm.channels_last import (
    packing_in_each_call,
    packing_of,
    product_width,
    winograd_alone,
)
from graphc.backends.llvm.native import ALWAYS, claims
from graphc.backends.llvm.products import panel_columns
from graphc.backends.llvm.settings import settings
from graphc.backends.llvm.target import Target, get_target
from graphc.ir.dims import Facts
from graphc.ir.graph import Graph, Node
from graphc.passes.hoist import foreseen_values
from graphc.passes.layout import ChannelsLast, Packing
from graphc.passes.pack_constants import pack_constants
from graphc.passes.pack_products import PackProducts
from graphc.passes.pipeline import Context, Pipeline, function_pass
from graphc.passes.winograd import Winograd

_CLAIMED = ALWAYS | frozenset(
    "conv_last conv_grad_input_last conv_depthwise_last conv_winograd winograd_weight "
    "conv_groups_last turned dot_pairs".split()
)


def claim_composites(context: Context) -> None:
    """Notes which composites of a program stay one node, since a kernel serves them."""
    target = get_target()
    context.claimed, context.claims = ALWAYS, lambda node: claims(node, target)


def choose_layouts(
    graph: Graph,
    weights: Sequence[int],
    *,
    verify: str | None = None,
    target: Target | None = None,
    winograd: bool = False,
) -> Graph:
    """The CORE graph with its convolutions channels last, where that pays, and with the matrices
    that follow from the parameters `weights` in panels. Results keep their bits, but for those of
    Winograd's algorithm."""
    cpu = target or get_target()
    kept = foreseen_values(graph, weights)

    def packing(node: Node) -> Packing | None:
        packing_for = packing_of if node.inputs[1] in kept else packing_in_each_call
        return packing_for(node, cpu, winograd)

    passes = (
        ChannelsLast(packing),
        PackProducts(tuple(weights), lambda node: product_width(node, cpu)),
        function_pass(
            "pack constants",
            lambda graph: pack_constants(graph, lambda node: panel_columns(node, cpu)),
        ),
    )
    context = Context(claimed=_CLAIMED)
    return Pipeline(passes, verify).run(graph, context)


def choose_algorithms(
    graph: Graph,
    *,
    dims: Mapping[str, Facts] | None = None,
    verify: str | None = None,
    target: Target | None = None,
    winograd: bool | None = None,
) -> Graph:
    """The CORE graph with the convolutions by Winograd's algorithm that it computes faster, though
    it rounds in other places (None asks `settings.winograd`)."""
    cpu = target or get_target()
    if not (settings.winograd if winograd is None else winograd):
        return graph
    passes = (Winograd(lambda node: winograd_alone(node, cpu)),)
    return Pipeline(passes, verify).run(graph, Context(claimed=_CLAIMED, dims=dims or {}))
