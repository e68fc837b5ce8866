"""Cases that the declarations of the ops make: graphs of one node, and arrays to run them on.

A pointwise op is run on random numbers in the range of its `Uniform`, on every combination of its
`Special` values, and on the limits of integer types; a structural op on its `Case`s; control flow,
whose blocks no declaration can hold, on the graphs below.
"""

import zlib
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from graphc.ir import composite, ops  # noqa: F401  (declares the ops)
from graphc.ir.build import trace
from graphc.ir.data import Data
from graphc.ir.dims import symbol
from graphc.ir.dtype import DTYPES, DType, dtype
from graphc.ir.graph import Graph
from graphc.ir.op import OPS, Op, Pointwise
from graphc.ir.schema import DimAttr, Dims, Special, Uniform
from graphc.ir.types import TensorType, parse_type

DTYPE_NAMES = ("f32", "f64", "i32", "i64", "u8", "bool", "c64", "c128")
HALVES = ("f16", "bf16")
HALF_OPS = {
    "neg",
    "add",
    "mul",
    "div",
    "exp",
    "tanh",
    "max",
    "lt",
    "select",
    "cast",
    "sqrt",
    "relu",
}
COUNT = 24  # random numbers of a pointwise case


@dataclass(frozen=True)
class OpCase:
    """An op on operands of these types; `arrays` are values for them."""

    name: str
    op: Op
    types: tuple[TensorType, ...]
    attrs: dict[str, Any]
    arrays: tuple[np.ndarray, ...]
    index: int | None = None
    plain: int | None = None  # how many elements, at the front, are random numbers; None: all

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def graph(self) -> Graph:
        return trace(lambda *xs: as_tuple(self.op(*xs, **self.attrs)), *self.types)

    def plain_arrays(self) -> list[np.ndarray]:
        """The operands without special values."""
        return [a[: self.plain] if a.ndim == 1 else a for a in self.arrays]

    def in_float64(self) -> "OpCase":
        """The same with f64 in the place of every real float, c128 of every complex one."""
        types = tuple(wide_type(t) for t in self.types)
        arrays = tuple(wide_array(a) for a in self.arrays)
        attrs = {k: wide_dtype(v) if isinstance(v, DType) else v for k, v in self.attrs.items()}
        return replace(self, types=types, attrs=attrs, arrays=arrays)

    def only_plain(self) -> "OpCase":
        arrays = tuple(self.plain_arrays())
        types = tuple(t.with_shape(a.shape) for t, a in zip(self.types, arrays, strict=True))
        return replace(self, types=types, arrays=arrays)

    def resized(self, old: int, new: Any) -> "OpCase":
        """Every size `old` of operands and attributes replaced by `new`; arrays are kept."""

        def swap(size):
            return new if size.__class__ is int and size == old else size

        kinds = dict(self.op.attributes)
        attrs = dict(self.attrs)
        for key, value in attrs.items():
            if kinds[key] is Dims:
                attrs[key] = tuple(map(swap, value))
            elif kinds[key] is DimAttr:
                attrs[key] = swap(value)
        types = tuple(t.with_shape(map(swap, t.shape)) for t in self.types)
        return replace(self, name=f"{self.name}-{old}-{new}", types=types, attrs=attrs)


def as_tuple(made):
    return made if isinstance(made, tuple) else (made,)


def wide_dtype(kind: DType) -> DType:
    return {"f": DTYPES["f64"], "c": DTYPES["c128"]}.get(kind.kind, kind)


def wide_type(type: TensorType) -> TensorType:
    return type.with_dtype(wide_dtype(type.dtype))


