"""The zip archive of a torch file, read without trusting it.

torch.save stores its entries uncompressed. A file with a compressed entry is refused, and so is
one whose entries add up to more than the file: what is read is bounded by the size of the file.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from ..ir.errors import FormatError
from .torch_pickle import shorten

_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_CHUNK = 1 << 22

PathOrFile = str | os.PathLike[str] | IO[bytes]


class TorchArchive:
    """The records of one torch file: "data.pkl", "byteorder", "data/0" and so on."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self.archive = archive
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if any(name.endswith("/constants.pkl") for name in names):
            raise FormatError(
                "this is a TorchScript archive, not a file of torch.save",
                hint="Save the state_dict of the module with torch.save and load that.",
            )
        if len(pickles) != 1:
            raise FormatError(
                f"this zip file has {len(pickles)} entries named */data.pkl, a torch file has one"
            )
        if len(set(names)) != len(names):
            raise FormatError("two entries of the file have the same name")
        if sum(entry.file_size for entry in entries) > size:
            raise FormatError("the entries of the file claim more bytes than the file has")
        self.root = pickles[0].removesuffix("data.pkl")
        self.entries = {entry.filename: entry for entry in entries}

    def size(self, record: str) -> int | None:
        """Bytes of a record; None where the file has no such record."""
        entry = self.entries.get(self.root + record)
        return None if entry is None else entry.file_size

    def read(self, record: str) -> np.ndarray:
        """The record as a new uint8 array."""
        entry = self.entries.get(self.root + record)
        if entry is None:
            raise FormatError(f"the file has no record {shorten(record)}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise FormatError(
                f"the record {shorten(record)} is compressed; torch.save stores records as they "
                "are",
                hint="Unpack the file and pack it again without compression (zip -0 -r).",
            )
        data = np.empty(entry.file_size, np.uint8)
        with self.archive.open(entry) as stream:
            for start in range(0, entry.file_size, _CHUNK):
                end = min(start + _CHUNK, entry.file_size)
                piece = stream.read(end - start)
                if len(piece) != end - start:
                    raise EOFError(f"the file ends inside the record {shorten(record)}")
                data[start:end] = np.frombuffer(piece, np.uint8)
            stream.read(1)  # at the end zipfile compares the checksum
        return data


@contextmanager
def open_archive(source: PathOrFile) -> Iterator[TorchArchive]:
    """Open a path or a seekable binary file; a file given is left open."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as stream, open_archive(stream) as archive:
            yield archive
        return
    if not (hasattr(source, "seek") and hasattr(source, "read")):
        raise TypeError(f"expected a path or a seekable binary file, got {type(source).__name__}")
    start = source.tell()
    head = source.read(len(_LEGACY_MAGIC))
    size = source.seek(0, os.SEEK_END) - start
    source.seek(start)
    _refuse_other_formats(head)
    try:
        archive = zipfile.ZipFile(source)
    except OSError as error:  # an offset in the file that cannot be sought
        raise FormatError(f"the zip archive is malformed ({shorten(error)})") from error
    with archive:
        yield TorchArchive(archive, size)


def _refuse_other_formats(head: bytes) -> None:
    if not head:
        raise EOFError("the file is empty: Ran out of input")
    if head.startswith(b"PK"):
        return
    if head == _LEGACY_MAGIC:
        raise FormatError(
            "this file is in the format that torch.save wrote before version 1.6 (no zip archive)",
            hint="Convert it once with torch: torch.save(torch.load(path), path).",
        )
    raise FormatError(
        "this is not a torch file: it does not begin as a zip archive does",
        hint="Files of the time before torch 0.4 (tar archives) have to be converted with torch.",
    )
