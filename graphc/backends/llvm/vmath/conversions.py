"""cast between all dtypes, and the rounding of f16 and bf16, which registers hold as f32.

A float outside an integer's range becomes what x86 makes of it: the smallest i32 or i64; the
narrower integers are the low bits of the i32. Everything goes to f16 and bf16 through f32.
"""

from __future__ import annotations

from .emitter import VectorEmitter
from .lanes import BITS, Lanes

_F16_BIAS_SHIFT = 112 << 10  # the biases of f32 and f16 differ by 112


def cast(e: VectorEmitter, x: Lanes, to: str) -> Lanes:
    """x as dtype `to`; an f16 or bf16 operand is given as f32."""
    if to in ("f16", "bf16"):
        return round_narrow(e, cast(e, x, "f32"), to)
    if to == x.type:
        return x
    if to == "bool":
        return x.ne(0)
    if x.type == "bool" and to[0] == "f":
        return x.select(e.constant(1.0, to), e.constant(0.0, to))
    if x.is_float and to[0] in "iu":
        return _float_to_integer(x, to)
    return x.to(to)


def _float_to_integer(x: Lanes, to: str) -> Lanes:
    if BITS[to] < 32:
        return _confined(x, 32).to("i32").to(to)
    if to == "u32":
        return _confined(x, 64).to("i64").to("u32")
    if to == "u64":
        high = x.ge(2.0**63)
        low = _confined(high.select(x - 2.0**63, x), 64).to("i64").bits("u64")
        return high.select(low ^ (1 << 63), low)
    return _confined(x, BITS[to]).to(to)


def _confined(x: Lanes, bits: int) -> Lanes:
    """x with what a signed integer cannot hold, nan too, made the smallest integer."""
    limit = 2.0 ** (bits - 1)
    if x.type == "f64" and bits == 32:
        inside = x.gt(-limit - 1.0) & x.lt(limit)
    else:
        inside = x.ge(-limit) & x.lt(limit)
    return inside.select(x, -limit)


def round_narrow(e: VectorEmitter, x: Lanes, name: str) -> Lanes:
    """The f32 x rounded to a value of f16 or bf16, to even."""
    if name == "bf16":
        return _round_bf16_bits(x).bits("f32")
    if e.target.has_f16c:
        return _half_to_float(e, _float_to_half(e, x))
    return _round_f16(x)


def narrow(e: VectorEmitter, x: Lanes, name: str) -> Lanes:
    """The 16 bits of an f32 that has a value of f16 or bf16."""
    if name == "bf16":
        return (x.bits("u32") >> 16).to("u16").bits("i16")
    if e.target.has_f16c:
        name_of_half = _float_to_half(e, x)
        return e.line(f"bitcast <{e.width} x half> {name_of_half} to {e.vector('i16')}", "i16")
    bits = x.bits("i32")
    magnitude = bits & 0x7FFFFFFF
    normal = magnitude.logical_shift(13) - _F16_BIAS_SHIFT
    subnormal = (magnitude.bits("f32") * 2.0**24 + 2.0**23).bits() & 0x3FF
    result = magnitude.lt(0x38800000).select(subnormal, normal)
    result = magnitude.gt(0x7F800000).select(
        0x7E00, magnitude.eq(0x7F800000).select(0x7C00, result)
    )
    return (result | (bits.logical_shift(16) & 0x8000)).to("i16")


def widen(e: VectorEmitter, bits: Lanes, name: str) -> Lanes:
    """The f32 that 16 bits of f16 or bf16 mean."""
    if name == "bf16":
        return (bits.bits("u16").to("u32") << 16).bits("f32")
    if e.target.has_f16c:
        half = e.line(f"bitcast {e.vector('i16')} {bits.name} to <{e.width} x half>", "i16")
        return _half_to_float(e, half.name)
    wide = bits.bits("u16").to("u32").bits("i32")
    magnitude = wide & 0x7FFF
    normal = ((magnitude << 13) + (112 << 23)).bits("f32")
    # 2**-14 times the fraction: adding the leading one and taking it away again.
    subnormal = ((magnitude << 13) + (113 << 23)).bits("f32") - 2.0**-14
    result = magnitude.lt(0x400).select(subnormal, normal)
    special = ((magnitude << 13) | 0x7F800000).bits("f32")
    result = magnitude.ge(0x7C00).select(special, result)
    return (result.bits() | ((wide & 0x8000) << 16)).bits("f32")


def _float_to_half(e: VectorEmitter, x: Lanes) -> str:
    half = f"<{e.width} x half>"
    return e.line(f"fptrunc {e.vector('f32')} {x.name} to {half}", "i16").name


def _half_to_float(e: VectorEmitter, half: str) -> Lanes:
    return e.line(f"fpext <{e.width} x half> {half} to {e.vector('f32')}", "f32")


def _round_bf16_bits(x: Lanes) -> Lanes:
    bits = x.bits("i32")
    odd = bits.logical_shift(16) & 1
    rounded = (bits + 0x7FFF + odd) & -0x10000
    return x.is_nan().select(0x7FC00000, rounded)


def _round_f16(x: Lanes) -> Lanes:
    bits = x.bits("i32")
    odd = bits.logical_shift(13) & 1
    normal = ((bits + 0xFFF + odd) & -0x2000).bits("f32").abs()
    normal = normal.gt(65504.0).select(float("inf"), normal)
    magnitude = x.abs()
    subnormal = (magnitude + 0.5) - 0.5  # a unit in the last place of 0.5 is f16's smallest
    result = magnitude.lt(2.0**-14).select(subnormal, normal)
    return x.is_nan().select(x, result.copysign(x))
