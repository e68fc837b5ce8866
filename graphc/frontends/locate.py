"""The user's source line: the innermost frame outside of graphc."""

from __future__ import annotations

import os
import sys
import threading

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_NOT_USERS = (_PACKAGE, "<frozen ")  # nor the importer and runpy, which start programs
_scope = threading.local()


def user_location() -> str:
    """ "train.py:41 in forward", or that and the module path, "... (GPT.head)", where one is set."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_USERS):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return ""
    name = os.path.basename(frame.f_code.co_filename)
    where = f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
    scope = getattr(_scope, "path", None)
    return f"{where} ({'.'.join(scope)})" if scope else where


def user_site() -> tuple:
    """Where the program is: (code, line) of each frame outside of graphc, innermost first."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            found.append((code, frame.f_lasti))
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(found)


def push_scope(name: str) -> None:
    """Enters a module: nodes recorded from now on carry its path."""
    path = getattr(_scope, "path", None)
    if path is None:
        path = _scope.path = []
    path.append(name)


def pop_scope() -> None:
    _scope.path.pop()


def user_line() -> str:
    """The user's source line with its text, as error messages show it."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_USERS):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return ""
    import linecache

    name = os.path.basename(frame.f_code.co_filename)
    text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    scope = getattr(_scope, "path", None)
    where = f"      in {'.'.join(scope)}" if scope else ""
    return f"{name}:{frame.f_lineno}: {text}{where}"
