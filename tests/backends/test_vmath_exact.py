"""The vector maths where there is one right answer: integers, casts, rounding, narrow floats."""

from functools import cache

import numpy as np
import pytest

from graphc.backends.llvm.target import Target
from graphc.ir.dtype import dtype
from tests.backends.vmath_runner import LEVELS, Pointwise, Signature, same

INTEGERS = ("u8", "i8", "i16", "i32", "i64", "u16", "u32", "u64")
FLOATS = ("f32", "f64")
NARROW = ("f16", "bf16")
# numpy warns of the very values that these tests are for.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
DTYPES = ("bool", *INTEGERS, *NARROW, *FLOATS)
ROUNDING = {"floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint}
BITWISE = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 0.5, -0.5, 1.5, 2.5, -1.5, 1e-45, -1e-45, 1e-40]
EDGES += [1.0, -1.0, 3.0, -3.0, 255.5, -129.5, 65504.0, 65520.0, 2.0**23 + 1, 2.0**31, -(2.0**31)]
EDGES += [2.0**63, -(2.0**63), 1e30, -1e30, 3e38, 0.49999997, -0.49999997, 8388607.5, 6e-8, 2e-8]


@cache
def compiled(level: Target) -> Pointwise:
    signatures = [same(op, t, 2) for op in ("quo", "rem", "remainder", "pow") for t in INTEGERS]
    signatures += [
        same(op, t, 2) for op in ("shl", "shr", "max", "min", *BITWISE) for t in INTEGERS
    ]
    signatures += [
        same(op, t) for op in ("not", "popcount", "neg", "abs", "sign") for t in INTEGERS
    ]
    signatures += [same(op, "bool", 2) for op in ("max", "min", *BITWISE)] + [same("not", "bool")]
    signatures += [same(op, t) for op in (*ROUNDING, "neg", "abs", "sign") for t in FLOATS]
    signatures += [same(op, t, 2) for op in ("max", "min", "rem", "nextafter") for t in FLOATS]
    signatures += [same("fma", t, 3) for t in FLOATS]
    signatures += [Signature(op, (t, t), "bool") for op in ("eq", "ne", "lt", "le") for t in DTYPES]
    signatures += [Signature("select", ("bool", t, t), t) for t in DTYPES]
    signatures += [Signature("cast", (t,), u) for t in DTYPES for u in DTYPES]
    signatures += [Signature("isnan", (t,), "bool") for t in (*FLOATS, *NARROW)]
    signatures += [same(op, t, 2) for op in ("add", "mul", "div", "max", "min") for t in NARROW]
    signatures += [same(op, t) for op in ("neg", "exp", "sqrt", "floor", "abs") for t in NARROW]
    return Pointwise(level, signatures, level.lanes(32))


def levels(function):
    return pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)(function)


def integers(name: str, count: int = 4096, seed: int = 0) -> np.ndarray:
    """Random bits at random magnitudes, and the extremes."""
    kind = dtype(name).numpy
    info = np.iinfo(kind)
    random = np.random.default_rng(seed)
    x = random.integers(info.min, info.max, count, kind, endpoint=True)
    x >>= random.integers(0, info.bits, count).astype(kind)
    edges = [v for v in (info.min, info.max, 0, 1, -1, 2, info.min + 1) if info.min <= v]
    return np.concatenate([np.array(edges, kind), x])


