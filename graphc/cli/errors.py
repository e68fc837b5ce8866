"""How errors are told: what is wrong, the user's own lines, what to do; eight lines at most.

    graphc.ShapeError: cannot contract f32[32, 64] with f32[128, 10]: 64 and 128 differ
      train.py:41: logits = self.head(h)      in forward
      The input has 64 features, the layer takes 128.

GRAPHC_TRACEBACK=1 shows Python's whole traceback instead.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from graphc.ir.errors import MAX_LINES, GraphcError

_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep
_LIBRARY = os.path.dirname(os.__file__) + os.sep
LONGEST_LINE = 300
MOST_FRAMES = 3


class CommandError(GraphcError):
    """A command that cannot do what it was asked to do (exit code 1)."""


class Misuse(GraphcError):
    """A command line that makes no sense (exit code 2)."""


def tell(error: BaseException, command: str) -> int:
    """Prints the error to stderr; returns the exit code."""
    if os.environ.get("GRAPHC_TRACEBACK", "0") not in ("", "0"):
        traceback.print_exception(error)
    else:
        sys.stderr.write("\n".join(told(error, command)) + "\n")
    return 2 if isinstance(error, Misuse) else 1


def told(error: BaseException, command: str) -> list[str]:
    """The lines that tell of an error, at most `MAX_LINES`, none of them from inside of graphc."""
    if isinstance(error, (CommandError, Misuse)):
        lines = [f"{command}: {line}" if k == 0 else line for k, line in enumerate(_text(error))]
        if isinstance(error, Misuse):
            lines.append(f"  See: {command} --help")
        return _cut(lines)
    frames = user_frames(error)
    text = _text(error)
    lines = [f"{_name(error)}: {text[0]}" if text else _name(error), *text[1:]]
    if isinstance(error, SyntaxError) and error.filename:
        where = f"  {os.path.basename(error.filename)}:{error.lineno}: "
        lines.append(where + (error.text or "").strip())
    elif not (isinstance(error, GraphcError) and error.at):
        lines[len(text[:4]) : len(text[:4])] = frames
    if not frames and not isinstance(error, (GraphcError, OSError, SyntaxError, MemoryError)):
        lines.append(f"  This comes from inside of graphc ({command}).")
        lines.append("  GRAPHC_TRACEBACK=1 shows where.")
    return _cut(lines)


def _name(error: BaseException) -> str:
    name = type(error).__name__
    return f"graphc.{name}" if isinstance(error, GraphcError) else name


def _text(error: BaseException) -> list[str]:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return [f"{error.filename}: {error.strerror}"]
    if isinstance(error, SyntaxError):
        return [error.msg]
    return str(error).splitlines()


def _cut(lines: list[str]) -> list[str]:
    kept = lines[:MAX_LINES]
    return [line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…" for line in kept]


def user_frames(error: BaseException) -> list[str]:
    """The innermost lines of the user's code, the nearest first."""
    found = []
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_users(frame.filename):
            name = "" if frame.name == "<module>" else f"      in {frame.name}"
            line = (frame.line or "").strip()
            found.append(f"  {os.path.basename(frame.filename)}:{frame.lineno}: {line}{name}")
    return found[:MOST_FRAMES]


def _is_users(filename: str) -> bool:
    """Neither graphc's, nor Python's own, nor an installed package's, nor made up."""
    if filename.startswith("<") or not os.path.exists(filename):
        return False
    path = os.path.abspath(filename)
    inside = (_PACKAGE, _LIBRARY)
    return not path.startswith(inside) and f"{os.sep}site-packages{os.sep}" not in path
