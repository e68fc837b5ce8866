"""The scan of a run of segments: where each operand comes from, the body, and the new graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from graphc.ir import ops
from graphc.ir.build import Builder
from graphc.ir.dims import AnyDim, product
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import OPS

SLICE = OPS["slice"]

Key = tuple[int, int]  # (node of the segment, output or operand of the node)


@dataclass
class SliceRows:
    """Slices of size 1 along `axis` of one tensor, beginning at `start` and advancing by `step`."""

    source: Value
    axis: int
    start: int
    step: int


@dataclass
class Segments:
    """Where the body of the scan finds what it reads.

    carries: (node, output) of the segment before -> value at entry. rows: operand -> its value in
    each segment. slices: place of a node that is a row of one tensor. wiring: operand -> source.
    """

    carries: dict[Key, Value] = field(default_factory=dict)
    consts: dict[Value, None] = field(default_factory=dict)
    rows: dict[Key, list[Value]] = field(default_factory=dict)
    slices: dict[int, SliceRows] = field(default_factory=dict)
    wiring: dict[Key, tuple[str, Any]] = field(default_factory=dict)

    @staticmethod
    def of(segments: Sequence[Sequence[Node]]) -> Segments | None:
        """None where the segments are not one body repeated."""
        found = Segments()
        place = {
            v: (k, i, v.index)
            for k, segment in enumerate(segments)
            for i, node in enumerate(segment)
            for v in node.outputs
        }
        for i in range(len(segments[0])):
            nodes = [segment[i] for segment in segments]
            if nodes[0].op is SLICE and any([n.attrs is not nodes[0].attrs for n in nodes]):
                rows = _slice_rows(nodes)
                if rows is None or rows.source in place:
                    return None
                found.slices[i] = rows
                continue
            for j in range(len(nodes[0].inputs)):
                if not found._connect((i, j), [n.inputs[j] for n in nodes], place):
                    return None
        return found

    def _connect(self, key: Key, values: list[Value], place: dict) -> bool:
        spots = [place.get(v) for v in values]
        if all([s is not None and s[0] == k for k, s in enumerate(spots)]):
            same = {s[1:] for s in spots if s is not None}
            self.wiring[key] = ("own", spots[0][1:] if spots[0] else None)
            return len(same) == 1
        later = spots[1:]
        if all([s is not None and s[0] == k for k, s in enumerate(later)]):
            same = {s[1:] for s in later if s is not None}
            source = same.pop()
            self.wiring[key] = ("carry", source)
            return not same and self.carries.setdefault(source, values[0]) is values[0]
        if all([v is values[0] for v in values]):
            self.consts[values[0]] = None
            self.wiring[key] = ("const", values[0])
            return spots[0] is None
        self.rows[key] = values
        self.wiring[key] = ("row", key)
        return not any(spots)


def _slice_rows(nodes: Sequence[Node]) -> SliceRows | None:
    """Slices of the same tensor that differ in where they begin along one axis, evenly."""
    source = nodes[0].inputs[0]
    starts = [node.attrs["start"] for node in nodes]
    stops = [node.attrs["stop"] for node in nodes]
    if any([node.inputs[0] is not source for node in nodes]):
        return None
    moving = [a for a in range(len(starts[0])) if len({s[a] for s in starts}) > 1]
    if len(moving) != 1 or any([s != 1 for s in nodes[0].attrs["step"]]):
        return None
    (axis,) = moving
    line = [s[axis] for s in starts]
    if not all([isinstance(a, int) for a in line]):
        return None
    step = line[1] - line[0]
    even = all([b - a == step for a, b in pairwise(line)])
    single = all([b[axis] - a[axis] == 1 for a, b in zip(starts, stops)])
    whole = all(
        [
            a[i] == 0 and b[i] == n
            for a, b in zip(starts, stops)
            for i, n in enumerate(source.type.shape)
            if i != axis
        ]
    )
    if not (even and single and whole and step):
        return None
    return SliceRows(source, axis, line[0], step)


def bytes_moved(
    segments: Sequence[Sequence[Node]], wiring: Segments, stacked: Sequence[Key]
) -> AnyDim:
    """What one round of the scan takes and leaves in memory, its constants apart."""
    values = [segments[0][i].outputs[k] for i, k in (*wiring.carries, *stacked)]
    values += [rows[0] for rows in wiring.rows.values()]
    values += [segments[0][i].outputs[0] for i in wiring.slices]
    total: AnyDim = 0
    for value in values:
        total = total + product(value.type.shape) * value.type.dtype.itemsize
    return total


def stacked_outputs(
    graph: Graph, start: int, segments: Sequence[Sequence[Node]], wiring: Segments
) -> list[Key]:
    """The outputs that are read outside, and so have to be stacked."""
    return _read_outside(segments, wiring, _readers_after(graph, start, segments))


def _readers_after(graph: Graph, start: int, segments: Sequence[Sequence[Node]]) -> set[Value]:
    """What is read after the segments."""
    end = start + len(segments) * len(segments[0])
    return {v for node in graph.nodes[end:] for v in node.inputs} | set(graph.results)


def rebuild(
    graph: Graph, start: int, segments: Sequence[Sequence[Node]], wiring: Segments
) -> Graph:
    """The graph with the segments, which begin at node `start`, as one scan."""
    end = start + len(segments) * len(segments[0])
    outside = _readers_after(graph, start, segments)
    stacked = _read_outside(segments, wiring, outside)
    body = _body(segments[0], wiring, stacked)
    with Builder(graph.params) as b:
        new: dict[Value, Value] = {p: p for p in graph.params}
        _copy(b, graph.nodes[:start], new)
        b.loc = segments[0][0].loc
        xs = [_stack([new[v] for v in values]) for values in wiring.rows.values()]
        xs += [_rows_of(new[s.source], s, len(segments)) for s in wiring.slices.values()]
        init = [new[v] for v in wiring.carries.values()]
        made = ops.scan(body, init, xs, [new[v] for v in wiring.consts], len(segments))
        for (i, k), value in zip(wiring.carries, made):
            new[segments[-1][i].outputs[k]] = value
        for (i, k), rows in zip(stacked, made[len(init) :]):
            for number, segment in enumerate(segments):
                value = segment[i].outputs[k]
                if value in outside and value not in new:
                    new[value] = _row(rows, number)
        _copy(b, graph.nodes[end:], new)
        return b.graph([new[v] for v in graph.results])


def _copy(b: Builder, nodes: Sequence[Node], new: dict[Value, Value]) -> None:
    for node in nodes:
        b.loc = node.loc
        inputs = tuple([new[v] for v in node.inputs])
        made = b.emit(node.op, inputs, node.attrs, node.blocks, node)
        new.update(zip(node.outputs, made))


def _read_outside(
    segments: Sequence[Sequence[Node]], wiring: Segments, outside: set[Value]
) -> list[Key]:
    """The outputs that must be stacked: read outside, and not only as the last carry."""
    found: dict[Key, None] = {}
    for number, segment in enumerate(segments):
        for i, node in enumerate(segment):
            for k, value in enumerate(node.outputs):
                last_carry = number == len(segments) - 1 and (i, k) in wiring.carries
                if value in outside and not last_carry:
                    found[i, k] = None
    return list(found)


def _body(segment: Sequence[Node], wiring: Segments, stacked: list[Key]) -> Graph:
    with Builder() as b:
        known: dict[tuple, Value] = {}
        for (i, k), value in wiring.carries.items():
            known["carry", (i, k)] = b.param(value.type)
        for key, values in wiring.rows.items():
            known["row", key] = b.param(values[0].type)
        for i, rows in wiring.slices.items():
            shape = rows.source.type.shape
            reduced = shape[: rows.axis] + shape[rows.axis + 1 :]
            known["slice", i] = b.param(rows.source.type.with_shape(reduced))
        for value in wiring.consts:
            known["const", value] = b.param(value.type)
        for i, node in enumerate(segment):
            b.loc = node.loc
            made: Sequence[Value]
            if i in wiring.slices:
                made = [ops.reshape(known["slice", i], shape=node.outputs[0].type.shape)]
            else:
                inputs = [known[wiring.wiring[i, j]] for j in range(len(node.inputs))]
                made = b.emit(node.op, tuple(inputs), node.attrs, node.blocks)
            known.update({("own", (i, k)): v for k, v in enumerate(made)})
        return b.graph([known["own", key] for key in (*wiring.carries, *stacked)])


def _rows_of(source: Value, rows: SliceRows, count: int) -> Value:
    """The rows of a tensor in the order of the steps, their axis in front."""
    shape, axis = source.type.shape, rows.axis
    last = rows.start + (count - 1) * rows.step
    low, high = min(rows.start, last), max(rows.start, last) + 1
    rank = len(shape)
    part = ops.slice_(
        source,
        start=tuple([low if i == axis else 0 for i in range(rank)]),
        stop=tuple([high if i == axis else n for i, n in enumerate(shape)]),
        step=tuple([abs(rows.step) if i == axis else 1 for i in range(rank)]),
    )
    if rows.step < 0:
        part = ops.flip(part, axes=(axis,))
    if axis == 0:
        return part
    return ops.permute(part, perm=(axis, *[i for i in range(rank) if i != axis]))


def _stack(values: Sequence[Value]) -> Value:
    rows = [ops.reshape(v, shape=(1, *v.type.shape)) for v in values]
    return ops.concat(*rows, axis=0)


def _row(rows: Value, number: int) -> Value:
    n, *shape = rows.type.shape
    part = ops.slice_(
        rows,
        start=(number, *[0] * len(shape)),
        stop=(number + 1, *shape),
        step=(1,) * (len(shape) + 1),
    )
    return ops.reshape(part, shape=tuple(shape))