def pairs(name: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = integers(name), integers(name, seed=1)
    a, b = np.meshgrid(x[:7], x[:7])
    return np.concatenate([a.ravel(), x]), np.concatenate([b.ravel(), y])


def assert_same(result: np.ndarray, expected: np.ndarray, *operands: np.ndarray) -> None:
    """Equal bits, any nan equal to any other."""
    assert result.dtype == expected.dtype
    bits = f"u{result.dtype.itemsize}"
    different = result.view(bits) != expected.view(bits)
    if result.dtype.kind not in "biu":
        different &= ~(np.isnan(result) & np.isnan(expected))
    at = int(np.argmax(different))
    values = [x[at] for x in operands]
    assert not different.any(), f"{values} gave {result[at]!r}, not {expected[at]!r}"


def floats(name: str) -> np.ndarray:
    """Random bits, small integers and halves, and the edges."""
    kind = dtype(name).numpy
    random = np.random.default_rng(0)
    bits = random.integers(0, 256, 4096 * kind.itemsize, np.uint8).view(kind)
    edges = np.array(EDGES).astype(kind)
    return np.concatenate([edges, bits, (random.integers(-999, 999, 999) / 2).astype(kind)])


@levels
@pytest.mark.parametrize("name", INTEGERS)
def test_integer_division(level: Target, name: str) -> None:
    x, y = pairs(name)
    divisor = np.where(y == 0, 1, y)  # others report the zero; here it must only not trap
    floored = np.floor_divide(x, divisor)
    remainder = x - floored * divisor
    quotient = (floored + ((remainder != 0) & ((x < 0) ^ (divisor < 0)))).astype(x.dtype)
    rest = x - quotient * divisor
    assert_same(compiled(level)(same("quo", name, 2), x, y), quotient, x, y)
    assert_same(compiled(level)(same("rem", name, 2), x, y), rest, x, y)
    regular = y != 0
    result = compiled(level)(same("remainder", name, 2), x, y)
    assert_same(result[regular], remainder[regular], x[regular], y[regular])


@levels
@pytest.mark.parametrize("name", INTEGERS)
def test_integer_power(level: Target, name: str) -> None:
    x, y = pairs(name)
    modulus = 2 ** (8 * x.dtype.itemsize)
    expected = []
    for base, exponent in zip(x.tolist(), y.tolist(), strict=True):
        if exponent >= 0:
            expected.append(pow(base, exponent, modulus))
        else:
            expected.append({1: 1, -1: 1 if exponent % 2 == 0 else -1}.get(base, 0) % modulus)
    expected = np.array(expected, f"u{x.dtype.itemsize}").view(x.dtype)
    assert_same(compiled(level)(same("pow", name, 2), x, y), expected, x, y)


@levels
@pytest.mark.parametrize("name", INTEGERS)
def test_shifts(level: Target, name: str) -> None:
    x = integers(name)
    width = 8 * x.dtype.itemsize
    low = -width if name[0] == "i" else 0
    y = np.random.default_rng(0).integers(low, min(2 * width, 127), len(x)).astype(x.dtype)
    outside = (y < 0) | (y >= width)
    left = np.where(outside, 0, np.left_shift(x, np.where(outside, 0, y))).astype(x.dtype)
    assert_same(compiled(level)(same("shl", name, 2), x, y), left, x, y)
    filled = np.where(x < 0, -1, 0).astype(x.dtype) if name[0] == "i" else np.zeros_like(x)
    right = np.where(outside, filled, np.right_shift(x, np.where(outside, 0, y)))
    assert_same(compiled(level)(same("shr", name, 2), x, y), right, x, y)


@levels
@pytest.mark.parametrize("name", INTEGERS)
def test_bits_and_signs_of_integers(level: Target, name: str) -> None:
    run = compiled(level)
    x, y = pairs(name)
    for op, reference in BITWISE.items():
        assert_same(run(same(op, name, 2), x, y), reference(x, y), x, y)
    assert_same(run(same("max", name, 2), x, y), np.maximum(x, y), x, y)
    assert_same(run(same("min", name, 2), x, y), np.minimum(x, y), x, y)
    assert_same(run(same("not", name), x), np.invert(x), x)
    count = np.bitwise_count(x.view(f"u{x.itemsize}")).astype(x.dtype)
    assert_same(run(same("popcount", name), x), count, x)
    assert_same(run(same("neg", name), x), np.negative(x), x)
    assert_same(run(same("abs", name), x), np.abs(x), x)
    assert_same(run(same("sign", name), x), np.sign(x), x)


@levels
def test_bool(level: Target) -> None:
    run = compiled(level)
    x, y = np.array([False, False, True, True] * 8), np.array([False, True] * 16)
    for op, reference in {**BITWISE, "max": np.maximum, "min": np.minimum}.items():
        assert_same(run(same(op, "bool", 2), x, y), reference(x, y), x, y)
    assert_same(run(same("not", "bool"), x), ~x, x)


@levels
@pytest.mark.parametrize("name", FLOATS)
def test_rounding_to_whole_numbers(level: Target, name: str) -> None:
    x = floats(name)
    for op, reference in ROUNDING.items():
        assert_same(compiled(level)(same(op, name), x), reference(x), x)


@levels
@pytest.mark.parametrize("name", FLOATS)
def test_signs_of_floats(level: Target, name: str) -> None:
    x = floats(name)
    assert_same(compiled(level)(same("neg", name), x), -x, x)
    assert_same(compiled(level)(same("abs", name), x), np.abs(x), x)
    sign = (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype)
    assert_same(compiled(level)(same("sign", name), x), sign, x)


@levels
@pytest.mark.parametrize("name", FLOATS)
def test_pairs_of_floats(level: Target, name: str) -> None:
    edges = np.array(EDGES).astype(dtype(name).numpy)
    a, b = (side.ravel() for side in np.meshgrid(edges, edges))
    x = floats(name)
    x, y = np.concatenate([a, x]), np.concatenate([b, x[::-1]])
    zeros = (x == 0) & (y == 0)
    expected = {
        "max": np.where(zeros, np.where(np.signbit(x), y, x), np.maximum(x, y)),
        "min": np.where(zeros, np.where(np.signbit(x), x, y), np.minimum(x, y)),
        "nextafter": np.nextafter(x, y),
    }
    expected["rem"] = np.fmod(x, y)
    for op, value in expected.items():
        assert_same(compiled(level)(same(op, name, 2), x, y), value, x, y)


@levels
@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("op", ["max", "min"])
def test_extrema_with_a_constant(level: Target, name: str, op: str) -> None:
    """A constant operand takes a shorter way, with the same results."""
    shared = compiled(level)
    for constant in (0.0, -0.0, 1.0, np.inf, np.nan):
        x = np.array(EDGES).astype(dtype(name).numpy)
        y = np.full_like(x, constant)
        run = Pointwise(level, [same(op, name, 2)], 8, constants={1: constant})
        assert_same(run(same(op, name, 2), x, y), shared(same(op, name, 2), x, y), x, y)


@levels
@pytest.mark.parametrize("name", DTYPES)
def test_comparisons_and_selection(level: Target, name: str) -> None:
    if name == "bool":
        x, y = np.array([False, False, True, True]), np.array([False, True] * 2)
    elif name in INTEGERS:
        x, y = pairs(name)
    else:
        x = floats(name)
        y = np.where(np.arange(len(x)) % 3 == 0, x, x[::-1])
    run = compiled(level)
    references = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal}
    for op, reference in references.items():
        expected = reference(x, y)
        assert_same(run(Signature(op, (name, name), "bool"), x, y), expected, x, y)
    condition = np.arange(len(x)) % 5 < 2
    signature = Signature("select", ("bool", name, name), name)
    assert_same(run(signature, condition, x, y), np.where(condition, x, y), condition, x, y)


