"""Layered drawing of directed graphs (Sugiyama): layers, order within layers, coordinates.

Layers come from longest paths, then boxes move towards the side where they have more edges. A
long edge gets a point in each layer that it passes; edges that leave the same place share their
points, so that a value with many readers is one trunk. The order within layers minimises
crossings by sweeps of medians. Coordinates are the least-squares fit to the neighbours, found for
one layer at a time by isotonic regression, which keeps the gaps exactly.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]

SWEEPS = 12
FIT_SWEEPS = 24
#: How strongly a pair of neighbours pulls: an edge of two boxes, box and point, two points.
PULL = (1.0, 2.0, 8.0)


@dataclass(frozen=True, slots=True)
class Edge:
    """From the lower side of `source` to the upper side of `target`.

    source_at, target_at: where on that side, as an offset from the middle.
    """

    source: Hashable
    target: Hashable
    source_at: float = 0.0
    target_at: float = 0.0


@dataclass(slots=True)
class Layout:
    """Middles of the boxes, and for each edge, in the order given, its points from top to bottom.

    Points come in pairs: an edge is straight within a layer and bends between layers.
    """

    middle: dict[Hashable, Point] = field(default_factory=dict)
    routes: list[list[Point]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0
    crossings: int = 0


@dataclass(eq=False, slots=True)
class _Cell:
    """A box, or a point of a long edge (`key` None), in its layer."""

    key: Hashable
    width: float
    height: float
    layer: int
    ups: list[tuple[_Cell, float, float]] = field(default_factory=list)
    downs: list[tuple[_Cell, float, float]] = field(default_factory=list)
    place: int = 0
    x: float = 0.0

    def link(self, below: _Cell, mine: float, its: float) -> None:
        self.downs.append((below, mine, its))
        below.ups.append((self, its, mine))


def layered(
    boxes: Mapping[Hashable, tuple[float, float]],
    edges: Sequence[Edge],
    *,
    gap_x: float = 18.0,
    gap_y: float = 30.0,
    top: Collection[Hashable] = (),
    bottom: Collection[Hashable] = (),
) -> Layout:
    """Places boxes, given as key -> (width, height), so that edges run downwards.

    top, bottom: keys that stand in a layer of their own above and below all others. Raises
    networkx.NetworkXUnfeasible where the edges have a cycle.
    """
    if not boxes:
        return Layout()
    layers = assign_layers(list(boxes), edges, top, bottom)
    cells = {key: _Cell(key, *boxes[key], layers[key]) for key in boxes}
    rows: list[list[_Cell]] = [[] for _ in range(max(layers.values()) + 1)]
    for cell in cells.values():
        rows[cell.layer].append(cell)
    paths = _link(cells, edges, rows)
    crossings = _order(rows)
    _fit(rows, gap_x)
    return _read(cells, rows, edges, paths, gap_y, crossings)


# --- layers --------------------------------------------------------------------------------------


def assign_layers(
    keys: Sequence[Hashable],
    edges: Sequence[Edge],
    top: Collection[Hashable] = (),
    bottom: Collection[Hashable] = (),
) -> dict[Hashable, int]:
    """The layer of each box, counted from the top, none empty."""
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(keys)
    graph.add_edges_from((edge.source, edge.target) for edge in edges)
    layer: dict[Hashable, int] = {}
    order = list(networkx.topological_sort(graph))
    for key in order:
        layer[key] = max([layer[above] + 1 for above in graph.pred[key]], default=0)
    _shorten(order, graph, layer)
    top, bottom = set(top), set(bottom)
    low, high = min(layer.values()), max(layer.values())
    layer.update(dict.fromkeys(top, low - 1))
    layer.update(dict.fromkeys(bottom, high + 1))
    used = {number: k for k, number in enumerate(sorted(set(layer.values())))}
    return {key: used[layer[key]] for key in keys}


def _shorten(order: list, graph, layer: dict[Hashable, int]) -> None:
    """Moves boxes within their slack to where they have more edges, until nothing moves."""
    for _ in range(8):
        moved = False
        for key in reversed(order):
            ups, downs = graph.pred[key], graph.succ[key]
            if len(downs) > len(ups):
                wanted = min(layer[below] for below in downs) - 1
            elif len(ups) > len(downs):
                wanted = max(layer[above] for above in ups) + 1
            else:
                continue
            if wanted != layer[key]:
                layer[key], moved = wanted, True
        if not moved:
            return


def _link(
    cells: Mapping[Hashable, _Cell], edges: Sequence[Edge], rows: list[list[_Cell]]
) -> list[list[_Cell]]:
    """Links neighbours in layers; returns each edge's cells from source to target."""
    trunk: dict[tuple, _Cell] = {}
    linked: set[tuple[_Cell, _Cell, float, float]] = set()
    paths = []
    for edge in edges:
        above, target = cells[edge.source], cells[edge.target]
        path, leave = [above], edge.source_at
        for number in range(above.layer + 1, target.layer):
            where = (edge.source, edge.source_at, number)
            point = trunk.get(where)
            if point is None:
                point = trunk[where] = _Cell(None, 4.0, 0.0, number)
                rows[number].append(point)
                path[-1].link(point, leave, 0.0)
            path.append(point)
            leave = 0.0
        last = (path[-1], target, leave, edge.target_at)
        if last not in linked:
            linked.add(last)
            path[-1].link(target, leave, edge.target_at)
        path.append(target)
        paths.append(path)
    return paths


