"""Whether gradients are recorded: no_grad, enable_grad, set_grad_enabled, inference_mode."""

from __future__ import annotations

from functools import wraps
from typing import Any

from ..frontends import modes


class _Mode:
    """A context manager that is a decorator too."""

    def __call__(self, function: Any) -> Any:
        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return inside

    def _again(self) -> Any:
        return self.__class__()


class no_grad(_Mode):
    """No gradients are recorded within."""

    def __new__(cls, function: Any = None) -> Any:
        made = object.__new__(cls)
        return made if function is None else made(function)

    def __enter__(self) -> None:
        self.before = modes.set_grad(False)

    def __exit__(self, *_: object) -> None:
        modes.set_grad(self.before)


class enable_grad(_Mode):
    """Gradients are recorded within, also inside of no_grad."""

    def __new__(cls, orig_func: Any = None) -> Any:
        made = object.__new__(cls)
        return made if orig_func is None else made(orig_func)

    def __enter__(self) -> None:
        self.before = modes.set_grad(True)

    def __exit__(self, *_: object) -> None:
        modes.set_grad(self.before)


class set_grad_enabled(_Mode):
    """Switches gradients on or off: at once, and as a context manager until its end."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self.before = modes.set_grad(mode)

    def _again(self) -> Any:
        return set_grad_enabled(self.mode)

    def __call__(self, function: Any) -> Any:
        modes.set_grad(self.before)
        return super().__call__(function)

    def __enter__(self) -> None:
        modes.set_grad(self.mode)

    def __exit__(self, *_: object) -> None:
        modes.set_grad(self.before)


class inference_mode(_Mode):
    """No gradients, and no record of them possible later."""

    def __new__(cls, mode: Any = True) -> Any:
        made = object.__new__(cls)
        if callable(mode):
            made.mode = True
            return made(mode)
        made.mode = mode
        return made

    def __init__(self, mode: Any = True) -> None:
        if not callable(mode):
            self.mode = mode

    def _again(self) -> Any:
        return inference_mode(self.mode)

    def __enter__(self) -> None:
        self.before = modes.set_inference(self.mode)

    def __exit__(self, *_: object) -> None:
        modes.set_inference(self.before)


def is_grad_enabled() -> bool:
    """Whether gradients are recorded now."""
    return modes.grad_enabled()


def is_inference_mode_enabled() -> bool:
    """Whether inference mode is on."""
    return modes.inference()
