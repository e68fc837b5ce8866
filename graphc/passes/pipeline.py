"""Passes as data, pipelines of them, and the check that names the pass that broke something.

A pass is a frozen dataclass: its fields are its options, `run` is a function from graph to graph,
and `error` says how far it may move a result:

    exact      not by a bit (any nan equals any other)
    ulp:n      by n units in the last place of each step
    reorder    by another order of additions

`Pipeline(verify="structure")` verifies the graph and its stage after every pass, "numeric" also
runs the reference interpreter before and after, and names the first pass, node and source line
that changed a result beyond its class.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from graphc.ir.dims import Facts
from graphc.ir.errors import VerifyError
from graphc.ir.graph import Graph, Node
from graphc.ir.verify import verify

from .clean import clean, default_table, final_table
from .expand import Claims, expand_composites
from .lift import lift
from .numeric import Moved, Tolerance, first_move, sample_inputs
from .picks import sink_picks
from .roll import LEAST_SAVED, roll


class Stage(IntEnum):
    """What may stand in a graph. Each stage is reached from the one before it."""

    TENSOR = 0  # all ops, composites too
    CORE = 1  # no composite but those that a backend claims, nothing left to differentiate
    FUSED = 2  # kernels over groups of nodes: no graph of tensors any more
    LOOP = 3  # loops over buffers, with ordered effects


@dataclass
class Context:
    """What passes may know beside the graph, and what they leave behind.

    claimed: composites that a backend runs as they are; claims says of a node of these whether it
    does (None: of all). dims: facts of symbolic dims. samples:
    arrays for numeric verification (made up where None).
    """

    claimed: frozenset[str] = frozenset()
    claims: Claims | None = None
    dims: Mapping[str, Facts] = field(default_factory=dict)
    samples: Sequence[Any] | None = None
    report: list[Ran] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Ran:
    """One pass of a run: nodes before and after, and milliseconds."""

    name: str
    before: int
    after: int
    ms: float


@dataclass(frozen=True)
class Pass:
    """Base of all passes. Subclasses are frozen dataclasses whose fields are their options."""

    name: ClassVar[str]
    error: ClassVar[str] = "exact"
    takes: ClassVar[Stage] = Stage.CORE  # the last stage that it accepts
    gives: ClassVar[Stage | None] = None  # the stage that it leads to; None: stays

    def run(self, graph: Graph, context: Context) -> Graph:
        raise NotImplementedError(f"the pass {type(self).__name__} has no run")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Clean(Pass):
    """Folds, simplifies, merges equal nodes, drops dead ones. `final`: `detach` goes as well."""

    final: bool = False
    name: ClassVar[str] = "clean"

    def run(self, graph: Graph, context: Context) -> Graph:
        return clean(graph, final_table() if self.final else default_table())


@dataclass(frozen=True)
class Expand(Pass):
    """Replaces the composites that neither the backend nor `keep` claims by their definitions.

    Picks are the last of them: see `sink_picks`.
    """

    keep: tuple[str, ...] = ()
    name: ClassVar[str] = "expand"
    takes: ClassVar[Stage] = Stage.TENSOR
    gives: ClassVar[Stage | None] = Stage.CORE

    def run(self, graph: Graph, context: Context) -> Graph:
        claimed, claims = context.claimed, context.claims

        def keeps(node: Node) -> bool:
            name = node.op.name
            return name in self.keep or (name in claimed and (claims is None or claims(node)))

        plain = expand_composites(graph, lambda node: node.op.name == "pick" or keeps(node))
        return expand_composites(sink_picks(plain), keeps)


@dataclass(frozen=True)
class Lift(Pass):
    """Takes the products out of scans that a step does not need from the one before."""

    name: ClassVar[str] = "lift"
    error: ClassVar[str] = "reorder"

    def run(self, graph: Graph, context: Context) -> Graph:
        return lift(graph)


@dataclass(frozen=True)
class Roll(Pass):
    """Makes scans of segments that repeat; best before derivatives are taken.

    least_saved: nodes. most_moved: bytes that a round may take from memory and leave there.
    """

    least_saved: int = LEAST_SAVED
    most_moved: int | None = None
    name: ClassVar[str] = "roll"

    def run(self, graph: Graph, context: Context) -> Graph:
        return roll(graph, self.least_saved, self.most_moved)


def function_pass(
    name: str, function: Callable[[Graph], Graph], error: str = "exact", takes: Stage = Stage.CORE
) -> Pass:
    """A pass without options, from a function of graphs."""
    body = {
        "name": name,
        "error": error,
        "takes": takes,
        "run": lambda self, graph, context: function(graph),
        "__doc__": function.__doc__,
    }
    made: type[Pass] = type(name, (Pass,), body)
    return dataclass(frozen=True)(made)()


@dataclass(frozen=True)
class Pipeline:
    """Passes in order; `verify` is None, "structure" or "numeric"."""

    passes: tuple[Pass, ...]
    verify: str | None = None

    def __post_init__(self) -> None:
        if self.verify not in (None, "structure", "numeric"):
            raise ValueError(f'verify is None, "structure" or "numeric", not {self.verify!r}')
        for each in self.passes:
            Tolerance.of(each.error)

    def __add__(self, other: Pipeline) -> Pipeline:
        return Pipeline(self.passes + other.passes, self.verify or other.verify)

    def run(self, graph: Graph, context: Context | None = None) -> Graph:
        """The graph after all passes. VerifyError names the pass that broke a rule."""
        context = Context() if context is None else context
        stage = Stage.TENSOR
        if self.verify:
            check_stage(graph, stage, context.claimed, "the input")
        arrays = self._samples(graph, context)
        done: dict[Pass, Graph] = {}  # passes are idempotent: what one made it leaves as it is
        for number, each in enumerate(self.passes):
            if done.get(each) is graph:
                continue
            if not isinstance(graph, Graph) or stage > each.takes:
                raise VerifyError(
                    f"the pass {each} takes {each.takes.name} graphs, not {stage.name}"
                )
            start = time.perf_counter()
            made = each.run(graph, context)
            ms = (time.perf_counter() - start) * 1e3
            context.report.append(Ran(each.name, len(graph.nodes), len(made.nodes), ms))
            stage = stage if each.gives is None else each.gives
            if self.verify:
                self._check(graph, made, number, stage, arrays, context)
            graph = done[each] = made
        return graph

    def _samples(self, graph: Graph, context: Context) -> Any:
        if self.verify != "numeric":
            return None
        return sample_inputs(graph, context.dims, context.samples)

    def _check(
        self, graph: Graph, made: Graph, number: int, stage: Stage, arrays: Any, context: Context
    ) -> None:
        each = self.passes[number]
        before = ", ".join(map(str, self.passes[:number])) or "none"
        try:
            check_stage(made, stage, context.claimed, f"after {each}")
        except VerifyError as error:
            error.hint = f"Passes that ran before {each}: {before}."
            raise
        if arrays is None:
            return
        if [p.type for p in made.params] != [p.type for p in graph.params]:
            raise VerifyError(f"the pass {each} changed the parameters of the graph")
        found = first_move(graph, made, arrays, Tolerance.of(each.error))
        if isinstance(found, str):
            context.notes.append(f"{each}: numeric verification did not run: {found}")
        elif found is not None:
            raise _changed(each, found, before)


def _changed(each: Pass, moved: Moved, before: str) -> VerifyError:
    return VerifyError(
        f"the pass {each} ({each.error}) changed result {moved.result}: "
        f"{moved.was} became {moved.became}\nfirst at {moved.node}",
        at=moved.loc,
        hint=f"Passes that ran before {each}: {before}.",
    )


def check_stage(graph: Any, stage: Stage, claimed: Iterable[str], where: str) -> None:
    """VerifyError where the graph breaks a rule of the IR, or holds what its stage forbids."""
    if not isinstance(graph, Graph):
        raise VerifyError(f"{where}: a {type(graph).__name__} is no graph of tensors")
    try:
        verify(graph)
    except VerifyError as error:
        error.message = f"{where}: {error.message}"
        raise
    if stage >= Stage.CORE:
        _refuse_composites(graph, frozenset(claimed), where)


def _refuse_composites(graph: Graph, claimed: frozenset[str], where: str) -> None:
    for node in graph.nodes:
        if node.op.composite and node.op.name not in claimed:
            raise VerifyError(
                f"{where}: the composite {node.op.name} stands in a CORE graph", at=node.loc
            )
        for block in node.blocks:
            _refuse_composites(block, claimed, where)


#: A loop is worth a scan from this many nodes saved (each costs some 100 us to compile) ...
ROLL_SAVED = 256
#: ... where a round leaves no more than fits into the first cache.
ROLL_MOVED = 16 << 10


def default_pipeline(verify: str | None = None, keep: Sequence[str] = ()) -> Pipeline:
    """From a TENSOR graph, all of whose derivatives are taken, to a clean CORE graph in which
    loops are scans: what a backend compiles."""
    final = Clean(final=True)
    passes = (
        final, Expand(keep=tuple(keep)), final, Lift(), final, Roll(ROLL_SAVED, ROLL_MOVED),
    )  # fmt: skip
    return Pipeline(passes, verify)
