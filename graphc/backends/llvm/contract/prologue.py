"""What is computed where a product reads an operand, and the copies into scratch that compute it.

They are the copies of `packing.py`, with a function of (row, column) instead of a pointer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.packing import transpose_lanes, transpose_square
from graphc.backends.llvm.contract.vector import Vector

#: (first column, mask) -> a vector of the row's elements from there on. Lanes that the mask leaves
#: out are not read, and hold anything.
Row = Callable[[Index, str | None], str]


@dataclass(frozen=True, slots=True)
class Prologue:
    """An operand that is computed where it is read.

    operands  names of the pointers that it reads, which the kernel has instead of the operand
    row       (emitter, lanes, batch, row, pointers) -> the row; what it computes for all of the
              row is written at once, before the loop over columns
    long      whether its code is long (has maths): it then stands in copies alone, since the sums
              of several rows leave it no registers
    """

    operands: tuple[str, ...]
    row: Callable[[Emitter, int, Index, Index, Sequence[str]], Row]
    long: bool = False


_PLACE = ("batch", "row", "column")


def _routine(prologue: Prologue, indices: dict[str, int | None]) -> Subroutine:
    """A subroutine of these indices and of the place where it starts, into a destination."""
    return Subroutine((*prologue.operands, "destination"), {**indices, **dict.fromkeys(_PLACE)})


class _Source:
    """The rows of the operand from the place that a subroutine is called with."""

    def __init__(self, prologue: Prologue, routine: Subroutine, lanes: int) -> None:
        self.prologue, self.lanes = prologue, lanes
        self.emitter, self.values = routine.emitter, routine.values
        self.pointers = [f"%{name}" for name in prologue.operands]

    def row(self, step: Index) -> Row:
        """The row `step` from the first, its columns counted from the first."""
        emitter, values = self.emitter, self.values
        at = emitter.add(values["row"], step)
        found = self.prologue.row(emitter, self.lanes, values["batch"], at, self.pointers)
        return lambda column, mask: found(emitter.add(values["column"], column), mask)


def mapped_rows(builder: KernelBuilder, like: Vector, prologue: Prologue) -> Subroutine:
    """A subroutine that computes `rows` rows of `count` elements into rows `to_stride` apart."""
    routine = _routine(prologue, {"rows": None, "count": None, "to_stride": None})
    emitter, values = routine.emitter, routine.values
    vector = Vector(emitter, like.element, like.target, like.lanes)
    source = _Source(prologue, routine, vector.lanes)
    full = emitter.round_down(values["count"], vector.lanes)
    rest = emitter.sub(values["count"], full)
    last = vector.mask(rest)

    def one(step: Index, _carried: Sequence[str]) -> None:
        there = vector.address("%destination", emitter.mul(step, values["to_stride"]))
        row = source.row(step)

        def part(at: Index, mask: str | None) -> None:
            vector.store(row(at, mask), vector.address(there, at), mask)

        emitter.loop(0, full, vector.lanes, lambda at, _none: part(at, None))
        emitter.when(emitter.less(0, rest), lambda: part(full, last))

    emitter.loop(0, values["rows"], 1, one)
    routine.define(builder, "map_rows")
    return routine


def mapped_columns(
    builder: KernelBuilder, like: Vector, prologue: Prologue, columns: int | None, vectors: int
) -> Subroutine:
    """A subroutine that computes the first `columns` elements of each of `count` rows.

    It writes `vectors` whole vectors: what stands after the columns is any number. If `columns`
    is None it is an index of the call.
    """
    routine = _routine(prologue, {"columns": columns, "count": None, "to_stride": None})
    emitter, values = routine.emitter, routine.values
    vector = Vector(emitter, like.element, like.target, like.lanes)
    source = _Source(prologue, routine, vector.lanes)
    places = range(0, vectors * vector.lanes, vector.lanes)
    masks = [vector.mask(emitter.sub(values["columns"], place)) for place in places]

    def one(step: Index, _carried: Sequence[str]) -> None:
        there = vector.address("%destination", emitter.mul(step, values["to_stride"]))
        row = source.row(step)
        for place, mask in zip(places, masks):
            vector.store(row(place, mask), vector.address(there, place))

    emitter.loop(0, values["count"], 1, one)
    routine.define(builder, "map_columns")
    return routine


def mapped_transposer(builder: KernelBuilder, like: Vector, prologue: Prologue) -> Subroutine:
    """A subroutine that turns rows into columns, for up to `lanes` rows, as `transposer` does."""
    routine = _routine(prologue, {"rows": None, "count": None, "to_stride": None})
    emitter, values = routine.emitter, routine.values
    vector = Vector(emitter, like.element, like.target, transpose_lanes(like))
    lanes, count = vector.lanes, values["count"]
    source = _Source(prologue, routine, lanes)
    last = emitter.sub(values["rows"], 1)
    rows = [source.row(emitter.minimum(row, last)) for row in range(lanes)]

    def turned(at: Index, mask: str | None) -> list[tuple[str, str]]:
        """(column, its place)."""
        there = vector.address("%destination", emitter.mul(at, values["to_stride"]))
        columns = transpose_square(vector, [row(at, mask) for row in rows])
        return [
            (column, vector.address(there, emitter.mul(place, values["to_stride"])))
            for place, column in enumerate(columns)
        ]

    def squares() -> None:
        # The last square overlaps the one before it: the same values are written again.
        tail = emitter.sub(count, lanes)

        def one(turn: Index, _carried: Sequence[str]) -> None:
            for column, place in turned(emitter.minimum(emitter.mul(turn, lanes), tail), None):
                vector.store(column, place)

        emitter.loop(0, emitter.ceil_div(count, lanes), 1, one)

    def part() -> None:
        for at, (column, place) in enumerate(turned(0, vector.mask(count))):
            emitter.when(
                emitter.less(at, count),
                lambda column=column, place=place: vector.store(column, place),  # type: ignore[misc]
            )

    emitter.when(emitter.less(count, lanes), part, squares)
    routine.define(builder, "map_transposed")
    return routine
