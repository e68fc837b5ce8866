"""Constructing modules without drawing their first parameters."""

import inspect

__all__ = ["skip_init"]


def skip_init(module_cls, *args, **kwargs):
    """Return a module whose parameters are allocated but not initialised.

    Args:
        module_cls: a module class whose constructor takes ``device``.
        args: arguments of the constructor.
        kwargs: keyword arguments of the constructor; ``device`` says where it shall live.

    Raises:
        RuntimeError: ``module_cls`` is no module class, or takes no ``device``.
    """
    # Imported here: modules import this package for packed sequences.
    from graphc.nn.modules.module import Module

    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    device = kwargs.pop("device", "cpu")
    return module_cls(*args, **{**kwargs, "device": "meta"}).to_empty(device=device)
