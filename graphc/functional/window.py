"""Windows for signals: Bartlett, Blackman, Hamming, Hann, Kaiser."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..device import name_of
from ..frontends import modes
from ..tensor import Tensor, from_array


def _window(
    length: int,
    periodic: bool,
    shape: Callable[[np.ndarray], np.ndarray],
    dtype: Any,
    device: Any,
    requires_grad: bool,
) -> Tensor:
    """`shape` of the places 0 to 1; a periodic window is one of length + 1 without its last."""
    if length < 0:
        raise RuntimeError(f"window_length must be non-negative, got {length}")
    dtype = dtype or modes.default_dtype()
    if dtype.kind != "f":
        raise RuntimeError(f"a window has a floating point dtype, not {dtype!r}")
    if length <= 1:
        values = np.ones(length)
    else:
        values = shape(np.arange(length) / (length if periodic else length - 1))
    made = from_array(values.astype(dtype.numpy), name_of(device))
    return made.requires_grad_(True) if requires_grad else made


def bartlett_window(window_length, periodic=True, *, dtype=None, layout=None, device=None,
                    pin_memory=False, requires_grad=False):  # fmt: skip
    """A triangle: 1 - |2 n / N - 1|."""
    return _window(window_length, periodic, lambda t: 1 - np.abs(2 * t - 1), dtype, device,
                   requires_grad)  # fmt: skip


def blackman_window(window_length, periodic=True, *, dtype=None, layout=None, device=None,
                    pin_memory=False, requires_grad=False):  # fmt: skip
    """0.42 - 0.5 cos(2 pi n / N) + 0.08 cos(4 pi n / N)."""

    def shape(t: np.ndarray) -> np.ndarray:
        return 0.42 - 0.5 * np.cos(2 * math.pi * t) + 0.08 * np.cos(4 * math.pi * t)

    return _window(window_length, periodic, shape, dtype, device, requires_grad)


def hamming_window(window_length, periodic=True, alpha=0.54, beta=0.46, *, dtype=None, layout=None,
                   device=None, pin_memory=False, requires_grad=False):  # fmt: skip
    """alpha - beta cos(2 pi n / N)."""

    def shape(t: np.ndarray) -> np.ndarray:
        return alpha - beta * np.cos(2 * math.pi * t)

    return _window(window_length, periodic, shape, dtype, device, requires_grad)


def hann_window(window_length, periodic=True, *, dtype=None, layout=None, device=None,
                pin_memory=False, requires_grad=False):  # fmt: skip
    """0.5 - 0.5 cos(2 pi n / N)."""

    def shape(t: np.ndarray) -> np.ndarray:
        return 0.5 - 0.5 * np.cos(2 * math.pi * t)

    return _window(window_length, periodic, shape, dtype, device, requires_grad)


def kaiser_window(window_length, periodic=True, beta=12.0, *, dtype=None, layout=None, device=None,
                  pin_memory=False, requires_grad=False):  # fmt: skip
    """I0(beta sqrt(1 - (2 n / N - 1) ** 2)) / I0(beta)."""

    def shape(t: np.ndarray) -> np.ndarray:
        return np.i0(beta * np.sqrt(np.maximum(1 - (2 * t - 1) ** 2, 0))) / np.i0(beta)

    return _window(window_length, periodic, shape, dtype, device, requires_grad)
