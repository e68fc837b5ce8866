"""Steps that reading a view and writing to memory record: the tensor layer's own functions.

A view is read by replaying its chain of movements; a write gives a new value of the whole storage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.dtype import BOOL, I64
from ..ir.graph import Value
from ..ir.types import TensorType
from . import modes, views
from .execute import buffer_of
from .record import ENDS, Cell, recorder
from .symbolic import concrete_type


def _record(
    name: str,
    static: Any,
    cells: list[Cell],
    build: Callable[..., Value],
    constant: bool = False,
    grad: bool | None = None,
) -> Cell:
    """A step of the tensor layer's own, with one output; a constant one has no derivative.

    grad: whether the output requires grad, where the mode and the operands do not say it.
    """
    rec = recorder()
    if rec.tape.sizes and name in rec.state.refused:
        rec.go_static()
    before = rec.state
    slots = [rec.slot_of(cell) for cell in cells]
    if grad is None:
        needed = any([cell.requires_grad for cell in cells])
        grad = needed and not constant and modes.grad_enabled()
    stop = not grad and any([cell.requires_grad for cell in cells])

    def made(*values: Value) -> tuple:
        out = build(*values)
        if stop and out.type.dtype.kind in "fc":
            out = views.ops.detach(out)
        return (out,), (grad and out.type.dtype.kind in "fc",), None

    try:
        cell = rec.step((name, modes.word(), static, *slots), slots, made)[0]
    except Exception as error:
        if not rec.tape.sizes:
            raise
        rec.refuse(before, name, name, error)
        rec.go_static()
        return _record(name, static, cells, build, constant, grad)
    rec.cut_if_long()
    return cell


def replayed(cell: Cell, chain: views.Chain) -> Cell:
    """What a view shows where the storage has the value of `cell`.

    Whether it requires grad is the storage's matter, not that of the mode in which it is read.
    """
    constant = views.detached(chain)
    grad = bool(cell.requires_grad) and not constant
    moved = _moved_block("view", cell, chain)
    if moved is not None:
        at, sizes = moved
        shape = chain[-1].outputs[0].type.shape
        static = (sizes, shape)
        return _record(
            "view block", static, [cell, *at],
            lambda x, *k: views.part_block(x, sizes, k, shape), constant, grad,
        )  # fmt: skip
    return _record("view", chain, [cell], lambda x: views.replay(x, chain), constant, grad)


def replayed_end(cell: Cell, chain: views.Chain, is_leaf: bool) -> Cell:
    """`replayed` of a view that was made without gradients, or of a view of one (no leaf)."""
    build = lambda x: views.ops.detach(views.replay(x, chain))  # noqa: E731
    ends = cell.requires_grad and not views.detached(chain)
    if ends and not is_leaf:
        return _record("view of end", chain, [cell], build, grad=True)
    made = _record("view end", chain, [cell], build, grad=False)
    if ends:
        made.requires_grad = ENDS
    return made


def put(base: Cell, fresh: Cell, chain: views.Chain, constant: bool) -> Cell:
    """The storage's value after a write to a view of it; a constant has no derivative."""
    moved = _moved_block("put", base, chain)
    if moved is not None:
        at, sizes = moved
        return _record(
            "put block", (sizes, constant), [base, fresh, *at],
            lambda x, y, *k: views.put_block(x, y, sizes, k), constant,
        )  # fmt: skip

    def build(x: Value, y: Value) -> Value:
        whole = views.put(x, y, chain)
        return whole if constant or views.reads(whole, x) else _never(x, whole)

    return _record("put", (chain, constant), [base, fresh], build, constant)


def grafted(value: Cell, old: Cell) -> Cell:
    """The value after a write that autograd does not see: its history stays the old one's."""
    return _record("graft", None, [value, old], lambda x, y: views.ops.graft(x, y), grad=True)


def _moved_block(name: str, base: Cell, chain: views.Chain) -> tuple[list[Cell], tuple] | None:
    """Where a view lies, if this place of the program used another part of such a tensor before.

    Its starts are operands then: else `x[t] = ...` in a loop over t would be another trace for
    every t. Also its sizes; an axis that it covers has the storage's size, which may be a symbol.
    """
    rec = recorder()
    if not rec.eager:
        return None
    shape = concrete_type(base.type, rec.tape.sizes).shape
    block = views.block(chain, shape)
    if block is None:
        return None
    starts, taken = block
    covered = [start == 0 and n == size for start, n, size in zip(starts, taken, shape)]
    sizes = tuple([d if whole else n for whole, d, n in zip(covered, base.type.shape, taken)])
    if rec.state.numbers.setdefault((name, base.type, sizes), starts) == starts:
        return None
    index = TensorType(I64, (), base.type.device)
    return [Cell(index, buffer_of(np.asarray(start, np.int64))) for start in starts], sizes


def overwritten(old: Cell, fresh: Cell) -> Cell:
    """The fresh value in the place of one that requires grad: it still does, and its is zero."""
    return _record("overwrite", None, [old, fresh], _never)


def _never(x: Value, y: Value) -> Value:
    """y, which depends on x without reading an element of it: the derivative by x is zero."""
    never = views.ops.full(False, BOOL, y.type.shape, y.type.device)
    return views.ops.select(never, x, y)


def plain(cell: Cell, constant: bool) -> Cell:
    """A cell of the same value that is no leaf of its own; a constant has no derivative."""
    return _record(
        "copy", constant, [cell], lambda x: views.ops.reshape(x, shape=x.type.shape), constant
    )
