"""The steps of random programs: for each op one that makes at least one node of it.

A pointwise op's step follows from its declaration; the others are written here. Each takes the
`Maker` and returns the items that it adds to the pool.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from graphc.ir import composite, ops
from graphc.ir.build import Builder, trace
from graphc.ir.dims import symbol
from graphc.ir.dtype import BF16, BOOL, F16, F32, F64, I32, I64, U8
from graphc.ir.op import OPS, Op, Pointwise
from graphc.ir.ops import control
from graphc.ir.schema import Uniform
from graphc.ir.types import TensorType

from .program import LARGEST, Item, Maker, Skip

Step = Callable[[Maker], "Item | list[Item]"]
STEPS: dict[str, Step] = {}


def step(name: str) -> Callable[[Step], Step]:
    def add(function: Step) -> Step:
        assert name in OPS
        STEPS[name] = function
        return function

    return add


# --- pointwise -----------------------------------------------------------------------------------

# What an operand must satisfy for a result that a comparison can judge.
DOMAINS = {
    "sqrt": "positive", "rsqrt": "positive", "log": "positive", "log2": "positive",
    "lgamma": "positive", "digamma": "positive", "div": "positive", "rem": "positive",
    "pow": "positive", "atan2": "positive", "log1p": "within_one", "asin": "within_one",
    "acos": "within_one", "atanh": "within_one", "erfinv": "within_one", "tan": "within_one",
    "exp": "small", "exp2": "small", "expm1": "small", "sinh": "small", "cosh": "small",
    "acosh": "positive",
}  # fmt: skip


def pointwise(op: Op, maker: Maker) -> Item:
    kinds = [k for _, k in op.operands]
    mixed = op.mixed if isinstance(op, Pointwise) else 0
    letters = "".join(c for c in "fiub" if all(c in k.letters for k in kinds[mixed:]))
    x = maker.pick(letters)
    others = [maker.like(x) for _ in kinds[mixed + 1 :]]
    domain = DOMAINS.get(op.name)
    items = [x, *others]
    if domain and x.is_float:
        items = [getattr(maker, domain)(item) for item in items]
    if op.name == "acosh":
        items = [maker.emit(ops.add, items[0], maker.number(0.625, items[0]))]
    if op.name == "pow":
        items[1] = maker.small(others[0]) if x.is_float else maker.clamped(others[0], 0, 3)
        items[0] = maker.tamed(items[0]) if x.is_float else maker.clamped(x, 0, 5)
    if op.name in ("quo", "rem") and not x.is_float:
        items[1] = maker.emit(ops.max_, others[0], maker.number(1, x))
    if mixed:
        items = [_condition(maker, x), *items]
    return maker.emit(op, *items)


def _condition(maker: Maker, x: Item) -> Item:
    if x.dtype.kind in "fiu" and maker.chance(0.6):
        return maker.emit(ops.lt, maker.like(x), x)
    return maker.fresh(BOOL, x.shape)


def is_elementwise(op: Op) -> bool:
    """Pointwise primitives, and composites that are declared by ranges of numbers."""
    return isinstance(op, Pointwise) or (
        op.composite and any(isinstance(s, Uniform) for s in op.samples)
    )


COMPLEX = ("complex", "real", "imag")  # in one step, below
for _op in OPS.values():
    if is_elementwise(_op) and _op.name not in (*COMPLEX, "cast"):
        STEPS[_op.name] = partial(pointwise, _op)


def through_complex(maker: Maker) -> list[Item]:
    """A complex number and its parts: no backend computes them yet, so a rare step."""
    x = maker.pick(names=("f32", "f64"))
    z = maker.emit(ops.complex_, x, maker.like(x))
    w = maker.emit(ops.mul, z, z)
    return [maker.emit(ops.real, w), maker.emit(ops.imag, w)]


@step("compact")
def compact(maker: Maker) -> Item:
    """Positions of a mask: a size that depends on the data."""
    mask = maker.pick("b", rank=1)
    if mask.value.type.shape != mask.shape:
        raise Skip
    name = f"k{len(maker.fresh_sizes)}"
    maker.fresh_sizes[name] = int(mask.array.sum())
    found = maker.emit(ops.compact, mask, size=(symbol(name),))
    return maker.emit(ops.reduce_sum, found, axes=(0,))


@step("assert")
def assert_(maker: Maker) -> list[Item]:
    x = maker.pick("fi")
    ops.assert_op(maker.emit(ops.le, x, x).value, text="x is a number")
    return []


@step("print")
def print_(maker: Maker) -> list[Item]:
    ops.print_op(maker.pick().value, text="x is")
    return []


STEPS["complex"] = STEPS["real"] = STEPS["imag"] = through_complex


@step("cast")
def cast(maker: Maker) -> Item:
    x = maker.pick()
    to = maker.random.choice((F32, F32, F64, I32, I64, U8, BOOL, F16, BF16))
    if to is U8 and x.dtype is not BOOL:
        x = maker.emit(ops.abs_, x) if x.dtype.kind in "fi" else x
    made = maker.emit(ops.cast, x, dtype=to)
    if to in (F16, BF16):  # a little arithmetic in half precision, and back
        made = maker.emit(maker.random.choice((ops.add, ops.mul, ops.max_)), made, made)
        return maker.emit(ops.cast, maker.emit(ops.neg, made), dtype=F32)
    return made


# --- constants -----------------------------------------------------------------------------------


@step("full")
def full(maker: Maker) -> Item:
    x = maker.pick("fi")
    number = maker.random.choice((0.0, -0.0, 0.1, 1.5, -3.0) if x.is_float else (0, 1, -7))
    return maker.emit(ops.add, x, maker.number(number, x))


@step("const")
def const(maker: Maker) -> Item:
    array = maker.numbers.normal(size=maker.any_shape()).astype(np.float32)
    return Item(ops.const(array), array)


@step("iota")
def iota(maker: Maker) -> Item:
    shape = maker.any_shape(maker.random.randint(1, 3))
    value = ops.iota(
        shape, maker.random.randrange(len(shape)), maker.random.choice((I64, F32, I32))
    )
    return maker.evaluated((value,), ())


@step("dim")
def dim(maker: Maker) -> Item:
    x = maker.pick("i")
    value = ops.dim_value(x.array.size, x.shape)
    size = maker.evaluated((value,), ())
    return maker.emit(ops.add, maker.emit(ops.cast, x, dtype=I64), size)


# --- movement ------------------------------------------------------------------------------------


@step("reshape")
def reshape(maker: Maker) -> Item:
    x = maker.pick()
    n = x.array.size
    options = [(n,), (1, *x.shape), (*x.shape, 1)]
    options += [(k, n // k) for k in (2, 3, 4, 5) if n % k == 0]
    return maker.emit(ops.reshape, x, shape=maker.random.choice(options))


@step("permute")
def permute(maker: Maker) -> Item:
    x = maker.pick(rank=2)
    perm = list(range(x.rank))
    maker.random.shuffle(perm)
    return maker.emit(ops.permute, x, perm=tuple(perm))


@step("expand")
def expand(maker: Maker) -> Item:
    x = maker.pick()
    size = maker.random.choice((1, 2, 3))
    if x.array.size * size > LARGEST or x.rank > 3:
        raise Skip
    axis = maker.random.randint(0, x.rank)
    shape = (*x.shape[:axis], size, *x.shape[axis:])
    return maker.emit(ops.expand, x, shape=shape, axes=(axis,))


@step("slice")
def slice_(maker: Maker) -> Item:
    x = maker.pick(rank=1)
    start = [maker.random.randint(0, n // 2) for n in x.shape]
    stop = [maker.random.randint(min(a + 1, n), n) for a, n in zip(start, x.shape, strict=True)]
    steps = [maker.random.choice((1, 1, 2, 3)) for _ in start]
    return maker.emit(ops.slice_, x, start=tuple(start), stop=tuple(stop), step=tuple(steps))


@step("pad")
def pad(maker: Maker) -> Item:
    x = maker.pick(rank=1)
    low, high = ([maker.random.randint(0, 2) for _ in x.shape] for _ in range(2))
    value = maker.random.choice((0, 1)) if x.dtype is not BOOL else False
    return maker.emit(ops.pad, x, low=tuple(low), high=tuple(high), value=value)


@step("flip")
def flip(maker: Maker) -> Item:
    x = maker.pick(rank=1)
    return maker.emit(ops.flip, x, axes=maker.axes(x))


@step("concat")
def concat(maker: Maker) -> Item:
    x = maker.pick(rank=1)
    axis = maker.axis(x)
    shape = tuple(maker.random.choice((1, 2, n)) if i == axis else n for i, n in enumerate(x.shape))
    parts = [x, maker.like(x, shape), *([x] if maker.chance(0.3) else [])]
    maker.random.shuffle(parts)
    return maker.emit(ops.concat, *parts, axis=axis)


@step("window")
def window(maker: Maker) -> Item:
    x = maker.pick(rank=1)
    n = x.shape[-1]
    size, dilation = maker.random.randint(1, min(n, 3)), maker.random.choice((1, 1, 2))
    if (size - 1) * dilation + 1 > n:
        dilation = 1
    return maker.emit(
        ops.window, x, sizes=(size,), strides=(maker.random.choice((1, 2)),), dilations=(dilation,)
    )


@step("copy_to")
def copy_to(maker: Maker) -> Item:
    return maker.emit(ops.copy_to, maker.pick(), device="cpu")


# --- reductions ----------------------------------------------------------------------------------


def reduced(op: Op, maker: Maker) -> Item:
    x = maker.pick("fiu" if op.name in ("reduce_sum", "reduce_prod") else "fiub", rank=1)
    if op.name == "reduce_prod":
        x = maker.within_one(x) if x.is_float else maker.clamped(x, 0, 2)
        if x.is_float:
            x = maker.emit(ops.add, x, maker.number(0.5, x))
    return maker.emit(op, x, axes=maker.axes(x))


for _op in (ops.reduce_sum, ops.reduce_prod, ops.reduce_max, ops.reduce_min):
    STEPS[_op.name] = partial(reduced, _op)


@step("arg_reduce")
def arg_reduce(maker: Maker) -> Item:
    x = maker.pick(rank=1)
    return maker.emit(
        ops.arg_reduce, x, axis=maker.axis(x), mode=maker.random.choice(("max", "min"))
    )


@step("cumulative")
def cumulative(maker: Maker) -> Item:
    x = maker.pick("fi", rank=1)
    mode = maker.random.choice(("sum", "sum", "prod", "max", "min"))
    if mode == "prod":
        x = maker.within_one(x) if x.is_float else maker.clamped(x, 0, 2)
    return maker.emit(ops.cumulative, x, axis=maker.axis(x), mode=mode, reverse=maker.chance(0.4))


# --- places --------------------------------------------------------------------------------------


@step("gather")
def gather(maker: Maker) -> Item:
    x = maker.pick(rank=1)
    axis = maker.axis(x)
    index = maker.index(x.shape[axis], maker.random.choice(((), (2,), (4,), (2, 2))))
    return maker.emit(ops.gather, x, index, axis=axis)


@step("scatter")
def scatter(maker: Maker) -> Item:
    x = maker.pick("fi", rank=1)
    axis, mode = maker.axis(x), maker.random.choice(("set", "add", "mul", "max", "min"))
    size = x.shape[axis]
    shape = (maker.random.randint(1, size),)
    index = maker.index(size, shape, distinct=mode == "set" and maker.chance(0.7))
    updates = maker.like(x, (*x.shape[:axis], *shape, *x.shape[axis + 1 :]))
    return maker.emit(ops.scatter, x, index, updates, axis=axis, mode=mode)


@step("dynamic_slice")
def dynamic_slice(maker: Maker) -> Item:
    x = maker.pick(rank=1)
    sizes = tuple(maker.random.randint(1, n) for n in x.shape)
    starts = [maker.fresh(I64, (), -1, n) for n in x.shape]
    return maker.emit(ops.dynamic_slice, x, *starts, sizes=sizes)


@step("dynamic_update")
def dynamic_update(maker: Maker) -> Item:
    x = maker.pick(rank=1)
    update = maker.like(x, tuple(maker.random.randint(1, n) for n in x.shape))
    starts = [maker.fresh(I64, (), -1, n) for n in x.shape]
    return maker.emit(ops.dynamic_update, x, update, *starts)


@step("sort")
def sort(maker: Maker) -> list[Item]:
    x = maker.pick("fi", rank=1)
    return maker.emit(ops.sort, x, axis=maker.axis(x), descending=maker.chance(0.5))


@step("topk")
def topk(maker: Maker) -> list[Item]:
    x = maker.pick("fi", rank=1)
    axis = maker.axis(x)
    k = maker.random.randint(0, x.shape[axis])
    return maker.emit(ops.topk, x, axis=axis, k=k, largest=maker.chance(0.5))


@step("searchsorted")
def searchsorted(maker: Maker) -> Item:
    x = maker.pick("fi")
    edges = np.sort(maker.numbers.uniform(-4, 4, 5).astype(x.dtype.numpy))
    return maker.emit(ops.searchsorted, Item(ops.const(edges), edges), x, right=maker.chance(0.5))


# --- products ------------------------------------------------------------------------------------


@step("dot")
def dot(maker: Maker) -> Item:
    a = maker.pick(names=("f32", "f32", "f64", "i32"), rank=1)
    k, free = a.shape[-1], maker.random.choice((2, 3, 5))
    if a.rank == 3 and maker.chance(0.5):
        b = maker.like(a, (a.shape[0], k, free))
        return maker.emit(ops.dot, a, b, contract=((2,), (1,)), batch=((0,), (0,)))
    if maker.chance(0.3):
        b = maker.like(a, (free, k))
        return maker.emit(ops.dot, a, b, contract=((a.rank - 1,), (1,)))
    return maker.emit(ops.dot, a, maker.like(a, (k, free)), contract=((a.rank - 1,), (0,)))


def convolution(maker: Maker):
    """Operands and attributes of a convolution over one or two axes."""
    k = maker.random.choice((1, 2))
    dtype = maker.random.choice((F32, F32, F64))
    groups = maker.random.choice((1, 1, 2))
    x = maker.fresh(dtype, (1, 2, *[maker.random.choice((4, 5, 6)) for _ in range(k)]), -2, 2)
    w = maker.fresh(
        dtype, (2, 2 // groups, *[maker.random.choice((1, 2, 3)) for _ in range(k)]), -2, 2
    )
    attrs = {
        "stride": tuple(maker.random.choice((1, 2)) for _ in range(k)),
        "padding": tuple((maker.random.choice((0, 1)), 1) for _ in range(k)),
        "dilation": tuple(maker.random.choice((1, 1, 2)) for _ in range(k)),
        "groups": groups,
    }
    return x, w, attrs


@step("conv")
def conv(maker: Maker) -> Item:
    x, w, attrs = convolution(maker)
    return maker.emit(ops.conv, x, w, **attrs)


@step("conv_grad_input")
def conv_grad_input(maker: Maker) -> Item:
    x, w, attrs = convolution(maker)
    ct = maker.tamed(maker.emit(ops.conv, x, w, **attrs))
    return maker.emit(ops.conv_grad_input, ct, w, size=x.shape[2:], **attrs)


@step("conv_grad_weight")
def conv_grad_weight(maker: Maker) -> Item:
    x, w, attrs = convolution(maker)
    ct = maker.tamed(maker.emit(ops.conv, x, w, **attrs))
    return maker.emit(ops.conv_grad_weight, ct, x, size=w.shape[2:], **attrs)


# --- composites ----------------------------------------------------------------------------------


def along_axis(op: Op, maker: Maker) -> Item:
    x = maker.pick("f", rank=1)
    return maker.emit(op, x, axis=maker.axis(x))


_ALONG = (composite.softmax, composite.log_softmax, composite.max_first, composite.min_first)
for _op in _ALONG:
    STEPS[_op.name] = partial(along_axis, _op)


@step("norm2")
def norm2(maker: Maker) -> Item:
    x = maker.positive(maker.pick("f", rank=1))
    return maker.emit(composite.norm2, x, axes=maker.axes(x))


@step("layer_norm")
def layer_norm(maker: Maker) -> Item:
    x = maker.pick("f", rank=1)
    if x.shape[-1] < 2:
        raise Skip
    shape = x.shape[-1:]
    return maker.emit(
        composite.layer_norm, x, maker.like(x, shape), maker.like(x, shape), eps=0.125
    )


@step("batch_norm")
def batch_norm(maker: Maker) -> Item:
    x = maker.pick("f", rank=2)
    shape = x.shape[1:2]
    mean, var, weight, bias = [maker.like(x, shape) for _ in range(4)]
    return maker.emit(composite.batch_norm, x, mean, maker.positive(var), weight, bias, eps=0.125)


@step("pick")
def pick(maker: Maker) -> Item:
    x = maker.pick("f", rank=1)
    axis = maker.axis(x)
    index = maker.index(x.shape[axis], x.shape[:axis] + x.shape[axis + 1 :])
    return maker.emit(composite.pick, x, index, axis=axis)


@step("attention")
def attention(maker: Maker) -> Item:
    q = maker.pick("f", rank=2)
    if q.rank > 3:
        raise Skip
    *batch, t, d = q.shape
    k = maker.like(q, (*batch, t, d))
    v = maker.like(q, (*batch, t, maker.random.choice((1, 3))))
    causal, dropout = maker.chance(0.5), maker.chance(0.3)
    factors = [maker.like(q, (*batch, t, t))] if dropout else []
    return maker.emit(
        composite.attention, q, k, v, *factors, scale=0.25, causal=causal, dropout=dropout
    )


@step("attention_grad")
def attention_grad(maker: Maker) -> Item:
    q = maker.pick("f", rank=2)
    if q.rank > 3:
        raise Skip
    ct = maker.like(q, q.shape)
    logs, mean = (maker.like(q, q.shape[:-1]) for _ in range(2))
    causal, dropout = maker.chance(0.5), maker.chance(0.3)
    factors = [maker.like(q, (*q.shape[:-1], q.shape[-2]))] if dropout else []
    return maker.emit(
        composite.attention_grad, q, q, q, logs, mean, ct, *factors, scale=0.25, causal=causal,
        dropout=dropout,
    )  # fmt: skip


# --- control flow --------------------------------------------------------------------------------


def small_block(maker: Maker, n: int, dtype, shape: tuple, results: int):
    """A closed graph of one to four pointwise ops on n values of one type."""
    unary = (ops.tanh, ops.sin, ops.neg, ops.abs_, composite.sigmoid)
    binary = (ops.add, ops.sub, ops.max_, ops.min_)
    plan = [
        (maker.random.choice(unary), maker.random.choice(binary), maker.random.randrange(n))
        for _ in range(maker.random.randint(1, 2) + results)
    ]

    def function(*values):
        made = list(values)
        for one, two, other in plan:
            made.append(ops.tanh(two(one(made[-1]), values[other])))
        return made[len(made) - results :]

    return trace(function, *[TensorType(dtype, shape)] * n)


@step("if")
def if_(maker: Maker) -> list[Item]:
    x = maker.pick(names=("f32", "f64"))
    y = maker.like(x)
    sides = [small_block(maker, 2, x.dtype, x.shape, 2) for _ in range(2)]
    if x.rank and maker.chance(0.3):
        predicate = maker.fresh(BOOL, x.shape[:1])
    elif maker.chance(0.5):
        total = maker.emit(ops.reduce_sum, x, axes=tuple(range(x.rank)))
        predicate = maker.emit(ops.lt, maker.number(0.0, total), total)
    else:
        predicate = maker.fresh(BOOL, ())
    made = ops.cond(predicate.value, *sides, x.value, y.value)
    return maker.evaluated(made, (predicate, x, y))


@step("while")
def while_(maker: Maker) -> Item:
    x = maker.pick(names=("f32", "f64"))
    body = small_block(maker, 1, x.dtype, x.shape, 1)
    types = (TensorType(I64), x.value.type)
    limit = maker.random.randint(0, 4)
    condition = trace(lambda i, x: ops.lt(i, ops.full_like(limit, i)), *types)

    def function(i, x):
        (made,) = Builder.current().replay(body, [x])
        return ops.add(i, ops.full_like(1, i)), made

    start = Item(ops.full(0, I64), np.zeros((), np.int64))
    made = control.while_loop(condition, trace(function, *types), start.value, x.value)
    return maker.evaluated(made, (start, x))[1]


@step("scan")
def scan(maker: Maker) -> list[Item]:
    xs = maker.pick(names=("f32", "f64"), rank=1)
    carry = maker.like(xs, xs.shape[1:])
    fixed = [maker.like(xs, xs.shape[1:])] if maker.chance(0.5) else []
    body = small_block(maker, 2 + len(fixed), xs.dtype, xs.shape[1:], 2)
    made = ops.scan(
        body, [carry.value], [xs.value], [f.value for f in fixed], xs.shape[0], maker.chance(0.4)
    )
    return maker.evaluated(made, (carry, xs, *fixed))


from . import packed_steps  # noqa: E402, F401  (steps too; they need what is above)

# A program stops at the first op that a way lacks, so that those are rarer; but none so rare that
# 300 programs may miss it.
SELDOM = dict.fromkeys([*COMPLEX, "assert", "print"], 0.2) | {"compact": 0.4, "searchsorted": 1.0}
WEIGHTS = [SELDOM.get(name, 0.4 if OPS[name].no_onnx else 1.0) for name in STEPS]
