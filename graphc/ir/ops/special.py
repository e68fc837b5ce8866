"""Reference meanings of special functions that numpy lacks, in float64."""

import math
from collections.abc import Callable

import numpy as np


def _by_element(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    wide = np.vectorize(function, otypes=[np.float64])

    def apply(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        return wide(x.astype(np.float64)).astype(x.dtype) if x.size else x

    return apply


def _lgamma(x: float) -> float:
    if math.isinf(x) or (x <= 0 and x == math.floor(x)):
        return math.inf
    return math.lgamma(x)


def _digamma(x: float) -> float:
    """Reflection below 0, recurrence up to 12, then the asymptotic series (Abramowitz 6.3.18)."""
    if math.isnan(x) or x == -math.inf:
        return math.nan
    if x == math.inf:
        return math.inf
    if x == 0:
        return math.copysign(math.inf, -x)
    if x < 0:
        if x == math.floor(x):
            return math.nan
        return _digamma(1 - x) - math.pi / math.tan(math.pi * x)
    total = 0.0
    while x < 12:
        total -= 1 / x
        x += 1
    y = 1 / (x * x)
    tail = 1 / 240 - y * (1 / 132 - y * (691 / 32760 - y / 12))
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * tail)))
    return total + math.log(x) - 0.5 / x - series


def _erfinv(x: float) -> float:
    """Giles' start value, then three Newton steps on erf (erfc near the ends)."""
    if math.isnan(x) or abs(x) > 1:
        return math.nan
    if abs(x) == 1:
        return math.copysign(math.inf, x)
    if x == 0:
        return x
    w = -math.log((1 - x) * (1 + x))
    a = 0.147
    t = 2 / (math.pi * a) - w / 2
    y = math.copysign(math.sqrt(max(math.sqrt(t * t + w / a) - t, 0.0)), x)
    for _ in range(4):
        if abs(x) < 0.5:
            error = math.erf(y) - x
        else:
            error = math.copysign(1.0, x) * ((1 - abs(x)) - math.erfc(abs(y)))
        slope = 2 / math.sqrt(math.pi) * math.exp(-y * y)
        y -= error / (slope + y * error)
    return y


erf = _by_element(math.erf)
erfc = _by_element(math.erfc)
erfinv = _by_element(_erfinv)
lgamma = _by_element(_lgamma)
digamma = _by_element(_digamma)
