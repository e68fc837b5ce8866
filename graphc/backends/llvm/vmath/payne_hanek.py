"""Arguments of sin, cos and tan too large for subtracting multiples of pi/2 in parts.

x = m 2**e with a fraction m of 53 bits. Of the product m (2/pi) 2**e only the bits around the
binary point matter: they come from 192 bits of 2/pi, chosen by e, multiplied as integers
(Payne and Hanek). All lanes go through it at once.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf, nan

from .emitter import VectorEmitter
from .exact import fast_two_sum, two_product
from .lanes import Lanes

# Zeros, then the first 1280 bits of 2/pi.
_TABLE = (
    0x0,
    0xA2F9836E4E441529,
    0xFC2757D1F534DDC0,
    0xDB6295993C439041,
    0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0,
    0x06492EEA09D1921C,
    0xFE1DEB1CB129A73E,
    0xE88235F52EBB4484,
    0xE99C7026B45F7E41,
    0x3991D639835339F4,
    0x9C845F8BBDF9283B,
    0x1FF897FFDE05980F,
    0xEF2F118B5A0A6D1F,
    0x6D367ECF27CB09B7,
    0x4F463F669E5FEA2D,
    0x7527BAC7EBE5F17B,
    0x3D0739F78A5292EA,
    0x6BFB5FB11F8D5D08,
    0x56033046FC7B6BAB,
    0xF0CFBC209AF4361D,
)
HALF_PI = (1.5707963267948966, 6.123233995736766e-17)


def reduce_large(e: VectorEmitter, x: Lanes) -> list[Lanes]:
    """[r, t, quadrant] as `reduce_half_pi` gives them, for |x| >= 2**16; nan for infinite x."""
    wide = x.to("f64")
    usable = wide.abs().lt(inf) & wide.abs().ge(2.0**16)
    bits = usable.select(wide.abs(), 2.0**16).bits("u64")
    fraction = (bits & ((1 << 52) - 1)) | (1 << 52)
    # The bit of weight 2 in the product starts the first word: bit e - 2 of 2/pi.
    start = (bits >> 52) + (64 - 1075 - 2)
    words = [_table_word(e, (start >> 6) + i) for i in range(4)]
    shift = start & 63
    a, b, c = (e.intrinsic("llvm.fshl", x, y, shift) for x, y in pairwise(words))
    b_high, b_low = _multiply(fraction, b)
    c_high, _ = _multiply(fraction, c)
    low = b_low + c_high
    carry = low.lt(b_low).select(e.constant(1, "u64"), e.constant(0, "u64"))
    high = fraction * a + b_high + carry
    quadrant = (high + (1 << 61)) >> 62
    # The rest, in [-1/2, 1/2) quarter turns, as a signed fixed-point number of 128 bits.
    high, low = (high << 2) | (low >> 62), low << 2
    negative = high.bits("i64").lt(0)
    high, low = negative.select(~high, high), negative.select(~low, low)
    turn, turn_low = _to_floats(high, low)
    r, error = two_product(e, turn, e.constant(HALF_PI[0], "f64"))
    r, tail = fast_two_sum(r, error + (turn * HALF_PI[1] + turn_low * HALF_PI[0]))
    flip = negative ^ wide.lt(0.0)
    r, tail = flip.select(-r, r), flip.select(-tail, tail)
    quadrant = wide.lt(0.0).select(-quadrant, quadrant).bits("i64")
    r = wide.abs().lt(inf).select(r, nan)
    if x.type == "f64":
        return [r, tail, quadrant]
    return [r.to("f32"), e.constant(0.0, "f32"), quadrant.to("i32")]


def _table_word(e: VectorEmitter, index: Lanes) -> Lanes:
    """The 64 bits of the table at each lane's index."""
    name = "graphc.two_over_pi"
    entries = ", ".join(f"i64 {word}" for word in _TABLE)
    e.helpers[name] = (
        f"@{name} = internal unnamed_addr constant [{len(_TABLE)} x i64] [{entries}], align 64\n"
    )
    width = e.width
    pointers, kind = f"<{width} x ptr>", e.vector("i64")
    at = e.line(f"getelementptr i64, ptr @{name}, {kind} {index.name}", "i64").name
    full = f"llvm.masked.gather.v{width}i64.v{width}p0"
    e.declarations.add(f"declare {kind} @{full}({pointers}, {e.vector('bool')}, {kind})")
    mask = f"{e.vector('bool')} splat (i1 true)"
    return e.line(f"call {kind} @{full}({pointers} align 8 {at}, {mask}, {kind} poison)", "u64")


def _multiply(x: Lanes, y: Lanes) -> tuple[Lanes, Lanes]:
    """The high and low words of the product of u64 numbers."""
    mask = (1 << 32) - 1
    x_low, x_high, y_low, y_high = x & mask, x >> 32, y & mask, y >> 32
    low = x_low * y_low
    middle = x_high * y_low + (low >> 32)
    other = x_low * y_high + (middle & mask)
    high = x_high * y_high + (middle >> 32) + (other >> 32)
    return high, (other << 32) | (low & mask)


def _to_floats(high: Lanes, low: Lanes) -> tuple[Lanes, Lanes]:
    """high 2**-64 + low 2**-128 as a sum of two f64, with full relative accuracy."""
    mask = (1 << 32) - 1
    chunks = [high >> 32, high & mask, low >> 32, low & mask]
    power = 0x4330000000000000  # 2**52, whose fraction takes the chunk
    a, b, c, d = (
        ((chunk | power).bits("f64") - 2.0**52) * 2.0 ** (-32 * (i + 1))
        for i, chunk in enumerate(chunks)
    )
    first, rest = fast_two_sum(a, b)
    first, second = fast_two_sum(first, rest + c)
    return fast_two_sum(first, second + d)
