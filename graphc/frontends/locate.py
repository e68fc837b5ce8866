"""Where the program is: the user's source line, and the module that runs."""

from __future__ import annotations

import itertools
import linecache
import os
import re
import sys
import threading
from typing import Any

from ..ir.errors import FormatError, GraphcError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# Nor the importer and runpy, which start programs, nor the script that is the command.
_NOT_USERS = (_PACKAGE, "<frozen ", os.path.join(sys.prefix, "bin", "graphc"))
_LOCATION = re.compile(r"(\S+):(\d+) in \S+(?: \((.*)\))?")
_files: dict[str, str] = {}  # the name of a file in locations -> its path


class _Scope(threading.local):
    """The modules that are running in this thread, outermost first: `nn.Module` adds itself."""

    def __init__(self) -> None:
        self.modules: list[Any] = []


scope = _Scope()


def _user_frame() -> Any:
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_USERS):
        frame = frame.f_back
    return frame


def user_location() -> str:
    """ "train.py:41 in forward"; "train.py:41 in forward (GPT.head)" where a module runs."""
    frame = _user_frame()
    if frame is None:
        return ""
    path = frame.f_code.co_filename
    name = os.path.basename(path)
    _files[name] = path
    where = f"{name}:{frame.f_lineno} in {frame.f_code.co_name}"
    return f"{where} ({scope_path()})" if scope.modules else where


def user_site() -> tuple:
    """Where the program is: (code, line) of each frame outside of graphc, innermost first."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            found.append((code, frame.f_lasti))
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(found)


class reading:
    """Errors of a malformed file name it, and the user's line that asked for it."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, FormatError):
            if isinstance(self.file, (str, os.PathLike)):
                error.message = f"{os.fspath(self.file)}: {error.message}"
            error.at = "\n".join([part for part in (error.at, user_line()) if part])


def warn_at_user_line(message: str, category: type[Warning]) -> None:
    """A warning that is shown at the user's line, once for each line."""
    import warnings

    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_USERS):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        warnings.warn(message, category, stacklevel=2)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    name = frame.f_globals.get("__name__", "__main__")
    place = frame.f_code.co_filename, frame.f_lineno
    warnings.warn_explicit(message, category, *place, module=name, registry=registry)


def user_line() -> str:
    """The user's source line with its text, as error messages show it."""
    frame = _user_frame()
    if frame is None:
        return ""
    path = frame.f_code.co_filename
    text = linecache.getline(path, frame.f_lineno).strip()
    where = ""
    if scope.modules:
        kind = f" ({type(scope.modules[-1]).__name__})" if len(scope.modules) > 1 else ""
        where = f"      in {scope_path()}{kind}"
    return f"{os.path.basename(path)}:{frame.f_lineno}: {text}{where}"


def line_of(location: str) -> str:
    """A node's location as an error message shows it, with the text of the line."""
    found = _LOCATION.fullmatch(location)
    path = _files.get(found[1]) if found else None
    if found is None or path is None:
        return location
    text = linecache.getline(path, int(found[2])).strip()
    if not text:
        return location
    return f"{found[1]}:{found[2]}: {text}" + (f"      in {found[3]}" if found[3] else "")


GraphcError.line_of = staticmethod(line_of)


def located(error: GraphcError) -> GraphcError:
    """The error, with the user's line where it has no place yet."""
    if not error.at:
        error.at = user_line()
    return error


# --- modules -------------------------------------------------------------------------------------


def scope_path() -> str:
    """ "GPT.head": the class of the outermost module that runs, and the names below it."""
    modules = scope.modules
    parts = [type(modules[0]).__name__]
    for outer, inner in itertools.pairwise(modules):
        parts.append(_name_within(outer, inner))
    return ".".join(parts)


def _name_within(outer: Any, inner: Any) -> str:
    """The name of a module in another one; its class where it is no part of it."""
    for name, module in outer.named_modules():
        if module is inner:
            return name or type(inner).__name__
    return type(inner).__name__
