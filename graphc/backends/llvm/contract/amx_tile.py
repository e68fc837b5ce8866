"""The tile of a product of bf16 by AMX: sums in up to four tile registers of 16 rows by 16 columns.

One instruction adds the products of 32 of k, 16 pairs, in an order that the processor fixes. So
each element is one chain over blocks of 32 of k, whatever the tile's shape and its blocks of k,
which are multiples of that; `pairs.py` fills the last with zeros.

The registers of B are loaded past the first cache, where the rows of A stay.
"""

from collections.abc import Sequence

from graphc.backends.llvm.contract.element import PAIR
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.gemm_tile import TileContext, TileShape, column_masks
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.pairs import PairSums

# Rows of a register, and its columns: pairs of A, sums. A register of B has 16 pairs as its rows.
SIDE = 16
# Sums have the registers below, two for each of A's or all; A has the two from here on, or one; B
# the others.
_A = 4
_CONFIG_BYTES, _CONFIG_ROWS = 64, 48


def configure(
    emitter: Emitter, builder: KernelBuilder, rows: int, exist: str | None = None
) -> None:
    """Give the calling thread registers for tiles of `rows` rows; `release` takes them.

    exist  how many of at most 16 rows there are, where that is known at run time only
    """
    stacked = -(-rows // SIDE)
    heights = [min(SIDE, rows - at * SIDE) for at in range(stacked)]
    of_sums = [height for height in heights for _ in range(_A // stacked)]
    table = bytearray(_CONFIG_BYTES)
    table[0] = 1  # the palette
    for register, count in enumerate([*of_sums, *heights, *[SIDE] * (8 - _A - stacked)]):
        table[SIDE + 2 * register] = 64  # bytes of a row
        table[_CONFIG_ROWS + register] = count
    words = [
        int.from_bytes(table[at : at + 8], "little", signed=True)
        for at in range(0, _CONFIG_BYTES, 8)
    ]
    if exist is None:
        config = builder.table(words)
    else:
        config = emitter.room(_CONFIG_BYTES)
        for at, word in enumerate(words):
            emitter.store("i64", str(word), emitter.address(config, at, "i64"), 8)
        count = emitter.value(f"trunc i64 {exist} to i8")
        for register in range(_A + 1):
            emitter.store("i8", count, emitter.address(config, _CONFIG_ROWS + register, "i8"), 1)
    emitter.call("void", "llvm.x86.ldtilecfg", ("ptr", config))


def release(emitter: Emitter) -> None:
    """The thread's registers are free, and need not be saved."""
    emitter.call("void", "llvm.x86.tilerelease")


def amx_function(context: TileContext, shape: TileShape, usual: int) -> Subroutine:
    """The subroutine of one tile shape of at most 32 rows, and 64 sums' columns by 16 rows.

    As `tile_function`, with one more pointer: "sums", memory for the sums of a tile, in which they
    lie before they are rounded. If `shape.rest` there are at most 16 rows. The registers are
    configured for `usual` rows before and after.
    """
    indices: dict[str, int | None] = {"k": None, "a_row": context.a_row, "b_k": context.b_k}
    indices["c_row"] = context.c_row
    if shape.columns == "run time":
        indices["columns"] = None
    if shape.rest:
        indices["rows"] = None
    if context.blocked:
        indices["first"] = None
    routine = Subroutine(("a", "b", "c", "sums"), indices)
    _Tile(routine, context, shape, usual).emit()
    routine.define(context.builder, f"amx{shape.rows}x{shape.vectors}")
    return routine


class _Tile:
    """One such function being written."""

    def __init__(
        self, routine: Subroutine, context: TileContext, shape: TileShape, usual: int
    ) -> None:
        self.emitter, self.values = routine.emitter, routine.values
        self.context, self.shape = context, shape
        self.vector = PairSums(self.emitter, context.sums, context.target)
        self.stacked = -(-shape.rows // SIDE)
        self.usual = usual
        self.rows: Index = self.values["rows"] if shape.rest else shape.rows
        self.rounds = context.stored is not context.sums

    def emit(self) -> None:
        exist = str(self.rows) if self.shape.rest else None
        own = exist is not None or self.shape.rows != self.usual
        if own:
            configure(self.emitter, self.context.builder, self.shape.rows, exist)
        if self.context.blocked:
            first = self.emitter.compare("ne", self.values["first"], 0)
            self.emitter.when(first, self._clear, lambda: self._each_sum("llvm.x86.tileloadd64"))
        else:
            self._clear()
        self.emitter.loop(0, self.values["k"], SIDE, self._step)
        self._each_sum("llvm.x86.tilestored64")
        if own:
            configure(self.emitter, self.context.builder, self.usual)
        if self.rounds:
            self._round()

    def _sums_of(self, at: int) -> range:
        """The registers of the sums of one register of A."""
        return range(2 * at, 2 * at + self.shape.vectors)

    def _clear(self) -> None:
        for row in range(self.stacked):
            for register in self._sums_of(row):
                self.emitter.call("void", "llvm.x86.tilezero", ("i8", register))

    def _step(self, at: Index, _carried: Sequence[str]) -> None:
        """16 pairs: each register of A and of B is read once."""
        emitter, vector, values = self.emitter, self.vector, self.values
        a = vector.address("%a", at, PAIR)
        b = vector.address("%b", emitter.mul(at, values["b_k"]), PAIR)
        of_b = range(_A + self.stacked, 8)
        for place in range(self.shape.vectors):
            right = of_b[place % len(of_b)]
            self._move("llvm.x86.tileloaddt164", right, b, place * SIDE, values["b_k"])
            for row in range(self.stacked):
                left = _A + row
                if place == 0:
                    start = emitter.mul(values["a_row"], row * SIDE)
                    self._move("llvm.x86.tileloadd64", left, a, start, values["a_row"])
                registers = (("i8", self._sums_of(row)[place]), ("i8", left), ("i8", right))
                emitter.call("void", "llvm.x86.tdpbf16ps", *registers)

    def _each_sum(self, instruction: str) -> None:
        """Every register of sums from or to memory."""
        columns = self.shape.vectors * SIDE
        base, stride = ("%sums", columns) if self.rounds else ("%c", self.values["c_row"])
        for row in range(self.stacked):
            for place, register in enumerate(self._sums_of(row)):
                start = self.emitter.mul(stride, row * SIDE)
                start = self.emitter.add(start, place * SIDE)
                self._move(instruction, register, base, start, stride)

    def _move(
        self, instruction: str, register: int, base: str, start: Index, stride: Index
    ) -> None:
        """A register whose first row is `start` elements of 4 bytes from `base`, rows `stride`
        apart."""
        pointer = self.vector.address(base, start, PAIR)
        operands = (("i8", register), ("ptr", pointer), ("i64", self.emitter.mul(stride, 4)))
        self.emitter.call("void", instruction, *operands)

    def _round(self) -> None:
        """The sums of the tile, rounded, into the output."""
        emitter, vector, stored = self.emitter, self.vector, self.context.stored
        masks = column_masks(vector, self.shape, self.values)

        def one(row: Index, _carried: Sequence[str] = ()) -> None:
            here = vector.address("%sums", emitter.mul(row, self.shape.vectors * SIDE))
            there = vector.address("%c", emitter.mul(row, self.values["c_row"]), stored)
            for place, mask in enumerate(masks):
                value = vector.load(vector.address(here, place * SIDE))
                into = vector.address(there, place * SIDE, stored)
                vector.store(value, into, mask, stored)

        if isinstance(self.rows, str):
            emitter.loop(0, self.rows, 1, one)
            return
        for row in range(self.rows):
            one(row)