# --- order ---------------------------------------------------------------------------------------


def _order(rows: list[list[_Cell]]) -> int:
    """Sorts each layer so that few edges cross; returns how many do."""
    _first_order(rows)
    best, fewest = [list(row) for row in rows], _all_crossings(rows)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            _sort_by_neighbours(row, down)
        _swap_neighbours(rows)
        count = _all_crossings(rows)
        if count < fewest:
            best, fewest = [list(row) for row in rows], count
    for row, chosen in zip(rows, best):
        row[:] = chosen
        _number(row)
    return fewest


def _first_order(rows: list[list[_Cell]]) -> None:
    """By depth first search from the top, which puts what belongs together side by side."""
    seen: dict[_Cell, int] = {}
    stack = [cell for row in reversed(rows) for cell in reversed(row) if not cell.ups]
    while stack:
        cell = stack.pop()
        if cell in seen:
            continue
        seen[cell] = len(seen)
        stack.extend([below for below, _, _ in reversed(cell.downs)])
    for row in rows:
        row.sort(key=lambda cell: seen[cell])
        _number(row)


def _number(row: list[_Cell]) -> None:
    for place, cell in enumerate(row):
        cell.place = place


def _sort_by_neighbours(row: list[_Cell], down: bool) -> None:
    def wanted(cell: _Cell) -> float:
        near = cell.ups if down else cell.downs
        if not near:
            return float(cell.place)
        places = sorted(_spot(other, its) for other, _, its in near)
        half = len(places) // 2
        return places[half] if len(places) % 2 else (places[half - 1] + places[half]) / 2

    row.sort(key=wanted)
    _number(row)


def _spot(cell: _Cell, at: float) -> float:
    """A place in the layer, with a fraction for where on the box an edge ends."""
    return cell.place + at / (cell.width + 1.0)


def _crossings(row: list[_Cell]) -> int:
    """How many edges cross between this layer and the one below."""
    ends = sorted(
        (_spot(cell, mine), _spot(below, its)) for cell in row for below, mine, its in cell.downs
    )
    passed: list[float] = []
    count = 0
    for _, end in ends:
        count += len(passed) - bisect_right(passed, end)
        insort(passed, end)
    return count


def _all_crossings(rows: list[list[_Cell]]) -> int:
    return sum([_crossings(row) for row in rows])


def _swap_neighbours(rows: list[list[_Cell]]) -> None:
    """Exchanges two that stand side by side where that saves a crossing."""
    for row in rows:
        for k in range(len(row) - 1):
            left, right = row[k], row[k + 1]
            now = _pair_crossings(left.ups, right.ups) + _pair_crossings(left.downs, right.downs)
            then = _pair_crossings(right.ups, left.ups) + _pair_crossings(right.downs, left.downs)
            if then < now:
                row[k], row[k + 1] = right, left
                left.place, right.place = k + 1, k


def _pair_crossings(left: list, right: list) -> int:
    if len(left) * len(right) > 400:  # the sweeps alone serve such a hub
        return 0
    spots = [_spot(cell, its) for cell, _, its in right]
    return sum([_spot(cell, its) > spot for cell, _, its in left for spot in spots])


# --- coordinates ---------------------------------------------------------------------------------


