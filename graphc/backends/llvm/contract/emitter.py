"""Text of one LLVM function: SSA names, folded integer arithmetic, structured loops.

An index is a Python int where it is known and an SSA name (a str) where it is not. Arithmetic
on known indices is done here and now, so a kernel of static sizes holds no address arithmetic
that the sizes decide. Nothing optimises the text afterwards; what is written is what runs.
"""

from collections.abc import Callable, Sequence

Index = int | str
Body = Callable[..., Sequence[str] | None]


class Emitter:
    """Builds one function.

    declares  the intrinsics that it calls
    helpers   text by name of the internal functions that it calls
    """

    def __init__(
        self,
        parameters: Sequence[str],
        *,
        result: str = "void",
        attributes: str = "nounwind",
        linkage: str = "",
    ) -> None:
        """`parameters` are written out, as in "ptr noalias %a"."""
        self.parameters = tuple(parameters)
        self.result = result
        self.attributes = attributes
        self.linkage = linkage
        self.declares: set[str] = set()
        self.helpers: dict[str, str] = {}
        self.block = "entry"
        self.lines: list[str] = []
        self._rooms: list[str] = []
        self._count = 0

    # Text

    def name(self, stem: str = "v") -> str:
        """A fresh SSA name."""
        self._count += 1
        return f"%{stem}{self._count}"

    def value(self, text: str) -> str:
        """An instruction with a result; the name of the result."""
        result = self.name()
        self.lines.append(f"  {result} = {text}")
        return result

    def line(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append("  " + text)

    def start_block(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def text(self, name: str) -> str:
        """The whole function under the given name."""
        linkage = self.linkage + " " if self.linkage else ""
        head = f"define {linkage}{self.result} @{name}({', '.join(self.parameters)})"
        body = "\n".join([*self._rooms, *self.lines])
        tail = "" if self.result != "void" else "  ret void\n"
        return f"{head} {self.attributes} {{\nentry:\n{body}\n{tail}}}\n"

    # Integers (i64)

    def add(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0:
            return b
        if b == 0:
            return a
        return self.value(f"add nsw i64 {a}, {b}")

    def sub(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        if b == 0:
            return a
        return self.value(f"sub nsw i64 {a}, {b}")

    def mul(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 0 or b == 0:
            return 0
        if a == 1:
            return b
        if b == 1:
            return a
        return self.value(f"mul nsw i64 {a}, {b}")

    def floor_div(self, a: Index, b: int) -> Index:
        """`a // b` for a >= 0 and a known b > 0."""
        if isinstance(a, int):
            return a // b
        if b == 1:
            return a
        return self.value(f"udiv i64 {a}, {b}")

    def floor_div_any(self, a: Index, b: Index) -> Index:
        """`a // b` for a >= 0 and b > 0."""
        return self.floor_div(a, b) if isinstance(b, int) else self.value(f"udiv i64 {a}, {b}")

    def remainder(self, a: Index, quotient: Index, b: Index) -> Index:
        """`a % b`, from `a // b`."""
        return self.sub(a, self.mul(quotient, b))

    def ceil_div(self, a: Index, b: int) -> Index:
        return self.floor_div(self.add(a, b - 1), b)

    def round_down(self, a: Index, b: int) -> Index:
        """The largest multiple of b that is at most a, for a >= 0."""
        return self.mul(self.floor_div(a, b), b)

    def minimum(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self.call("i64", "llvm.smin.i64", ("i64", a), ("i64", b))

    def maximum(self, a: Index, b: Index) -> Index:
        if isinstance(a, int) and isinstance(b, int):
            return max(a, b)
        return self.call("i64", "llvm.smax.i64", ("i64", a), ("i64", b))

    def compare(self, predicate: str, a: Index, b: Index) -> str:
        return self.value(f"icmp {predicate} i64 {a}, {b}")

    # Memory

    def address(self, pointer: str, index: Index, element: str) -> str:
        """The address of element `index` of the elements at `pointer`."""
        if index == 0:
            return pointer
        return self.value(f"getelementptr {element}, ptr {pointer}, i64 {index}")

    def load(self, type_: str, pointer: str, align: int) -> str:
        return self.value(f"load {type_}, ptr {pointer}, align {align}")

    def store(self, type_: str, value: str, pointer: str, align: int) -> None:
        self.line(f"store {type_} {value}, ptr {pointer}, align {align}")

    def room(self, nbytes: int) -> str:
        """The address of memory on the stack, aligned to 64 bytes, until the function returns."""
        pointer = self.name("room")
        self._rooms.append(f"  {pointer} = alloca [{nbytes} x i8], align 64")
        return pointer

    def prefetch(self, pointer: str, *, write: bool = False, far: bool = False) -> None:
        """far: into the second cache only."""
        flags = (("i32", int(write)), ("i32", 2 if far else 3), ("i32", 1))
        self.call("void", "llvm.prefetch.p0", ("ptr", pointer), *flags)

    # Calls and control

    def call(self, result: str, callee: str, *operands: tuple[str, Index], flags: str = "") -> str:
        """A call with (type, value) operands; an intrinsic's declaration is noted."""
        if callee.startswith("llvm."):
            types = ("ptr" if type_.startswith("ptr") else type_ for type_, _ in operands)
            self.declares.add(f"declare {result} @{callee}({', '.join(types)})")
        kind = f"call {flags} {result}" if flags else f"call {result}"
        text = f"{kind} @{callee}({', '.join(f'{t} {value}' for t, value in operands)})"
        if result == "void":
            self.line(text)
            return ""
        return self.value(text)

    def loop(
        self,
        low: Index,
        high: Index,
        step: Index,
        body: Body,
        carried: Sequence[tuple[str, str]] = (),
    ) -> list[str]:
        """`for i in range(low, high, step)`, with values carried from turn to turn.

        carried  (type, initial value) of each
        body     called once with the index and the carried names; returns the new values
        Returns the names of the carried values after the loop. A loop known to run exactly
        once is written without a branch.
        """
        if isinstance(low, int) and isinstance(high, int) and isinstance(step, int):
            if low >= high:
                return [value for _, value in carried]
            if low + step >= high:
                return list(body(low, [value for _, value in carried]) or ())
        before = self.block
        self._count += 1
        head, inside, after = (f"{word}{self._count}" for word in ("head", "body", "after"))
        index, following = self.name("i"), self.name("next")
        names = [self.name("c") for _ in carried]
        self.line(f"br label %{head}")
        self.start_block(head)
        phi_at = len(self.lines)
        self.lines.extend([""] * (1 + len(names)))
        more = self.compare("slt", index, high)
        self.line(f"br i1 {more}, label %{inside}, label %{after}")
        self.start_block(inside)
        results = body(index, names) or ()
        self.line(f"{following} = add nsw i64 {index}, {step}")
        self.lines[phi_at] = f"  {index} = phi i64 [{low}, %{before}], [{following}, %{self.block}]"
        for place, (name, (type_, initial), result) in enumerate(zip(names, carried, results)):
            self.lines[phi_at + 1 + place] = (
                f"  {name} = phi {type_} [{initial}, %{before}], [{result}, %{self.block}]"
            )
        self.line(f"br label %{head}")
        self.start_block(after)
        return names

    def when(
        self,
        condition: str | bool,
        then: Callable[[], None],
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        """`if condition: then() else: otherwise()`; a known condition leaves one side."""
        if isinstance(condition, bool):
            if condition:
                then()
            elif otherwise is not None:
                otherwise()
            return
        self._count += 1
        yes, no, after = (f"{word}{self._count}" for word in ("then", "else", "end"))
        self.line(f"br i1 {condition}, label %{yes}, label %{no if otherwise else after}")
        self.start_block(yes)
        then()
        self.line(f"br label %{after}")
        if otherwise is not None:
            self.start_block(no)
            otherwise()
            self.line(f"br label %{after}")
        self.start_block(after)

    def less(self, a: Index, b: Index) -> str | bool:
        """`a < b`, for `when`."""
        if isinstance(a, int) and isinstance(b, int):
            return a < b
        return self.compare("slt", a, b)

    def select(self, condition: str, a: Index, b: Index) -> str:
        return self.value(f"select i1 {condition}, i64 {a}, i64 {b}")
