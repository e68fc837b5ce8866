"""Fusion: one pass in topological order over anchors and roots decides who shares a kernel.

A newcomer joins a group when that makes no cycle, when the domains fit, and when the trial pull
of the newcomer succeeds: the pull itself is the test of legality. Every refusal is kept with its
reason. What turns out to need memory (`Plan.wanted`), or to be dear and read by several kernels,
becomes a root, and fusion runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from graphc.ir.dims import product
from graphc.ir.graph import Graph, Node, Value
from graphc.ir.op import Pointwise

from .affine import NotFused, SplitVariable
from .candidates import Candidates
from .domain import Domain, merge_dims
from .expr import Expr
from .group import (
    COLUMNS,
    MAP,
    NATIVE,
    REDUCTIONS,
    ROWS,
    SCAN,
    SCATTER,
    SCATTERS,
    Group,
    check_lane_axis,
    check_stages_apart,
    is_anchor,
    reduced_axes,
    reduced_operand,
)
from .plan import Plan, base_of
from .pull import MOVEMENT, Pull, is_zero
from .repeated import repeated_values
from .shared import is_dear, shared_values
from .sizes import Sizes
from .unread import drop_unread

#: Values that are computed inside one kernel: more make code generation slow.
MAX_INLINE = 100
#: Rounds of making dear shared values roots.
MAX_ROUNDS = 8
#: The domain of groups that have a kernel of their own; nothing splits it.
_NO_LOOPS = Domain([], ())


def fuse(
    graph: Graph,
    sizes: Sizes | None = None,
    operands: Mapping[Node, list[Value]] | None = None,
    apart: bool = False,
    needed: Mapping[Node, Collection[Value]] | None = None,
    lanes: int = 16,
) -> Plan:
    """Partitions the graph into groups that each become one kernel.

    operands: the nodes that have kernels of their own, and which values each needs in memory.
    apart: every anchor and root in a kernel of its own (for tests: bits must not depend on
    fusion). needed: the flags that have to be looked at before a node may run; flags have kernels
    of their own. lanes: elements of f32 in a vector of the target.
    """
    sizes = sizes or Sizes()
    operands = operands or {}
    kept = repeated_values(graph, sizes, operands)
    certain = _certain_roots(graph, operands)
    forced = certain | kept
    shared = shared_values(graph, operands, forced)
    for round_ in range(MAX_ROUNDS + len(graph.nodes)):
        fuser = Fuser(graph, sizes, operands, forced, shared, apart, needed or {}, lanes)
        fuser.plan.kept = kept
        plan = fuser.run()
        forced = fuser.roots
        if plan.wanted:
            assert plan.wanted - forced, "a buffer was asked for that is one already"
            forced |= plan.wanted
            continue
        dear = shared_dear_values(plan) if round_ < MAX_ROUNDS else set()
        if not dear - forced:
            drop_unread(plan, certain)
            plan.groups = plan.in_order()
            return plan
        forced |= dear
    raise AssertionError("fusion did not come to an end")


def shared_dear_values(plan: Plan) -> set[Value]:
    """Inline values that several kernels pull and that are cheaper to keep than to compute.

    Dear in arithmetic, or in memory: r kernels that read k buffers each, instead of one that
    writes the value and r that read it. Of a chain that several kernels pull, the last value is
    enough: what stands above it is then pulled by the kernel that computes it.
    """
    pulled: dict[Value, int] = {}  # the kernels that pull a value, as bits
    for group in plan.groups:
        for value in group.pulled:
            if value not in plan.owner:
                pulled[value] = pulled.get(value, 0) | 1 << group.number
    if not any([groups & (groups - 1) for groups in pulled.values()]):
        return set()
    found: set[Value] = set()
    readers: dict[Value, int] = {}  # the kernels that still pull it where what is found is kept
    for node in reversed(plan.graph.nodes):
        for value in node.outputs:
            owner = plan.owner.get(value)
            if owner is not None:
                here = 1 << owner.number
            else:
                here = readers.get(value, 0) & pulled.get(value, 0)
                if here & (here - 1) and _is_worth_keeping(plan, value, here.bit_count()):
                    found.add(value)
                    here &= -here
            for operand in node.inputs:
                readers[operand] = readers.get(operand, 0) | here
    return found


def _is_worth_keeping(plan: Plan, value: Value, readers: int) -> bool:
    return (
        value.node is not None
        and isinstance(value.node.op, Pointwise)
        and (is_dear(value) or _reads_much(plan, value, readers))
    )


def _reads_much(plan: Plan, value: Value, readers: int) -> bool:
    streams = plan.streams(value)
    return streams > 1 and readers * streams > readers + 2


def _certain_roots(graph: Graph, operands: Mapping[Node, list[Value]]) -> set[Value]:
    """Results, operands of native kernels, and what is read or written at computed places."""
    roots = {base_of(value) for value in graph.results}
    for node in graph.nodes:
        name = node.op.name
        if node in operands:
            roots.update(operands[node])
        elif name == "gather" or name == "dynamic_slice":
            roots.add(base_of(node.inputs[0]))
        elif name in SCATTERS and not is_zero(node.inputs[0]):
            roots.add(base_of(node.inputs[0]))
    return {value for value in roots if value.node is not None}


class Fuser:
    """One round of fusion.

    roots: the values that must be in memory; those of `shared` that are read by several kernels
    and are cheaper to keep are added to them on the way.
    """

    def __init__(
        self,
        graph: Graph,
        sizes: Sizes,
        operands: Mapping[Node, list[Value]],
        roots: set[Value],
        shared: Collection[Value],
        apart: bool,
        needed: Mapping[Node, Collection[Value]],
        lanes: int = 16,
    ) -> None:
        self.graph, self.sizes, self.operands, self.apart = graph, sizes, operands, apart
        self.needed, self.lanes = needed, lanes
        self.flags = {flag for flags in needed.values() for flag in flags}
        self.plan = Plan(graph, sizes)
        self.pull = Pull(self.plan)
        self.roots, self.shared = set(roots), shared
        # Of each value, as bits: the groups reached through inline values, the buffers of the
        # graph reached, the nodes computed inline above it.
        self.reached: dict[Value, tuple[int, int, int]] = {}
        self.candidates = Candidates(self.plan, sizes)

    def run(self) -> Plan:
        for number, param in enumerate(self.graph.params):
            self.reached[param] = (0, 1 << number, 0)
        self.next_leaf = len(self.graph.params)
        for number, node in enumerate(self.graph.nodes):
            self._visit(node, number)
        if not self.plan.wanted:
            for group in self.plan.groups:
                if group.kind != NATIVE:
                    group.build(self.pull)
        return self.plan

    def _visit(self, node: Node, number: int) -> None:
        sources = leaves = inline = 0
        for value in node.inputs:
            groups, buffers, nodes = self.reached[value]
            sources |= groups
            leaves |= buffers
            inline |= nodes
        for flag in self.needed.get(node, ()):
            sources |= self.reached[flag][0]
        name = node.op.name
        inline |= 1 << number
        if name == "const":
            sources, leaves, inline = 0, 1 << self.next_leaf, 0
            self.next_leaf += 1
        elif node in self.operands:
            self._open_native(node, sources, leaves)
            return
        elif is_anchor(node) or node.outputs[0] in self.roots:
            self._place(node, node.outputs[0], sources, leaves)
            return
        elif inline.bit_count() > MAX_INLINE and name not in MOVEMENT:
            self._place(node, node.outputs[0], sources, leaves)
            return
        for value in node.outputs:
            self.reached[value] = (sources, leaves, inline)
        value = node.outputs[0]
        if value in self.shared and (is_dear(value) or self.plan.streams(value) > 1):
            self.roots.add(value)
            self._place(node, value, sources, leaves)

    # --- anchors and roots into groups -------------------------------------------------------

    def _place(self, node: Node, value: Value, sources: int, leaves: int) -> None:
        """Puts an anchor or root into a group that takes it, else into one of its own."""
        alone = self.apart or value in self.flags
        group = None if alone else self._join(node, value, sources, leaves)
        if group is None:
            group = self._open(node, value)
            group.is_check = value in self.flags
        self._own(value, group, sources, leaves)

    def _own(self, value: Value, group: Group, sources: int, leaves: int) -> None:
        self.plan.owner[value] = group
        self.plan.add_dependencies(group, sources)
        group.leaves |= leaves
        # A root is a leaf of its own: groups that read it are siblings of each other.
        self.reached[value] = (1 << group.number, leaves, 0)

    def _join(self, node: Node, value: Value, sources: int, leaves: int) -> Group | None:
        refused: dict[str, None] = {}
        for group, reason, attempt in self.candidates.of(node, value, sources, leaves):
            if attempt is not None:
                failed = self._try(group, value, attempt)
                if failed is None:
                    return group
                reason = failed
            if sources >> group.number & 1:
                refused[reason] = None
        for reason in refused:
            self.plan.refuse(node, reason, value)
        return None

    def _new_group(self, kind: str, domain: Domain) -> Group:
        group = Group(len(self.plan.groups), kind, domain, self.sizes, self.lanes)
        self.plan.groups.append(group)
        self.plan.closure.append(0)
        return group

    def _open(self, node: Node, value: Value) -> Group:
        """A new group for an anchor or root."""
        name = node.op.name
        if name in REDUCTIONS and is_anchor(node):
            sizes, reduced = merge_dims(node.inputs[0].type.shape, reduced_axes(node))
            group = self._new_group(
                ROWS if len(sizes) - 1 in reduced else COLUMNS, Domain(sizes, reduced)
            )
            group.reductions.append((value, "row"))
        elif name == "cumulative":
            sizes, reduced = merge_dims(value.type.shape, (node.attrs["axis"],))
            group = self._new_group(SCAN, Domain(sizes, reduced))
            group.reductions.append((value, "scan"))
        elif name in SCATTERS:
            update = reduced_operand(value).type.shape
            group = self._new_group(SCATTER, Domain(update, range(len(update))))
            group.reductions.append((value, "scatter"))
        else:
            sizes, _ = merge_dims([product(value.type.shape)], ())
            group = self._new_group(MAP, Domain(sizes, ()))
            group.outputs.append((value, "full"))
        self.plan.owner[value] = group
        try:
            group.build(self.pull)
            check_lane_axis(group, lambda: self._members(group))
        except NotFused as refused:
            if "lane axis" in str(refused):
                self.plan.wanted.add(base_of(reduced_operand(value)))
            elif not self.plan.wanted:
                raise
        return group

    def _open_native(self, node: Node, sources: int, leaves: int) -> None:
        group = self._new_group(NATIVE, _NO_LOOPS)
        group.node, group.operands = node, self.operands[node]
        group.outputs = [(value, "native") for value in node.outputs]
        needed = 0
        for value in self.operands[node]:
            needed |= self.reached[value][0]
        for value in node.outputs:
            self._own(value, group, needed | sources, leaves)

    def _try(self, group: Group, value: Value, change: Callable[[], None]) -> str | None:
        """Lets `change` put the value into the group; None, or why the pull refused it."""
        before = (list(group.reductions), list(group.outputs), group.kind, group.domain)
        pieces, mark = [list(p) for p in group.domain.pieces], group.mark()
        change()
        self.plan.owner[value] = group
        try:
            if group.domain is before[3] and group.kind == before[2]:
                self._pull_newcomer(group, value)
            else:
                group.clear()
                group.build(self.pull)
                for reduction in group.code.reductions:
                    check_stages_apart(group, True, reduction.how, reduction.expr)
            self._check(group, value)
            return None
        except NotFused as refused:
            del self.plan.owner[value]
            same = group.domain is before[3] and group.domain.pieces == pieces
            group.reductions, group.outputs, group.kind, group.domain = before
            if same:
                group.rewind(mark)
            else:
                group.domain.set_pieces(pieces)
                group.clear()
            return str(refused)

    def _pull_newcomer(self, group: Group, value: Value) -> None:
        """Pulls the new member only; everything again where it needs a variable split."""
        try:
            self._expression(group, value)
        except SplitVariable as wanted:
            group.domain.split(wanted.variable, wanted.inner)
            group.clear()
            group.build(self.pull)

    def _expression(self, group: Group, value: Value) -> Expr:
        for member, level in group.outputs:
            if member is value:
                index = group.index_at(group.place_of(level), value.type.shape)
                return self.pull(group, value, index, ())
        return group.pull_reduced(self.pull, value)

    def _check(self, group: Group, value: Value) -> None:
        """What the pull does not see: rows that read nothing, long rows, lanes that split."""
        for member, level in group.outputs:
            expr = self._expression(group, member)
            if level == "row" and not expr.reads:
                raise NotFused("a row's value that reads no row result")
            if member is value or group.kind == ROWS:
                check_stages_apart(group, False, level, expr)
        for member, how in group.reductions:
            if member is value:
                check_stages_apart(group, True, how, self._expression(group, member))
        check_lane_axis(group, lambda: self._members(group))

    def _members(self, group: Group) -> dict[Value, Expr]:
        """What the reductions and the outputs of a group compute."""
        return {member: self._expression(group, member) for member in group.members()}
