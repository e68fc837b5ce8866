"""Pieces of a tensor put together again: a matcher by hand, since a pattern has a fixed number of
operands.

1. concat of slices of x that follow each other along the axis is one slice of x.
2. Along the first axis each piece may be reshaped: in row-major order the pieces still follow each
   other, so the whole is a reshape of one slice.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphc.ir import ops
from graphc.ir.dims import AnyDim
from graphc.ir.graph import Attrs, Value
from graphc.ir.op import OPS

SLICE, RESHAPE = OPS["slice"], OPS["reshape"]


@dataclass
class Piece:
    """x[..., start:stop, ...] along one axis, whole along the others."""

    source: Value
    start: AnyDim
    stop: AnyDim


def concat_of_slices(inputs: tuple[Value, ...], attrs: Attrs) -> tuple[Value, ...] | None:
    axis = attrs["axis"]
    if len(inputs) < 2:
        return None
    pieces = []
    for value in inputs:
        node = value.node
        if node is not None and node.op is RESHAPE and axis == 0:
            node = node.inputs[0].node
        if node is None or node.op is not SLICE:
            return None
        piece = _piece(node.inputs[0], node.attrs, axis)
        if piece is None or (pieces and not _follows(pieces[-1], piece)):
            return None
        pieces.append(piece)
    source, rank = pieces[0].source, len(pieces[0].source.type.shape)
    start = tuple([pieces[0].start if i == axis else 0 for i in range(rank)])
    stop = tuple([pieces[-1].stop if i == axis else n for i, n in enumerate(source.type.shape)])
    whole = ops.slice_(source, start=start, stop=stop, step=(1,) * rank)
    (result,) = OPS["concat"].infer(attrs, [v.type for v in inputs])
    return (whole if whole.type is result else ops.reshape(whole, shape=result.shape),)


def _piece(source: Value, attrs: Attrs, axis: int) -> Piece | None:
    start, stop = attrs["start"], attrs["stop"]
    if axis >= len(start) or any([s != 1 for s in attrs["step"]]):
        return None
    for i, n in enumerate(source.type.shape):
        if i != axis and (start[i] != 0 or stop[i] != n):
            return None
    return Piece(source, start[axis], stop[axis])


def _follows(before: Piece, after: Piece) -> bool:
    return after.source is before.source and after.start == before.stop
