"""Random programs over all ops: a graph, and operands to run it on.

A program is built and evaluated at once, so that a step knows the numbers that it works on: it
keeps arguments within an op's domain, indices within bounds and values within a range in which a
comparison means something.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from math import prod

import numpy as np

from graphc.ir import composite, ops  # noqa: F401  (declares the ops)
from graphc.ir.build import Builder
from graphc.ir.dtype import BOOL, DTYPES, F32, F64, I32, I64, U8, DType
from graphc.ir.graph import Graph, Value
from graphc.ir.interpret import concrete
from graphc.ir.text import iter_graphs
from graphc.ir.types import TensorType

SIZES = (1, 2, 3, 4, 5, 8, 11, 17)
LARGEST = 600  # elements of a value
HIGH = 32.0  # a float beyond it is scaled down


@dataclass(frozen=True, eq=False)
class Item:
    """A value and what it holds."""

    value: Value
    array: np.ndarray

    @property
    def dtype(self) -> DType:
        return self.value.type.dtype

    @property
    def shape(self) -> tuple:
        return self.array.shape

    @property
    def rank(self) -> int:
        return self.array.ndim

    @property
    def is_float(self) -> bool:
        return self.dtype.kind == "f"


@dataclass(frozen=True)
class Program:
    seed: int
    graph: Graph
    arrays: tuple[np.ndarray, ...]
    steps: tuple[str, ...]
    sizes: dict[str, int] = field(default_factory=dict)  # of fresh symbols

    def count(self) -> Counter:
        """How often each op occurs, blocks included."""
        return Counter(n.op.name for part in iter_graphs(self.graph) for n in part.nodes)


class Skip(Exception):
    """A step does not fit the values that there are."""


class Maker:
    """The state of one program under construction; the steps work on it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.builder = Builder()
        self.pool: list[Item] = []
        self.arrays: list[np.ndarray] = []
        self.sizes = self.random.sample(SIZES, 3)
        self.fresh_sizes: dict[str, int] = {}

    # --- values ------------------------------------------------------------------------------

    def emit(self, op, *items: Item, **attrs) -> Item | list[Item]:
        """Builds and evaluates a node; its item, or items where it has several results."""
        made = self.builder.emit(op, tuple(i.value for i in items), op.attrs_of(attrs))
        return self.evaluated(made, items)

    def evaluated(self, values, items):
        node = values[0].node
        with np.errstate(all="ignore"):
            attrs = concrete(node.attrs, self.fresh_sizes)
            found = node.op.eval_node(node, [i.array for i in items], attrs)
        made = [
            Item(v, np.asarray(a).astype(v.type.dtype.numpy))
            for v, a in zip(values, found, strict=True)
        ]
        return made[0] if len(made) == 1 else made

    def fresh(self, dtype: DType, shape: tuple, low: int = -4, high: int = 4) -> Item:
        """A new parameter, or a constant."""
        if dtype is BOOL:
            array = self.numbers.random(shape) < 0.5
        elif dtype.kind in "iu":
            array = self.numbers.integers(max(low, 0) if dtype is U8 else low, high + 1, shape)
        else:
            array = self.numbers.uniform(low, high, shape)
        array = np.asarray(array).astype(dtype.numpy)
        if len(self.arrays) >= 5 or (self.arrays and self.chance(0.3)):
            return Item(ops.const(array), array)
        self.arrays.append(array)
        return Item(self.builder.param(TensorType(dtype, shape)), array)

    def number(self, value, like: Item) -> Item:
        made = ops.full_like(value, like.value)
        return Item(made, np.full(like.shape, value, like.dtype.numpy))

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def any_shape(self, rank: int | None = None) -> tuple:
        rank = self.random.choice((0, 1, 1, 2, 2, 2, 3)) if rank is None else rank
        shape = tuple(self.random.choice(self.sizes) for _ in range(rank))
        return shape if prod(shape) <= LARGEST else shape[:-1]

    def pick(self, kinds: str = "fiub", rank: int = 0, names: tuple = ()) -> Item:
        """A value of such a kind (or one of the named dtypes) and at least that rank."""

        def fits(item: Item) -> bool:
            kind = item.dtype.name in names if names else item.dtype.kind in kinds
            return kind and item.rank >= rank and item.array.size > 0

        found = [item for item in self.pool[-10:] if fits(item)]
        if found and self.chance(0.9):
            return self.random.choice(found)
        options = [d for d in (F32, F32, F32, F64, I32, I64, U8, BOOL)
                   if (d.name in names if names else d.kind in kinds)]  # fmt: skip
        options = options or [DTYPES[n] for n in names]
        return self.fresh(self.random.choice(options), self.any_shape(max(rank, 1)))

    def like(self, x: Item, shape: tuple | None = None) -> Item:
        """Another value of that dtype and shape: from the pool, spread out, or new."""
        shape = x.shape if shape is None else shape
        found = [i for i in self.pool[-10:] if i.dtype is x.dtype and i.shape == shape]
        if found and self.chance(0.6):
            return self.random.choice(found)
        narrow = [i for i in self.pool[-10:] if i.dtype is x.dtype and self.spreads(i, shape)]
        if narrow and self.chance(0.6):
            return self.spread(self.random.choice(narrow), shape)
        return self.fresh(x.dtype, shape)

    def spreads(self, item: Item, shape: tuple) -> bool:
        return 0 < item.rank < len(shape) and item.shape == shape[len(shape) - item.rank :]

    def spread(self, item: Item, shape: tuple) -> Item:
        if item.shape == shape:
            return item
        axes = tuple(range(len(shape) - item.rank))
        return self.emit(ops.expand, item, shape=shape, axes=axes)

    def axis(self, x: Item) -> int:
        return self.random.randrange(x.rank)

    def axes(self, x: Item) -> tuple:
        return tuple(sorted(self.random.sample(range(x.rank), self.random.randint(1, x.rank))))

    # --- ranges ------------------------------------------------------------------------------

    def tamed(self, x: Item) -> Item:
        """Large floats scaled by a power of two or squashed; large integers clamped."""
        if x.array.size == 0 or x.dtype is BOOL:
            return x
        if not x.is_float:
            low, high = (0, 200) if x.dtype is U8 else (-1000, 1000)
            if x.array.min() >= low and x.array.max() <= high:
                return x
            return self.clamped(x, 0 if x.dtype is U8 else -9, 9)
        peak = float(np.abs(x.array.astype(np.float64)).max())
        if peak <= HIGH:
            return x
        if not np.isfinite(peak):
            return self.emit(ops.tanh, self.emit(ops.max_, x, self.number(-1.0, x)))
        if self.chance(0.5):
            return self.emit(ops.tanh, x)
        scale = 2.0 ** -int(np.ceil(np.log2(peak / HIGH)))
        return self.emit(ops.mul, x, self.number(scale, x))

    def clamped(self, x: Item, low, high) -> Item:
        x = self.emit(ops.max_, x, self.number(low, x))
        return self.emit(ops.min_, x, self.number(high, x))

    def positive(self, x: Item) -> Item:
        """At least a half."""
        if x.array.size and float(x.array.astype(np.float64).min()) >= 0.5:
            return x
        return self.emit(ops.add, self.emit(ops.abs_, x), self.number(0.5, x))

    def within_one(self, x: Item) -> Item:
        """In [-0.9, 0.9]."""
        if x.array.size and float(np.abs(x.array.astype(np.float64)).max()) <= 0.9:
            return x
        return self.emit(ops.mul, self.emit(ops.tanh, x), self.number(0.875, x))

    def small(self, x: Item) -> Item:
        """In [-4, 4]."""
        if x.array.size and float(np.abs(x.array.astype(np.float64)).max()) <= 4:
            return x
        return self.emit(ops.mul, self.emit(ops.tanh, x), self.number(4.0, x))

    def index(self, size: int, shape: tuple, distinct: bool = False) -> Item:
        """Integers in [0, size): computed, given or constant."""
        if distinct:
            array = self.numbers.permutation(size)[: prod(shape)].reshape(shape).astype(np.int64)
            return Item(ops.const(array), array)
        dtype = self.random.choice((I64, I64, I32))
        how = self.random.randrange(3)
        if how == 0:
            return self.fresh(dtype, shape, 0, size - 1)
        if how == 1 and shape:
            line = Item(ops.iota(shape, len(shape) - 1, dtype), None)  # type: ignore[arg-type]
            line = self.evaluated((line.value,), ())
            line = self.emit(ops.mul, line, self.number(self.random.choice((1, 3)), line))
            return self.clamped(line, 0, size - 1)
        return self.clamped(self.fresh(dtype, shape, -2, size + 2), 0, size - 1)


def program(seed: int) -> Program:
    """The program of that seed: 4 to 16 steps, and two or three of its last values."""
    from .steps import STEPS, WEIGHTS

    maker = Maker(seed)
    taken: list[str] = []
    with maker.builder:
        for _ in range(maker.random.randint(1, 2)):
            dtype = maker.random.choice((F32, F32, F32, F64, I32))
            maker.pool.append(maker.fresh(dtype, maker.any_shape()))
        wanted = maker.random.randint(4, 16)
        while len(taken) < wanted:
            (name,) = maker.random.choices(list(STEPS), WEIGHTS)
            try:
                made = STEPS[name](maker)
            except Skip:
                continue
            taken.append(name)
            for item in made if isinstance(made, (list, tuple)) else (made,):
                if item.array.size <= LARGEST:
                    maker.pool.append(maker.tamed(item))
        last = maker.pool[-5:]
        chosen = [maker.pool[-1], *maker.random.sample(last, min(2, len(last)))]
        results = dict.fromkeys(item.value for item in chosen if item.value.node is not None)
        graph = maker.builder.graph(results or {maker.emit(ops.detach, maker.pool[-1]).value: None})
    return Program(seed, graph, tuple(maker.arrays), tuple(taken), maker.fresh_sizes)
