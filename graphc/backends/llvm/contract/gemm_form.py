"""Which form a matrix product takes: decided by its sizes, its layouts and the target alone.

chain  each element is one chain of multiply-adds in the order of k, columns in lanes
pairs  the same of bf16 where the processor multiplies pairs of them: a chain of pairs, or with AMX
       of sums over 32 of k
dot    lanes along k: `lanes` chains an element, added by a tree (`dot_form.py`)

The chain wastes what a tile has too many of columns, and must transpose a B that runs along k;
the dot form wastes nothing, but needs both operands along k, and pays for the tree.
"""

from dataclasses import dataclass, replace

from graphc.backends.llvm.contract.element import element
from graphc.backends.llvm.contract.emitter import Emitter, Index
from graphc.backends.llvm.target import Target

# Rows (or columns) that the dot form serves, each with the k from which on it does: beyond
# these, transposing while packing costs less than the sums across lanes.
DOT_LIMITS = ((4, 32), (8, 64), (24, 256))
DOT_FEW = DOT_LIMITS[-1][0]
# The same of bf16 in pairs; without and with AMX, whose tiles cost less from two rows on.
PAIR_LIMITS = ((4, 64), (16, 256), (24, 512))
AMX_LIMITS = ((1, 32),)
# Elements of a B that is transposed for the dot form, all of it at once.
DOT_PACKED = 1 << 17
# Most columns, and least rows and k, of a product that is computed transposed; the last where
# columns fill whole vectors.
TURNED_COLUMNS = 24
TURNED_ROWS = 64
TURNED_K = 64
TURNED_LONG_K = 512
# Most rows of a product of bf16 that AMX computes transposed; fewer for a short k.
TURNED_PAIRS = 64


@dataclass(frozen=True, slots=True)
class GemmProblem:
    """out[b, m, n] = sum over k of A[b, m, k] * B[b, k, n], row-major, None for symbolic sizes.

    transpose_a  A is stored as [b, k, m]
    transpose_b  B is stored as [b, n, k]
    a_batched, b_batched  False where one matrix serves every b
    panel        0, or B is stored in panels, [n / panel, k, panel], one B for all b; of bf16
                 [n / panel, k / 2, panel, 2], where k is a multiple of `pair_step`
    """

    m: int | None
    n: int | None
    k: int | None
    batch: int | None = 1
    dtype: str = "f32"
    transpose_a: bool = False
    transpose_b: bool = False
    a_batched: bool = True
    b_batched: bool = True
    panel: int = 0

    @property
    def sizes(self) -> tuple[str, ...]:
        """The names of the symbolic sizes, in the order of a kernel's arguments."""
        return tuple(name for name in ("batch", "m", "n", "k") if getattr(self, name) is None)

    def size(self, name: str) -> Index:
        """A size as an index of the kernel's entry."""
        known = getattr(self, name)
        return f"%{name}" if known is None else known


def in_pairs(problem: GemmProblem, target: Target) -> bool:
    """Whether bf16 are multiplied as they are, two of k at once (`pairs.py`)."""
    return problem.dtype == "bf16" and target.has_bf16


def is_turned(problem: GemmProblem, target: Target) -> bool:
    """Whether out^T = B^T A^T is computed, its rows in lanes: for one column, and for few.

    One column is the same memory. Few are worth a transposed output where A runs along m, and
    they fill no whole vectors or the sums are long.
    """
    m, n, k, of = problem.m, problem.n, problem.k, element(problem.dtype)
    if in_pairs(problem, target):
        return _turns_pairs(problem, target)
    if not of.floating or n == 1:
        return of.floating
    if m is None or n is None or not problem.transpose_a or problem.panel:
        return False
    least_k = TURNED_K if n % target.lanes(of.bits) else TURNED_LONG_K
    return 1 < n <= TURNED_COLUMNS and m >= TURNED_ROWS and (k is None or k >= least_k)


def _turns_pairs(problem: GemmProblem, target: Target) -> bool:
    """Whether to pack a small A and turn the result costs less than to pack a B that runs along k:
    for AMX, which reads that B as it is."""
    m, n, k = problem.m, problem.n, problem.k
    if m is None or n is None or k is None or problem.transpose_a or not problem.transpose_b:
        return False
    few = m <= min(n, TURNED_PAIRS, 16 + k // 16)
    return few and target.has_amx and not may_serve(problem, target)


def turn(problem: GemmProblem) -> GemmProblem:
    """The product of the transposes in the other order, for one that `is_turned`."""
    return replace(
        problem,
        m=problem.n,
        n=problem.m,
        transpose_a=problem.n != 1 and not problem.transpose_b,
        transpose_b=not problem.transpose_a,
        a_batched=problem.b_batched,
        b_batched=problem.a_batched,
    )


def dot_serves(emitter: Emitter, problem: GemmProblem, target: Target) -> bool | str:
    """Whether the product takes the dot form; a condition where symbolic sizes decide it.

    A runs along k, and either B does too and there are few rows or columns, or B has one
    column, or it is transposed first: then so many rows use it that the lanes which the chain
    would waste on a part of a vector are worth two turns of all of B.
    """
    of, pairs = element(problem.dtype), in_pairs(problem, target)
    if problem.transpose_a or not (of.floating or pairs) or problem.panel:
        return False
    m, n, k = (problem.size(name) for name in ("m", "n", "k"))
    limits = (AMX_LIMITS if target.has_amx else PAIR_LIMITS) if pairs else DOT_LIMITS

    def few(count: Index) -> bool | str:
        found: bool | str = False
        for most, least_k in limits:
            now = both(emitter, emitter.less(count, most + 1), emitter.less(least_k - 1, k))
            found = either(emitter, found, now)
        return found

    if problem.transpose_b:
        return either(emitter, few(m), few(n))
    if pairs:
        return both(emitter, few(n), emitter.less(n, 2))
    lanes = target.lanes(of.bits)
    wasted = emitter.sub(emitter.mul(emitter.ceil_div(n, lanes), lanes), n)
    worth = emitter.less(emitter.mul(n, 2 * lanes), emitter.add(emitter.mul(m, wasted), 1))
    fits = emitter.less(emitter.mul(n, k), DOT_PACKED + 1)
    column = emitter.less(n, 2)
    return both(emitter, few(n), either(emitter, column, both(emitter, worth, fits)))


def both(emitter: Emitter, a: bool | str, b: bool | str) -> bool | str:
    if isinstance(a, bool):
        return b if a else False
    if isinstance(b, bool):
        return a if b else False
    return emitter.value(f"and i1 {a}, {b}")


def either(emitter: Emitter, a: bool | str, b: bool | str) -> bool | str:
    if isinstance(a, bool):
        return True if a else b
    if isinstance(b, bool):
        return True if b else a
    return emitter.value(f"or i1 {a}, {b}")


def may_serve(problem: GemmProblem, target: Target) -> bool | None:
    """`dot_serves` where it is known; None where symbolic sizes decide."""
    serves = dot_serves(Emitter([]), problem, target)
    return serves if isinstance(serves, bool) else None
