"""torch.compile: a function whose operations are computed together, as one graph.

Each call runs the Python of the function, recording; nothing is computed before its end, and a
call that records the same trace as an earlier one reuses its code. So control flow, attributes
and numbers are what they are at each call, and a recompile happens where a trace is new.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from graphc.frontends.execute import BuildOptions
from graphc.frontends.locate import user_line
from graphc.frontends.record import Cell, Recorder, pop_recorder, push_recorder
from graphc.ir.errors import GraphcError

log = logging.getLogger("graphc.compile")
RECOMPILE_LIMIT = 8


class RecompileLimitError(GraphcError, RuntimeError):
    """A compiled function met more different traces than its limit."""


class LookError(GraphcError, RuntimeError):
    """A compiled function with fullgraph=True looked at a value."""


class CompilingRecorder(Recorder):
    """Holds a whole call. A look computes what is there so far, and is counted as a graph break."""

    def __init__(self, owner: CompiledFunction) -> None:
        super().__init__(eager=False)
        self.owner = owner
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
        self.flush()


class CompiledFunction:
    """A compiled function or module; `breaks` lists the lines that split it."""

    def __init__(self, function: Any, fullgraph: bool, limit: int, verify: Any, exact: bool):
        self.function, self.fullgraph, self.limit = function, fullgraph, limit
        self.verify, self.exact = verify, exact
        self.recorder = CompilingRecorder(self)
        self.breaks: list[str] = []
        functools.update_wrapper(self, getattr(function, "forward", function), updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rec = self.recorder
        push_recorder(rec)
        try:
            result = self.function(*args, **kwargs)
        finally:
            pop_recorder()
            rec.finish()
        if rec.compiled > self.limit:
            raise RecompileLimitError(
                f"{self.function!r:.60} was compiled {rec.compiled} times; its limit is "
                f"{self.limit}",
                hint="Its traces differ from call to call: see graphc explain, or raise "
                "recompile_limit.",
            )
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["function"], name)


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
    """A compiled version of a function or module; also a decorator.

    fullgraph        a look at a value within is an error
    recompile_limit  more compiles than this are an error
    verify           "structure" or "numeric": every step of a compile is checked
    exact            the bits are those of eager mode
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
    return CompiledFunction(model, fullgraph, limit, verify, exact)
