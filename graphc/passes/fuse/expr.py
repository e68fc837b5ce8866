"""Expressions: what one group computes at one point of its domain, hash-consed.

Leaves are loads from buffers, index values (`iota`), `guard` conditions, constants and the
results of the group's own reductions (`reduced`); inner expressions carry the name of a
pointwise op. An expression knows the loop variables it depends on, which decides into which
loop it is printed, and so does all hoisting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from graphc.ir.dims import AnyDim
from graphc.ir.dtype import BOOL, DType
from graphc.ir.op import OPS

from .affine import Affine, Guards, Variable

#: From this cost on, a value that several kernels or stages read is kept, not computed again.
KEEP_COST = 8
#: Cost of arguments from which on the cheaper one is computed first. Chains that go side by side,
#: as the values of an unrolled loop do, then come step by step, and do not wait in registers for
#: each other's ends.
LONG_CHAIN = 64


def cost_of(op: str) -> int:
    """What an op costs for one element, an addition being 1."""
    declared = OPS.get(op)
    return 1 if declared is None else declared.cost


class Access(NamedTuple):
    """Where a load reads: element `form` of a buffer, plus stride * index for each argument.

    Where a guard does not hold nothing is read and the value does not matter.
    """

    buffer: Any  # a Value, or a partial buffer of the loop level
    form: Affine
    guards: Guards = ()
    row_strides: tuple[AnyDim, ...] = ()


class Expr:
    """One value of a group. Compared by identity: equal expressions are one object."""

    __slots__ = ("args", "cost", "dtype", "id", "op", "payload", "reads", "variables")
    variables: frozenset[Variable]
    reads: frozenset[Any]
    cost: int

    def __init__(
        self, op: str, args: tuple[Expr, ...], payload: Any, dtype: DType, number: int
    ) -> None:
        self.op, self.args, self.payload, self.dtype, self.id = op, args, payload, dtype, number
        variables: frozenset[Variable] = frozenset()
        reads: frozenset[Any] = frozenset([payload]) if op == "reduced" else frozenset()
        cost = cost_of(op) if args or op in ("iota", "guard") else 0
        for arg in args:
            cost += arg.cost
            if arg.variables is not variables:
                variables |= arg.variables
            if arg.reads is not reads:
                reads |= arg.reads
        if op in _WITH_FORMS:
            variables |= {v for form in forms_of(self) for v, _ in form.terms}
        self.variables, self.reads, self.cost = variables, reads, cost

    def __repr__(self) -> str:
        return show_expr(self)


_WITH_FORMS = frozenset(["load", "iota", "guard"])


def forms_of(expr: Expr) -> list[Affine]:
    """The index forms that stand in the expression itself, without its arguments."""
    if expr.op == "load":
        return [expr.payload.form, *[guard.form for guard in expr.payload.guards]]
    if expr.op == "iota":
        return [expr.payload]
    if expr.op == "guard":
        return [guard.form for guard in expr.payload]
    return []


class ExprTable:
    """Makes the expressions of one group; what exists already is not made twice."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[tuple, Expr] = {}

    def __len__(self) -> int:
        return len(self._made)

    def __iter__(self) -> Iterator[Expr]:
        return iter(self._made.values())

    def make(self, op: str, args: tuple[Expr, ...], payload: Any, dtype: DType) -> Expr:
        key = (op, args, payload, dtype)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = Expr(op, args, payload, dtype, len(self._made))
        return found

    def truncate(self, length: int) -> None:
        """Forgets what was made after the table had this length."""
        while len(self._made) > length:
            self._made.popitem()

    def constant(self, value: Any, dtype: DType) -> Expr:
        # repr keeps 0.0 apart from -0.0 and 1 from True, which compare equal.
        key = ("constant", repr(value), dtype)
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = Expr("constant", (), value, dtype, len(self._made))
        return found

    def guard(self, guards: Guards) -> Expr:
        return self.make("guard", (), guards, BOOL)


def _post_order(roots: Iterable[Expr], arguments: Callable[[list[Expr]], list[Expr]]) -> list[Expr]:
    """All expressions below the roots, each once, after its arguments.

    arguments: the order in which those that are not there yet come.
    """
    seen: set[Expr] = set()
    order: list[Expr] = []
    stack = [(root, False) for root in roots][::-1]
    while stack:
        expr, done = stack.pop()
        if done:
            order.append(expr)
        elif expr not in seen:
            seen.add(expr)
            stack.append((expr, True))
            missing = arguments([arg for arg in expr.args if arg not in seen])
            stack.extend([(arg, False) for arg in reversed(missing)])
    return order


def walk(roots: Iterable[Expr]) -> list[Expr]:
    """All expressions below the roots, each once, arguments first."""
    return _post_order(roots, list)


def in_steps(args: Sequence[Expr]) -> list[Expr]:
    """The arguments in the order in which they are computed."""
    if len(args) > 1 and min([arg.cost for arg in args]) > LONG_CHAIN:
        return sorted(args, key=lambda arg: arg.cost)
    return list(args)


def computed(roots: Iterable[Expr]) -> list[Expr]:
    """All expressions below the roots, each once, in the order in which they are computed."""
    return _post_order(roots, in_steps)


def show_form(form: Affine) -> str:
    """An index form as people write it: `64*i0 + i1 + 3`."""
    parts = []
    for variable, k in form.terms:
        text = str(k) if isinstance(k, int) else f"({k})"
        parts.append(f"i{variable}" if k == 1 else f"{text}*i{variable}")
    if form.const != 0 or not parts:
        parts.append(str(form.const))
    return " + ".join(parts)


def show_expr(expr: Expr, names: Any = None, depth: int = 6) -> str:
    """One line for a person; `names` maps buffers to names, deep parts become `...`."""
    name = names or (lambda value: value.name or "buffer")
    if expr.op == "constant":
        return str(expr.payload)
    if expr.op == "reduced":
        return name(expr.payload)
    if expr.op == "iota":
        return f"index({show_form(expr.payload)})"
    if expr.op == "guard":
        return " & ".join([f"{g.low} <= {show_form(g.form)} < {g.high}" for g in expr.payload])
    if depth == 0:
        return "..."
    args = [show_expr(arg, names, depth - 1) for arg in expr.args]
    if expr.op == "load":
        rows = [f"{stride}*{arg}" for stride, arg in zip(expr.payload.row_strides, args)]
        place = " + ".join([*rows, show_form(expr.payload.form)])
        return f"{name(expr.payload.buffer)}[{place}]"
    return f"{expr.op}({', '.join(args)})"
