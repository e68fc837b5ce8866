"""Equations of pointwise ops that hold bit for bit, nan payloads apart.

A generated test tries each one on edge values (subnormals too) and random values of every dtype
that its ops admit and its `when` lets through. Add a rule only if that test passes; those that
look right and are not are kept in the test, each with its witness.
"""

from graphc.ir import ops
from graphc.ir.dtype import BOOL, C64, C128, DType
from graphc.ir.graph import Value

from ..rewrite import Rule

INF = float("inf")


def integer(x: Value, *_: object) -> bool:
    return x.type.dtype.kind in "iu"


def floating(x: Value, *_: object) -> bool:
    return x.type.dtype.kind == "f"


def not_complex(x: Value, *_: object) -> bool:
    return x.type.dtype.kind != "c"


def signed(x: Value, *_: object) -> bool:
    return x.type.dtype.kind != "u"


def boolean(x: Value, *_: object) -> bool:
    return x.type.dtype is BOOL


def is_power_of_two(x: Value, c: Value) -> bool:
    """A constant whose reciprocal is exact: a power of two, far from the ends of the range."""
    if not floating(x) or c.node is None or c.node.op.name != "full":
        return False
    value = abs(c.node.attrs["value"])
    return 2.0**-8 <= value <= 2.0**8 and float(value).hex().split("p")[0] == "0x1.0000000000000"


def reciprocal(c: Value) -> Value:
    assert c.node is not None
    return ops.full_like(1.0 / c.node.attrs["value"], c)


def holds_all(inner: DType, via: DType) -> bool:
    """Whether every value of `inner` is one of `via`, and comes back from it."""
    if inner is via or inner is BOOL:
        return True
    a, b = inner.kind, via.kind
    if a == "u":
        return (b == "u" and via.bits > inner.bits) or (b == "i" and via.bits > inner.bits)
    if a == "i":
        return b == "i" and via.bits > inner.bits
    if a == "f" and b == "f":
        return via.itemsize > inner.itemsize and inner.itemsize >= 2
    return inner is C64 and via is C128


def widens(x: Value, via: DType, dtype: DType) -> bool:
    """x to via loses nothing, and via to dtype is then what x to dtype is."""
    if not holds_all(x.type.dtype, via):
        return False
    return x.type.dtype is dtype or (x.type.dtype.kind == via.kind and dtype.kind != "c")


ARITHMETIC = [
    Rule(lambda x: x + -0.0, lambda x: x, when=floating),
    Rule(lambda x: x + 0, lambda x: x, when=integer),
    Rule(lambda x: x - 0.0, lambda x: x, when=not_complex),
    Rule(lambda x: x * 1.0, lambda x: x, when=not_complex),
    Rule(lambda x: x * 0, lambda x: 0, when=integer),
    Rule(lambda x: x - x, lambda x: 0, when=integer),
    Rule(lambda x: x * -1.0, lambda x: -x, when=not_complex),
    Rule(lambda x: x / 1.0, lambda x: x, when=floating),
    Rule(lambda x: x / -1.0, lambda x: -x, when=floating),
    Rule(lambda x: ops.neg(-x), lambda x: x),
    Rule(lambda x, y: x + -y, lambda x, y: x - y),
    Rule(lambda x, y: x - ops.neg(y), lambda x, y: x + y),
    Rule(lambda x, y: -x * -y, lambda x, y: x * y),
    Rule(lambda x, y: -x / -y, lambda x, y: x / y, when=floating),
    Rule(
        lambda x, c: x / c,
        lambda x, c: x * reciprocal(c),
        when=is_power_of_two,
        samples=tuple(("T", c) for c in (2.0, 0.25, -8.0)),
    ),
    Rule(lambda x: ops.pow_(x, 1.0), lambda x: x),
    Rule(lambda x: ops.pow_(x, 0.0), lambda x: 1),
    Rule(lambda x: ops.abs_(ops.abs_(x)), lambda x: ops.abs_(x)),
    Rule(lambda x: ops.abs_(-x), lambda x: ops.abs_(x), when=signed),
    Rule(lambda x: ops.abs_(x) * ops.abs_(x), lambda x: x * x),
    Rule(lambda x: ops.sign(ops.sign(x)), lambda x: ops.sign(x)),
    Rule(lambda x: ops.floor(ops.floor(x)), lambda x: ops.floor(x)),
    Rule(lambda x: ops.ceil(ops.ceil(x)), lambda x: ops.ceil(x)),
    Rule(lambda x: ops.round_(ops.round_(x)), lambda x: ops.round_(x)),
    Rule(lambda x: ops.trunc(ops.trunc(x)), lambda x: ops.trunc(x)),
    Rule(lambda x: ops.shl(x, 0), lambda x: x),
    Rule(lambda x: ops.shr(x, 0), lambda x: x),
]

