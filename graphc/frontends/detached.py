"""What a tensor made by `.detach()` or `.data` shares with its views.

It lies on the memory of the tensor that it came from, and has a history of its own: what requires
grad and is written through it gives it a derivative, the tensor that it came from none.
"""

from __future__ import annotations

import weakref
from typing import Any

from . import memory_steps, views
from .record import Cell


class Detached:
    """The history of a detached tensor.

    versions   [how often it was written] where it counts for itself, as `.data` does, else None
    """

    __slots__ = ("_cell", "_seen", "versions")

    def __init__(self, versions: list[int] | None = None) -> None:
        self.versions = versions
        self._cell: Cell | None = None  # the storage's value for its version `_seen`
        self._seen = 0

    @property
    def has_history(self) -> bool:
        return self._cell is not None

    def base(self, storage: Any) -> Cell:
        """The storage's present value, with the derivative of what was written through here."""
        present = storage.read()
        if self._cell is None:
            return memory_steps.plain(present, True) if present.requires_grad else present
        if self._seen != storage.version:
            self._cell, self._seen = memory_steps.grafted(present, self._cell), storage.version
        return self._cell

    def keep(self, cell: Cell, storage: Any) -> None:
        """After the tensor was a leaf, which is gone: its views lead to its cell."""
        same = cell.buffer is storage.cell.buffer
        self._cell, self._seen = cell, storage.version if same else -1

    def written(self, base: Cell, fresh: Cell, chain: views.Chain, storage: Any) -> None:
        """After a write of `fresh` to the view `chain` of what was `base`."""
        own = attached(chain)
        if own:
            self._cell = memory_steps.put(base, fresh, own, False)
        else:
            self._cell = memory_steps.plain(fresh, False)
        self._seen = storage.version


class LeafRef(weakref.ref):
    """A weak reference to the tensor that is a leaf on some memory; and to what it shares with its
    views, if it is detached."""

    __slots__ = ("detached",)

    def __init__(self, leaf: Any) -> None:
        super().__init__(leaf)
        self.detached: Detached | None = leaf._detached


def attached(chain: views.Chain) -> views.Chain:
    """A view of a detached tensor as a view of its history."""
    return tuple([node for node in chain if node.op is not views.ops.detach])
