"""Accuracy of the vector maths against extended precision, on every instruction set that runs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from scipy import special

from graphc.backends.llvm import jit
from graphc.backends.llvm.objectfile import undefined_symbols
from graphc.backends.llvm.symbols import LIBRARY
from graphc.backends.llvm.target import TARGETS, Target
from graphc.backends.llvm.vmath import VectorEmitter
from graphc.ir.dtype import dtype
from tests.backends import extended_functions as extended
from tests.backends.vmath_runner import LEVELS, Pointwise, module_text, same

Extended = np.longdouble
FLOATS = ("f32", "f64")
COUNT = {"f32": 20000, "f64": 3000}
Sampler = Callable[[np.random.Generator, int, str], np.ndarray]
pytestmark = pytest.mark.skipif(
    np.finfo(Extended).nmant <= 52, reason="needs a reference more precise than f64"
)


def uniform(low: float, high: float) -> Sampler:
    return lambda random, count, name: random.uniform(low, high, count)


def full_range(random: np.random.Generator, count: int, name: str) -> np.ndarray:
    """All exponents and both signs; one number in 16 is subnormal."""
    info = np.finfo(dtype(name).numpy)
    x = np.exp2(random.uniform(info.minexp, info.maxexp, count)) * random.choice([-1, 1], count)
    x[::16] *= (
        float(info.smallest_subnormal) / np.abs(x[::16]) * random.integers(1, 99, len(x[::16]))
    )
    return x


def positive(random: np.random.Generator, count: int, name: str) -> np.ndarray:
    return np.abs(full_range(random, count, name))


def near_one(random: np.random.Generator, count: int, name: str) -> np.ndarray:
    return (1 - np.exp(random.uniform(-40, -1, count))) * random.choice([-1, 1], count)


def near_zeros_of_lgamma(random: np.random.Generator, count: int, name: str) -> np.ndarray:
    return random.choice([1, 2], count) + random.choice([-1, 1], count) * 10 ** random.uniform(
        -12, -0.7, count
    )


def erfinv(x: np.ndarray) -> np.ndarray:
    return np.where(x == 0, x, special.erfinv(x.astype(np.float64)))


@dataclass(frozen=True)
class Accuracy:
    """An op, its reference and where to try it, and how many ulp it may be wrong.

    slack  ulp of f64 that the reference itself may be wrong
    scale  the error is measured in ulp of max(scale, |result|): for results that cancel
    """

    op: str
    reference: Callable[[np.ndarray], np.ndarray]
    samplers: tuple[Sampler, ...]
    ulp: float = 2
    slack: float = 0
    scale: float = 0


TRIGONOMETRIC = (uniform(-1, 1), uniform(-100, 100), uniform(-7e4, 7e4), full_range)
LOGARITHMIC = (positive, uniform(0.5, 2), uniform(0.99, 1.01))
CASES = [
    Accuracy("exp", np.exp, (uniform(-104, 89), uniform(-1, 1), uniform(-746, 710))),
    Accuracy("exp2", np.exp2, (uniform(-150, 128), uniform(-1, 1), uniform(-1076, 1025))),
    Accuracy("expm1", np.expm1, (uniform(-40, 89), uniform(-1, 1), full_range)),
    Accuracy("sigmoid", extended.sigmoid, (uniform(-104, 40), uniform(-3, 3), uniform(-745, 0))),
    Accuracy("tanh", np.tanh, (uniform(-10, 10), uniform(-1, 1), full_range)),
    Accuracy("sinh", np.sinh, (uniform(-89, 89), uniform(-1, 1), full_range)),
    Accuracy("cosh", np.cosh, (uniform(-89, 89), uniform(-1, 1), full_range)),
    Accuracy("log", np.log, LOGARITHMIC),
    Accuracy("log2", np.log2, LOGARITHMIC),
    Accuracy("log10", np.log10, LOGARITHMIC),
    Accuracy("log1p", np.log1p, (positive, uniform(-0.999, 1), uniform(-0.01, 0.01))),
    Accuracy("asinh", np.arcsinh, (full_range, uniform(-2, 2))),
    Accuracy("acosh", np.arccosh, (uniform(1, 2), uniform(1, 1e30))),
    Accuracy("atanh", np.arctanh, (uniform(-1, 1), near_one)),
    Accuracy("sin", np.sin, TRIGONOMETRIC),
    Accuracy("cos", np.cos, TRIGONOMETRIC),
    Accuracy("tan", np.tan, TRIGONOMETRIC),
    Accuracy("asin", np.arcsin, (uniform(-1, 1), near_one, uniform(-0.01, 0.01))),
    Accuracy("acos", np.arccos, (uniform(-1, 1), near_one, uniform(-0.01, 0.01))),
    Accuracy("atan", np.arctan, (uniform(-3, 3), full_range)),
    Accuracy("sqrt", np.sqrt, (positive,), ulp=0.501),
    Accuracy("rsqrt", lambda x: 1 / np.sqrt(x), (positive,)),
    Accuracy("erf", extended.erf, (uniform(-6, 6), uniform(-1, 1))),
    Accuracy("erfc", extended.erfc, (uniform(-6, 10), uniform(0.3, 1.2), uniform(9, 27)), ulp=3),
    Accuracy("erfinv", erfinv, (uniform(-1, 1), near_one), ulp=4, slack=2),
    Accuracy("lgamma", extended.lgamma_near_zeros, (near_zeros_of_lgamma,), ulp=4),
    Accuracy("lgamma", extended.lgamma, (uniform(0, 40), positive), ulp=4, scale=0.1),
    Accuracy("lgamma", extended.lgamma, (uniform(-20, 0),), ulp=4, scale=1),
    Accuracy("digamma", extended.digamma, (uniform(0, 40), positive), ulp=4, scale=0.02),
    Accuracy("digamma", extended.digamma, (uniform(-10, 0),), ulp=6, scale=1),
]


@cache
def compiled(level: Target) -> Pointwise:
    ops = dict.fromkeys(case.op for case in CASES)
    signatures = [same(op, name) for op in ops for name in FLOATS]
    signatures += [same(op, name, 2) for op in ("pow", "atan2") for name in FLOATS]
    return Pointwise(level, signatures, level.lanes(32))


@cache
def samples(case: Accuracy, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Operands and exact results, which all instruction sets share."""
    random = np.random.default_rng(0)
    pairs = []
    for sampler in case.samplers:
        with np.errstate(all="ignore"):
            x = sampler(random, COUNT[name], name).astype(dtype(name).numpy)
            pairs.append((x, case.reference(x.astype(Extended))))
    return pairs


