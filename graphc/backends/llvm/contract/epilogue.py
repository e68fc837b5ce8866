"""What is done to a product's elements when they are stored: bias, activation, residual."""

from collections.abc import Callable
from dataclasses import dataclass

from graphc.backends.llvm.contract.emitter import Emitter, Index


@dataclass(frozen=True, slots=True)
class Position:
    """Where a vector of results lies: lanes are consecutive columns of one row.

    batch, row, column  indices of the first lane
    mask                the lanes that exist; None for all. Loads must heed it
    arguments           the kernel's extra operands, as named in the current function
    """

    batch: Index
    row: Index
    column: Index
    mask: str | None
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Epilogue:
    """A function of results applied before they are stored.

    operands  names of the extra pointers that it reads, part of the kernel's signature after
              the output
    emit      (emitter, vector of results, position) -> vector of new results, both of the
              type of the sums. It reads all that it reads before it writes
    long      whether its code is long (has maths): it is then emitted once, in a loop over
              the rows of a tile, and not once for each vector of the tile
    written   those of the operands that it stores to, at the position
    own       those that it reads at the position and nowhere else: results may be written over
              them where a kernel says so (`Kernel.over`)
    """

    operands: tuple[str, ...]
    emit: Callable[[Emitter, str, Position], str]
    long: bool = False
    written: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    def over(self, out: bool) -> tuple[str, ...]:
        """`Kernel.over` of a kernel that computes it once for each element; out: before anything
        is stored there."""
        if not self.own:
            return ()
        return ("out", *self.written) if out else self.written

    def shared(self, *out: str) -> tuple[str, ...]:
        """Pointers that may be to the same memory: its operands, and those to the output."""
        return (*out, *self.operands) if self.own else ()
