"""Where the time of a compile goes: recording, each pass, fusion, loops, text, LLVM, loading."""

from __future__ import annotations

from dataclasses import dataclass

from .compiled import Compiled
from .explain import time_text

HEAD = ("step", "time", "a node", "what")


@dataclass(frozen=True, slots=True)
class Part:
    """A step of a compile: seconds, and what it made."""

    name: str
    seconds: float
    what: str = ""

    def row(self, nodes: int) -> list[str]:
        return [self.name, time_text(self.seconds), time_text(self.seconds / nodes), self.what]


def compile_time(compiled: Compiled, traced_s: float) -> tuple[list[Part], str]:
    """The steps in their order, and a note on what the disk knew already.

    The code is loaded where this machine runs the target's.
    """
    from graphc.backends.llvm.target import runs_here

    stats = compiled.stats
    parts = [Part("trace", traced_s, f"{len(compiled.source.nodes):,} nodes")]
    parts += [Part(ran.name, ran.ms / 1e3, f"{ran.after:,} nodes") for ran in compiled.passes]
    parts.append(Part("fuse", stats.fuse_ns / 1e9, f"{len(compiled.groups):,} groups"))
    parts.append(Part("lower", stats.lower_ns / 1e9, f"{stats.kernels:,} kernels"))
    parts.append(Part("emit", stats.emit_ns / 1e9, f"{stats.lines:,} lines of LLVM IR"))
    if not runs_here(compiled.target):
        return parts, f"no code for {compiled.target.name} runs here"
    assert compiled.executable is not None
    code = compiled.code_stats
    llvm = f"{code.lines:,} lines to {code.object_bytes:,} bytes"
    parts.append(Part("LLVM", code.compile_ns / 1e9, llvm))
    parts.append(Part("load", code.load_ns / 1e9, f"{code.loaded:,} objects"))
    known = code.cache_hits + code.compiled
    return parts, f"{code.cache_hits} of {known} objects were on the disk"
