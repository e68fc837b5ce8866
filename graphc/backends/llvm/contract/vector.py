"""Vector instructions of one element type on one target."""

from collections.abc import Sequence

from graphc.backends.llvm.contract import halves
from graphc.backends.llvm.contract.element import PAIR, Element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.target import Target


class Vector:
    """Emits vectors of `element` as wide as the target's registers, or of `lanes` lanes.

    Memory may hold another type (`stored`): halves widen when loaded, and round when stored.
    A mask is None (all lanes) or an SSA vector of i1. Where masked access is no instruction
    the code generator splits it into lanes.
    """

    def __init__(
        self, emitter: Emitter, element: Element, target: Target, lanes: int | None = None
    ) -> None:
        self.emitter = emitter
        self.element = element
        self.target = target
        self.lanes = lanes or target.lanes(element.bits)
        self.type = f"<{self.lanes} x {element.llvm}>"
        self.sum_type = f"<{self.lanes} x {element.accumulator.llvm}>"
        self.mask_type = f"<{self.lanes} x i1>"
        self.suffix = f"v{self.lanes}{element.suffix}"

    def on(self, emitter: Emitter, lanes: int | None = None) -> "Vector":
        """The same in another function."""
        return type(self)(emitter, self.element, self.target, lanes or self.lanes)

    @property
    def zero(self) -> str:
        return "zeroinitializer"

    # Masks

    def first(self, count: int) -> str | None:
        """The mask of the first `count` lanes; None where these are all."""
        if count >= self.lanes:
            return None
        bits = ("true" if lane < count else "false" for lane in range(self.lanes))
        return "<" + ", ".join(f"i1 {bit}" for bit in bits) + ">"

    def first_at_run_time(self, count: str) -> str:
        """The mask of the first `count` lanes, for a count that may be beyond both ends."""
        emitter, lanes = self.emitter, self.lanes
        clipped = emitter.maximum(emitter.minimum(count, lanes), 0)
        narrow = emitter.value(f"trunc i64 {clipped} to i32")
        spread = self._splat_of(narrow, "i32")
        steps = "<" + ", ".join(f"i32 {lane}" for lane in range(lanes)) + ">"
        return emitter.value(f"icmp ult <{lanes} x i32> {steps}, {spread}")

    def mask(self, count: Index) -> str | None:
        """The mask of the first `count` lanes; None where these are known to be all."""
        return (
            self.first(max(count, 0)) if isinstance(count, int) else self.first_at_run_time(count)
        )

    # Memory

    def load(self, pointer: str, mask: str | None = None, stored: Element | None = None) -> str:
        """Elements at any alignment; lanes that the mask leaves out are zero and not read."""
        stored = stored or self.element
        type_ = f"<{self.lanes} x {stored.llvm}>"
        if mask is None:
            raw = self.emitter.load(type_, pointer, stored.bytes)
        else:
            raw = self.emitter.call(
                type_,
                f"llvm.masked.load.v{self.lanes}{stored.suffix}.p0",
                (f"ptr align {stored.bytes}", pointer),
                (self.mask_type, mask),
                (type_, "zeroinitializer"),
            )
        if stored.is_half and not self.element.is_half:
            return halves.widen(self.emitter, stored, self.target, raw, self.lanes)
        return raw

    def store(
        self, value: str, pointer: str, mask: str | None = None, stored: Element | None = None
    ) -> None:
        stored = stored or self.element
        type_ = f"<{self.lanes} x {stored.llvm}>"
        if stored.is_half and not self.element.is_half:
            value = self.narrow(value, stored)
        if mask is None:
            self.emitter.store(type_, value, pointer, stored.bytes)
            return
        self.emitter.call(
            "void",
            f"llvm.masked.store.v{self.lanes}{stored.suffix}.p0",
            (type_, value),
            (f"ptr align {stored.bytes}", pointer),
            (self.mask_type, mask),
        )

    def kept(self, values: Sequence[str]) -> str:
        """The address of vectors on the stack, one after the other."""
        pointer = self.emitter.room(len(values) * self.lanes * self.element.bytes)
        for place, value in enumerate(values):
            self.store(value, self.address(pointer, place * self.lanes))
        return pointer

    def narrow(self, value: str, half: Element) -> str:
        """A vector of f32 as halves in i16, rounded to nearest even."""
        return halves.narrow(self.emitter, half, self.target, value, self.lanes)

    def load_scalar(self, pointer: str, stored: Element | None = None) -> str:
        stored = stored or self.element
        raw = self.emitter.load(stored.llvm, pointer, stored.bytes)
        if stored.is_half and not self.element.is_half:
            return halves.widen(self.emitter, stored, self.target, raw)
        return raw

    def store_scalar(self, value: str, pointer: str, stored: Element | None = None) -> None:
        stored = stored or self.element
        if stored.is_half and not self.element.is_half:
            value = halves.narrow(self.emitter, stored, self.target, value)
        self.emitter.store(stored.llvm, value, pointer, stored.bytes)

    def address(self, pointer: str, index: Index, stored: Element | None = None) -> str:
        return self.emitter.address(pointer, index, (stored or self.element).llvm)

    # Arithmetic

    def splat(self, scalar: str) -> str:
        return self._splat_of(scalar, self.element.llvm)

    def _splat_of(self, scalar: str, base: str) -> str:
        type_ = f"<{self.lanes} x {base}>"
        one = self.emitter.value(f"insertelement {type_} poison, {base} {scalar}, i64 0")
        return self.emitter.value(
            f"shufflevector {type_} {one}, {type_} poison, <{self.lanes} x i32> zeroinitializer"
        )

    def add(self, a: str, b: str) -> str:
        return self.emitter.value(f"{self._prefix}add {self.type} {a}, {b}")

    def multiply_add(self, a: str, b: str, c: str) -> str:
        """a * b + c: rounded once where the target has the instruction, else twice.

        Of pairs, c + a[0] * b[0] + a[1] * b[1] in f32.
        """
        if self.element is PAIR:
            of_halves = f"<{2 * self.lanes} x bfloat>"
            left, right = (
                self.emitter.value(f"bitcast {self.type} {x} to {of_halves}") for x in (a, b)
            )
            name = f"llvm.x86.avx512bf16.dpbf16ps.{self.lanes * 32}"
            types = ((self.sum_type, c), (of_halves, left), (of_halves, right))
            return self.emitter.call(self.sum_type, name, *types)
        if self.element.floating and self.target.has_fma:
            operands = ((self.type, a), (self.type, b), (self.type, c))
            return self.emitter.call(self.type, f"llvm.fma.{self.suffix}", *operands)
        product = self.emitter.value(f"{self._prefix}mul {self.type} {a}, {b}")
        return self.add(product, c)

    def sum(self, value: str) -> str:
        """The sum of the lanes, as a scalar, by a tree that the number of lanes fixes."""
        scalar = self.element.llvm
        if self.element.floating:
            return self.emitter.call(
                scalar,
                f"llvm.vector.reduce.fadd.{self.suffix}",
                (scalar, "-0.0"),
                (self.type, value),
                flags="reassoc",
            )
        return self.emitter.call(
            scalar, f"llvm.vector.reduce.add.{self.suffix}", (self.type, value)
        )

    @property
    def _prefix(self) -> str:
        return "f" if self.element.floating else ""
