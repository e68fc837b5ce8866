"""Tidies loops and branches: merges what runs side by side, and drops what nobody reads.

`merge_loops`: two scans over the same operands become one, where the steps of both, side by side,
carry the same values. That is how a scan that also stacks residuals for its backward, made by
autodiff beside the scan that the program wrote, becomes the only one. In the same way a composite
gives way to its `vjp_forward` on the same operands, which gives residuals as well.

`prune_blocks`:
1. a result of `if` or a stacked result of `scan` that nobody reads is dropped;
2. a carry that neither the outside nor another result needs is dropped;
3. a carry that every step hands on unchanged becomes a constant;
4. an operand that no block reads is dropped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from graphc.ir.build import Builder, dead_code
from graphc.ir.graph import Attrs, Graph, Node, Value, effects_in, has_effect
from graphc.ir.op import OPS

IF, SCAN = OPS["if"], OPS["scan"]


def has_blocks(graph: Graph) -> bool:
    return any([node.blocks for node in graph.nodes])


def inputs_of(graph: Graph) -> set[Value]:
    """The values that the nodes read or that the graph gives back."""
    used = {v for node in graph.nodes for v in node.inputs}
    used.update(graph.results)
    return used


def without_effects(graph: Graph) -> Graph:
    """The graph without prints and asserts, in blocks too: for steps that run again."""
    if not effects_in([graph]):
        return graph
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = {p: p for p in graph.params}
        for node in graph.nodes:
            if not node.op.pure and not node.outputs:
                continue
            inputs = tuple([new[v] for v in node.inputs])
            blocks = tuple([without_effects(block) for block in node.blocks])
            builder.loc = node.loc
            made = builder.emit(node.op, inputs, node.attrs, blocks, node)
            new.update(zip(node.outputs, made, strict=True))
        return builder.graph([new[v] for v in graph.results])


def needs_merging(graph: Graph) -> bool:
    return any([node.op is SCAN or node.op.vjp_forward is not None for node in graph.nodes])


def merge_loops(graph: Graph) -> Graph:
    """One scan for all that run over the same operands and carry the same values; a composite that
    stands beside its `vjp_forward` gives way to that."""
    if not needs_merging(graph):
        return graph
    merged, stand_in = _mergeable_scans(graph)
    present = {(node.op, node.inputs, node.attrs) for node in graph.nodes if not node.blocks}
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = {p: p for p in graph.params}
        for node in graph.nodes:
            builder.loc = node.loc
            if node in stand_in:
                continue
            inputs = tuple([new[v] for v in node.inputs])
            wider = node.op.vjp_forward
            if node in merged:
                block, places = merged[node]
                made = builder.emit(SCAN, inputs, node.attrs, (block,))
                for other, where in places.items():
                    new.update(zip(other.outputs, [made[i] for i in where], strict=True))
                continue
            if wider is not None and (wider, node.inputs, node.attrs) in present:
                made = builder.emit(wider, inputs, node.attrs)[: len(node.outputs)]
            else:
                made = builder.emit(node.op, inputs, node.attrs, node.blocks, node)
            new.update(zip(node.outputs, made, strict=True))
        result = builder.graph([new[v] for v in graph.results])
    same = result.nodes == graph.nodes and result.results == graph.results
    return graph if same else result


Places = dict[Node, list[int]]  # for each node that takes part, where its outputs are


def _mergeable_scans(graph: Graph) -> tuple[dict[Node, tuple[Graph, Places]], set[Node]]:
    """For the first scan of each group its wider step; and the scans that it stands in for."""
    groups: dict[tuple, list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.op is SCAN:
            groups[node.inputs, node.attrs].append(node)
    merged: dict[Node, tuple[Graph, Places]] = {}
    stand_in: set[Node] = set()
    for nodes in groups.values():
        if len(nodes) > 1:
            block, places = _merge_steps(nodes)
            if len(places) > 1:
                merged[nodes[0]] = (block, places)
                stand_in.update(list(places)[1:])
    return merged, stand_in


def _merge_steps(nodes: Sequence[Node]) -> tuple[Graph, Places]:
    """The first node's step with the stacked results of those others that carry the same values;
    for each node that takes part, where its outputs are."""
    first = nodes[0].blocks[0]
    n_carry = nodes[0].attrs["carry"]
    with Builder(first.params) as builder:
        results = builder.replay(first, first.params)
        places = {nodes[0]: list(range(len(results)))}
        for node in nodes[1:]:
            found = builder.replay(node.blocks[0], first.params)
            if found[:n_carry] != results[:n_carry]:
                continue
            where = list(range(n_carry))
            for value in found[n_carry:]:
                if value not in results[n_carry:]:
                    results.append(value)
                where.append(results.index(value, n_carry))
            places[node] = where
        return builder.graph(results), places


def prune_blocks(graph: Graph) -> Graph:
    """Drops the operands, carries and results of control flow that nobody needs (1 to 4)."""
    if not has_blocks(graph):
        return graph
    live = set(graph.results)
    pruned: dict[Node, tuple] = {}
    for node in reversed(graph.nodes):
        if live.isdisjoint(node.outputs) and not has_effect(node):
            continue
        read = [i for i, v in enumerate(node.outputs) if v in live]
        found = None
        if node.op is SCAN:
            found = _prune_scan(node, read)
        elif node.op is IF:
            found = _prune_if(node, read)
        if found is not None:
            pruned[node] = found
            live.update(found[0])
            live.update(found[4].values())
        else:
            live.update(node.inputs)
    if not pruned:
        return graph
    with Builder(graph.params) as builder:
        new: dict[Value, Value] = {p: p for p in graph.params}
        for node in graph.nodes:
            builder.loc = node.loc
            if node in pruned:
                old_inputs, attrs, blocks, outputs, forwarded = pruned[node]
                inputs = tuple([new[v] for v in old_inputs])
                made = builder.emit(node.op, inputs, attrs, blocks)
                new.update(zip([node.outputs[i] for i in outputs], made, strict=True))
                new.update({node.outputs[i]: new[v] for i, v in forwarded.items()})
            elif all([v in new for v in node.inputs]):  # else: dead, on dropped outputs
                inputs = tuple([new[v] for v in node.inputs])
                made = builder.emit(node.op, inputs, node.attrs, node.blocks, node)
                new.update(zip(node.outputs, made, strict=True))
        return builder.graph([new[v] for v in graph.results])


def _read_params(blocks: Iterable[Graph]) -> set[int]:
    """The places of parameters that some block reads or gives back."""
    found = set()
    for block in blocks:
        used = inputs_of(block)
        found.update([i for i, p in enumerate(block.params) if p in used])
    return found


def _cut(block: Graph, params: Sequence[int], results: Sequence[Value]) -> Graph:
    kept = [block.params[i] for i in params]
    return dead_code(Graph(kept, block.nodes, results))


def _prune_if(node: Node, read: list[int]) -> tuple | None:
    blocks = [
        dead_code(Graph(b.params, b.nodes, [b.results[i] for i in read])) for b in node.blocks
    ]
    used = sorted(_read_params(blocks))
    if len(read) == len(node.outputs) and len(used) == len(node.inputs) - 1:
        return None
    blocks = [_cut(b, used, b.results) for b in blocks]
    inputs = (node.inputs[0], *[node.inputs[i + 1] for i in used])
    return inputs, node.attrs, tuple(blocks), read, {}


def _prune_scan(node: Node, read: list[int]) -> tuple | None:
    block, attrs = node.blocks[0], node.attrs
    n_carry, n_consts = attrs["carry"], attrs["carry"] + attrs["xs"]
    fixed = [i for i in range(n_carry) if block.results[i] is block.params[i]]
    ys = [i for i in read if i >= n_carry]
    needed = _needed_carries(block, n_carry, [i for i in read if i < n_carry], ys)
    carries = [i for i in needed if i not in fixed]
    results = [block.results[i] for i in (*carries, *ys)]
    step = dead_code(Graph(block.params, block.nodes, results))
    used = inputs_of(step)
    rows = [i for i in range(n_carry, n_consts) if block.params[i] in used]
    consts = [i for i in range(n_consts, len(node.inputs)) if block.params[i] in used]
    consts = [i for i in fixed if block.params[i] in used] + consts
    places = [*carries, *rows, *consts]
    if len(places) == len(node.inputs) and len(results) == len(block.results):
        if places == list(range(len(places))):
            return None
    wider: dict = {**attrs, "carry": len(carries), "xs": len(rows)}
    new_attrs: Attrs = SCAN.attrs_of(wider)
    inputs = tuple([node.inputs[i] for i in places])
    forwarded = {i: node.inputs[i] for i in fixed if i in read}
    blocks = (_cut(step, places, step.results),)
    return inputs, new_attrs, blocks, [*carries, *ys], forwarded


def _needed_carries(
    block: Graph, n_carry: int, read: Sequence[int], ys: Sequence[int]
) -> list[int]:
    """The carries that are read outside, or in a step on the way to what is."""
    needed = set(read)
    while True:
        results = [block.results[i] for i in (*needed, *ys)]
        used = inputs_of(dead_code(Graph(block.params, block.nodes, results)))
        more = needed | {i for i in range(n_carry) if block.params[i] in used}
        if more == needed:
            return sorted(needed)
        needed = more