ORDER = [
    Rule(lambda x: ops.max_(x, x), lambda x: x),
    Rule(lambda x: ops.min_(x, x), lambda x: x),
    Rule(lambda x, y: ops.max_(ops.max_(x, y), y), lambda x, y: ops.max_(x, y)),
    Rule(lambda x, y: ops.min_(ops.min_(x, y), y), lambda x, y: ops.min_(x, y)),
    Rule(lambda x: ops.max_(x, -INF), lambda x: x, when=floating),
    Rule(lambda x: ops.min_(x, INF), lambda x: x, when=floating),
    Rule(lambda x, y: -ops.max_(-x, -y), lambda x, y: ops.min_(x, y), when=floating),
    Rule(lambda x, y: -ops.min_(-x, -y), lambda x, y: ops.max_(x, y), when=floating),
    Rule(lambda x: ops.lt(x, x), lambda x: False),
    Rule(lambda x: ops.le(x, x), lambda x: True, when=integer),
    Rule(lambda x: ops.eq(x, x), lambda x: True, when=integer),
    Rule(
        lambda x, y: ops.not_(ops.lt(x, y)),
        lambda x, y: ops.le(y, x),
        when=integer,
    ),
    Rule(
        lambda x, y: ops.not_(ops.le(x, y)),
        lambda x, y: ops.lt(y, x),
        when=integer,
    ),
]

LOGIC = [
    Rule(lambda c: ops.not_(ops.not_(c)), lambda c: c),
    Rule(lambda c: ops.and_(c, c), lambda c: c),
    Rule(lambda c: ops.or_(c, c), lambda c: c),
    Rule(lambda c: ops.xor(c, c), lambda c: 0),
    Rule(lambda c: ops.and_(c, True), lambda c: c, when=boolean),
    Rule(lambda c: ops.and_(c, False), lambda c: False, when=boolean),
    Rule(lambda c: ops.or_(c, False), lambda c: c, when=boolean),
    Rule(lambda c: ops.or_(c, True), lambda c: True, when=boolean),
    Rule(lambda c, x: ops.select(c, x, x), lambda c, x: x),
    Rule(lambda x, y: ops.select(True, x, y), lambda x, y: x),
    Rule(lambda x, y: ops.select(False, x, y), lambda x, y: y),
    Rule(lambda c: ops.select(c, True, False), lambda c: c, when=boolean),
    Rule(lambda c: ops.select(c, False, True), lambda c: ops.not_(c), when=boolean),
    Rule(
        lambda c, x, y: ops.select(ops.not_(c), x, y),
        lambda c, x, y: ops.select(c, y, x),
    ),
    Rule(
        lambda c, x, y, z: ops.select(c, ops.select(c, x, y), z),
        lambda c, x, y, z: ops.select(c, x, z),
    ),
    Rule(
        lambda c, x, y, z: ops.select(c, x, ops.select(c, y, z)),
        lambda c, x, y, z: ops.select(c, x, z),
    ),
]

CONVERSION = [
    Rule(
        lambda x, d: ops.cast(x, dtype=d),
        lambda x, d: x,
        when=lambda x, d: x.type.dtype is d,
        samples=(("T", "same dtype"),),
    ),
    Rule(
        lambda x, v, d: ops.cast(ops.cast(x, dtype=v), dtype=d),
        lambda x, v, d: ops.cast(x, dtype=d),
        when=widens,
        samples=(("T", "any dtype", "any dtype"),),
    ),
    Rule(lambda x, y: ops.real(ops.complex_(x, y)), lambda x, y: x),
    Rule(lambda x, y: ops.imag(ops.complex_(x, y)), lambda x, y: y),
    Rule(lambda z: ops.complex_(ops.real(z), ops.imag(z)), lambda z: z),
    Rule(lambda x: ops.detach(ops.detach(x)), lambda x: ops.detach(x)),
]

ALGEBRA = ARITHMETIC + ORDER + LOGIC + CONVERSION

# Once no derivative is to be taken any more, these are their operand.
NO_DETACH = [
    Rule(lambda x: ops.detach(x), lambda x: x),
    Rule(lambda x, y: ops.graft(x, y), lambda x, y: x),
]
