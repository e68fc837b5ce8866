"""Compiles a contract kernel alone and calls it on numpy arrays."""

import ctypes
import mmap
from collections.abc import Sequence

import numpy as np

from graphc.backends.llvm.contract import Kernel
from graphc.backends.llvm.jit import compile_text, load_object
from graphc.backends.llvm.target import TARGETS, Target, host_target, runs_here

LEVELS = [target for target in TARGETS.values() if runs_here(target)]


_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


def aligned(shape: Sequence[int] | int, dtype: object = np.float32) -> np.ndarray:
    """Memory of NaN and minus one, aligned to 64 bytes."""
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.full(count + 64, 0xFF, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + count].view(dtype).reshape(shape)


def guarded(shape: Sequence[int] | int, dtype: object = np.float32) -> np.ndarray:
    """The same at no alignment: it ends where a page ends, and the next page is forbidden.

    Whoever reads or writes past the end is killed.
    """
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    size = -(-count // _PAGE) * _PAGE
    pages = mmap.mmap(-1, size + _PAGE)
    memory = np.frombuffer(pages, np.uint8)
    forbidden = ctypes.c_void_p(memory.ctypes.data + size)
    if _libc.mprotect(forbidden, ctypes.c_size_t(_PAGE), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    memory[:size] = 0xFF
    return memory[size - count : size].view(dtype).reshape(shape)


class Compiled:
    """A kernel as machine code of this process."""

    def __init__(self, kernel: Kernel, target: Target | None = None) -> None:
        units = kernel.units
        exports = [kernel.name] + ([units] if isinstance(units, str) else [])
        self.kernel = kernel
        self._code = load_object(compile_text(kernel.module, target or host_target()), exports)
        self._scratch = guarded(-(-max(kernel.scratch_bytes, 1) // 64) * 64, np.uint8)
        pointers = len(kernel.operands) + 1
        types = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * (2 + len(kernel.sizes))
        address = self._code[kernel.name]
        self.function = ctypes.CFUNCTYPE(None, *types)(address)

    def units(self, *sizes: int) -> int:
        if isinstance(self.kernel.units, int):
            return self.kernel.units
        types = [ctypes.c_int64] * len(sizes)
        address = self._code[self.kernel.units]
        return ctypes.CFUNCTYPE(ctypes.c_int64, *types)(address)(*sizes)

    def arguments(
        self, operands: Sequence[np.ndarray], sizes: Sequence[int] = ()
    ) -> tuple[int, ...]:
        """The arguments of a call over all units."""
        pointers = [array.ctypes.data for array in operands]
        return (*pointers, self._scratch.ctypes.data, 0, self.units(*sizes), *sizes)

    def __call__(
        self, *operands: np.ndarray, sizes: Sequence[int] = (), chunk: int | None = None
    ) -> None:
        """Do all units, in one call or in calls of `chunk` units each."""
        *pointers, low, high = self.arguments(operands, sizes)[: len(operands) + 3]
        step = chunk or max(high, 1)
        for start in range(low, high, step):
            self.function(*pointers, start, min(start + step, high), *sizes)
