"""A sum of zero-padded pieces that lie side by side is their concatenation: what the derivatives of
`chunk`, `split` and `unbind` are.

    pad(a) + pad(b)  ->  pad(concat(a, b) + 0)

The sum would make 0.0 of each -0.0, so the zero stays: one addition an element instead of one for
each piece. A matcher by hand, since a pattern has a fixed number of operands.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir import ops
from graphc.ir.dims import AnyDim
from graphc.ir.graph import Attrs, Value
from graphc.ir.op import OPS

ADD, CONCAT, FULL, PAD = OPS["add"], OPS["concat"], OPS["full"], OPS["pad"]
#: Most pieces of one concatenation: each piece that joins makes it anew.
MOST_PIECES = 256


@dataclass
class _Pieces:
    """Pieces one after the other along an axis, with zeros around them."""

    axis: int
    start: AnyDim
    parts: tuple[Value, ...]

    @property
    def end(self) -> AnyDim:
        total = self.start
        for part in self.parts:
            total = total + part.type.shape[self.axis]
        return total


def sum_of_pads(inputs: tuple[Value, ...], attrs: Attrs) -> tuple[Value, ...] | None:
    first, second = inputs
    if first.node is None or first.node.op is not PAD:
        return None
    a, b = _pieces(first), _pieces(second)
    if a is None or b is None or a.axis != b.axis:
        return None
    if b.end == a.start:
        a, b = b, a
    if a.end != b.start or len(a.parts) + len(b.parts) > MOST_PIECES:
        return None
    axis, parts = a.axis, (*a.parts, *b.parts)
    joined = ops.concat(*parts, axis=axis)
    if joined.type.dtype.kind in "fc":
        joined = ops.add(joined, ops.full_like(0, joined))
    shape = first.type.shape
    rest = shape[axis] - b.end
    if a.start == 0 and rest == 0:
        return (joined,)
    low = tuple([a.start if i == axis else 0 for i in range(len(shape))])
    high = tuple([rest if i == axis else 0 for i in range(len(shape))])
    return (ops.pad(joined, low=low, high=high, value=first.node.attrs["value"]),)


def _pieces(value: Value) -> _Pieces | None:
    """What a value holds besides zeros, where it is padded along one axis."""
    node = value.node
    if node is None or node.op is not PAD or str(node.attrs["value"]) not in ("0", "0.0"):
        return None  # (-0.0 would leave a -0.0 as it is)
    low, high = node.attrs["low"], node.attrs["high"]
    axes = [i for i, (a, b) in enumerate(zip(low, high)) if a != 0 or b != 0]
    if len(axes) != 1:
        return None
    return _Pieces(axes[0], low[axes[0]], _parts(node.inputs[0], axes[0]))


def _parts(value: Value, axis: int) -> tuple[Value, ...]:
    """The parts of what this rule made before; else the value."""
    node = value.node
    if node is not None and node.op is ADD and _is_zero(node.inputs[1]):
        node = node.inputs[0].node
    if node is not None and node.op is CONCAT and node.attrs["axis"] == axis:
        return node.inputs
    return (value,)


def _is_zero(value: Value) -> bool:
    node = value.node
    return node is not None and node.op is FULL and node.attrs["value"] == 0
