"""Functions on parameters, gradients and sequences."""

import importlib

from graphc.nn.utils import rnn
from graphc.nn.utils.clip_grad import (
    clip_grad_norm,
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
)
from graphc.nn.utils.convert_parameters import parameters_to_vector, vector_to_parameters
from graphc.nn.utils.fusion import (
    fuse_conv_bn_eval,
    fuse_conv_bn_weights,
    fuse_linear_bn_eval,
    fuse_linear_bn_weights,
)
from graphc.nn.utils.skip import skip_init

# These define modules, and modules import this package: they are loaded on first use.
_LAZY_MODULES = ("parametrizations", "parametrize", "stateless")
_LAZY_FUNCTIONS = ("remove_weight_norm", "weight_norm")

__all__ = [
    "clip_grad_norm",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "fuse_conv_bn_eval",
    "fuse_conv_bn_weights",
    "fuse_linear_bn_eval",
    "fuse_linear_bn_weights",
    "get_total_norm",
    "parameters_to_vector",
    "parametrizations",
    "parametrize",
    "remove_weight_norm",
    "rnn",
    "skip_init",
    "stateless",
    "vector_to_parameters",
    "weight_norm",
]


def __getattr__(name):
    if name in _LAZY_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY_FUNCTIONS:
        return getattr(importlib.import_module(f"{__name__}.weight_norm_hook"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
