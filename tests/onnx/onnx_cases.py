"""Graphs of one op each, made from the samples of its declaration, with operands to run them on."""

import zlib

import numpy as np

from graphc.ir import composite, ops  # noqa: F401  (declares the ops)
from graphc.ir.build import trace
from graphc.ir.data import Data
from graphc.ir.dtype import DTYPES, DType, dtype
from graphc.ir.op import OPS, Pointwise
from graphc.ir.schema import Case, Special, Uniform
from graphc.ir.types import TensorType, parse_type

_BY_LETTER = {
    "f": ("f32", "f64", "f16", "bf16"),
    "i": ("i64", "i32", "i8"),
    "u": ("u8",),
    "b": ("bool",),
    "c": (),
}


def is_mapped(op):
    return op.onnx is not None or hasattr(op, "to_onnx") or op.composite


class Sample:
    """A graph of one op and arrays to run it on."""

    def __init__(self, name, op, types, attrs, arrays):
        self.name, self.arrays = name, arrays
        self.graph = trace(lambda *xs: _results(op(*xs, **attrs)), *types)

    def __repr__(self):
        return self.name


def _results(made):
    return made if isinstance(made, tuple) else (made,)


def samples():
    """Samples of every op that declares an ONNX mapping."""
    found = []
    for op in OPS.values():
        if is_mapped(op) and op.samples:
            found += _pointwise(op) if _is_elementwise(op) else _cases(op)
    return found


def _is_elementwise(op):
    return any(isinstance(s, (Uniform, Special)) for s in op.samples)


def _pointwise(op):
    names = [n for letter in "fiub" for n in _BY_LETTER[letter] if _admits(op, DTYPES[n])]
    made = []
    for name in names:
        # a leading operand with a dtype of its own (the condition of select) admits one kind
        mixed = op.mixed if isinstance(op, Pointwise) else 0
        kinds = [dtype("bool")] * mixed + [dtype(name)] * (len(op.operands) - mixed)
        arrays = _values(op, kinds)
        types = [TensorType(kind, arrays[0].shape) for kind in kinds]
        attrs = {"dtype": dtype("f32")} if op.name == "cast" else {}
        made.append(Sample(f"{op.name}-{name}", op, types, attrs, arrays))
    return made


def _admits(op, kind):
    mixed = op.mixed if isinstance(op, Pointwise) else 0
    return all(kinds.admits(kind) for _, kinds in op.operands[mixed:])


def _values(op, kinds):
    """Random numbers in the sample's range; for floats every pair of its special values too."""
    rng = np.random.default_rng(zlib.crc32(op.name.encode()))
    low, high = next(((s.lo, s.hi) for s in op.samples if isinstance(s, Uniform)), (-2, 2))
    special = [x for s in op.samples if isinstance(s, Special) for x in s.numbers()]
    grids = np.meshgrid(*[special] * len(kinds), indexing="ij") if special else []
    arrays = []
    for i, kind in enumerate(kinds):
        numbers = rng.uniform(low, high, 40)
        if kind.kind == "f" and special:
            numbers = np.concatenate([numbers, grids[i].ravel()])
        elif special:
            numbers = np.concatenate([numbers, rng.uniform(low, high, len(grids[0].ravel()))])
        arrays.append(_as_kind(numbers, kind, low))
    return arrays


def _as_kind(numbers, kind: DType, low):
    if kind.kind == "b":
        return np.floor(numbers).astype(np.int64) % 2 == 0
    if kind.kind in "iu":
        floor = 1 if low > 0 else (0 if kind.kind == "u" else -(2**31))
        return np.maximum(np.round(numbers), floor).astype(kind.numpy)
    with np.errstate(all="ignore"):
        return numbers.astype(kind.numpy)


def _cases(op):
    made = []
    for i, case in enumerate(op.samples):
        assert isinstance(case, Case)
        types = [parse_type(text.partition(":")[0]) for text in case.types]
        attrs = {key: _attribute(key, value) for key, value in case.attrs.items()}
        arrays = [
            random_array(t, case.index, seed=17 * i + k, positive="positive" in case.types[k])
            for k, t in enumerate(types)
        ]
        made.append(Sample(f"{op.name}-case{i}", op, types, attrs, arrays))
    return made


def _attribute(key, value):
    if key == "dtype" and isinstance(value, str):
        return dtype(value)
    if key == "data":
        return Data(np.array(value))
    return value


def random_array(type, index=None, seed=0, positive=False):
    """Numbers around 0 (in [0, index) for integers where it is given)."""
    rng = np.random.default_rng(seed)
    kind = type.dtype
    if kind.kind == "b":
        return rng.integers(0, 2, type.shape).astype(bool)
    if kind.kind in "iu":
        top = index if index is not None else 5
        return rng.integers(0, top, type.shape).astype(kind.numpy)
    numbers = rng.normal(size=type.shape)
    return (np.abs(numbers) + 0.5 if positive else numbers).astype(kind.numpy)


def block(function, *types):
    return trace(function, *[parse_type(t) if isinstance(t, str) else t for t in types])
