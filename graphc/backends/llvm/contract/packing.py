"""Copies of matrix blocks into scratch, in the order in which the microkernel reads them.

A panel of A holds the rows of one tile: row by row, or, where A is transposed, its columns
for one k after another. A block of B is cut into panels as wide as a tile. Halves widen on
the way.
"""

from collections.abc import Sequence

from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.vector import Vector

# Rows that the copy of a strip fetches ahead. In the first cache more of them, a multiple of its
# sets apart, would drive each other out; the second cache alone, as for B, gains nothing.
ROWS_AHEAD = 4


def copy_row(
    vector: Vector,
    stored: Element,
    source: str,
    destination: str,
    count: Index,
    *,
    into: Element | None = None,
) -> None:
    """`count` contiguous elements, exactly."""
    emitter, lanes = vector.emitter, vector.lanes
    full = emitter.round_down(count, lanes)

    def whole(at: Index, mask: str | None = None) -> None:
        value = vector.load(vector.address(source, at, stored), mask, stored)
        vector.store(value, vector.address(destination, at, into), mask, into)

    def single(at: Index, _carried: Sequence[str]) -> None:
        value = vector.load_scalar(vector.address(source, at, stored), stored)
        vector.store_scalar(value, vector.address(destination, at, into), into)

    emitter.loop(0, full, lanes, lambda at, _none: whole(at))
    memory = {stored.bits, (into or vector.element).bits}
    if memory <= set(vector.target.masked_bits):
        rest = emitter.sub(count, full)
        emitter.when(emitter.less(0, rest), lambda: whole(full, vector.mask(rest)))
    else:
        emitter.loop(full, count, 1, single)


def row_copier(builder: KernelBuilder, like: Vector, stored: Element) -> Subroutine:
    """A subroutine that copies `rows` rows of `count` elements to rows `to_stride` apart."""
    routine = Subroutine(
        ("source", "destination"),
        {"rows": None, "count": None, "from_stride": None, "to_stride": None},
    )
    emitter, values = routine.emitter, routine.values
    vector = like.on(emitter)

    def one(row: Index, _carried: Sequence[str]) -> None:
        here = vector.address("%source", emitter.mul(row, values["from_stride"]), stored)
        there = vector.address("%destination", emitter.mul(row, values["to_stride"]))
        copy_row(vector, stored, here, there, values["count"])

    emitter.loop(0, values["rows"], 1, one)
    routine.define(builder, "copy_rows")
    return routine


def column_copier(
    builder: KernelBuilder, like: Vector, stored: Element, columns: int | None, vectors: int
) -> Subroutine:
    """A subroutine that copies the first `columns` elements of each of `count` rows.

    It writes `vectors` whole vectors, zeros after the columns. If `columns` is None it is an
    index of the call.
    """
    names = {"columns": columns, "count": None, "from_stride": None, "to_stride": None}
    routine = Subroutine(("source", "destination"), names)
    emitter, values = routine.emitter, routine.values
    vector = like.on(emitter)
    places = range(0, vectors * vector.lanes, vector.lanes)
    masks = [vector.mask(emitter.sub(values["columns"], place)) for place in places]

    def one(row: Index, _carried: Sequence[str]) -> None:
        here = vector.address("%source", emitter.mul(row, values["from_stride"]), stored)
        there = vector.address("%destination", emitter.mul(row, values["to_stride"]))
        for place, mask in zip(places, masks):
            value = vector.load(vector.address(here, place, stored), mask, stored)
            vector.store(value, vector.address(there, place))

    emitter.loop(0, values["count"], 1, one)
    routine.define(builder, "copy_columns")
    return routine


def strip_copier(builder: KernelBuilder, like: Vector, stored: Element, rows: int) -> Subroutine:
    """A subroutine that copies `columns` elements of each of `count` rows to panels of `rows`.

    destination[c // rows * to_stride + k * rows + c % rows] = source[k * from_stride + c]. Whole
    vectors are written: what the last of a panel has too many lies before the next panel.
    """
    names: dict[str, int | None] = dict.fromkeys(("columns", "count", "from_stride", "to_stride"))
    routine = Subroutine(("source", "destination"), names)
    emitter, values = routine.emitter, routine.values
    vector = like.on(emitter)
    places = range(0, rows, vector.lanes)

    def row(k: Index, _carried: Sequence[str]) -> None:
        here = vector.address("%source", emitter.mul(k, values["from_stride"]), stored)
        there = vector.address("%destination", emitter.mul(k, rows))

        def panel(number: Index, exist: Index) -> None:
            first = vector.address(here, emitter.mul(number, rows), stored)
            into = vector.address(there, emitter.mul(number, values["to_stride"]))
            ahead = emitter.mul(values["from_stride"], ROWS_AHEAD)
            emitter.prefetch(vector.address(first, ahead, stored))
            for place in places:
                mask = vector.mask(emitter.sub(exist, place))
                value = vector.load(vector.address(first, place, stored), mask, stored)
                vector.store(value, vector.address(into, place))

        full = emitter.floor_div(values["columns"], rows)
        rest = emitter.sub(values["columns"], emitter.mul(full, rows))
        emitter.loop(0, full, 1, lambda number, _none: panel(number, rows))
        emitter.when(emitter.less(0, rest), lambda: panel(full, rest))

    emitter.loop(0, values["count"], 1, row)
    routine.define(builder, "copy_strip")
    return routine


