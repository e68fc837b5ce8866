"""Attention without its matrix of scores: blocks of queries times blocks of keys, in cache.

A unit is a block of queries (`rows_of`) of one matrix of the stack. Its queries are turned, so that
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

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.attention_product import StridedProduct
from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import Kernel, KernelBuilder, Subroutine
from graphc.backends.llvm.contract.lanewise import binary, constant, lower_lanes, select
from graphc.backends.llvm.contract.packing import transpose_lanes, transposer
from graphc.backends.llvm.contract.vector import Vector
from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim

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
    shared: tuple[int, ...] | None = None  # for the gradient of a mask: the axes that share it

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


def rows_of(target: Target) -> int:
    """Queries of a block: whole tiles of `tile_of`, along the lanes and across them."""
    return 32 if target.registers >= 32 else 48


def tile_of(target: Target) -> tuple[int, int]:
    """The tile of all products: rows, and vectors of columns."""
    if target.registers >= 32:
        return 8, 2
    return (6, 2) if target.has_fma else (4, 2)


class AttentionWriter:
    """What the kernels of attention and of its gradients share: sizes, the turn of a block, its
    products, and what hides scores."""

    entry: Emitter
    operands: tuple[str, ...]

    def __init__(self, problem: AttentionProblem, target: Target) -> None:
        self.p, self.target, self.rows = problem, target, rows_of(target)
        self.element = element(problem.dtype)
        self.builder = KernelBuilder()
        self.known = named_sizes(problem)
        self.sizes = tuple([name for name, size in self.known.items() if size is None])
        self.vector = Vector(Emitter([]), self.element, target)
        self.lanes = self.vector.lanes

    def on(self, emitter: Emitter) -> Vector:
        return Vector(emitter, self.element, self.target)

    def control(self, pointers: Sequence[str], names: Sequence[str] = ()) -> Subroutine:
        """A subroutine of loops around calls, whose indices are these and all sizes."""
        indices: dict[str, int | None] = {**dict.fromkeys(names), **self.known}
        return Subroutine(pointers, indices, plain=True)

    def index_of_stack(self, emitter: Emitter, b: Index) -> dict[str, Index]:
        """The displacement of matrix b in each operand, in elements."""
        value = self.values()
        found = {name: value[f"{name}_offset"] for name in self.p.stacks}
        for axis, here in self.places(emitter, b, range(len(self.p.batch))).items():
            for name in found:
                step = emitter.mul(here, value[f"{name}_batch{axis}"])
                found[name] = emitter.add(found[name], step)
        return found

    def places(self, emitter: Emitter, b: Index, axes: Sequence[int]) -> dict[int, Index]:
        """The index along each of some batch axes, from the number of a matrix within these."""
        found: dict[int, Index] = {}
        for axis in reversed(axes):
            extent, outer = self.values()[f"batch{axis}"], b
            if axis != axes[0]:
                outer = emitter.floor_div_any(b, extent)
            found[axis] = emitter.remainder(b, outer, extent) if axis != axes[0] else b
            b = outer
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

    def stack_size(self, emitter: Emitter, axes: Sequence[int] | None = None) -> Index:
        """Matrices of the stack, or of these batch axes."""
        count: Index = 1
        for axis in range(len(self.p.batch)) if axes is None else axes:
            count = emitter.mul(count, self.values()[f"batch{axis}"])
        return count

    def padded(self, emitter: Emitter, columns: Index) -> Index:
        """Elements of a row of so many columns in the scratch: whole vectors."""
        if isinstance(columns, int):
            return -(-columns // self.lanes) * self.lanes
        return emitter.add(columns, self.lanes)

    def columns_of_queries(self) -> list[int]:
        """How many columns the queries of a block may take, which are whole vectors."""
        queries, lanes = self.p.queries, self.lanes
        if queries is None:
            return list(range(lanes, self.rows + 1, lanes))
        rest = -(-(queries % self.rows) // lanes) * lanes
        return [rest, self.rows] if queries >= self.rows else [rest]

    # --- subroutines -------------------------------------------------------------------------

    def define_shared(self, results: Sequence[int | None]) -> None:
        """The subroutines of blocks of queries. results: the columns of what products give beside
        scores."""
        self.turner = transposer(self.builder, self.vector, self.element)
        columns = [*self.columns_of_queries(), *results]
        self.product = StridedProduct(self.builder, self.vector, *tile_of(self.target), columns)
        self.scale = self._scale() if self.p.scale != 1.0 else None
        self.hide = self._hide() if self.p.causal or self.p.mask is not None else None

    def turn(self, emitter: Emitter, source: str, to: str, count: Index, row: Index,
             rows: Index, columns: Index) -> None:  # fmt: skip
        """to[column][self.rows] = source[row][column] of `rows` rows, the last of which is repeated
        to make `columns` whole vectors."""
        side = transpose_lanes(self.vector)
        vector = self.on(emitter)

        def some(at: Index, _none: Sequence[str]) -> None:
            first = emitter.minimum(at, emitter.sub(rows, 1))
            indices: dict[str, Index] = {
                "rows": emitter.minimum(emitter.sub(rows, first), side),
                "count": count,
                "from_stride": row,
                "to_stride": self.rows,
            }
            here = vector.address(source, emitter.mul(first, row))
            self.turner.call(emitter, (here, vector.address(to, at)), indices)

        emitter.loop(0, columns, side, some)

    def turn_queries(self, emitter: Emitter, source: str, to: str, value: dict[str, Index]) -> None:
        """The panel of a block of queries, times the scale of scores."""
        row, size = value["q_row"], value["size"]
        self.turn(emitter, source, to, size, row, value["rows"], value["columns"])
        if self.scale is not None:
            self.scale.call(emitter, (to,), {"count": emitter.mul(size, self.rows)})

    def scores_of(self, emitter: Emitter, a: str, row: Index, depth: Index, panel: str, to: str,
                  value: dict[str, Index]) -> None:  # fmt: skip
        """to[key][self.rows]: the products of `count` rows of a, each of `depth` columns, with a
        panel of queries."""
        indices: dict[str, Index] = {
            "rows": value["count"],
            "columns": value["columns"],
            "count": depth,
            "more": 0,
            "a_row": row,
            "a_step": 1,
            "b_row": self.rows,
            "to_row": self.rows,
        }
        self.product.call(emitter, (a, panel, to), indices)

    def hide_scores(self, emitter: Emitter, scores: str, masks: str, value: dict[str, Index],
                    first: Index, count: Index) -> None:  # fmt: skip
        """Adds masks, and hides by order, the scores of `count` keys from `first`."""
        if self.hide is not None:
            behind = emitter.sub(first, value["start"])
            indices = {"count": count, "columns": value["columns"], "behind": behind}
            self.hide.call(emitter, (scores, masks), indices)

    def _scale(self) -> Subroutine:
        routine = Subroutine(("to",), {"count": None})
        emitter, vector = routine.emitter, self.on(routine.emitter)

        def one(at: Index, _none: Sequence[str]) -> None:
            to = vector.address("%to", at)
            made = binary(vector, "fmul", vector.load(to), constant(vector, self.p.scale))
            vector.store(made, to)

        emitter.loop(0, routine.values["count"], self.lanes, one)
        routine.define(self.builder, "scale")
        return routine

    def _hide(self) -> Subroutine:
        """Adds masks to scores, both turned; causal: those of keys behind their query are -inf.

        behind: the place of the first key, seen from the first query.
        """
        names = ("count", "columns", *(("behind",) if self.p.causal else ()))
        routine = Subroutine(("scores", "masks"), dict.fromkeys(names))
        emitter, vector, value = routine.emitter, self.on(routine.emitter), routine.values
        low: Index = 0
        if self.p.causal and self.p.mask is None:  # what is before the first query is seen by all
            low = emitter.maximum(0, emitter.sub(0, value["behind"]))

        def key(n: Index, _none: Sequence[str]) -> None:
            row, end = emitter.mul(n, self.rows), value["columns"]
            if self.p.causal and self.p.mask is None:
                end = emitter.minimum(end, emitter.add(value["behind"], n))

            def some(column: Index, _none: Sequence[str]) -> None:
                at = emitter.add(row, column)
                to = vector.address("%scores", at)
                score = vector.load(to)
                if self.p.mask is not None:
                    score = vector.add(score, vector.load(vector.address("%masks", at)))
                if self.p.causal:
                    number = emitter.sub(emitter.add(value["behind"], n), column)
                    hidden = lower_lanes(vector, number, 0)
                    score = select(vector, hidden, constant(vector, -INFINITY), score)
                vector.store(score, to)

            emitter.loop(0, end, self.lanes, some)

        emitter.loop(low, value["count"], 1, key)
        routine.define(self.builder, "hide")
        return routine
