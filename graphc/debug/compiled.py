"""A compiled graph as pictures and reports need it: which group of the plan made which kernels."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from graphc.ir.dims import Facts
from graphc.ir.graph import Graph, Node, Value
from graphc.passes.fuse.group import Group
from graphc.passes.fuse.plan import Plan, Refusal, base_of
from graphc.passes.pipeline import Ran

from .picture import (
    Item,
    Link,
    Names,
    Picture,
    Port,
    input_item,
    node_item,
    result_item,
)


@dataclass(slots=True)
class KernelGroup:
    """A group of the plan, its nodes in the order of the graph, and the kernels made for it.

    reads: values that it takes from memory; writes: values that it leaves there. Most groups are
    one kernel; others pack weights for it or combine partial results. assembled: it has none, since
    other kernels write the parts of its results in place.
    """

    number: int
    group: Group
    nodes: list[Node]
    reads: list[Value]
    writes: list[Value]
    kernels: list[Any] = field(default_factory=list)  # KernelReport
    assembled: bool = False

    @property
    def name(self) -> str:
        return f"k{self.number}"

    @property
    def kind(self) -> str:
        from graphc.backends.llvm.assemble import PACKING

        if self.assembled:
            return "in place: no kernel"
        kinds = [kernel.kind for kernel in self.kernels if kernel.kind != PACKING]
        return kinds[0] if kinds else self.group.kind

    @property
    def tuned(self) -> Any:
        """What autotuning found, a `tune.Tuned`; None where there was no choice."""
        found = [kernel.tuned for kernel in self.kernels if kernel.tuned is not None]
        return found[0] if found else None

    @property
    def in_place(self) -> bool:
        """Whether the memory plan puts a result over an operand."""
        return any([kernel.in_place for kernel in self.kernels])

    @property
    def locs(self) -> list[str]:
        return list(dict.fromkeys([node.loc for node in self.nodes if node.loc]))


class Compiled:
    """A graph, compiled: what the compiler decided and made.

    source: as given; graph: as the kernels compute it (composites expanded, checks added); wall_s:
    from the source to the text; packed: how many values were computed from the weights ahead.
    `executable` loads the code when it is first asked for; it takes `params`.
    """

    def __init__(
        self,
        compiler: Any,
        source: Graph,
        wall_s: float,
        passes: Sequence[Ran] = (),
        packed: int = 0,
    ) -> None:
        self._compiler, self.wall_s, self.passes = compiler, wall_s, list(passes)
        self.packed = packed
        self.params: list[Value] = list(compiler.source.params)
        self.code_stats: Any = None  # of `executable`, a `jit.CompileStats`
        self.source: Graph = source
        self.graph: Graph = compiler.graph
        self.plan: Plan = compiler.plan
        self.groups = _groups(compiler)

    @property
    def kernels(self) -> list[Any]:
        return self._compiler.reports

    @property
    def count(self) -> int:
        """Groups that have kernels."""
        return len([group for group in self.groups if not group.assembled])

    @property
    def refusals(self) -> list[Refusal]:
        return self.plan.refusals

    @property
    def text(self) -> str:
        """The LLVM IR of all kernels and of the entry."""
        return self._compiler.text

    @property
    def stats(self) -> Any:
        return self._compiler.stats

    @property
    def target(self) -> Any:
        return self._compiler.target

    @cached_property
    def executable(self) -> Any:
        """The loaded code. CodegenError where this machine cannot run the target's."""
        from graphc.backends.llvm import jit
        from graphc.backends.llvm.compile import load

        began, before = time.perf_counter(), jit.stats.snapshot()
        made = load(self._compiler)
        self.wall_s += time.perf_counter() - began
        self.code_stats = jit.stats.since(before)
        return made

    def kernels_of(self) -> dict[Node, list[KernelGroup]]:
        """The groups that compute each node; a cheap node may be computed by several."""
        found: dict[Node, list[KernelGroup]] = {}
        for group in self.groups:
            for node in group.nodes:
                found.setdefault(node, []).append(group)
        return found


def compile_for_view(
    graph: Graph,
    *,
    target: str | None = None,
    name: str = "graph",
    dims: Mapping[str, Facts] | None = None,
    weights: Collection[str] = (),
) -> Compiled:
    """Compiles a graph as `backends.base.build` does, up to its text, for any target.

    weights: names of the parameters that are kept between calls; with them the result is what each
    call runs, as in `backends.base.build_split`. Raises UnsupportedError for what has no kernel.
    """
    from graphc.backends.base import core_graph
    from graphc.backends.llvm.compile import prepare
    from graphc.backends.llvm.layouts import choose_layouts
    from graphc.backends.llvm.settings import settings
    from graphc.backends.llvm.target import get_target
    from graphc.passes.hoist import hoist

    began, passes = time.perf_counter(), []  # type: tuple[float, list[Ran]]
    core, packed = core_graph(graph, dims=dims, report=passes), 0
    if weights:
        places = [k for k, param in enumerate(graph.params) if param.name in weights]
        core = choose_layouts(core, places, target=get_target(target), winograd=settings.winograd)
        halves = hoist(core, places)
        core, packed = halves.late, len(halves.early.results) if halves.early else 0
    compiler = prepare(core, target, name=name, dims=dims)
    return Compiled(compiler, graph, time.perf_counter() - began, passes, packed)


