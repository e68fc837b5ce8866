"""Elementary functions that the standard domain lacks, made of others, as accurate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .emitter import Emitter


def zero_for_nan(g: Emitter, name: str, x: str) -> str:
    """The ONNX op `name` of x, and 0 where x is nan."""
    made = g.op(name, [x])
    dtype = g.dtypes[x]
    if dtype.kind != "f":
        return made
    return g.op("Where", [g.op("IsNaN", [x]), g.scalar(0.0, dtype), made])


def trunc(g: Emitter, x: str) -> str:
    """Ceil below 0, Floor elsewhere: keeps the sign of zero."""
    below = g.op("Less", [x, g.scalar(0.0, g.dtypes[x])])
    return g.op("Where", [below, g.op("Ceil", [x]), g.op("Floor", [x])])


def log2(g: Emitter, x: str) -> str:
    return g.op("Div", [g.op("Log", [x]), g.scalar(math.log(2), g.dtypes[x])])


def log1p(g: Emitter, x: str) -> str:
    """Kahan's: with u = 1 + x rounded, log(u) * x / (u - 1) is log(1 + x) to a few ulp.

    Where u is 1 the result is x; where u is x (large, or inf) it is log(u).
    """
    one = g.scalar(1.0, g.dtypes[x])
    u = g.op("Add", [x, one])
    scaled = g.op("Div", [g.op("Mul", [g.op("Log", [u]), x]), g.op("Sub", [u, one])])
    large = g.op("Where", [g.op("Equal", [u, x]), g.op("Log", [u]), scaled])
    return g.op("Where", [g.op("Equal", [u, one]), x, large])


def expm1(g: Emitter, x: str) -> str:
    """Kahan's: with u = exp(x) rounded, (u - 1) * x / log(u) is exp(x) - 1 to a few ulp.

    Where u is 1 the result is x; where u - 1 is -1 or u (x far from 0) it is u - 1.
    """
    one = g.scalar(1.0, g.dtypes[x])
    u = g.op("Exp", [x])
    less = g.op("Sub", [u, one])
    scaled = g.op("Div", [g.op("Mul", [less, x]), g.op("Log", [u])])
    minus = g.op("Neg", [one])
    far = g.op("Or", [g.op("Equal", [less, minus]), g.op("Equal", [less, u])])
    return g.op("Where", [g.op("Equal", [u, one]), x, g.op("Where", [far, less, scaled])])
