"""The public classes take torch's arguments, with torch's defaults."""

import inspect

import pytest

import graphc

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

# Devices that graphc does not have, and types of hooks that are only annotations.
WITHOUT = {"ipu", "xpu", "mtia", "OptimizerPreHook", "OptimizerPostHook"}


def classes():
    for path in ("nn", "optim", "optim.lr_scheduler", "utils.data"):
        ours, theirs = graphc, torch
        for name in path.split("."):
            ours, theirs = getattr(ours, name), getattr(theirs, name)
        for name in ours.__all__:
            if inspect.isclass(getattr(ours, name)):
                yield pytest.param(getattr(ours, name), getattr(theirs, name), id=f"{path}.{name}")


def parameters(function):
    """(name, default, kind) of each parameter."""
    return [(p.name, p.default, p.kind) for p in inspect.signature(function).parameters.values()]


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


@pytest.mark.parametrize("ours, theirs", list(classes()))
def test_constructors_and_methods(ours, theirs):
    make = "__new__" if issubclass(theirs, torch.Tensor) else "__init__"
    wanted = parameters(getattr(theirs, make))
    if any("<function" in str(default) for _, default, _ in wanted):  # a library's own function
        assert [p[0] for p in parameters(getattr(ours, make))] == [p[0] for p in wanted]
    else:
        assert parameters(getattr(ours, make)) == wanted
    if not issubclass(theirs, torch.Tensor):
        assert public(theirs) - public(ours) <= WITHOUT
