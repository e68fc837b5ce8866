"""The microkernels of a matrix product: the tile and what surrounds it.

A kernel has up to four: full tiles, the rest of the rows, the rest of the columns, and the
corner. Each is a function, so that its code exists once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.epilogue import Epilogue, Position
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.pairs import sum_vector
from graphc.backends.llvm.contract.tile import Nest, Operands, contract
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target


@dataclass(frozen=True, slots=True)
class TileShape:
    """
    rows     sums' rows
    vectors  vectors of columns
    columns  columns that exist: None for all, "run time" for a count passed by the caller
    rest     whether only the first rows exist, their count passed by the caller; the others
             repeat the last of them
    """

    rows: int
    vectors: int
    columns: int | str | None = None
    rest: bool = False


@dataclass(frozen=True, slots=True)
class TileContext:
    """What all tiles of a kernel share.

    sums        the type of sums
    packed      the type of A's and B's elements
    stored      the type of the output's
    a_row, a_k  strides of A, None where only the caller knows
    b_k         elements between rows of B; None where only the caller knows
    c_row       elements between rows of the output; None where only the caller knows
    mask_b      whether columns that do not exist may not be read from B
    blocked     whether k is cut into blocks: sums then start from the output after the first
    ahead       the operands ("a", "b", "ab") of which lines for later tiles are fetched, one for
                each k, from `next_a` on, `next_a_step` elements apart
    """

    builder: KernelBuilder
    target: Target
    sums: Element
    packed: Element
    stored: Element
    a_row: int | None
    a_k: int | None
    b_k: int | None
    c_row: int | None
    mask_b: bool
    blocked: bool
    ahead: str
    epilogue: Epilogue | None


def tile_function(context: TileContext, shape: TileShape) -> Subroutine:
    """The subroutine of one tile shape.

    Pointers a, b, c and the epilogue's operands; indices k, strides, counts, flags `first`
    and `last` of the block of k, and the place in the output.
    """
    epilogue = context.epilogue
    extra = epilogue.operands if epilogue else ()
    indices: dict[str, int | None] = {"k": None}
    strides = {"a_row": context.a_row, "a_k": context.a_k, "b_k": context.b_k}
    indices |= strides | {"c_row": context.c_row}
    if shape.columns == "run time":
        indices["columns"] = None
    if shape.rest:
        indices["rows"] = None
    if context.blocked:
        indices |= {"first": None, "last": None}
    if epilogue:
        indices |= {"batch": None, "row": None, "column": None}
    pointers = ["a", "b", "c", *extra]
    for name in context.ahead:
        pointers.append(f"next_{name}")
        indices[f"next_{name}_step"] = None
    shared = epilogue.shared("c") if epilogue else ()
    routine = Subroutine(pointers, indices, shared)
    _emit_tile(routine, context, shape)
    routine.define(context.builder, f"tile{shape.rows}x{shape.vectors}")
    return routine


def _emit_tile(routine: Subroutine, context: TileContext, shape: TileShape) -> None:
    emitter, values = routine.emitter, routine.values
    vector = sum_vector(emitter, context.packed, context.target)
    masks = column_masks(vector, shape, values)
    if shape.rest:
        last_row = emitter.sub(values["rows"], 1)
        rows: list[Index] = [emitter.minimum(row, last_row) for row in range(shape.rows)]
    else:
        rows = list(range(shape.rows))
    store = _TileStore(routine, context, shape, vector, masks)
    if context.blocked:
        start = store.previous(rows)
    else:
        start = [vector.zero] * (shape.rows * shape.vectors)
        store.prefetch(rows)
    ahead = [(f"%next_{name}", values[f"next_{name}_step"]) for name in context.ahead]
    operands = Operands(
        "%a",
        "%b",
        [emitter.mul(row, values["a_row"]) for row in rows],
        values["b_k"],
        masks if context.mask_b else [None] * shape.vectors,
        ahead,
    )
    of_operands = Vector(emitter, context.packed, context.target)
    sums = contract(emitter, of_operands, operands, Nest.of((values["k"], values["a_k"])), start)
    store.finish(rows, sums)


def column_masks(vector: Vector, shape: TileShape, values: dict[str, Index]) -> list[str | None]:
    """The lanes of each vector of columns that exist."""
    if shape.columns is None:
        return [None] * shape.vectors
    columns = values["columns"] if shape.columns == "run time" else int(shape.columns)
    emitter, lanes = vector.emitter, vector.lanes
    return [vector.mask(emitter.sub(columns, at * lanes)) for at in range(shape.vectors)]


class _TileStore:
    """The output's side of a tile."""

    def __init__(
        self,
        routine: Subroutine,
        context: TileContext,
        shape: TileShape,
        vector: Vector,
        masks: Sequence[str | None],
    ) -> None:
        self.emitter = routine.emitter
        self.values = routine.values
        self.context = context
        self.shape = shape
        self.vector = vector
        self.masks = masks
        epilogue = context.epilogue
        self.arguments = tuple(f"%{name}" for name in epilogue.operands) if epilogue else ()

    def prefetch(self, rows: Sequence[Index]) -> None:
        """Fetch the lines that will be written, while the sums are made."""
        if self.shape.rest or self.context.c_row is None:
            return
        for row in rows:
            self.emitter.prefetch(self._row(row), write=True)

    def previous(self, rows: Sequence[Index]) -> list[str]:
        """The sums of the blocks before, which the output holds; zero in the first block."""
        emitter, vector = self.emitter, self.vector

        def clear() -> None:
            self._each_row(lambda _row, base: self._put(base, [vector.zero] * self.shape.vectors))

        emitter.when(emitter.compare("ne", self.values["first"], 0), clear)
        start = []
        for row in rows:
            base = self._row(row)
            for place, mask in enumerate(self.masks):
                start.append(vector.load(vector.address(base, place * vector.lanes), mask))
        return start

    def finish(self, rows: Sequence[Index], sums: Sequence[str]) -> None:
        emitter, epilogue, vectors = self.emitter, self.context.epilogue, self.shape.vectors
        split = [sums[at : at + vectors] for at in range(0, len(sums), vectors)]
        if epilogue is None:
            for row, values in zip(rows, split):
                self._put(self._row(row), values)
        elif not epilogue.long and not self.context.blocked:
            for row, values in zip(rows, split):
                self._put(self._row(row), self._changed(row, values))
        elif self.context.blocked:
            for row, values in zip(rows, split):
                self._put(self._row(row), values)
            last = emitter.compare("ne", self.values["last"], 0)
            emitter.when(last, lambda: self._change(lambda _row, base: base, self.masks))
        else:
            kept, width = self.vector.kept(sums), vectors * self.vector.lanes

            def of_row(row: Index, _base: str) -> str:
                return self.vector.address(kept, emitter.mul(row, width))

            self._change(of_row, [None] * vectors)

    def _change(self, source: Callable[[Index, str], str], masks: Sequence[str | None]) -> None:
        """The epilogue over sums in memory: source(row, where it goes) is the address of a row, of
        whose vectors those lanes may be read."""

        def one(row: Index, base: str) -> None:
            here = source(row, base)
            values = [
                self.vector.load(self.vector.address(here, place * self.vector.lanes), mask)
                for place, mask in enumerate(masks)
            ]
            self._put(base, self._changed(row, values))

        self._each_row(one)

    def _each_row(self, body: Callable[[Index, str], None]) -> None:
        """A loop over the rows that exist: (row, its address in the output)."""
        count = self.values["rows"] if self.shape.rest else self.shape.rows

        def one(row: Index, _carried: Sequence[str]) -> None:
            body(row, self._row(row))

        self.emitter.loop(0, count, 1, one)

    def _row(self, row: Index) -> str:
        at = self.emitter.mul(row, self.values["c_row"])
        return self.vector.address("%c", at, self.context.stored)

    def _changed(self, row: Index, values: Sequence[str]) -> list[str]:
        epilogue, emitter = self.context.epilogue, self.emitter
        assert epilogue is not None
        at_row = emitter.add(self.values["row"], row)
        result = []
        for place, (value, mask) in enumerate(zip(values, self.masks)):
            column = emitter.add(self.values["column"], place * self.vector.lanes)
            position = Position(self.values["batch"], at_row, column, mask, self.arguments)
            result.append(epilogue.emit(emitter, value, position))
        return result

    def _put(self, base: str, values: Sequence[str]) -> None:
        vector, stored = self.vector, self.context.stored
        for place, (value, mask) in enumerate(zip(values, self.masks)):
            into = vector.address(base, place * vector.lanes, stored)
            vector.store(value, into, mask, stored)