def errors_in_ulp(result: np.ndarray, exact: np.ndarray, scale: float = 0) -> np.ndarray:
    """The distance from the exact value in units of its last place; inf where only one of the
    two is nan or infinite."""
    with np.errstate(over="ignore"):
        rounded = exact.astype(result.dtype)
    unit = np.spacing(np.maximum(np.abs(rounded), result.dtype.type(scale))).astype(Extended)
    with np.errstate(invalid="ignore"):
        error = np.abs(result.astype(Extended) - exact.astype(Extended)) / unit
    equal = (result == rounded) | (np.isnan(result) & np.isnan(rounded))
    finite = np.isfinite(result) & np.isfinite(rounded)
    return np.where(finite, error, np.where(equal, 0, np.inf))


def describe(op: str, x: tuple[np.ndarray, ...], result: np.ndarray, exact: np.ndarray, at: int):
    return f"{op}{tuple(v[at].item() for v in x)} gave {result[at]!r}, not {exact[at]!r}"


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.op)
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_accuracy(level: Target, case: Accuracy, name: str) -> None:
    bound = case.ulp + (case.slack if name == "f64" else 0)
    for x, exact in samples(case, name):
        result = compiled(level)(same(case.op, name), x)
        error = errors_in_ulp(result, exact, case.scale)
        worst = int(np.argmax(error))
        assert error[worst] <= bound, describe(case.op, (x,), result, exact, worst)


POWERS: list[tuple[Sampler, Sampler]] = [
    (uniform(0.001, 100), uniform(-20, 20)),
    (positive, uniform(-2, 2)),
    (uniform(0.999, 1.001), uniform(-8e4, 8e4)),
    (uniform(0.5, 2), uniform(-1080, 1080)),
]


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_accuracy_of_pow(level: Target, name: str) -> None:
    random = np.random.default_rng(0)
    real = dtype(name).numpy
    for bases, exponents in POWERS:
        x = bases(random, COUNT[name], name).astype(real)
        y = exponents(random, COUNT[name], name).astype(real)
        with np.errstate(all="ignore"):
            exact = np.power(x.astype(Extended), y.astype(Extended))
        result = compiled(level)(same("pow", name, 2), x, y)
        error = errors_in_ulp(result, exact)
        worst = int(np.argmax(error))
        assert error[worst] <= 2, describe("pow", (x, y), result, exact, worst)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_accuracy_of_atan2(level: Target, name: str) -> None:
    random = np.random.default_rng(0)
    y, x = (full_range(random, COUNT[name], name).astype(dtype(name).numpy) for _ in range(2))
    x[1::2] = y[1::2] * random.uniform(-1, 1, len(x[1::2])).astype(x.dtype)
    exact = np.arctan2(y.astype(Extended), x.astype(Extended))
    result = compiled(level)(same("atan2", name, 2), y, x)
    error = errors_in_ulp(result, exact)
    worst = int(np.argmax(error))
    assert error[worst] <= 2, describe("atan2", (y, x), result, exact, worst)


