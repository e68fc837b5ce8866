"""graphc: a graph compiler for Python with PyTorch's API.

    import graphc as torch

Names load when they are first used, so that importing the package costs next to nothing.
"""

import sys

__version__ = "0.1.0"

_SUBMODULES = (
    "autograd", "nn", "optim", "utils", "jit", "onnx", "random", "cuda", "linalg", "data",
    "func", "functional", "frontends", "backends", "passes", "ir", "tensor", "device_module",
    "printing", "serialization", "debug", "cli", "config", "hub", "distributed", "distributions",
    "multiprocessing", "sparse", "fft", "special", "amp", "testing", "version", "types",
    "return_types", "compiler", "backends_module", "overrides",
)  # fmt: skip


class _Namespace(type(sys)):
    """The package; its functions `tensor` and `device` are not hidden by modules of that name."""

    def __setattr__(self, name, value):
        if name not in ("tensor", "device") or not isinstance(value, type(sys)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Namespace


def __getattr__(name):
    import importlib

    if name.startswith("__"):
        raise AttributeError(name)
    if "graphc._public" not in sys.modules or not _loaded():
        importlib.import_module("graphc._public").load(globals())
        if name in globals():
            return globals()[name]
    if name in _SUBMODULES:
        try:
            return importlib.import_module(f"graphc.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"graphc.{name}":
                raise
    raise AttributeError(f"module 'graphc' has no attribute '{name}'")


def _loaded():
    return "Tensor" in globals()


def __dir__():
    __getattr__("Tensor")
    return sorted(globals())
