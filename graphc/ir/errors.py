"""The errors that graphc raises, each a subclass of the type that PyTorch raises.

A message has at most eight lines: what is wrong with shapes and dtypes, the user's own source
line, what to do.
"""

from __future__ import annotations

MAX_LINES = 8


def _as_it_is(location: str) -> str:
    return location


class GraphcError(Exception):
    """Base of graphc's own errors. `at` is the user's source line, `hint` what to do.

    `at` may be the location of a node; the frontends set `line_of`, which finds the line's text.
    """

    line_of = staticmethod(_as_it_is)

    def __init__(self, message: str, *, at: str = "", hint: str = "") -> None:
        self.message, self.at, self.hint = message, at, hint
        super().__init__(message)

    def again(self) -> GraphcError:
        """The same error, to be raised once more."""
        return type(self)(self.message, at=self.at, hint=self.hint)

    def __str__(self) -> str:
        lines = self.message.splitlines()
        lines += [f"  {self.line_of(line)}" for line in self.at.splitlines()]
        lines += [f"  {line}" for line in self.hint.splitlines()]
        return "\n".join(lines[:MAX_LINES])


class ShapeError(GraphcError, RuntimeError):
    """Operands whose shapes do not fit."""


class DTypeError(GraphcError, RuntimeError):
    """Operands whose element types do not fit."""


class DeviceError(GraphcError, RuntimeError):
    """Operands on different devices."""


class BoundsError(GraphcError, IndexError):
    """An index outside its dimension; raised when the value is computed."""


class DivisionError(GraphcError, RuntimeError):
    """An integer divided by zero; raised when the value is computed (torch's ZeroDivisionError)."""


class AssertError(GraphcError, AssertionError, RuntimeError):
    """A condition that a graph asserts and that does not hold; raised when it is computed."""


class UnsupportedError(GraphcError, NotImplementedError):
    """Something that graphc does not do (yet): says what and where."""


class FormatError(GraphcError, RuntimeError):
    """A malformed file or text: says where."""


class VerifyError(GraphcError, RuntimeError):
    """A graph that breaks a rule of the IR, or a pass that changed a result."""


PUBLIC = (
    GraphcError, ShapeError, DTypeError, DeviceError, BoundsError, DivisionError, AssertError,
    UnsupportedError, FormatError, VerifyError,
)  # fmt: skip
for _error in PUBLIC:
    _error.__module__ = "graphc"  # where users find them, and what tracebacks say


class SettingError(GraphcError, ValueError):
    """A setting, or an environment variable that mirrors one, that has no such value."""
