"""Floating-point operations and bytes of nodes and kernels, with symbolic dims at given sizes."""

from __future__ import annotations

from collections.abc import Mapping

from graphc.ir.dims import AnyDim, Facts, evaluate_dim, product
from graphc.ir.graph import Graph, Node, Value, symbols_of
from graphc.ir.op import Pointwise
from graphc.ir.types import TensorType

Sizes = Mapping[str, int]


def example_sizes(graph: Graph, dims: Mapping[str, Facts]) -> dict[str, int]:
    """A size for each symbol: the hint of its facts, else 256."""
    return {name: dims[name].hint if name in dims else 256 for name in symbols_of(graph)}


def elements(value: Value, sizes: Sizes) -> int:
    if not isinstance(value.type, TensorType):
        return 0
    return evaluate_dim(product(value.type.shape), sizes)


def value_bytes(value: Value, sizes: Sizes) -> int:
    if not isinstance(value.type, TensorType):
        return 0
    return elements(value, sizes) * value.type.dtype.itemsize


def flops(node: Node, sizes: Sizes) -> int:
    """A multiply-add counts as two, any other op on an element as one, movement as none.

    A scan counts each of its steps, a branch the dearer side, a while one step: nobody knows more.
    """
    name = node.op.name
    if node.blocks:
        inside = [sum([flops(inner, sizes) for inner in block.nodes]) for block in node.blocks]
        return at(node.attrs["length"], sizes) * inside[0] if name == "scan" else max(inside)
    if name == "dot":
        contracted = [node.inputs[0].type.shape[axis] for axis in node.attrs["contract"][0]]
        return 2 * elements(node.outputs[0], sizes) * at(product(contracted), sizes)
    if name == "dot_pairs":
        return 2 * elements(node.outputs[0], sizes) * at(node.inputs[0].type.shape[1], sizes)
    if name == "conv":
        weight = node.inputs[1].type.shape
        return 2 * elements(node.outputs[0], sizes) * at(product(weight[1:]), sizes)
    if name in ("conv_grad_input", "conv_grad_weight"):
        kernel = node.outputs[0] if name == "conv_grad_weight" else node.inputs[1]
        cotangent = node.inputs[0]
        return 2 * elements(cotangent, sizes) * at(product(kernel.type.shape[1:]), sizes)
    if name in ("conv_last", "conv_grad_input_last"):
        taps_and_channels = product(node.inputs[1].type.shape[1:-1])
        channels, outputs = node.inputs[0].type.shape[-1], node.attrs["outputs"]
        if name == "conv_last":
            return 2 * elements(node.outputs[0], sizes) * at(taps_and_channels, sizes)
        positions = elements(node.inputs[0], sizes) // max(at(channels, sizes), 1)
        return 2 * positions * outputs * at(taps_and_channels, sizes)
    if name in ("conv_depthwise_last", "conv_groups_last"):
        first = 1 if name == "conv_groups_last" else 0  # after the panels
        taps = product(node.inputs[1].type.shape[first:-1])
        return 2 * elements(node.outputs[0], sizes) * at(taps, sizes)
    if name == "conv_winograd":  # what the convolution means, not what the algorithm does
        channels = node.inputs[0].type.shape[-1]
        return 2 * 9 * elements(node.outputs[0], sizes) * at(channels, sizes)
    if name in ("attention", "attention_grad"):
        q, k, v = node.inputs[:3]
        scores = elements(q, sizes) // max(at(q.type.shape[-1], sizes), 1)
        scores *= at(k.type.shape[-2], sizes)
        along_q, along_v = (1, 1) if name == "attention" else (3, 2)
        each = along_q * at(q.type.shape[-1], sizes) + along_v * at(v.type.shape[-1], sizes)
        return 2 * scores * each // (2 if node.attrs["causal"] else 1)
    if isinstance(node.op, Pointwise):
        return 0 if name in ("cast", "detach") else elements(node.outputs[0], sizes)
    if name.startswith("reduce_") or name in ("cumulative", "arg_reduce"):
        return elements(node.inputs[0], sizes)
    return 0


def at(value: AnyDim, sizes: Sizes) -> int:
    return evaluate_dim(value, sizes)
