"""Groups of nodes that ONNX has one op for: pooling, a product or convolution with its bias.

`match(exporter, node)` looks from the last node of a group; the nodes before it have been written
already and are dropped where nothing else reads them.

1. reduce_max or max_first over all axes of a window: MaxPool, with a pad by -inf before it.
2. reduce_sum over all axes of a window: AveragePool times the window's size, and times or over that
   size AveragePool alone, with a pad by 0 before it.
3. conv or conv_grad_input plus a bias along the channels: Conv, ConvTranspose.
4. a product of matrices, plus a row: Gemm.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from graphc.ir.dims import Dim
from graphc.ir.graph import Node, Value

if TYPE_CHECKING:
    from .exporter import Exporter


def match(exporter: Exporter, node: Node) -> str | None:
    """The output of the one ONNX op that a group ending in this node is; None for another node."""
    rule = _RULES.get(node.op.name)
    return rule(exporter, node) if rule is not None else None


def _made_by(value: Value, *names: str) -> Node | None:
    node = value.node
    return node if node is not None and node.op.name in names else None


# --- pooling -------------------------------------------------------------------------------------


def _pooled_window(node: Node) -> Node | None:
    """The window over all spatial axes of [n, c, *space] that this reduction reduces wholly."""
    (x,) = node.inputs
    axes = node.attrs["axes"] if "axes" in node.attrs else (node.attrs["axis"],)
    flat = _made_by(x, "reshape")
    if flat is not None:  # the axes of the window's elements in one
        x = flat.inputs[0]
    window = _made_by(x, "window")
    if window is None:
        return None
    k = len(window.attrs["sizes"])
    rank = len(window.inputs[0].type.shape)
    lead = window.outputs[0].type.shape[:rank]
    reduced = axes == ((rank,) if flat is not None else tuple(range(rank, rank + k)))
    whole = flat is None or flat.attrs["shape"] == (*lead, math.prod(window.attrs["sizes"]))
    return window if k == rank - 2 and reduced and whole else None


def _pool(exporter: Exporter, window: Node, name: str, fill: float, **attrs: Any) -> str:
    """The pooling op over a window; a pad by `fill` before it becomes an attribute."""
    (x,) = window.inputs
    sizes, k = window.attrs["sizes"], len(window.attrs["sizes"])
    pads = [0] * (2 * k)
    pad = _made_by(x, "pad")
    if pad is not None and pad.attrs["value"] == fill and _is_spatial(pad, sizes):
        pads = [*pad.attrs["low"][2:], *pad.attrs["high"][2:]]
        x = pad.inputs[0]
    dilations = window.attrs["dilations"]
    if name == "MaxPool" or any(d != 1 for d in dilations):
        attrs["dilations"] = dilations
    return exporter.g.op(
        name,
        [exporter.env[x]],
        kernel_shape=sizes,
        strides=window.attrs["strides"],
        pads=pads,
        **attrs,
    )


def _is_spatial(pad: Node, sizes: tuple[int, ...]) -> bool:
    """Whether it pads by less than the window's size, and spatial axes only."""
    low, high = pad.attrs["low"], pad.attrs["high"]
    if any(isinstance(d, Dim) for d in (*low, *high)):
        return False
    inner = all(a < n for side in (low, high) for a, n in zip(side[2:], sizes))
    return inner and not any((*low[:2], *high[:2]))


def _max_pool(exporter: Exporter, node: Node) -> str | None:
    window = _pooled_window(node)
    if window is None or node.inputs[0].type.dtype.kind != "f":
        return None
    return _pool(exporter, window, "MaxPool", -math.inf)


def _average(exporter: Exporter, window: Node) -> str:
    return _pool(exporter, window, "AveragePool", 0.0, count_include_pad=1)


def _can_average(exporter: Exporter, node: Node) -> Node | None:
    window = _pooled_window(node)
    if window is None or node.inputs[0].type.dtype.kind != "f":
        return None
    if any(d != 1 for d in window.attrs["dilations"]) and exporter.g.opset < 19:
        return None
    return window


def _sum_pool(exporter: Exporter, node: Node) -> str | None:
    window = _can_average(exporter, node)
    if window is None:
        return None
    count = exporter.g.scalar(math.prod(window.attrs["sizes"]), node.inputs[0].type.dtype)
    return exporter.g.op("Mul", [_average(exporter, window), count])


def _scaled_pool(exporter: Exporter, node: Node) -> str | None:
    total, scale = [_made_by(v, name) for v, name in zip(node.inputs, ("reduce_sum", "full"))]
    if total is None or scale is None:
        return None
    window = _can_average(exporter, total)
    if window is None:
        return None
    count = math.prod(window.attrs["sizes"])
    wanted = 1 / count if node.op.name == "mul" else count
    if not math.isclose(scale.attrs["value"], wanted, rel_tol=1e-7):
        return None
    return _average(exporter, window)


# --- bias ----------------------------------------------------------------------------------------


def _biased(exporter: Exporter, node: Node) -> str | None:
    """A sum with an expanded vector, after an op that takes a bias and that nobody else reads."""
    for value, other in (node.inputs, node.inputs[::-1]):
        wide = _made_by(other, "expand")
        if wide is None or len(wide.inputs[0].type.shape) != 1 or exporter.uses[value] != 1:
            continue
        rank, axes = len(other.type.shape), wide.attrs["axes"]
        bias = exporter.env[wide.inputs[0]]
        made = _made_by(value, "conv", "conv_grad_input")
        if made is not None and axes == tuple(i for i in range(rank) if i != 1):
            inputs = [exporter.env[v] for v in made.inputs]
            write: Any = made.op.to_onnx  # type: ignore[attr-defined]
            return write(exporter.g, made, *inputs, bias)
        made = _made_by(value, "dot")
        if made is not None and axes == (0,):
            found = _gemm(exporter, made, bias)
            if found is not None:
                return found
    return None


def _gemm(exporter: Exporter, node: Node, bias: str | None = None) -> str | None:
    """A product of matrices whose second axes meet, or of any two with a bias."""
    a, b = node.inputs
    contract, batch = node.attrs["contract"], node.attrs["batch"]
    if len(a.type.shape) != 2 or len(b.type.shape) != 2 or batch != ((), ()):
        return None
    if len(contract[0]) != 1 or a.type.dtype.kind != "f" or (bias is None and contract[1] == (0,)):
        return None
    inputs = [exporter.env[a], exporter.env[b], *([bias] if bias else [])]
    left, right = contract[0] == (0,), contract[1] == (1,)
    return exporter.g.op("Gemm", inputs, transA=1 if left else None, transB=1 if right else None)


_RULES = {
    "reduce_max": _max_pool,
    "max_first": _max_pool,
    "reduce_sum": _sum_pool,
    "mul": _scaled_pool,
    "div": _scaled_pool,
    "add": _biased,
    "dot": _gemm,
}