def cast_reference(x: np.ndarray, to: np.dtype) -> np.ndarray:
    """x86's conversions: see conversions.py."""
    if to.kind == "b":
        return x != 0
    if x.dtype.kind in "biu":
        narrow = to.itemsize == 2 and to.kind not in "iu"
        return (x.astype(np.float32) if narrow else x).astype(to)
    if to.kind not in "iu":
        return x.astype(np.float32).astype(to) if to.itemsize == 2 else x.astype(to)
    x = np.trunc(x.astype(np.float64))
    high = (x >= 2.0**63) & (to == np.uint64)
    x = np.where(high, x - 2.0**63, x)
    wide = np.dtype(np.int64 if to.itemsize == 8 or to == np.uint32 else np.int32)
    info = np.iinfo(wide)
    fits = (x >= float(info.min)) & (x < -float(info.min))
    whole = np.where(fits, np.where(fits, x, 0).astype(wide), info.min)
    return np.where(high, whole ^ info.min, whole).astype(to)


@levels
@pytest.mark.parametrize("source", DTYPES)
def test_casts(level: Target, source: str) -> None:
    if source == "bool":
        x = np.array([False, True] * 4)
    else:
        x = integers(source) if source in INTEGERS else floats(source)
    for target in DTYPES:
        result = compiled(level)(Signature("cast", (source,), target), x)
        assert_same(result, cast_reference(x, dtype(target).numpy), x)


