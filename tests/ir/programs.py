"""Graphs that the tests of the IR share: of every kind of thing that its text can hold."""

import numpy as np

from graphc.ir import composite, ops
from graphc.ir.build import Builder, trace
from graphc.ir.dims import Facts, symbol
from graphc.ir.dtype import F32, F64, I64
from graphc.ir.graph import Module
from graphc.ir.types import parse_type


def traced(function, *types, names=()):
    return trace(function, *[parse_type(t) for t in types], names=names)


def mlp():
    """Two layers with source lines and a symbolic batch."""
    with Builder() as b:
        types = ("f32[n, 4]", "f32[4, 8]", "f32[8]", "f32[8, 2]")
        x, w1, bias, w2 = [
            b.param(parse_type(t), name) for t, name in zip(types, ("x", "w1", "b1", "w2"))
        ]
        b.loc = "mlp.py:12 in forward"
        h = ops.dot(x, w1, contract=((1,), (0,)))
        b.loc = "mlp.py:13 in forward & mlp.py:14 in forward"
        h = ops.tanh(ops.add(h, ops.expand(bias, shape=h.shape, axes=(0,))))
        b.loc = ""
        return b.graph([ops.dot(h, w2, contract=((1,), (0,)))])


def constants():
    """Numbers and data that a text must keep to the bit."""
    numbers = (float("nan"), float("inf"), -float("inf"), -0.0, 0.0, 1e-45, 0.1, 1 / 3)

    def function(x):
        parts = [ops.full(number, F64, (2,)) for number in numbers]
        parts.append(ops.const(np.array([np.nan, -0.0])))
        parts.append(ops.const(np.array([0.0, 1e300])))
        return [ops.concat(x, *parts, axis=0), ops.full(True, parse_type("bool[]").dtype),
                ops.full(1 + 2j, parse_type("c64[]").dtype, (1,)),
                ops.const(np.zeros((0, 3), np.float32))]  # fmt: skip

    return traced(function, "f64[2]")


def branches():
    """A scan within an if within a scan, and a while loop."""

    def long(c, r):
        inner = traced(lambda d, k: [ops.sin(d * k), d * d], "f32[2]", "f32[2]")
        last, ys = ops.scan(inner, [c], [], [r], 3)
        return last + ops.reduce_sum(ys, axes=(0,))

    then = traced(long, "f32[2]", "f32[2]")
    other = traced(lambda c, r: c * r, "f32[2]", "f32[2]")

    def outer(c, r):
        p = ops.lt(ops.full(0.0, F32), ops.reduce_sum(r, axes=(0,)))
        (made,) = ops.cond(p, then, other, c, r)
        return [made, made]

    body = traced(outer, "f32[2]", "f32[2]")
    going = traced(lambda i, x: ops.lt(i, ops.full_like(3, i)), "i64[]", "f32[2]")
    step = traced(lambda i, x: [i + ops.full_like(1, i), x * 0.5], "i64[]", "f32[2]")

    def main(x, rows):
        last, ys = ops.scan(body, [x], [rows], [], symbol("n"), True)
        return [ops.while_loop(going, step, ops.full(0, I64), last)[1], ys]

    return traced(main, "f32[2]", "f32[n, 2]", names=("x", "rows"))


def effects():
    """Effects keep their order, also where nothing reads them."""

    def function(x):
        ops.print_op(x, text='a "quoted"\\ text,\n# of two lines ] : {')
        ops.assert_op(ops.lt(x, ops.full_like(9.0, x)), text="too large")
        ops.print_op(text="")
        return x

    return traced(function, "f32[3]", names=("x",))


def composites():
    def function(x, w, b, index):
        h = composite.layer_norm(composite.gelu(x, approximate="tanh"), w, b, eps=1e-5)
        return [composite.softmax(h, axis=1), composite.pick(h, index, axis=1)]

    return traced(function, "f32[2, 4]", "f32[4]", "f32[4]", "i64[2]", names=("x", "w", "b", "i"))


def symbolic():
    n, m = symbol("n"), symbol("m")

    def function(x, y):
        flat = ops.reshape(x, shape=(n * m * 2,))
        part = ops.slice_(flat, start=(1,), stop=(2 * n * m - m + 1,), step=(1,))
        return [part, ops.iota((n + 1, 3 * m - 1), 1, I64), ops.dim_value(n * n - 2 * n * m)]

    return traced(function, "f32[n, 2*m]", "f32[m, n + 1]")


def names_that_collide():
    """Two values of one name, and one whose name another would get."""
    with Builder() as b:
        x, y = b.param(parse_type("f32[]"), "x"), b.param(parse_type("f32[]"), "x")
        made = [ops.add(x, y), ops.mul(x, y), ops.sub(x, y)]
        for value, name in zip(made, ("x", "x.2", "3"), strict=True):
            value.name = name
        return b.graph(made)


GRAPHS = {
    f.__name__: f
    for f in (mlp, constants, branches, effects, composites, symbolic, names_that_collide)
}


def module():
    dims = {"n": Facts(1, 4096, 32), "m": Facts(0, None, 7)}
    return Module({name: make() for name, make in GRAPHS.items()}, dims, name="all of them")


def arrays(graph, seed=0, **sizes):
    """Operands for a graph; symbols have these sizes."""
    from graphc.ir.dims import evaluate_dim

    rng = np.random.default_rng(seed)
    made = []
    for p in graph.params:
        shape = [evaluate_dim(d, sizes) for d in p.type.shape]
        if p.type.dtype.kind == "f":
            made.append(rng.normal(size=shape).astype(p.type.dtype.numpy))
        else:
            made.append(rng.integers(0, 2, shape).astype(p.type.dtype.numpy))
    return made
