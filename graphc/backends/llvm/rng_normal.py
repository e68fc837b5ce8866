"""The Box-Muller transform of torch's normals as LLVM IR, with torch's own arithmetic.

Each step stands for the same step in graphc.frontends.box_muller, which says where it comes from.
"""

from __future__ import annotations

import math

from graphc.backends.llvm.rng_text import FillModule, fused, load, loop, parameter, store
from graphc.backends.llvm.vmath.emitter import VectorEmitter
from graphc.backends.llvm.vmath.lanes import Lanes

BLOCK = 16  # normals that are made together: eight radii, eight angles
LIBRARY = ("log", "sin", "cos")

_HALF = BLOCK // 2
_TWO_PI = 2 * math.pi
_LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_PI4_PARTS = (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)
_FOUR_OVER_PI = 1.27323954473516
_SQRT_HALF = 0.707106781186547524


def _fma(e: VectorEmitter, x: Lanes, y: Lanes | float, z: Lanes | float) -> Lanes:
    operands = [v if isinstance(v, Lanes) else e.constant(v, x.type) for v in (y, z)]
    return fused(e, x, *operands)


def _log(e: VectorEmitter, x: Lanes) -> Lanes:
    """Cephes' logf of positive normal numbers."""
    bits = x.bits("i32")
    exponent = ((bits >> 23) - 126).to("f32")
    mantissa = ((bits & 0x007FFFFF) | 0x3F000000).bits("f32")
    below = mantissa.lt(_SQRT_HALF)
    exponent = exponent - below.select(e.constant(1.0, "f32"), 0.0)
    m = (mantissa - 1.0) + below.select(mantissa, 0.0)
    z = m * m
    y = e.constant(_LOG[0], "f32")
    for coefficient in _LOG[1:]:
        y = _fma(e, y, m, coefficient)
    y = _fma(e, y * m, z, exponent * _LN2_LOW)
    y = _fma(e, -z, 0.5, y)
    return _fma(e, exponent, _LN2_HIGH, m + y)


def _sincos(e: VectorEmitter, x: Lanes) -> tuple[Lanes, Lanes]:
    """Cephes' sinf and cosf of numbers in [0, 2 pi]."""
    octant = ((x * _FOUR_OVER_PI).to("i32") + 1) & ~1
    quarter = octant.to("f32")
    for part in _PI4_PARTS:
        x = _fma(e, quarter, part, x)
    z = x * x
    c = _fma(e, e.constant(_COS[0], "f32"), z, _COS[1])
    c = _fma(e, c, z, _COS[2]) * z
    c = _fma(e, c, z, -(z * 0.5)) + 1.0
    s = _fma(e, e.constant(_SIN[0], "f32"), z, _SIN[1])
    s = _fma(e, s, z, _SIN[2]) * z
    s = _fma(e, s, x, x)
    straight = (octant & 2).eq(0)
    sine, cosine = straight.select(s, c), straight.select(c, s)
    sine = (octant & 4).ne(0).select(-sine, sine)
    cosine = ((octant - 2) & 4).eq(0).select(-cosine, cosine)
    return sine, cosine


def _transform(e: VectorEmitter, first: Lanes, second: Lanes) -> tuple[Lanes, Lanes]:
    """The normals of radii by `first` and angles by `second`: the cosines', the sines'."""
    radius = (_log(e, 1.0 - first) * -2.0).sqrt()
    sine, cosine = _sincos(e, second * _TWO_PI)
    mean, std = parameter(e, "%mean", "f32"), parameter(e, "%std", "f32")
    return fused(e, radius * cosine, std, mean), fused(e, radius * sine, std, mean)


def _halves(e: VectorEmitter, a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """The lower halves of two vectors of a block, and the upper ones. Its own inverse."""
    kind = e.vector(a.type)
    results = []
    for start in (0, _HALF):
        picks = [*range(start, start + _HALF), *range(BLOCK + start, BLOCK + start + _HALF)]
        mask = ", ".join(f"i32 {pick}" for pick in picks)
        text = f"shufflevector {kind} {a.name}, {kind} {b.name}, <{BLOCK} x i32> <{mask}>"
        results.append(e.line(text, a.type))
    return results[0], results[1]


def blocks_f32(module: FillModule) -> str:
    """@blocks_f32(out, mean, std, blocks): uniforms to normals, in place; two blocks at a time,
    which fill the widest vectors, then the odd one."""
    pair = module.emitter(BLOCK, "pair.")
    pair.lines.append(f"  %pair.at = shl i64 %pair.i, {BLOCK.bit_length() - 1}")
    blocks = [load(pair, "%out", "%pair.at", "f32", BLOCK * k) for k in range(2)]
    normals = _transform(pair, *_halves(pair, *blocks))
    for k, block in enumerate(_halves(pair, *normals)):
        store(pair, block, "%out", "%pair.at", BLOCK * k)

    odd = module.emitter(_HALF, "odd.")
    odd.lines.append(f"  %odd.at = shl i64 %odd.i, {BLOCK.bit_length() - 1}")
    halves = [load(odd, "%out", "%odd.at", "f32", _HALF * k) for k in range(2)]
    for k, half in enumerate(_transform(odd, *halves)):
        store(odd, half, "%out", "%odd.at", _HALF * k)

    head = "define internal void @blocks_f32(ptr %out, float %mean, float %std, i64 %blocks)"
    return f"""{head} nounwind {{
  %even = and i64 %blocks, -2
  br label %pair.begin
{loop("pair", "0", "%even", 2, pair.lines, "odd.begin")}
{loop("odd", "%even", "%blocks", 1, odd.lines, "end")}
end:
  ret void
}}"""


def _library(e: VectorEmitter, name: str, x: Lanes) -> Lanes:
    """A function of the C library at the only lane."""
    assert e.width == 1 and name in LIBRARY
    argument, result = e.fresh(), e.fresh()
    e.lines.append(f"  {argument} = extractelement <1 x double> {x.name}, i64 0")
    e.lines.append(f"  {result} = call double @library_{name}(double {argument})")
    return e.line(f"insertelement <1 x double> poison, double {result}, i64 0", "f64")


def blocks_f64(module: FillModule) -> str:
    """@blocks_f64(out, mean, std, blocks): the same in float64, a pair at a time, with the C
    library's functions."""
    e = module.emitter(1, "one.")
    e.lines += [
        "  %block = lshr i64 %one.i, 3",
        "  %lane = and i64 %one.i, 7",
        "  %start = shl i64 %block, 4",
        "  %at = or i64 %start, %lane",
    ]
    first, second = load(e, "%out", "%at", "f64"), load(e, "%out", "%at", "f64", _HALF)
    radius = (_library(e, "log", 1.0 - first) * -2.0).sqrt()
    angle = second * _TWO_PI
    mean, std = parameter(e, "%mean", "f64"), parameter(e, "%std", "f64")
    for k, name in enumerate(("cos", "sin")):
        normal = fused(e, radius * _library(e, name, angle), std, mean)
        store(e, normal, "%out", "%at", _HALF * k)
    head = "define internal void @blocks_f64(ptr %out, double %mean, double %std, i64 %blocks)"
    return f"""{head} nounwind {{
  %pairs = shl i64 %blocks, 3
  br label %one.begin
{loop("one", "0", "%pairs", 1, e.lines, "end")}
end:
  ret void
}}"""
