"""Tensors that are views: made of what a view function gave.

What a step's views need is known after the first time, but for the owner: it is kept with the step,
by the owner's chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .frontends import modes, origin, views
from .frontends.detached import Detached
from .frontends.function import Function, _restore, tensors
from .frontends.origin import Origin
from .frontends.record import ENDS, Cell, recorder
from .frontends.symbolic import concrete_type
from .ir.errors import ShapeError
from .tensor import Tensor, blank, share_mark, wrap


@dataclass(frozen=True, slots=True)
class View:
    """One result of a view function, for owners with one chain.

    chain    from the storage on; None where the elements had to be copied
    static   whether no symbol stands in what the function added
    detached whether it ends in a detach
    """

    chain: views.Chain | None
    static: bool
    detached: bool


def _views_of(owner: Tensor, chains: Any) -> list[View]:
    found = []
    for chain in chains:
        if chain is None or not _viewable(owner, chain):
            found.append(View(None, True, False))
            continue
        detached = bool(chain) and chain[-1].op is views.ops.detach
        found.append(View(owner._chain + chain, views.is_static(chain), detached))
    return found


def wrap_view(owner: Tensor, read: Cell, made: list[Cell], extra: Any, function: Function) -> Any:
    """The results of a view function: on the owner's storage where they only move its elements.

    read: the cell of the owner that the function was given.
    """
    structure, chains, known = extra
    found = known.get(owner._chain)
    if found is None:
        found = known[owner._chain] = _views_of(owner, chains)
    parts = []
    for cell, view in zip(made, found):
        if view.chain is not None:
            parts.append(_on_storage(owner, read, cell, view, len(parts), function))
        elif function.view == "strict":
            raise ShapeError(
                "view size is not compatible with input tensor's size and stride (at least one "
                "dimension spans across two contiguous subspaces). Use .reshape(...) instead."
            )
        else:
            parts.append(wrap(cell))
    return parts[0] if structure is None else _restore(structure, iter(parts))


def _on_storage(
    owner: Tensor, read: Cell, cell: Cell, view: View, place: int, function: Function
) -> Tensor:
    """A view on the owner's storage, the result at a place."""
    chain, storage = view.chain, owner._storage
    assert chain is not None
    if not view.static:
        own = chain[len(owner._chain) :]
        chain = owner._chain + views.concrete(own, cell.tape.sizes)  # type: ignore[union-attr]
    part = blank(Tensor)
    part._storage, part._chain = storage, chain
    part._cell, part._seen = cell, storage.version
    memory, leaf = storage.cell, owner._leaf
    if memory.inference is not cell.inference:
        cell.inference = memory.inference
    share_mark(cell, owner._cell if leaf else memory)  # type: ignore[arg-type]
    part._base = owner._cell if leaf else owner._base
    if view.detached:
        part._detached = _own_history(owner)
        return part
    if owner._detached is not None:
        part._detached = owner._detached
    if not cell.inference:
        several = f"Output {place} of {function.parts}" if function.parts else ""
        part._origin = origin_of_view(owner, several)
        if read.requires_grad and not cell.requires_grad and cell.type.dtype.kind in "fc":
            cell.requires_grad = ENDS
    return part


def origin_of_view(owner: Tensor, part: str = "") -> Origin | None:
    """Of a view that is made now; `part`: which of several results of what it is."""
    if not part and owner._origin is None and modes.grad_enabled():
        return None
    if owner._storage.cell.inference:
        return None
    return origin.of_view(owner._origin, owner._writes(), part)


def _own_history(owner: Tensor) -> Detached:
    """The history of a new `.detach()` of a tensor."""
    if owner._storage.cell.inference:
        return Detached(None if modes.inference() else [0])
    return Detached(owner._detached and owner._detached.versions)


def _viewable(owner: Tensor, chain: views.Chain) -> bool:
    if all([node.op is not views.ops.reshape for node in chain]):
        return True
    if not views.is_static(chain):
        chain = views.concrete(chain, recorder().tape.sizes)
    base = concrete_type(owner._storage.cell.type, recorder().tape.sizes)
    return views.geometry(owner._chain + chain, base.shape) is not None


tensors.wrap_view = staticmethod(wrap_view)
