"""Rewrite rules as equations.

    Rule(lambda x, y: x + -y, lambda x, y: x - y)

Both sides are plain functions over ops. The left side is called once, with variables, and becomes
a matcher in straight-line Python; the right side is called on what the variables matched and
builds nodes in the current builder. Numbers on the left match constants of that value; numbers on
the right become constants of the result's type. Nobody argues whether a rule holds for nan, inf
and -0.0: a generated test tries both sides on all of them (`rule_check`).
"""

from __future__ import annotations

import inspect
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphc.ir.build import Builder
from graphc.ir.dtype import BOOL
from graphc.ir.graph import NO_ATTRS, Attrs, Graph, Node, Value
from graphc.ir.op import OPS, Op, as_dtype

Matcher = Callable[[tuple[Value, ...], Attrs], "tuple[Value, ...] | None"]


class Pattern:
    """What a rule looks for: an op over patterns, or (`op` None) a variable or a constant."""

    def __init__(
        self,
        op: Op | None,
        inputs: Sequence[Pattern] = (),
        attrs: Attrs = NO_ATTRS,
        name: str = "",
        number: Any = None,
    ) -> None:
        self.op, self.inputs, self.attrs = op, tuple(inputs), attrs
        self.name, self.number = name, number

    @property
    def attr_text(self) -> str:
        """A variable may stand for an attribute."""
        return f"?{self.name}"

    def __str__(self) -> str:
        if self.op is None:
            return self.name or repr(self.number)
        attrs = [f"{key}={value}" for key, value in self.attrs.items()]
        return f"{self.op.name}({', '.join([*map(str, self.inputs), *attrs])})"

    def __neg__(self) -> Pattern:
        return OPS["neg"](self)


def _operator(name: str, swapped: bool) -> Callable[[Pattern, Any], Pattern]:
    def apply(x: Pattern, y: Any) -> Pattern:
        return OPS[name](y, x) if swapped else OPS[name](x, y)

    return apply


