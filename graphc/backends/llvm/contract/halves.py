"""f16 and bf16 from and to f32, by one instruction where there is one, else by integer steps.

Both directions round to nearest even and keep infinities and the sign of NaN. Values may be
scalars or vectors: `lanes` is None or a count.
"""

from graphc.backends.llvm.contract.element import Element
from graphc.backends.llvm.contract.emitter import Emitter
from graphc.backends.llvm.target import Target


class _Lanes:
    """Instructions on i32 and float of one shape, constants spread over the lanes."""

    def __init__(self, emitter: Emitter, lanes: int | None) -> None:
        self.emitter = emitter
        self.lanes = lanes

    def type(self, base: str) -> str:
        return base if self.lanes is None else f"<{self.lanes} x {base}>"

    def constant(self, value: int) -> str:
        return str(value) if self.lanes is None else f"splat (i32 {value})"

    def op(self, name: str, a: str, b: str | int, base: str = "i32") -> str:
        second = self.constant(b) if isinstance(b, int) else b
        return self.emitter.value(f"{name} {self.type(base)} {a}, {second}")

    def cast(self, kind: str, source: str, value: str, result: str) -> str:
        return self.emitter.value(f"{kind} {self.type(source)} {value} to {self.type(result)}")

    def choose(self, condition: str, a: str | int, b: str | int) -> str:
        first, second = (self.constant(x) if isinstance(x, int) else x for x in (a, b))
        flag, type_ = self.type("i1"), self.type("i32")
        return self.emitter.value(f"select {flag} {condition}, {type_} {first}, {type_} {second}")


def widen(
    emitter: Emitter, half: Element, target: Target, value: str, lanes: int | None = None
) -> str:
    """f32 of halves held as i16."""
    on = _Lanes(emitter, lanes)
    if half.name == "bf16":
        return on.cast(
            "bitcast", "i32", on.op("shl", on.cast("zext", "i16", value, "i32"), 16), "float"
        )
    if target.has_f16c:
        return on.cast("fpext", "half", on.cast("bitcast", "i16", value, "half"), "float")
    bits = on.cast("zext", "i16", value, "i32")
    sign = on.op("shl", on.op("and", bits, 0x8000), 16)
    magnitude = on.op("and", bits, 0x7FFF)
    # The exponent's bias differs by 112, for subnormals too: one exact product corrects it.
    raw = on.cast("bitcast", "i32", on.op("shl", magnitude, 13), "float")
    power = on.cast("bitcast", "i32", on.constant((127 + 112) << 23), "float")
    finite = on.cast("bitcast", "float", on.op("fmul", raw, power, "float"), "i32")
    special = on.op("icmp uge", magnitude, 0x7C00)
    exponent = on.choose(special, 0x7F800000, 0)
    return on.cast("bitcast", "i32", on.op("or", on.op("or", finite, exponent), sign), "float")


def narrow(
    emitter: Emitter, half: Element, target: Target, value: str, lanes: int | None = None
) -> str:
    """Halves held as i16 of f32, rounded to nearest even."""
    on = _Lanes(emitter, lanes)
    if half.name == "f16" and target.has_f16c:
        return on.cast("bitcast", "half", on.cast("fptrunc", "float", value, "half"), "i16")
    bits = on.cast("bitcast", "float", value, "i32")
    if half.name == "bf16":
        odd = on.op("and", on.op("lshr", bits, 16), 1)
        rounded = on.op("add", on.op("add", bits, 0x7FFF), odd)
        nan = on.op("icmp ugt", on.op("and", bits, 0x7FFFFFFF), 0x7F800000)
        result = on.op("lshr", on.choose(nan, on.op("or", bits, 0x400000), rounded), 16)
        return on.cast("trunc", "i32", result, "i16")
    sign = on.op("lshr", on.op("and", bits, 0x80000000), 16)
    magnitude = on.op("and", bits, 0x7FFFFFFF)
    odd = on.op("and", on.op("lshr", magnitude, 13), 1)
    rebased = on.op("sub", on.op("add", magnitude, 0xFFF), 112 << 23)
    normal = on.op("lshr", on.op("add", rebased, odd), 13)
    # Adding 2**-1 rounds a subnormal at its last place, which then is the sum's last place.
    magic = 126 << 23
    shifted = on.op(
        "fadd",
        on.cast("bitcast", "i32", magnitude, "float"),
        on.cast("bitcast", "i32", on.constant(magic), "float"),
        "float",
    )
    subnormal = on.op("sub", on.cast("bitcast", "float", shifted, "i32"), magic)
    is_small = on.op("icmp ult", magnitude, 113 << 23)
    finite = on.choose(is_small, subnormal, normal)
    nan = on.op("icmp ugt", magnitude, 0x7F800000)
    special = on.choose(nan, 0x7E00, 0x7C00)
    large = on.op("icmp uge", magnitude, 143 << 23)
    result = on.op("or", on.choose(large, special, finite), sign)
    return on.cast("trunc", "i32", result, "i16")
