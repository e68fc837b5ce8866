"""Values that are too dear to compute again at each place where they are read.

A stencil reads a value at several places, and what is pulled there is computed once a place. A
chain of stencils that is all pulled into one kernel is computed 4, 16, 64, ... times. Here those
values are found, from the inputs on, that are better kept in memory: each then counts as computed
once for those that follow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from graphc.ir.dims import product
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Pointwise

from .group import is_anchor
from .plan import bits
from .pull import MOVEMENT
from .sizes import Sizes

#: Ops computed again for each element, from which on keeping the value is cheaper.
MOST_REPEATED = 16
#: Ops of code for all places but the first.
MOST_CODE = 100
#: Movement that leaves an element where it is: reads through it share what is computed.
IN_PLACE = ("reshape", "expand", "detach")
#: Movement that costs a select.
GUARDED = ("pad", "concat")
#: Places of a value that are told apart; more are as good as this many.
MOST_PLACES = 64

Places = dict[Value | None, int]


def repeated_values(graph: Graph, sizes: Sizes, native: Collection[Node] = ()) -> set[Value]:
    """The values that should have memory of their own because they are read at several places.

    native: the nodes that have kernels of their own, whose results are in memory.
    """
    places = _places(graph, sizes)
    kept: set[Value] = set()
    if not any([len(found) > 1 and _is_pointwise(value) for value, found in places.items()]):
        return kept
    cone: dict[Value, int] = dict.fromkeys(graph.params, 0)  # nodes computed at a value's place
    moving = 0  # the nodes among them that read elsewhere, whose ops are in `moved`
    moved: dict[int, int] = {}

    def ops(nodes: int) -> int:
        elsewhere = sum([moved[number] for number in bits(nodes & moving)])
        return (nodes & ~moving).bit_count() + elsewhere

    for number, node in enumerate(graph.nodes):
        nodes = 0
        for value in node.inputs:
            nodes |= cone[value]
        if node in native or is_anchor(node) or not node.inputs:
            nodes = 0
        elif node.op.name in MOVEMENT:
            if node.op.name not in IN_PLACE and nodes:
                each = ops(nodes) if len(node.inputs) == 1 else sum(
                    [ops(cone[value]) for value in node.inputs]
                )  # fmt: skip
                moved[number] = each + (len(node.inputs) if node.op.name in GUARDED else 0)
                moving |= 1 << number
                nodes = 1 << number
        elif isinstance(node.op, Pointwise):
            nodes |= 1 << number
            value = node.outputs[0]
            found = places.get(value)
            if found and len(found) > 1 and _too_dear(value, ops(nodes), found, sizes):
                kept.add(value)
                nodes = 0
        else:
            nodes = 0
        cone.update(dict.fromkeys(node.outputs, nodes))
    return kept


def _is_pointwise(value: Value) -> bool:
    return value.node is not None and isinstance(value.node.op, Pointwise)


def _too_dear(value: Value, ops: int, places: Places, sizes: Sizes) -> bool:
    own = max(1, sizes.hint(product(value.type.shape)))
    again = sum(places.values()) / own - 1
    return again * ops > MOST_REPEATED or (len(places) - 1) * ops > MOST_CODE


def _places(graph: Graph, sizes: Sizes) -> dict[Value, Places]:
    """For values that something moves: where they are read, and how many elements each place takes.

    A place is the result of the last movement before something is computed, or None: where the
    value itself stands.
    """
    stand = set(graph.results)  # the values that are read where they stand
    moving: dict[Value, dict[Node, None]] = {}
    for node in graph.nodes:
        if node.op.name in MOVEMENT:
            for value in node.inputs:
                moving.setdefault(value, {})[node] = None
        else:
            stand.update(node.inputs)
    found: dict[Value, Places] = {}
    for node in reversed(graph.nodes):
        for value in node.outputs:
            if value not in moving:
                continue
            own = sizes.hint(product(value.type.shape))
            places: Places = {None: own} if value in stand else {}
            for reader in moving[value]:
                if len(places) < MOST_PLACES:
                    here = reader.op.name in IN_PLACE
                    result = reader.outputs[0]
                    for place, size in _places_of(result, found, sizes):
                        key = place if place is not None or here else result
                        places[key] = max(places.get(key, 0), min(own, size))
            found[value] = places
    return found


def _places_of(
    value: Value, found: dict[Value, Places], sizes: Sizes
) -> Iterable[tuple[Value | None, int]]:
    known = found.get(value)
    return ((None, sizes.hint(product(value.type.shape))),) if known is None else known.items()
