"""What can be proved about sizes: order and divisibility of ints and symbolic dims.

Sizes are equal where their polynomials are; an answer is given only where it is proved for every
admitted size, and whoever asks must do without where it is not. Static sizes never reach the
proofs: ints are compared as ints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from graphc.ir.dims import AnyDim, Facts, compare, divide_exact, evaluate_dim, symbol


class Sizes:
    """Facts about the symbols of one compile, with the proofs made so far."""

    __slots__ = ("_proved", "_quotients", "facts", "quotient_symbols")

    def __init__(self, facts: Mapping[str, Facts] | None = None) -> None:
        self.facts = dict(facts or {})
        self._proved: dict[tuple[AnyDim, AnyDim], bool] = {}
        self._quotients: dict[tuple[AnyDim, int], AnyDim] = {}
        #: symbol -> (dividend, divisor) of quotients that are no polynomial, computed once a call
        self.quotient_symbols: dict[str, tuple[AnyDim, int]] = {}

    def at_most(self, low: AnyDim, high: AnyDim) -> bool:
        """Whether low <= high is proved."""
        if low.__class__ is int and high.__class__ is int:
            return low <= high  # type: ignore[operator]
        found = self._proved.get((low, high))
        if found is None:
            found = self._proved[low, high] = compare(low, high, self.facts) is True
        return found

    def below(self, low: AnyDim, high: AnyDim) -> bool:
        """Whether low < high is proved."""
        return self.at_most(low + 1, high)

    def divides(self, divisor: AnyDim, size: AnyDim) -> bool:
        """Whether size is proved to be a multiple of divisor."""
        if divisor.__class__ is int and size.__class__ is int:
            return size % divisor == 0  # type: ignore[operator]
        return divide_exact(size, divisor) is not None

    def hint(self, size: AnyDim) -> int:
        """A typical value; for decisions of cost only, never of meaning."""
        if size.__class__ is int:
            return size  # type: ignore[return-value]
        names = size.symbols  # type: ignore[union-attr]
        return evaluate_dim(size, {name: self._hint_of(name) for name in names})

    def _hint_of(self, name: str) -> int:
        quotient = self.quotient_symbols.get(name)
        if quotient is not None:
            return self.hint(quotient[0]) // quotient[1]
        return self.facts.get(name, Facts()).hint

    def floor_divide(self, size: AnyDim, divisor: int) -> AnyDim:
        """size // divisor; where that is no polynomial, a symbol that stands for it."""
        exact = divide_exact(size, divisor)
        if exact is not None:
            return exact
        if size.__class__ is int:
            return size // divisor  # type: ignore[operator]
        found = self._quotients.get((size, divisor))
        if found is None:
            name = f"quotient{len(self._quotients)}"
            lowest = 0 if self.at_most(0, size) else -(1 << 40)
            self.facts[name] = Facts(lo=lowest)
            self.quotient_symbols[name] = (size, divisor)
            found = self._quotients[size, divisor] = symbol(name)
        return found

    def ordered(self, cuts: Iterable[AnyDim]) -> list[AnyDim] | None:
        """The cuts in ascending order, or None where the order of two of them is not proved."""
        result: list[AnyDim] = []
        for cut in cuts:
            place = 0
            for place, other in enumerate(result):  # noqa: B007 (the place is used after)
                if self.at_most(cut, other):
                    break
                if not self.at_most(other, cut):
                    return None
            else:
                place = len(result)
            result.insert(place, cut)
        return result
