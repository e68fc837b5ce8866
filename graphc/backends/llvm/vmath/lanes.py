"""Values of a vector expression: a name in the text, its element type, and operators.

`Lanes` lets an expansion be written as the formula that it is: `x * x + 1.0` prints two
instructions. A Python number beside a `Lanes` is a constant of the same element type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .emitter import VectorEmitter

# Element types in registers. f16 and bf16 values are held as the f32 that they equal.
LLVM_TYPES = {
    "f64": "double",
    "f32": "float",
    "f16": "float",
    "bf16": "float",
    "i64": "i64",
    "i32": "i32",
    "i16": "i16",
    "i8": "i8",
    "u64": "i64",
    "u32": "i32",
    "u16": "i16",
    "u8": "i8",
    "bool": "i1",
}
BITS = {
    "f64": 64,
    "f32": 32,
    "i64": 64,
    "i32": 32,
    "i16": 16,
    "i8": 8,
    "u64": 64,
    "u32": 32,
    "u16": 16,
    "u8": 8,
    "bool": 1,
}


class Lanes:
    """W elements of one type: `name` is what the text calls them."""

    __slots__ = ("emitter", "name", "type")

    def __init__(self, emitter: VectorEmitter, name: str, type: str) -> None:
        self.emitter, self.name, self.type = emitter, name, type

    @property
    def is_float(self) -> bool:
        return self.type[0] == "f"

    def _operand(self, other: Lanes | float) -> str:
        if isinstance(other, Lanes):
            assert other.type == self.type, (self.type, other.type)
            return other.name
        return self.emitter.constant(other, self.type).name

    def _binary(self, instruction: str, other: Lanes | float, result: str | None = None) -> Lanes:
        e = self.emitter
        right = self._operand(other)
        return e.line(
            f"{instruction} {e.vector(self.type)} {self.name}, {right}", result or self.type
        )

    def _reversed(self, instruction: str, left: float) -> Lanes:
        e = self.emitter
        return e.constant(left, self.type)._binary(instruction, self)

    def __add__(self, other: Lanes | float) -> Lanes:
        return self._binary("fadd" if self.is_float else "add", other)

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._binary("fsub" if self.is_float else "sub", other)

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._binary("fmul" if self.is_float else "mul", other)

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._binary("fdiv", other)

    def __radd__(self, left: float) -> Lanes:
        return self._reversed("fadd" if self.is_float else "add", left)

    def __rsub__(self, left: float) -> Lanes:
        return self._reversed("fsub" if self.is_float else "sub", left)

    def __rmul__(self, left: float) -> Lanes:
        return self._reversed("fmul" if self.is_float else "mul", left)

    def __rtruediv__(self, left: float) -> Lanes:
        return self._reversed("fdiv", left)

    def __neg__(self) -> Lanes:
        e = self.emitter
        if self.is_float:
            return e.line(f"fneg {e.vector(self.type)} {self.name}", self.type)
        return e.constant(0, self.type) - self

    def __and__(self, other: Lanes | int) -> Lanes:
        return self._binary("and", other)

    def __or__(self, other: Lanes | int) -> Lanes:
        return self._binary("or", other)

    def __xor__(self, other: Lanes | int) -> Lanes:
        return self._binary("xor", other)

    def __invert__(self) -> Lanes:
        return self ^ (True if self.type == "bool" else -1)

    def __lshift__(self, count: int | Lanes) -> Lanes:
        return self._binary("shl", count)

    def __rshift__(self, count: int | Lanes) -> Lanes:
        """Arithmetic for signed elements, logical for unsigned ones."""
        return self._binary("ashr" if self.type[0] == "i" else "lshr", count)

    def logical_shift(self, count: int | Lanes) -> Lanes:
        return self._binary("lshr", count)

    # Comparisons of floats are ordered (false for nan), `ne` alone is true for nan.
    def _compare(self, relation: str, other: Lanes | float) -> Lanes:
        if self.is_float:
            instruction = f"fcmp {'une' if relation == 'ne' else 'o' + relation}"
        elif relation in ("eq", "ne"):
            instruction = f"icmp {relation}"
        else:
            instruction = f"icmp {'s' if self.type[0] == 'i' else 'u'}{relation}"
        return self._binary(instruction, other, "bool")

    def eq(self, other: Lanes | float) -> Lanes:
        return self._compare("eq", other)

    def ne(self, other: Lanes | float) -> Lanes:
        return self._compare("ne", other)

    def lt(self, other: Lanes | float) -> Lanes:
        return self._compare("lt", other)

    def le(self, other: Lanes | float) -> Lanes:
        return self._compare("le", other)

    def gt(self, other: Lanes | float) -> Lanes:
        return self._compare("gt", other)

    def ge(self, other: Lanes | float) -> Lanes:
        return self._compare("ge", other)

    def is_nan(self) -> Lanes:
        return self._binary("fcmp uno", self, "bool")

    def select(self, chosen: Lanes | float, other: Lanes | float) -> Lanes:
        """For each lane of this mask, `chosen` where it holds and `other` where not."""
        e = self.emitter
        like = chosen if isinstance(chosen, Lanes) else other
        assert isinstance(like, Lanes) and self.type == "bool"
        kind = e.vector(like.type)
        left, right = like._operand(chosen), like._operand(other)
        mask = f"{e.vector('bool')} {self.name}"
        return e.line(f"select {mask}, {kind} {left}, {kind} {right}", like.type)

    # Conversions
    def bits(self, type: str | None = None) -> Lanes:
        """The same bits as another element type of that width; by default float <-> signed."""
        if type is None:
            type = ("i" if self.is_float else "f") + self.type[1:]
        if LLVM_TYPES[type] == LLVM_TYPES[self.type]:
            return Lanes(self.emitter, self.name, type)
        return self._convert("bitcast", type)

    def _convert(self, instruction: str, type: str) -> Lanes:
        e = self.emitter
        return e.line(f"{instruction} {e.vector(self.type)} {self.name} to {e.vector(type)}", type)

    def to(self, type: str) -> Lanes:
        """The nearest value of another element type. A float outside an integer's range is
        undefined here: `cast` in conversions.py decides what it becomes."""
        source = self.type
        if source == type:
            return self
        if self.is_float:
            if type[0] == "f":
                return self._convert("fpext" if BITS[type] > BITS[source] else "fptrunc", type)
            return self._convert("fptoui" if type[0] == "u" else "fptosi", type)
        signed = source[0] == "i"
        if type[0] == "f":
            return self._convert("sitofp" if signed else "uitofp", type)
        if BITS[type] == BITS[source]:
            return self.bits(type)
        if BITS[type] < BITS[source]:
            return self._convert("trunc", type)
        return self._convert("sext" if signed else "zext", type)

    # Single instructions of floats
    def _intrinsic(self, name: str, *others: Lanes) -> Lanes:
        return self.emitter.intrinsic(f"llvm.{name}", self, *others)

    def abs(self) -> Lanes:
        return self._intrinsic("fabs")

    def copysign(self, sign: Lanes | float) -> Lanes:
        sign = sign if isinstance(sign, Lanes) else self.emitter.constant(sign, self.type)
        return self._intrinsic("copysign", sign)

    def sqrt(self) -> Lanes:
        return self._intrinsic("sqrt")
