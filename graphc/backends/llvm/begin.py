"""The prologue that fusion found for a product's operand, as code where the product packs it."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.prologue import Prologue, Row
from graphc.backends.llvm.finish import LONG
from graphc.backends.llvm.placed import PlacedVectors
from graphc.backends.llvm.target import Target
from graphc.backends.llvm.vmath.emitter import Vec, memory_element
from graphc.passes.fuse import prologue as fused
from graphc.passes.fuse.expr import Expr, walk


def begin(found: fused.Prologue, target: Target, name: str) -> Prologue:
    """What the kernel of the product calls instead of loading operand `name`."""
    names = tuple([f"{name}{k}" for k in range(len(found.reads))])

    def row(emitter: Emitter, lanes: int, batch: Index, at: Index, pointers: Sequence[str]) -> Row:
        return _RowWriter(found, target, emitter, lanes, (batch, at), pointers).vector

    return Prologue(names, row, long=found.expr.cost > LONG)


class _RowWriter:
    """Writes the expressions of one row: what is the same along it at once."""

    def __init__(
        self,
        found: fused.Prologue,
        target: Target,
        emitter: Emitter,
        lanes: int,
        here: tuple[Index, Index],
        pointers: Sequence[str],
    ) -> None:
        self.found, self.emitter = found, emitter
        self.placed = PlacedVectors(target, emitter, lanes, "p")
        self.once: dict[Expr, Vec] = {}
        self.starts: dict[Expr, str] = {}
        self.along: list[Expr] = []
        bases = dict(zip(found.reads, pointers, strict=True))
        for expr in walk([found.expr]):
            place = found.places.get(expr)
            if place is not None:
                dtype, base = expr.dtype, bases[expr.payload.buffer]
                start = self.placed.pointer(base, dtype, here, (*place[:2], place[3]))
                if place[2] == 0:
                    self.once[expr] = self.placed.splat(start, dtype)
                    continue
                self.starts[expr] = start
            elif all([arg in self.once for arg in expr.args]):
                self.once[expr] = self.placed.compute(expr, [self.once[a] for a in expr.args])
                continue
            self.along.append(expr)
        self.placed.declare()

    def vector(self, column: Index, mask: str | None) -> str:
        """The elements from a column on."""
        made = dict(self.once)
        for expr in self.along:
            if expr in self.starts:
                element = memory_element(expr.dtype)
                pointer = self.emitter.address(self.starts[expr], column, element)
                made[expr] = self.placed.load(pointer, expr.dtype, mask)
            else:
                made[expr] = self.placed.compute(expr, [made[arg] for arg in expr.args])
        self.placed.declare()
        return made[self.found.expr].name