def _fit(rows: list[list[_Cell]], gap: float) -> None:
    """Least squares for each layer in turn, down and up, with the gaps kept."""
    for row in rows:
        x = 0.0
        for cell in row:
            cell.x = x + cell.width / 2
            x += cell.width + gap
    for sweep in range(FIT_SWEEPS):
        last = sweep >= FIT_SWEEPS - 4
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted, weights = [], []
            for cell in row:
                near = cell.ups if sweep % 2 == 0 else cell.downs
                near = cell.ups + cell.downs if last else near
                near = near or cell.ups or cell.downs
                total = sum([_pull(cell, other) for other, _, _ in near])
                sums = [_pull(cell, other) * (other.x + its - mine) for other, mine, its in near]
                wanted.append(sum(sums) / total if near else cell.x)
                weights.append(total if near else 0.1)
            _place(row, wanted, weights, gap)
    _straighten(rows, gap)


def _straighten(rows: list[list[_Cell]], gap: float) -> None:
    """Puts the points of a long edge below each other, as far as their neighbours leave room."""
    for row in rows:
        for first in row:
            if first.key is not None or first.ups[0][0].key is None:
                continue
            chain = [first]
            while following := [below for below, _, _ in chain[-1].downs if below.key is None]:
                chain += following
            while chain:
                chain = chain[_straighten_run(chain, rows, gap) :]


def _straighten_run(chain: list[_Cell], rows: list[list[_Cell]], gap: float) -> int:
    """Straightens the longest possible beginning of a chain; returns how many points it has."""
    low, high, count = float("-inf"), float("inf"), 0
    for cell in chain:
        row, place = rows[cell.layer], cell.place
        left = row[place - 1] if place else None
        right = row[place + 1] if place + 1 < len(row) else None
        lowest, highest = low, high
        if left is not None:
            lowest = max(low, left.x + (left.width + cell.width) / 2 + _between(left, cell, gap))
        if right is not None:
            room = (right.width + cell.width) / 2 + _between(cell, right, gap)
            highest = min(high, right.x - room)
        if lowest > highest + 1e-6 and count:
            break
        low, high, count = lowest, max(lowest, highest), count + 1
    run = chain[:count]
    x = sorted(cell.x for cell in run)[count // 2]
    for cell in run:
        cell.x = min(max(x, low), high)
    return count


def _between(left: _Cell, right: _Cell, gap: float) -> float:
    return gap / 2 if left.key is None and right.key is None else gap


def _pull(a: _Cell, b: _Cell) -> float:
    return PULL[(a.key is None) + (b.key is None)]


def _place(row: list[_Cell], wanted: list[float], weights: list[float], gap: float) -> None:
    """The nearest positions to the wanted ones with at least `gap` between boxes."""
    shift, shifts = 0.0, []
    for k, cell in enumerate(row):
        if k:
            shift += (row[k - 1].width + cell.width) / 2 + _between(row[k - 1], cell, gap)
        shifts.append(shift)
    blocks: list[list[float]] = []  # weighted sum, weight, members
    for goal, weight, moved in zip(wanted, weights, shifts):
        blocks.append([(goal - moved) * weight, weight, 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] > blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last)]
    k = 0
    for total, weight, members in blocks:
        for _ in range(int(members)):
            row[k].x = total / weight + shifts[k]
            k += 1


def _read(
    cells: Mapping[Hashable, _Cell],
    rows: list[list[_Cell]],
    edges: Sequence[Edge],
    paths: list[list[_Cell]],
    gap: float,
    crossings: int,
) -> Layout:
    left = min(cell.x - cell.width / 2 for row in rows for cell in row)
    right = max(cell.x + cell.width / 2 for row in rows for cell in row)
    tops, heights, y = [], [], 0.0
    for row in rows:
        height = max(cell.height for cell in row)
        tops.append(y)
        heights.append(height)
        y += height + gap + _room_for_bends(row)
    made = Layout(width=right - left, crossings=crossings)
    made.height = tops[-1] + heights[-1]
    for key, cell in cells.items():
        made.middle[key] = (cell.x - left, tops[cell.layer] + heights[cell.layer] / 2)
    for edge, path in zip(edges, paths):
        points = []
        for k, cell in enumerate(path):
            x, upper, lower = (
                cell.x - left,
                tops[cell.layer],
                tops[cell.layer] + heights[cell.layer],
            )
            middle = (upper + lower) / 2
            if k == 0:
                x += edge.source_at
                upper = middle + cell.height / 2
            elif cell.key is not None:
                x += edge.target_at
                lower = middle - cell.height / 2
            points += [(x, upper), (x, lower)]
        made.routes.append(points)
    return made


def _room_for_bends(row: list[_Cell]) -> float:
    """Layers with wide curves between them stand further apart."""
    spans = [abs(cell.x + mine - below.x - its) for cell in row for below, mine, its in cell.downs]
    return min(max(spans, default=0.0) / 12, 36.0)
