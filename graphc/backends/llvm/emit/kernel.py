"""A kernel of the loop level as functions of LLVM text, in the convention of all kernels.

    void @name(ptr buffers..., ptr scratch, i64 lo, i64 hi, i64 sizes...)

does units [lo, hi) of the parallel loop. Equal texts have equal names, so equal layers share code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from graphc.backends.llvm.target import Target
from graphc.ir.dims import AnyDim
from graphc.passes.fuse.sizes import Sizes
from graphc.passes.loop.ir import Bound, Kernel

from .printer import Buffer, Printer
from .statements import block


@dataclass(frozen=True, slots=True)
class KernelText:
    """The text of a kernel and what a caller has to pass.

    functions: (name, text), the entry last; buffers and symbols in the order of the arguments.
    """

    name: str
    functions: tuple[tuple[str, str], ...]
    declares: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    symbols: tuple[str, ...]
    units: AnyDim
    unit: Bound
    scratch: AnyDim

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.functions)


def print_kernel(kernel: Kernel, target: Target, sizes: Sizes) -> KernelText:
    """The kernel's functions for a target."""
    p = Printer(kernel, target, sizes)
    block(p, kernel.body)
    p.size(kernel.scratch)  # its symbols are arguments too
    if p.streams:  # others may read what was written only after that
        p.declare("void @llvm.x86.sse.sfence()")
        p.do("call void @llvm.x86.sse.sfence()")
    shared = {buffer for pair in kernel.over for buffer in pair}
    arguments = [
        f"ptr {name}" if buffer in shared else f"ptr noalias {name}"
        for buffer, name in p.buffers.items()
    ]
    arguments += ["ptr noalias %S", "i64 %lo", "i64 %hi"]
    arguments += [f"i64 %s_{name}" for name in p.symbols]
    lines = [*p.prelude, *p.scopes[0].lines, "  ret void"]
    body = "\n".join(lines)
    head = f"({', '.join(arguments)}) nounwind {{\nentry:\n"
    digest = hashlib.blake2b((head + body).encode(), digest_size=8).hexdigest()
    name = f"{kernel.kind}_{digest}"
    entry = f"define void @{name}{head}{body}\n}}\n"
    return KernelText(
        name,
        (*p.vec.helpers.items(), (name, entry)),
        tuple(sorted(p.vec.declarations)),
        tuple(p.buffers),
        tuple(p.symbols),
        kernel.units,
        kernel.unit,
        kernel.scratch,
    )
