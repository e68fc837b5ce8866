"""The vector maths against torch: casts, and the special values of every op that torch has."""

import numpy as np
import pytest

from graphc.ir.dtype import dtype
from tests.backends.vmath_runner import LEVELS, Pointwise, Signature, same

torch = pytest.importorskip("torch")

DTYPES = ("bool", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64")
FLOATS = ("f16", "bf16", "f32", "f64")
UNARY = """neg abs sign floor ceil round trunc sqrt rsqrt exp exp2 expm1 log log2 log10 log1p
sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh
erf erfc erfinv lgamma digamma sigmoid""".split()
BINARY = ("pow", "atan2", "nextafter")
CANCEL = ("lgamma", "digamma")  # their reflections subtract
VALUES = [0.0, -0.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.5, 3.0, 100.0]
VALUES += [-100.0, 200.5, 300.0, -300.0, 65504.0, 70000.0, -70000.0, 3e9, -3e9, 1e20, -1e20, 1e-40]


def to_torch(x: np.ndarray):
    if x.dtype == dtype("bf16").numpy:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def to_numpy(x) -> np.ndarray:
    if x.dtype is torch.bfloat16:
        return x.view(torch.int16).numpy().view(dtype("bf16").numpy)
    return x.numpy()


def operand(name: str) -> np.ndarray:
    kind = dtype(name)
    if kind.kind in "biu":
        numbers = np.array(
            [0, 1, 2, 127, 128, 255, 32768, 65504, 65520, 2**24 + 1, 2**31, 2**53 + 1]
        )
        return np.concatenate([numbers, -numbers]).astype(kind.numpy)
    with np.errstate(over="ignore"):
        return np.array(VALUES).astype(kind.numpy)


def equal(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    both_nan = np.isnan(ours) & np.isnan(theirs) if ours.dtype.kind not in "biu" else False
    return (ours == theirs) | both_nan


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_casts(level) -> None:
    run = Pointwise(level, [Signature("cast", (a,), b) for a in DTYPES for b in DTYPES], 8)
    for source in DTYPES:
        x = operand(source)
        for target in DTYPES:
            ours = run(Signature("cast", (source,), target), x)
            theirs = to_numpy(to_torch(x).to(getattr(torch, dtype(target).torch_name)))
            bad = ~equal(ours, theirs)
            if target in ("u32", "u64") and source in FLOATS:
                # Beyond the range torch's vectors and their tails differ from each other.
                wide = x.astype(np.float64)
                bad &= (wide > -1) & (wide < 2.0 ** (8 * ours.itemsize))
            at = int(np.argmax(bad))
            assert not bad.any(), f"{source} {x[at]} to {target}: {ours[at]}, torch {theirs[at]}"


@pytest.mark.parametrize("name", ["f32", "f64"])
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_special_values(level, name: str) -> None:
    signatures = [same(op, name) for op in UNARY] + [same(op, name, 2) for op in BINARY]
    run = Pointwise(level, signatures, 8)
    x = operand(name)
    a, b = (side.ravel() for side in np.meshgrid(x, x))
    for op in UNARY:
        theirs = getattr(torch.special if op == "erfc" else torch, op)(torch.from_numpy(x)).numpy()
        assert_close(op, run(same(op, name), x), theirs, x)
    for op in BINARY:
        theirs = getattr(torch, op)(torch.from_numpy(a), torch.from_numpy(b)).numpy()
        assert_close(op, run(same(op, name, 2), a, b), theirs, a, b)


def assert_close(op: str, ours: np.ndarray, theirs: np.ndarray, *operands: np.ndarray) -> None:
    least = ours.dtype.type(1 if op in CANCEL else 1e-30)
    with np.errstate(all="ignore"):
        near = np.abs(ours - theirs) <= 16 * np.spacing(np.maximum(np.abs(theirs), least))
    bad = ~(near | equal(ours, theirs))
    at = int(np.argmax(bad))
    where = [x[at] for x in operands]
    assert not bad.any(), f"{op}{where} gave {ours[at]}, torch {theirs[at]}"
