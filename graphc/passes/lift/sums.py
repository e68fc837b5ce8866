"""Carries that only add up: one product, or one sum, over the rows of all steps.

What a step multiplies is stacked, however much it is: sizes that may be symbolic decide nothing,
so that a result has the same bits whether they are known or not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.graph import Node, Value
from graphc.ir.op import OPS

from ..batch import batch_node
from .loop import DOT, FIXED, Finish, Loop

ADD, SUM = OPS["add"], OPS["reduce_sum"]
#: Moves that may follow a product that is added up: the sum is moved once instead.
_MOVES = [OPS[name] for name in ("permute", "reshape", "neg")]
#: Views of a row that need not be stacked: they are views of all rows.
_VIEWS = [OPS[name] for name in ("permute", "reshape")]


@dataclass
class _Term:
    """What a step adds: `node`, a product or a sum, then the moves (outermost first)."""

    node: Node
    moves: list[Node] = field(default_factory=list)


def lift_sums(loop: Loop) -> tuple[Loop, Finish] | None:
    """The loop without the carries that only add up products and sums of each step."""
    level = loop.levels()
    reads = Counter([v for node in loop.block.nodes for v in node.inputs])
    reads.update(loop.block.results)
    sums = {i: terms for i in loop.carries if (terms := _terms_of(loop, i, reads, level))}
    if not sums:
        return None
    ys = list(loop.block.results[len(loop.init) :])
    needed = dict.fromkeys(
        [_source(value) for terms in sums.values() for term in terms for value in term.node.inputs]
    )
    stacked = [v for v in needed if v not in loop.row_params]
    ys += [v for v in stacked if v not in ys]
    kept = [i for i in loop.carries if i not in sums]
    smaller = loop.with_step(carries=kept, results=ys)

    def finish(made: list[Value]) -> list[Value]:
        rows = dict(zip(loop.row_params, loop.rows, strict=True))
        rows.update({v: made[len(kept) + ys.index(v)] for v in stacked})
        outputs = dict(zip(kept, made))
        for i, terms in sums.items():
            total = loop.init[i]
            for term in terms:
                total = ops.add(total, _over_all(term, rows, loop))
            outputs[i] = total
        return [*[outputs[i] for i in loop.carries], *made[len(kept) :][: _count_ys(loop)]]

    return smaller, finish


def _count_ys(loop: Loop) -> int:
    return len(loop.block.results) - len(loop.init)


def _terms_of(
    loop: Loop, place: int, reads: Counter[Value], level: dict[Value, int]
) -> list[_Term] | None:
    """What each step adds to the carry; None where it does anything else with it."""
    carry, result = loop.block.params[place], loop.block.results[place]
    if reads[carry] != 1 or reads[result] != 1 or result.type.dtype.kind != "f":
        return None
    terms: list[_Term] = []
    found = 0
    todo = [result]
    while todo:
        value = todo.pop()
        if value is carry:
            found += 1
        elif value.node is not None and value.node.op is ADD and reads[value] == 1:
            todo += reversed(value.node.inputs)
        else:
            term = _term(value, level)
            if term is None:
                return None
            terms.append(term)
    return terms if found == 1 else None


def _term(value: Value, level: dict[Value, int]) -> _Term | None:
    moves: list[Node] = []
    node = value.node
    while node is not None and node.op in _MOVES:
        moves.append(node)
        node = node.inputs[0].node
    if node is None or node.op not in (DOT, SUM):
        return None
    if any([level[v] == FIXED for v in node.inputs]):
        return None
    return _Term(node, moves)


def _source(value: Value) -> Value:
    """The value that this one is a view of."""
    while value.node is not None and value.node.op in _VIEWS:
        value = value.node.inputs[0]
    return value


def _over_all(term: _Term, rows: dict[Value, Value], loop: Loop) -> Value:
    """The sum over the steps of a term."""
    operands = [_stacked(value, rows, loop) for value in term.node.inputs]
    made: Value = _summed(term.node, operands)
    for node in reversed(term.moves):
        (made,) = Builder.current().emit(node.op, (made,), node.attrs)
    return made


def _stacked(value: Value, rows: dict[Value, Value], loop: Loop) -> Value:
    """The rows of a value: of a view, a view of the rows."""
    if value in rows:
        return rows[value]
    node: Any = value.node
    inner = _stacked(node.inputs[0], rows, loop)
    (made,), _ = batch_node(node, [inner], [True], loop.length)
    return made


def _summed(node: Node, operands: list[Value]) -> Value:
    """The node's product or sum, over the axis of steps as well."""
    attrs = node.attrs
    if node.op is SUM:
        return ops.reduce_sum(operands[0], axes=(0, *[axis + 1 for axis in attrs["axes"]]))
    contract = tuple([(0, *[axis + 1 for axis in axes]) for axes in attrs["contract"]])
    pairs = tuple([tuple([axis + 1 for axis in axes]) for axes in attrs["batch"]])
    return ops.dot(*operands, contract=contract, batch=pairs)
