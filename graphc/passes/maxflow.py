"""Maximum flow and minimum cut by Dinic's algorithm, iterative, on integer capacities.

Small networks are cut in microseconds a vertex, which the libraries do not do: networkx takes some
ten times as long, and scipy's capacities are 32 bits.
"""

from __future__ import annotations


class Network:
    """A directed network with vertices 0 to n - 1; edge e and its reverse e ^ 1 are neighbours."""

    def __init__(self, n: int) -> None:
        self._edges_of: list[list[int]] = [[] for _ in range(n)]
        self._to: list[int] = []
        self._room: list[int] = []

    def connect(self, a: int, b: int, capacity: int) -> None:
        """Adds an edge from a to b."""
        self._edges_of[a].append(len(self._to))
        self._edges_of[b].append(len(self._to) + 1)
        self._to += (b, a)
        self._room += (capacity, 0)

    def source_side(self, source: int, sink: int) -> list[bool]:
        """For each vertex, whether it lies on the source's side of a minimum cut."""
        while True:
            level = self._levels(source, sink)
            if level[sink] < 0:
                return [distance >= 0 for distance in level]
            self._block(source, sink, level)

    def _levels(self, source: int, sink: int) -> list[int]:
        """Distances from the source along edges with room, as far as the sink; -1: not reached."""
        to, room, edges_of = self._to, self._room, self._edges_of
        level = [-1] * len(edges_of)
        level[source] = 0
        frontier = [source]
        while frontier and level[sink] < 0:
            following = []
            for at in frontier:
                distance = level[at] + 1
                for e in edges_of[at]:
                    if room[e] and level[to[e]] < 0:
                        level[to[e]] = distance
                        following.append(to[e])
            frontier = following
        return level

    def _block(self, source: int, sink: int, level: list[int]) -> None:
        """Fills shortest paths until each has a full edge: depth first, resuming at each vertex."""
        to, room, edges_of = self._to, self._room, self._edges_of
        at_edge = [0] * len(edges_of)
        path: list[int] = []
        at = source
        while True:
            if at == sink:
                flow = min([room[e] for e in path])
                for depth in range(len(path) - 1, -1, -1):
                    e = path[depth]
                    room[e] -= flow
                    room[e ^ 1] += flow
                    if not room[e]:
                        first_full = depth
                del path[first_full + 1 :]
                at = to[path.pop() ^ 1]
                continue
            edges, k, below = edges_of[at], at_edge[at], level[at] + 1
            while k < len(edges) and not (room[edges[k]] and level[to[edges[k]]] == below):
                k += 1
            at_edge[at] = k
            if k < len(edges):
                path.append(edges[k])
                at = to[edges[k]]
            elif path:
                at = to[path.pop() ^ 1]
                at_edge[at] += 1
            else:
                return
