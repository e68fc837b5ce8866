"""Random graphs of composed steps, over movement, pointwise ops, reductions, scans and scatters.

Values stay in a range in which a comparison means something: sums are scaled, products pass
through tanh, integers are clamped.
"""

import random
from math import prod

import numpy as np

import graphc.ir.ops  # noqa: F401  (declares the ops)
from graphc.ir.build import Builder
from graphc.ir.dims import evaluate_dim, product, symbol
from graphc.ir.dtype import BOOL, F32, F64, I32, I64, U8
from graphc.ir.graph import Graph, Value
from graphc.ir.op import OPS
from graphc.ir.ops.constant import full, full_like, iota
from graphc.ir.ops.movement import broadcast_shapes, broadcast_to
from graphc.ir.types import TensorType

SIZES = [1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 20, 33, 48, 64, 65, 70, 130]
LARGEST = 60000


def emit(name, *values, **attrs):
    return OPS[name](*values, **attrs)


def shape_of(value):
    return value.type.shape


def is_float(value):
    return value.type.dtype.kind == "f"


def is_bool(value):
    return value.type.dtype.kind == "b"


#: Symbolic sizes, and the values that stand for them where a step has to choose.
SYMBOLS = {"a": 7, "b": 20, "c": 64}
LEAST = 4


