"""Index forms: affine functions of loop variables, on which movement ops are arithmetic.

An `Affine` is `const + sum(coefficient * variable)`. Variables are small integers that name the
loops of one group and run from zero to a known extent; constants, coefficients and extents are
ints or symbolic dims. `flatten` and `unflatten` convert between the index of a shape and the
place in row-major memory, so a reshape is one after the other. No division is ever left over
for run time: where a quotient is not affine a variable is split, or the reshape is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from graphc.ir.dims import AnyDim, Dim, divide_exact

from .sizes import Sizes

Variable = int


class Affine(NamedTuple):
    """const + sum of coefficient * variable; the terms are sorted by variable, none is zero."""

    const: AnyDim
    terms: tuple[tuple[Variable, AnyDim], ...] = ()


Index = tuple[Affine, ...]
ZERO = Affine(0)


class Guard(NamedTuple):
    """The condition low <= form < high under which a pulled value is the one that is meant."""

    form: Affine
    low: AnyDim
    high: AnyDim


Guards = tuple[Guard, ...]


class NotFused(Exception):
    """This value cannot be computed at this index inside this group; the message says why."""


class NoCommonFactor(NotFused):
    """A reshape whose quotients are not affine: its input has to be a buffer."""


class SplitVariable(Exception):
    """A reshape is possible once `variable` is two loops, the inner one of extent `inner`."""

    def __init__(self, variable: Variable, inner: AnyDim) -> None:
        self.variable, self.inner = variable, inner


def add(x: Affine, y: Affine, factor: AnyDim = 1) -> Affine:
    """x + factor * y."""
    const = x.const + factor * y.const
    if not y.terms:
        return Affine(const, x.terms)
    total = dict(x.terms)
    for variable, coefficient in y.terms:
        total[variable] = total.get(variable, 0) + factor * coefficient
    return Affine(const, tuple(sorted([(v, k) for v, k in total.items() if k != 0])))


def scale(x: Affine, factor: AnyDim) -> Affine:
    """factor * x."""
    if factor == 0:
        return ZERO
    if factor == 1:
        return x
    return Affine(x.const * factor, tuple([(v, k * factor) for v, k in x.terms]))


def shift(x: Affine, by: AnyDim) -> Affine:
    """x + by."""
    return Affine(x.const + by, x.terms) if by != 0 else x


def bounds(
    x: Affine, ranges: Mapping[Variable, tuple[AnyDim, AnyDim]], sizes: Sizes
) -> tuple[AnyDim, AnyDim] | None:
    """The smallest and largest value of x where each variable is in [low, high).

    None where the sign of a symbolic coefficient is not known.
    """
    low = high = x.const
    for variable, k in x.terms:
        first, end = ranges[variable]
        if sizes.at_most(0, k):
            low, high = low + k * first, high + k * (end - 1)
        elif sizes.at_most(k, 0):
            low, high = low + k * (end - 1), high + k * first
        else:
            return None
    return low, high


def strides(shape: Sequence[AnyDim]) -> list[AnyDim]:
    """Row-major strides in elements."""
    stride: AnyDim = 1
    result = []
    for size in reversed(shape):
        result.append(stride)
        stride = stride * size
    return result[::-1]


def flatten(index: Sequence[Affine], shape: Sequence[AnyDim]) -> Affine:
    """The place in row-major memory of an index."""
    if len(index) == 1:
        return index[0]
    const: AnyDim = 0
    total: dict[Variable, AnyDim] = {}
    stride: AnyDim = 1
    for form, size in zip(reversed(index), reversed(shape)):
        if form.const != 0:
            const = const + form.const * stride
        for variable, k in form.terms:
            total[variable] = total.get(variable, 0) + k * stride
        stride = stride * size
    return Affine(const, tuple(sorted([(v, k) for v, k in total.items() if k != 0])))


def unflatten(
    place: Affine, shape: Sequence[AnyDim], extents: Sequence[AnyDim], sizes: Sizes
) -> Index:
    """The index of a place in row-major memory; SplitVariable or NoCommonFactor where not affine.

    The outermost dim takes what remains: it is in range by construction.
    """
    if any([size == 0 for size in shape]):
        return (ZERO,) * len(shape)
    first = next((axis for axis, size in enumerate(shape) if size != 1), -1)
    index: list[Affine] = []
    for axis in range(len(shape) - 1, -1, -1):
        if axis == first:
            index.append(place)
            place = ZERO
        elif shape[axis] == 1:
            index.append(ZERO)
        else:
            place, remainder = _divide(place, shape[axis], extents, sizes)
            index.append(remainder)
    return tuple(index[::-1])


def reshaped(
    index: Index,
    shape: Sequence[AnyDim],
    source: Sequence[AnyDim],
    extents: Sequence[AnyDim],
    sizes: Sizes,
) -> Index:
    """The index in `source` of the element at an index in `shape`, which has as many elements.

    Runs of axes that have as many elements in both go each by itself: what is in range under a
    guard only is then not divided by what other axes have.
    """
    if any([size == 0 for size in source]):
        return (ZERO,) * len(source)
    found: list[Affine] = []
    at = from_ = 0
    for end, to in _common_ends(shape, source):
        place = flatten(index[at:end], shape[at:end]) if end > at else ZERO
        found += unflatten(place, source[from_:to], extents, sizes)
        at, from_ = end, to
    return tuple(found)


def _common_ends(a: Sequence[AnyDim], b: Sequence[AnyDim]) -> list[tuple[int, int]]:
    """Where runs of axes end, in each of two shapes, that have as many elements in both."""
    ends: dict[AnyDim, int] = {}
    total: AnyDim = 1
    for at, size in enumerate(a, 1):
        total = total * size
        ends[total] = at
    found: dict[int, int] = {}
    total = 1
    for at, size in enumerate(b, 1):
        total = total * size
        if total in ends:
            found[ends[total]] = at
    found[len(a)] = len(b)
    return list(found.items())


def within(x: Affine, size: AnyDim, extents: Sequence[AnyDim], sizes: Sizes) -> Affine:
    """x, where it is known to lie in [0, size): without multiples of size, which must be zero."""
    if size == 1 or size == 0:  # of no elements, none is read
        return ZERO
    try:
        return _divide(x, size, extents, sizes)[1]
    except (NotFused, SplitVariable):
        return x


def _divide(
    x: Affine, divisor: AnyDim, extents: Sequence[AnyDim], sizes: Sizes
) -> tuple[Affine, Affine]:
    """Quotient and remainder of x by a positive size, both affine."""
    quotient, rest = [], []
    for variable, k in x.terms:
        exact = divide_exact(k, divisor)
        if exact is None:
            rest.append((variable, k))
        else:
            quotient.append((variable, exact))
    whole, part = _divide_constant(x.const, divisor)
    remainder = Affine(part, tuple(rest))
    span = bounds(remainder, {v: (0, extents[v]) for v, _ in rest}, sizes)
    if span is not None and sizes.at_most(0, span[0]) and sizes.below(span[1], divisor):
        return Affine(whole, tuple(quotient)), remainder
    for variable, k in rest:
        if k != divisor and sizes.at_most(1, k):
            inner = divide_exact(divisor, k)
            extent = extents[variable]
            if inner is not None and inner != extent and divide_exact(extent, inner) is not None:
                raise SplitVariable(variable, inner)
    raise NoCommonFactor("reshape: no common factor")


def _divide_constant(value: AnyDim, divisor: AnyDim) -> tuple[AnyDim, AnyDim]:
    """Splits a constant into a multiple of the divisor and a rest, term by term."""
    if value.__class__ is int and divisor.__class__ is int:
        return divmod(value, divisor)  # type: ignore[operator,return-value]
    exact = divide_exact(value, divisor)
    if exact is not None:
        return exact, 0
    whole: AnyDim = 0
    part: AnyDim = 0
    for monomial, factor in value.terms if isinstance(value, Dim) else [((), value)]:
        term = Dim(((monomial, factor),)) if monomial else factor
        exact = divide_exact(term, divisor)
        if exact is None:
            part = part + term
        else:
            whole = whole + exact
    return whole, part
