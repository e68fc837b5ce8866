"""Element by element: arithmetic, comparisons, logic, and the functions of one operand."""

from __future__ import annotations

import math
from typing import Any

from ..frontends.function import Function, function
from ..frontends.record import Number
from ..ir import composite, ops
from ..ir.dtype import BOOL, F64, DType
from ..ir.graph import Value
from ..ir.op import OPS, Op, Pointwise
from ..ir.schema import Float
from .promote import (
    floating,
    floating_type,
    is_number,
    operands,
    result_type,
    to_dtype,
)


def _unary(op: Op, name: str) -> Function:
    takes_only_floats = op.operands[0][1].letters.strip("c") == Float.letters

    def body(input: Value) -> Value:
        return op(floating(input) if takes_only_floats else input)

    body.__name__ = body.__qualname__ = name
    body.__doc__ = op.doc
    return function(body)


assert composite is not None  # declares activations
for _op in list(OPS.values()):
    if _op.torch is not None and len(_op.operands) == 1 and not _op.attributes:
        for _name in _op.torch.names:
            globals()[_name] = _unary(_op, _name)


@function
def abs(input):
    """|x|; of a complex number its magnitude, a real number."""
    if input.type.dtype.kind != "c":
        return ops.abs_(input)
    a, b = ops.real(input), ops.imag(input)
    square = _sum_of_squares(a, b)
    zero = ops.full_like(0.0, square)
    is_zero = ops.eq(square, zero)  # has no derivative there: 0, as torch gives
    root = ops.sqrt(ops.select(is_zero, ops.full_like(1.0, square), square))
    return _length(a, b, ops.select(is_zero, zero, root))


def _sum_of_squares(a: Value, b: Value) -> Value:
    """In f64, where squares of f32 neither overflow nor vanish."""
    a, b = ops.cast(a, dtype=F64), ops.cast(b, dtype=F64)
    return ops.add(ops.mul(a, a), ops.mul(b, b))


def _length(a: Value, b: Value, root: Value) -> Value:
    """The root in the type of a and b; infinite where one of them is, even beside a nan."""
    inf = ops.full_like(float("inf"), a)
    infinite = ops.or_(ops.eq(ops.abs_(a), inf), ops.eq(ops.abs_(b), inf))
    return ops.select(infinite, inf, ops.cast(root, dtype=a.type.dtype))


absolute = abs


def _scaled(x: Any, alpha: Any, dtype: DType) -> Any:
    """alpha * x in the element type of the result."""
    if not isinstance(alpha, Number) and alpha == 1:
        return x
    if not isinstance(x, Value) and not isinstance(alpha, Number) and not isinstance(x, Number):
        return x * alpha
    return ops.mul(*operands(x, alpha, dtype=dtype))


@function(ints=True)
def add(input, other, *, alpha=1):
    """input + alpha * other."""
    dtype = result_type(input, other)
    if dtype is BOOL:
        return ops.or_(*operands(input, other))
    return ops.add(*operands(input, _scaled(other, alpha, dtype), dtype=dtype))


def _no_masks(*terms: Any) -> None:
    if any([x.type.dtype is BOOL if isinstance(x, Value) else isinstance(x, bool) for x in terms]):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying "
            "to invert a mask, use the `~` or `logical_not()` operator instead."
        )


@function(ints=True)
def sub(input, other, *, alpha=1):
    """input - alpha * other."""
    dtype = result_type(input, other)
    if dtype is BOOL:
        raise RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. "
            "Use the `^` or `logical_xor()` operator instead."
        )
    _no_masks(input, other)
    return ops.sub(*operands(input, _scaled(other, alpha, dtype), dtype=dtype))


@function(ints=True)
def rsub(input, other, *, alpha=1):
    """other - alpha * input."""
    dtype = result_type(input, other)
    _no_masks(input, other)
    return ops.sub(*operands(other, _scaled(input, alpha, dtype), dtype=dtype))


@function(ints=True)
def mul(input, other):
    """input * other."""
    dtype = result_type(input, other)
    if dtype is BOOL:
        return ops.and_(*operands(input, other))
    return ops.mul(*operands(input, other, dtype=dtype))


