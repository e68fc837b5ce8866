"""Kernels that may write a result where an operand lay that nobody reads any more.

A map reads an operand at the very place that it writes: each element is read before it is
written, by the same lane of the same step, so both may be the same memory. So does the epilogue of
a product, as a residual is added; its kernel says which results it stores once, after that. The
memory plan makes use of it where the operand dies (`overwritten`), and so does a caller that gives
up an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from graphc.ir.dims import product
from graphc.ir.graph import Value

from .fuse.epilogue import Epilogue
from .fuse.expr import walk
from .fuse.group import MAP, Group
from .loop.ir import Kernel, Lanes, Loop, Statement, Store
from .memory import Lifetime

#: (result, operand): the result may be written over the operand.
Pair = tuple[Value, Value]


class Step(Protocol):
    """A kernel of a program."""

    reads: frozenset
    writes: frozenset
    over: tuple[Pair, ...]


def pairs_of(group: Group, kernel: Kernel) -> tuple[Pair, ...]:
    """The results that the kernel of a group may write over one of its operands.

    Every expression is computed, since nothing is guarded, when the first statement of a step
    that needs it is printed, and kept for the others: so what a result's own expression loads has
    been read before the result is stored. Loads elsewhere in the operand forbid it, and so do
    statements that load ahead (tiles).
    """
    code = group.code
    if group.kind != MAP or not _is_plain(kernel.body):
        return ()
    loads: dict[Value, set] = {}
    for expr in walk(code.roots()):
        if expr.op == "guard" or (expr.op == "load" and expr.payload.guards):
            return ()
        if expr.op == "load":
            access = expr.payload
            loads.setdefault(access.buffer, set()).add((access.form, bool(expr.args)))
    found = []
    for output in code.outputs:
        own = {e.payload.buffer: None for e in walk([output.expr]) if e.op == "load"}
        for operand in own:
            fits = loads[operand] == {(output.place, False)}
            if output.level == "full" and fits and _as_large(output.value, operand):
                found.append((output.value, operand))
    return tuple(found)


def pairs_of_epilogue(
    epilogue: Epilogue, results: Iterable[Hashable], operands: Collection[Hashable]
) -> tuple[Pair, ...]:
    """The results that the kernel of a product may write over what its epilogue reads.

    results: those that it stores after the epilogue has read; operands: what else it reads, at
    many places.
    """
    return tuple(
        [
            (result, operand)
            for result in results
            for operand in epilogue.own
            if isinstance(result, Value)
            if operand not in operands and _as_large(result, operand)
        ]
    )


def _is_plain(body: Iterable[Statement]) -> bool:
    for statement in body:
        if isinstance(statement, (Loop, Lanes)):
            if not _is_plain(statement.body):
                return False
        elif not isinstance(statement, Store) or statement.one_lane:
            return False
    return True


def _as_large(result: Value, operand: Value) -> bool:
    a, b = result.type, operand.type
    return a.dtype.itemsize == b.dtype.itemsize and product(a.shape) == product(b.shape)


def overwritten(
    regions: Sequence[Sequence[Step]],
    may_give: Collection[Hashable],
    may_take: Collection[Hashable],
) -> dict[Value, Value]:
    """Which results take the memory of which operands; each operand gives it once.

    may_give: buffers that are free after the last region that reads them. may_take: buffers
    whose memory is not chosen yet.
    """
    last: dict[Hashable, int] = {}
    readers: dict[Hashable, int] = {}  # in the last region
    for number, region in enumerate(regions):
        for step in region:
            for buffer in (*step.reads, *step.writes):
                readers[buffer] = readers.get(buffer, 0) + 1 if last.get(buffer) == number else 1
                last[buffer] = number
    found: dict[Value, Value] = {}
    given: set[Value] = set()
    for number, region in enumerate(regions):
        for step in region:
            choices: dict[Value, list[Value]] = {}
            for result, operand in step.over:
                dies = last[operand] == number and readers[operand] == 1
                if dies and operand in may_give and result in may_take:
                    choices.setdefault(result, []).append(operand)
            for result, operands in sorted(choices.items(), key=lambda item: len(item[1])):
                free = [operand for operand in operands if operand not in given]
                if free:
                    found[result] = free[0]
                    given.add(free[0])
    return found


def roots(taken: Mapping[Value, Value]) -> dict[Value, Value]:
    """The first buffer of each chain of results that took the memory of others."""
    found = {}
    for result in taken:
        first = result
        while first in taken:
            first = taken[first]
        found[result] = first
    return found


def merged(lifetimes: Iterable[Lifetime], first: Mapping[Value, Value]) -> list[Lifetime]:
    """The lifetimes of buffers with memory of their own, which is in use for the whole chain."""
    ends: dict[Hashable, int] = {}
    for life in lifetimes:
        root = first.get(life.buffer, life.buffer)  # type: ignore[call-overload]
        ends[root] = max(ends.get(root, life.last), life.last)
    return [replace(life, last=ends[life.buffer]) for life in lifetimes if life.buffer not in first]
