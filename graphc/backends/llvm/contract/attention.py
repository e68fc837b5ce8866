"""Attention without its matrix of scores: blocks of queries times blocks of keys, in cache.

A unit is a block of `ROWS` queries of one matrix of the stack. Its queries are turned, so that
they lie along the lanes: the scores of a block of keys are then a product of rows of k, as they
lie in memory, by a panel; the largest score and the sum of weights of a query are found without
any step across lanes, and the weighted sum of rows of v is a product of the weights by v as it
lies in memory. Where a block of keys raises the largest score, what was summed before is scaled
down (M. Milakov, N. Gimelshein: Online normalizer calculation for softmax, 2018).

Few queries have lanes along the elements of a key instead; then nothing is turned. Which of the
two it is, and the blocks, follow from sizes alone, and a unit owns its queries: no bit depends
on threads, or on whether a size is known when the kernel is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import Kernel, KernelBuilder, Subroutine
from graphc.backends.llvm.contract.lanewise import (
    binary,
    constant,
    larger,
    lower_lanes,
    select,
)
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer
from graphc.backends.llvm.contract.tile import Nest, Operands, contract
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim

#: Queries of a block, and keys of one.
ROWS, KEYS = 48, 192
#: At most so many queries have lanes along the elements of keys, in blocks of so many keys.
FEW, FEW_KEYS = 8, 512
INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class Stack:
    """How a stack of matrices lies in memory, whose columns lie together: strides in elements.
    None is a size that the kernel is given."""

    batch: tuple[int | None, ...]
    row: int | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class AttentionProblem:
    """softmax(scale * q @ k^T + mask) @ v of q[batch, queries, size], k[batch, keys, size],
    v[batch, keys, width] and, where there is one, mask[batch, queries, keys]; causal: key s is
    hidden from query t < s; drop[batch, queries, keys]: factors of the weights. A size is None
    where it is symbolic."""

    batch: tuple[int | None, ...]
    queries: int | None
    keys: int | None
    size: int | None
    width: int | None
    q: Stack
    k: Stack
    v: Stack
    mask: Stack | None
    scale: float
    causal: bool
    dtype: str
    ct: Stack | None = None  # of the result, for the gradients
    drop: Stack | None = None

    @property
    def stacks(self) -> dict[str, Stack]:
        """The strided operands, by name."""
        every = {"q": self.q, "k": self.k, "v": self.v, "ct": self.ct, "mask": self.mask}
        every["drop"] = self.drop
        return {name: stack for name, stack in every.items() if stack is not None}


def named_sizes(problem: AttentionProblem) -> dict[str, int | None]:
    """Every size and stride by its name in the kernel, in order; those that are None are the
    kernel's `sizes`."""
    names = ("queries", "keys", "size", "width")
    found: dict[str, int | None] = {name: getattr(problem, name) for name in names}
    found |= {f"batch{axis}": size for axis, size in enumerate(problem.batch)}
    for name, stack in problem.stacks.items():
        found |= {f"{name}_batch{axis}": step for axis, step in enumerate(stack.batch)}
        found |= {f"{name}_row": stack.row, f"{name}_offset": stack.offset}
    return found


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles of the two products. scores: keys by vectors of queries; values: queries by
    vectors of v's columns; `ROWS` is a multiple of both tiles' queries."""

    scores: tuple[int, int]
    values: tuple[int, int]

    @staticmethod
    def of(target: Target) -> Tiles:
        if target.registers >= 32:
            return Tiles((8, 3), (6, 4))
        return Tiles((6, 2), (6, 2)) if target.has_fma else Tiles((4, 2), (4, 2))


@dataclass(frozen=True, slots=True)
class Form:
    """How the operands of a product lie: elements between rows of a and between its columns, the
    size that is the distance of rows of b, and that of the result.

    exact: the result's rows are that far apart, and hold no more; else they are whole vectors.
    """

    a_row: int
    a_step: int
    b_row: str
    to_row: str
    exact: bool = False
    scaled: bool = False


@dataclass(frozen=True, slots=True)
class Tiled:
    """The tiles of a product by (rows, whether they are the last columns)."""

    form: Form
    columns: str
    rows: tuple[int, ...]
    kinds: Mapping[tuple[int, bool], Subroutine]


@dataclass(frozen=True, slots=True)
class ByKeys:
    """A product of the rows of an operand (k or v), whose columns are the size `depth`, with a
    panel of queries. scores: they are scaled, masked, hidden; tops: the largest are noted."""

    operand: str
    depth: str
    scores: bool
    tops: bool


@dataclass(frozen=True, slots=True)
class TiledKeys:
    """The tiles of such a product by (vectors, whether some may be hidden)."""

    kind: ByKeys
    tiles: Mapping[tuple[int, bool], Subroutine]


class AttentionWriter:
    """What the kernels of attention and of its gradients share: sizes, the turn of a block, and the
    two kinds of products: by rows of keys, and to rows of results."""

    entry: Emitter
    operands: tuple[str, ...]

    def __init__(self, problem: AttentionProblem, target: Target) -> None:
        self.p, self.target, self.tiles = problem, target, Tiles.of(target)
        self.element = element(problem.dtype)
        self.builder = KernelBuilder()
        self.known = named_sizes(problem)
        self.sizes = tuple([name for name, size in self.known.items() if size is None])
        self.vector = Vector(Emitter([]), self.element, target)
        self.lanes = self.vector.lanes

    def on(self, emitter: Emitter) -> Vector:
        return Vector(emitter, self.element, self.target)

    def routine(
        self, pointers: Sequence[str], names: Sequence[str] = (), **known: int | None
    ) -> Subroutine:
        """A subroutine whose indices are these, and all sizes."""
        indices: dict[str, int | None] = {**dict.fromkeys(names), **known, **self.known}
        return Subroutine(pointers, indices)

    def index_of_stack(self, emitter: Emitter, b: Index) -> dict[str, Index]:
        """The displacement of matrix b in each operand, in elements."""
        value = self.values()
        found = {name: value[f"{name}_offset"] for name in self.p.stacks}
        rest = b
        for axis in reversed(range(len(self.p.batch))):
            extent = value[f"batch{axis}"]
            outer: Index = 0
            if axis:
                outer = emitter.floor_div_any(rest, extent)
            here = emitter.remainder(rest, outer, extent) if axis else rest
            for name in found:
                step = emitter.mul(here, value[f"{name}_batch{axis}"])
                found[name] = emitter.add(found[name], step)
            rest = outer
        return found

    def values(self) -> dict[str, Index]:
        """Every size as the kernel's entry sees it, and as subroutines see it that take it."""
        return {name: f"%{name}" if size is None else size for name, size in self.known.items()}

    def finished(
        self, stem: str, count: Emitter, units: Index, scratch: Callable[..., AnyDim]
    ) -> Kernel:
        """The kernel, with the entry as it was written. count: writes the function that says how
        many `units` there are, where a size is symbolic."""
        if isinstance(units, str):
            count.line(f"ret i64 {units}")
            units = self.builder.define("units", count)
        size, width = self.p.size, self.p.width
        scratch_bytes: AnyDim = 0
        if size is not None and width is not None:
            scratch_bytes = scratch(size, width, self.target, self.element.bytes)
        assert isinstance(scratch_bytes, int)
        return self.builder.finish(
            stem,
            self.entry,
            operands=self.operands,
            sizes=self.sizes,
            units=units,
            scratch_bytes=scratch_bytes,
        )

    def stack_size(self, emitter: Emitter) -> Index:
        count: Index = 1
        for axis in range(len(self.p.batch)):
            count = emitter.mul(count, self.values()[f"batch{axis}"])
        return count

    def padded(self, emitter: Emitter, columns: Index) -> Index:
        """Elements of a row of so many columns in the scratch: whole vectors."""
        if isinstance(columns, int):
            return -(-columns // self.lanes) * self.lanes
        return emitter.add(columns, self.lanes)

    # --- subroutines -------------------------------------------------------------------------

    def turn(self, emitter: Emitter, source: str, to: str, count: Index, row: Index,
             rows: Index, columns: Index) -> None:  # fmt: skip
        """to[column][ROWS] = source[row][column] of `rows` rows, the last of which is repeated to
        make `columns` whole vectors. The caller's emitter, with its names of sizes."""
        side = transpose_lanes(self.vector)
        vector = self.on(emitter)

        def some(at: Index, _none: Sequence[str]) -> None:
            first = emitter.minimum(at, emitter.sub(rows, 1))
            indices: dict[str, Index] = {
                "rows": emitter.minimum(emitter.sub(rows, first), side),
                "count": count,
                "from_stride": row,
                "to_stride": ROWS,
            }
            here = vector.address(source, emitter.mul(first, row))
            self.turner.call(emitter, (here, vector.address(to, at)), indices)

        emitter.loop(0, columns, side, some)

    def define_turner(self) -> None:
        self.turner = transposer(self.builder, self.vector, self.element)

    def tile_of_keys(self, vectors: int, diagonal: bool, kind: ByKeys) -> Subroutine:
        """The products of a tile of keys' rows with `vectors` of queries: k, panel, mask, to, tops.

        last: the tile's last key that exists; rows behind it repeat it. behind: the place of the
        tile's first key, seen from its first query.
        """
        rows = self.tiles.scores[0]
        routine = self.routine(("k", "panel", "mask", "to", "tops"), ("last", "behind"))
        emitter, value, vector = routine.emitter, routine.values, self.on(routine.emitter)
        places = [emitter.minimum(row, value["last"]) for row in range(rows)]
        starts = [emitter.mul(place, value[f"{kind.operand}_row"]) for place in places]
        operands = Operands("%k", "%panel", starts, ROWS, [None] * vectors)
        nest = Nest.of((value[kind.depth], 1))
        sums = contract(emitter, vector, operands, nest, [vector.zero] * (rows * vectors))
        for v in range(vectors):
            column = v * self.lanes
            top = vector.load(vector.address("%tops", column)) if kind.tops else ""
            for row, place in enumerate(places):
                made = sums[row * vectors + v]
                if kind.scores:
                    made = binary(vector, "fmul", made, constant(vector, self.p.scale))
                if kind.scores and self.p.mask is not None:
                    at = emitter.add(emitter.mul(place, ROWS), column)
                    made = vector.add(made, vector.load(vector.address("%mask", at)))
                if diagonal:
                    hidden = lower_lanes(vector, emitter.add(value["behind"], place), column)
                    made = select(vector, hidden, constant(vector, -INFINITY), made)
                vector.store(made, vector.address("%to", row * ROWS + column))
                if kind.tops:
                    top = larger(vector, made, top)
            if kind.tops:
                vector.store(top, vector.address("%tops", column))
        routine.define(self.builder, f"keys{rows}x{vectors}")
        return routine

    def tiles_of_keys(self, kind: ByKeys) -> TiledKeys:
        sides = (False, True) if self.p.causal and kind.scores else (False,)
        tiles = {
            (vectors, diagonal): self.tile_of_keys(vectors, diagonal, kind)
            for vectors in self._vectors_that_occur()
            for diagonal in sides
        }
        return TiledKeys(kind, tiles)

    def _vectors_that_occur(self) -> set[int]:
        """How many vectors of queries a tile may have."""
        most, queries = self.tiles.scores[1], self.p.queries
        if queries is None:
            return set(range(1, most + 1))
        rest = -(-(queries % ROWS) // self.lanes)
        found = {rest % most} - {0}
        return found | {most} if queries >= ROWS or rest >= most else found

    def by_vectors(
        self, emitter: Emitter, vectors: Index, body: Callable[[Index, int], None]
    ) -> None:
        """body(first vector, how many) for all `vectors`: whole tiles, then what is left."""
        most, occur = self.tiles.scores[1], self._vectors_that_occur()
        full = emitter.round_down(vectors, most)
        if most in occur:
            emitter.loop(0, full, most, lambda at, _none: body(at, most))
        rest = emitter.sub(vectors, full)
        for some in sorted(occur - {most}):
            is_some = rest == some if isinstance(rest, int) else emitter.compare("eq", rest, some)
            emitter.when(is_some, lambda some=some: body(full, some))

    def product_tile(self, rows: int, vectors: int, left: int | None, form: Form) -> Subroutine:
        """A tile of a sum over `count` of a[row, n] * b[n, column], added to what `to` holds (times
        factors[row], where the form says so): a, b, to, factors.

        left: the columns that there are of the tile's, None where the call says.
        """
        routine = self.routine(("a", "b", "to", "factors"), ("count",), left=left)
        emitter, value, vector = routine.emitter, routine.values, self.on(routine.emitter)
        places = range(0, vectors * self.lanes, self.lanes)
        masks = [vector.mask(emitter.sub(value["left"], place)) for place in places]
        starts = [row * form.a_row for row in range(rows)]
        operands = Operands("%a", "%b", starts, value[form.b_row], masks)
        nest = Nest.of((value["count"], form.a_step))
        sums = contract(emitter, vector, operands, nest, [vector.zero] * (rows * vectors))
        to_row = value[form.to_row] if form.exact else self.padded(emitter, value[form.to_row])
        for row in range(rows):
            here = vector.address("%to", emitter.mul(row, to_row))
            factor = ""
            if form.scaled:
                factor = vector.splat(vector.load_scalar(vector.address("%factors", row)))
            for v, place in enumerate(places):
                at = vector.address(here, place)
                mask = masks[v] if form.exact else None
                before, more = vector.load(at, mask), sums[row * vectors + v]
                if form.scaled:
                    made = vector.multiply_add(before, factor, more)
                else:
                    made = vector.add(before, more)
                vector.store(made, at, mask)
        routine.define(self.builder, f"{form.b_row}{rows}x{vectors}")
        return routine

    def product_tiles(self, form: Form, columns: str, rows: Sequence[int]) -> Tiled:
        """All tiles of a product whose result has the columns that the size of that name tells."""
        vectors, wide = self.tiles.values[1], self.known[columns]
        kinds: dict[tuple[int, bool], Subroutine] = {}
        for some in rows:
            if wide is None:
                kinds[some, True] = self.product_tile(some, 1, None, form)
            elif rest := wide % (vectors * self.lanes):
                kinds[some, True] = self.product_tile(some, -(-rest // self.lanes), rest, form)
            if wide is None or wide >= vectors * self.lanes:
                all_of = vectors * self.lanes
                kinds[some, False] = self.product_tile(some, vectors, all_of, form)
        return Tiled(form, columns, tuple(rows), kinds)

    def product(self, emitter: Emitter, tiled: Tiled, pointers: Sequence[str],
                value: dict[str, Index], rows: Index, count: Index) -> None:  # fmt: skip
        """`rows` rows of the product: a, b, to, factors. Where there is a tile of one row, it does
        the rest of them; else the last tile makes rows that nobody reads."""
        a, b, to, factors = pointers
        vector, form, wide = self.on(emitter), tiled.form, value[tiled.columns]
        step = self.tiles.values[1] * self.lanes
        to_row = value[form.to_row] if form.exact else self.padded(emitter, value[form.to_row])
        whole = emitter.round_down(wide, step)

        def tile(some: int, row: Index) -> None:
            from_a = vector.address(a, emitter.mul(row, form.a_row))
            into = vector.address(to, emitter.mul(row, to_row))
            scales = vector.address(factors, row)

            def part(at: Index, last: bool) -> None:
                indices = {**value, "count": count, "left": emitter.sub(wide, at)}
                places = (from_a, vector.address(b, at), vector.address(into, at), scales)
                tiled.kinds[some, last].call(emitter, places, indices)

            if (some, False) in tiled.kinds:
                emitter.loop(0, whole, step, lambda at, _none: part(at, False))
            if (some, True) in tiled.kinds:
                each = step if isinstance(wide, int) else self.lanes
                emitter.loop(whole, wide, each, lambda at, _none: part(at, True))

        most = max(tiled.rows)
        full = emitter.round_down(rows, most) if 1 in tiled.rows else rows
        emitter.loop(0, full, most, lambda row, _none: tile(most, row))
        if full is not rows:
            emitter.loop(full, rows, 1, lambda row, _none: tile(1, row))

    def by_keys(self, emitter: Emitter, tiled: TiledKeys, pointers: Sequence[str],
                value: dict[str, Index], first: Index, count: Index) -> None:  # fmt: skip
        """The products of `count` keys from `first` with a block of queries: k (of the first key),
        panel, mask, to and tops; `value` has the block's `start` and `vectors`."""
        rows = self.tiles.scores[0]
        vector, kind = self.on(emitter), tiled.kind
        k, panel, mask, to, tops = pointers

        def group(v: Index, vectors: int) -> None:
            column = emitter.mul(v, self.lanes)
            of_group = [vector.address(pointer, column) for pointer in (panel, mask, to, tops)]
            query = emitter.add(value["start"], column)

            def tile(at: Index, _none: Sequence[str]) -> None:
                last = emitter.sub(emitter.minimum(emitter.sub(count, at), rows), 1)
                behind = emitter.sub(emitter.add(first, at), query)
                here = emitter.mul(at, ROWS)
                keys = vector.address(k, emitter.mul(at, value[f"{kind.operand}_row"]))
                places = [keys, *of_group]
                places[2:4] = [vector.address(pointer, here) for pointer in places[2:4]]
                indices = {**value, "last": last, "behind": behind}

                def run(diagonal: bool) -> None:
                    tiled.tiles[vectors, diagonal].call(emitter, places, indices)

                if not (self.p.causal and kind.scores):
                    run(False)
                    return
                some_hidden = emitter.less(0, emitter.add(behind, last))
                emitter.when(some_hidden, lambda: run(True), lambda: run(False))

            emitter.loop(0, count, rows, tile)

        self.by_vectors(emitter, value["vectors"], group)
