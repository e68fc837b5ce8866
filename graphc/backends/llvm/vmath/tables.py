"""Tables that fit into one register of AVX-512."""

from __future__ import annotations

from collections.abc import Sequence

from .emitter import VectorEmitter, literal
from .lanes import Lanes


def from_table(e: VectorEmitter, table: Sequence[float], index: Lanes) -> Lanes:
    """The entry of a table of sixteen f32 that the low four bits of `index` choose."""
    entries = "<" + ", ".join(f"float {literal(entry, 'f32')}" for entry in table) + ">"

    def permute(e: VectorEmitter, index: Lanes) -> Lanes:
        name = "llvm.x86.avx512.permvar.sf.512"
        return e.call(name, [Lanes(e, entries, "f32"), index], "f32")

    return e.pieces(16, permute, index)
