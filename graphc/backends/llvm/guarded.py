"""Memory between guards: what a kernel reads or writes beside its buffer shows.

The bytes of a buffer begin as 255, which is nan in every floating-point type, and so do the guards
of operands: what is read beside them shows in the results. The guards of results hold a byte that
no nan is made of: what is written there shows in them.
"""

from __future__ import annotations

import numpy as np

from graphc.backends.llvm.memory import ALIGNMENT

GUARD = 4096  # bytes on each side
_POISON = 255
_UNWRITTEN = 165


class Guarded:
    """`nbytes` bytes, aligned as those of an arena."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        room = nbytes + -nbytes % ALIGNMENT
        self._guard = _UNWRITTEN
        self._memory = np.full(room + 2 * GUARD + ALIGNMENT, self._guard, np.uint8)
        self._start = GUARD + -(self._memory.ctypes.data + GUARD) % ALIGNMENT
        self.address: int = self._memory.ctypes.data + self._start
        self._before: bytes | None = None
        self.poison()

    @staticmethod
    def holding(array: np.ndarray) -> Guarded:
        """A copy of an array's elements, in row-major order."""
        made = Guarded(array.nbytes)
        made._guard = _POISON
        made._memory[...] = _POISON
        made.bytes[...] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        made._before = made.bytes.tobytes()
        return made

    @property
    def bytes(self) -> np.ndarray:
        return self._memory[self._start : self._start + self.nbytes]

    def array(self, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        return self.bytes.view(dtype).reshape(shape)

    def poison(self) -> None:
        self.bytes[...] = _POISON

    def is_broken(self) -> bool:
        """Whether anything beside the buffer was written."""
        end = self._start + self.nbytes
        sides = (self._memory[: self._start], self._memory[end:])
        return any([bool((side != self._guard).any()) for side in sides])

    def has_changed(self) -> bool:
        """Whether what `holding` put there was written over."""
        return self._before is not None and self.bytes.tobytes() != self._before
