"""Functions whose derivatives the tests check: a name, operand types, and a function over values
that gives one real scalar."""

from graphc.ir import composite, ops
from graphc.ir.build import Builder, trace
from graphc.ir.dtype import F64, I64
from graphc.ir.types import parse_type

CASES = {}


def case(*types):
    def add(function):
        CASES[function.__name__] = (types, function)
        return function

    return add


def graph_of(name):
    types, function = CASES[name]
    return trace(function, *map(parse_type, types))


def block(function, *types):
    return trace(function, *[parse_type(t) if isinstance(t, str) else t for t in types])


def total(x):
    return ops.reduce_sum(x, axes=tuple(range(len(x.type.shape))))


def matmul(a, b):
    return ops.dot(a, b, contract=((1,), (0,)))


@case("f64[3, 4]", "f64[4, 2]", "f64[2]")
def layer(x, w, b):
    h = ops.tanh(matmul(x, w) + ops.expand(b, shape=(3, 2), axes=(0,)))
    return total(h * h / (1.0 + ops.exp(h)))


@case("f64[5]", "f64[5]")
def pointwise(x, y):
    a = ops.sin(x) * ops.cos(y) - ops.log(x * x + 1.5) / ops.sqrt(y * y + 0.5)
    return total(a + ops.atan2(x, y + 3.0) + ops.erf(x) * ops.expm1(y) + ops.fma(x, y, a))


@case("f64[5]", "f64[5]")
def powers(x, y):
    return total(ops.pow_(x * x + 0.3, y) + ops.rsqrt(x * x + 1.0))


@case("f64[6]", "f64[6]")
def masked(x, y):
    """The branch that is not taken is infinite."""
    wide = ops.select(ops.lt(full(0.0, x), x), ops.log(ops.max_(x, full(1e-300, x))), y * y)
    return total(wide + ops.min_(x, y) * ops.max_(x, y))


def full(number, like):
    return ops.full_like(number, like)


@case("f64[4, 6]")
def movement(x):
    a = ops.permute(ops.reshape(x, shape=(2, 12)), perm=(1, 0))
    b = ops.pad(ops.slice_(a, start=(1, 0), stop=(11, 2), step=(2, 1)), low=(1, 0), high=(0, 2))
    c = ops.concat(ops.flip(b, axes=(0,)), b * b, axis=1)
    return total(c * c * c)


@case("f64[3, 8]")
def windows(x):
    w = ops.window(x, sizes=(3,), strides=(2,), dilations=(1,))
    return total(ops.sin(w) * w)


@case("f64[2, 3, 4]", "f64[2, 4, 5]")
def batched_dot(a, b):
    c = ops.dot(a, b, contract=((2,), (1,)), batch=((0,), (0,)))
    d = ops.dot(c, c, contract=((1,), (1,)), batch=((0,), (0,)))
    return total(ops.tanh(d))


@case("f64[1, 2, 5, 4]", "f64[4, 1, 3, 2]")
def convolution(x, w):
    attrs = {"stride": (2, 1), "padding": ((1, 1), (0, 1)), "dilation": (1, 1), "groups": 2}
    return total(ops.sin(ops.conv(x, w, **attrs)))


@case("f64[3, 4]")
def reductions(x):
    s = ops.reduce_sum(x * x, axes=(1,)) + ops.reduce_max(x, axes=(1,))
    return total(s * ops.reduce_prod(x, axes=(1,)) - ops.reduce_min(x, axes=(1,)))


@case("f64[2, 5]")
def running(x):
    s = ops.cumulative(x, axis=1, mode="sum")
    p = ops.cumulative(s, axis=1, mode="prod", reverse=True)
    return total(ops.sin(p) + ops.cumulative(x * x, axis=1, mode="max"))


@case("f64[5, 2]")
def lookups(x):
    index = ops.const([3, 1, 3])
    rows = ops.gather(ops.sin(x), index, axis=0)
    put = ops.scatter(x * x, index, rows * rows, axis=0, mode="add")
    two = ops.slice_(put, start=(0, 0), stop=(2, 2), step=(1, 1))
    once = ops.scatter(x, ops.const([0, 2]), two, axis=0, mode="set")
    return total(once * put)


@case("f64[3, 5]")
def sorting(x):
    values, places = ops.sort(x, axis=1, descending=True)
    weights = ops.cast(ops.iota((3, 5), 1, I64), dtype=F64)
    return total(values * weights * ops.take_along(x * x, places, 1))


@case("f64[4]")
def casts(x):
    integer = ops.cast(ops.cast(x * 3.0, dtype=I64), dtype=F64)
    return total(x * x * x + integer * x)


@case("f64[4]", "f64[4]")
def complex_numbers(x, y):
    z = ops.complex_(ops.sin(x), x * y)
    w = ops.exp(z) * z - ops.sin(z) / (z + 3.0)
    return total(ops.real(w) * ops.imag(z) + ops.imag(w * w))


