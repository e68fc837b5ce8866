"""Equations of ops that move elements: they merge, cancel, or go into the op that reads them.

They hold for symbolic shapes too: sizes are compared as polynomials, and nothing is guessed.
"""

from graphc.ir import ops
from graphc.ir.dims import symbol
from graphc.ir.graph import Value

from ..rewrite import Rule

N = symbol("n")


def compose(p: tuple, q: tuple) -> tuple:
    return tuple([p[i] for i in q])


def sums(a: tuple, b: tuple) -> tuple:
    return tuple([x + y for x, y in zip(a, b, strict=True)])


def is_identity(x: Value, p: tuple) -> bool:
    return p == tuple(range(len(p)))


def all_zero(*sizes: tuple) -> bool:
    return all(d.__class__ is int and d == 0 for part in sizes for d in part)


def unit_steps(step: tuple) -> bool:
    return all(s == 1 for s in step)


def is_whole(x: Value, a: tuple, b: tuple, s: tuple) -> bool:
    return all_zero(a) and b == x.type.shape and unit_steps(s)


def expanded_twice(s: tuple, a: tuple, b: tuple) -> tuple:
    """The axes of the result `s` that are new, where `a` were new before `b` were added."""
    kept = [i for i in range(len(s)) if i not in b]
    return tuple(sorted([*b, *[kept[i] for i in a]]))


def keeps_order(x: Value, s: tuple, a: tuple, p: tuple) -> bool:
    """Whether the axes of `s` that are not in `a` stay in their order under `p`."""
    return [i for i in p if i not in a] == [i for i in range(len(s)) if i not in a]


def same_extremes(x: Value, s: tuple, a: tuple, b: tuple) -> bool:
    """Reducing exactly the repeated axes, of which there is at least one element."""
    return a == b and all(s[i].__class__ is int and s[i] > 0 for i in a)


def undoes_pad(x: Value, low: tuple, high: tuple, v: object, a: tuple, b: tuple, s: tuple) -> bool:
    return a == low and b == sums(low, x.type.shape) and unit_steps(s)


MOVEMENT = [
    Rule(
        lambda x, p: ops.permute(x, perm=p),
        lambda x, p: x,
        when=is_identity,
        samples=(("T[2, n]", (0, 1)),),
    ),
    Rule(
        lambda x, p, q: ops.permute(ops.permute(x, perm=p), perm=q),
        lambda x, p, q: ops.permute(x, perm=compose(p, q)),
        samples=(("T[2, n, 4]", (2, 0, 1), (0, 2, 1)),),
    ),
    Rule(
        lambda x, s: ops.reshape(x, shape=s),
        lambda x, s: x,
        when=lambda x, s: x.type.shape == s,
        samples=(("T[2, n]", (2, N)),),
    ),
    Rule(
        lambda x, r, s: ops.reshape(ops.reshape(x, shape=r), shape=s),
        lambda x, r, s: ops.reshape(x, shape=s),
        samples=(("T[2, 6]", (3, 4), (12,)), ("T[n, 6]", (2, 3 * N), (3, 2 * N))),
    ),
    Rule(
        lambda x, s, a: ops.expand(x, shape=s, axes=a),
        lambda x, s, a: x,
        when=lambda x, s, a: a == (),
        samples=(("T[n]", (N,), ()),),
    ),
    Rule(
        lambda x, r, a, s, b: ops.expand(ops.expand(x, shape=r, axes=a), shape=s, axes=b),
        lambda x, r, a, s, b: ops.expand(x, shape=s, axes=expanded_twice(s, a, b)),
        samples=(("T[3]", (2, 3), (0,), (2, 4, 3, N), (1, 3)),),
    ),
    Rule(
        lambda x, s, a, p: ops.permute(ops.expand(x, shape=s, axes=a), perm=p),
        lambda x, s, a, p: ops.expand(x, shape=compose(s, p), axes=tuple(sorted(map(p.index, a)))),
        when=keeps_order,
        samples=(("T[3]", (2, 3), (0,), (1, 0)), ("T[3, n]", (3, 4, N), (1,), (1, 0, 2))),
    ),
    Rule(
        lambda x, a, b, s: ops.slice_(x, start=a, stop=b, step=s),
        lambda x, a, b, s: x,
        when=is_whole,
        samples=(("T[3, n]", (0, 0), (3, N), (1, 1)),),
    ),
    Rule(
        lambda x, a, b, s, c, d, t: ops.slice_(
            ops.slice_(x, start=a, stop=b, step=s), start=c, stop=d, step=t
        ),
        lambda x, a, b, s, c, d, t: ops.slice_(x, start=sums(a, c), stop=sums(a, d), step=t),
        when=lambda x, a, b, s, c, d, t: unit_steps(s),
        samples=(
            ("T[8]", (1,), (7,), (1,), (2,), (6,), (3,)),
            ("T[n, 8]", (0, 1), (N, 7), (1, 1), (0, 2), (N, 4), (1, 1)),
        ),
    ),
    Rule(
        lambda x, low, high, v: ops.pad(x, low=low, high=high, value=v),
        lambda x, low, high, v: x,
        when=lambda x, low, high, v: all_zero(low, high),
        samples=(("T[2, n]", (0, 0), (0, 0), 0),),
    ),
    Rule(
        lambda x, a, b, c, d, v: ops.pad(
            ops.pad(x, low=a, high=b, value=v), low=c, high=d, value=v
        ),
        lambda x, a, b, c, d, v: ops.pad(x, low=sums(a, c), high=sums(b, d), value=v),
        samples=(("T[2, n]", (0, 1), (2, 0), (1, 0), (0, 3), 0),),
    ),
    Rule(
        lambda x, low, high, v, a, b, s: ops.slice_(
            ops.pad(x, low=low, high=high, value=v), start=a, stop=b, step=s
        ),
        lambda x, low, high, v, a, b, s: x,
        when=undoes_pad,
        samples=(("T[2, n]", (1, 2), (0, 3), 0, (1, 2), (3, N + 2), (1, 1)),),
    ),
    Rule(
        lambda x, a: ops.flip(x, axes=a),
        lambda x, a: x,
        when=lambda x, a: a == (),
        samples=(("T[n]", ()),),
    ),
    Rule(
        lambda x, a: ops.flip(ops.flip(x, axes=a), axes=a),
        lambda x, a: x,
        samples=(("T[2, n]", (1,)),),
    ),
    Rule(lambda x, a: ops.concat(x, axis=a), lambda x, a: x, samples=(("T[2, n]", 1),)),
]

