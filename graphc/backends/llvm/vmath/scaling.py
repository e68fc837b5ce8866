"""Powers of two: products with 2**n, and the exponent and mantissa of a number."""

from __future__ import annotations

from dataclasses import dataclass

from .emitter import VectorEmitter
from .lanes import BITS, Lanes


@dataclass(frozen=True, slots=True)
class Format:
    """What algorithms need to know of an IEEE format."""

    type: str
    bits: int
    fraction_bits: int
    bias: int
    smallest_normal: float
    round_magic: float  # x + magic - magic rounds x to an integer, to even
    one_bits: int
    sqrt_half_bits: int

    @property
    def integer(self) -> str:
        return f"i{self.bits}"


F32_FORMAT = Format("f32", 32, 23, 127, 2.0**-126, 1.5 * 2**23, 0x3F800000, 0x3F3504F3)
F64_FORMAT = Format(
    "f64", 64, 52, 1023, 2.0**-1022, 1.5 * 2**52, 0x3FF0000000000000, 0x3FE6A09E667F3BCD
)
FORMATS = {"f32": F32_FORMAT, "f64": F64_FORMAT}


def round_small(x: Lanes) -> Lanes:
    """The nearest integer, to even, of |x| < 2**22 (f32) or 2**51 (f64)."""
    magic = FORMATS[x.type].round_magic
    return (x + magic) - magic


def power_of_two(n: Lanes) -> Lanes:
    """2**n of an integral float within the exponents of normal numbers."""
    form = FORMATS[n.type]
    # The fraction of n + magic ends in n, in two's complement.
    shifted = (n + form.round_magic).bits() << form.fraction_bits
    return (shifted + form.one_bits).bits()


def scale(e: VectorEmitter, x: Lanes, n: Lanes) -> Lanes:
    """x * 2**n with one rounding, for 2**n in the square of the normal range; on AVX-512 the
    exponent is floor(n), so that n may also be a fraction there."""
    if e.has_avx512:
        return _native(e, "scalef", x, n)
    half = round_small(n * 0.5)
    return x * power_of_two(half) * power_of_two(n - half)


def split_exponent(e: VectorEmitter, x: Lanes) -> tuple[Lanes, Lanes]:
    """(k, m) with x = m * 2**k and m in [sqrt(1/2), sqrt(2)), for finite x > 0.

    k is a float. Subnormal numbers are split like all others.
    """
    if e.has_avx512:
        exponent, mantissa = _native(e, "getexp", x), _native(e, "getmant", x)
        high = mantissa.gt(2.0**0.5)
        k = high.select(exponent + 1.0, exponent)
        return k, high.select(mantissa * 0.5, mantissa)
    form = FORMATS[x.type]
    subnormal = x.lt(form.smallest_normal)
    lift = form.fraction_bits + 1
    bits = subnormal.select(x * 2.0**lift, x).bits(f"u{form.bits}")
    biased = (bits + (form.one_bits - form.sqrt_half_bits)) >> form.fraction_bits
    mantissa = (bits - (biased << form.fraction_bits) + form.one_bits).bits(form.type)
    unit = 2.0**form.fraction_bits  # its bits take an integer in place of the fraction
    unit_bits = (form.fraction_bits + form.bias) << form.fraction_bits
    as_float = (biased | unit_bits).bits(form.type)
    offset = subnormal.select(
        e.constant(unit + form.bias + lift, form.type), e.constant(unit + form.bias, form.type)
    )
    return as_float - offset, mantissa


def _native(e: VectorEmitter, name: str, *args: Lanes) -> Lanes:
    """An AVX-512 instruction on floats, whose intrinsic takes a mask and a rounding mode."""
    type = args[0].type
    lanes = 512 // BITS[type]
    suffix = "ps" if type == "f32" else "pd"

    def instruction(e: VectorEmitter, *args: Lanes) -> Lanes:
        kind = e.vector(type)
        kinds = [kind] * len(args) + ["i32"] * (name == "getmant") + [kind, f"i{lanes}", "i32"]
        values = [arg.name for arg in args] + ["0"] * (name == "getmant") + ["poison", "-1", "4"]
        full = f"llvm.x86.avx512.mask.{name}.{suffix}.512"
        immediate = ["i32 immarg" if k == "i32" else k for k in kinds]
        e.declarations.add(f"declare {kind} @{full}({', '.join(immediate)})")
        operands = ", ".join(f"{k} {v}" for k, v in zip(kinds, values, strict=True))
        return e.line(f"call {kind} @{full}({operands})", type)

    return e.pieces(lanes, instruction, *args)
