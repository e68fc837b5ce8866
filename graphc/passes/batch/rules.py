"""Rules of movement, reductions, contraction: how each attribute changes when an axis comes in
front."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.ir import composite, ops
from graphc.ir.dims import AnyDim
from graphc.ir.errors import UnsupportedError
from graphc.ir.graph import Value
from graphc.ir.op import OPS

from .walk import RULES, Made, Rule, emit, move_to_front, widen_all


def axes_moved(**change: Callable[[Any, AnyDim], Any]) -> Rule:
    """A rule from what becomes of the attributes; all operands are widened."""

    def rule(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
        attrs = {key: function(node.attrs[key], count) for key, function in change.items()}
        made = emit(node, widen_all(inputs, which, count), **attrs)
        return made, [True] * len(made)

    return rule


def later(axes: tuple[int, ...], count: AnyDim) -> tuple[int, ...]:
    return tuple([axis + 1 for axis in axes])


def one_later(axis: int, count: AnyDim) -> int:
    return axis + 1


def with_count(shape: tuple, count: AnyDim) -> tuple:
    return (count, *shape)


def with_zero(sizes: tuple, count: AnyDim) -> tuple:
    return (0, *sizes)


def with_one(steps: tuple, count: AnyDim) -> tuple:
    return (1, *steps)


def permuted(perm: tuple, count: AnyDim) -> tuple:
    return (0, *later(perm, count))


def dot(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    """Both operands mapped: one more batch axis. One: its free axes begin with the examples, and
    so does, after a move, the result."""
    contract, pairs = node.attrs["contract"], node.attrs["batch"]
    contract = tuple([later(a, count) if w else a for a, w in zip(contract, which)])
    pairs = tuple([later(a, count) if w else a for a, w in zip(pairs, which)])
    if all(which):
        pairs = tuple([(0, *axes) for axes in pairs])
        return emit(node, inputs, contract=contract, batch=pairs), [True]
    made = emit(node, inputs, contract=contract, batch=pairs)[0]
    left = len(inputs[0].type.shape) - len(contract[0])  # batch and free axes of the left operand
    return [move_to_front(made, len(pairs[0]) if which[0] else left)], [True]


def over_last_axes(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    """An op whose first operand may have any axes in front; the others must not be mapped."""
    if any(which[1:]):
        from .walk import composite

        return composite(node, inputs, which, count)
    return emit(node, inputs), [True]


def refused(node: Any, inputs: list[Value], which: list[bool], count: AnyDim) -> Made:
    raise UnsupportedError(
        f"{node.op.name} of each example gives another size: vmap cannot stack the results",
        at=node.loc,
    )


for _name in "reduce_sum reduce_prod reduce_max reduce_min flip".split():
    RULES[OPS[_name]] = axes_moved(axes=later)
for _name in "arg_reduce cumulative sort topk concat".split():
    RULES[OPS[_name]] = axes_moved(axis=one_later)
for _name in "window copy_to print assert".split():
    RULES[OPS[_name]] = axes_moved()

RULES[ops.reshape] = axes_moved(shape=with_count)
RULES[ops.permute] = axes_moved(perm=permuted)
RULES[ops.expand] = axes_moved(shape=with_count, axes=later)
RULES[ops.slice_] = axes_moved(start=with_zero, stop=with_count, step=with_one)
RULES[ops.pad] = axes_moved(low=with_zero, high=with_zero)
RULES[ops.dot] = dot
RULES[composite.softmax] = RULES[composite.log_softmax] = axes_moved(axis=one_later)
RULES[composite.attention] = RULES[composite.attention_grad] = axes_moved()
RULES[composite.layer_norm] = over_last_axes
RULES[ops.compact] = refused