def transpose_square(vector: Vector, values: Sequence[str]) -> list[str]:
    """The transpose of a square of vectors: rounds that swap blocks of half the size."""
    lanes = vector.lanes
    current = list(values)
    half = lanes // 2
    while half:
        upper = [lane if lane & half == 0 else lanes + lane - half for lane in range(lanes)]
        lower = [lane + half if lane & half == 0 else lanes + lane for lane in range(lanes)]
        result = list(current)
        for place in range(lanes):
            if place & half == 0:
                a, b = current[place], current[place + half]
                result[place] = shuffle(vector, a, b, upper)
                result[place + half] = shuffle(vector, a, b, lower)
        current = result
        half //= 2
    return current


def shuffle(vector: Vector, a: str, b: str, lanes: Sequence[int]) -> str:
    """The named lanes of a, and from `vector.lanes` on of b."""
    mask = ", ".join(f"i32 {lane}" for lane in lanes)
    return vector.emitter.value(
        f"shufflevector {vector.type} {a}, {vector.type} {b}, <{vector.lanes} x i32> <{mask}>"
    )


def transpose_lanes(like: Vector) -> int:
    """The side of the squares that `transposer` turns.

    Half of a 64-byte register: as fast, and a quarter of the code.
    """
    return min(like.lanes, 32 // like.element.bytes)


def transposer(
    builder: KernelBuilder,
    like: Vector,
    stored: Element,
    *,
    into: Element | None = None,
    exact: bool = False,
    strides: Element | None = None,
) -> Subroutine:
    """A subroutine that turns rows into columns, for up to `lanes` rows.

    destination[c * to_stride + r] = source[r * from_stride + c] for r < rows, c < count.
    It writes whole vectors of `transpose_lanes`: those from `rows` on repeat the last row. If
    `exact` it writes `rows` elements.

    stored, into  what the source and the destination hold, if not the vectors' elements
    strides       what from_stride counts, if not `stored`
    """
    strides = strides or stored
    routine = Subroutine(
        ("source", "destination"),
        {"rows": None, "count": None, "from_stride": None, "to_stride": None},
    )
    emitter = routine.emitter
    vector = like.on(emitter, transpose_lanes(like))
    lanes, values = vector.lanes, routine.values
    mask = vector.mask(values["rows"]) if exact else None
    last = emitter.sub(values["rows"], 1)
    starts = [
        vector.address(
            "%source", emitter.mul(emitter.minimum(row, last), values["from_stride"]), strides
        )
        for row in range(lanes)
    ]

    def square(at: Index, _carried: Sequence[str]) -> None:
        rows = [vector.load(vector.address(start, at, stored), None, stored) for start in starts]
        there = vector.address("%destination", emitter.mul(at, values["to_stride"]), into)
        for place, column in enumerate(transpose_square(vector, rows)):
            to = vector.address(there, emitter.mul(place, values["to_stride"]), into)
            vector.store(column, to, mask, into)

    def squares() -> None:
        # The last square overlaps the one before it: the same values are written again.
        tail = emitter.sub(values["count"], lanes)
        turns = emitter.ceil_div(values["count"], lanes)

        def one(turn: Index, _carried: Sequence[str]) -> None:
            square(emitter.minimum(emitter.mul(turn, lanes), tail), ())

        emitter.loop(0, turns, 1, one)

    def singles() -> None:
        def column(at: Index, _carried: Sequence[str]) -> None:
            here = vector.address("%source", at, stored)
            there = vector.address("%destination", emitter.mul(at, values["to_stride"]), into)

            def one(row: Index, _carried: Sequence[str]) -> None:
                place = vector.address(here, emitter.mul(row, values["from_stride"]), strides)
                to = vector.address(there, row, into)
                vector.store_scalar(vector.load_scalar(place, stored), to, into)

            emitter.loop(0, values["rows"], 1, one)

        emitter.loop(0, values["count"], 1, column)

    emitter.when(emitter.less(values["count"], lanes), singles, squares)
    routine.define(builder, "transpose")
    return routine
