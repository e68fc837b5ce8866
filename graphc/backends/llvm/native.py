"""Ops that have kernels of their own: a registry that maps an op to the builder of its kernel.

    @native_kernel("sort")
    def build(node, target): return NativeCall(kernel, buffers, sizes, work)

`kernel` follows the convention of all kernels (see `contract.kernel.Kernel`), `buffers` are the
values whose memory its pointers are, in order, `sizes` its symbolic sizes. What a builder reads
must be in memory: by default the node's inputs, seen through reshapes; `operands` may name others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.backends.llvm.contract.kernel import Kernel
from graphc.backends.llvm.emit.printer import Buffer
from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim
from graphc.ir.graph import Node, Value
from graphc.passes.fuse.epilogue import Frame
from graphc.passes.fuse.plan import base_of
from graphc.passes.fuse.prologue import Use


@dataclass(frozen=True, slots=True)
class NativeCall:
    """A kernel, its buffers and sizes; work is an estimate in nanoseconds.

    points and point_ns say the same where sizes are symbolic.
    units and scratch (bytes of one thread) are given where they are symbolic sizes that the
    kernel itself does not tell.
    before: a call that prepares its last buffer for this one, where each thread would have to.
    schedules: what autotuning may choose instead.
    """

    kernel: Kernel
    buffers: Sequence[Buffer]
    sizes: Sequence[AnyDim] = ()
    work: float = 10_000.0
    units: AnyDim | None = None
    scratch: AnyDim | None = None
    points: AnyDim = 0
    point_ns: float = 0.0
    before: NativeCall | None = None
    schedules: Schedules | None = None


@dataclass(frozen=True, slots=True)
class Schedules:
    """What autotuning chooses among.

    records: gives schedules, which are dataclasses, the default first; results have the same bits.
    build: the call of the same node by the kernel of one of them.
    """

    records: Callable[[], Sequence[Any]]
    build: Callable[[Any], NativeCall]


Build = Callable[..., NativeCall]
Operands = Callable[[Node], Iterable[Value]]
FrameOf = Callable[[Node], "Frame | None"]
Fits = Callable[[Node, Target], bool]
UsesOf = Callable[[Node, Target], "Sequence[Use]"]

#: Composites of programs that stay one node where a kernel serves them; the others with kernels are
#: made by passes.
ALWAYS = frozenset(["attention", "attention_grad"])

NATIVE_KERNELS: dict[str, Build] = {}
_OPERANDS: dict[str, Operands] = {}
_FRAMES: dict[str, FrameOf] = {}
_FITS: dict[str, Fits] = {}
_USES: dict[str, UsesOf] = {}


def native_kernel(
    name: str,
    operands: Operands | None = None,
    frame: FrameOf | None = None,
    fits: Fits | None = None,
    uses: UsesOf | None = None,
) -> Callable[[Build], Build]:
    """Registers the builder of an op's kernel.

    frame: how the result lies in memory, for kernels that take an epilogue: the builder is then
    called with (node, target, epilogue or None). fits: of a composite, whether the kernel serves a
    node; else it is expanded. uses: how it reads its operands, for kernels that compute what they
    read: the builder is then called with (node, target, epilogue or None, prologues).
    """

    def register(build: Build) -> Build:
        NATIVE_KERNELS[name] = build
        if operands is not None:
            _OPERANDS[name] = operands
        if frame is not None:
            _FRAMES[name] = frame
        if fits is not None:
            _FITS[name] = fits
        if uses is not None:
            _USES[name] = uses
        return build

    return register


def claims(node: Node, target: Target) -> bool:
    """Whether a kernel serves a composite as it is."""
    fits = _FITS.get(node.op.name)
    return fits is not None and fits(node, target)


def native_frame(node: Node) -> Frame | None:
    """How the node's result lies in memory, if its kernel takes an epilogue."""
    found = _FRAMES.get(node.op.name)
    return found(node) if found else None


def native_uses(node: Node, target: Target) -> Sequence[Use]:
    """How the node's kernel reads its operands: all in place, unless it says otherwise."""
    found = _USES.get(node.op.name)
    if found is not None:
        return found(node, target)
    return [Use(value, None) for value in native_operands(node)]


def native_operands(node: Node) -> list[Value]:
    """The values that a node with a kernel of its own needs in memory."""
    chosen = _OPERANDS.get(node.op.name)
    return list(chosen(node)) if chosen else [base_of(value) for value in node.inputs]
