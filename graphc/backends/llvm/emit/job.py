"""Jobs: the kernels of one region as one function that the pool runs chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass

from .sizes import is_number


@dataclass(frozen=True, slots=True)
class Pieces:
    """Arguments of a kernel, and its cut: `chunks` chunks of `grain` of its `units`."""

    pointers: list[str]
    sizes: list[str]
    units: str
    grain: str
    chunks: str


class JobText:
    """`void @job(ptr context, i64 chunk, i64 thread)`: finds the kernel of a chunk and calls it.

    `context` are the values that the caller stores for it, as (type, name): what the entry
    computed is not visible in another function. Numbers stand in the text.
    """

    def __init__(self, name: str, scratch: str, scratch_step: str) -> None:
        self.name = name
        self.context: list[tuple[str, str]] = []
        self._places: dict[str, int] = {}
        self.lines: list[str] = []
        self.count = 0
        self._calls = 0
        base = self._value(f"ptr {scratch}")
        offset = self._let(f"mul nsw i64 %thread, {self._number(scratch_step)}")
        self.scratch = self._let(f"getelementptr i8, {base}, i64 {offset}")

    def add(self, kernel: str, pieces: Pieces, first: str) -> None:
        """A kernel whose chunks start at number `first`."""
        number, self._calls = self._calls, self._calls + 1
        start, chunks = self._number(first), self._number(pieces.chunks)
        place = self._let(f"sub nsw i64 %chunk, {start}")
        mine = self._let(f"icmp slt i64 {place}, {chunks}")
        self.lines.append(f"  br i1 {mine}, label %run{number}, label %next{number}")
        self.lines.append(f"run{number}:")
        grain, units = self._number(pieces.grain), self._number(pieces.units)
        low = self._let(f"mul nsw i64 {place}, {grain}")
        high = self._let(f"add nsw i64 {low}, {grain}")
        inside = self._let(f"icmp slt i64 {high}, {units}")
        high = self._let(f"select i1 {inside}, i64 {high}, i64 {units}")
        arguments = [self._value(text) for text in pieces.pointers]
        arguments += [f"ptr {self.scratch}", f"i64 {low}", f"i64 {high}"]
        arguments += [self._value(text) for text in pieces.sizes]
        self.lines.append(f"  call void @{kernel}({', '.join(arguments)})")
        self.lines += ["  ret void", f"next{number}:"]

    def function(self) -> str:
        head = f"define internal void @{self.name}(ptr %context, i64 %chunk, i64 %thread) nounwind"
        return "\n".join([head + " {", "entry:", *self.lines, "  ret void", "}"])

    def _let(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"  %j{self.count} = {text}")
        return f"%j{self.count}"

    def _number(self, name: str) -> str:
        return name if is_number(name) else self._value(f"i64 {name}").partition(" ")[2]

    def _value(self, text: str) -> str:
        """`type name` as it is called in the job: read from the context."""
        kind, _, name = text.partition(" ")
        if is_number(name):
            return text
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = len(self.context)
            self.context.append((kind, name))
        address = self._let(f"getelementptr i64, ptr %context, i64 {place}")
        return f"{kind} {self._let(f'load {kind}, ptr {address}, align 8')}"
