"""`Printer`: the text of one kernel while it is printed, loop by loop.

Each open loop is a `Scope` with lines and a cache of its own. A value is printed into the scope of
the innermost loop that it depends on, and a closed loop is appended to its parent; so what a loop
does not change stands before it, without any pass that moves code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from graphc.backends.llvm.target import Target
from graphc.backends.llvm.vmath.emitter import Vec, VectorEmitter, memory_element
from graphc.backends.llvm.vmath.lanes import LLVM_TYPES
from graphc.ir.dims import AnyDim, Dim
from graphc.ir.dtype import DType
from graphc.ir.graph import Value
from graphc.passes.fuse.affine import Affine, Variable
from graphc.passes.fuse.expr import Expr
from graphc.passes.fuse.sizes import Sizes
from graphc.passes.loop.ir import Accumulator, At, Bound, Kernel, Least, Partial, Sum, ToLine

from .sizes import RUN_TIME_BOUNDS, RunTimeBound, extreme, is_number, run_time_bound

Range = tuple[AnyDim, AnyDim]
Buffer = Value | Partial
#: One register of an accumulator: its name, and the name of the positions for arg reductions.
Register = tuple[str, ...]


@dataclass(slots=True)
class Scope:
    """An open loop: what was printed into it, and the values that are known there."""

    label: str
    lines: list[str] = field(default_factory=list)
    cache: dict = field(default_factory=dict)
    counter: str = ""
    header: str = ""
    start: str = ""
    exit: str = ""
    limits: tuple[str, str, str] = ("0", "0", "1")
    carried: list[tuple[str, str]] = field(default_factory=list)  # type and first value
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Binding:
    """A loop variable: its name in the text, the depth of its scope, its declared range."""

    name: str
    depth: int
    range: Range


class Printer:
    """State of the text of one kernel.

    mask: the lanes that are active, or None for all. active: the vectors of the present step that
    statements handle. results: reduced values, one register a vector (or one for all).
    """

    def __init__(self, kernel: Kernel, target: Target, sizes: Sizes) -> None:
        self.kernel, self.target, self.sizes = kernel, target, sizes
        self.width = target.lanes(32)
        self.vec = VectorEmitter(target, self.width, "%v")
        self.prelude: list[str] = []
        self.scopes = [Scope("entry")]
        self.vec.lines = self.scopes[0].lines
        self.env: dict[Variable, Binding] = {}
        self.buffers: dict[Buffer, str] = {}
        self.symbols: dict[str, None] = {}
        self.mask: str | None = None
        self.active: list[int] = [0]
        self.wide = False
        self.stage = 0
        self.registers: dict[Accumulator, list[Register]] = {}
        self.results: dict[Value, list[Vec]] = {}
        self.result_depth: dict[Value, int] = {}
        self.tiles: dict[Expr, tuple[list[str], Variable, Variable]] = {}
        self.row_tiles: dict[Expr, tuple[str, Affine]] = {}
        self.streams = False  # whether stores bypass the caches somewhere
        self._forms: dict[Affine, Affine] = {}
        self._prelude_cache: dict = {}

    # --- lines ---------------------------------------------------------------------------------

    def let(self, text: str) -> str:
        """A new name for the value of an instruction."""
        vec = self.vec
        vec._count += 1
        name = f"{vec.prefix}{vec._count}"
        vec.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.vec.lines.append("  " + text)

    def first(self, text: str) -> str:
        """A new name for a value computed once, at the entry of the kernel."""
        name = self.vec.fresh()
        self.prelude.append(f"  {name} = {text}")
        return name

    def declare(self, text: str) -> None:
        self.vec.declarations.add("declare " + text)

    @contextmanager
    def at(self, depth: int) -> Iterator[None]:
        """Prints into the scope of that depth."""
        vec = self.vec
        outer, vec.lines = vec.lines, self.scopes[depth].lines
        try:
            yield
        finally:
            vec.lines = outer

    @property
    def depth(self) -> int:
        return len(self.scopes) - 1

    def buffer(self, buffer: Buffer) -> str:
        """The name of a buffer's pointer."""
        found = self.buffers.get(buffer)
        if found is None:
            found = self.buffers[buffer] = f"%P{len(self.buffers)}"
        return found

    # --- i64 scalars: numbers are text too -----------------------------------------------------

    def add(self, a: str, b: str) -> str:
        if a == "0":
            return b
        if b == "0":
            return a
        if is_number(a) and is_number(b):
            return str(int(a) + int(b))
        return self.let(f"add nsw i64 {a}, {b}")

    def sub(self, a: str, b: str) -> str:
        if b == "0":
            return a
        if is_number(a) and is_number(b):
            return str(int(a) - int(b))
        return self.let(f"sub nsw i64 {a}, {b}")

    def mul(self, a: str, b: str) -> str:
        if b == "1":
            return a
        if a == "1":
            return b
        if is_number(a) and is_number(b):
            return str(int(a) * int(b))
        return self.let(f"mul nsw i64 {a}, {b}")

    def least(self, a: str, b: str) -> str:
        return extreme(self, "smin", a, b)

    def greatest(self, a: str, b: str) -> str:
        return extreme(self, "smax", a, b)

    def element(self, pointer: str, offset: str, kind: str) -> str:
        """The address of an element."""
        if offset == "0":
            return pointer
        return self.let(f"getelementptr inbounds {kind}, ptr {pointer}, i64 {offset}")

    # --- sizes ---------------------------------------------------------------------------------

    def size(self, size: AnyDim) -> str:
        """A size as an i64; symbolic ones are computed once, at the entry."""
        if size.__class__ is int:
            return str(size)
        found = self._prelude_cache.get(size)
        if found is None:
            assert isinstance(size, Dim)
            with self._in_prelude():
                found = self._polynomial(size)
            self._prelude_cache[size] = found
        return found

    @contextmanager
    def _in_prelude(self) -> Iterator[None]:
        vec = self.vec
        outer, vec.lines = vec.lines, self.prelude
        try:
            yield
        finally:
            vec.lines = outer

    def _polynomial(self, size: Dim) -> str:
        total = "0"
        for monomial, factor in sorted(size.terms, key=lambda t: (len(t[0]), t[0])):
            term = "1"
            for name in monomial:
                term = self._product(term, self._symbol(name))
            total = self.add(total, self._product(term, str(factor)))
        return total

    def _product(self, a: str, b: str) -> str:
        key = ("*", a, b)
        found = self._prelude_cache.get(key)
        if found is None:
            found = self._prelude_cache[key] = self.mul(a, b)
        return found

    def _symbol(self, name: str) -> str:
        self.symbols[name] = None
        return f"%s_{name}"

    def size_vector(self, size: AnyDim, dtype: DType) -> str:
        """A vector of a size, in a register of that element type."""
        if size.__class__ is int:
            return self.vec.const(size, dtype).name  # type: ignore[arg-type]
        key = (size, dtype)
        found = self._prelude_cache.get(key)
        if found is None:
            scalar = self.size(size)
            with self._in_prelude():
                kind = LLVM_TYPES[dtype.name]
                if dtype.kind == "f":
                    scalar = self.let(f"sitofp i64 {scalar} to {kind}")
                elif kind != "i64":
                    scalar = self.let(f"trunc i64 {scalar} to {kind}")
                found = self.vec.splat(scalar, dtype).name
            self._prelude_cache[key] = found
        return found

    def steps(self, stride: AnyDim, dtype: DType) -> str:
        """The vector 0, stride, 2 * stride, ... of integers."""
        kind = LLVM_TYPES[dtype.name]
        if isinstance(stride, int):
            return vector_of([f"{kind} {stride * j}" for j in range(self.width)])
        key = ("steps", stride, kind)
        found = self._prelude_cache.get(key)
        if found is None:
            splat = self.size_vector(stride, dtype)
            line = self.steps(1, dtype)
            with self._in_prelude():
                found = self.let(f"mul <{self.width} x {kind}> {splat}, {line}")
            self._prelude_cache[key] = found
        return found

    def bound(self, bound: Bound) -> str:
        """A loop's bound or step as an i64."""
        if isinstance(bound, At):
            return self.env[bound.variable].name
        if isinstance(bound, Sum):
            return self.add(self.bound(bound.left), self.bound(bound.right))
        if isinstance(bound, Least):
            return self.least(self.bound(bound.left), self.bound(bound.right))
        if isinstance(bound, ToLine):
            behind = self.sub("0", self.scalar(bound.place))
            return self.let(f"and i64 {behind}, {bound.line - 1}")
        if isinstance(bound, RUN_TIME_BOUNDS):
            return self._run_time_bound(bound)
        return self.size(bound)

    def _run_time_bound(self, bound: RunTimeBound) -> str:
        found = self._prelude_cache.get(bound)
        if found is None:
            with self._in_prelude():
                found = run_time_bound(self, bound)
            self._prelude_cache[bound] = found
        return found

    # --- forms ---------------------------------------------------------------------------------

    def form(self, form: Affine) -> Affine:
        """The form in the variables that have loops: merged ones are part of another."""
        dropped = self.kernel.dropped
        if not dropped:
            return form
        found = self._forms.get(form)
        if found is None:
            terms = tuple([term for term in form.terms if term[0] not in dropped])
            found = self._forms[form] = Affine(form.const, terms)
        return found

    def ranges(self) -> dict[Variable, Range]:
        return {variable: binding.range for variable, binding in self.env.items()}

    def scalar(self, form: Affine) -> str:
        """The form's value at the first lane of the present step."""
        form = self.form(form)
        total = self.size(form.const)
        for variable, k in form.terms:
            total = self.add(total, self.mul(self.env[variable].name, self.size(k)))
        return total

    # --- loops ---------------------------------------------------------------------------------

    def open(
        self,
        variable: Variable,
        limits: tuple[str, str, str],
        declared: Range,
        carried: list[tuple[str, str]],
    ) -> list[str]:
        """Opens a loop (low, high, step); the names of the carried values inside."""
        fresh = self.vec.fresh
        number = fresh()[2:]
        scope = Scope(f"body{number}", limits=limits, carried=carried)
        scope.header, scope.start, scope.exit = f"head{number}", scope.label, f"exit{number}"
        scope.counter = f"%i{number}"
        scope.names = [fresh() for _ in carried]
        self.scopes.append(scope)
        self.vec.lines = scope.lines
        self.env[variable] = Binding(scope.counter, self.depth, declared)
        return scope.names

    def close(self, values: list[str]) -> list[str]:
        """Closes the innermost loop; the names of the carried values after it."""
        scope = self.scopes.pop()
        parent = self.scopes[-1]
        low, high, step = scope.limits
        following, more = self.vec.fresh(), self.vec.fresh()
        lines = parent.lines
        lines.append(f"  br label %{scope.header}")
        lines.append(f"{scope.header}:")
        came = (parent.label, scope.label)
        lines.append(f"  {scope.counter} = phi i64 [{low}, %{came[0]}], [{following}, %{came[1]}]")
        for name, (kind, start), value in zip(scope.names, scope.carried, values):
            lines.append(f"  {name} = phi {kind} [{start}, %{came[0]}], [{value}, %{came[1]}]")
        lines.append(f"  {more} = icmp slt i64 {scope.counter}, {high}")
        lines.append(f"  br i1 {more}, label %{scope.start}, label %{scope.exit}")
        lines.append(f"{scope.start}:")
        lines += scope.lines
        lines.append(f"  {following} = add nsw i64 {scope.counter}, {step}")
        lines.append(f"  br label %{scope.header}")
        lines.append(f"{scope.exit}:")
        parent.label = scope.exit
        self.vec.lines = lines
        return scope.names

    def either(self, condition: str, then: list[str], other: list[str]) -> None:
        """Instructions without results, by a condition."""
        number = self.vec.fresh()[2:]
        self.do(f"br i1 {condition}, label %then{number}, label %other{number}")
        for name, lines in (("then", then), ("other", other)):
            self.vec.lines.append(f"{name}{number}:")
            for line in lines:
                self.do(line)
            self.do(f"br label %after{number}")
        self.vec.lines.append(f"after{number}:")
        self.scopes[-1].label = f"after{number}"

    # --- vectors -------------------------------------------------------------------------------

    def kind(self, dtype: DType) -> str:
        """The LLVM type of a register of that element type."""
        return self.vec.register_type(dtype)

    @property
    def mask_kind(self) -> str:
        return f"<{self.width} x i1>"

    def splat_mask(self, condition: str) -> str:
        """All lanes active where the scalar condition holds, else none."""
        return self.let(
            f"select i1 {condition}, {self.mask_kind} splat (i1 true), "
            f"{self.mask_kind} zeroinitializer"
        )

    def both(self, a: str | None, b: str | None) -> str | None:
        """The lanes that are in both masks."""
        if a is None or b is None:
            return a if b is None else b
        return self.let(f"and {self.mask_kind} {a}, {b}")

    def shuffle(self, kind: str, a: str, b: str, lanes: list[int]) -> str:
        chosen = vector_of([f"i32 {lane}" for lane in lanes])
        return self.let(f"shufflevector {kind} {a}, {kind} {b}, <{len(lanes)} x i32> {chosen}")

    def slot(self, kind: str, count: int) -> str:
        """Memory of this call, on the stack."""
        name = self.vec.fresh()
        self.prelude.append(f"  {name} = alloca {kind}, i64 {count}, align 64")
        return name


def vector_of(elements: list[str]) -> str:
    return "<" + ", ".join(elements) + ">"


def dtype_of(buffer: Buffer) -> DType:
    return buffer.dtype if isinstance(buffer, Partial) else buffer.type.dtype


__all__ = ["Binding", "Printer", "Scope", "memory_element"]
