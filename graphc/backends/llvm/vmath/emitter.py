"""VectorEmitter: prints pointwise operations as LLVM IR on explicit vectors.

The emitter is what the lowering holds while it prints one function. It gives fresh names,
collects lines, and expands every pointwise primitive of the IR by name, without a call of the
C library's maths on any target. An expansion is a function registered by `vector_op`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from graphc.backends.llvm.target import Target
from graphc.ir.dtype import DType

from .lanes import BITS, LLVM_TYPES, Lanes


class Vec(NamedTuple):
    """W elements in a register: their name in the text, and their dtype."""

    name: str
    dtype: DType


Expansion = Callable[..., Lanes]
EXPANSIONS: dict[str, Expansion] = {}
# Ops of f16 and bf16 whose results are exact, so that they need no rounding.
_EXACT = frozenset("neg abs sign floor ceil round trunc max min select".split())
_NARROW = ("f16", "bf16")


def vector_op(name: str) -> Callable[[Expansion], Expansion]:
    """Registers `expand(emitter, *lanes) -> Lanes` as the meaning of a pointwise op."""

    def register(expand: Expansion) -> Expansion:
        EXPANSIONS[name] = expand
        return expand

    return register


class VectorEmitter:
    """Lines of one function on vectors of `width` elements.

    target        what the instructions may be
    width         elements in a vector, any power of two; LLVM splits what no register holds
    lines         the text so far; the caller may append lines of its own
    declarations  `declare` lines that the module needs
    helpers       name -> text of the internal functions and tables that the module needs;
                  names are unique for their text, so the dicts of several emitters can be merged
    prefix        starts every fresh name
    """

    def __init__(self, target: Target, width: int, prefix: str = "%m") -> None:
        self.target = target
        self.width = width
        self.prefix = prefix
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self.helpers: dict[str, str] = {}
        self.has_avx512 = target.arch == "x86_64" and target.vector_bytes == 64
        self.block = "entry"
        self._count = 0
        self._templates = _TEMPLATES.setdefault((target, width), {})

    # What the lowering calls
    def emit(self, op: str, args: Sequence[Vec], out_dtype: DType) -> Vec:
        """The result of the pointwise op of that name. Raises KeyError for an unknown op."""
        key = (op, out_dtype.name, *[arg if arg.name[0] != "%" else arg.dtype.name for arg in args])
        template = self._templates.get(key)
        if template is None:
            if len(self._templates) >= _MOST_TEMPLATES:  # keys hold constants, so they never end
                self._templates.clear()
            template = _Template.of(self.target, self.width, op, args, out_dtype)
            self._templates[key] = template
        text, result = template.text, template.result
        for i, arg in enumerate(args):
            operand = _OPERANDS[i]
            text, result = text.replace(operand, arg.name), result.replace(operand, arg.name)
        name = self.fresh()
        if text:
            self.lines += text.replace(_LOCAL, name).split("\n")
        if template.declarations:
            self.declarations |= template.declarations
        if template.helpers:
            self.helpers |= template.helpers
        return Vec(result.replace(_LOCAL, name), out_dtype)

    def fresh(self) -> str:
        """A name that no other value of this function has."""
        self._count += 1
        return f"{self.prefix}{self._count}"

    def const(self, value: float, dtype: DType) -> Vec:
        """A vector of equal constants, rounded to the dtype."""
        if dtype.name in _NARROW:
            value = float(np.asarray(value).astype(dtype.numpy))
            return Vec(self.constant(value, "f32").name, dtype)
        return Vec(self.constant(value, dtype.name).name, dtype)

    def splat(self, scalar: str, dtype: DType) -> Vec:
        """A vector of one scalar: `scalar` names a value of the register's element type."""
        kind = self.register_type(dtype)
        element = LLVM_TYPES[dtype.name]
        first = self.fresh()
        self.lines.append(f"  {first} = insertelement {kind} poison, {element} {scalar}, i64 0")
        name = self.fresh()
        zeros = f"<{self.width} x i32> zeroinitializer"
        self.lines.append(f"  {name} = shufflevector {kind} {first}, {kind} poison, {zeros}")
        return Vec(name, dtype)

    def register_type(self, dtype: DType) -> str:
        """The LLVM type of W elements in a register: bool is i1; f16 and bf16 are float."""
        return self.vector(dtype.name)

    def memory_type(self, dtype: DType) -> str:
        """The LLVM type of W elements in memory: bool is i8 (0 or 1); f16 and bf16 are i16."""
        return f"<{self.width} x {memory_element(dtype)}>"

    def unpack(self, name: str, dtype: DType) -> Vec:
        """A register's value from what `name` loaded, of `memory_type`."""
        from .conversions import widen

        if dtype.name == "bool":
            return Vec(Lanes(self, name, "u8").ne(0).name, dtype)
        if dtype.name in _NARROW:
            return Vec(widen(self, Lanes(self, name, "i16"), dtype.name).name, dtype)
        return Vec(name, dtype)

    def pack(self, vec: Vec) -> str:
        """The name of a value of `memory_type` to store, from a register's value."""
        from .conversions import narrow

        if vec.dtype.name == "bool":
            return Lanes(self, vec.name, "bool")._convert("zext", "u8").name
        if vec.dtype.name in _NARROW:
            return narrow(self, Lanes(self, vec.name, "f32"), vec.dtype.name).name
        return vec.name

    # What expansions use
    def vector(self, type: str) -> str:
        return f"<{self.width} x {LLVM_TYPES[type]}>"

    def line(self, text: str, type: str) -> Lanes:
        """Adds an instruction; its value has elements of `type`."""
        self._count += 1
        name = f"{self.prefix}{self._count}"
        self.lines.append(f"  {name} = {text}")
        return Lanes(self, name, type)

    def constant(self, value: float, type: str) -> Lanes:
        return Lanes(self, f"splat ({LLVM_TYPES[type]} {literal(value, type)})", type)

    def intrinsic(self, name: str, *args: Lanes, result: str | None = None) -> Lanes:
        """A call of an LLVM intrinsic that is overloaded on its first operand's type."""
        type = args[0].type
        suffix = f".v{self.width}{'f' if args[0].is_float else 'i'}{BITS[type]}"
        return self.call(f"{name}{suffix}", args, result or type)

    def call(self, name: str, args: Sequence[Lanes], result: str) -> Lanes:
        kinds = [self.vector(arg.type) for arg in args]
        returns = self.vector(result)
        if name.startswith("llvm."):
            self.declarations.add(f"declare {returns} @{name}({', '.join(kinds)})")
        operands = ", ".join(f"{k} {arg.name}" for k, arg in zip(kinds, args, strict=True))
        return self.line(f"call {returns} @{name}({operands})", result)

    def fma(self, x: Lanes, y: Lanes | float, z: Lanes | float) -> Lanes:
        """x * y + z with one rounding: only for targets that have the instruction."""
        assert self.target.has_fma
        y = y if isinstance(y, Lanes) else self.constant(y, x.type)
        z = z if isinstance(z, Lanes) else self.constant(z, x.type)
        return self.intrinsic("llvm.fma", x, y, z)

    def mad(self, x: Lanes, y: Lanes | float, z: Lanes | float) -> Lanes:
        """x * y + z with one rounding or two, whichever the target does in fewer instructions."""
        return self.fma(x, y, z) if self.target.has_fma else x * y + z

    def polynomial(self, x: Lanes, coefficients: Sequence[float]) -> Lanes:
        """Horner's rule, the highest power first."""
        result = self.mad(x, coefficients[0], coefficients[1])
        for c in coefficients[2:]:
            result = self.mad(result, x, c)
        return result

    def helper(self, name: str, expand: Expansion, args: Sequence[Lanes], result: str) -> Lanes:
        """Calls an internal function `name`, made by `expand(emitter, *args)` at its first use.

        For long expansions: the loop's body then holds a call, and the text comes once a module.
        """
        full = f"graphc.{name}.v{self.width}"
        if full not in self.helpers:
            inner = VectorEmitter(self.target, self.width)
            inner.helpers = self.helpers
            inner.declarations = self.declarations
            self.helpers[full] = ""  # takes its place before those that it calls in its turn
            params = [Lanes(inner, f"%x{i}", arg.type) for i, arg in enumerate(args)]
            value = expand(inner, *params)
            head = ", ".join(f"{inner.vector(p.type)} {p.name}" for p in params)
            kind = inner.vector(result)
            assert value.type == result
            self.helpers[full] = "\n".join(
                [
                    f"define internal {kind} @{full}({head}) nounwind {{",
                    "entry:",
                    *inner.lines,
                    f"  ret {kind} {value.name}",
                    "}\n",
                ]
            )
        return self.call(full, args, result)

    def any(self, mask: Lanes) -> str:
        """The name of an i1: whether the mask holds in any lane."""
        kind = f"i{self.width}"
        bits = self.line(f"bitcast {self.vector('bool')} {mask.name} to {kind}", "bool").name
        return self.line(f"icmp ne {kind} {bits}, 0", "bool").name

    def label(self, name: str) -> None:
        """Starts a basic block; only in helpers, whose blocks are the emitter's own."""
        self.lines.append(f"{name}:")
        self.block = name

    def loop(
        self,
        start: Sequence[Lanes],
        condition: Callable[..., Lanes],
        step: Callable[..., Sequence[Lanes]],
    ) -> list[Lanes]:
        """Repeats `step` on all values while `condition` holds in any lane; only in helpers."""
        self._count += 1
        head, body, end = (f"{part}{self._count}" for part in ("head", "body", "end"))
        before = self.block
        self.lines.append(f"  br label %{head}")
        self.label(head)
        first = len(self.lines)
        values = [self.line("", value.type) for value in start]
        again = self.any(condition(*values))
        self.lines.append(f"  br i1 {again}, label %{body}, label %{end}")
        self.label(body)
        following = step(*values)
        for i, (value, initial, nxt) in enumerate(zip(values, start, following, strict=True)):
            arms = f"[{initial.name}, %{before}], [{nxt.name}, %{self.block}]"
            self.lines[first + i] = f"  {value.name} = phi {self.vector(value.type)} {arms}"
        self.lines.append(f"  br label %{head}")
        self.label(end)
        return values

    def branch(
        self, mask: Lanes, rare: Callable[[], Sequence[Lanes]], usual: Sequence[Lanes]
    ) -> list[Lanes]:
        """The values of `rare()` if the mask holds in any lane, else `usual`; only in helpers."""
        self._count += 1
        then, end = f"then{self._count}", f"join{self._count}"
        some = self.any(mask)
        before = self.block
        self.lines.append(f"  br i1 {some}, label %{then}, label %{end}")
        self.label(then)
        values = rare()
        last = self.block
        self.lines.append(f"  br label %{end}")
        self.label(end)
        return [
            self.line(
                f"phi {self.vector(v.type)} [{v.name}, %{last}], [{u.name}, %{before}]", v.type
            )
            for v, u in zip(values, usual, strict=True)
        ]

    def pieces(self, width: int, operation: Callable[..., Lanes], *args: Lanes) -> Lanes:
        """Applies `operation(emitter, *args)`, an instruction for vectors of exactly `width`
        elements, to vectors of this emitter's width: split into parts, or padded."""
        if self.width == width:
            return operation(self, *args)
        parts = max(1, self.width // width)
        results = []
        for part in range(parts):
            lanes = range(part * width, (part + 1) * width)
            picks = ", ".join(f"i32 {i if i < self.width else 'poison'}" for i in lanes)
            split = []
            for arg in args:
                kind = self.vector(arg.type)
                split.append(
                    self.line(
                        f"shufflevector {kind} {arg.name}, {kind} poison, "
                        f"<{width} x i32> <{picks}>",
                        arg.type,
                    )
                )
            outer, self.width = self.width, width
            try:
                results.append(operation(self, *split))
            finally:
                self.width = outer
        if parts == 1:
            return self._resize(results[0], width)
        return self._join(results, width)

    def _resize(self, value: Lanes, width: int) -> Lanes:
        kind = f"<{width} x {LLVM_TYPES[value.type]}>"
        picks = ", ".join(f"i32 {i}" for i in range(self.width))
        return self.line(
            f"shufflevector {kind} {value.name}, {kind} poison, <{self.width} x i32> <{picks}>",
            value.type,
        )

    def _join(self, values: list[Lanes], width: int) -> Lanes:
        while len(values) > 1:
            kind = f"<{width} x {LLVM_TYPES[values[0].type]}>"
            picks = ", ".join(f"i32 {i}" for i in range(2 * width))
            values = [
                self.line(
                    f"shufflevector {kind} {a.name}, {kind} {b.name}, "
                    f"<{2 * width} x i32> <{picks}>",
                    a.type,
                )
                for a, b in zip(values[::2], values[1::2], strict=True)
            ]
            width *= 2
        return values[0]


# Names in a template's text, which no text of LLVM contains.
_LOCAL = "%\1"
_MOST_TEMPLATES = 2048
_OPERANDS = ("%\2", "%\3", "%\4")


@dataclass(frozen=True, slots=True)
class _Template:
    """The expansion of an op for operands of some dtypes, with their names left open.

    Expanding takes several microseconds a line, filling in the names one or two in all.
    """

    text: str
    result: str
    declarations: frozenset[str]
    helpers: Mapping[str, str]

    @classmethod
    def of(
        cls, target: Target, width: int, op: str, args: Sequence[Vec], out_dtype: DType
    ) -> _Template:
        e = VectorEmitter(target, width, prefix=f"{_LOCAL}.")
        operands = [
            Lanes(
                e,
                open_name if arg.name[0] == "%" else arg.name,
                "f32" if arg.dtype.name in _NARROW else arg.dtype.name,
            )
            for arg, open_name in zip(args, _OPERANDS, strict=False)
        ]
        result = _expand(e, op, operands, out_dtype.name)
        assert LLVM_TYPES[result.type] == LLVM_TYPES[out_dtype.name], (op, result.type)
        return cls("\n".join(e.lines), result.name, frozenset(e.declarations), e.helpers)


# (target, width) -> key of the operation -> its template.
_TEMPLATES: dict[tuple[Target, int], dict[tuple[object, ...], _Template]] = {}


def _expand(e: VectorEmitter, op: str, operands: Sequence[Lanes], to: str) -> Lanes:
    from .conversions import cast, round_narrow

    if op == "cast":
        return cast(e, operands[0], to)
    result = EXPANSIONS[op](e, *operands)
    if to in _NARROW and op not in _EXACT:
        return round_narrow(e, result, to)
    return result


def memory_element(dtype: DType) -> str:
    """The LLVM type of one element in memory."""
    if dtype.name == "bool":
        return "i8"
    return "i16" if dtype.name in _NARROW else LLVM_TYPES[dtype.name]


def literal(value: float, type: str) -> str:
    """A constant as LLVM writes it: floats by the bits of the double that they equal."""
    if type == "bool":
        return "true" if value else "false"
    if type[0] == "f":
        rounded = float(np.float32(value)) if type == "f32" else float(value)
        return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"
    return str(int(value))
