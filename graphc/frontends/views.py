"""Views on a pure IR: a view is a chain of movement nodes from its storage's value.

Reading a view replays the chain; writing to it puts the new elements back through the chain, from
the inside out, and gives a new value of the whole storage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from ..ir import ops
from ..ir.build import Builder
from ..ir.dims import AnyDim, Dim
from ..ir.dtype import BOOL, I64
from ..ir.errors import ShapeError
from ..ir.graph import Attrs, Node, Value
from ..ir.interpret import concrete as concrete_attrs
from ..ir.types import TensorType
from .symbolic import concrete_type

Chain = tuple[Node, ...]
Geometry = tuple[int, tuple[int, ...], tuple[int, ...]]  # offset, shape, strides, in elements
Block = tuple[tuple[int, ...], tuple[int, ...]]  # starts and sizes by the axes of the storage

_IDENTITY = (ops.detach,)
_OVERLAPPING = (ops.expand, ops.window)  # their elements may share memory
_MOVES = (ops.reshape, ops.permute, ops.slice_, ops.expand, ops.window, ops.detach)


def chain_between(nodes: Sequence[Node], base: Value, result: Value) -> Chain | None:
    """The movement nodes that lead from `base` to `result`; None where other ops are between."""
    chain: list[Node] = []
    own = set(nodes)
    value = result
    while value is not base:
        node = value.node
        if node is None or node not in own or node.op not in _MOVES:
            return None
        chain.append(node)
        value = node.inputs[0]
    return tuple(reversed(chain))


def detached(chain: Chain) -> bool:
    """Whether no derivative passes through a view."""
    return bool(chain) and any([node.op is ops.detach for node in chain])


def moves(chain: Chain) -> bool:
    """Whether a view is more than the whole in its own order."""
    return bool(chain) and any([node.op is not ops.detach for node in chain])


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


@lru_cache(maxsize=256)
def geometry(chain: Chain, base: tuple[int, ...], start: Geometry | None = None) -> Geometry | None:
    """Offset, shape and strides of a view of a contiguous storage of shape `base`.

    None where the elements have no constant strides: a reshape that has to copy.
    """
    offset, shape, strides = start or (0, tuple(base), row_major(base))
    for at, node in enumerate(chain):
        attrs = node.attrs
        if node.op is ops.permute:
            shape = tuple([shape[i] for i in attrs["perm"]])
            strides = tuple([strides[i] for i in attrs["perm"]])
        elif node.op is ops.slice_:
            offset += sum([a * s for a, s in zip(attrs["start"], strides, strict=True)])
            shape = node.outputs[0].type.shape
            strides = tuple([s * k for s, k in zip(strides, attrs["step"], strict=True)])
        elif node.op is ops.expand:
            axes, kept = attrs["axes"], iter(strides)
            shape = attrs["shape"]
            strides = tuple([0 if i in axes else next(kept) for i in range(len(shape))])
        elif node.op is ops.reshape:
            found = _reshaped(shape, strides, attrs["shape"])
            if found is None:
                moved = _diagonal((offset, shape, strides), chain[at : at + 2])
                return moved and geometry(chain[at + 2 :], (), moved)
            shape, strides = attrs["shape"], found
        elif node.op is ops.window:
            lead = len(shape) - len(attrs["sizes"])
            outer = [s * k for s, k in zip(strides[lead:], attrs["strides"], strict=True)]
            inner = [s * k for s, k in zip(strides[lead:], attrs["dilations"], strict=True)]
            shape = node.outputs[0].type.shape
            strides = (*strides[:lead], *outer, *inner)
    return offset, shape, strides


def _diagonal(start: Geometry, chain: Chain) -> Geometry | None:
    """The diagonal of the last two axes, [..., n, m] -> [..., n * m] -> every (m + 1)st element.

    It has constant strides even where the reshape alone has none.
    """
    offset, shape, strides = start
    if len(chain) < 2 or chain[1].op is not ops.slice_ or len(shape) < 2:
        return None
    attrs, m = chain[1].attrs, shape[-1]
    if chain[0].attrs["shape"] != (*shape[:-2], shape[-2] * m) or attrs["step"][-1] != m + 1:
        return None
    if any(attrs["start"][:-1]) or any([k != 1 for k in attrs["step"][:-1]]):
        return None
    row, column = divmod(attrs["start"][-1], m)
    offset += row * strides[-2] + column * strides[-1]
    return offset, chain[1].outputs[0].type.shape, (*strides[:-2], strides[-2] + strides[-1])


def _reshaped(
    old: Sequence[int], strides: Sequence[int], new: Sequence[int]
) -> tuple[int, ...] | None:
    """The strides that show the same memory in another shape, or None.

    Runs of axes of `old` that lie side by side are matched with axes of `new`, from the last on,
    as torch does it: so axes of size 1 get torch's strides too.
    """
    if 0 in old:
        return row_major(new)
    if not old:
        return (1,) * len(new)
    out = [0] * len(new)
    at = len(new) - 1
    base, run, left = strides[-1], 1, 1  # of the run: its smallest stride and its two products
    for axis in range(len(old) - 1, -1, -1):
        run *= old[axis]
        joins = axis > 0 and (old[axis - 1] == 1 or strides[axis - 1] == run * base)
        if joins:
            continue
        while at >= 0 and (left < run or new[at] == 1):
            out[at] = left * base
            left *= new[at]
            at -= 1
        if left != run:
            return None
        if axis > 0:
            base, run, left = strides[axis - 1], 1, 1
    return tuple(out) if at < 0 else None


def _is_static(node: Node) -> bool:
    """Whether no symbol stands in a node: a slice of a symbolic axis may have a static result."""
    return node.outputs[0].type.is_static and node.inputs[0].type.is_static


def is_static(chain: Chain) -> bool:
    """Whether no symbol stands in a chain."""
    return all([_is_static(node) for node in chain])


def concrete(chain: Chain, sizes: Mapping[str, int]) -> Chain:
    """The chain with sizes in place of symbols: views outlive the trace that named them."""
    found = []
    for node in chain:
        if not _is_static(node):
            attrs = Attrs.of(concrete_attrs(node.attrs, sizes))
            node = _concrete_node(node, attrs, concrete_type(node.outputs[0].type, sizes))
        found.append(node)
    return tuple(found)


@lru_cache(maxsize=4096)
def _concrete_node(node: Node, attrs: Attrs, type: TensorType) -> Node:
    """One node for each node and sizes, so that equal views have equal chains."""
    return Node(node.op, node.inputs, [type], attrs, (), node.loc)


def replay(value: Value, chain: Chain) -> Value:
    """The view of another value of the same type."""
    builder = Builder.current()
    for node in chain:
        value = builder.emit(node.op, (value,), node.attrs)[0]
    return value


@lru_cache(maxsize=4096)
def block(chain: Chain, shape: tuple[int, ...]) -> Block | None:
    """Where the view lies in a storage of that shape, if it is a box of it in the same order.

    That is what integers and slices without a step give. None for other views.
    """
    starts, sizes = [0] * len(shape), list(shape)
    axes: list[int | None] = list(range(len(shape)))  # of the view, as axes of the storage
    for node in chain:
        result = node.outputs[0].type.shape
        if not node.outputs[0].type.is_static or any([isinstance(v, Dim) for v in _starts(node)]):
            return None
        if node.op is ops.slice_ and all([k == 1 for k in node.attrs["step"]]):
            for axis, start, size in zip(axes, node.attrs["start"], result, strict=True):
                if axis is not None:
                    starts[axis] += start
                    sizes[axis] = size
        elif node.op is ops.reshape:
            wide = [axis for axis in axes if axis is not None and sizes[axis] != 1]
            if [sizes[axis] for axis in wide] != [n for n in result if n != 1]:
                return None
            rest = iter(wide)
            axes = [None if n == 1 else next(rest) for n in result]
        elif node.op is not ops.detach:
            return None
    return tuple(starts), tuple(sizes)


def put_block(base: Value, new: Value, sizes: Sequence[AnyDim], starts: Sequence[Value]) -> Value:
    """`base` with the elements of a box, which begins at computed places, replaced by `new`."""
    return ops.dynamic_update(base, ops.reshape(new, shape=tuple(sizes)), *starts)


def _starts(node: Node) -> Sequence[AnyDim]:
    return node.attrs["start"] if node.op is ops.slice_ else ()


def part_block(
    base: Value, sizes: Sequence[AnyDim], starts: Sequence[Value], shape: Sequence[int]
) -> Value:
    """The elements of a box of `base`, which begins at computed places, in a shape of their own."""
    return ops.reshape(ops.dynamic_slice(base, *starts, sizes=tuple(sizes)), shape=tuple(shape))


def put(base: Value, new: Value, chain: Chain) -> Value:
    """`base` with the elements that the chain shows replaced by `new`."""
    if any([node.op in _OVERLAPPING for node in chain]):
        return _put_by_place(base, new, chain)
    values = [base]
    builder = Builder.current()
    for node in chain[:-1]:
        values.append(builder.emit(node.op, (values[-1],), node.attrs)[0])
    for value, node in zip(reversed(values), reversed(chain), strict=True):
        new = _put_one(value, new, node)
    return new


def reads(value: Value, operand: Value) -> bool:
    """Whether the nodes of the current builder compute a value from `operand`."""
    live = {value}
    for node in reversed(Builder.current().nodes):
        if not live.isdisjoint(node.outputs):
            live.update(node.inputs)
    return operand in live


def _put_one(value: Value, new: Value, node: Node) -> Value:
    if node.op is ops.reshape:
        return ops.reshape(new, shape=value.type.shape)
    if node.op is ops.permute:
        return ops.permute(new, perm=ops.inverse(node.attrs["perm"]))
    if node.op in _IDENTITY:
        return new
    return _put_slice(value, new, node)


def _put_by_place(base: Value, new: Value, chain: Chain) -> Value:
    """`put` for views whose elements may share memory: permitted where none of them do."""
    found = geometry(chain, base.type.shape)
    assert found is not None
    offset, shape, strides = found
    if any([n > 1 and s == 0 for n, s in zip(shape, strides, strict=True)]):
        raise ShapeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )
    device, count = base.type.device, math.prod(shape)
    places = ops.full(offset, I64, shape, device)
    for axis, s in enumerate(strides):
        step = ops.full(s, I64, shape, device)
        places = ops.add(places, ops.mul(step, ops.iota(shape, axis, I64, device)))
    flat = ops.reshape(base, shape=(math.prod(base.type.shape),))
    places, new = ops.reshape(places, shape=(count,)), ops.reshape(new, shape=(count,))
    written = ops.scatter(flat, places, new, axis=0, mode="set")
    return ops.reshape(written, shape=base.type.shape)


def _put_slice(value: Value, new: Value, node: Node) -> Value:
    if new.type.shape == value.type.shape:
        return new
    if any([n == 0 for n in new.type.shape]):
        return value
    there = ops.full(True, BOOL, new.type.shape, new.type.device)
    return ops.select(_spread(there, value, node), _spread(new, value, node), value)


def _spread(part: Value, value: Value, node: Node) -> Value:
    """The elements of a slice at their places in a tensor like `value`, zeros elsewhere."""
    start, step = node.attrs["start"], node.attrs["step"]
    for axis, s in enumerate(step):
        if s > 1:
            part = ops.dilate(part, axis, s)
    high = tuple(
        [n - a - m for n, a, m in zip(value.type.shape, start, part.type.shape, strict=True)]
    )
    return ops.pad(part, low=start, high=high, value=0)


def numpy_view(array: np.ndarray, chain: Chain) -> np.ndarray | None:
    """The view as numpy shows it, over the same memory; None where that needs a copy."""
    found = geometry(chain, array.shape)
    if found is None:
        return None
    offset, shape, strides = found
    size = array.dtype.itemsize
    flat = array.reshape(-1)[offset:]
    return np.lib.stride_tricks.as_strided(flat, shape, [s * size for s in strides])
