"""Combining kernels: partial sums of blocks of rows, added in the order of the blocks."""

from __future__ import annotations

from graphc.ir.dims import AnyDim
from graphc.ir.graph import Value

from ..fuse.affine import Affine
from ..fuse.expr import Access, ExprTable
from ..fuse.sizes import Sizes
from .ir import (
    Accumulate,
    Accumulator,
    Bound,
    Kernel,
    Lanes,
    Loop,
    Partial,
    Reduce,
    Result,
    Statement,
)

_BLOCK, _COLUMN = 0, 1


def combining_kernel(
    value: Value, partial: Partial, name: str, sizes: Sizes, blocks: Bound | None = None
) -> Kernel:
    """The sum of the lines of a partial, each column in a lane of its own."""
    place = Affine(0, ((_COLUMN, 1),))
    table = ExprTable()
    line = Affine(0, ((_BLOCK, partial.columns), (_COLUMN, 1)))
    element = table.make("load", (), Access(partial, line), partial.dtype)
    total = Accumulator(value, "reduce_sum", partial.dtype)
    lines: Bound = partial.lines if blocks is None else blocks
    columns: AnyDim = partial.columns
    unroll = min(4, max(1, sizes.hint(columns) // 16))
    run = Loop(_BLOCK, 0, lines, 1, [Accumulate(total, element)], (0, partial.lines))
    body: list[Statement] = [Reduce([total], [run]), Result(total, False, place, stored=True)]
    lanes = Lanes(_COLUMN, 0, columns, unroll, body, (0, columns), wide=True)
    kernel = Kernel(name, "combine", [lanes], {_BLOCK: partial.lines, _COLUMN: columns})
    kernel.lanes = frozenset([_COLUMN])
    kernel.writes = [value]
    return kernel
