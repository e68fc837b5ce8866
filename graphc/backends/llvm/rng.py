"""torch's random stream as compiled code: fills of memory from a Mersenne twister's state.

The state is 624 words of 32 bits, then the position as a 32-bit integer: how many of the words are
used up, 624 after seeding. It is what numpy's MT19937 keeps in memory and 2,500 bytes (STATE_BYTES)
long. The bits are those of graphc.frontends.random_stream:

    graphc_mt_fill_u32(state, out, n)                      the next n words
    graphc_mt_uniform_f32(state, out, n, low, high)        fma(u, high - low, low), u of 24 bits;
                                                           what rounds to high becomes low
    graphc_mt_uniform_f64(state, out, n, low, high)        u of 53 bits, two words each
    graphc_mt_bernoulli_u8(state, out, n, p)               1 where a 53-bit u < p, else 0
    graphc_mt_normal_f32(state, out, n, mean, std)         blocks of 16; n is at least 16
    graphc_mt_normal_f64(state, out, n, mean, std)         the same with the C library's log,
                                                           sin and cos

`state` and `out` are addresses, n an i64; low, high, mean and std have the type of the elements, p
is a double. Out needs no alignment beyond that of its elements.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Callable
from functools import cache

from graphc.backends.llvm import jit
from graphc.backends.llvm.rng_normal import BLOCK, LIBRARY, blocks_f32, blocks_f64
from graphc.backends.llvm.rng_text import (
    FillModule,
    fused,
    in_chunks,
    load,
    loop,
    parameter,
    store,
    vector_then_single,
)
from graphc.backends.llvm.target import Target, get_target
from graphc.backends.llvm.vmath.emitter import VectorEmitter
from graphc.backends.llvm.vmath.lanes import LLVM_TYPES, Lanes

WORDS = 624
STATE_BYTES = 4 * (WORDS + 1)
_MIDDLE = 397
_CHUNK = 2048  # elements that are drawn and then transformed while they are in the L1 cache
_MASK_CHUNK = 128  # elements of a mask at a time: their words fill 1 KB of the stack

_SIGNATURES: dict[str, tuple[type, ...]] = {
    "graphc_mt_fill_u32": (),
    "graphc_mt_uniform_f32": (ctypes.c_float, ctypes.c_float),
    "graphc_mt_uniform_f64": (ctypes.c_double, ctypes.c_double),
    "graphc_mt_bernoulli_u8": (ctypes.c_double,),
    "graphc_mt_normal_f32": (ctypes.c_float, ctypes.c_float),
    "graphc_mt_normal_f64": (ctypes.c_double, ctypes.c_double),
}
FUNCTIONS = tuple(_SIGNATURES)

Operation = Callable[[VectorEmitter, Lanes], Lanes]


# -- Python's side


@cache
def code(target: Target | None = None) -> jit.Code:
    """The functions of this module for `target`, loaded for the life of the process."""
    loaded = jit.load(module_text(target or get_target()), FUNCTIONS, _library_addresses(), target)
    loaded.keep()
    return loaded


def address(name: str) -> int:
    """The address of one of FUNCTIONS."""
    return code()[name]


@cache
def function(name: str, target: Target | None = None) -> Callable[..., None]:
    """One of FUNCTIONS as a Python callable of (state, out, n, ...); releases the lock."""
    arguments = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, *_SIGNATURES[name])
    return ctypes.CFUNCTYPE(None, *arguments)(code(target)[name])


@cache
def _library_addresses() -> dict[str, int]:
    """The C library's functions by the names that the text uses for them."""
    name = None if os.name == "nt" else ctypes.util.find_library("m")
    library = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(name)
    addresses = {}
    for function_name in LIBRARY:
        pointer = ctypes.cast(getattr(library, function_name), ctypes.c_void_p).value
        assert pointer is not None
        addresses[f"library_{function_name}"] = pointer
    return addresses


# -- the text