@function(ints=True)
def div(input, other, *, rounding_mode=None):
    """input / other; rounding_mode "trunc" rounds towards 0, "floor" down."""
    dtype = result_type(input, other)
    if rounding_mode is None:
        return ops.div(*operands(input, other, dtype=floating_type(dtype)))
    if rounding_mode == "floor":
        return _floor_divide(input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(
            "div expected rounding_mode to be one of None, 'trunc', or 'floor' "
            f"but found '{rounding_mode}'"
        )
    x, y = operands(input, other, dtype=dtype)
    return ops.quo(x, y) if dtype.is_integer else ops.trunc(ops.div(x, y))


def _floor_divide(input: Any, other: Any) -> Value:
    dtype = result_type(input, other)
    x, y = operands(input, other, dtype=dtype)
    if dtype.is_integer:
        q = ops.quo(x, y)
        if not dtype.is_signed:
            return q
        inexact = ops.not_(ops.eq(ops.mul(q, y), x))
        zero = ops.full_like(0, x)
        differ = ops.xor(ops.lt(x, zero), ops.lt(y, zero))
        down = ops.and_(inexact, differ)
        return ops.select(down, ops.sub(q, ops.full_like(1, q)), q)
    # torch's way, which is exact where x is a multiple of y: divide x less its remainder.
    r = ops.rem(x, y)
    q = ops.div(ops.sub(x, r), y)
    zero, one = ops.full_like(0.0, x), ops.full_like(1.0, x)
    differ = ops.and_(ops.not_(ops.eq(r, zero)), ops.xor(ops.lt(y, zero), ops.lt(r, zero)))
    q = ops.select(differ, ops.sub(q, one), q)
    floor = ops.floor(q)
    floor = ops.select(ops.lt(ops.full_like(0.5, q), ops.sub(q, floor)), ops.add(floor, one), floor)
    signed_zero = ops.mul(zero, ops.div(x, y))
    found = ops.select(ops.eq(q, zero), signed_zero, floor)
    return ops.select(ops.eq(y, zero), ops.div(x, y), found)


@function(ints=True)
def floor_divide(input, other):
    """The quotient, rounded down."""
    return _floor_divide(input, other)


@function(ints=True)
def remainder(input, other):
    """What floor division leaves: it has the sign of the divisor."""
    dtype = result_type(input, other)
    x, y = operands(input, other, dtype=dtype)
    r = ops.rem(x, y)
    if not dtype.is_signed:
        return r
    zero = ops.full_like(0, r)
    differ = ops.and_(ops.not_(ops.eq(r, zero)), ops.xor(ops.lt(r, zero), ops.lt(y, zero)))
    return ops.select(differ, ops.add(r, y), r)


@function(ints=True)
def fmod(input, other):
    """What truncating division leaves: it has the sign of the dividend."""
    return ops.rem(*operands(input, other))


@function(floats=False)
def pow(input, exponent):
    """input to the power of exponent."""
    dtype = result_type(input, exponent)
    if is_number(exponent) and not isinstance(exponent, Number):
        found = _constant_power(to_dtype(input, dtype), exponent)
        if found is not None:
            return found
    if dtype is BOOL:
        x, y = operands(input, exponent)
        return ops.or_(x, ops.not_(y))
    return ops.pow_(*operands(input, exponent, dtype=dtype))


def _constant_power(x: Value, exponent: Any) -> Value | None:
    """The exponents that torch computes by other operations."""
    if x.type.dtype.kind == "f":
        if exponent == 0.5:
            return ops.sqrt(x)
        if exponent == -0.5:
            return ops.rsqrt(x)
        if exponent == -1:
            return ops.div(ops.full_like(1.0, x), x)
        if exponent == -2:
            return ops.div(ops.full_like(1.0, x), ops.mul(x, x))
    if exponent == 1:
        return x
    if exponent == 2:
        return ops.mul(x, x)
    if exponent == 3:
        return ops.mul(ops.mul(x, x), x)
    if x.type.dtype.is_integer and exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return None


@function(ints=True)
def maximum(input, other):
    """The larger of two, nan where either is nan."""
    return ops.max_(*operands(input, other))


@function(ints=True)
def minimum(input, other):
    """The smaller of two, nan where either is nan."""
    return ops.min_(*operands(input, other))


def _of_number(op: Pointwise, nan_of: bool):
    def pick(input: Value, other: Value) -> Value:
        x, y = operands(input, other)
        out = op(x, y)
        if x.type.dtype.kind != "f":
            return out
        return ops.select(ops.isnan(x), y, ops.select(ops.isnan(y), x, out))

    return pick


@function
def fmax(input, other):
    """The larger of two; where one is nan, the other."""
    return _of_number(ops.max_, True)(input, other)


@function
def fmin(input, other):
    """The smaller of two; where one is nan, the other."""
    return _of_number(ops.min_, True)(input, other)


@function
def atan2(input, other):
    """The angle of the point (other, input), in radians."""
    return ops.atan2(*operands(input, other, dtype=floating_type(result_type(input, other))))


@function
def nextafter(input, other):
    """The next number after input in the direction of other."""
    return ops.nextafter(*operands(input, other))


@function
def hypot(input, other):
    """sqrt(input^2 + other^2)."""
    x, y = operands(input, other)
    return _length(x, y, ops.sqrt(_sum_of_squares(x, y)))


@function
def copysign(input, other):
    """|input| with the sign of other."""
    x, y = operands(input, other, dtype=floating_type(result_type(input, other)))
    size = ops.abs_(x)
    return ops.select(_signbit(y), ops.neg(size), size)


def _signbit(x: Value) -> Value:
    zero = ops.full_like(0, x)
    if x.type.dtype.kind != "f":
        return ops.lt(x, zero)
    negative_zero = ops.lt(ops.div(ops.full_like(1.0, x), x), zero)
    return ops.or_(ops.lt(x, zero), ops.and_(ops.eq(x, zero), negative_zero))


@function
def signbit(input):
    """Whether the sign is negative; True for -0.0."""
    return _signbit(input)


@function
def ldexp(input, other):
    """input * 2 ** other."""
    x, y = operands(input, other, dtype=floating_type(result_type(input, other)))
    return ops.mul(x, ops.exp2(y))


@function
def xlogy(input, other):
    """input * log(other); 0 where input is 0."""
    x, y = operands(input, other, dtype=floating_type(result_type(input, other)))
    zero = ops.full_like(0.0, x)
    found = ops.select(ops.eq(x, zero), zero, ops.mul(x, ops.log(y)))
    return ops.select(ops.isnan(y), y, found)


@function
def logaddexp(input, other):
    """log(exp(input) + exp(other)), without overflow."""
    x, y = operands(input, other)
    top = ops.max_(x, y)
    low = ops.neg(ops.abs_(ops.sub(x, y)))
    same = ops.eq(x, y)
    spread = ops.log1p(ops.exp(ops.select(same, ops.full_like(0.0, low), low)))
    return ops.add(top, spread)


# --- comparisons and logic ---------------------------------------------------------------------


def _compared(op: Pointwise, x: Any, y: Any) -> Value:
    return op(*operands(x, y))


@function(ints=True)
def eq(input, other):
    """input == other."""
    return _compared(ops.eq, input, other)


@function(ints=True)
def ne(input, other):
    """input != other."""
    return ops.not_(_compared(ops.eq, input, other))


@function(ints=True)
def lt(input, other):
    """input < other."""
    return _compared(ops.lt, input, other)


@function(ints=True)
def le(input, other):
    """input <= other."""
    return _compared(ops.le, input, other)


@function(ints=True)
def gt(input, other):
    """input > other."""
    return _compared(ops.lt, other, input)


@function(ints=True)
def ge(input, other):
    """input >= other."""
    return _compared(ops.le, other, input)


def truth(x: Value) -> Value:
    return x if x.type.dtype is BOOL else ops.cast(x, dtype=BOOL)


def _truths(x: Any, y: Any) -> list[Value]:
    a, b = operands(x, y)
    return [truth(a), truth(b)]


@function
def logical_and(input, other):
    """Both not 0."""
    return ops.and_(*_truths(input, other))


@function
def logical_or(input, other):
    """Either not 0."""
    return ops.or_(*_truths(input, other))


@function
def logical_xor(input, other):
    """Just one of them not 0."""
    return ops.xor(*_truths(input, other))


@function
def logical_not(input):
    """True where input is 0."""
    return ops.not_(truth(input))


@function
def bitwise_and(input, other):
    """Bit by bit and."""
    return ops.and_(*operands(input, other))


@function
def bitwise_or(input, other):
    """Bit by bit or."""
    return ops.or_(*operands(input, other))


@function
def bitwise_xor(input, other):
    """Bit by bit exclusive or."""
    return ops.xor(*operands(input, other))


@function
def bitwise_left_shift(input, other):
    """Shifts to the left."""
    return ops.shl(*operands(input, other))


@function
def bitwise_right_shift(input, other):
    """Shifts to the right, keeping the sign."""
    return ops.shr(*operands(input, other))


@function
def isinf(input):
    """True at infinities."""
    if input.type.dtype.kind != "f":
        return ops.full(False, BOOL, input.type.shape, input.type.device)
    return ops.eq(ops.abs_(input), ops.full_like(math.inf, input))


@function
def isfinite(input):
    """True where neither infinite nor nan."""
    if input.type.dtype.kind != "f":
        return ops.full(True, BOOL, input.type.shape, input.type.device)
    return ops.lt(ops.abs_(input), ops.full_like(math.inf, input))


@function
def isposinf(input):
    """True at +inf."""
    return ops.eq(input, ops.full_like(math.inf, input))


@function
def isneginf(input):
    """True at -inf."""
    return ops.eq(input, ops.full_like(-math.inf, input))


@function(floats=False)
def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """|input - other| <= atol + rtol * |other|, or equal."""
    x, y = operands(input, other)
    same = ops.eq(x, y)
    if x.type.dtype.kind != "f":
        x, y = floating(x), floating(y)
    allowed = ops.add(ops.full_like(atol, y), ops.mul(ops.full_like(rtol, y), ops.abs_(y)))
    distance = ops.abs_(ops.sub(x, y))
    finite = ops.lt(distance, ops.full_like(math.inf, distance))
    near = ops.or_(same, ops.and_(finite, ops.le(distance, allowed)))
    if equal_nan:
        near = ops.or_(near, ops.and_(ops.isnan(x), ops.isnan(y)))
    return near


# --- functions of one operand, by definition ----------------------------------------------------


@function
def square(input):
    """input * input."""
    return ops.mul(input, input)


@function
def reciprocal(input):
    """1 / input."""
    x = floating(input)
    return ops.div(ops.full_like(1.0, x), x)


@function
def log10(input):
    """The logarithm to base 10."""
    x = floating(input)
    return ops.mul(ops.log(x), ops.full_like(1 / math.log(10), x))


@function
def frac(input):
    """What trunc cuts off."""
    return ops.sub(input, ops.trunc(input))


@function
def positive(input):
    """The input."""
    return input


@function
def sgn(input):
    """The sign."""
    return ops.sign(input)


@function
def deg2rad(input):
    """Degrees to radians."""
    x = floating(input)
    return ops.mul(x, ops.full_like(math.pi / 180, x))


@function
def rad2deg(input):
    """Radians to degrees."""
    x = floating(input)
    return ops.mul(x, ops.full_like(180 / math.pi, x))


@function
def sinc(input):
    """sin(pi x) / (pi x); 1 at 0."""
    x = floating(input)
    y = ops.mul(x, ops.full_like(math.pi, x))
    zero, one = ops.full_like(0.0, y), ops.full_like(1.0, y)
    at_zero = ops.eq(y, zero)
    safe = ops.select(at_zero, one, y)
    return ops.select(at_zero, one, ops.div(ops.sin(safe), safe))


@function(floats=False)
def round(input, *, decimals=0):
    """The nearest number of so many decimals, halves to the even one."""
    if input.type.dtype.kind != "f":
        return input
    if not decimals:
        return ops.round_(input)
    scale = ops.full_like(10.0 ** abs_int(decimals), input)
    if decimals > 0:
        return ops.div(ops.round_(ops.mul(input, scale)), scale)
    return ops.mul(ops.round_(ops.div(input, scale)), scale)


def abs_int(n: int) -> int:
    return n if n >= 0 else -n


@function(ints=True)
def clamp(input, min=None, max=None):
    """The input, kept within [min, max]; nan stays nan."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    bounds = [b for b in (min, max) if b is not None]
    dtype = result_type(input, *bounds)
    values = operands(input, *bounds, dtype=dtype)
    x, rest = values[0], values[1:]
    if min is not None:
        low, rest = rest[0], rest[1:]
        x = ops.select(ops.lt(x, low), low, x)
    if max is not None:
        x = ops.select(ops.lt(rest[0], x), rest[0], x)
    return x


@function(ints=True)
def lerp(input, end, weight):
    """input + weight * (end - input), as torch computes it on either side of a half."""
    x, y, w = operands(input, end, weight, dtype=result_type(input, end))
    far = ops.lt(ops.abs_(w), ops.full_like(0.5, w))
    step = ops.sub(y, x)
    near_start = ops.add(x, ops.mul(w, step))
    near_end = ops.sub(y, ops.mul(step, ops.sub(ops.full_like(1.0, w), w)))
    return ops.select(far, near_start, near_end)


@function(ints=True)
def addcmul(input, tensor1, tensor2, *, value=1):
    """input + value * tensor1 * tensor2."""
    dtype = result_type(input, tensor1, tensor2)
    product = ops.mul(*operands(_scaled(tensor1, value, dtype), tensor2, dtype=dtype))
    return ops.add(*operands(input, product, dtype=dtype))


@function(ints=True)
def addcdiv(input, tensor1, tensor2, *, value=1):
    """input + value * tensor1 / tensor2."""
    dtype = floating_type(result_type(input, tensor1, tensor2))
    quotient = ops.div(*operands(_scaled(tensor1, value, dtype), tensor2, dtype=dtype))
    return ops.add(*operands(input, quotient, dtype=dtype))


@function(ints=True)
def where(condition, input, other):
    """input where the condition holds, else other."""
    dtype = result_type(input, other)
    like = condition
    x, y = to_dtype(input, dtype, like), to_dtype(other, dtype, like)
    shape = ops.broadcast_shapes(condition.type.shape, x.type.shape, y.type.shape)
    c, x, y = [ops.broadcast_to(v, shape) for v in (truth(condition), x, y)]
    return ops.select(c, x, y)


@function
def nan_to_num(input, nan=None, posinf=None, neginf=None):
    """nan replaced by 0 (or `nan`), infinities by the largest numbers (or as given)."""
    if input.type.dtype.kind != "f":
        return input
    limit = _largest(input.type.dtype)
    fill = [
        0.0 if nan is None else nan,
        limit if posinf is None else posinf,
        -limit if neginf is None else neginf,
    ]
    values = operands(input, *fill, dtype=input.type.dtype)
    x, n, p, m = values
    out = ops.select(ops.isnan(x), n, x)
    out = ops.select(ops.eq(x, ops.full_like(math.inf, x)), p, out)
    return ops.select(ops.eq(x, ops.full_like(-math.inf, x)), m, out)


def _largest(dtype: DType) -> float:
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).max)


@function
def logit(input, eps=None):
    """log(x / (1 - x)), x first kept within [eps, 1 - eps] if eps is given."""
    x = floating(input)
    if eps is not None:
        low, high = (to_dtype(v, x.type.dtype, x) for v in (eps, 1 - eps))
        low, high = ops.broadcast_to(low, x.type.shape), ops.broadcast_to(high, x.type.shape)
        x = ops.select(ops.lt(x, low), low, ops.select(ops.lt(high, x), high, x))
    return ops.log(ops.div(x, ops.sub(ops.full_like(1.0, x), x)))


ALIASES = {
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div",
    "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
    "not_equal": "ne", "clip": "clamp", "arctan2": "atan2",
}  # fmt: skip
