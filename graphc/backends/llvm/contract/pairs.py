"""bf16 in pairs along k: how they are copied to scratch, multiplied and rounded.

Processors multiply two pairs and add both products to an f32. Packed, a pair is one element of 32
bits, so that a product in pairs is a product of half of k: B is [k / 2, columns], A either
[rows, k / 2] or, where it is stored transposed, [k / 2, rows]. Where k ends within a pair, or
within the pairs that an instruction wants, zeros follow on both sides.

The instructions take denormal operands and results as zero.
"""

from collections.abc import Sequence

from graphc.backends.llvm.contract.element import ELEMENTS, PAIR, Element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target

_HALF = ELEMENTS["bf16"]


def pair_step(target: Target) -> int:
    """How many k one instruction takes: packed k is a multiple of it."""
    return 32 if target.has_amx else 2


class PairSums(Vector):
    """Vectors of f32 that are sums of products of pairs: never denormal, so that one instruction
    rounds them to the bits of `halves.narrow`."""

    def narrow(self, value: str, half: Element) -> str:
        emitter, lanes = self.emitter, self.lanes
        name = f"llvm.x86.avx512bf16.cvtneps2bf16.{lanes * 32}"
        rounded = emitter.call(f"<{lanes} x bfloat>", name, (self.type, value))
        return emitter.value(f"bitcast <{lanes} x bfloat> {rounded} to <{lanes} x i16>")


def sum_vector(emitter: Emitter, packed: Element, target: Target) -> Vector:
    """Vectors of the sums of products of packed elements."""
    kind = PairSums if packed is PAIR else Vector
    return kind(emitter, packed.accumulator, target)


def pair_columns(
    builder: KernelBuilder, target: Target, columns: int | None, vectors: int
) -> Subroutine:
    """A subroutine that makes rows of pairs of two rows each, of their first `columns` elements.

    Indices: rows that exist of the source, count of pairs to write, strides in elements of each
    side. It writes `vectors` whole vectors, zeros after the columns. If `columns` is None it is
    an index of the call.
    """
    names = {"columns": columns, "rows": None, "count": None}
    routine = Subroutine(
        ("source", "destination"), names | {"from_stride": None, "to_stride": None}
    )
    emitter, values = routine.emitter, routine.values
    vector = Vector(emitter, PAIR, target)
    lanes, stride = vector.lanes, values["from_stride"]
    halves = Vector(emitter, _HALF, target, lanes)
    places = range(0, vectors * lanes, lanes)
    masks = [vector.mask(emitter.sub(values["columns"], place)) for place in places]

    def wide(pointer: str, mask: str | None) -> str:
        return emitter.value(f"zext {halves.type} {halves.load(pointer, mask)} to {vector.type}")

    def write(pair: Index, second: bool) -> None:
        here = vector.address("%source", emitter.mul(emitter.mul(pair, 2), stride), _HALF)
        there = vector.address("%destination", emitter.mul(pair, values["to_stride"]))
        for place, mask in zip(places, masks):
            at = vector.address(here, place, _HALF)
            value = wide(at, mask)
            if second:
                high = wide(vector.address(at, stride, _HALF), mask)
                high = emitter.value(f"shl {vector.type} {high}, splat (i32 16)")
                value = emitter.value(f"or {vector.type} {value}, {high}")
            vector.store(value, vector.address(there, place))

    full = emitter.floor_div(values["rows"], 2)
    emitter.loop(0, full, 1, lambda pair, _none: write(pair, True))
    odd = emitter.sub(values["rows"], emitter.mul(full, 2))
    emitter.when(emitter.less(0, odd), lambda: write(full, False))
    _clear(vector, places, emitter.add(full, odd), values)
    routine.define(builder, "pair_columns")
    return routine


def _clear(vector: Vector, places: Sequence[int], first: Index, values: dict[str, Index]) -> None:
    """Zeros in the rows of pairs from `first` to `count`."""

    def clear(pair: Index, _carried: Sequence[str]) -> None:
        there = vector.address("%destination", vector.emitter.mul(pair, values["to_stride"]))
        for place in places:
            vector.store(vector.zero, vector.address(there, place))

    vector.emitter.loop(first, values["count"], 1, clear)


def pair_tail(builder: KernelBuilder, target: Target, vectors: int) -> Subroutine:
    """A subroutine for rows of a source that runs along k: the pairs after the whole ones.

    Indices: rows of the source, its elements of k that exist, count of pairs to write, strides in
    elements of each side. A row is a column of the destination, of `vectors` vectors.
    """
    names = dict.fromkeys(("rows", "depth", "count", "from_stride", "to_stride"))
    routine = Subroutine(("source", "destination"), names)
    emitter, values = routine.emitter, routine.values
    vector = Vector(emitter, PAIR, target)
    full = emitter.floor_div(values["depth"], 2)
    odd = emitter.sub(values["depth"], emitter.mul(full, 2))
    _clear(vector, range(0, vectors * vector.lanes, vector.lanes), full, values)

    def single(row: Index, _carried: Sequence[str]) -> None:
        at = emitter.add(emitter.mul(row, values["from_stride"]), emitter.mul(full, 2))
        half = emitter.load("i16", vector.address("%source", at, _HALF), 2)
        into = emitter.add(emitter.mul(full, values["to_stride"]), row)
        pair = emitter.value(f"zext i16 {half} to i32")
        vector.store_scalar(pair, vector.address("%destination", into))

    def singles() -> None:
        emitter.loop(0, values["rows"], 1, single)

    emitter.when(emitter.less(0, odd), singles)
    routine.define(builder, "pair_tail")
    return routine


def pair_rows(builder: KernelBuilder, target: Target) -> Subroutine:
    """A subroutine that copies rows along k, and zeros after them to a whole vector.

    Indices: rows, depth (elements of k), strides in elements of each side.
    """
    names = dict.fromkeys(("rows", "depth", "from_stride", "to_stride"))
    routine = Subroutine(("source", "destination"), names)
    emitter, values = routine.emitter, routine.values
    vector = Vector(emitter, _HALF, target)
    lanes = vector.lanes
    full = emitter.round_down(values["depth"], lanes)
    rest = emitter.sub(values["depth"], full)
    mask = vector.mask(rest)

    def one(row: Index, _carried: Sequence[str]) -> None:
        here = vector.address("%source", emitter.mul(row, values["from_stride"]))
        there = vector.address("%destination", emitter.mul(row, values["to_stride"]), PAIR)

        def copy(at: Index, mask: str | None = None) -> None:
            vector.store(vector.load(vector.address(here, at), mask), vector.address(there, at))

        emitter.loop(0, full, lanes, lambda at, _none: copy(at))
        emitter.when(emitter.less(0, rest), lambda: copy(full, mask))

    emitter.loop(0, values["rows"], 1, one)
    routine.define(builder, "pair_rows")
    return routine
