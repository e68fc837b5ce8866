"""What forward and reverse mode share: which values have derivatives, sums, scales and zeros."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from graphc.ir.build import Builder
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Attrs, Graph, Node, Value
from graphc.ir.op import OPS, Op, constant_like
from graphc.ir.types import TensorType

VIA = "via autodiff"

Pullback = Callable[[Builder, Any, Sequence[int], list[Value | None]], Sequence[Value | None]]


class NodeView:
    """A node as it stands in the graph being built, for rules that read more than its operands."""

    __slots__ = ("attrs", "blocks", "inputs", "loc", "op", "outputs")

    def __init__(
        self,
        op: Op,
        inputs: tuple[Value, ...],
        outputs: tuple[Value, ...],
        attrs: Attrs,
        blocks: tuple[Graph, ...],
        loc: str,
    ) -> None:
        self.op, self.inputs, self.outputs = op, inputs, outputs
        self.attrs, self.blocks, self.loc = attrs, blocks, loc

    @staticmethod
    def of(node: Node, new: dict[Value, Value]) -> NodeView:
        inputs = tuple([new[value] for value in node.inputs])
        outputs = tuple([new[value] for value in node.outputs])
        return NodeView(node.op, inputs, outputs, node.attrs, node.blocks, node.loc)


def has_derivative(value: Value) -> bool:
    """Floating-point and complex tensors have one; integers, bools and host values have none."""
    type = value.type
    return type.__class__ is TensorType and type.dtype.kind in "fc"


def differentiable(values: Sequence[Value]) -> list[int]:
    """The places of the values that have derivatives."""
    return [i for i, value in enumerate(values) if has_derivative(value)]


def derived(loc: str) -> str:
    """The source line of a node that stands in for the derivative of a node at `loc`."""
    if loc.endswith(VIA):
        return loc
    return f"{loc} {VIA}" if loc else VIA


def zero_like(value: Value) -> Value:
    return constant_like(0.0, value)


def or_zero(tangent: Value | None, like: Value) -> Value:
    return zero_like(like) if tangent is None else tangent


def add_to(known: dict[Value, Value], value: Value, more: Value) -> None:
    before = known.get(value)
    known[value] = more if before is None else OPS["add"](before, more)


def total(parts: Iterable[Value | None]) -> Value | None:
    """The sum from left to right of those that are there."""
    found: Value | None = None
    for part in parts:
        if part is not None:
            found = part if found is None else OPS["add"](found, part)
    return found


def scaled(tangent: Value, slope: Any) -> Value | None:
    """tangent * slope; slopes of None, 0, 1 and -1 are not multiplied."""
    if slope is None:
        return None
    if not isinstance(slope, Value):
        if slope == 1:
            return tangent
        if slope == -1:
            return OPS["neg"](tangent)
        if slope == 0:
            return None
    return OPS["mul"](tangent, slope)


def conjugate(value: Value) -> Value:
    """The complex conjugate; a real value is its own."""
    if value.type.dtype.kind != "c":
        return value
    imaginary = OPS["neg"](OPS["imag"](value))
    return OPS["complex"](OPS["real"](value), imaginary)


def linear_places(node: Any) -> Sequence[int]:
    """The operands in which the op is linear; a last, variadic one stands for all that follow."""
    linear, operands = node.op.linear, node.op.operands
    if operands and operands[-1][1].variadic and len(operands) - 1 in linear:
        return [*linear, *range(len(operands), len(node.inputs))]
    return linear


def missing_derivative(node: Any) -> UnsupportedError:
    reason = node.op.no_derivative or "none is declared"
    return UnsupportedError(f"the op {node.op.name} has no derivative: {reason}", at=node.loc)
