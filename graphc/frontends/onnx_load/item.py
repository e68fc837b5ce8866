"""`Item`: what is known of one ONNX tensor while a model is loaded."""

from __future__ import annotations

import numpy as np

from graphc.ir.dims import AnyDim, is_static
from graphc.ir.dtype import from_numpy
from graphc.ir.types import TensorType

MOST_KNOWN = 4096  # elements of a tensor whose contents loading looks at


class Item:
    """A tensor: its type, and where known its contents.

    `array` are contents that are the same for every run: an initializer or what was computed from
    such. `entries` are those of an integer tensor, as an object array in which a symbolic size may
    stand; shape computations are carried out on them. Values of the graph are made when asked for.
    """

    __slots__ = ("_entries", "array", "is_weight", "name", "type")

    def __init__(
        self,
        type: TensorType,
        array: np.ndarray | None = None,
        entries: np.ndarray | None = None,
        name: str = "",
    ) -> None:
        self.type, self.array, self.name = type, array, name
        self._entries = entries
        self.is_weight = False  # a tensor that the file stores under a name

    @staticmethod
    def of_array(array: np.ndarray, name: str = "") -> Item:
        array = np.asarray(array)
        return Item(TensorType(from_numpy(array.dtype), array.shape), array, name=name)

    @staticmethod
    def of_entries(entries: np.ndarray, type: TensorType) -> Item:
        """An integer tensor of these sizes; all of them static makes it a constant."""
        if is_static(entries.flat):
            return Item(type, entries.astype(type.dtype.numpy))
        return Item(type, entries=entries)

    @property
    def shape(self) -> tuple[AnyDim, ...]:
        return self.type.shape

    @property
    def rank(self) -> int:
        return len(self.type.shape)

    @property
    def entries(self) -> np.ndarray | None:
        if self._entries is None and self.array is not None:
            if self.type.dtype.kind in "iu" and self.array.size <= MOST_KNOWN:
                made = np.empty(self.array.shape, object)
                made.ravel()[:] = self.array.ravel().tolist()
                self._entries = made
        return self._entries

    @property
    def is_small_constant(self) -> bool:
        return self.array is not None and self.array.size <= MOST_KNOWN
