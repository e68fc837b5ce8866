"""Products of two operands that run along k: lanes along k, then one sum across lanes.

Neither operand is packed. A tile of rows of both shares its loads; tiles at the edge repeat
their last row, and write the same values twice. Each element is `lanes` chains in the order of
k, added by a fixed tree, whatever the tile and whichever operand is which.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from graphc.backends.llvm.contract.element import PAIR, Element
from graphc.backends.llvm.contract.emitter import Index
from graphc.backends.llvm.contract.gemm_schedule import tile_cost
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.lanewise import select
from graphc.backends.llvm.contract.packing import shuffle
from graphc.backends.llvm.contract.pairs import sum_vector
from graphc.backends.llvm.contract.prologue import Prologue, Row
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

# Sums of a tile that are added across lanes as one vector, on the widest registers: with more they
# are slower, and their rows crowd the first cache.
TOGETHER = 16
# Rows of the larger operand are fetched so many bytes ahead, in whole tiles: short rows are streams
# that end before the processor has recognised them.
AHEAD_BYTES = 32 << 10


def dot_tile(target: Target, few: int | None, many: int | None) -> tuple[int, int]:
    """(rows of A, rows of B) of a tile, for A's number of rows, which are few, and for B's.

    Sums and loads fit the registers, and the tiles at the edges repeat little.
    """
    few, many = few or 4, many or 1024
    best: tuple[float, int, int] | None = None
    for height in range(1, min(few, 8) + 1):
        for width in range(1, min(8, (target.registers - 1) // (height + 1)) + 1):
            tiles = -(-few // height) * -(-many // width)
            # Of equal tiles the squarer one reads less.
            cost = tiles * (tile_cost(height, width) + 0.1 * (height + width))
            if height * width > TOGETHER:
                cost *= 1.06
            if best is None or cost < best[0]:
                best = (cost, height, width)
    assert best is not None
    return best[1], best[2]


def tiles_ahead(columns: int, row_bytes: int) -> int:
    """How many tiles ahead of the present one rows are fetched, for tiles of so many."""
    return max(1, AHEAD_BYTES // max(columns * row_bytes, 1))


def dot_function(
    builder: KernelBuilder,
    target: Target,
    stored: Element,
    shape: tuple[int, int],
    strides: Mapping[str, int | None],
    prologue: Prologue | None = None,
    fetched: int = 0,
) -> Subroutine:
    """The subroutine of a tile of `shape` (rows, columns): c[i, j] = A's row i . B's row j.

    strides  k, a_row, b_row, c_row and c_column; None where only the caller knows. One of the
             last two is 1: along it results are stored together
    prologue computes B's rows where they are read: its operands are pointers instead of b
    fetched  how many rows of B, from the pointer `next` on, are fetched into the second cache
    Pointers a, b, c, next; indices those strides, and the counts `rows` and `columns` that exist;
    with a prologue the batch, and the first of B's rows as `row`.
    """
    rows, columns = shape
    names = ("b",) if prologue is None else prologue.operands
    more = () if prologue is None else ("batch", "row")
    indices = {**strides, **dict.fromkeys(("rows", "columns", *more))}
    routine = Subroutine(("a", *names, "c", *(("next",) if fetched else ())), indices)
    emitter, values = routine.emitter, routine.values
    pairs = stored.is_half
    vector = sum_vector(emitter, PAIR if pairs else stored, target)
    of_operands, of_pairs = Vector(emitter, stored, target), Vector(emitter, PAIR, target)
    lanes, k = of_operands.lanes, values["k"]

    def clipped(count: int, exist: Index) -> list[Index]:
        last = emitter.sub(exist, 1)
        return [emitter.minimum(at, last) for at in range(count)]

    at_rows = clipped(rows, values["rows"])
    at_columns = clipped(columns, values["columns"])
    a_starts = [of_operands.address("%a", emitter.mul(row, values["a_row"])) for row in at_rows]

    def load(start: str, at: Index, mask: str | None) -> str:
        value = of_operands.load(of_operands.address(start, at), mask)
        if not pairs:
            return value
        return emitter.value(f"bitcast {of_operands.type} {value} to {of_pairs.type}")

    if prologue is None:
        b_rows: list[Row] = [
            partial(load, of_operands.address("%b", emitter.mul(at, values["b_row"])))
            for at in at_columns
        ]
    else:
        pointers = [f"%{name}" for name in names]
        places = [emitter.add(values["row"], at) for at in at_columns]
        b_rows = [prologue.row(emitter, lanes, values["batch"], at, pointers) for at in places]
    next_rows = [
        of_operands.address("%next", emitter.mul(at, values["b_row"])) for at in range(fetched)
    ]
    multiply_add = of_pairs.multiply_add if pairs else vector.multiply_add

    def step(at: Index, sums: Sequence[str], mask: str | None = None) -> list[str]:
        right = [row(at, mask) for row in b_rows]
        if mask is None:
            for start in next_rows:
                emitter.prefetch(of_operands.address(start, at), far=True)
        if prologue is not None and mask is not None:  # of what is not there, maps may make nan
            right = [select(vector, mask, value, vector.zero) for value in right]
        result = []
        for row, start in enumerate(a_starts):
            left = load(start, at, mask)
            for column, value in enumerate(right):
                result.append(multiply_add(left, value, sums[row * columns + column]))
        return result

    full = emitter.round_down(k, lanes)
    start = [(vector.type, vector.zero)] * (rows * columns)
    sums: Sequence[str] = emitter.loop(0, full, lanes, step, start)
    rest = emitter.sub(k, full)
    if rest != 0:
        sums = step(full, sums, of_operands.mask(rest))
    if values["c_column"] == 1:
        runs = [list(sums[row * columns :][:columns]) for row in range(rows)]
        _store(vector, stored, runs, (at_rows, at_columns), values["c_row"], (values, shape))
    else:
        runs = [list(sums[column::columns]) for column in range(columns)]
        _store(vector, stored, runs, (at_columns, at_rows), values["c_column"], (values, shape))
    routine.define(builder, f"dot{rows}x{columns}")
    return routine


def _store(
    vector: Vector,
    stored: Element,
    runs: Sequence[Sequence[str]],
    places: tuple[Sequence[Index], Sequence[Index]],
    stride: Index,
    exist: tuple[Mapping[str, Index], tuple[int, int]],
) -> None:
    """The sums across lanes of vectors; those of one run are neighbours in the output.

    places  of the runs, `stride` apart, and within a run
    exist   the counts, and how many of each a whole tile has
    """
    emitter = vector.emitter
    of_results = Vector(emitter, stored, vector.target, vector.lanes)
    # Runs in pieces, as many pieces together as one vector holds.
    pieces = [
        (run, first, values[first : first + vector.lanes])
        for run, values in enumerate(runs)
        for first in range(0, len(values), vector.lanes)
    ]
    groups = max(1, vector.lanes // len(pieces[0][2]))
    ready = []
    for start in range(0, len(pieces), groups):
        together = pieces[start : start + groups]
        total = lane_sums(vector, [value for *_, values in together for value in values])
        if stored.is_half:
            total = vector.narrow(total, stored)
        lane = 0
        for run, first, values in together:
            ready.append((run, first, len(values), total, lane))
            lane += len(values)
    starts = [of_results.address("%c", emitter.mul(place, stride)) for place in places[0]]

    def whole() -> None:
        for run, first, count, total, lane in ready:
            kept = ", ".join(f"i32 {at}" for at in range(lane, lane + count))
            both = f"{of_results.type} {total}, {of_results.type} poison"
            part = emitter.value(f"shufflevector {both}, <{count} x i32> <{kept}>")
            into = of_results.address(starts[run], first)
            emitter.store(f"<{count} x {stored.llvm}>", part, into, stored.bytes)

    def single() -> None:
        for run, first, count, total, lane in ready:
            for at in range(count):
                one = emitter.value(f"extractelement {of_results.type} {total}, i64 {lane + at}")
                into = of_results.address(starts[run], places[1][first + at])
                of_results.store_scalar(one, into)

    counts, (rows, columns) = exist
    all_rows = emitter.compare("sge", counts["rows"], rows)
    all_columns = emitter.compare("sge", counts["columns"], columns)
    emitter.when(emitter.value(f"and i1 {all_rows}, {all_columns}"), whole, single)


def lane_sums(vector: Vector, values: Sequence[str]) -> str:
    """One vector whose first lanes are the sums of the lanes of each of up to `lanes` vectors.

    The upper half of each is added to its lower half, two in one vector, and so on.
    """
    current, size = list(values), vector.lanes
    while size > 1:
        half = size // 2
        low = [lane for lane in range(2 * vector.lanes) if lane % size < half]
        high = [lane + half for lane in low]
        pairs = [
            (current[at], current[min(at + 1, len(current) - 1)])
            for at in range(0, len(current), 2)
        ]
        current = [
            vector.add(shuffle(vector, *pair, low), shuffle(vector, *pair, high)) for pair in pairs
        ]
        size = half
    return current[0]
