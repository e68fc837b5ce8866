"""The products of attention: one text for all of a kernel, whose strides are arguments.

    to[row, column] = sum over n of a[row, n] * b[n, column]

or that added to what is there. Columns lie together. Rows are tiles of so many at a time, of which
the last repeats its last row: all of a tile is read before any of it is written. Each element is
one chain of multiply-adds, so that no bit depends on tiles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.kernel import KernelBuilder, Subroutine
from graphc.backends.llvm.contract.tile import Nest, Operands, contract
from graphc.backends.llvm.contract.vector import Vector

#: Elements between rows of each operand, and between columns of a.
STRIDES = ("a_row", "a_step", "b_row", "to_row")


class StridedProduct:
    """The product in tiles of `rows` by `vectors`, for as many columns as `columns` lists; None is
    any number."""

    def __init__(
        self,
        builder: KernelBuilder,
        like: Vector,
        rows: int,
        vectors: int,
        columns: Iterable[int | None],
    ) -> None:
        self.builder, self.like, self.rows = builder, like, rows
        self.lanes, self.step = like.lanes, vectors * like.lanes
        counts = [3 * self.step - 1 if count is None else count for count in columns]
        #: The tile of all vectors, of one, and of a part of one, where they occur.
        self.full = self.single = self.part = None
        if any([count >= self.step for count in counts]):
            self.full = self._tile(vectors)
        if vectors > 1 and any([count % self.step >= self.lanes for count in counts]):
            self.single = self._tile(1)
        if any([count % self.lanes for count in counts]):
            self.part = self._tile(1, masked=True)
        self.routine = self._columns()

    def call(self, emitter: Emitter, pointers: Sequence[str], indices: Mapping[str, Index]) -> None:
        """a, b, to; rows, columns, count (of n), `STRIDES`, and more: 1 adds to what is there, 0
        does not read it."""
        self.routine.call(emitter, pointers, indices)

    def _columns(self) -> Subroutine:
        """All columns, tile by tile."""
        names = ("rows", "columns", "count", "more", *STRIDES)
        routine = Subroutine(("a", "b", "to"), dict.fromkeys(names), plain=True)
        emitter, value = routine.emitter, routine.values
        vector, columns = self.like.on(emitter), value["columns"]

        def tile(at: Index, made: Subroutine) -> None:
            places = [vector.address(f"%{name}", at) for name in ("b", "to")]
            left = emitter.sub(columns, at) if made is self.part else 0
            made.call(emitter, ("%a", *places), {**value, "left": left})

        done: Index = 0
        for made, step in ((self.full, self.step), (self.single, self.lanes)):
            if made is not None:
                end = emitter.round_down(columns, step)
                emitter.loop(done, end, step, lambda at, _none, made=made: tile(at, made))
                done = end
        part = self.part
        if part is not None:
            emitter.when(emitter.less(done, columns), lambda: tile(done, part))
        routine.define(self.builder, "product")
        return routine

    def _tile(self, vectors: int, masked: bool = False) -> Subroutine:
        """All rows of `vectors` vectors of columns; masked: of the `left` first elements."""
        names = ["rows", "count", "more", *STRIDES, *(["left"] if masked else [])]
        routine = Subroutine(("a", "b", "to"), dict.fromkeys(names))
        emitter, value, vector = routine.emitter, routine.values, self.like.on(routine.emitter)
        mask = vector.mask(value["left"]) if masked else None
        a_row, to_row = value["a_row"], value["to_row"]
        nest = Nest.of((value["count"], value["a_step"]))
        steps = [emitter.mul(self.rows, step) for step in (a_row, to_row)]

        def tile(at: Index, pointers: Sequence[str]) -> list[str]:
            a, to = pointers
            last = emitter.sub(emitter.sub(value["rows"], at), 1)
            places = [0, *[emitter.minimum(row, last) for row in range(1, self.rows)]]
            rows = [vector.address(to, emitter.mul(place, to_row)) for place in places]
            cells = [vector.address(row, v * self.lanes) for row in rows for v in range(vectors)]
            zeros = [(vector.type, vector.zero)] * len(cells)
            before = emitter.loop(  # once or not at all
                0, value["more"], 1, lambda *_none: [vector.load(at, mask) for at in cells], zeros
            )
            starts = [emitter.mul(place, a_row) for place in places]
            operands = Operands(a, "%b", starts, value["b_row"], [mask] * vectors)
            for cell, made in zip(cells, contract(emitter, vector, operands, nest, before)):
                vector.store(made, cell, mask)
            return [vector.address(x, step) for x, step in zip(pointers, steps)]

        carried = [("ptr", "%a"), ("ptr", "%to")]
        emitter.loop(0, value["rows"], self.rows, tile, carried)
        routine.define(self.builder, f"tile{self.rows}x{vectors}")
        return routine
