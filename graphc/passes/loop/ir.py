"""The loop level: what one kernel does, as loops over statements with ordered effects.

A backend prints it: `Loop` is a scalar loop, `Lanes` runs a vector along its variable, and
accumulators live in registers that every loop around an update carries. Expressions inside are
those of the group (`graphc.passes.fuse.expr`); an expression belongs to the innermost loop among
its variables, so hoisting is no statement's business. The text of a kernel is for people:

    kernel k0 rows (parallel i0 in 64 units of 1)
      for i0 in 0..64 parallel:
        reduce m = reduce_max x 4:
          lanes i1 in 0..1000 x 4:
            m <- x[1000*i0 + i1]
        result m
        lanes i1 in 0..1000:
          out[1000*i0 + i1] = sub(x[1000*i0 + i1], m)
"""

from __future__ import annotations

from dataclasses import dataclass, field

from graphc.ir.dims import AnyDim
from graphc.ir.dtype import DType
from graphc.ir.graph import Value

from ..fuse.affine import ZERO, Affine, Variable
from ..fuse.expr import Expr

# --- bounds of loops -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class At:
    """The present value of an enclosing loop's variable."""

    variable: Variable

    def __str__(self) -> str:
        return f"i{self.variable}"


@dataclass(frozen=True, slots=True)
class Sum:
    """left + right."""

    left: Bound
    right: Bound

    def __str__(self) -> str:
        return f"{self.left} + {self.right}"


@dataclass(frozen=True, slots=True)
class Least:
    """The smaller of two."""

    left: Bound
    right: Bound

    def __str__(self) -> str:
        return f"min({self.left}, {self.right})"


@dataclass(frozen=True, slots=True)
class RoundDown:
    """The largest multiple of `multiple` that is not above `size`."""

    size: AnyDim
    multiple: int

    def __str__(self) -> str:
        return f"floor({self.size}, {self.multiple})"


@dataclass(frozen=True, slots=True)
class BlockStep:
    """`size` below `limit`, else `block`: one body for rows of any length."""

    size: AnyDim
    limit: int
    block: int

    def __str__(self) -> str:
        return f"({self.size} < {self.limit} ? {self.size} : {self.block})"


@dataclass(frozen=True, slots=True)
class RowBlock:
    """Rows in a block of a column sum: a power of two that depends on the number of rows."""

    rows: AnyDim

    def __str__(self) -> str:
        return f"block({self.rows})"


@dataclass(frozen=True, slots=True)
class RowBlocks:
    """The number of blocks of a column sum."""

    rows: AnyDim

    def __str__(self) -> str:
        return f"blocks({self.rows})"


@dataclass(frozen=True, slots=True)
class BlockCount:
    """How many blocks of `step` cover `size`."""

    size: AnyDim
    step: Bound

    def __str__(self) -> str:
        return f"ceil({self.size} / {self.step})"


@dataclass(frozen=True, slots=True)
class ToLine:
    """How many elements lie between `place` and the next multiple of `line`."""

    place: Affine
    line: int

    def __str__(self) -> str:
        return f"to_line({self.line})"


Bound = (
    AnyDim | At | Sum | Least | RoundDown | BlockStep | RowBlock | RowBlocks | BlockCount | ToLine
)