class Generator:
    """One random graph; the steps are methods whose names start with `step_`.

    symbolic: some sizes are symbols, of which no step assumes more than that they are LEAST or
    more.
    """

    def __init__(self, seed: int, symbolic: bool = False) -> None:
        self.random = random.Random(seed)
        self.symbolic = symbolic
        sizes = self.random.sample(SIZES, 4)
        if symbolic:
            names = [symbol(name) for name in self.random.sample(sorted(SYMBOLS), 2)]
            sizes = [*names, names[0] * 8, self.random.choice([3, 16, 33])]
        self.builder = Builder()
        with self.builder:
            self.pool: list[Value] = [
                self.builder.param(self._type(sizes)) for _ in range(self.random.randint(1, 3))
            ]
            steps = [name for name in dir(self) if name.startswith("step_")]
            for _ in range(self.random.randint(4, 16)):
                value = self.pick()
                if self.count(value) <= LARGEST:
                    made = getattr(self, self.random.choice(steps))(value)
                    if made is not None and shape_of(made):
                        self.pool.append(self._tame(made))
            self.graph = self._graph()

    def hint(self, size):
        return evaluate_dim(size, SYMBOLS)

    def count(self, value, axes=None):
        """The number of elements, along some axes or all, for the hints of the symbols."""
        shape = shape_of(value)
        chosen = range(len(shape)) if axes is None else axes
        return prod([self.hint(shape[axis]) for axis in chosen])

    def _type(self, sizes):
        rank = self.random.choice([1, 2, 2, 3, 3])
        dtype = self.random.choice([F32] * 4 + [F64, I32, BOOL])
        return TensorType(dtype, [self.random.choice(sizes) for _ in range(rank)])

    def _graph(self) -> Graph:
        last = self.pool[-6:]
        chosen = self.random.sample(last, min(len(last), self.random.randint(1, 3)))
        results = [
            v if v.node else emit("not" if is_bool(v) else "neg", v)
            for v in [*chosen, self.pool[-1]]
        ]
        return self.builder.graph(dict.fromkeys(results))

    def _tame(self, value):
        name = value.node.op.name if value.node else ""
        if value.type.dtype.kind in "bu":
            return value
        if not is_float(value) and name in ("mul", "add", "sub", "reduce_sum", "cumulative"):
            low, high = full_like(-9, value), full_like(9, value)
            return emit("min", emit("max", value, low), high)
        if is_float(value) and name in ("mul", "sub", "add"):
            return emit("tanh", emit("mul", value, full_like(0.5, value)))
        return value

    def pick(self, admits=lambda value: True):
        found = [value for value in self.pool[-8:] if admits(value)]
        return self.random.choice(found)

    def like(self, value, shape=None):
        """Another value of the same dtype, and of that shape where one is given."""
        wanted = shape_of(value) if shape is None else shape
        return self.pick_or_none(
            lambda v: v.type.dtype is value.type.dtype and shape_of(v) == wanted
        )

    def pick_or_none(self, admits):
        found = [value for value in self.pool[-8:] if admits(value)]
        return self.random.choice(found) if found else None

    def axis(self, value):
        return self.random.randrange(len(shape_of(value)))

    # --- steps -------------------------------------------------------------------------------

    def step_compare(self, x):
        if is_float(x):  # apart: how close values compare is a matter of rounding
            return emit("lt", x, emit("add", self.like(x), full_like(0.37, x)))
        return emit(self.random.choice(["lt", "le", "eq"]), x, self.like(x))

    def step_unary(self, x):
        if is_bool(x):
            return emit("not", x)
        if not is_float(x):
            return emit("neg", x)
        name = self.random.choice(["tanh", "abs", "neg", "exp", "sqrt", "floor"])
        if name == "exp":
            return emit("min", emit("exp", x), full_like(4.0, x))
        return emit("sqrt", emit("abs", x)) if name == "sqrt" else emit(name, x)

    step_unary_again = step_unary

    def step_binary(self, x):
        if is_bool(x):
            return emit(self.random.choice(["and", "or", "xor"]), x, self.like(x))
        return emit(self.random.choice(["add", "sub", "mul", "max", "min"]), x, self.like(x))

    step_binary_again = step_binary

    def step_broadcast(self, x):
        y = self.pick(lambda v: v.type.dtype is x.type.dtype)
        try:
            shape = broadcast_shapes(shape_of(x), shape_of(y))
        except RuntimeError:
            return self._outer(x, y)
        name = self.random.choice(["and", "xor"] if is_bool(x) else ["add", "mul"])
        return emit(name, broadcast_to(x, shape), broadcast_to(y, shape))

    def _outer(self, x, y):
        a, b = shape_of(x), shape_of(y)
        if len(a) > 2 or len(b) > 1 or self.count(x) * self.count(y) > 20000:
            return None
        wide = emit("expand", x, shape=a + b, axes=tuple(range(len(a), len(a + b))))
        name = "or" if is_bool(x) else "sub"
        return emit(name, wide, emit("expand", y, shape=a + b, axes=tuple(range(len(a)))))

    def step_reduce(self, x):
        axes = self._axes(x)
        name = self.random.choice(["reduce_sum", "reduce_sum", "reduce_max", "reduce_min"])
        if is_bool(x) and name == "reduce_sum":
            x = emit("cast", x, dtype=I64)
        made = emit(name, x, axes=axes)
        if name == "reduce_sum" and is_float(x):
            return self._scaled(made, self.count(x, axes))
        return made

    step_reduce_again = step_reduce

    def _axes(self, x):
        rank = len(shape_of(x))
        return tuple(sorted(self.random.sample(range(rank), self.random.randint(1, rank))))

    def _scaled(self, value, count):
        return emit("mul", value, full_like(1.0 / count, value))

    def step_arg(self, x):
        made = emit("arg_reduce", x, axis=self.axis(x), mode=self.random.choice(["max", "min"]))
        return emit("min", made, full_like(9, made))

    def step_centered(self, x):
        axis = self.axis(x)
        if is_bool(x):
            wide = emit(
                "expand", emit("reduce_max", x, axes=(axis,)), shape=shape_of(x), axes=(axis,)
            )
            return emit("eq", x, wide)
        name = self.random.choice(["reduce_sum", "reduce_max"])
        reduced = emit(name, x, axes=(axis,))
        if is_float(x):
            reduced = emit("mul", reduced, full_like(0.25, reduced))
        return emit("sub", x, emit("expand", reduced, shape=shape_of(x), axes=(axis,)))

    def step_permute(self, x):
        perm = list(range(len(shape_of(x))))
        self.random.shuffle(perm)
        return emit("permute", x, perm=tuple(perm))

    def step_transposed(self, x):
        if len(shape_of(x)) != 2:
            return None
        turned = emit("permute", x, perm=(1, 0))
        other = self.like(x, shape_of(turned))
        name = "and" if is_bool(x) else "mul"
        return emit(name, turned, other) if other is not None else turned

    def step_reshape(self, x):
        shape, n = shape_of(x), product(shape_of(x))
        options = [(n,), (1, *shape), (*shape, 1)]
        if not isinstance(n, int):
            return emit("reshape", x, shape=self.random.choice(options))
        for k in (2, 4, 5, 7, 8, 16):
            if n % k == 0:
                options += [(k, n // k), (n // k, k)]
        return emit("reshape", x, shape=self.random.choice(options))

    def step_slice(self, x):
        if self.symbolic:
            start = tuple(self.random.randint(0, 1) for _ in shape_of(x))
            stop = tuple(n if n == 1 else n - self.random.randint(0, 1) for n in shape_of(x))
            start = tuple(0 if n == 1 else a for a, n in zip(start, shape_of(x), strict=True))
            if any(self.hint(n) - 2 < LEAST or "-" in str(n) for n in shape_of(x)):
                return None
            return emit("slice", x, start=start, stop=stop, step=(1,) * len(start))
        start = [self.random.randint(0, n // 3) for n in shape_of(x)]
        stop = [self.random.randint(a + 1, n) for a, n in zip(start, shape_of(x), strict=True)]
        step = [self.random.choice([1, 1, 2]) for _ in start]
        return emit("slice", x, start=tuple(start), stop=tuple(stop), step=tuple(step))

    def step_pad(self, x):
        low = tuple(self.random.randint(0, 2) for _ in shape_of(x))
        high = tuple(self.random.randint(0, 3) for _ in shape_of(x))
        return emit("pad", x, low=low, high=high, value=self.random.choice([0, 1]))

    def step_flip(self, x):
        return emit("flip", x, axes=(self.axis(x),))

    def step_concat(self, x):
        axis = self.axis(x)

        def fits(v):
            a, b = shape_of(v), shape_of(x)
            same = v.type.dtype is x.type.dtype and len(a) == len(b)
            return same and a[:axis] + a[axis + 1 :] == b[:axis] + b[axis + 1 :]

        return emit("concat", x, self.pick(fits), axis=axis)

    def step_gather(self, x):
        axis = self.axis(x)
        length, factor = self.random.choice([3, 9, 20]), self.random.choice([1, 2])
        line = iota((length,), 0, self.random.choice([I32, I64]))
        line = emit("mul", line, full_like(factor, line))
        last = shape_of(x)[axis] - 1
        last = full_like(last if isinstance(last, int) else LEAST - 3, line)
        return emit("gather", x, emit("min", line, last), axis=axis)

    def step_scatter(self, x):
        axis = self.axis(x)
        length = shape_of(x)[axis]
        line = iota((length,), 0, I64)
        index = emit("min", emit("mul", line, full_like(2, line)), full_like(4, line))
        shape = [5 if i == axis else n for i, n in enumerate(shape_of(x))]
        start = full(self.random.choice([0, 1]), x.type.dtype, tuple(shape))
        mode = self.random.choice(["set", "max"] if is_bool(x) else ["add", "set", "max"])
        return emit("scatter", start, index, x, axis=axis, mode=mode)

    def step_select(self, x):
        condition = self.pick_or_none(lambda v: is_bool(v) and shape_of(v) == shape_of(x))
        if condition is not None:
            return emit("select", condition, x, self.like(x))
        if is_bool(x):
            return None
        limit = full_like(0.3 if is_float(x) else 1, x)
        condition = emit(self.random.choice(["lt", "le"]), x, limit)
        return emit("select", condition, x, emit("neg", x))

    def step_cast(self, x):
        if is_float(x):
            x = emit("mul", emit("tanh", x), full_like(3.0, x))
        if is_bool(x):
            return emit("cast", x, dtype=self.random.choice([F32, I64, I32, U8]))
        target = self.random.choice([F32, F64, BOOL] if is_float(x) else [F32, I64, BOOL])
        return emit("cast", x, dtype=target)

    def step_cumulative(self, x):
        if is_bool(x):
            return None
        mode = self.random.choice(["sum", "sum", "max"])
        reverse = self.random.random() < 0.3
        made = emit("cumulative", x, axis=self.axis(x), mode=mode, reverse=reverse)
        return emit("tanh", made) if is_float(made) else made

    def step_norm(self, x):
        if not is_float(x):
            return None
        axes = self._axes(x)
        count = self.count(x, axes)

        def wide(value):
            return emit("expand", value, shape=shape_of(x), axes=axes)

        mean = self._scaled(emit("reduce_sum", x, axes=axes), count)
        centered = emit("sub", x, wide(mean))
        square = emit("reduce_sum", emit("mul", centered, centered), axes=axes)
        variance = self._scaled(square, count)
        spread = emit("sqrt", emit("add", variance, full_like(1.0, variance)))
        return emit("div", centered, wide(spread))

    def step_softmax(self, x):
        if not is_float(x):
            return None
        axis = self.axis(x)

        def wide(value):
            return emit("expand", value, shape=shape_of(x), axes=(axis,))

        e = emit("exp", emit("sub", x, wide(emit("reduce_max", x, axes=(axis,)))))
        return emit("div", e, wide(emit("reduce_sum", e, axes=(axis,))))


def random_graph(seed: int, symbolic: bool = False) -> Graph:
    return Generator(seed, symbolic).graph


def random_inputs(graph: Graph, seed: int, sizes: dict | None = None) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    made = []
    for param in graph.params:
        shape = [evaluate_dim(d, sizes or {}) for d in param.type.shape]
        if param.type.dtype.kind == "f":
            made.append(rng.standard_normal(shape).astype(param.type.dtype.numpy))
        elif is_bool(param):
            made.append(rng.random(shape) < 0.5)
        else:
            made.append(rng.integers(0, 5, shape).astype(param.type.dtype.numpy))
    return made
