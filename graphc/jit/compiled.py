"""torch.compile: a function whose operations are computed together, as one graph.

Each call runs the Python of the function, recording; nothing is computed before its end, and a
call that records the same trace as an earlier one reuses its code. So control flow, attributes
and numbers are what they are at each call, and a recompile happens where a trace is new.
"""

from __future__ import annotations

import functools
import logging
import threading
import types
from typing import Any

from graphc.frontends.execute import BuildOptions, Entry
from graphc.frontends.locate import user_line
from graphc.frontends.record import (
    Cell,
    Recorder,
    State,
    Tape,
    pop_recorder,
    push_recorder,
    recorder,
)
from graphc.ir.errors import GraphcError

log = logging.getLogger("graphc.compile")
RECOMPILE_LIMIT = 8
_END = "the end of the call"


class RecompileLimitError(GraphcError, RuntimeError):
    """A compiled function met more different traces than its limit."""


class LookError(GraphcError, RuntimeError):
    """A compiled function with fullgraph=True looked at a value."""


class CompilingRecorder(Recorder):
    """Holds a whole call. A look computes what is there so far, and is counted as a graph break.

    One thread's; the traces are shared by all threads that call the function.
    """

    def __init__(self, owner: CompiledFunction) -> None:
        super().__init__(eager=False)
        self.root = self.state = owner.root
        self.owner, self.place = owner, _END
        self.on_look = self._look
        self.options = BuildOptions(owner.exact, owner.verify)

    def _look(self, cell: Cell) -> None:
        line = user_line()
        if self.owner.fullgraph:
            raise LookError(
                "a compiled function with fullgraph=True looks at a value", at=line,
                hint="Return the tensor and look at it outside, or use fullgraph=False.",
            )  # fmt: skip
        if line not in self.owner.breaks:
            self.owner.breaks.append(line)
            log.info("graph break: a value is looked at\n  %s", line)
        self.place = line
        try:
            self.flush()
        finally:
            self.place = _END

    def _entry(self, tape: Tape, state: State, live: tuple[int, ...]) -> Entry:
        before = self.compiled
        entry = super()._entry(tape, state, live)
        if self.compiled > before:
            self.owner.note(self.place, state)
        return entry


class CompiledFunction:
    """A compiled function; `breaks` lists the lines that split it into several graphs."""

    def __init__(self, function: Any, fullgraph: bool, limit: int, verify: Any, exact: bool):
        self.function, self.fullgraph, self.limit = function, fullgraph, limit
        self.verify, self.exact = verify, exact
        self.breaks: list[str] = []
        self.root = State(None, None)
        self.traces: dict[str, list[State]] = {}  # compiled traces, by the place that ended them
        self._threads = threading.local()
        functools.update_wrapper(self, getattr(function, "forward", function), updated=())

    @property
    def recorder(self) -> CompilingRecorder:
        """This thread's recorder."""
        found = getattr(self._threads, "recorder", None)
        if found is None:
            found = self._threads.recorder = CompilingRecorder(self)
        return found

    def note(self, place: str, state: State) -> None:
        """Remembers a trace that was compiled."""
        traces = self.traces.setdefault(place, [])
        traces.append(state)
        if len(traces) > 1:
            log.info("recompile of %s: %s", _name(self.function), difference(*traces[-2:])[0])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rec = self.recorder
        if recorder() is rec:  # a call of itself within itself
            return self.function(*args, **kwargs)
        push_recorder(rec)
        try:
            result = self.function(*args, **kwargs)
        finally:
            pop_recorder()
            rec.finish()
        for traces in self.traces.values():
            if len(traces) > self.limit:
                raise self._limit_reached(traces)
        return result

    def _limit_reached(self, traces: list[State]) -> RecompileLimitError:
        what, where = difference(*traces[-2:])
        return RecompileLimitError(
            f"{_name(self.function)} was compiled {len(traces)} times; its limit is {self.limit}",
            at=where,
            hint=f"The last time, {what}. Keep that the same, or raise recompile_limit.",
        )

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["function"], name)


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__name__


def difference(old: State, new: State) -> tuple[str, str]:
    """What is different in two traces, in words, and the source line of the first difference."""
    for before, now in zip(old.path(), new.path()):
        if before is now:
            continue
        if before.is_param and now.is_param:
            a, b = before.types[0].text, now.types[0].text
            if a == b:
                return "a tensor requires grad that did not, or the other way round", ""
            return f"a tensor was {b} instead of {a}", ""
        where = now.nodes[0].loc if now.nodes else ""
        a, b = _step(before), _step(now)
        if a == b:
            return f"{b} had other arguments", where
        return f"{b} came in the place of {a}", where
    longer, shorter = (new, old) if new.depth > old.depth else (old, new)
    if longer.depth > shorter.depth:
        step = longer.path()[shorter.depth]
        count = longer.depth - shorter.depth
        word = "more" if longer is new else "fewer"
        return f"there were {count} {word} operations, from {_step(step)} on", ""
    return "other results were kept", ""


def _step(state: State) -> str:
    if state.is_param:
        return f"a tensor {state.types[0].text}"
    key = state.key[0]
    return str(getattr(key, "name", key)).strip("_")


@functools.cache
def _module_class() -> type:
    """The class of compiled modules; nn is imported only where it is used."""
    from graphc.nn import Module

    class OptimizedModule(Module):
        """A compiled module: the same parameters and attributes, a compiled forward."""

        def __init__(self, compiled: CompiledFunction) -> None:
            super().__init__()
            self.__dict__["compiled"] = compiled
            self._orig_mod = compiled.function
            self.training = compiled.function.training

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.compiled(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            if name == "_orig_mod":
                return super().__getattr__(name)
            if name in ("breaks", "recorder", "traces"):
                return getattr(self.__dict__["compiled"], name)
            return getattr(self._orig_mod, name)

        def __setattr__(self, name: str, value: Any) -> None:
            if name in ("_orig_mod", "training") or "compiled" not in self.__dict__:
                super().__setattr__(name, value)
            else:
                setattr(self._orig_mod, name, value)

        def __delattr__(self, name: str) -> None:
            delattr(self._orig_mod, name)

    return OptimizedModule


def compile(
    model: Any = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: str = "graphc",
    mode: str | None = None,
    options: dict | None = None,
    disable: bool = False,
    recompile_limit: int | None = None,
    verify: str | None = None,
    exact: bool = True,
) -> Any:
    """A compiled version of a function or module; also a decorator. Of a module: a module.

    fullgraph        a look at a value within is an error
    recompile_limit  more compiles than this are an error (of each part, where looks split it)
    verify           "structure" or "numeric": every step of a compile is checked
    exact            the bits are those of eager mode; False allows algorithms that are faster and
                     round in other places: Winograd's, for convolutions and gradients of inputs
    """
    if model is None:
        return functools.partial(
            compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode,
            options=options, disable=disable, recompile_limit=recompile_limit, verify=verify,
            exact=exact,
        )  # fmt: skip
    if disable:
        return model
    if verify not in (None, "structure", "numeric"):
        raise ValueError(f'verify is None, "structure" or "numeric", not {verify!r}')
    limit = RECOMPILE_LIMIT if recompile_limit is None else recompile_limit
    compiled = CompiledFunction(model, fullgraph, limit, verify, exact)
    return _module_class()(compiled) if _is_module(model) else compiled


def _is_module(model: Any) -> bool:
    import sys

    nn = sys.modules.get("graphc.nn")  # without it there are no modules
    return nn is not None and isinstance(model, nn.Module)
