"""Steps that are predicted: a call whose like followed the last time needs no look-up.

The state keeps in `operands` what to compare: (function, slots, number, mode). Where it is not the
same, the call takes the way of any call (`Function.__call__`). These are the most frequent calls of
an eager program, so what they do is kept to a few attributes and comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..ir.dtype import DType
from . import modes, record
from .function import Call, Function, tensors
from .record import CUT_WHERE_IT_RECURS, LEARNED, Cell, Recorder, recorder


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
    """`function` of one tensor, predicted."""
    plain = tensors.cls

    def call(a: Any) -> Any:
        rec = recorder()
        usual = a.__class__ is plain and not function.view and not a._storage.export
        slot = slot_of(rec, a._read()) if usual else -1
        if slot < 0:
            return function(a)
        tape, state = rec.tape, rec.state
        following = state.next
        expected = (function, slot, rec.modes.known)
        if following.operands == expected and following.parent is state:
            return take(rec, tape, following)
        made = function(a)
        learn(rec, tape, state, expected)
        return made

    return call


def of_two(function: Function) -> Callable[[Any, Any], Any]:
    """`function` of two tensors, predicted."""
    plain, local = tensors.cls, record.of_thread

    def entering(a: Any, b: Any) -> Any:
        """Where one of them is not on the tape yet."""
        rec = recorder()
        if a._storage.export or b._storage.export:
            return function(a, b)
        x, y = a._read(), b._read()  # in the order of any call: reading a view records
        i = slot_of(rec, x)
        j = slot_of(rec, y) if i >= 0 else -1
        if j < 0:
            return function(a, b)
        tape, state = rec.tape, rec.state
        following = state.next
        expected = (function, i, j, rec.modes.known)
        if following.operands == expected and following.parent is state:
            return take(rec, tape, following)
        made = function(a, b)
        learn(rec, tape, state, expected)
        return made

    def call(a: Any, b: Any) -> Any:
        # The most frequent call of all: `slot_of`, `recorder` and `take` stand here in line, which
        # is worth 0.07 of the ratio to torch of 1,000 adds.
        if a.__class__ is not plain or b.__class__ is not plain:
            return function(a, b)
        if a._leaf or b._leaf or a._chain or b._chain:
            return entering(a, b)
        try:
            rec = local.recorder
        except AttributeError:
            rec = recorder()
        tape, state, first, second = rec.tape, rec.state, a._storage, b._storage
        x, y = first.cell, second.cell
        if x.tape is not tape or y.tape is not tape or first.export or second.export:
            return entering(a, b)
        cells, following = tape.cells, state.next
        count, i, j = len(cells), x.slot, y.slot
        expected = (function, i, j, rec.modes.known)
        if (
            following.operands != expected
            or following.parent is not state
            or i >= count
            or j >= count
            or cells[i] is not x
            or cells[j] is not y
        ):
            made = function(a, b)
            learn(rec, tape, state, expected)
            return made
        cell = following.cell_class(following.types[0])
        cell.tape, cell.slot = tape, count
        if following.grads[0]:
            cell.requires_grad, cell.grad_fn = True, tape
        try:
            cells.append(cell)
            rec.state = following
        except BaseException:  # an interrupt in between: the step did not happen
            del cells[rec.state.slots :]
            raise
        made = tensors.wrap(cell)
        if following.depth >= CUT_WHERE_IT_RECURS:
            rec.cut_if_long()
        return made

    return call


def with_number(function: Function) -> Callable[[Any, Any], Any]:
    """`function` of a tensor and an int or a float, predicted."""
    plain = tensors.cls

    def call(a: Any, number: Any) -> Any:
        rec = recorder()
        usual = a.__class__ is plain and number and not a._storage.export  # -0.0 is 0.0
        slot = slot_of(rec, a._read()) if usual else -1
        if slot < 0:
            return function(a, number)
        tape, state = rec.tape, rec.state
        following = state.next
        expected = (function, slot, number.__class__, number, rec.modes.known)
        if following.operands == expected and following.parent is state:
            return take(rec, tape, following)
        made = function(a, number)
        learn(rec, tape, state, expected)
        return made

    return call


#: Arguments beside tensors that a prediction compares; a float may become an operand.
_COMPARED = frozenset([int, str, bool, type(None), DType])


def predicted(function: Function, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Any call of a function on tensors, and ints, words and the like beside them."""
    rec = recorder()
    cells: list[Cell] = []
    expected = None
    if not rec.tape.sizes:
        expected = _expected(rec, function, (*args, *kwargs.values()), cells)
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


def _expected(
    rec: Recorder, function: Function, arguments: Sequence[Any], cells: list[Cell]
) -> tuple | None:
    """The call by slots and values; None where it is not to be predicted.

    The tensors' `cells` are all read before the first becomes a parameter, as in any call: reading
    a view records. They are read once, since what numpy sees is copied.
    """
    parts: list[Any] = [function]
    for value in arguments:
        cls = value.__class__
        if cls in _COMPARED:
            parts.append((cls, value))
        elif isinstance(value, tensors.cls):
            cells.append(value._read())
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
