"""Concatenations that no kernel makes: each part is written where it belongs in the whole.

Where the parts lie one after the other in the memory of the whole, and each is a buffer of its own
that a kernel of this graph writes, that kernel can write into the whole. The kernel that would copy
them is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass, field

from graphc.ir.dims import product
from graphc.ir.graph import Value

from .fuse.group import MAP, Group
from .fuse.plan import Plan, base_of
from .memory import ALIGNMENT


@dataclass(slots=True)
class Assembled:
    """
    groups  the groups that need no kernel
    within  of each part, the buffer that it is a part of, and its first byte there
    parts   of each of those buffers, all of it
    """

    groups: set[Group] = field(default_factory=set)
    within: dict[Hashable, tuple[Value, int]] = field(default_factory=dict)
    parts: dict[Hashable, list[Value]] = field(default_factory=dict)

    def whole(self, buffer: Hashable) -> Hashable:
        """The buffer in whose memory this one lies: itself, if it is no part."""
        return self.within[buffer][0] if buffer in self.within else buffer


#: Where every buffer has memory of its own.
NOTHING = Assembled()


def find_assembled(plan: Plan, results: Collection[Value]) -> Assembled:
    """The groups that only concatenate what others write. results: have memory of their own."""
    found = Assembled()
    for group in plan.groups:
        parts = sum([len(value.node.inputs) for value in group.members() if value.node])
        places = dict(_places(plan, group))
        if not places or len(places) != parts:
            continue
        taken = (results, found.within, found.parts)
        if any([part in some for part in places for some in taken]):
            continue
        found.groups.add(group)
        for part, place in places.items():
            found.within[part] = place
            found.parts.setdefault(place[0], []).append(part)
    return found


def _places(plan: Plan, group: Group) -> Iterator[tuple[Value, tuple[Value, int]]]:
    """The parts of a group's members that may be written in place; all of them, or fewer."""
    if group.kind != MAP or group.reductions or group.is_check:
        return
    for whole in group.members():
        node = whole.node
        if node is None or node.op.name != "concat":
            return
        if product(whole.type.shape[: node.attrs["axis"]]) != 1:
            return
        offset = 0
        for value in node.inputs:
            part = base_of(value)
            size = product(part.type.shape) * part.type.dtype.itemsize
            if not isinstance(size, int) or size == 0 or offset % ALIGNMENT:
                return
            if plan.owner.get(part, group) is group:
                return
            yield part, (whole, offset)
            offset += size
