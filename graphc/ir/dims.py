"""Symbolic dimensions: integer polynomials over named symbols, with facts about each symbol.

A dimension is an `int` or a `Dim`; a polynomial without symbols collapses to an int, so code for
static shapes never meets this class. Sizes are equal where their polynomials are (no facts
needed); divisibility is exact polynomial division; order has three answers: True, False, unknown.
`compare` returns None for unknown, and nothing that decides by order may guess then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .errors import FormatError, ShapeError

Monomial = tuple[str, ...]  # sorted symbol names, with repetition; () is the constant term


@dataclass(frozen=True)
class Facts:
    """What is known of a symbol: lo <= s, s <= hi (None: unbounded); `hint` a typical size.

    A multiple is not a fact here: a dim that is a multiple of 64 is declared as 64 * s.
    """

    lo: int = 0
    hi: int | None = None
    hint: int = 256


class Dim:
    """An integer polynomial with at least one symbol. Immutable; equal by value."""

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return other.__class__ is Dim and self.terms == other.terms  # type: ignore[attr-defined]

    def __bool__(self) -> bool:
        raise ShapeError(
            f"the size {self} is symbolic: whether it is zero is not known",
            hint="Compare sizes only where they are static, or declare a fact of the dim.",
        )

    def __add__(self, other: AnyDim) -> AnyDim:
        return _combine(self, other, 1)

    __radd__ = __add__

    def __sub__(self, other: AnyDim) -> AnyDim:
        return _combine(self, other, -1)

    def __rsub__(self, other: AnyDim) -> AnyDim:
        return _combine(-self, other, 1)

    def __neg__(self) -> AnyDim:
        return self * -1

    def __mul__(self, other: AnyDim) -> AnyDim:
        product: dict[Monomial, int] = {}
        for m, c in self.terms:
            for n, e in _terms(other):
                key = tuple(sorted(m + n))
                product[key] = product.get(key, 0) + c * e
        return _polynomial(product)

    __rmul__ = __mul__

    def __floordiv__(self, other: AnyDim) -> AnyDim:
        quotient = divide_exact(self, other)
        if quotient is None:
            raise ShapeError(f"the size {self} is not known to be a multiple of {other}")
        return quotient

    def __rfloordiv__(self, other: AnyDim) -> AnyDim:
        if other == 0:
            return 0
        raise ShapeError(f"the size {other} is not known to be a multiple of {self}")

    def __mod__(self, other: AnyDim) -> AnyDim:
        if divide_exact(self, other) is None:
            raise ShapeError(f"the size {self} is not known to be a multiple of {other}")
        return 0

    def __rmod__(self, other: AnyDim) -> AnyDim:
        return other - self * (other // self)

    def __str__(self) -> str:
        parts: list[str] = []
        for monomial, c in sorted(self.terms, key=lambda t: (-len(t[0]), t[0])):
            factors = [*([] if c in (1, -1) and monomial else [str(abs(c))]), *monomial]
            sign = ("-" if c < 0 else "") if not parts else (" - " if c < 0 else " + ")
            parts.append(sign + "*".join(factors))
        return "".join(parts)

    __repr__ = __str__

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(sorted({name for monomial, _ in self.terms for name in monomial}))


AnyDim = int | Dim


def symbol(name: str) -> Dim:
    """The dimension that is just this symbol."""
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ShapeError(f"{name!r} is no name for a dim")
    return Dim((((name,), 1),))


def is_static(shape: Iterable[AnyDim]) -> bool:
    return all([d.__class__ is int for d in shape])


def product(dims: Iterable[AnyDim]) -> AnyDim:
    total: AnyDim = 1
    for d in dims:
        total = total * d
    return total


def _terms(d: AnyDim) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(d, Dim):
        return d.terms
    return (((), int(d)),) if d else ()


def _polynomial(terms: dict[Monomial, int]) -> AnyDim:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    return Dim(tuple(sorted(kept.items())))


def _combine(a: AnyDim, b: AnyDim, sign: int) -> AnyDim:
    total = dict(_terms(a))
    for m, c in _terms(b):
        total[m] = total.get(m, 0) + sign * c
    return _polynomial(total)


def divide_exact(a: AnyDim, b: AnyDim) -> AnyDim | None:
    """a / b where that is a polynomial with integer coefficients, else None."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    rest, divisor = dict(_terms(a)), dict(_terms(b))
    if not divisor:
        return None
    lead = max(divisor, key=lambda m: (len(m), m))
    quotient: dict[Monomial, int] = {}
    while rest:
        m = max(rest, key=lambda m: (len(m), m))
        over = _divide_monomial(m, lead)
        if over is None or rest[m] % divisor[lead]:
            return None
        factor = rest[m] // divisor[lead]
        quotient[over] = factor
        for n, e in divisor.items():
            key = tuple(sorted(n + over))
            rest[key] = rest.get(key, 0) - factor * e
            if not rest[key]:
                del rest[key]
    return _polynomial(quotient)


