"""Steps whose results replace the values of tensors: an optimizer's update of all parameters.

Such a step is predicted as operators are (`predict`): the state keeps in `after` what followed the
last time. There may be many operands, and numbers that change from step to step, whose parameters
stand between the state and the step. The results go straight into the targets' storages.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_double
from dataclasses import dataclass
from typing import Any

from ..backends.llvm.memory import heap
from ..ir.dtype import F64
from . import modes
from .function import Call, Function, _stays_constant, tensors
from .predict import slot_of
from .record import Cell, Recorder, State, recorder
from .steps import steps


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What followed a state: a step on these slots and numbers, in this mode.

    constants  the numbers, where they are part of the trace; None for those that are operands
    numbers    the states of the operands, in order
    last       the state of the step
    """

    expected: tuple
    constants: tuple
    numbers: tuple[State, ...]
    last: State


def update(
    function: Function,
    targets: Sequence[Sequence[Any]],
    operands: Sequence[Sequence[Any]],
    options: Any,
    *numbers: float,
) -> None:
    """Writes the lists of results of `function(*operands, options, *numbers)` into `targets`.

    Operands and targets are lists of tensors; equal options should be one object.
    """
    rec = recorder()
    places = [tensor for group in operands for tensor in group]
    slots = steps.slots(rec, places) or _slots(rec, places)
    if slots is None:
        _write(_called(function, operands, options, numbers), targets)
        return
    tape, state, known = rec.tape, rec.state, rec.state.after
    expected = (function, options, modes.word(), [len(g) for g in operands], slots)
    if known is not None and known.expected == expected and _goes_on(rec, known, numbers):
        made = _taken(rec, known, numbers)
    else:
        made = _called(function, operands, options, numbers)
        if rec.tape is tape:
            _learn(rec, state, expected, numbers)
    _write(made, targets)
    rec.cut_if_long()


def _slots(rec: Recorder, tensors: Sequence[Any]) -> tuple[int, ...] | None:
    """As `Steps.slots`, of any tensors. They are read first: reading a view records."""
    cells = [tensor._read() for tensor in tensors]
    if rec.tape.sizes:
        return None
    slots = tuple([slot_of(rec, cell) for cell in cells])
    return None if -1 in slots else slots


def _called(
    function: Function,
    operands: Sequence[Sequence[Any]],
    options: Any,
    numbers: Sequence[float],
) -> list[Cell]:
    """As any call; the cells of its results."""
    made = Call(function, (*operands, options, *numbers), {}).record()
    return [tensor._storage.cell for group in made for tensor in group]


def _learn(rec: Recorder, before: State, expected: tuple, numbers: Sequence[float]) -> None:
    """After a call from a state on which all operands were on the tape."""
    between, state = [], rec.state.parent
    while state is not None and state is not before:
        between.append(state)
        state = state.parent
    if state is None or not all([s.is_param and s.types[0].dtype is F64 for s in between]):
        return
    changing = [not _stays_constant(n) for n in numbers]
    if between and len(between) != sum(changing):
        return  # equal numbers share a parameter
    constants = [None if between and c else repr(n) for n, c in zip(numbers, changing)]
    before.after = Known(expected, tuple(constants), tuple(between[::-1]), rec.state)


def _goes_on(rec: Recorder, known: Known, numbers: Sequence[float]) -> bool:
    """Whether these numbers are constants where they were, and operands where they were."""
    for number, constant in zip(numbers, known.constants, strict=True):
        if constant is None:
            if _stays_constant(number) or number.__class__ is not float:
                return False
        elif repr(number) != constant:
            return False
    return True


def _taken(rec: Recorder, known: Known, numbers: Sequence[float]) -> list[Cell]:
    """The recording goes on to the step; the cells of its results."""
    tape, last = rec.tape, known.last
    cells = tape.cells
    changing = [n for n, c in zip(numbers, known.constants) if c is None]
    params = []
    for number, state in zip(changing, known.numbers, strict=True):
        buffer = heap.alloc(8)
        c_double.from_address(buffer.address).value = number
        cell = Cell(state.types[0], buffer)
        cell.tape, cell.slot = tape, len(cells) + len(params)
        params.append(cell)
    try:
        cells += params
        for cell in params:
            tape.params[cell] = cell.slot
        if params:
            rec.state = known.numbers[-1]
    except BaseException:  # an interrupt in between: the step did not happen
        del cells[rec.state.slots :]
        for cell in params:
            tape.params.pop(cell, None)
        raise
    return steps.take(rec, last)


def _write(made: Sequence[Cell], targets: Sequence[Sequence[Any]]) -> None:
    """Gives the targets their new values, as `Tensor._write` does."""
    places = [target for group in targets for target in group]
    done = 0
    if not modes.grad_enabled():
        done = steps.write(recorder(), made, places)
    for cell, target in zip(made[done:], places[done:], strict=True):
        target._write(tensors.wrap(cell))
