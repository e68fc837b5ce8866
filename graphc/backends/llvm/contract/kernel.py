"""What emission hands over: the functions of a kernel, and what a caller must know of it."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from graphc.backends.llvm.contract.emitter import Emitter, Index


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's text and its calling convention.

        void @name(ptr operands..., ptr scratch, i64 lo, i64 hi, i64 sizes...)

    It does units [lo, hi) of `units` on the calling thread. How the units are split never
    changes a bit of the result: a unit owns its outputs, and sums are never cut between units.

    name           of the entry; a digest of the text, so equal kernels have equal names
    functions      (name, text) of every function and table, the entry last. All but the entry are
                   internal and named by their content: one module may hold many kernels
                   if it takes each name once
    declares       declarations of the intrinsics
    operands       what the pointers are, in order
    sizes          names of the symbolic sizes, in order of the i64 arguments
    units          how many units there are; with symbolic sizes a name in `functions`,
                   of a function `i64 @units(i64 sizes...)`
    scratch_bytes  workspace of one thread, aligned to 64 bytes
    over           operands, results all, that may be the memory of an operand which the epilogue
                   reads at the same position only: each element is stored once, after that
    """

    name: str
    functions: tuple[tuple[str, str], ...]
    declares: tuple[str, ...]
    operands: tuple[str, ...]
    sizes: tuple[str, ...]
    units: int | str
    scratch_bytes: int
    over: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All functions."""
        return "\n".join(text for _, text in self.functions)

    @property
    def module(self) -> str:
        """A module of this kernel alone, without target lines."""
        return "\n".join(self.declares) + "\n\n" + self.text


class KernelBuilder:
    """Collects the functions of one kernel, each named by a digest of its text."""

    def __init__(self) -> None:
        self._functions: dict[str, str] = {}
        self._declares: set[str] = set()

    def define(self, stem: str, emitter: Emitter) -> str:
        """Add a function; its name. Equal texts are one function."""
        digest = hashlib.sha256(emitter.text("_").encode()).hexdigest()[:16]
        name = f"{stem}_{digest}"
        for helper, text in emitter.helpers.items():
            self._functions.setdefault(helper, text)
        self._functions.setdefault(name, emitter.text(name))
        self._declares |= emitter.declares
        return name

    def table(self, values: Sequence[int]) -> str:
        """A constant array of i64, with its "@"."""
        items = ", ".join(f"i64 {value}" for value in values)
        body = f"private unnamed_addr constant [{len(values)} x i64] [{items}]"
        name = f"table_{hashlib.sha256(body.encode()).hexdigest()[:16]}"
        self._functions.setdefault(name, f"@{name} = {body}\n")
        return f"@{name}"

    def finish(
        self,
        stem: str,
        entry: Emitter,
        *,
        operands: Sequence[str],
        sizes: Sequence[str],
        units: int | str,
        scratch_bytes: int,
        over: tuple[str, ...] = (),
    ) -> Kernel:
        """The kernel whose entry is the given function."""
        name = self.define(stem, entry)
        return Kernel(
            name,
            tuple(self._functions.items()),
            tuple(sorted(self._declares)),
            tuple(operands),
            tuple(sizes),
            units,
            scratch_bytes,
            over,
        )


def entry_emitter(
    operands: Sequence[str], sizes: Sequence[str], shared: Collection[str] = ()
) -> Emitter:
    """The emitter of a kernel's entry; pointers that are `shared` may be equal.

    An entry is loops around calls, which all the time is spent in. It is exempt from
    optimisation: that doubles the time to compile it and changes nothing to speak of.
    """
    return Emitter(
        parameters((*operands, "scratch"), shared)
        + [f"i64 %{name}" for name in ("lo", "hi", *sizes)],
        attributes="nounwind noinline optnone",
    )


def parameters(names: Sequence[str], shared: Collection[str]) -> list[str]:
    """Pointers as the parameters of a function; those that are `shared` may be equal."""
    return [f"{'ptr' if name in shared else 'ptr noalias'} %{name}" for name in names]


class Subroutine:
    """An internal function whose arguments are pointers and indices.

    An index that the builder knows when it writes the callee is folded into it and is not
    passed. `values` holds every index as the callee sees it.

    shared  pointers that may be to the same memory
    plain   loops around calls, as an entry is: exempt from optimisation
    """

    def __init__(
        self,
        pointers: Sequence[str],
        indices: Mapping[str, int | None],
        shared: Collection[str] = (),
        *,
        plain: bool = False,
    ) -> None:
        self.pointers = tuple(pointers)
        self.passed = tuple(name for name, known in indices.items() if known is None)
        self.values: dict[str, Index] = {
            name: f"%{name}" if known is None else known for name, known in indices.items()
        }
        self.emitter = Emitter(
            parameters(self.pointers, shared) + [f"i64 %{name}" for name in self.passed],
            attributes="nounwind noinline optnone" if plain else "nounwind noinline",
            linkage="internal",
        )
        self.function = ""

    def define(self, builder: KernelBuilder, stem: str) -> None:
        self.function = builder.define(stem, self.emitter)

    def call(self, caller: Emitter, pointers: Sequence[str], indices: Mapping[str, Index]) -> None:
        """A call; `indices` may hold more than is passed."""
        operands = [("ptr", pointer) for pointer in pointers]
        operands += [("i64", indices[name]) for name in self.passed]
        caller.call("void", self.function, *operands)
