"""Rolls segments that repeat into `scan`: a Python loop that was recorded becomes one loop again.

Written as one word a node (op, attributes, blocks, operand types), a graph of equal segments is a
sequence with a period. The distances between equal words vote for periods, so that the search is
linear. A run of equal segments becomes a scan where its operands agree:

1. the value at the same place of the segment before is a carry;
2. the same value in every segment is a constant;
3. slices of one tensor whose starts advance evenly are rows;
4. other values from outside that differ are rows, stacked (a copy);
5. values of the inside that are read outside become stacked results.

Runs that save less than `LEAST_SAVED` nodes, hold effects, or whose operands do not agree stay.
Best before autodiff: afterwards both halves would have to be rolled.

A round of a scan goes through memory where a kernel over the whole run would keep its values in
registers: `most_moved` bounds the bytes that a round may carry, take as rows and leave as rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphc.ir.diff import structural_hash
from graphc.ir.graph import Graph, Node, has_effect
from graphc.ir.op import OPS

from .roll_body import Segments, bytes_moved, rebuild, stacked_outputs

LEAST_COUNT = 3
LEAST_SAVED = 32
_MOST_PERIODS = 8
_GRAM = 3  # words that vote together: fewer are alike
_MOST_PLACES = 16  # of one gram that vote

SLICE = OPS["slice"]


@dataclass(frozen=True)
class Run:
    """`count` segments of `period` nodes, from node `start`."""

    start: int
    period: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.period * self.count

    @property
    def saved(self) -> int:
        return self.period * (self.count - 1)


def roll(graph: Graph, least_saved: int = LEAST_SAVED, most_moved: int | None = None) -> Graph:
    """The graph with repeated segments as scans; itself where there are none. A loop of loops is
    rolled from the inside out."""
    while len(graph.nodes) > least_saved:
        ordered = hoist_constants(graph)
        for run in find_runs(ordered, least_saved=least_saved):
            segments = [
                ordered.nodes[run.start + k * run.period :][: run.period] for k in range(run.count)
            ]
            rolled = _roll_segments(ordered, run.start, segments, least_saved, most_moved)
            if rolled is not None and len(rolled.nodes) < len(ordered.nodes):
                graph = rolled  # (every round saves nodes, so there is a last one)
                break
        else:
            return graph
    return graph


def _roll_segments(
    graph: Graph,
    start: int,
    segments: Sequence[Sequence[Node]],
    least_saved: int,
    most_moved: int | None,
) -> Graph | None:
    """Where the first or the last segments do not agree, those between may."""
    for first, last in ((0, 0), (1, 0), (0, 1), (1, 1)):
        inner = segments[first : len(segments) - last]
        if len(inner) < LEAST_COUNT:
            return None
        wiring = Segments.of(inner)
        if wiring is not None:
            begin = start + first * len(segments[0])
            if most_moved is not None and not _pays(
                graph, begin, inner, wiring, least_saved, most_moved
            ):
                return None
            return rebuild(graph, begin, inner, wiring)
    return None


def _pays(
    graph: Graph,
    start: int,
    segments: Sequence[Sequence[Node]],
    wiring: Segments,
    least_saved: int,
    most_moved: int,
) -> bool:
    """Whether a scan is worth its way through memory: a symbolic size never is."""
    stacked = stacked_outputs(graph, start, segments, wiring)
    copies = 2 * len(segments) * (len(wiring.rows) + len(stacked))
    saved = len(segments[0]) * (len(segments) - 1) - copies
    size = bytes_moved(segments, wiring, stacked)
    return saved >= least_saved and isinstance(size, int) and size <= most_moved


def hoist_constants(graph: Graph) -> Graph:
    """Nodes without operands first: made where a loop first needs them, they would shift it."""
    constants = [node for node in graph.nodes if not node.inputs and not has_effect(node)]
    rest = [node for node in graph.nodes if node.inputs or has_effect(node)]
    return Graph(graph.params, constants + rest, graph.results)


def words(graph: Graph) -> list[int]:
    """One small number a node, equal where nodes may correspond. Slices may differ in where they
    begin; effects and constants equal nothing."""
    number: dict[tuple, int] = {}
    found = []
    for i, node in enumerate(graph.nodes):
        types = tuple([v.type for v in node.inputs])
        if not node.inputs or has_effect(node):
            key: tuple = ("alone", i)
        elif node.op is SLICE:
            key = (node.op, node.attrs["step"], types, node.outputs[0].type)
        else:
            blocks = tuple([structural_hash(block) for block in node.blocks])
            key = (node.op, node.attrs, blocks, types)
        found.append(number.setdefault(key, len(number)))
    return found


def find_runs(graph: Graph, least_count: int = LEAST_COUNT, least_saved: int = 1) -> list[Run]:
    """Runs that do not overlap, those that save most first; linear in the nodes."""
    text = np.array(words(graph), np.int64)
    runs = []
    for period in _candidate_periods(text, least_saved):
        equal = np.concatenate([[False], text[period:] == text[:-period], [False]])
        (edges,) = np.nonzero(equal[1:] != equal[:-1])
        for at, end in zip(edges[::2].tolist(), edges[1::2].tolist()):
            count = (end - at) // period + 1
            if count >= least_count and period * (count - 1) >= least_saved:
                runs.append(Run(at, period, count))
    return _without_overlap(runs)


def _candidate_periods(text: np.ndarray, least_saved: int) -> list[int]:
    """The most frequent distances between occurrences of the same few words in a row."""
    grams = np.zeros(max(0, len(text) - _GRAM + 1), np.int64)
    for k in range(_GRAM):  # one number for each few words, kept below the number of places
        pairs = grams * (text.max(initial=0) + 1) + text[k : k + len(grams)]
        grams = np.unique(pairs, return_inverse=True)[1].reshape(-1)
    order = np.argsort(grams, kind="stable")
    sorted_grams = grams[order]
    distances = [
        (order[lag:] - order[:-lag])[sorted_grams[lag:] == sorted_grams[:-lag]]
        for lag in range(1, min(_MOST_PLACES, len(order) - 1) + 1)
    ]
    if not distances:
        return []
    votes, counts = np.unique(np.concatenate(distances), return_counts=True)
    enough = counts >= least_saved // 4
    ranked = np.lexsort((votes[enough], -counts[enough]))
    return votes[enough][ranked][:_MOST_PERIODS].tolist()


def _without_overlap(runs: list[Run]) -> list[Run]:
    """Most nodes saved first; ties to the shortest period."""
    chosen: list[Run] = []
    for run in sorted(runs, key=lambda r: (-r.saved, r.period)):
        if all([run.end <= other.start or other.end <= run.start for other in chosen]):
            chosen.append(run)
    return chosen
