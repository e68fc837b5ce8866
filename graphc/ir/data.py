"""`Data`: the contents of a constant, as an attribute: dtype, shape and bytes, immutable."""

from __future__ import annotations

import base64
import binascii
import hashlib

import numpy as np

from .dtype import DType, dtype, from_numpy
from .errors import FormatError


class Data:
    """A constant array. Equal by content; its text holds the bytes in base64."""

    __slots__ = ("_text", "array", "digest", "dtype")

    def __init__(self, array: np.ndarray) -> None:
        self.array = np.array(array, order="C")  # a private copy: constants never change
        self.array.flags.writeable = False
        self.dtype: DType = from_numpy(self.array.dtype)
        head = f"{self.dtype.name}{self.array.shape}".encode()
        self.digest = hashlib.blake2b(head + self.array.tobytes(), digest_size=16).hexdigest()
        self._text: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def attr_text(self) -> str:
        if self._text is None:
            body = base64.b64encode(self.array.tobytes()).decode()
            shape = "(" + "".join(f"{n}, " for n in self.shape).rstrip() + ")"
            self._text = f'data("{self.dtype.name}", {shape}, "{body}")'
        return self._text

    @staticmethod
    def parse(name: str, shape: tuple[int, ...], body: str) -> Data:
        kind = dtype(name)
        try:
            raw = base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError) as error:
            raise FormatError(f"constant data is not base64: {error}") from None
        count = 1
        for n in shape:
            if not isinstance(n, int) or n < 0:
                raise FormatError(f"constant data has the shape {shape}")
            count *= n
        if len(raw) != count * kind.itemsize:
            raise FormatError(
                f"constant data of {name}{list(shape)} holds {len(raw)} bytes, "
                f"not {count * kind.itemsize}"
            )
        return Data(np.frombuffer(raw, kind.numpy).reshape(shape))

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Data) and self.digest == other.digest