SPECIAL_CASES = [case for case in CASES if case.reference is not extended.lgamma_near_zeros]
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 1e-30, -1e-30]
SPECIAL += [0.125, -0.125, 0.375, 3.875]  # where tables of erf begin and end
SPECIAL += [1e-45, -1e-45, 1e-40, -1e-40, 88.0, 89.0, -87.5, -103.9, -104.0, 700, 1e30, -1e30]


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("case", SPECIAL_CASES, ids=lambda case: case.op)
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_special_values(level: Target, case: Accuracy, name: str) -> None:
    x = np.array(SPECIAL, dtype(name).numpy)
    with np.errstate(all="ignore"):
        exact = case.reference(x.astype(Extended))
    exact = np.where(np.isnan(x), np.nan, exact)
    result = compiled(level)(same(case.op, name), x)
    error = errors_in_ulp(result, exact, case.scale)
    wrong_sign = (np.signbit(result) != np.signbit(exact)) & ~np.isnan(result) & (exact == 0)
    bad = (error > case.ulp + case.slack) | (wrong_sign & (case.scale == 0))
    assert not bad.any(), describe(case.op, (x,), result, exact, int(np.argmax(bad)))


@pytest.mark.parametrize("op", ["pow", "atan2"])
@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_special_pairs(level: Target, name: str, op: str) -> None:
    whole = [2.0**24 - 1, 2.0**24 + 2, 2.0**53 - 1, -(2.0**53) - 2]
    values = np.array([*SPECIAL, *whole], dtype(name).numpy)
    x, y = (side.ravel() for side in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = {"pow": np.power, "atan2": np.arctan2}[op](x, y)
    result = compiled(level)(same(op, name, 2), x, y)
    error = errors_in_ulp(result, expected)
    bad = (error > 2) | ((np.signbit(result) != np.signbit(expected)) & ~np.isnan(result))
    assert not bad.any(), describe(op, (x, y), result, expected, int(np.argmax(bad)))


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_no_target_calls_a_library(target: Target) -> None:
    """Every op at every width of its vectors: the objects have no undefined symbols."""
    ops = dict.fromkeys(case.op for case in CASES)
    signatures = [same(op, name) for op in ops for name in (*FLOATS, "f16", "bf16")]
    binary = ("pow", "atan2", "rem", "remainder", "nextafter", "max", "min")
    signatures += [same(op, name, 2) for op in binary for name in FLOATS]
    signatures += [same("fma", name, 3) for name in FLOATS]
    rounding = ("floor", "ceil", "round", "trunc", "sign", "abs")
    signatures += [same(op, name) for op in rounding for name in FLOATS]
    text, _ = module_text(target, signatures, target.lanes(32))
    assert undefined_symbols(jit.compile_text(text, target)) <= LIBRARY


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_bits_do_not_depend_on_the_width(level: Target) -> None:
    random = np.random.default_rng(0)
    ops = ("exp", "log", "tanh", "sigmoid", "erf", "sin", "expm1", "log1p", "lgamma", "asin")
    signatures = [same(op, name) for op in ops for name in FLOATS]
    modules = [Pointwise(level, signatures, width) for width in (1, 2, 4, 8, 32)]
    for signature in signatures:
        real = dtype(signature.result).numpy
        x = np.concatenate([random.normal(0, 3, 200), random.uniform(-100, 100, 56)]).astype(real)
        first, *others = (module(signature, x).view(f"i{real.itemsize}") for module in modules)
        for other in others:
            assert np.array_equal(first, other), signature.op


def test_an_unknown_op_is_an_error() -> None:
    emitter = VectorEmitter(TARGETS["avx2"], 8)
    with pytest.raises(KeyError, match="no_such_op"):
        emitter.emit("no_such_op", [emitter.const(1.0, dtype("f32"))], dtype("f32"))


def test_helpers_of_two_emitters_merge() -> None:
    """A helper's text is decided by its name, so that functions of one module can share it."""
    texts = []
    for _ in range(2):
        emitter = VectorEmitter(TARGETS["avx2"], 8)
        emitter.emit("sin", [emitter.const(1.0, dtype("f32"))], dtype("f32"))
        emitter.emit("cos", [emitter.const(1.0, dtype("f32"))], dtype("f32"))
        texts.append(emitter.helpers)
    assert texts[0] == texts[1]
    assert all(text for text in texts[0].values())