@case("f64[]", "f64[3]", "f64[3]")
def one_branch(p, x, y):
    then = block(lambda a, b: [ops.sin(a) * b, a], "f64[3]", "f64[3]")
    other = block(lambda a, b: [b * b, a * b], "f64[3]", "f64[3]")
    u, v = ops.cond(ops.lt(p, full(0.0, p)), then, other, x, y)
    return total(u * v * v) + p * p


@case("f64[4]", "f64[4, 2]")
def branch_for_each(x, y):
    """A predicate of rank 1; log of the branch not taken is nan."""
    then = block(lambda a, b: ops.log(a) * ops.reduce_sum(b, axes=(1,)), "f64[4]", "f64[4, 2]")
    other = block(lambda a, b: a * a * ops.reduce_sum(b * b, axes=(1,)), "f64[4]", "f64[4, 2]")
    (u,) = ops.cond(ops.lt(full(0.0, x), x), then, other, x, y)
    return total(u * u)


@case("f64[3, 4]")
def normalized(x):
    p = composite.softmax(x, axis=1) * composite.log_softmax(x * x, axis=0)
    weight, bias = ops.const([0.5, 1.5, -1.0, 2.0]), ops.const([0.1, 0.2, 0.3, 0.4])
    return total(p * composite.layer_norm(ops.sin(x), weight, bias, eps=1e-3))


@case("f64[2, 3, 4]", "f64[2, 5, 4]", "f64[2, 5, 2]")
def attended(q, k, v):
    return total(ops.sin(composite.attention(q, k, v, scale=0.7, causal=True)[0]))


@case("f64[6]")
def activations(x):
    return total(composite.gelu(x, approximate="tanh") * composite.silu(x) + composite.softplus(x))


def rnn(reverse):
    def function(h, xs, w):
        def step(h, x, w):
            h = ops.tanh(ops.dot(h, w, contract=((0,), (0,))) + x)
            return [h, h * h]

        body = block(step, "f64[3]", "f64[3]", "f64[3, 3]")
        last, ys = ops.scan(body, [h], [xs], [w], 5, reverse)
        return total(last * 2.0) + total(ops.sin(ys))

    return function


CASES["recurrent"] = (("f64[3]", "f64[5, 3]", "f64[3, 3]"), rnn(False))
CASES["recurrent_reversed"] = (("f64[3]", "f64[5, 3]", "f64[3, 3]"), rnn(True))


@case("f64[2]", "f64[2]")
def late_moving_carries(x, y):
    """c moves from the second step, b from the third."""
    body = block(lambda a, b, c, y: [a * y, ops.sin(c) + a, b * a], *["f64[2]"] * 4)
    a, b, c = ops.scan(body, [x, full(0.5, x), full(0.7, x)], [], [y], 4)
    return total(a * b + c)


@case("f64[]", "f64[4]")
def last_carry_only(x, xs):
    body = block(lambda c, r: [ops.sin(c) * r], "f64[]", "f64[]")
    return ops.scan(body, [x], [xs], [], 4)[0]


@case("f64[2]", "f64[3, 2]")
def nested(x, rows):
    """A scan within an if within a scan."""

    def outer(c, r):
        inner = block(lambda d, k: [ops.sin(d * k), d * d], "f64[2]", "f64[2]")

        def long(c, r):
            last, ys = ops.scan(inner, [c], [], [r], 3)
            return last + ops.reduce_sum(ys, axes=(0,))

        then = block(long, "f64[2]", "f64[2]")
        other = block(lambda c, r: c * r * r, "f64[2]", "f64[2]")
        p = ops.lt(full(0.0, total(r)), total(r))
        (out,) = ops.cond(p, then, other, c, r)
        return [out, out * c]

    last, ys = ops.scan(block(outer, "f64[2]", "f64[2]"), [x], [rows], [], 3)
    return total(last) + total(ys * ys)


@case("f64[2]", "f64[2]")
def counted(x, k):
    """A while loop of 150 steps: three segments of its backward."""
    types = ["f64[2]", "f64[2]", "i64[]"]
    going = block(lambda x, k, i: ops.lt(i, full(150, i)), *types)
    step = block(lambda x, k, i: [x + ops.sin(x * k) * 0.02, k, i + full(1, i)], *types)
    return total(ops.while_loop(going, step, x, k, ops.full(0, I64))[0] * k)


@case("f64[2]")
def until(x):
    """How many steps depends on the data; none for some."""
    going = block(lambda x: ops.lt(total(x * x), full(9.0, total(x))), "f64[2]")
    step = block(lambda x: x * 1.5 + 0.1, "f64[2]")
    return total(ops.sin(ops.while_loop(going, step, x)[0]))


@case("f64[3]", "f64[3]")
def odd_results(x, y):
    """A result that is an input, one twice, and a loop of zero length."""
    body = block(lambda c: [c, c, ops.sin(c)], "f64[3]")
    last, same, _ = ops.scan(body, [x], [], [], 2)
    still = ops.scan(body, [y], [], [], 0)[0]
    return total(last * x + x) + total(same) + total(still * y)


def joined(graph, combine):
    """The graph of `combine(results)`."""
    with Builder(graph.params) as b:
        return b.graph([combine(b.replay(graph, graph.params))])
