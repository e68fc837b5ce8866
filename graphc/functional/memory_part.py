"""Parts of tensors that are computed already, read from memory instead of being recorded.

`x[k:k + 32]` in a loop over k would be another trace for every k. Where a place of the program
indexes a tensor by other integers than before, the tensor is computed, and the part is copied and
enters the trace as a parameter, so that all k share one. The result is a view of the storage as
ever. What is written, `x[k] = ...`, is not read for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..frontends import views
from ..frontends.execute import array_of, buffer_of
from ..frontends.locate import located
from ..frontends.record import recorder
from ..frontends.symbolic import SMALLEST
from ..ir.build import Builder
from ..ir.errors import GraphcError
from ..ir.graph import Value
from ..ir.types import TensorType
from ..tensor import Tensor, blank
from ..viewing import origin_of_view
from .index_basic import basic


def read_part(x: Tensor, items: tuple) -> Tensor | None:
    """The view x[items] with its value read, or None where it is to be recorded."""
    storage = x._storage
    if storage.export is not None and storage.exported():
        return _part_of_exported(x, items)
    cell = storage.cell
    if x._chain:
        cell = x._cell if x._seen == storage.version else None  # type: ignore[assignment]
    if cell is None or x.requires_grad:
        return None
    rec = recorder()
    if not rec.eager or rec.outer is not None:
        return None
    index = tuple([_hashable(item) for item in items])
    form = tuple([item.__class__ for item in items])
    known = rec.state.numbers.setdefault(("part", cell.type, form), index) == index
    if known and not (rec.tape.sizes and _is_far_from_the_end(index)):
        return None
    if cell.buffer is None:
        if cell.tape is not rec.tape:
            return None
        rec.look(cell)
    chain = _chain_of(cell.type, index)
    array = views.numpy_view(array_of(cell.buffer, cell.type), chain)
    if array is None:
        return None
    made = blank(Tensor)
    made._storage, made._chain = storage, x._chain + chain
    made._cell = cell.beside(cell.type.with_shape(array.shape), buffer_of(array))
    made._seen, made._detached = storage.version, x._detached
    made._origin = origin_of_view(x)
    return made


def _part_of_exported(x: Tensor, items: tuple) -> Tensor | None:
    """A view of memory that numpy can see: only the part is copied, when it is read."""
    storage = x._storage
    if storage.leaf is not None or storage.cell.requires_grad or not storage.cell.type.is_static:
        return None
    chain = _chain_of(x._type, tuple([_hashable(item) for item in items]))
    chain = x._chain + (chain or _whole(x._type))
    if views.geometry(chain, storage.cell.type.shape) is None:
        return None
    made = blank(Tensor)
    made._storage, made._chain, made._detached = storage, chain, x._detached
    made._origin = origin_of_view(x)
    return made


def computed_arrays(tensors: Sequence[Tensor]) -> list[np.ndarray] | None:
    """The values of tensors as arrays to read, where all are computed and none requires grad."""
    rec = recorder()
    if not rec.eager or rec.outer is not None:
        return None
    arrays = []
    for x in tensors:
        if x.__class__ is not Tensor or x.requires_grad or x.device.type != "cpu":
            return None
        if x._storage.cell.buffer is None or x._storage.cell.inference:
            return None
        arrays.append(x._array())
    return arrays


def unread_part(x: Tensor, items: tuple) -> Tensor:
    """The view x[items] for a write: nothing is recorded for it."""
    made = blank(Tensor)
    made._storage = x._storage
    made._chain = x._chain + _chain_of(x._type, tuple([_hashable(item) for item in items]))
    made._base = x._cell if x._leaf else x._base
    made._detached, made._origin = x._detached, x._origin
    return made


def _is_far_from_the_end(index: tuple) -> bool:
    """Whether a slice counts from the end, as x[-16:], more than the smallest size of a symbol."""
    return any([
        item.__class__ is tuple and any([v is not None and v < -SMALLEST for v in item])
        for item in index
    ])  # fmt: skip


def is_new_place(type: TensorType, items: tuple) -> bool:
    """Whether a write here went to other places of a tensor of that type before."""
    index = tuple([_hashable(item) for item in items])
    form = ("written", type, tuple([item.__class__ for item in items]))
    return recorder().state.numbers.setdefault(form, index) != index


def _chain_of(type: TensorType, index: tuple) -> views.Chain:
    try:
        return _chain(type, index)
    except GraphcError as error:
        raise located(error) from None


def _hashable(item: Any) -> Any:
    return (item.start, item.stop, item.step) if item.__class__ is slice else item


@lru_cache(maxsize=4096)
def _whole(type: TensorType) -> views.Chain:
    """A view of all of a tensor: it is one still."""
    with Builder() as builder:
        views.ops.reshape(Value(type), shape=type.shape)
    return tuple(builder.nodes)


@lru_cache(maxsize=4096)
def _chain(type: TensorType, index: tuple) -> views.Chain:
    """The movement ops of a basic index of a tensor of that type."""
    items = [slice(*item) if item.__class__ is tuple else item for item in index]
    with Builder() as builder:
        base = Value(type)
        chain = views.chain_between(builder.nodes, base, basic(base, items))
    assert chain is not None
    return chain
