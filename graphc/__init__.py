"""graphc: a graph compiler for Python with PyTorch's API.

    import graphc as torch

Names load when they are first used, so that importing the package costs next to nothing.
"""

import importlib
import importlib.util
import sys
import types
from typing import Any

__version__ = "0.1.0"


class _Namespace(types.ModuleType):
    """The package; its functions `tensor` and `device` are not hidden by modules of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tensor", "device") or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Namespace


# Modules of torch that are to come; programs may ask for them by hasattr().
_ABSENT = ("distributed", "distributions", "fft", "hub", "multiprocessing", "sparse")


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    names = globals()
    if "Tensor" not in names:
        importlib.import_module("graphc._public").load(names)
        if name in names:
            return names[name]
    if importlib.util.find_spec(f"graphc.{name}") is not None:
        return importlib.import_module(f"graphc.{name}")
    absent = f": torch.{name} is not in graphc yet" if name in _ABSENT else ""
    raise AttributeError(f"module 'graphc' has no attribute '{name}'{absent}")


def __dir__() -> list[str]:
    __getattr__("Tensor")
    return sorted(globals())