REDUCTION = [
    Rule(
        lambda x: ops.reduce_max(x, axes=()),
        lambda x: x,
        samples=(("T[2, n]",),),
    ),
    Rule(
        lambda x: ops.reduce_min(x, axes=()),
        lambda x: x,
        samples=(("T[2, n]",),),
    ),
    Rule(
        lambda x, s, a, b: ops.reduce_max(ops.expand(x, shape=s, axes=a), axes=b),
        lambda x, s, a, b: x,
        when=same_extremes,
        samples=(("T[n]", (2, N), (0,), (0,)),),
    ),
    Rule(
        lambda x, s, a, b: ops.reduce_min(ops.expand(x, shape=s, axes=a), axes=b),
        lambda x, s, a, b: x,
        when=same_extremes,
        samples=(("T[n]", (2, N), (0,), (0,)),),
    ),
]


# --- contraction: permutations go into the axes of `dot` -----------------------------------------


def free_of(rank: int, contract: tuple, batch: tuple) -> list[int]:
    return [i for i in range(rank) if i not in contract and i not in batch]


def through(p: tuple, axes: tuple) -> tuple:
    """The axes of x that the axes of permute(x, p) are."""
    return tuple([p[i] for i in axes])


def left_moves_in(a: Value, b: Value, p: tuple, c: tuple, d: tuple) -> bool:
    free = through(p, tuple(free_of(len(p), c[0], d[0])))
    return list(free) == sorted(free)


def right_moves_in(a: Value, b: Value, p: tuple, c: tuple, d: tuple) -> bool:
    free = through(p, tuple(free_of(len(p), c[1], d[1])))
    return list(free) == sorted(free)


def swaps_sides(a: Value, b: Value, c: tuple, d: tuple, p: tuple) -> bool:
    """Whether `p` leaves the batch axes and puts the right operand's axes before the left's."""
    n = len(d[0])
    left = len(free_of(len(a.type.shape), c[0], d[0]))
    right = len(p) - n - left
    turned = [*range(n), *range(n + left, len(p)), *range(n, n + left)]
    return bool(left and right) and list(p) == turned


CONTRACTION = [
    Rule(
        lambda a, b, p, c, d: ops.dot(ops.permute(a, perm=p), b, contract=c, batch=d),
        lambda a, b, p, c, d: ops.dot(
            a, b, contract=(through(p, c[0]), c[1]), batch=(through(p, d[0]), d[1])
        ),
        when=left_moves_in,
        samples=(("T[3, n]", "T[3, 4]", (1, 0), ((1,), (0,)), ((), ())),),
    ),
    Rule(
        lambda a, b, p, c, d: ops.dot(a, ops.permute(b, perm=p), contract=c, batch=d),
        lambda a, b, p, c, d: ops.dot(
            a, b, contract=(c[0], through(p, c[1])), batch=(d[0], through(p, d[1]))
        ),
        when=right_moves_in,
        samples=(
            ("T[n, 3]", "T[4, 3]", (1, 0), ((1,), (0,)), ((), ())),
            ("T[2, n, 3]", "T[4, 2, 3]", (1, 2, 0), ((2,), (1,)), ((0,), (0,))),
        ),
    ),
    Rule(
        lambda a, b, c, d, p: ops.permute(ops.dot(a, b, contract=c, batch=d), perm=p),
        lambda a, b, c, d, p: ops.dot(b, a, contract=c[::-1], batch=d[::-1]),
        when=swaps_sides,
        samples=(
            ("T[n, 3]", "T[3, 4]", ((1,), (0,)), ((), ()), (1, 0)),
            ("T[2, n, 3]", "T[2, 3, 4]", ((2,), (1,)), ((0,), (0,)), (0, 2, 1)),
        ),
    ),
]
