"""Partial results in memory: what blocks of rows leave for a combining kernel.

Column sums beside a row program, sums of few columns, and reductions of one long row are split
between chunks by blocks that their shapes fix; so the bits are those of one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.ir.dims import AnyDim
from graphc.ir.graph import Value

from ..fuse.affine import Affine
from ..fuse.expr import Access, ExprTable
from ..fuse.group import Reduction
from ..fuse.sizes import Sizes
from .dtypes import accumulation_dtype
from .ir import (
    Accumulate,
    Accumulator,
    Bound,
    Clear,
    ColumnAdd,
    Kernel,
    Lanes,
    Loop,
    Partial,
    Reduce,
    Result,
    RowBlocks,
    Statement,
    block_rows,
    rows_per_block,
)

if TYPE_CHECKING:
    from .lower import Lowering

_BLOCK, _COLUMN = 0, 1


class Partials:
    """The partial buffers of one group: `lines[value]` are the sums of blocks for a value."""

    def __init__(self, name: str, sizes: Sizes) -> None:
        self.name, self.sizes = name, sizes
        self.lines: dict[Value, Partial] = {}
        self.blocks: dict[Value, Bound] = {}

    def of_columns(self, reduction: Reduction, rows: AnyDim, columns: AnyDim) -> Partial:
        """One line of `columns` results for each block of rows."""
        value = reduction.value
        found = self.lines.get(value)
        if found is None:
            dtype = accumulation_dtype(_op_of(value), reduction.expr.dtype)
            blocks: Bound
            if isinstance(rows, int):
                lines: AnyDim = -(-rows // rows_per_block(rows))
                blocks = lines
            else:
                lines, blocks = self.sizes.floor_divide(rows, 32) + 1, RowBlocks(rows)
            found = Partial(f"{self.name}_part", dtype, columns, lines)
            self.lines[value], self.blocks[value] = found, blocks
        return found

    def combining_kernels(self) -> list[Kernel]:
        return [
            combining_kernel(value, partial, f"{self.name}_{k}", self.sizes, self.blocks[value])
            for k, (value, partial) in enumerate(self.lines.items())
        ]


def _op_of(value: Value) -> str:
    assert value.node is not None
    return value.node.op.name


def prepare_columns(lowering: Lowering, partials: Partials) -> list[Statement]:
    """Buffers of the column sums beside a row program, set to zero.

    Floats go to partial sums of blocks of rows, in the tree of a column sum alone.
    """
    domain = lowering.group.domain
    rows, columns = domain.kept_size, domain.reduced_size
    clears: list[Statement] = []
    for reduction in lowering.group.code.reductions:
        if reduction.how != "column":
            continue
        value = reduction.value
        dtype = accumulation_dtype("reduce_sum", reduction.expr.dtype)
        few = isinstance(rows, int) and rows <= rows_per_block(rows)
        if dtype is value.type.dtype and (few or dtype.kind != "f"):
            clears.append(Clear(value, columns))
        else:
            partial = partials.of_columns(reduction, rows, columns)
            if lowering.rows_in_chunks:
                clears.append(Clear(partial, columns, block_rows(rows)))
            else:
                clears.append(Clear(partial, columns * partial.lines))
    return clears


def column_add(lowering: Lowering, reduction: Reduction) -> ColumnAdd:
    """The update of a column sum by the elements of one row."""
    domain = lowering.group.domain
    partial = lowering.partials.lines.get(reduction.value)
    if partial is None:
        return ColumnAdd(reduction.value, domain.along, reduction.expr)
    return ColumnAdd(
        partial,
        domain.along,
        reduction.expr,
        domain.kept,
        block_rows(domain.kept_size),
        domain.reduced_size,
    )


def combining_kernel(
    value: Value, partial: Partial, name: str, sizes: Sizes, blocks: Bound
) -> Kernel:
    """The lines of a partial combined in their order, each column in a lane of its own."""
    place = Affine(0, ((_COLUMN, 1),))
    line = Affine(0, ((_BLOCK, partial.columns), (_COLUMN, 1)))
    element = ExprTable().make("load", (), Access(partial, line), partial.dtype)
    total = Accumulator(value, _op_of(value), partial.dtype)
    columns = partial.columns
    unroll = min(4, max(1, sizes.hint(columns) // 16))
    run = Loop(_BLOCK, 0, blocks, 1, [Accumulate(total, element)], (0, partial.lines))
    body: list[Statement] = [Reduce([total], [run]), Result(total, False, place, stored=True)]
    lanes = Lanes(_COLUMN, 0, columns, unroll, body, (0, columns), wide=True)
    kernel = Kernel(name, "combine", [lanes], {_BLOCK: partial.lines, _COLUMN: columns})
    kernel.lanes = frozenset([_COLUMN])
    kernel.writes = [value]
    kernel.work = sizes.hint(columns) * sizes.hint(partial.lines) * 0.1
    return kernel


def total_of_lines(total: Accumulator, partial: Partial, blocks: Bound) -> Statement:
    """Registers that SaveRegisters left, one line a block, combined in the order of the blocks."""
    line = Affine(0, ((_BLOCK, partial.columns), (_COLUMN, 1)))
    element = ExprTable().make("load", (), Access(partial, line), partial.dtype)
    lanes = Lanes(
        _COLUMN,
        0,
        partial.columns,
        total.registers,
        [Accumulate(total, element)],
        (0, partial.columns),
    )
    return Loop(_BLOCK, 0, blocks, 1, [lanes], (0, partial.lines))
