"""floor, ceil, trunc and round (halves to even), with additions where no instruction does it."""

from __future__ import annotations

from .emitter import VectorEmitter, vector_op
from .lanes import Lanes
from .scaling import FORMATS


@vector_op("round")
def round_even(e: VectorEmitter, x: Lanes) -> Lanes:
    if e.target.has_rounding:
        return x._intrinsic("roundeven")
    unit = 2.0 ** FORMATS[x.type].fraction_bits  # from here on all floats are integral
    magnitude = x.abs()
    rounded = (magnitude + unit) - unit
    return magnitude.lt(unit).select(rounded, magnitude).copysign(x)


@vector_op("floor")
def floor(e: VectorEmitter, x: Lanes) -> Lanes:
    if e.target.has_rounding:
        return x._intrinsic("floor")
    nearest = round_even(e, x)
    return nearest.gt(x).select(nearest - 1.0, nearest)


@vector_op("ceil")
def ceil(e: VectorEmitter, x: Lanes) -> Lanes:
    if e.target.has_rounding:
        return x._intrinsic("ceil")
    nearest = round_even(e, x)
    return nearest.lt(x).select(nearest + 1.0, nearest).copysign(x)  # -0.7 becomes -0.0


@vector_op("trunc")
def trunc(e: VectorEmitter, x: Lanes) -> Lanes:
    if e.target.has_rounding:
        return x._intrinsic("trunc")
    return floor(e, x.abs()).copysign(x)
