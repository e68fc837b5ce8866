"""The epilogue that fusion found for a product, as code at the product's stores."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.contract.epilogue import Epilogue, Position
from graphc.backends.llvm.target import Target
from graphc.backends.llvm.vmath.emitter import Vec, VectorEmitter, memory_element
from graphc.ir.dtype import DType
from graphc.ir.graph import Value
from graphc.passes.fuse import epilogue as fused
from graphc.passes.fuse.expr import Expr, walk

#: An expression of this cost is written once a tile, in a loop, not once for each vector.
LONG = 12


def finish(found: fused.Epilogue, target: Target) -> Epilogue:
    """What the kernel of the product calls before it stores a vector."""
    names = [f"e{k}" for k in range(len(buffers_of(found)))]
    cost = sum([1 if expr.op == "load" else expr.cost for _, expr in found.outputs])

    def emit(emitter: Emitter, result: str, position: Position) -> str:
        return _Writer(found, target, emitter, position).run(result)

    return Epilogue(tuple(names), emit, long=cost > LONG)


def buffers_of(found: fused.Epilogue) -> list[Value]:
    """The operands of the epilogue, after the kernel's own."""
    written = [value for value, _ in found.outputs]
    return [*found.reads, *(written if found.kept else written[1:])]


class _Writer:
    """Writes the expressions for one vector of results."""

    def __init__(
        self, found: fused.Epilogue, target: Target, emitter: Emitter, position: Position
    ) -> None:
        self.found, self.emitter, self.position = found, emitter, position
        self.dtype: DType = found.result.type.dtype
        lanes = target.lanes(self.dtype.itemsize * 8)
        self.vec = VectorEmitter(target, lanes, prefix=f"{emitter.name('e')}_")
        self.vec.lines = emitter.lines  # both write into one function
        self.pointers = dict(zip(buffers_of(found), position.arguments, strict=True))

    def run(self, result: str) -> str:
        """Stores what goes elsewhere; the vector that is stored as the product's result."""
        found, made = self.found, dict[Expr, Vec]()
        for expr in walk([expr for _, expr in found.outputs]):
            made[expr] = self._value(expr, result, [made[arg] for arg in expr.args])
        for value, expr in found.outputs if found.kept else found.outputs[1:]:
            self._store(made[expr], self._pointer(value, found.whole))
        self.emitter.declares |= self.vec.declarations
        self.emitter.helpers |= self.vec.helpers
        return result if found.kept else made[found.outputs[0][1]].name

    def _value(self, expr: Expr, result: str, args: Sequence[Vec]) -> Vec:
        if expr.op == "constant":
            return self.vec.const(expr.payload, expr.dtype)
        if expr.op != "load":
            return self.vec.emit(expr.op, args, expr.dtype)
        buffer = expr.payload.buffer
        if buffer is self.found.result:
            return Vec(result, self.dtype)
        place = self.found.places[expr]
        pointer = self._pointer(buffer, place)
        if place[2] == 0:
            return self._splat(pointer, expr.dtype)
        return self._load(pointer, expr.dtype)

    def _pointer(self, value: Value, place: fused.Place) -> str:
        at: Index = 0
        here = (self.position.batch, self.position.row, self.position.column)
        for index, factor in zip(here, place):
            if index != 0 and factor != 0:
                at = self.emitter.add(at, self.emitter.mul(index, _known(factor)))
        at = self.emitter.add(at, _known(place[3]))
        return self.emitter.address(self.pointers[value], at, memory_element(value.type.dtype))

    def _load(self, pointer: str, dtype: DType) -> Vec:
        kind, align = self.vec.memory_type(dtype), dtype.itemsize
        mask = self.position.mask
        if mask is None:
            return self.vec.unpack(self.emitter.load(kind, pointer, align), dtype)
        raw = self.emitter.call(
            kind,
            f"llvm.masked.load.{self._suffix(dtype)}.p0",
            (f"ptr align {align}", pointer),
            (f"<{self.vec.width} x i1>", mask),
            (kind, "zeroinitializer"),
        )
        return self.vec.unpack(raw, dtype)

    def _splat(self, pointer: str, dtype: DType) -> Vec:
        element, kind = memory_element(dtype), self.vec.memory_type(dtype)
        scalar = self.emitter.load(element, pointer, dtype.itemsize)
        one = self.emitter.value(f"insertelement {kind} poison, {element} {scalar}, i64 0")
        zeros = f"<{self.vec.width} x i32> zeroinitializer"
        spread = self.emitter.value(f"shufflevector {kind} {one}, {kind} poison, {zeros}")
        return self.vec.unpack(spread, dtype)

    def _store(self, vec: Vec, pointer: str) -> None:
        kind, align = self.vec.memory_type(vec.dtype), vec.dtype.itemsize
        packed, mask = self.vec.pack(vec), self.position.mask
        if mask is None:
            self.emitter.store(kind, packed, pointer, align)
            return
        self.emitter.call(
            "void",
            f"llvm.masked.store.{self._suffix(vec.dtype)}.p0",
            (kind, packed),
            (f"ptr align {align}", pointer),
            (f"<{self.vec.width} x i1>", mask),
        )

    def _suffix(self, dtype: DType) -> str:
        element = memory_element(dtype)
        bits = {"float": "f32", "double": "f64"}.get(element, element)
        return f"v{self.vec.width}{bits}"


def _known(size: object) -> int:
    assert isinstance(size, int), "epilogues have known strides"
    return size