for _symbol, _name in {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div"}.items():
    setattr(Pattern, f"__{_symbol}__", _operator(_name, swapped=False))
    setattr(Pattern, f"__r{_symbol}__", _operator(_name, swapped=True))


class _PatternBuilder(Builder):
    """Ops called under this builder make patterns."""

    def emit(
        self,
        op: Op,
        inputs: tuple[Any, ...],
        attrs: Attrs = NO_ATTRS,
        blocks: tuple[Graph, ...] = (),
        origin: Node | None = None,
    ) -> tuple[Any, ...]:
        operands = [x if isinstance(x, Pattern) else Pattern(None, number=x) for x in inputs]
        return (Pattern(op, operands, attrs),)


@dataclass(frozen=True)
class Rule:
    """left == right, wherever `when` (a predicate over the matched values) holds.

    `samples` are arguments for the check where a variable stands for an attribute: a text such as
    "f32[2, 3]" for a value (its dtype is replaced by each in turn), the attribute itself else.
    """

    left: Callable[..., Any]
    right: Callable[..., Any]
    when: Callable[..., bool] | None = None
    samples: tuple[tuple, ...] = ()

    @property
    def variables(self) -> list[str]:
        return list(inspect.signature(self.left).parameters)

    @cached_property
    def pattern(self) -> Pattern:
        with _PatternBuilder():
            return self.left(*[Pattern(None, name=name) for name in self.variables])

    def __str__(self) -> str:
        return str(self.pattern)


def compile_rules(rules: Iterable[Rule]) -> dict[Op, list[Matcher]]:
    """The table that `Builder` takes: for each op, its matchers in the order of the rules."""
    table: dict[Op, list[Matcher]] = defaultdict(list)
    for rule in rules:
        for pattern in mirror_images(rule.pattern):
            assert pattern.op is not None, f"the left side of {rule} is no op"
            table[pattern.op].append(_compile(rule, pattern))
    return dict(table)


def mirror_images(pattern: Pattern) -> Iterator[Pattern]:
    """The pattern, and its mirror images where an op commutes and its operands look different."""
    if pattern.op is None:
        yield pattern
        return
    for inputs in itertools.product(*[list(mirror_images(p)) for p in pattern.inputs]):
        yield Pattern(pattern.op, inputs, pattern.attrs)
        variables = all(p.op is None and p.name for p in inputs)
        if pattern.op.commutative and not variables:
            yield Pattern(pattern.op, inputs[::-1], pattern.attrs)


def _compile(rule: Rule, pattern: Pattern) -> Matcher:
    """Straight-line Python for one pattern: the ops from outside in, then `when` and `right`."""
    writer = _MatcherText()
    writer.match_inputs(pattern, "inputs", "attrs")
    arguments = ", ".join(rule.variables)
    if rule.when:
        writer.require(f"not when({arguments})")
    writer.lines.append(f"    return settle(right({arguments}), inputs)")
    scope = {**writer.scope, "right": rule.right, "when": rule.when, "settle": settle}
    exec("\n".join(writer.lines), scope)  # the text holds names of ops and variables only
    return scope["match"]


class _MatcherText:
    """The lines of a matcher; each `require` leaves it where a condition holds."""

    def __init__(self) -> None:
        self.lines = ["def match(inputs, attrs):"]
        self.scope: dict[str, Any] = {"full": OPS["full"]}
        self._bound: set[str] = set()
        self._fresh = map("v{}".format, itertools.count())

    def require(self, leave_if: str) -> None:
        self.lines.append(f"    if {leave_if}: return None")

    def bind(self, name: str, expression: str) -> None:
        if name in self._bound:
            self.require(f"{name} is not {expression} and {name} != {expression}")
        else:
            self._bound.add(name)
            self.lines.append(f"    {name} = {expression}")

    def match_inputs(self, pattern: Pattern, inputs: str, attrs: str) -> None:
        names = [next(self._fresh) for _ in pattern.inputs]
        assert pattern.op is not None
        if pattern.op.operands and pattern.op.operands[-1][1].variadic:
            self.require(f"len({inputs}) != {len(names)}")
        if names:
            self.lines.append(f"    {', '.join(names)}, = {inputs}")
        for key, value in pattern.attrs.items():
            if isinstance(value, Pattern):
                self.bind(value.name, f"{attrs}[{key!r}]")
            else:
                constant = f"attr_{len(self.scope)}"
                self.scope[constant] = value
                self.require(f"{attrs}[{key!r}] != {constant}")
        pairs = zip(names, pattern.inputs, strict=True)
        for name, child in sorted(pairs, key=lambda pair: pair[1].op is None):
            self.match_value(child, name)

    def match_value(self, pattern: Pattern, value: str) -> None:
        if pattern.name:
            self.bind(pattern.name, value)
            return
        node = next(self._fresh)
        self.lines.append(f"    {node} = {value}.node")
        if pattern.op is None:
            self._match_number(node, pattern.number)
            return
        self.scope[f"op_{pattern.op.name}"] = pattern.op
        self.require(f"{node} is None or {node}.op is not op_{pattern.op.name}")
        self.match_inputs(pattern, f"{node}.inputs", f"{node}.attrs")

    def _match_number(self, node: str, number: Any) -> None:
        """A `full` of that number: 1.0 is 1, but neither is True. Complex constants match none,
        since their zeros have two signs."""
        self.require(f"{node} is None or {node}.op is not full")
        held = next(self._fresh)
        self.lines.append(f"    {held} = {node}.attrs['value']")
        if isinstance(number, bool):
            self.require(f"{held} is not {number}")
            return
        wanted = f"number_{len(self.scope)}"
        self.scope[wanted] = number
        self.require(f"{held} != {wanted} or {held}.__class__ in (complex, bool)")
        if number == 0:  # 0.0 == -0.0
            sign = "!=" if str(number)[0] == "-" else "=="
            self.require(f"str({held})[0] {sign} '-'")


def settle(result: Any, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
    """A right side may be a number: a constant of the type of the last operand."""
    if isinstance(result, Value):
        return (result,)
    if isinstance(result, tuple):
        return result
    type = inputs[-1].type
    dtype = BOOL if isinstance(result, bool) else type.dtype
    value = as_dtype(result, dtype)
    return (OPS["full"](value=value, dtype=dtype, shape=type.shape, device=type.device),)