@cache
def module_text(target: Target) -> str:
    """The module that defines FUNCTIONS for a target."""
    width = target.lanes(32)
    module = FillModule(target)
    module.parts = [
        *(f"declare double @library_{name}(double)" for name in LIBRARY),
        _twist(module, width),
        _run(module, "u32", width, lambda e, words: words),
        _run(module, "f32", width, _unit_f32),
        _fill("u32", "i32"),
        _fill("f32", "float"),
        _in_place(module, "unit_f64", "f64", width // 2, _unit_f64),
        _in_place(module, "affine_f32", "f32", width, _affine, "float %low, float %high"),
        _in_place(module, "affine_f64", "f64", width // 2, _affine, "double %low, double %high"),
        blocks_f32(module),
        blocks_f64(module),
        _UNIT_FILL_F64,
        _chunked("f32", "fill_f32"),
        _chunked("f64", "fill_unit_f64"),
        _bernoulli(module, width // 2),
        _normal("f32", "fill_f32"),
        _normal("f64", "fill_unit_f64"),
        "define void @graphc_mt_fill_u32(ptr %state, ptr %out, i64 %n) nounwind {\n"
        "  call void @fill_u32(ptr %state, ptr %out, i64 %n)\n  ret void\n}",
    ]
    return module.text()


def _mix(words: Lanes, following: Lanes, partner: Lanes) -> Lanes:
    """One step of the recurrence: the upper bit of a word, the lower ones of the next."""
    joined = (words & 0x80000000) | (following & 0x7FFFFFFF)
    # 0 - (the last bit) is a mask of all bits or none.
    odd = (following & 1).bits("i32")
    return (partner ^ (joined >> 1)) ^ ((-odd).bits("u32") & 0x9908B0DF)


def _twist(module: FillModule, width: int) -> str:
    """@twist(state): the next 624 words, in place.

    Words below 227 depend on old words only, the others on the new word 227 before; the last one
    wraps around.
    """

    def steps(name: str, lanes: int, partner: int) -> list[str]:
        e = module.emitter(lanes, f"{name}.")
        index = f"%{name}.i"
        words = load(e, "%state", index, "u32")
        following = load(e, "%state", index, "u32", 1)
        store(e, _mix(words, following, load(e, "%state", index, "u32", partner)), "%state", index)
        return e.lines

    early = WORDS - _MIDDLE
    late = _MIDDLE - WORDS
    first, second = early // width * width, early + (WORDS - 1 - early) // width * width
    e = module.emitter(1, "last.")
    words = load(e, "%state", str(WORDS - 1), "u32")
    partner = load(e, "%state", str(_MIDDLE - 1), "u32")
    last = _mix(words, load(e, "%state", "0", "u32"), partner)
    store(e, last, "%state", str(WORDS - 1))
    loops = [
        loop("a", "0", str(first), width, steps("a", width, _MIDDLE), "b.begin"),
        loop("b", str(first), str(early), 1, steps("b", 1, _MIDDLE), "c.begin"),
        loop("c", str(early), str(second), width, steps("c", width, late), "d.begin"),
        loop("d", str(second), str(WORDS - 1), 1, steps("d", 1, late), "end"),
    ]
    return "\n".join(
        [
            "define internal void @twist(ptr %state) nounwind {\n  br label %a.begin",
            *loops,
            "end:",
            *e.lines,
            "  ret void\n}",
        ]
    )


def _tempered(words: Lanes) -> Lanes:
    words = words ^ (words >> 11)
    words = words ^ ((words << 7) & 0x9D2C5680)
    words = words ^ ((words << 15) & 0xEFC60000)
    return words ^ (words >> 18)


def _unit_f32(e: VectorEmitter, words: Lanes) -> Lanes:
    return (words & 0xFFFFFF).bits("i32").to("f32") * 2.0**-24


def _unit_f64(e: VectorEmitter, drawn: Lanes) -> Lanes:
    """`drawn` holds the bits of two words as they lie in memory, the first is the upper half."""
    bits = drawn.bits("u64")
    bits = (bits << 32) | (bits >> 32)  # all targets are little-endian
    return (bits & (2**53 - 1)).bits("i64").to("f64") * 2.0**-53


def _affine(e: VectorEmitter, units: Lanes) -> Lanes:
    """fma(u, high - low, low) with the parameters of the function, below high."""
    low, high = parameter(e, "%low", units.type), parameter(e, "%high", units.type)
    values = fused(e, units, high - low, low)
    return values.eq(high).select(low, values)


def _run(module: FillModule, name: str, width: int, finish: Operation) -> str:
    """@run_name(words, out, n): n words of the state, tempered and finished."""

    def body(loop_name: str, lanes: int) -> list[str]:
        e = module.emitter(lanes, f"{loop_name}.")
        index = f"%{loop_name}.i"
        store(e, finish(e, _tempered(load(e, "%words", index, "u32"))), "%out", index)
        return e.lines

    return vector_then_single(f"run_{name}", width, "ptr %words, ptr %out", body)


def _fill(name: str, element: str) -> str:
    """@fill_name(state, out, n): runs, with new words whenever the old ones are used up."""
    return f"""define internal void @fill_{name}(ptr %state, ptr %out, i64 %n) nounwind {{
entry:
  %place = getelementptr i32, ptr %state, i64 {WORDS}
  br label %test
test:
  %done = phi i64 [ 0, %entry ], [ %after, %draw ]
  %left = sub i64 %n, %done
  %more = icmp sgt i64 %left, 0
  br i1 %more, label %look, label %end
look:
  %old = load i32, ptr %place, align 4
  %empty = icmp sge i32 %old, {WORDS}
  br i1 %empty, label %renew, label %draw
renew:
  call void @twist(ptr %state)
  br label %draw
draw:
  %position = phi i32 [ %old, %look ], [ 0, %renew ]
  %position.wide = sext i32 %position to i64
  %available = sub i64 {WORDS}, %position.wide
  %fewer = icmp slt i64 %left, %available
  %count = select i1 %fewer, i64 %left, i64 %available
  %words = getelementptr i32, ptr %state, i64 %position.wide
  %target = getelementptr {element}, ptr %out, i64 %done
  call void @run_{name}(ptr %words, ptr %target, i64 %count)
  %count.narrow = trunc i64 %count to i32
  %new = add i32 %position, %count.narrow
  store i32 %new, ptr %place, align 4
  %after = add i64 %done, %count
  br label %test
end:
  ret void
}}"""


def _in_place(
    module: FillModule, name: str, type: str, width: int, operation: Operation, scalars: str = ""
) -> str:
    """@name(out, [scalars,] n): the operation on each element."""

    def body(loop_name: str, lanes: int) -> list[str]:
        e = module.emitter(lanes, f"{loop_name}.")
        index = f"%{loop_name}.i"
        store(e, operation(e, load(e, "%out", index, type)), "%out", index)
        return e.lines

    parameters = f"ptr %out, {scalars}" if scalars else "ptr %out"
    return vector_then_single(name, width, parameters, body)


_UNIT_FILL_F64 = """
define internal void @fill_unit_f64(ptr %state, ptr %out, i64 %n) nounwind {
  %words = shl i64 %n, 1
  call void @fill_u32(ptr %state, ptr %out, i64 %words)
  call void @unit_f64(ptr %out, i64 %n)
  ret void
}"""


def _chunked(name: str, fill: str) -> str:
    """@graphc_mt_uniform_name: units, then low and high unless they are 0 and 1."""
    element = LLVM_TYPES[name]
    parameters = f"ptr %state, ptr %out, i64 %n, {element} %low, {element} %high"
    head = f"define void @graphc_mt_uniform_{name}({parameters}) nounwind"
    body = f"""  call void @{fill}(ptr %state, ptr %piece, i64 %count)
  %from.zero = fcmp oeq {element} %low, 0.0
  %to.one = fcmp oeq {element} %high, 1.0
  %plain = and i1 %from.zero, %to.one
  br i1 %plain, label %next, label %scale
scale:
  call void @affine_{name}(ptr %piece, {element} %low, {element} %high, i64 %count)"""
    return in_chunks(head, _CHUNK, element, body)


def _bernoulli(module: FillModule, width: int) -> str:
    """@graphc_mt_bernoulli_u8, by way of the uniforms on the stack."""

    def body(loop_name: str, lanes: int) -> list[str]:
        e = module.emitter(lanes, f"{loop_name}.")
        index = f"%{loop_name}.i"
        drawn = load(e, "%drawn", index, "f64")
        below = drawn.lt(parameter(e, "%p", "f64"))
        store(e, below._convert("zext", "u8"), "%out", index)
        return e.lines

    compare = vector_then_single("below", width, "ptr %drawn, ptr %out, double %p", body)
    parameters = "ptr %state, ptr %out, i64 %n, double %p"
    head = f"define void @graphc_mt_bernoulli_u8({parameters}) nounwind"
    draw = """  call void @fill_unit_f64(ptr %state, ptr %drawn, i64 %count)
  call void @below(ptr %drawn, ptr %piece, double %p, i64 %count)"""
    chunks = in_chunks(head, _MASK_CHUNK, "i8", draw)
    room = f"entry:\n  %drawn = alloca [{_MASK_CHUNK} x double], align 64\n"
    return compare + "\n" + chunks.replace("entry:\n", room, 1)


def _normal(name: str, fill: str) -> str:
    """@graphc_mt_normal_name: chunks of whole blocks; the rest, which is drawn with the last chunk,
    is drawn again as the last 16 elements."""
    element = LLVM_TYPES[name]
    scalars = f"{element} %mean, {element} %std"
    head = f"define internal void @normal_{name}(ptr %state, ptr %out, {scalars}, i64 %n) nounwind"
    body = f"""  call void @{fill}(ptr %state, ptr %piece, i64 %count)
  %blocks = lshr i64 %count, 4
  call void @blocks_{name}(ptr %piece, {scalars}, i64 %blocks)"""
    return f"""{in_chunks(head, _CHUNK, element, body)}
define void @graphc_mt_normal_{name}(ptr %state, ptr %out, i64 %n, {scalars}) nounwind {{
  call void @normal_{name}(ptr %state, ptr %out, {scalars}, i64 %n)
  %rest = and i64 %n, {BLOCK - 1}
  %whole = icmp eq i64 %rest, 0
  br i1 %whole, label %end, label %again
again:
  %first = sub i64 %n, {BLOCK}
  %tail = getelementptr {element}, ptr %out, i64 %first
  call void @{fill}(ptr %state, ptr %tail, i64 {BLOCK})
  call void @blocks_{name}(ptr %tail, {scalars}, i64 1)
  br label %end
end:
  ret void
}}"""
