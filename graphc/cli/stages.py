"""A program at each stage of the pipeline, as text and as a picture.

tensor   the graph as it was traced, loaded or written
core     composites expanded, rules applied, cleaned, long loops rolled into scans
fused    kernels: which nodes share one, and what was refused
loop     each kernel as loops over buffers
llvm     the IR text that LLVM compiles
asm      machine code, as assembly
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import Misuse

if TYPE_CHECKING:
    from graphc.ir.graph import Graph

    from .program import Program

STAGES = ("tensor", "core", "fused", "loop", "llvm", "asm")
#: Stages that are graphs and can be drawn; the others are text.
DRAWN = ("tensor", "core", "fused")


class Stages:
    """Computes each stage of a program when it is first wanted."""

    def __init__(self, program: Program, target: str | None = None) -> None:
        self.program, self.target = program, target
        self._compiled: Any = None

    @property
    def core(self) -> Graph:
        from graphc.backends.base import core_graph

        program = self.program
        return core_graph(program.graph, dims=program.module.dims, verify="structure")

    @property
    def compiled(self) -> Any:
        """The compiled graph, a `debug.compiled.Compiled`."""
        if self._compiled is None:
            from graphc.debug.compiled import compile_for_view

            self._compiled = compile_for_view(
                self.program.graph,
                target=check_target(self.target),
                name=self.program.name,
                dims=self.program.module.dims,
                weights=self.program.weights,
            )
        return self._compiled

    def text(self, stage: str) -> str:
        """The stage as text; the tensor and core stages parse as .gir."""
        from graphc.ir.text import print_graph

        if stage == "tensor":
            return print_graph(self.program.graph, "main")
        if stage == "core":
            return print_graph(self.core, "main")
        if stage == "fused":
            return self.fused_text()
        if stage == "loop":
            return self.loop_text()
        if stage == "llvm":
            return self.compiled.text
        from graphc.backends.llvm.jit import assembly
        from graphc.backends.llvm.target import get_target

        return assembly(self.compiled.text, get_target(check_target(self.target)))

    def fused_text(self) -> str:
        """Each kernel with its nodes, what it reads and writes; then the refused edges."""
        from graphc.debug.picture import Names, node_text

        compiled = self.compiled
        names = Names(compiled.graph)
        lines = []
        for group in compiled.groups:
            reads = ", ".join(["%" + names[value] for value in group.reads])
            writes = ", ".join(["%" + names[value] for value in group.writes])
            lines.append(f"kernel {group.name} {group.kind} ({reads}) -> ({writes}) {{")
            for node in group.nodes:
                loc = f"  # {node.loc}" if node.loc else ""
                lines.append(f"  {node_text(node, names)}{loc}")
            lines.append("}")
        if compiled.refusals:
            lines.append("not fused:")
            lines += [f"  {refusal}" for refusal in compiled.refusals]
        return "\n".join(lines)

    def loop_text(self) -> str:
        from graphc.passes.loop.text import show_kernel

        parts = []
        for kernel in self.compiled.kernels:
            if kernel.loops is not None:
                parts.append(show_kernel(kernel.loops))
                continue
            lines = kernel.text.count("\n")
            parts.append(
                f"kernel {kernel.name} {kernel.kind}: {lines} lines of LLVM IR, no loop level"
            )
        return "\n\n".join(parts)

    def picture(self, stage: str, fold: bool = True) -> tuple[Any, str]:
        """The stage's picture, and a note of its size."""
        from graphc.debug.compiled import kernels_picture
        from graphc.debug.picture import graph_picture

        program = self.program
        if stage not in DRAWN:
            raise Misuse(
                f"the stage {stage} is text; it cannot be drawn",
                hint=f"Stages that can be drawn: {', '.join(DRAWN)}.",
            )
        title = f"{program.name}: {stage}"
        if stage == "fused":
            compiled = self.compiled
            count = sum([len(group.nodes) for group in compiled.groups])
            note = f"{plural(compiled.count, 'kernel')} of {plural(count, 'node')}"
            return kernels_picture(compiled, title, program.weight_names, fold), note
        graph = program.graph if stage == "tensor" else self.core
        note = plural(len(graph.nodes), "node")
        return graph_picture(graph, title, program.weight_names, fold), note


def plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def check_target(name: str | None) -> str | None:
    """The name of a CPU target; Misuse where there is none of that name."""
    from graphc.backends.llvm.target import TARGETS

    if name is not None and name != "host" and name not in TARGETS:
        raise Misuse(f"no target {name!r}", hint=f"There are host, {', '.join(TARGETS)}.")
    return name
