"""The result of fusion: which group owns what, in which order groups run, what was not fused."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from graphc.ir.dims import AnyDim, product
from graphc.ir.graph import Graph, Node, Value

from .group import Group
from .sizes import Sizes


@dataclass(frozen=True, slots=True)
class Refusal:
    """An edge that goes through memory: from the kernels `group` to `node`, and why.

    `size` is how many bytes are written and read again because of it.
    """

    node: Node
    reason: str
    size: AnyDim

    def __str__(self) -> str:
        where = f"  # {self.node.loc}" if self.node.loc else ""
        return f"{self.node.op.name}: {self.reason} ({self.size} bytes){where}"


@dataclass(slots=True)
class Plan:
    """Groups in an order in which each follows what it needs.

    `owner` maps each anchor and root to its group; `wanted` collects, during fusion, the values
    that have to be buffers after all. `kept` are too dear to be computed again (`repeated`): their
    own kernels read them only where they compute them.
    """

    graph: Graph
    sizes: Sizes
    groups: list[Group] = field(default_factory=list)
    owner: dict[Value, Group] = field(default_factory=dict)
    wanted: set[Value] = field(default_factory=set)
    refusals: list[Refusal] = field(default_factory=list)
    closure: list[int] = field(default_factory=list)
    kept: Collection[Value] = ()

    def is_buffer(self, value: Value, group: Group) -> bool:
        """Whether the value is in memory when `group` runs."""
        owner = self.owner.get(value)
        if owner is not None:
            return owner is not group
        return value.node is None or value.node.op.name == "const"

    def in_memory(self, value: Value) -> bool:
        """Whether the value is a member of a kernel, a parameter or a constant."""
        return value in self.owner or value.node is None or value.node.op.name == "const"

    def streams(self, value: Value) -> int:
        """How many buffers of its own size an inline value is computed from."""
        least = self.sizes.hint(product(value.type.shape)) // 2
        seen = {value}
        stack = [value]
        found = 0
        while stack:
            node = stack.pop().node
            assert node is not None
            for operand in node.inputs:
                if operand in seen:
                    continue
                seen.add(operand)
                if not self.in_memory(operand):
                    stack.append(operand)
                elif self.sizes.hint(product(operand.type.shape)) > least:
                    found += 1
        return found

    def want(self, value: Value) -> None:
        """Asks for the value to be a root; a member of a group is in memory after its kernel."""
        if value not in self.owner:
            self.wanted.add(value)

    def refuse(self, node: Node, reason: str, value: Value) -> None:
        size = product(value.type.shape) * value.type.dtype.itemsize
        self.refusals.append(Refusal(node, reason, size))

    def depends(self, group: Group, on: Group) -> bool:
        return bool(self.closure[group.number] >> on.number & 1)

    def add_dependencies(self, group: Group, needed: int) -> None:
        """`group` has to run after the groups in the bit set `needed`."""
        needed &= ~(1 << group.number)
        if not needed & ~group.after:
            return
        group.after |= needed
        reached = needed
        for number in bits(needed):
            reached |= self.closure[number]
        if not reached & ~self.closure[group.number]:
            return
        self.closure[group.number] |= reached
        if group.number == len(self.groups) - 1:  # nothing depends on the newest yet
            return
        bit = 1 << group.number
        for number, known in enumerate(self.closure):
            if known & bit:
                self.closure[number] = known | reached

    def in_order(self) -> list[Group]:
        """The groups, each after what it needs: checks first, else in the order of the program."""
        done = 0
        order: list[Group] = []
        numbered = {group.number: group for group in self.groups}
        stack = sorted(self.groups, key=lambda group: (not group.is_check, group.number))[::-1]
        while stack:
            group = stack[-1]
            missing = group.after & ~done
            if done >> group.number & 1:
                stack.pop()
            elif missing:
                stack.extend([numbered[n] for n in sorted(bits(missing), reverse=True)])
            else:
                done |= 1 << group.number
                order.append(group)
                stack.pop()
        return order


def bits(mask: int) -> list[int]:
    """The positions of the bits that are set, ascending."""
    found = []
    while mask:
        lowest = mask & -mask
        found.append(lowest.bit_length() - 1)
        mask ^= lowest
    return found


def base_of(value: Value) -> Value:
    """The value whose memory a chain of reshapes shows."""
    while value.node is not None and value.node.op.name == "reshape":
        value = value.node.inputs[0]
    return value
