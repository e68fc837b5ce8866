"""The most frequent parts of recording, which compiled code takes over once there is some.

Until then, and on interpreters that do not permit it, what stands here leaves all to Python.
`predict.use_native_steps` puts the functions of `native_steps` in.
"""

from __future__ import annotations

from sys import getrefcount
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .function import Function
    from .record import Cell, Recorder, State


class Steps:
    """One object, `steps`."""

    is_native = False

    @staticmethod
    def predict(rec: Recorder, function: Function, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The tensor of a step that was predicted, or its cell if it is a view; None if it was
        not."""

    @staticmethod
    def slots(rec: Recorder, tensors: list[Any]) -> tuple[int, ...] | None:
        """The slots of tensors on the tape, where they may become parameters as before; None where
        one of them is not usual."""

    @staticmethod
    def slots_of_cells(rec: Recorder, cells: list[Cell]) -> tuple[int, ...] | None:
        """The same of cells."""

    @staticmethod
    def write(rec: Recorder, cells: list[Cell], tensors: list[Any]) -> int:
        """Gives tensors new values where no gradient is recorded; how many, from the first on."""
        return 0

    @staticmethod
    def held(cells: list[Cell]) -> tuple[int, ...]:
        """The places of the cells that are not computed and that others than the list hold."""
        counts = list(map(getrefcount, cells))
        return tuple([i for i, n in enumerate(counts) if n > UNUSED and cells[i].buffer is None])

    @staticmethod
    def settle(cells: list[Cell], places: list[int], buffers: list[Any]) -> int:
        """The cells at these places are computed now; how many it could do, from the first on."""
        return 0

    wrap: Any = None  # of a cell: a tensor on a storage of its own

    @staticmethod
    def take(rec: Recorder, state: State) -> list[Cell]:
        """The recording goes on to a state that follows; the cells of its outputs."""
        return rec.take(state)


def _calibrate() -> int:
    """What getrefcount says of an object that only a list holds, on this interpreter."""
    return max(map(getrefcount, [object(), object()]))


UNUSED = _calibrate()
steps = Steps()
