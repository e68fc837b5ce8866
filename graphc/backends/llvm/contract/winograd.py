"""3 x 3 convolutions by Winograd's algorithm, channels last: see `graphc.ir.composite.winograd`.

Tiles of all images are counted through and cut into blocks. The patches of a block are transformed
into 36 matrices [tile, channel]; for each panel of results these are multiplied by the 36 matrices
of the weight, and the products transformed back, which the epilogue and the stores follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.conv_schedule import even
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.epilogue import Epilogue, Position
from graphc.backends.llvm.contract.gemm_schedule import tile_choices, tile_cost
from graphc.backends.llvm.contract.kernel import (
    Kernel,
    KernelBuilder,
    Subroutine,
    entry_emitter,
)
from graphc.backends.llvm.contract.tile import Nest, Operands, contract
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target
from graphc.ir.composite.winograd import PATCH, TILE

#: Bytes of the transformed patches of a block, and the tiles that it has at least.
BLOCK_BYTES, LEAST_TILES = 640 << 10, 28
SOME_IMAGES = 16
#: Bytes of weights a cycle, from beyond the second cache.
STREAM = 8.0


@dataclass(frozen=True, slots=True)
class WinogradProblem:
    """x [batch, *size, channels] to [batch, *out_size, outputs]; batch None if symbolic."""

    batch: int | None
    channels: int
    outputs: int
    size: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    @property
    def out_size(self) -> tuple[int, int]:
        height, width = [n + sum(pair) - 2 for n, pair in zip(self.size, self.padding)]
        return height, width

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles of an image."""
        rows, columns = [-(-n // TILE) for n in self.out_size]
        return rows, columns


@dataclass(frozen=True, slots=True)
class WinogradSchedule:
    """
    rows, vectors  of a tile of the products
    block          tiles whose patches are transformed together; a multiple of rows
    cycles         an estimate for all images (`SOME_IMAGES` where their number is a symbol)
    """

    rows: int
    vectors: int
    block: int
    cycles: float


def schedule_winograd(
    p: WinogradProblem, target: Target, lanes: int, across: int | None = None
) -> WinogradSchedule:
    """The schedule; `across` vectors where weights are packed for a number of them."""
    count = (SOME_IMAGES if p.batch is None else p.batch) * p.tiles[0] * p.tiles[1]
    # Of narrow vectors a core starts two multiply-adds a cycle.
    chains = 4 if target.vector_bytes >= 64 else 8
    best: WinogradSchedule | None = None
    for most, vectors in tile_choices(target):
        if across is not None and vectors != across:
            continue
        panels = -(-p.outputs // (vectors * lanes))
        for rows in range(1, most + 1):
            fit = max(LEAST_TILES, BLOCK_BYTES // (PATCH * PATCH * 4 * p.channels))
            blocks = even(-(-count // max(rows, fit // rows * rows)))
            block = -(-count // (blocks * rows)) * rows
            products = blocks * -(-block // rows) * panels * tile_cost(rows, vectors, chains)
            turns = count * (p.channels * 250 + p.outputs * 240) / lanes
            streamed = blocks * p.channels * panels * vectors * lanes * 4 / STREAM
            cycles = PATCH * PATCH * (products * p.channels + streamed) + turns
            if best is None or cycles < best.cycles:
                best = WinogradSchedule(rows, vectors, block, cycles)
    if best is None:
        raise ValueError(f"no tiles are {across} vectors wide")
    return best


def conv_winograd(
    problem: WinogradProblem,
    width: int,
    target: Target,
    *,
    schedule: WinogradSchedule | None = None,
    epilogue: Epilogue | None = None,
) -> Kernel:
    """Operands x, u [panel, 6, 6, channel, width], out and the epilogue's; f32.

    An epilogue sees (image, position, channel) as (batch, row, column). Channels of x fill whole
    vectors.
    """
    lanes = target.lanes(32)
    schedule = schedule or schedule_winograd(problem, target, lanes, width // lanes)
    return _Writer(problem, width, target, schedule, epilogue).kernel()


class _Writer:
    """Writes one kernel."""

    def __init__(
        self,
        problem: WinogradProblem,
        width: int,
        target: Target,
        schedule: WinogradSchedule,
        epilogue: Epilogue | None,
    ) -> None:
        self.p, self.width, self.target, self.epilogue = problem, width, target, epilogue
        self.element = element("f32")
        self.builder = KernelBuilder()
        self.extra = epilogue.operands if epilogue else ()
        self.operands = ("x", "u", "out", *self.extra)
        self.sizes = ("batch",) if problem.batch is None else ()
        self.batch: Index = "%batch" if problem.batch is None else problem.batch
        self.entry = entry_emitter(self.operands, self.sizes, self._shared("out"))
        self.vector = self._vector(self.entry)
        lanes = self.vector.lanes
        assert problem.channels % lanes == 0, "channels fill whole vectors"
        self.schedule = schedule
        self.panels = -(-problem.outputs // width)
        # Rows at multiples of 2 KB would share a few sets of the first cache.
        self.row = problem.channels + (lanes if problem.channels % 512 == 0 else 0)
        block, elements = self.schedule.block, PATCH * PATCH
        sizes = {
            "patches": elements * block * self.row,
            "sums": elements * block * width,
            "results": TILE * TILE * width,
            "zeros": problem.channels,
            "pointers": elements * 2,
        }
        self.offsets, at = {}, 0
        for name, size in sizes.items():
            self.offsets[name] = at
            at += -(-size // 16) * 16 + 16
        self.scratch_bytes = 4 * at

    def _vector(self, emitter: Emitter) -> Vector:
        return Vector(emitter, self.element, self.target)

    def _scratch(self, name: str) -> str:
        return self.vector.address("%scratch", self.offsets[name])

    def _shared(self, out: str) -> tuple[str, ...]:
        return self.epilogue.shared(out) if self.epilogue else ()

    @property
    def tiles(self) -> int:
        """Of an image."""
        return self.p.tiles[0] * self.p.tiles[1]

    def kernel(self) -> Kernel:
        emitter = self.entry
        self.patch, self.product = self._patch(), self._product()
        emitter.when(emitter.less("%lo", "%hi"), self._units)
        count = Emitter(["i64 %batch"], result="i64")
        blocks = count.ceil_div(count.mul(self.batch, self.tiles), self.schedule.block)
        units = count.mul(blocks, self.panels)
        if isinstance(units, str):
            count.line(f"ret i64 {units}")
            units = self.builder.define("units", count)
        return self.builder.finish(
            "conv_winograd",
            emitter,
            operands=self.operands,
            sizes=self.sizes,
            units=units,
            scratch_bytes=self.scratch_bytes,
            over=self.epilogue.over(out=True) if self.epilogue else (),
        )

    def _units(self) -> None:
        """A unit is a panel of a block."""
        emitter, panels = self.entry, self.panels
        zeros = self._scratch("zeros")
        for at in range(0, self.p.channels, self.vector.lanes):
            self.vector.store(self.vector.zero, self.vector.address(zeros, at))
        total = emitter.mul(self.batch, self.tiles)

        def block(number: Index, _none: Sequence[str]) -> None:
            first = emitter.mul(number, self.schedule.block)
            count = emitter.minimum(emitter.sub(total, first), self.schedule.block)
            self._each_tile(first, count, self._transform)
            base = emitter.mul(number, panels)
            low = emitter.maximum(emitter.sub("%lo", base), 0)
            high = emitter.minimum(emitter.sub("%hi", base), panels)
            emitter.loop(low, high, 1, lambda panel, _none: self._panel(panel, first, count))

        last = emitter.floor_div(emitter.sub("%hi", 1), panels)
        emitter.loop(emitter.floor_div("%lo", panels), emitter.add(last, 1), 1, block)

    def _each_tile(
        self, first: Index, count: Index, body: Callable[[Index, Index, Index, Index], None]
    ) -> None:
        """body(place in the block, image, row of tiles, column of tiles)."""
        emitter = self.entry

        def one(at: Index, _none: Sequence[str]) -> None:
            tile = emitter.add(first, at)
            image = emitter.floor_div(tile, self.tiles)
            place = emitter.remainder(tile, image, self.tiles)
            row = emitter.floor_div(place, self.p.tiles[1])
            body(at, image, row, emitter.remainder(place, row, self.p.tiles[1]))

        emitter.loop(0, count, 1, one)

    def _transform(self, at: Index, image: Index, row: Index, column: Index) -> None:
        emitter, (height, width) = self.entry, self.p.size
        x = self.vector.address("%x", emitter.mul(image, height * width * self.p.channels))
        to = self.vector.address(self._scratch("patches"), emitter.mul(at, self.row))
        pointers = (x, self._scratch("zeros"), self._scratch("pointers"), to)
        self.patch.call(emitter, pointers, {"row": row, "column": column})

    def _panel(self, panel: Index, first: Index, count: Index) -> None:
        emitter, vector, rows = self.entry, self.vector, self.schedule.rows
        of_matrix = self.p.channels * self.width
        weights = vector.address("%u", emitter.mul(panel, PATCH * PATCH * of_matrix))

        def matrix(number: Index, _none: Sequence[str]) -> None:
            b = vector.address(weights, emitter.mul(number, of_matrix))
            place = emitter.mul(number, self.schedule.block)

            def some(at: Index, _none: Sequence[str]) -> None:
                tile = emitter.add(place, at)
                a = vector.address(self._scratch("patches"), emitter.mul(tile, self.row))
                c = vector.address(self._scratch("sums"), emitter.mul(tile, self.width))
                self.product.call(emitter, (a, b, c), {})

            emitter.loop(0, count, rows, some)

        emitter.loop(0, PATCH * PATCH, 1, matrix)
        channel = emitter.mul(panel, self.width)

        def result(at: Index, image: Index, row: Index, column: Index) -> None:
            pointers = (
                vector.address(self._scratch("sums"), emitter.mul(at, self.width)),
                self._scratch("results"),
                *(f"%{name}" for name in ("out", *self.extra)),
            )
            indices = {"batch": image, "row": row, "column": column, "channel": channel}
            self._by_width(panel, lambda wide: self._result(wide).call(emitter, pointers, indices))

        self._each_tile(first, count, result)

    def _by_width(self, panel: Index, body: Callable[[int], None]) -> None:
        """body(channels that exist), written once for each number that occurs."""
        full, rest = divmod(self.p.outputs, self.width)
        if not rest:
            body(self.width)
        elif not full:
            body(rest)
        else:
            there = self.entry.less(panel, full)
            self.entry.when(there, lambda: body(self.width), lambda: body(rest))

    # Subroutines

    def _patch(self) -> Subroutine:
        """The transform of one patch: x (its image), zeros, pointers, and where it goes."""
        routine = Subroutine(("x", "zeros", "pointers", "to"), {"row": None, "column": None})
        emitter, values = routine.emitter, routine.values
        vector, (height, width) = self._vector(emitter), self.p.size
        top, left = [pair[0] for pair in self.p.padding]

        def place(i: Index, j: Index) -> None:
            y = emitter.sub(emitter.add(emitter.mul(values["row"], TILE), i), top)
            x = emitter.sub(emitter.add(emitter.mul(values["column"], TILE), j), left)
            inside = [emitter.compare("ult", at, n) for at, n in ((y, height), (x, width))]
            both = emitter.value(f"and i1 {inside[0]}, {inside[1]}")
            pixel = emitter.add(emitter.mul(y, width), x)
            here = vector.address("%x", emitter.mul(pixel, self.p.channels))
            chosen = emitter.value(f"select i1 {both}, ptr {here}, ptr %zeros")
            at = emitter.add(emitter.mul(i, PATCH), j)
            emitter.store("ptr", chosen, emitter.address("%pointers", at, "ptr"), 8)

        def line(i: Index, _none: Sequence[str]) -> None:
            emitter.loop(0, PATCH, 1, lambda j, _none: place(i, j))

        emitter.loop(0, PATCH, 1, line)

        def channels(at: Index, _none: Sequence[str]) -> None:
            patch = []
            for number in range(PATCH * PATCH):
                pointer = emitter.load("ptr", emitter.address("%pointers", number, "ptr"), 8)
                patch.append(vector.load(vector.address(pointer, at)))
            made = _both_sides(_into, vector, patch)
            for number, value in enumerate(made):
                place = number * self.schedule.block * self.row
                vector.store(value, vector.address(vector.address("%to", place), at))

        emitter.loop(0, self.p.channels, vector.lanes, channels)
        routine.define(self.builder, "patch")
        return routine

    def _product(self) -> Subroutine:
        """A tile of one of the 36 products: a, b, c."""
        routine = Subroutine(("a", "b", "c"), {})
        vector, rows, vectors = (
            self._vector(routine.emitter),
            self.schedule.rows,
            self.schedule.vectors,
        )
        displacements = [row * self.row for row in range(rows)]
        operands = Operands("%a", "%b", displacements, self.width, [None] * vectors)
        nest = Nest.of((self.p.channels, 1))
        start = [vector.zero] * (rows * vectors)
        sums = contract(routine.emitter, vector, operands, nest, start)
        for number, value in enumerate(sums):
            row, v = divmod(number, vectors)
            vector.store(value, vector.address("%c", row * self.width + v * vector.lanes))
        routine.define(self.builder, f"product{rows}x{vectors}")
        return routine

    def _result(self, wide: int) -> Subroutine:
        """The transform back of one tile, of `wide` channels: sums, results, out, the epilogue's.

        Tiles at the end of a row or column have fewer results than they compute.
        """
        names = dict.fromkeys(["batch", "row", "column", "channel"])
        pointers = ("sums", "results", "out", *self.extra)
        routine = Subroutine(pointers, names, self._shared("out"))
        emitter, values, vector = routine.emitter, routine.values, self._vector(routine.emitter)
        lanes, (height, width) = vector.lanes, self.p.out_size

        def channels(at: Index, _none: Sequence[str]) -> None:
            step = self.schedule.block * self.width
            places = [emitter.add(at, n * step) for n in range(PATCH * PATCH)]
            sums = [vector.load(vector.address("%sums", place)) for place in places]
            for number, value in enumerate(_both_sides(_back, vector, sums)):
                to = emitter.add(at, number * self.width)
                vector.store(value, vector.address("%results", to))

        emitter.loop(0, wide, lanes, channels)
        first = [emitter.mul(values[name], TILE) for name in ("row", "column")]
        ends = [emitter.minimum(emitter.sub(n, at), TILE) for n, at in zip((height, width), first)]
        arguments = tuple(f"%{name}" for name in self.extra)

        def one(i: Index, j: Index) -> None:
            y, x = emitter.add(first[0], i), emitter.add(first[1], j)
            position = emitter.add(emitter.mul(y, width), x)
            pixel = emitter.add(emitter.mul(values["batch"], height * width), position)
            out = vector.address("%out", emitter.mul(pixel, self.p.outputs))
            out = vector.address(out, values["channel"])
            place = emitter.add(emitter.mul(i, TILE), j)
            here = vector.address("%results", emitter.mul(place, self.width))

            def some(at: Index, mask: str | None) -> None:
                value = vector.load(vector.address(here, at))
                if self.epilogue is not None:
                    column = emitter.add(values["channel"], at)
                    of = Position(values["batch"], position, column, mask, arguments)
                    value = self.epilogue.emit(emitter, value, of)
                vector.store(value, vector.address(out, at), mask)

            full = wide // lanes * lanes
            emitter.loop(0, full, lanes, lambda at, _none: some(at, None))
            if full < wide:
                some(full, vector.first(wide - full))

        def line(i: Index, _none: Sequence[str]) -> None:
            emitter.loop(0, ends[1], 1, lambda j, _none: one(i, j))

        emitter.loop(0, ends[0], 1, line)
        routine.define(self.builder, "result")
        return routine


Transform = Callable[[Vector, Sequence[str]], list[str]]


def _both_sides(transform: Transform, vector: Vector, values: Sequence[str]) -> list[str]:
    """A transform of the columns of a square of vectors, then of its rows; row by row."""
    columns = [transform(vector, values[j::PATCH]) for j in range(PATCH)]
    rows = [[column[i] for column in columns] for i in range(len(columns[0]))]
    return [value for row in rows for value in transform(vector, row)]


def _into(vector: Vector, d: Sequence[str]) -> list[str]:
    """`INPUT` times a column."""
    a, b = _fma(vector, d[2], -4, d[4]), _fma(vector, d[1], -4, d[3])
    c, e = _sub(vector, d[4], d[2]), _sub(vector, d[3], d[1])
    return [
        _fma(vector, d[0], 4, _fma(vector, d[2], -5, d[4])),
        vector.add(a, b),
        _sub(vector, a, b),
        _fma(vector, e, 2, c),
        _fma(vector, e, -2, c),
        _fma(vector, d[1], 4, _fma(vector, d[3], -5, d[5])),
    ]


def _back(vector: Vector, m: Sequence[str]) -> list[str]:
    """`OUTPUT` times a column."""
    a, b = vector.add(m[1], m[2]), _sub(vector, m[1], m[2])
    c, e = vector.add(m[3], m[4]), _sub(vector, m[3], m[4])
    return [
        vector.add(vector.add(m[0], a), c),
        _fma(vector, e, 2, b),
        _fma(vector, c, 4, a),
        vector.add(_fma(vector, e, 8, b), m[5]),
    ]


def _sub(vector: Vector, a: str, b: str) -> str:
    return vector.emitter.value(f"fsub {vector.type} {a}, {b}")


def _fma(vector: Vector, a: str, factor: int, b: str) -> str:
    one = f"{vector.element.llvm} {float(factor)}"
    return vector.multiply_add(a, "<" + ", ".join([one] * vector.lanes) + ">", b)
