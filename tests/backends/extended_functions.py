"""Special functions in extended precision, as references: numpy has none, scipy's are f64."""

import numpy as np

Extended = np.longdouble
PI = Extended("3.14159265358979323846264338327950288")
EULER = Extended("0.57721566490153286060651209008240243")
HALF_LOG_TWO_PI = Extended("0.91893853320467274178032973640561764")
# B(2k) of Stirling's series, as fractions.
BERNOULLI = [
    Extended(top) / bottom
    for top, bottom in zip(
        (1, -1, 1, -1, 5, -691, 7, -3617, 43867),
        (6, 30, 42, 30, 66, 2730, 6, 510, 798),
        strict=True,
    )
]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-np.abs(x)))


def erf(x: np.ndarray) -> np.ndarray:
    """2/sqrt(pi) exp(-x**2) sum 2**k x**(2k+1) / (2k+1)!!, whose terms have one sign."""
    x = np.clip(x, -7, 7).astype(Extended)
    term = x.copy()
    total = x.copy()
    for k in range(1, 200):
        term *= 2 * x * x / (2 * k + 1)
        total += term
    return 2 / np.sqrt(PI) * np.exp(-x * x) * total


def erfc(x: np.ndarray) -> np.ndarray:
    """Laplace's continued fraction from 2 on."""
    large = np.clip(x, 2, 120).astype(Extended)
    high = large.astype(np.float32).astype(Extended)  # its square is exact
    low = large - high
    fraction = np.zeros_like(large)
    for k in range(300, 0, -1):
        fraction = k / (2 * large * large) / (1 + fraction)
    power = np.exp(-high * high) * np.exp(-low * (large + high))
    tail = power / (large * np.sqrt(PI) * (1 + fraction))
    return np.where(np.isnan(x), x, np.where(x >= 2, tail, 1 - erf(x)))


def _sine_cosine(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """sin and cos of pi x up to a sign that both share; exact where they are 0."""
    f = x - np.rint(x)
    return np.sin(PI * f), np.where(np.abs(f) == 0.5, 0, np.cos(PI * f))


def _shifted(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x moved to 25 or beyond, the product of the steps, the sum of their inverses)."""
    moved, product, total = x.copy(), np.ones_like(x), np.zeros_like(x)
    for _ in range(25):
        below = moved < 25
        product = np.where(below, product * moved, product)
        total = np.where(below, total + 1 / moved, total)
        moved = np.where(below, moved + 1, moved)
    return moved, product, total


def _lgamma_positive(x: np.ndarray) -> np.ndarray:
    moved, product, _ = _shifted(x)
    series = sum(
        b / (2 * k * (2 * k - 1)) / moved ** (2 * k - 1) for k, b in enumerate(BERNOULLI, 1)
    )
    return (moved - 0.5) * np.log(moved) - moved + HALF_LOG_TWO_PI + series - np.log(product)


def lgamma(x: np.ndarray) -> np.ndarray:
    """Stirling's series; inf at 0, at the negative integers and at both infinities."""
    x = x.astype(Extended)
    positive = _lgamma_positive(np.where(np.isinf(x) | (x == 0), 1, np.abs(x)))
    sine, _ = _sine_cosine(np.where(np.isinf(x), 0, x))
    reflected = np.log(PI / np.abs(sine * x)) - positive
    result = np.where(x < 0, reflected, positive)
    return np.where(np.isinf(x) | (x == 0), np.inf, np.where(np.isnan(x), x, result))


def lgamma_near_zeros(x: np.ndarray) -> np.ndarray:
    """Taylor's series at 1 and 2, where lgamma is 0, within 0.2 of them."""
    from scipy.special import zetac

    centre = np.rint(x)
    h = (x - centre).astype(Extended)
    less = centre - 1  # 0 at 1; at 2 the series is that at 1 plus log(1 + h)
    total = (less - EULER) * h
    for k in range(2, 40):
        total += (-1) ** k * (zetac(k) + 1 - less) / k * h**k
    return total


def digamma(x: np.ndarray) -> np.ndarray:
    """The asymptotic series; nan at the negative integers, -+inf at +-0, nan at -inf."""
    x = x.astype(Extended)
    finite = np.where(np.isinf(x), 1, x)
    moved, _, total = _shifted(np.where(finite < 0, 1 - finite, np.where(finite == 0, 1, finite)))
    series = sum(b / (2 * k) / moved ** (2 * k) for k, b in enumerate(BERNOULLI, 1))
    result = np.log(moved) - 0.5 / moved - series - total
    sine, cosine = _sine_cosine(finite)
    result = np.where(x < 0, result - PI * cosine / sine, result)
    whole = (x < 0) & (np.rint(x) == x)
    result = np.where(x == 0, -np.copysign(np.inf, x), np.where(whole, np.nan, result))
    return np.where(x == np.inf, np.inf, np.where(x > -np.inf, result, np.nan))
