"""torch.nn.functional: the functions of layers, without state."""

from __future__ import annotations

from graphc.frontends.function import FUNCTIONS
from graphc.functional import install  # noqa: F401  (registers every function)
from graphc.functional.activation import *  # noqa: F403
from graphc.functional.embed import *  # noqa: F403
from graphc.functional.layers import *  # noqa: F403
from graphc.functional.loss import *  # noqa: F403
from graphc.functional.pooling import *  # noqa: F403


def __getattr__(name: str):
    found = FUNCTIONS.get(name)
    if found is None:
        raise AttributeError(f"module 'graphc.nn.functional' has no attribute '{name}'")
    return found


def upsample_nearest(input, size=None, scale_factor=None):
    """Nearest-neighbour interpolation."""
    from graphc.functional.resize import interpolate

    return interpolate(input, size, scale_factor, mode="nearest")