@levels
@pytest.mark.parametrize("name", NARROW)
def test_all_narrow_floats(level: Target, name: str) -> None:
    """Each of the 65536 bit patterns survives a load and a store, and widens exactly."""
    kind = dtype(name).numpy
    x = np.arange(65536, dtype=np.uint16).view(kind)
    run = compiled(level)
    assert_same(run(same("neg", name), x), -x, x)
    assert_same(run(Signature("cast", (name,), "f32"), x), x.astype(np.float32), x)
    assert_same(run(Signature("isnan", (name,), "bool"), x), np.isnan(x), x)
    for op, reference in {"abs": np.abs, "floor": np.floor, "sqrt": np.sqrt}.items():
        expected = reference(x.astype(np.float32)).astype(kind)
        assert_same(run(same(op, name), x), expected, x)


@levels
@pytest.mark.parametrize("name", NARROW)
def test_narrow_arithmetic_rounds_once(level: Target, name: str) -> None:
    kind = dtype(name).numpy
    x = floats(name)
    y = x[::-1].copy()
    references = {"add": np.add, "mul": np.multiply, "div": np.divide}
    for op, reference in references.items():
        expected = reference(x.astype(np.float32), y.astype(np.float32)).astype(kind)
        assert_same(compiled(level)(same(op, name, 2), x, y), expected, x, y)
    exact = np.exp(x.astype(np.float64))
    expected = exact.astype(kind)
    result = compiled(level)(same("exp", name), x)
    near = np.abs(result.astype(np.float64) - exact) <= 0.501 * np.spacing(np.abs(expected)).astype(
        np.float64
    )
    same_value = (result == expected) | (np.isnan(result) & np.isnan(expected))
    assert (near | same_value).all()


def _nearest(value, kind: np.dtype) -> float:
    """A fraction rounded to a float, to even."""
    from fractions import Fraction

    guess = kind.type(float(value))
    around = [
        np.nextafter(guess, kind.type(-np.inf)),
        guess,
        np.nextafter(guess, kind.type(np.inf)),
    ]
    return min(
        around,
        key=lambda c: (abs(Fraction(float(c)) - value), int(c.view(f"i{kind.itemsize}")) & 1),
    )


@levels
@pytest.mark.parametrize("name", FLOATS)
def test_fma_rounds_once(level: Target, name: str) -> None:
    from fractions import Fraction

    kind = dtype(name).numpy
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 2000)).astype(kind)
    z = (-x * y * (1 + random.uniform(-1e-6, 1e-6, 2000))).astype(kind)
    z[::2] = random.standard_normal(1000) * 10.0 ** random.integers(-20, 20, 1000)
    exact = [
        Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        for a, b, c in zip(x, y, z, strict=True)
    ]
    expected = np.array([_nearest(value, kind) for value in exact], kind)
    assert_same(compiled(level)(same("fma", name, 3), x, y, z), expected, x, y, z)


@levels
@pytest.mark.parametrize("name", FLOATS)
def test_fma_of_special_values(level: Target, name: str) -> None:
    values = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 2.0]
    grid = np.array(np.meshgrid(values, values, values)).reshape(3, -1)
    x, y, z = grid.astype(dtype(name).numpy)
    assert_same(compiled(level)(same("fma", name, 3), x, y, z), x * y + z, x, y, z)