def _divide_monomial(m: Monomial, n: Monomial) -> Monomial | None:
    left = list(m)
    for name in n:
        if name not in left:
            return None
        left.remove(name)
    return tuple(left)


def substitute(d: AnyDim, values: Mapping[str, AnyDim]) -> AnyDim:
    """d with symbols replaced."""
    if not isinstance(d, Dim):
        return d
    total: AnyDim = 0
    for monomial, c in d.terms:
        term: AnyDim = c
        for name in monomial:
            term = term * values.get(name, symbol(name))
        total = total + term
    return total


def evaluate_dim(d: AnyDim, sizes: Mapping[str, int]) -> int:
    """The size of d where every symbol has one."""
    value = substitute(d, sizes)
    if isinstance(value, Dim):
        raise ShapeError(f"the size {d} needs a value for {', '.join(value.symbols)}")
    return value


def at_least_zero(d: AnyDim, facts: Mapping[str, Facts]) -> bool | None:
    """True where d >= 0 for all admitted sizes, False where d < 0 for all, None where unknown."""
    if isinstance(d, int):
        return d >= 0
    if _all_nonnegative(d, facts):
        return True
    if _all_nonnegative(-1 - d, facts):
        return False
    return None


def _all_nonnegative(d: AnyDim, facts: Mapping[str, Facts]) -> bool:
    """Shift each symbol by its lower bound; non-negative coefficients prove the rest."""
    if isinstance(d, int):
        return d >= 0
    shifts = {s: symbol(s) + facts.get(s, Facts()).lo for s in d.symbols}
    shifted = substitute(d, shifts)
    if all(c >= 0 for _, c in _terms(shifted)):
        return True
    low = 0
    for monomial, c in d.terms:
        for name in monomial:
            fact = facts.get(name, Facts())
            if fact.lo < 0 or (c < 0 and fact.hi is None):
                return False
            c *= fact.lo if c > 0 else (fact.hi or 0)
        low += c
    return low >= 0


def compare(a: AnyDim, b: AnyDim, facts: Mapping[str, Facts]) -> bool | None:
    """a <= b: True, False or None (unknown)."""
    return at_least_zero(b - a, facts)


_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|([-+*()]))")


def parse_dim(text: str) -> AnyDim:
    """Reads the text of a dim: sums of products of integers and symbols."""
    tokens, at = [], 0
    text = text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FormatError(f"cannot read the dim {text!r}")
        tokens.append(match.group(1) or match.group(2) or match.group(3))
        at = match.end()
    total: AnyDim = 0
    sign, factors = 1, []  # type: ignore[var-annotated]
    expect_factor = True
    for token in [*tokens, "+end"]:
        if token in ("+", "-", "+end"):
            if expect_factor and token == "-" and not factors:
                sign = -sign
                continue
            if expect_factor:
                raise FormatError(f"cannot read the dim {text!r}")
            total = total + sign * product(factors)
            sign, factors, expect_factor = (-1 if token == "-" else 1), [], True
        elif token == "*":
            if expect_factor:
                raise FormatError(f"cannot read the dim {text!r}")
            expect_factor = True
        elif not expect_factor or token in "()":
            raise FormatError(f"cannot read the dim {text!r}")
        else:
            factors.append(int(token) if token.isdigit() else symbol(token))
            expect_factor = False
    return total
