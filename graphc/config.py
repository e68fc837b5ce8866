"""What a user may set: `graphc.config.verify = "numeric"`.

Each field can be assigned at any time and is read when it is next needed. The environment variable
in brackets gives a field its first value.

backend      "llvm", or "reference" for the numpy interpreter   [GRAPHC_BACKEND]
verify       None, "structure" or "numeric": whether the passes are checked while they run:
             "numeric" interprets the graph before and after each, and names the one that changed
             a result beyond its class                          [GRAPHC_VERIFY]
verify_ir    whether LLVM's verifier runs over generated code   [GRAPHC_VERIFY_IR]
target       "host", or the name of a CPU feature level         [GRAPHC_TARGET]
cache        whether compiled code is kept on disk              [GRAPHC_CACHE]
cache_dir    where                                              [GRAPHC_CACHE_DIR]
cache_bytes  the size that each cache on disk is kept under
num_threads  threads of a computation; 0 means one a core       [GRAPHC_NUM_THREADS]
winograd     whether traced modules, loaded models and functions under compile(exact=False) compute
             3 x 3 convolutions in float32 by Winograd's algorithm where that is faster: errors are
             some 1e-5 of the largest result, not the bits of eager mode   [GRAPHC_WINOGRAD]
autotune     whether a kernel of a product or a convolution is compiled with a few schedules, which
             run in turns, and gets the fastest: some 0.5 s a kernel (or 30 of its runs), the
             first time that this machine meets it. Winners are remembered in cache_dir, for
             compiles that have autotune on too; without it all have their default. Results keep
             their bits. What is compiled already stays as it is, with another number of threads too
                                                                   [GRAPHC_AUTOTUNE]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_VERIFY = (None, "structure", "numeric")
_BACKENDS = ("llvm", "reference")


def _base() -> Any:
    from .backends.base import settings

    return settings


def _llvm() -> Any:
    from .backends.llvm.settings import settings

    return settings


def _one_of(name: str, value: Any, allowed: tuple) -> Any:
    if value not in allowed:
        raise ValueError(f"config.{name} is one of {', '.join(map(repr, allowed))}, not {value!r}")
    return value


def _target(value: Any) -> str:
    from .backends.llvm.target import TARGETS

    return _one_of("target", value, ("host", *TARGETS))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected True or False, not {value!r}")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected a whole number of at least 0, not {value!r}")
    return value


# Field -> (the record that holds it, its name there, what a new value has to pass).
_FIELDS: dict[str, tuple[Any, str, Any]] = {
    "backend": (_base, "backend", lambda v: _one_of("backend", v, _BACKENDS)),
    "verify": (_base, "verify", lambda v: _one_of("verify", v, _VERIFY)),
    "verify_ir": (_llvm, "verify", _flag),
    "target": (_llvm, "target", _target),
    "cache": (_llvm, "cache", _flag),
    "cache_dir": (_llvm, "cache_dir", Path),
    "cache_bytes": (_llvm, "cache_bytes", _count),
    "num_threads": (_llvm, "num_threads", _count),
    "winograd": (_llvm, "winograd", _flag),
    "autotune": (_llvm, "autotune", _flag),
}


def get(name: str) -> Any:
    """The value of a field."""
    if name not in _FIELDS:
        raise AttributeError(f"config has no field '{name}'; it has {', '.join(_FIELDS)}")
    record, attribute, _ = _FIELDS[name]
    return getattr(record(), attribute)


def set(name: str, value: Any) -> None:
    """Sets a field; AttributeError for a name that is none, ValueError for what it cannot be."""
    if name not in _FIELDS:
        raise AttributeError(f"config has no field '{name}'; it has {', '.join(_FIELDS)}")
    record, attribute, checked = _FIELDS[name]
    value = checked(value)
    if name == "num_threads":
        from .backends.llvm import pool

        pool.set_num_threads(value or pool.default_threads())
    setattr(record(), attribute, value)


@contextmanager
def patch(**fields: Any) -> Iterator[None]:
    """Sets fields within a block: `with config.patch(verify="numeric"):`."""
    before = {name: get(name) for name in fields}
    try:
        for name, value in fields.items():
            set(name, value)
        yield
    finally:
        for name, value in before.items():
            set(name, value)


class _Config(ModuleType):
    """The module itself, whose fields are attributes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or name in self.__dict__:
            ModuleType.__setattr__(self, name, value)
        else:
            set(name, value)

    def __dir__(self) -> list[str]:
        return sorted([*self.__dict__, *_FIELDS])


sys.modules[__name__].__class__ = _Config
