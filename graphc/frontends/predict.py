"""Steps that are predicted: a call whose like followed the last time needs no look-up.

The state keeps in `operands` what to compare: (function, slots, number, mode). Where it is not the
same, the call takes the way of any call (`Function.__call__`). These are the most frequent calls of
an eager program, so what they do is kept to a few attributes and comparisons.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from ..ir.dtype import DType
from . import modes, record
from .function import Call, Function, tensors
from .record import CUT_WHERE_IT_RECURS, LEARNED, Cell, Recorder, recorder
from .steps import steps

_NONE: dict[str, Any] = {}


@cache
def use_native_steps() -> None:
    """From now on predicted steps are taken by compiled code, if this interpreter permits it."""
    from . import native_steps

    problem = native_steps.fault()
    if problem is not None:
        warnings.warn(f"steps are predicted by Python: {problem}", RuntimeWarning, stacklevel=2)
        return
    for name, made in native_steps.load(tensors.cls, tensors.storage).items():
        setattr(steps, name, made)
    steps.is_native = True  # type: ignore[misc]


def slot_of(rec: Recorder, cell: Any) -> int:
    """The slot of a cell on this tape, or of one that becomes a parameter as before; else -1."""
    tape = rec.tape
    if cell.tape is tape:
        slot, cells = cell.slot, tape.cells
        return slot if slot < len(cells) and cells[slot] is cell else -1
    known = tape.params.get(cell)
    if known is not None:
        return known
    if cell.buffer is None:
        return -1
    kind = None if cell.inference else cell.requires_grad
    following = rec.state.edges.get(("param", cell.type, kind))
    return -1 if following is None or following.hits < LEARNED else rec.slot_of(cell)


def take_cell(rec: Recorder, tape: Any, state: Any) -> Cell:
    """The recording goes on to a state that is known; returns the cell of its output."""
    cell = state.cell_class(state.types[0])
    cells = tape.cells
    cell.tape, cell.slot = tape, len(cells)
    if state.grads[0]:
        cell.requires_grad, cell.grad_fn = True, tape
    try:
        cells.append(cell)
        rec.state = state
    except BaseException:  # an interrupt in between: the step did not happen
        del cells[rec.state.slots :]
        raise
    return cell


def take(rec: Recorder, tape: Any, state: Any) -> Any:
    """The recording goes on to a state that is known; returns the tensor of its output."""
    made = tensors.wrap(take_cell(rec, tape, state))
    if state.depth >= CUT_WHERE_IT_RECURS:
        rec.cut_if_long()
    return made


def take_view(rec: Recorder, state: Any, function: Function, owner: Any, read: Cell) -> Any:
    """The same, of a view of a tensor: of what `read` is the cell of."""
    cell = take_cell(rec, rec.tape, state)
    made = tensors.wrap_view(owner, read, [cell], state.extra, function)
    if state.depth >= CUT_WHERE_IT_RECURS:
        rec.cut_if_long()
    return made


def learn(rec: Recorder, tape: Any, state: Any, expected: tuple) -> None:
    """After a step that was looked up: what to compare next time."""
    after = rec.state
    if rec.tape is tape and after.parent is state and len(after.types) == 1:
        after.operands = (*expected[:-1], modes.word())


def of_one(function: Function) -> Callable[[Any], Any]:
    """`function` of one tensor, as fast as can be."""

    def call(a: Any) -> Any:
        args = (a,)
        made = None if function.view else steps.predict(recorder(), function, args, _NONE)
        return function(a) if made is None else made

    return call


def of_two(function: Function) -> Callable[[Any, Any], Any]:
    """`function` of two tensors, or of one and a number, as fast as can be."""
    local, given = record.of_thread, steps

    def call(a: Any, b: Any) -> Any:
        try:
            rec = local.recorder
        except AttributeError:
            rec = recorder()
        made = given.predict(rec, function, (a, b), _NONE)
        return function(a, b) if made is None else made

    return call


#: Arguments beside tensors that a prediction compares; a float may become an operand.
_COMPARED = frozenset([int, str, bool, type(None), DType])


def predicted(function: Function, args: tuple, kwargs: dict[str, Any]) -> Any:
    """A call of a function on tensors, and ints, words and the like beside them.

    As `Steps.predict`, of any tensors; what is not expected is recorded, and learned.
    """
    rec = recorder()
    read: dict[int, Cell] = {}  # by identities of arguments
    if steps.is_native and not function.view:
        known = _with_copies(args, read)
        made = steps.predict(rec, function, known, kwargs) if known else None
        if made is not None:
            return made
    cells: list[Cell] = []
    expected = None
    if not rec.tape.sizes:
        expected = _expected(rec, function, (*args, *kwargs.values()), cells, read)
    if expected is None:
        return Call(function, args, kwargs, cells).record()
    if kwargs:
        expected = (*expected, tuple(kwargs))
    expected = (*expected, rec.modes.known)
    tape, state = rec.tape, rec.state
    following = state.next
    is_view = function.view
    if following.operands == expected and following.parent is state and not tape.sizes:
        if is_view:
            return take_view(rec, following, function, args[0], cells[0])
        return take(rec, tape, following)
    made = Call(function, args, kwargs, cells).record()
    extra = rec.state.extra
    if (extra[0] if is_view and extra else extra) is None and (args or not is_view):
        learn(rec, tape, state, expected)
    return made


def _with_copies(args: tuple, read: dict[int, Cell]) -> tuple:
    """The arguments with tensors of what memory that numpy sees holds now, which compiled code can
    take; () if there are none. What was read is noted."""
    found: list[Any] = []
    for at, value in enumerate(args):
        if value.__class__ is tensors.cls and not value._leaf and value._storage.export is not None:
            read[id(value)] = cell = value._read()
            found = found or list(args)
            found[at] = steps.wrap(cell)
    return tuple(found)


def _expected(
    rec: Recorder,
    function: Function,
    arguments: Sequence[Any],
    cells: list[Cell],
    read: dict[int, Cell],
) -> tuple | None:
    """The call by slots and values; None where it is not to be predicted.

    The tensors' `cells` are all read before the first becomes a parameter, as in any call: reading
    a view records. They are read once, since what numpy sees is copied: `read` has what was.
    """
    parts: list[Any] = [function]
    for value in arguments:
        cls = value.__class__
        if cls in _COMPARED:
            parts.append((cls, value))
        elif isinstance(value, tensors.cls):
            cells.append(read.get(id(value)) or value._read())
            parts.append(cells[-1])
        elif cls is float:
            parts.append((cls, value, value == 0 and str(value)))  # -0.0 equals 0.0
        elif cls is tuple and all([item.__class__ is int for item in value]):
            parts.append((cls, value))
        else:
            return None
    for at, part in enumerate(parts):
        if part.__class__ is not tuple and at:
            slot = parts[at] = slot_of(rec, part)
            if slot < 0:
                return None
    return tuple(parts) if cells else None


tensors.predicted = staticmethod(predicted)
