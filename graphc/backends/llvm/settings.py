"""The runtime's switches: one record, whose defaults come from the environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from ...ir.errors import SettingError


def _cache_directory() -> Path:
    chosen = os.environ.get("GRAPHC_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "graphc"


def _number(name: str, default: int) -> int:
    text = os.environ.get(name)
    if text is None or text == "":
        return default
    try:
        return int(text)
    except ValueError:
        raise SettingError(f"{name} must be an integer, not {text!r}") from None


@dataclass(slots=True)
class Settings:
    """Fields may be assigned at any time; each is read when it is next needed. (The pool reads
    its two when it starts; `pool.set_num_threads` changes a pool that runs.)

    target       name of a target (`target.TARGETS`) or "host"      GRAPHC_TARGET
    cache        whether anything is read from or written to disk   GRAPHC_CACHE (0 or 1)
    cache_dir    where                                              GRAPHC_CACHE_DIR
    cache_bytes  the size that each cache on disk is kept under
    num_threads  threads of the pool; 0 means one a core            GRAPHC_NUM_THREADS
    spin         polls of a worker without work before it sleeps
    winograd     whether Winograd's algorithm may be taken: see `config`
                                                                    GRAPHC_WINOGRAD (0 or 1)
    autotune     whether schedules are chosen by measuring: see `config`
                                                                    GRAPHC_AUTOTUNE (0 or 1)
    verify       whether LLVM's verifier runs over all IR text      GRAPHC_VERIFY_IR (0 or 1)
    """

    target: str = field(default_factory=lambda: os.environ.get("GRAPHC_TARGET") or "host")
    cache: bool = field(default_factory=lambda: _number("GRAPHC_CACHE", 1) != 0)
    cache_dir: Path = field(default_factory=_cache_directory)
    cache_bytes: int = 512 << 20
    num_threads: int = field(default_factory=lambda: _number("GRAPHC_NUM_THREADS", 0))
    spin: int = 2000
    winograd: bool = field(default_factory=lambda: _number("GRAPHC_WINOGRAD", 1) != 0)
    autotune: bool = field(default_factory=lambda: _number("GRAPHC_AUTOTUNE", 0) != 0)
    verify: bool = field(default_factory=lambda: _number("GRAPHC_VERIFY_IR", 1) != 0)


settings = Settings()
