"""Cleaning: constants fold, rules apply, equal nodes become one, dead ones go; to a fixed point.

One walk from the parameters to the results does all of it, since rules see operands that are
simple already. `clean(clean(g)) is clean(g)`, and a graph that is clean is returned itself.

1. A pointwise op on constants is a constant, where its meaning is exact on every backend: folding
   exp in numpy would give other bits than the kernel that runs it.
2. A movement of a constant of one number is a constant; small constant arrays fold as well.
3. The rules of `passes.rules` apply.
4. `if` on a constant predicate is the branch taken.
5. Blocks are cleaned in the same way; scans side by side merge; what no one reads of a loop's or a
   branch's results, carries and operands goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.build import Rule as Matcher
from graphc.ir.data import Data
from graphc.ir.dims import is_static
from graphc.ir.graph import Attrs, Graph, Node, Value
from graphc.ir.op import OPS, Op

from .blocks import has_blocks, merge_loops, prune_blocks
from .rewrite import Rule, compile_rules
from .rules import NO_DETACH, RULES, concat_of_slices, sum_of_pads

Table = Mapping[Op, Sequence[Matcher]]

# Correctly rounded, or exact: the same bits in numpy and in every kernel.
EXACT = (
    "add sub mul div neg abs sign floor ceil round trunc sqrt max min quo rem fma select cast "
    "eq lt le and or xor not shl shr popcount isnan real imag complex"
).split()
MOVES = "reshape permute expand slice flip".split()
SMALL = 1024  # elements; larger constant arrays are computed when the graph runs

FULL, CONST, IF = OPS["full"], OPS["const"], OPS["if"]


def clean(graph: Graph, table: Table | None = None) -> Graph:
    """The graph at the fixed point of 1 to 5; itself where it is clean. `table` replaces the
    default rules (see `table_of`)."""
    table = default_table() if table is None else table
    while True:
        found = _walk(graph, table)
        tidied = prune_blocks(merge_loops(found))
        if (found is graph and tidied is found) or not has_blocks(tidied):
            return tidied
        graph = tidied


def _walk(graph: Graph, table: Table) -> Graph:
    with Builder(graph.params, table) as builder:
        new: dict[Value, Value] = {}
        for node in graph.nodes:
            inputs = tuple([new.get(value, value) for value in node.inputs])
            builder.loc = node.loc
            if node.blocks:
                made = _build_control(builder, node, inputs, table)
            else:
                made = builder.emit(node.op, inputs, node.attrs, (), node)
            if made is not node.outputs:
                new.update(zip(node.outputs, made, strict=True))
        result = builder.graph([new.get(value, value) for value in graph.results])
    same = result.nodes == graph.nodes and result.results == graph.results
    return graph if same else result


def _build_control(
    builder: Builder, node: Node, inputs: tuple[Value, ...], table: Table
) -> Sequence[Value]:
    blocks = tuple([clean(block, table) for block in node.blocks])
    if node.op is IF:
        predicate = _number(inputs[0])
        if predicate is not None and not inputs[0].type.shape:
            return builder.replay(blocks[0 if predicate else 1], inputs[1:])
    return builder.emit(node.op, inputs, node.attrs, blocks, node)


@cache
def default_table() -> Table:
    """Folding and all rules; compiled when first used."""
    return _with_matchers(table_of(RULES))


@cache
def final_table() -> Table:
    """The default rules, and `detach` and `graft` are their operand: all derivatives are taken."""
    return _with_matchers(table_of([*RULES, *NO_DETACH]))


def _with_matchers(table: Table) -> Table:
    """The rules that are written by hand, since they take any number of operands."""
    add, concat = OPS["add"], OPS["concat"]
    joined = {add: [*table[add], sum_of_pads], concat: [*table[concat], concat_of_slices]}
    return {**table, **joined}


def table_of(rules: Sequence[Rule]) -> Table:
    """Matchers of these rules, after those that fold."""
    table: dict[Op, list[Matcher]] = {}
    for name in (*EXACT, *MOVES):
        table[OPS[name]] = [_fold_numbers(OPS[name], name in MOVES), _fold_arrays(OPS[name])]
    for op, matchers in compile_rules(rules).items():
        table.setdefault(op, []).extend(matchers)
    return table


def _number(value: Value) -> Any:
    """The number that a `full` holds, else None."""
    node = value.node
    return node.attrs["value"] if node is not None and node.op is FULL else None


def _fold_numbers(op: Op, moves: bool) -> Matcher:
    def match(inputs: tuple[Value, ...], attrs: Attrs) -> tuple[Value, ...] | None:
        for value in inputs:
            node = value.node
            if node is None or node.op is not FULL:
                return None
        (type,) = op.infer(attrs, [value.type for value in inputs])
        if moves:
            number = _number(inputs[0])
        else:
            arrays = [np.asarray(_number(v), v.type.dtype.numpy) for v in inputs]
            found = _evaluate(op, arrays, attrs)
            if found is None:
                return None
            number = found.astype(type.dtype.numpy).item()
        return (ops.full(number, type.dtype, type.shape, type.device),)

    return match


def _fold_arrays(op: Op) -> Matcher:
    def match(inputs: tuple[Value, ...], attrs: Attrs) -> tuple[Value, ...] | None:
        first = inputs[0].node
        if first is None or (first.op is not CONST and first.op is not FULL):
            return None
        if not all([v.node is not None and v.node.op in (CONST, FULL) for v in inputs]):
            return None
        (type,) = op.infer(attrs, [value.type for value in inputs])
        if not is_static(type.shape) or np.prod(type.shape, dtype=int) > SMALL:
            return None
        found = _evaluate(op, [_array(v) for v in inputs], attrs)
        if found is None:
            return None
        data = Data(np.broadcast_to(found, type.shape).astype(type.dtype.numpy))
        return (OPS["const"](data=data, device=type.device),)

    return match


def _array(value: Value) -> np.ndarray:
    node = value.node
    assert node is not None
    if node.op is FULL:
        return np.full(value.type.shape, node.attrs["value"], value.type.dtype.numpy)
    return node.attrs["data"].array


def _evaluate(op: Op, arrays: Sequence[np.ndarray], attrs: Attrs) -> np.ndarray | None:
    """The op's meaning; None where it is an error, which belongs to the run."""
    try:
        with np.errstate(all="ignore"):
            return np.asarray(op.eval(*arrays, **attrs))
    except ZeroDivisionError:
        return None
