"""detect_anomaly: gradients that are not a number become errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..frontends import modes
from ..frontends.execute import array_of
from ..frontends.record import Cell, value_of


class set_detect_anomaly:
    """Switches the check on or off: at once, and as a context manager until its end."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        self.before = modes.set_anomaly(mode and check_nan)

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        modes.set_anomaly(self.before)


class detect_anomaly:
    """Within, a backward that gives a gradient of a leaf that is not a number is an error."""

    def __init__(self, check_nan: bool = True) -> None:
        self.check_nan = check_nan

    def __enter__(self) -> None:
        self.before = modes.set_anomaly(self.check_nan)

    def __exit__(self, *_: object) -> None:
        modes.set_anomaly(self.before)


def check(found: Mapping[Cell, Cell]) -> None:
    """RuntimeError where the check is on and a gradient holds a nan."""
    if not modes.anomaly():
        return
    for cell, ct in found.items():
        array: Any = array_of(value_of(ct), ct.type)
        if cell.type.dtype.kind == "f" and np.isnan(array.astype(np.float64)).any():
            raise RuntimeError(
                f"the gradient of a tensor {cell.type.text} has nan values. Divide the computation "
                "with autograd.grad to find the operation that made them."
            )
