"""Which element type an expansion computes in.

f32 formulas that reach 2 ulp need a fused multiply-add. A target without one computes them in
f64, where plain products suffice; so do ops too rare to deserve an f32 formula of their own.
"""

from __future__ import annotations

from functools import wraps

from .emitter import Expansion, VectorEmitter
from .lanes import Lanes


def in_f64(expand: Expansion) -> Expansion:
    """The expansion, given for f64 alone, for f32 too: its result is rounded once."""

    @wraps(expand)
    def widened(e: VectorEmitter, *args: Lanes) -> Lanes:
        if args[0].type != "f32":
            return expand(e, *args)
        return expand(e, *[arg.to("f64") for arg in args]).to("f32")

    return widened


def in_f64_without_fma(expand: Expansion) -> Expansion:
    """The expansion, given for f64 and for f32 with multiply-add, for every target."""
    widened = in_f64(expand)

    @wraps(expand)
    def chosen(e: VectorEmitter, *args: Lanes) -> Lanes:
        return expand(e, *args) if e.target.has_fma else widened(e, *args)

    return chosen
