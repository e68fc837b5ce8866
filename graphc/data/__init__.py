"""Data sets small enough to be part of the package. README.md beside this file attributes them."""

from pathlib import Path
from typing import Any

import numpy as np

_FOLDER = Path(__file__).parent


def load_digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The UCI handwritten digits, as new arrays in the order of the original file.

    Returns:
        images: uint8 [1797, 8, 8], values 0 to 16.
        labels: uint8 [1797], values 0 to 9.
    """
    with np.load(_FOLDER / "digits.npz") as stored:
        return stored["images"], stored["labels"]
