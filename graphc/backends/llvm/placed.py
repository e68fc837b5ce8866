"""Vectors of a fused expression's buffers, at places of a product's kernel."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.target import Target
from graphc.backends.llvm.vmath.emitter import Vec, VectorEmitter, memory_element
from graphc.ir.dims import AnyDim
from graphc.ir.dtype import DType
from graphc.passes.fuse.expr import Expr


class PlacedVectors:
    """Writes expressions on vectors of `lanes` elements into the function of a kernel."""

    def __init__(self, target: Target, emitter: Emitter, lanes: int, stem: str) -> None:
        self.emitter = emitter
        self.vec = VectorEmitter(target, lanes, prefix=f"{emitter.name(stem)}_")
        self.vec.lines = emitter.lines  # both write into one function

    def declare(self) -> None:
        """What the text needs, told to the function."""
        self.emitter.declares |= self.vec.declarations
        self.emitter.helpers |= self.vec.helpers

    def compute(self, expr: Expr, args: Sequence[Vec]) -> Vec:
        """An expression that is no load, from its arguments."""
        if expr.op == "constant":
            return self.vec.const(expr.payload, expr.dtype)
        return self.vec.emit(expr.op, args, expr.dtype)

    def pointer(
        self, base: str, dtype: DType, here: Sequence[Index], place: Sequence[AnyDim]
    ) -> str:
        """The address of the element at the place, whose factors go with the indices `here`."""
        at: Index = 0
        for index, factor in zip(here, place):
            if index != 0 and factor != 0:
                at = self.emitter.add(at, self.emitter.mul(index, _known(factor)))
        at = self.emitter.add(at, _known(place[-1]))
        return self.emitter.address(base, at, memory_element(dtype))

    def load(self, pointer: str, dtype: DType, mask: str | None) -> Vec:
        kind, align = self.vec.memory_type(dtype), dtype.itemsize
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

    def splat(self, pointer: str, dtype: DType) -> Vec:
        """One element, in all lanes."""
        element, kind = memory_element(dtype), self.vec.memory_type(dtype)
        scalar = self.emitter.load(element, pointer, dtype.itemsize)
        one = self.emitter.value(f"insertelement {kind} poison, {element} {scalar}, i64 0")
        zeros = f"<{self.vec.width} x i32> zeroinitializer"
        spread = self.emitter.value(f"shufflevector {kind} {one}, {kind} poison, {zeros}")
        return self.vec.unpack(spread, dtype)

    def store(self, vec: Vec, pointer: str, mask: str | None) -> None:
        kind, align = self.vec.memory_type(vec.dtype), vec.dtype.itemsize
        packed = self.vec.pack(vec)
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
    assert isinstance(size, int), "what is fused into a product has known strides"
    return size
