"""Neural network modules, with their functions (``functional``) and first values (``init``)."""

from graphc.nn import functional, init, modules, parameter, utils
from graphc.nn.modules import *  # noqa: F403
from graphc.nn.parameter import (
    Buffer,
    Parameter,
    UninitializedBuffer,
    UninitializedParameter,
)

__all__ = [
    *modules.__all__,
    "Buffer",
    "Parameter",
    "UninitializedBuffer",
    "UninitializedParameter",
    "functional",
    "init",
    "modules",
    "parameter",
    "utils",
]
