"""The shapes of functions that fill memory with random numbers: loops over vectors and chunks."""

from __future__ import annotations

from collections.abc import Callable

from graphc.backends.llvm.target import Target
from graphc.backends.llvm.vmath.emitter import EXPANSIONS, VectorEmitter
from graphc.backends.llvm.vmath.lanes import BITS, LLVM_TYPES, Lanes


class FillModule:
    """Functions of one module, and what their expansions declare."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.parts: list[str] = []
        self.declarations: set[str] = set()
        self.helpers: dict[str, str] = {}

    def emitter(self, width: int, prefix: str) -> VectorEmitter:
        emitter = VectorEmitter(self.target, width, f"%{prefix}")
        emitter.declarations, emitter.helpers = self.declarations, self.helpers
        return emitter

    def text(self) -> str:
        return "\n".join([*sorted(self.declarations), *self.helpers.values(), *self.parts, ""])


def loop(name: str, start: str, limit: str, step: int, body: list[str], end: str) -> str:
    """`for i = start; i < limit; i += step` with %name.i; control comes by `br %name.begin` and
    goes on to the label `end`. The body is one block."""
    lines = "\n".join(body)
    return f"""{name}.begin:
  br label %{name}.test
{name}.test:
  %{name}.i = phi i64 [ {start}, %{name}.begin ], [ %{name}.next, %{name}.body ]
  %{name}.more = icmp slt i64 %{name}.i, {limit}
  br i1 %{name}.more, label %{name}.body, label %{end}
{name}.body:
{lines}
  %{name}.next = add i64 %{name}.i, {step}
  br label %{name}.test"""


def load(e: VectorEmitter, base: str, index: str, type: str, offset: int = 0) -> Lanes:
    """Elements from `base`[index + offset] on."""
    pointer = _pointer(e, base, index, type, offset)
    return e.line(f"load {e.vector(type)}, ptr {pointer}, align {BITS[type] // 8}", type)


def store(e: VectorEmitter, value: Lanes, base: str, index: str, offset: int = 0) -> None:
    pointer = _pointer(e, base, index, value.type, offset)
    kind = e.vector(value.type)
    e.lines.append(f"  store {kind} {value.name}, ptr {pointer}, align {BITS[value.type] // 8}")


def _pointer(e: VectorEmitter, base: str, index: str, type: str, offset: int) -> str:
    element = LLVM_TYPES[type]
    here = f"{e.fresh()}"
    e.lines.append(f"  {here} = getelementptr {element}, ptr {base}, i64 {index}")
    if not offset:
        return here
    there = f"{e.fresh()}"
    e.lines.append(f"  {there} = getelementptr {element}, ptr {here}, i64 {offset}")
    return there


def fused(e: VectorEmitter, x: Lanes, y: Lanes, z: Lanes) -> Lanes:
    """x * y + z with one rounding on every target."""
    return EXPANSIONS["fma"](e, x, y, z)


def parameter(e: VectorEmitter, name: str, type: str) -> Lanes:
    """A scalar in every lane."""
    first = e.line(f"insertelement {e.vector(type)} poison, {LLVM_TYPES[type]} {name}, i64 0", type)
    zeros = f"<{e.width} x i32> zeroinitializer"
    kind = e.vector(type)
    return e.line(f"shufflevector {kind} {first.name}, {kind} poison, {zeros}", type)


def vector_then_single(
    name: str, width: int, parameters: str, body: Callable[[str, int], list[str]]
) -> str:
    """A function over %n elements: a loop of vectors, then one of single elements. The body gets
    the loop's name, whose index is `%name.i`, and the number of lanes."""
    return f"""define internal void @{name}({parameters}, i64 %n) nounwind {{
  %whole = and i64 %n, {-width}
  br label %v.begin
{loop("v", "0", "%whole", width, body("v", width), "s.begin")}
{loop("s", "%whole", "%n", 1, body("s", 1), "end")}
end:
  ret void
}}"""


def in_chunks(head: str, size: int, element: str, body: str) -> str:
    """A function that runs `body` for pieces of %n: %count elements from %piece on."""
    return f"""{head} {{
entry:
  br label %test
test:
  %done = phi i64 [ 0, %entry ], [ %after, %next ]
  %left = sub i64 %n, %done
  %more = icmp sgt i64 %left, 0
  br i1 %more, label %chunk, label %end
chunk:
  %last = icmp slt i64 %left, {size}
  %count = select i1 %last, i64 %left, i64 {size}
  %piece = getelementptr {element}, ptr %out, i64 %done
{body}
  br label %next
next:
  %after = add i64 %done, %count
  br label %test
end:
  ret void
}}"""
