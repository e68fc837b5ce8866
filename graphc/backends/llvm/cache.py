"""Caches on disk: compiled objects, compiled graphs, and what was tuned.

An entry is one file: a digest, then the bytes. It is written under a temporary name and then
renamed, so a reader sees all of it or nothing; a file that does not match its digest counts
as absent. Files are kept under a size, the least recently used going first. Compiled code is
run without further checks, so the directory must belong to this user and to nobody else.
"""

import hashlib
import logging
import os
import random
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from graphc.backends.llvm.settings import settings

_LOG = logging.getLogger("graphc.cache")
_DIGEST_BYTES = 32
_TRIM_TO = 0.75  # of the limit, so that a full cache is not trimmed at each write
_TOTAL = ".total"  # the file that holds the bytes of all entries
_COUNT_AGAIN = 4096  # entries written, on average, between two looks through a folder
_dice = random.Random()  # of its own: the program's random numbers are not touched
_refused: set[Path] = set()


def cache_key(*parts: str | bytes) -> str:
    """A key for `parts`, which differs with graphc's and llvmlite's versions too."""
    import llvmlite

    graphc = sys.modules.get("graphc")
    versions = (getattr(graphc, "__version__", ""), llvmlite.__version__)
    digest = hashlib.blake2b(digest_size=20)
    for part in (*versions, *parts):
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


@cache
def compiler_stamp() -> str:
    """Differs when the source of the compiler does."""
    package = Path(__file__).parents[2]
    stamp = hashlib.blake2b(digest_size=16)
    for folder in ("ir", "passes", "backends/llvm"):
        for path in sorted((package / folder).rglob("*.py")):
            status = path.stat()
            stamp.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return stamp.hexdigest()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def _fault(directory: Path) -> str | None:
    """Why `directory` cannot be trusted, or None."""
    if os.name == "nt":
        return None
    status = os.stat(directory)
    if status.st_uid != os.getuid():
        return "it belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "other users can write to it"
    return None


class DiskCache:
    """Bytes by key, in the folder `name` of the cache directory.

    All methods do nothing (and `get` finds nothing) while `settings.cache` is off or the
    directory is refused. An error of the disk is logged; it never reaches the caller.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def directory(self) -> Path | None:
        """The folder of this cache, made when absent; None when caching is off or refused."""
        if not settings.cache:
            return None
        root = Path(settings.cache_dir)
        folder = root / self.name
        if root in _refused:
            return None
        try:
            for directory in (root, folder):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                if fault := _fault(directory):
                    self._refuse(root, f"{directory}: {fault}")
                    return None
        except OSError as error:
            self._refuse(root, str(error))
            return None
        return folder

    @staticmethod
    def _refuse(root: Path, reason: str) -> None:
        _refused.add(root)
        warnings.warn(f"graphc writes no cache: {reason}", RuntimeWarning, stacklevel=4)

    def get(self, key: str) -> bytes | None:
        """The bytes that were put under `key`, or None."""
        folder = self.directory()
        if folder is None:
            return None
        path = folder / key
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("cannot read %s: %s", path, error)
            return None
        data = content[_DIGEST_BYTES:]
        if content[:_DIGEST_BYTES] != _digest(data):
            _LOG.warning("%s is damaged; it will be made again", path)
            return None
        try:
            os.utime(path)
        except OSError as error:
            _LOG.info("cannot mark %s as used: %s", path, error)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`, dropping what was used least recently if there is too much."""
        folder = self.directory()
        if folder is None:
            return
        temporary = ""
        try:
            handle, temporary = tempfile.mkstemp(prefix=".new-", dir=folder)
            with open(handle, "wb") as file:
                file.write(_digest(data) + data)
            os.replace(temporary, folder / key)
        except OSError as error:
            _LOG.warning("cannot write to %s: %s", folder, error)
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            return
        self._keep_bounded(folder, _DIGEST_BYTES + len(data))

    def _keep_bounded(self, folder: Path, added: int) -> None:
        """Counts what was added, and drops what was used least recently where it is too much.

        The count stands in a file: a folder of 100,000 entries takes a second to look through.
        Processes that write at once may lose an addition, so now and then it is counted anew.
        """
        note = folder / _TOTAL
        try:
            total = int(note.read_bytes()[:20]) + added
        except (OSError, ValueError):
            total = -1
        if total < 0 or _dice.random() * _COUNT_AGAIN < 1:
            total = sum(status.st_size for _, status in _files(folder))
        if total > settings.cache_bytes:
            total = _trim(folder)
        try:
            note.write_text(str(total))
        except OSError as error:
            _LOG.warning("cannot write to %s: %s", folder, error)

    def clear(self) -> None:
        """Remove every entry."""
        folder = self.directory()
        if folder is None:
            return
        for path, _ in _files(folder):
            path.unlink(missing_ok=True)
        (folder / _TOTAL).unlink(missing_ok=True)


def _trim(folder: Path) -> int:
    """Removes the least recently used entries; returns the bytes that stay."""
    files = sorted(_files(folder), key=lambda file: file[1].st_mtime_ns)
    total = sum(status.st_size for _, status in files)
    for path, status in files:
        if total <= settings.cache_bytes * _TRIM_TO:
            break
        path.unlink(missing_ok=True)
        total -= status.st_size
    return total


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name == _TOTAL:
                continue
            try:
                yield Path(entry.path), entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # another process trims as well