def wide_array(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind in "iub":
        return array
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def is_elementwise(op: Op) -> bool:
    return any(isinstance(s, (Uniform, Special)) for s in op.samples)


@cache
def cases_of(name: str) -> tuple[OpCase, ...]:
    """The cases of an op; none where it declares no samples (effects, control flow)."""
    op = OPS[name]
    return tuple(_elementwise_cases(op) if is_elementwise(op) else _structural_cases(op))


def all_cases() -> list[OpCase]:
    return [case for name in OPS for case in cases_of(name)]


# --- pointwise -----------------------------------------------------------------------------------


def mixed_of(op: Op) -> int:
    """How many leading operands have a dtype of their own."""
    return op.mixed if isinstance(op, Pointwise) else 0


def admitted(op: Op, names=DTYPE_NAMES) -> list[DType]:
    """The element types that all operands admit that share one."""
    kinds = [kinds for _, kinds in op.operands[mixed_of(op) :]]
    return [dtype(n) for n in names if all(k.admits(dtype(n)) for k in kinds)]


def _elementwise_cases(op: Op) -> list[OpCase]:
    names = DTYPE_NAMES + (HALVES if op.name in HALF_OPS else ())
    found = []
    for kind in admitted(op, names):
        if op.name == "complex" and kind.itemsize < 4:
            continue
        mixed = mixed_of(op)
        kinds = [dtype("bool")] * mixed + [kind] * (len(op.operands) - mixed)
        arrays = _operands(op, kinds)
        types = tuple(TensorType(k, a.shape) for k, a in zip(kinds, arrays, strict=True))
        for attrs, suffix in _attributes(op, kind):
            name = f"{op.name}-{kind.name}{suffix}"
            found.append(OpCase(name, op, types, attrs, arrays, plain=COUNT))
    return found


def _attributes(op: Op, kind: DType) -> list[tuple[dict, str]]:
    if op.name == "cast":
        targets = ("f64", "f32", "f16", "bf16", "i64", "i32", "u8", "bool", "c128")
        return [({"dtype": dtype(t)}, f"-{t}") for t in targets if kind.kind != "c" or t[0] in "cf"]
    if op.name == "gelu":
        return [({"approximate": how}, f"-{how}") for how in ("none", "tanh")]
    return [({}, "")]


def _operands(op: Op, kinds: list[DType]) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    low, high = next(((s.lo, s.hi) for s in op.samples if isinstance(s, Uniform)), (-2, 2))
    edges = [_edges(op, kind) for kind in kinds]
    grids = [g.ravel() for g in np.meshgrid(*edges, indexing="ij")]
    if op.name in ("quo", "rem") and kinds[-1].kind in "iu":
        grids = [g[grids[1] != 0] for g in grids]
    arrays = []
    for kind, grid in zip(kinds, grids, strict=True):
        numbers = _random(rng, low, high, kind, COUNT)
        arrays.append(np.concatenate([numbers, grid]))
    return tuple(arrays)


def _edges(op: Op, kind: DType) -> np.ndarray:
    if kind.kind == "b":
        return np.array([True, False])
    if kind.kind in "iu":
        info = np.iinfo(kind.numpy)
        low = [-1] if info.min else []
        return np.array([info.min, info.max, 0, 1, *low], kind.numpy)
    numbers = [x for s in op.samples if isinstance(s, Special) for x in s.numbers()]
    with np.errstate(over="ignore"):
        return np.array([x for x in numbers if kind.kind == "f" or np.isfinite(x)], kind.numpy)


def _random(rng, low: float, high: float, kind: DType, count: int) -> np.ndarray:
    numbers = rng.uniform(low, high, count)
    if kind.kind == "b":
        return numbers > (low + high) / 2
    if kind.kind in "iu":
        floor = 0 if kind.kind == "u" else low
        return np.maximum(np.round(numbers), max(floor, 1) if low > 0 else floor).astype(kind.numpy)
    if kind.kind == "c":
        return (numbers + 1j * rng.uniform(low, high, count)).astype(kind.numpy)
    return numbers.astype(kind.numpy)


# --- structural ----------------------------------------------------------------------------------


def _structural_cases(op: Op) -> list[OpCase]:
    found = []
    for i, case in enumerate(op.samples):
        types = tuple(parse_type(text.partition(":")[0]) for text in case.types)
        attrs = {key: _attribute(key, value) for key, value in case.attrs.items()}
        words = [text.partition(":")[2] for text in case.types]
        arrays = tuple(
            random_array(t, case.index, 17 * i + k, word)
            for k, (t, word) in enumerate(zip(types, words, strict=True))
        )
        if op.name == "searchsorted":
            arrays = (np.sort(arrays[0]), *arrays[1:])
        found.append(OpCase(f"{op.name}-{i}", op, types, attrs, arrays, case.index))
    return found


def _attribute(key: str, value: Any) -> Any:
    if key == "dtype" and isinstance(value, str):
        return dtype(value)
    return Data(np.array(value)) if key == "data" else value


def random_array(type: TensorType, index: int | None = None, seed: int = 0, word: str = ""):
    """Numbers around 0; integers in [0, index) where it is given; `word` may be "positive"."""
    rng = np.random.default_rng(seed)
    kind = type.dtype
    shape = tuple(7 if d.__class__ is not int else d for d in type.shape)
    if kind.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if kind.kind in "iu":
        low = 0 if index is not None or kind.kind == "u" else -9
        return rng.integers(low, 9 if index is None else index, shape).astype(kind.numpy)
    numbers = rng.normal(size=shape)
    if kind.kind == "c":
        numbers = numbers + 1j * rng.normal(size=shape)
    return (np.abs(numbers) + 0.5 if word == "positive" else numbers).astype(kind.numpy)


# --- control flow --------------------------------------------------------------------------------


def block(function, *types):
    return trace(function, *[parse_type(t) if isinstance(t, str) else t for t in types])


def _if_graph(kind: str) -> Graph:
    then = block(lambda a, b: (ops.add(a, b), a), f"{kind}[3]", f"{kind}[3]")
    other = block(lambda a, b: (ops.mul(a, b), b), f"{kind}[3]", f"{kind}[3]")
    return block(
        lambda p, a, b: ops.cond(ops.lt(ops.full_like(0.0, p), p), then, other, a, b),
        f"{kind}[]", f"{kind}[3]", f"{kind}[3]",
    )  # fmt: skip


def _mask_if_graph(kind: str) -> Graph:
    then = block(lambda a: ops.mul(a, a), f"{kind}[3, 2]")
    other = block(lambda a: ops.neg(a), f"{kind}[3, 2]")
    return block(
        lambda p, a: ops.cond(ops.lt(ops.full_like(0.0, p), p), then, other, a),
        f"{kind}[3]", f"{kind}[3, 2]",
    )  # fmt: skip


def _while_graph(kind: str) -> Graph:
    types = ("i64[]", f"{kind}[3]")
    condition = block(lambda i, x: ops.lt(i, ops.full_like(4, i)), *types)
    body = block(
        lambda i, x: (ops.add(i, ops.full_like(1, i)), ops.mul(x, ops.full_like(1.5, x))), *types
    )
    start = dtype("i64")
    return block(lambda x: ops.while_loop(condition, body, ops.full(0, start), x)[1], f"{kind}[3]")


def _scan_graph(kind: str, reverse: bool) -> Graph:
    def step(h, x, w):
        h = ops.add(ops.mul(h, w), x)
        return h, ops.mul(h, h)

    body = block(step, *[f"{kind}[2]"] * 3)
    n = symbol("n")
    return block(
        lambda h, xs, w: ops.scan(body, [h], [xs], [w], n, reverse),
        f"{kind}[2]", f"{kind}[n, 2]", f"{kind}[2]",
    )  # fmt: skip


CONTROL = {
    "if": _if_graph,
    "if over a mask": _mask_if_graph,
    "while": _while_graph,
    "scan": lambda kind: _scan_graph(kind, False),
    "scan in reverse": lambda kind: _scan_graph(kind, True),
}


def control_arrays(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    return [random_array(p.type, seed=seed + i) for i, p in enumerate(graph.params)]
