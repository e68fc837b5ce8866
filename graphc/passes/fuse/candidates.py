"""Which groups a newcomer may join, and how: the rules of domains, without the pull."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphc.ir.dims import product
from graphc.ir.dtype import BOOL
from graphc.ir.graph import Node, Value

from .domain import Domain, merge_dims
from .group import COLUMNS, MAP, REDUCTIONS, ROWS, SCATTERS, Group, is_anchor, reduced_axes
from .plan import Plan, bits
from .sizes import Sizes

Change = Callable[[], None]

#: A kernel of more expressions than this takes no newcomers.
MAX_EXPRESSIONS = 400
#: Column sums stay in cache beside a row program up to this many elements.
MAX_COLUMNS = 65536
#: How many of the last groups are looked at for siblings that read the same buffers.
SIBLINGS = 12


class Candidates:
    """For a newcomer: the groups to try, latest first, each with a reason or a way to join."""

    def __init__(self, plan: Plan, sizes: Sizes) -> None:
        self.plan, self.sizes = plan, sizes

    def of(
        self, node: Node, value: Value, sources: int, leaves: int
    ) -> Iterator[tuple[Group, str, Change | None]]:
        name = node.op.name
        if name == "cumulative" or name in SCATTERS:
            return
        for group in self._nearby(sources, leaves):
            if group.is_check:
                yield group, "a check runs before what it guards", None
            elif group.kind not in (MAP, ROWS, COLUMNS):
                yield group, f"the result of a {group.kind} kernel", None
            elif len(group.table) > MAX_EXPRESSIONS:
                yield group, "the kernel is full", None
            elif self._cycle(group, sources):
                yield group, "would make a cycle", None
            elif name in REDUCTIONS and is_anchor(node):
                change = self._join_reduction(group, node, value, sources)
                yield group, "another domain", change
            else:
                yield group, "another domain", self._join_root(group, value, sources)

    def _nearby(self, sources: int, leaves: int) -> list[Group]:
        groups = self.plan.groups
        near = [groups[n] for n in reversed(bits(sources))]
        siblings = [
            group
            for group in groups[-SIBLINGS:]
            if group.leaves & leaves and not sources >> group.number & 1
        ]
        return near + siblings

    def _cycle(self, group: Group, sources: int) -> bool:
        closure = self.plan.closure
        return any([closure[n] >> group.number & 1 for n in bits(sources) if n != group.number])

    def _join_root(self, group: Group, value: Value, sources: int) -> Change | None:
        size = product(value.type.shape)
        if size == group.domain.size:
            return lambda: group.outputs.append((value, "full"))
        is_source = sources >> group.number & 1
        if group.kind != MAP and size == group.domain.kept_size and is_source:
            return lambda: group.outputs.append((value, "row"))
        return None

    def _join_reduction(
        self, group: Group, node: Node, value: Value, sources: int
    ) -> Change | None:
        domain = group.domain
        dims, reduced = merge_dims(node.inputs[0].type.shape, reduced_axes(node))
        last_reduced = len(dims) - 1 in reduced
        if group.kind == MAP:
            if domain.size != product(dims):
                return None

            def become_reduction() -> None:
                group.domain = Domain(dims, reduced)
                group.kind = ROWS if last_reduced else COLUMNS
                group.reductions.append((value, "row"))

            return become_reduction
        if domain.sizes != dims:
            return None
        if domain.reduced == reduced:
            return lambda: group.reductions.append((value, "row"))
        if domain.reduced != frozenset(range(len(dims))) - reduced:
            return None
        if group.kind == COLUMNS and last_reduced:
            return self._columns_into_rows(group, value, dims, reduced, sources)
        if group.kind == ROWS and self._is_column_sum(value):
            if self.sizes.hint(domain.reduced_size) <= MAX_COLUMNS:
                return lambda: group.reductions.append((value, "column"))
        return None

    def _is_column_sum(self, value: Value) -> bool:
        assert value.node is not None
        return value.node.op.name == "reduce_sum" and value.type.dtype is not BOOL

    def _columns_into_rows(
        self, group: Group, value: Value, dims: list, reduced: frozenset, sources: int
    ) -> Change | None:
        """Bare column sums that nothing inside reads become a part of a row program."""
        wanted = Domain(dims, reduced)
        bare = (
            not group.outputs
            and all([self._is_column_sum(member) for member, _ in group.reductions])
            and not any([expr.op == "reduced" for expr in group.table])
            and not sources >> group.number & 1
        )
        if not bare or self.sizes.hint(wanted.reduced_size) > MAX_COLUMNS:
            return None

        def become_rows() -> None:
            group.domain, group.kind = wanted, ROWS
            group.reductions = [(member, "column") for member, _ in group.reductions]
            group.reductions.append((value, "row"))

        return become_rows
