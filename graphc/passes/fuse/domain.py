"""The iteration space of a group: merged dims, which of them are reduced, and their splits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from graphc.ir.dims import AnyDim, divide_exact, product

from .affine import Affine, Variable, add, flatten, strides


def merge_dims(
    shape: Sequence[AnyDim], axes: Collection[int]
) -> tuple[list[AnyDim], frozenset[int]]:
    """Merges neighbouring dims of one class (reduced or kept) and drops dims of size one.

    Returns the merged sizes and the positions of the reduced ones. The form of a reduction (its
    tree, its lanes) is decided from these, so that it does not depend on how a shape is written.
    """
    sizes: list[AnyDim] = []
    reduced: list[bool] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        inside = axis in axes
        if sizes and reduced[-1] == inside:
            sizes[-1] = sizes[-1] * size
        else:
            sizes.append(size)
            reduced.append(inside)
    if not sizes:
        return [1], frozenset([0]) if axes else frozenset()
    return sizes, frozenset([i for i, inside in enumerate(reduced) if inside])


class Domain:
    """Merged dims with the loop variables they consist of.

    Each dim starts as one variable; a reshape may split it into several (`split`). `extents`
    are those of the variables, `dims[i]` the place along dim i as a form, and
    `full`, `kept`, `along` the row-major place in all dims, the kept dims, the reduced dims.
    """

    __slots__ = (
        "along", "dims", "extents", "full", "kept", "pieces", "reduced", "sizes", "variables",
    )  # fmt: skip

    def __init__(self, sizes: Iterable[AnyDim], reduced: Iterable[int]) -> None:
        self.sizes, self.reduced = list(sizes), frozenset(reduced)
        self.pieces: list[list[AnyDim]] = [[size] for size in self.sizes]
        self._number()

    def set_pieces(self, pieces: list[list[AnyDim]]) -> None:
        """Goes back to earlier splits."""
        self.pieces = pieces
        self._number()

    def _number(self) -> None:
        self.extents: list[AnyDim] = []
        self.variables: list[list[Variable]] = []
        self.dims: list[Affine] = []
        for pieces in self.pieces:
            first = len(self.extents)
            self.extents.extend(pieces)
            place = Affine(0)
            for offset, stride in enumerate(strides(pieces)):
                if pieces[offset] != 1:
                    place = add(place, Affine(0, ((first + offset, stride),)))
            self.variables.append(list(range(first, len(self.extents))))
            self.dims.append(place)
        everything = range(len(self.sizes))
        self.full = self._place(everything)
        self.kept = self._place([i for i in everything if i not in self.reduced])
        self.along = self._place(sorted(self.reduced))

    def _place(self, positions: Iterable[int]) -> Affine:
        chosen = list(positions)
        if not chosen:
            return Affine(0)
        return flatten([self.dims[i] for i in chosen], [self.sizes[i] for i in chosen])

    def split(self, variable: Variable, inner: AnyDim) -> None:
        """Makes two loops of one; all variables are numbered anew."""
        for position, variables in enumerate(self.variables):
            if variable in variables:
                pieces = self.pieces[position]
                place = variables.index(variable)
                outer = divide_exact(pieces[place], inner)
                assert outer is not None, "a split is asked for only where it is exact"
                pieces[place : place + 1] = [outer, inner]
                break
        self._number()

    @property
    def size(self) -> AnyDim:
        return product(self.sizes)

    @property
    def kept_size(self) -> AnyDim:
        return product([d for i, d in enumerate(self.sizes) if i not in self.reduced])

    @property
    def reduced_size(self) -> AnyDim:
        return product([d for i, d in enumerate(self.sizes) if i in self.reduced])

    @property
    def last_is_reduced(self) -> bool:
        return len(self.sizes) - 1 in self.reduced

    def variables_of(self, reduced: bool) -> list[Variable]:
        """The variables that run over more than one value, outermost first."""
        return [
            v
            for i, variables in enumerate(self.variables)
            if (i in self.reduced) == reduced
            for v in variables
            if self.extents[v] != 1
        ]
