"""The epilogue that fusion found for a product, as code at the product's stores."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.emitter import Emitter
from graphc.backends.llvm.contract.epilogue import Epilogue, Position
from graphc.backends.llvm.placed import PlacedVectors
from graphc.backends.llvm.target import Target
from graphc.backends.llvm.vmath.emitter import Vec
from graphc.ir.dtype import DType
from graphc.ir.graph import Value
from graphc.passes.fuse import epilogue as fused
from graphc.passes.fuse.expr import Expr, walk

#: An expression of this cost is written once a tile, in a loop, not once for each vector.
LONG = 12


def finish(found: fused.Epilogue, target: Target) -> Epilogue:
    """What the kernel of the product calls before it stores a vector."""
    names = {value: f"e{k}" for k, value in enumerate(buffers_of(found))}
    cost = sum([1 if expr.op == "load" else expr.cost for _, expr in found.outputs])

    def emit(emitter: Emitter, result: str, position: Position) -> str:
        return _Writer(found, target, emitter, position).run(result)

    return Epilogue(
        tuple(names.values()),
        emit,
        long=cost > LONG,
        written=tuple(list(names.values())[len(found.reads) :]),
        own=tuple([names[value] for value in found.own]),
    )


def buffers_of(found: fused.Epilogue) -> list[Value]:
    """The operands of the epilogue, after the kernel's own."""
    written = [value for value, _ in found.outputs]
    return [*found.reads, *(written if found.kept else written[1:])]


class _Writer:
    """Writes the expressions for one vector of results."""

    def __init__(
        self, found: fused.Epilogue, target: Target, emitter: Emitter, position: Position
    ) -> None:
        self.found, self.position = found, position
        self.dtype: DType = found.result.type.dtype
        lanes = target.lanes(self.dtype.itemsize * 8)
        self.placed = PlacedVectors(target, emitter, lanes, "e")
        self.pointers = dict(zip(buffers_of(found), position.arguments, strict=True))

    def run(self, result: str) -> str:
        """Stores what goes elsewhere; the vector that is stored as the product's result."""
        found, made = self.found, dict[Expr, Vec]()
        for expr in walk([expr for _, expr in found.outputs]):
            made[expr] = self._value(expr, result, [made[arg] for arg in expr.args])
        for value, expr in found.outputs if found.kept else found.outputs[1:]:
            pointer = self._pointer(value, found.whole)
            self.placed.store(made[expr], pointer, self.position.mask)
        self.placed.declare()
        return result if found.kept else made[found.outputs[0][1]].name

    def _value(self, expr: Expr, result: str, args: Sequence[Vec]) -> Vec:
        if expr.op != "load":
            return self.placed.compute(expr, args)
        buffer = expr.payload.buffer
        if buffer is self.found.result:
            return Vec(result, self.dtype)
        place = self.found.places[expr]
        pointer = self._pointer(buffer, place)
        if place[2] == 0:
            return self.placed.splat(pointer, expr.dtype)
        return self.placed.load(pointer, expr.dtype, self.position.mask)

    def _pointer(self, value: Value, place: fused.Place) -> str:
        here = (self.position.batch, self.position.row, self.position.column)
        return self.placed.pointer(self.pointers[value], value.type.dtype, here, place)
