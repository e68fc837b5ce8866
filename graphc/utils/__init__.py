"""The public ``utils`` package: data loading, hooks and what else PyTorch keeps there."""

import importlib

__all__ = ["checkpoint", "data", "dlpack", "hooks"]


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
