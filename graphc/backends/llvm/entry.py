"""A compiled graph as a Python callable that takes addresses and sizes as integers.

The callable is a builtin that CPython calls directly, some 50 ns a call. Where that cannot be
trusted (`cpython.fault`), a callable over ctypes does the same, in about a microsecond.
"""

import ctypes
import operator
import warnings
from collections.abc import Callable
from functools import cache
from typing import Literal

from graphc.backends.llvm import cpython, jit, native_buffer
from graphc.backends.llvm.memory import heap
from graphc.backends.llvm.target import host_target

Entry = Callable[..., int | None]
Kind = Literal["fastcall", "ctypes"]


@cache
def entry_kind() -> Kind:
    """How compiled graphs are called here. Warns, once, when it is not "fastcall"."""
    problem = cpython.fault()
    if problem is None:
        return "fastcall"
    warnings.warn(f"calls go through ctypes: {problem}", RuntimeWarning, stacklevel=2)
    return "ctypes"


def make_entry(
    code: jit.Code,
    symbol: str,
    pointers: int,
    integers: int,
    name: str,
    *,
    release_gil: bool = False,
    kind: Kind | None = None,
) -> Entry:
    """A callable around `i64 @symbol(ptr table)`, which `code` exports.

    It takes `pointers` addresses and then `integers` signed integers, positional only, and
    passes them as a table of i64 in that order. It returns what the function returns, or None
    for 0. `release_gil` lets other Python threads run meanwhile. The
    callable keeps `code` alive. `kind` is by default `entry_kind()`.

    The callable raises TypeError for another number of arguments or one that is no integer, and
    OverflowError for one that 64 bits do not hold.
    """
    if (kind or entry_kind()) == "ctypes":
        return _CtypesEntry(code, symbol, pointers, integers, name, release_gil)
    _native_buffers()
    text = cpython.entry_text("graph", pointers, integers, release_gil)
    image = _object(text)
    shell = jit.load_object(image, [cpython.ENTRY], {"graph": code[symbol]})
    return cpython.builtin(shell[cpython.ENTRY], name, (shell, code))


@cache
def _native_buffers() -> None:
    """From the first compiled graph on, buffers are of a compiled type too."""
    problem = native_buffer.fault()
    if problem is not None:
        warnings.warn(f"buffers are made by Python: {problem}", RuntimeWarning, stacklevel=3)
    heap.use_native()


@cache
def _object(text: str) -> bytes:
    return jit.compile_object(text, host_target())


class _CtypesEntry:
    """The same by ctypes."""

    __slots__ = ("__name__", "_code", "_count", "_function", "_pointers", "_table")

    def __init__(
        self,
        code: jit.Code,
        symbol: str,
        pointers: int,
        integers: int,
        name: str,
        release_gil: bool,
    ) -> None:
        kind = ctypes.CFUNCTYPE if release_gil else ctypes.PYFUNCTYPE
        self.__name__ = name
        self._code = code
        self._function = kind(ctypes.c_int64, ctypes.c_void_p)(code[symbol])
        self._pointers = pointers
        self._count = pointers + integers
        self._table = ctypes.c_int64 * self._count

    def __call__(self, *arguments: int) -> int | None:
        if len(arguments) != self._count:
            raise TypeError(
                f"a compiled graph takes {self._count} arguments, but {len(arguments)} are given"
            )
        for position, argument in enumerate(arguments):
            value = operator.index(argument)
            limit = 1 << 64 if position < self._pointers else 1 << 63
            if not -(1 << 63) <= value < limit:
                raise OverflowError(f"argument {position} does not fit into 64 bits: {value}")
        return self._function(self._table(*arguments)) or None

    def __repr__(self) -> str:
        return f"<compiled graph {self.__name__}>"