def rows_per_block(rows: int) -> int:
    """About the root of the number of rows, so that the error of a sum grows with it."""
    return max(32, 2 << ((rows - 1).bit_length() + 1) // 2) if rows > 1 else 32


def block_rows(rows: AnyDim) -> Bound:
    """`rows_per_block` of a number that may be symbolic."""
    return rows_per_block(rows) if isinstance(rows, int) else RowBlock(rows)


# --- accumulators and statements -----------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Accumulator:
    """Registers that a reduction collects in.

    op: the reduction's op name (for arg_reduce with its direction: `arg_max`, `arg_min`).
    dtype: of the registers. registers: how many vectors; 0 for one per vector of the lanes.
    place: for arg reductions, the position along the reduced dims.
    """

    value: Value
    op: str
    dtype: DType
    registers: int = 0
    place: Affine | None = None


@dataclass(slots=True, eq=False)
class Loop:
    """A scalar loop. `declared` is the range that guards are folded with."""

    variable: Variable
    low: Bound
    high: Bound
    step: Bound
    body: list[Statement]
    declared: tuple[AnyDim, AnyDim] | None = None
    parallel: bool = False


@dataclass(slots=True, eq=False)
class Lanes:
    """Vectors along `variable`, `unroll` of them a step; the last one may be partly inactive.

    wide: statements in the body handle all vectors of a step at once, so that loops inside run
    once for them; otherwise the body stands once for each vector.
    """

    variable: Variable
    low: Bound
    high: Bound
    unroll: int
    body: list[Statement]
    declared: tuple[AnyDim, AnyDim] | None = None
    wide: bool = False
    parallel: bool = False


@dataclass(slots=True, eq=False)
class Stage:
    """A part of a row program; expressions kept in scratch say from which stage on they are."""

    number: int
    body: list[Statement]


@dataclass(slots=True, eq=False)
class Reduce:
    """Accumulators start at their identities, the body updates them."""

    accumulators: list[Accumulator]
    body: list[Statement]


@dataclass(slots=True, eq=False)
class Accumulate:
    """accumulator <- accumulator op expr, at the present point of the lanes."""

    accumulator: Accumulator
    expr: Expr


@dataclass(slots=True, eq=False)
class Fold:
    """into <- into op source, register by register."""

    into: Accumulator
    source: Accumulator


@dataclass(slots=True, eq=False)
class Flush:
    """Where `place` is a multiple of `block`: as Fold, and source starts again."""

    into: Accumulator
    source: Accumulator
    place: Affine
    block: Bound


@dataclass(slots=True, eq=False)
class Result:
    """The accumulator's value becomes readable by expressions.

    across: all its lanes are combined too. stored: it is written at `place` of its buffer.
    """

    accumulator: Accumulator
    across: bool
    place: Affine
    stored: bool


@dataclass(slots=True, eq=False)
class Store:
    """buffer[place] = expr; one_lane: the same in all lanes, one element is written.

    streamed: past the caches, where the vectors of a step are whole lines of memory.
    """

    value: Value
    place: Affine
    expr: Expr
    one_lane: bool = False
    streamed: bool = False


@dataclass(slots=True, eq=False)
class ColumnAdd:
    """buffer[place] += expr, in memory, along the lanes.

    Into a partial, it goes to the line of the present block: row // block, lines of `columns`.
    """

    into: Value | Partial
    place: Affine
    expr: Expr
    row: Affine | None = None
    block: Bound = 0
    columns: AnyDim = 0


@dataclass(slots=True, eq=False)
class SaveRegisters:
    """Writes an accumulator's registers to the line of the present block of a partial.

    The block's number is the value of the loop `block` divided by `step`. Within the line they
    are at `place`, or one after the other.
    """

    accumulator: Accumulator
    partial: Partial
    block: Variable
    step: Bound
    place: Affine | None


@dataclass(slots=True, eq=False)
class Resume:
    """Takes an accumulator up from where SaveRegisters of the same block left it, in its line.

    Where `row` is at a block's first row, it starts at its identity.
    """

    accumulator: Accumulator
    partial: Partial
    block: Variable
    step: Bound
    place: Affine
    row: Variable


@dataclass(slots=True, eq=False)
class ScanStep:
    """A running reduction along the lanes: buffer[place] = accumulator op all lanes up to here."""

    accumulator: Accumulator
    expr: Expr
    place: Affine


@dataclass(slots=True, eq=False)
class StoreRegisters:
    """buffer[place] = the accumulator's registers."""

    accumulator: Accumulator
    place: Affine


@dataclass(slots=True, eq=False)
class Clear:
    """Sets `size` elements of a buffer to zero, from `place` on; with `block`, only the lines (of
    `size` elements) of those blocks of rows that the present chunk goes through."""

    buffer: Value | Partial
    size: AnyDim
    block: Bound = 0
    place: Affine = ZERO


@dataclass(slots=True, eq=False)
class CopyBuffer:
    """Copies `size` elements of a buffer, from `place` on, to the same place of another."""

    into: Value
    source: Value
    size: AnyDim
    place: Affine = ZERO


@dataclass(slots=True, eq=False)
class Scatter:
    """buffer[place + stride * index] op= expr for each point, in the order of the points."""

    value: Value
    op: str
    place: Affine
    strides: tuple[AnyDim, ...]
    indices: list[Expr]
    expr: Expr


@dataclass(slots=True, eq=False)
class TileLoad:
    """Brings a square tile of each load into fast memory, transposed.

    It has the lanes of the present vector along `lane`, and `steps` values of `step` from the
    value of the loop `start` on. Inside, the loads read the tile. ahead: a variable, and how far
    along it memory is fetched into the caches meanwhile.
    """

    loads: list[Expr]
    step: Variable
    start: Variable
    lane: Variable
    steps: int
    ahead: tuple[Variable, int] | None = None


@dataclass(slots=True, eq=False)
class RowTiles:
    """Tiles of each load, transposed, at the present vector of whole rows in scratch.

    As TileLoad; but the rows, of `length` elements, lie beside each other from byte `offsets` of
    scratch on, the first of them that of the value of the loop `first`. Later the loads read these.
    """

    loads: list[Expr]
    step: Variable
    start: Variable
    lane: Variable
    first: Variable
    length: AnyDim
    offsets: list[AnyDim]


@dataclass(slots=True, eq=False)
class ShortReduce:
    """The reduction of rows in lanes: `expr` at each point of the row, combined as a tree."""

    accumulator: Accumulator
    expr: Expr
    points: list[tuple[Variable, int]]


@dataclass(slots=True, eq=False)
class ShortStore:
    """Rows in lanes: buffer[place] = expr for each point of the row."""

    value: Value
    place: Affine
    expr: Expr
    points: list[tuple[Variable, int]]


Statement = (
    Loop | Lanes | Stage | Reduce | Accumulate | Fold | Flush | Result | Store | ColumnAdd
    | SaveRegisters | Resume | ScanStep | StoreRegisters | Clear | CopyBuffer | Scatter
    | TileLoad | RowTiles | ShortReduce | ShortStore
)  # fmt: skip


@dataclass(slots=True, eq=False)
class Partial:
    """A buffer of partial sums that chunks of rows leave for a combining kernel.

    It has one line of `columns` elements for each block of rows; `lines` is their number, or no
    less than it.
    """

    name: str
    dtype: DType
    columns: AnyDim
    lines: AnyDim


@dataclass(slots=True, eq=False)
class KeptRow:
    """An expression that later stages read from scratch, at `offset` bytes."""

    offset: AnyDim
    stage: int


@dataclass(slots=True, eq=False)
class Kernel:
    """One kernel: `body` over `extents`.

    units: how many steps the parallel loop has (1: the kernel is one chunk); unit: steps that
    belong together; `dropped` variables have been merged into others; `lane` are the variables
    that differ between lanes; `pair` = (outer, inner, inner extent) where the lanes run over two
    variables together; `writes` are the buffers that the kernel writes; `over`: (result, operand)
    where the result may be written over the operand.
    """

    name: str
    kind: str
    body: list[Statement]
    extents: dict[Variable, AnyDim]
    dropped: frozenset[Variable] = frozenset()
    lanes: frozenset[Variable] = frozenset()
    pair: tuple[Variable, Variable, int] | None = None
    units: AnyDim = 1
    unit: Bound = 1
    scratch: AnyDim = 0
    kept: dict[Expr, KeptRow] = field(default_factory=dict)
    row: Affine = ZERO
    writes: list[Value | Partial] = field(default_factory=list)
    over: tuple[tuple[Value, Value], ...] = ()
    work: float = 0.0
    points: AnyDim = 0
    point_ns: float = 0.0