def _groups(compiler: Any) -> list[KernelGroup]:
    """The kernels stand in the order of the groups, each with the nodes of its group."""
    graph, plan, reports = compiler.graph, compiler.plan, compiler.reports
    place = {node: k for k, node in enumerate(graph.nodes)}
    found, at = [], 0
    for group in plan.groups:
        own = list(dict.fromkeys([*nodes_of(group), *compiler.fused_into(group)]))
        nodes = sorted([n for n in own if not _is_loaded(plan, group, n)], key=place.__getitem__)
        reads, writes = _reads(plan, group, nodes), group.members()
        made = KernelGroup(len(found), group, nodes, reads, writes)
        made.assembled = group in compiler.assembled.groups
        if group.node is not None:
            made.writes = [v for node in own for v in node.outputs if plan.owner.get(v) is group]
        while not made.assembled and at < len(reports) and set(reports[at].nodes) == set(own):
            made.kernels.append(reports[at])
            at += 1
            following = plan.groups[len(found) + 1 :][:1]
            if following and set(nodes_of(following[0])) == set(own):
                break
        found.append(made)
    needed = {value for group in found for value in group.reads}
    needed |= {in_memory(plan, value) for value in graph.results}
    for made in found:  # what no other kernel reads stays in registers
        made.writes = [value for value in made.writes if value in needed]
    return found


def nodes_of(group: Group) -> list[Node]:
    """The nodes whose values the group computes, or pulls on the way to them."""
    if group.node is not None:
        return [group.node]
    found = [value.node for value in (*group.members(), *group.pulled) if value.node is not None]
    return list(dict.fromkeys(found))


def _is_loaded(plan: Plan, group: Group, node: Node) -> bool:
    """Whether the group takes the node's value from memory."""
    return all(plan.is_buffer(value, group) for value in node.outputs)


def _reads(plan: Plan, group: Group, nodes: list[Node]) -> list[Value]:
    inside = set(nodes)
    found: dict[Value, None] = {}
    for node in nodes:
        for value in node.inputs:
            own = value.node in inside and group.node is not None
            if not own and (value.node not in inside or plan.is_buffer(value, group)):
                found[in_memory(plan, value)] = None
    return list(found)


def in_memory(plan: Plan, value: Value) -> Value:
    """The value that a group wrote, of which `value` may be a reshape."""
    return value if value in plan.owner else base_of(value)


# --- picture -------------------------------------------------------------------------------------


def kernels_picture(
    compiled: Compiled, title: str = "", weights: Collection[str] = (), fold: bool = True
) -> Picture:
    """The kernels of a compiled graph: each a box around the nodes that it computes."""
    picture = Picture(title)
    plan, graph = compiled.plan, compiled.graph
    names = Names(graph, weights, fold)
    names.note_weights()
    origin: dict[Value, tuple[Item, Port | None]] = {}
    for param in graph.params:
        if param not in names.formulas:
            item = input_item(param, names)
            picture.items.append(item)
            origin[param] = (item, None)
    for node in graph.nodes:
        if node.op.name == "const":
            names.note(node)
    for group in compiled.groups:
        _add_kernel(picture, group, plan, names, origin)
    for k, value in enumerate(compiled.source.results):
        made = graph.results[k]
        item = result_item(made, k, names)
        picture.items.append(item)
        stored = in_memory(plan, made)
        if stored in origin:
            source, port = origin[stored]
            picture.links.append(Link(source, item, made, port))
        item.type = value.type.text
    return picture.number()


def _add_kernel(
    picture: Picture,
    group: KernelGroup,
    plan: Plan,
    names: Names,
    origin: dict[Value, tuple[Item, Port | None]],
) -> None:
    from .family import INPUT

    box = Item(group.name, INPUT, group.kind, loc=" & ".join(group.locs))
    box.text = "kernels " + ", ".join([kernel.name for kernel in group.kernels])
    box.inside = inside = Picture()
    outer = dict(names.formulas)
    source: dict[Value, Item] = {}
    ports: dict[Value, Port] = {}
    for node in group.nodes:
        if names.is_constant(node) and node.outputs[0] not in group.writes:
            names.note(node)
            continue
        item = node_item(node, names)
        inside.items.append(item)
        for value in dict.fromkeys(node.inputs):
            if value in source and not plan.is_buffer(value, group.group):
                inside.links.append(Link(source[value], item, value))
                continue
            stored = in_memory(plan, value)
            if stored not in origin:
                continue
            port = ports.get(stored)
            if port is None:
                port = ports[stored] = Port(stored)
                maker, leaves = origin[stored]
                picture.links.append(Link(maker, box, stored, leaves, port))
            inside.entries.append((port, item))
        source.update(dict.fromkeys(node.outputs, item))
    names.formulas = outer
    for value in group.writes:
        if value in source:
            port = Port(value)
            inside.exits.append((source[value], port))
            origin[value] = (box, port)
    count = len(inside.items)
    box.detail = f"{count} op{'s' * (count != 1)}"
    picture.items.append(box)
