"""Kernels of the loop level as text, for people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.ir.graph import Value

from ..fuse.expr import Expr, show_expr, show_form
from .ir import (
    Accumulate,
    Clear,
    ColumnAdd,
    CopyBuffer,
    Flush,
    Fold,
    Kernel,
    Lanes,
    Loop,
    Partial,
    Reduce,
    Result,
    Resume,
    RowTiles,
    SaveRegisters,
    ScanStep,
    Scatter,
    ShortReduce,
    ShortStore,
    Stage,
    Statement,
    Store,
    StoreRegisters,
    TileLoad,
)

Names = Callable[[Any], str]


def show_kernel(kernel: Kernel) -> str:
    """The kernel's loops and statements, one a line."""
    names = _namer()
    head = f"kernel {kernel.name} {kernel.kind}"
    if kernel.units != 1:
        head += f" ({kernel.units} units of {kernel.unit})"
    if kernel.scratch != 0:
        head += f" scratch {kernel.scratch}"
    lines = [head]
    _show(kernel.body, names, "  ", lines)
    return "\n".join(lines)


def _namer() -> Names:
    """Names of buffers: a value's own, else the op that made it with a number."""
    given: dict[Any, str] = {}
    used: set[str] = set()

    def name(buffer: Any) -> str:
        found = given.get(buffer)
        if found is None:
            stem = buffer.name or _made_by(buffer)
            found = stem if stem not in used and buffer.name else f"{stem}{len(given)}"
            used.add(found)
            given[buffer] = found
        return found

    return name


def _made_by(buffer: Value | Partial) -> str:
    node = buffer.node if isinstance(buffer, Value) else None
    return node.op.name if node else "b"


def _show(body: list[Statement], names: Names, indent: str, lines: list[str]) -> None:
    for statement in body:
        lines.append(indent + _line(statement, names))
        if isinstance(statement, (Loop, Lanes, Reduce, Stage)):
            _show(statement.body, names, indent + "  ", lines)


def _line(s: Statement, names: Names) -> str:
    def expr(e: Expr) -> str:
        return show_expr(e, names)

    if isinstance(s, (Loop, Lanes)):
        return _loop_line(s)
    if isinstance(s, Stage):
        return f"stage {s.number}:"
    if isinstance(s, Reduce):
        made = [f"{names(a.value)} by {a.op} in {a.registers or 'all'}" for a in s.accumulators]
        return f"reduce {', '.join(made)}:"
    if isinstance(s, Accumulate):
        return f"{names(s.accumulator.value)} <- {expr(s.expr)}"
    if isinstance(s, Fold):
        return f"fold {names(s.source.value)}"
    if isinstance(s, Flush):
        return f"fold {names(s.source.value)} where {show_form(s.place)} % {s.block} == 0"
    if isinstance(s, Result):
        where = f" to [{show_form(s.place)}]" if s.stored else ""
        return f"result {names(s.accumulator.value)}{where}"
    if isinstance(s, Store):
        how = ", streamed" * s.streamed
        return f"{names(s.value)}[{show_form(s.place)}] = {expr(s.expr)}{how}"
    if isinstance(s, ColumnAdd):
        line = f"block of {show_form(s.row)}: " if s.row is not None else ""
        return f"{line}{names(s.into)}[{show_form(s.place)}] += {expr(s.expr)}"
    return _rare_line(s, names, expr)


def _loop_line(s: Loop | Lanes) -> str:
    word = "lanes" if isinstance(s, Lanes) else "for"
    step = f" x {s.unroll}" if isinstance(s, Lanes) else f" step {s.step}" if s.step != 1 else ""
    marks = " parallel" * s.parallel
    return f"{word} i{s.variable} in {s.low}..{s.high}{step}{marks}:".replace("i-", "j")


def _part(s: Clear | CopyBuffer) -> str:
    return f" from {show_form(s.place)} on: {s.size}" if s.place.terms else ""


def _rare_line(s: Statement, names: Names, expr: Callable[[Expr], str]) -> str:
    if isinstance(s, ScanStep):
        name = names(s.accumulator.value)
        return f"{name}[{show_form(s.place)}] = running {expr(s.expr)}"
    if isinstance(s, StoreRegisters):
        return f"{names(s.accumulator.value)}[{show_form(s.place)}] = its registers"
    if isinstance(s, SaveRegisters):
        return f"{names(s.partial)}[line i{s.block} / {s.step}] = registers".replace("i-", "j")
    if isinstance(s, Resume):
        line = f"{names(s.partial)}[line i{s.block} / {s.step}]"
        start = f"identity where i{s.row} == i{s.block}"
        return f"registers = {line}, {start}".replace("i-", "j")
    if isinstance(s, Clear):
        return f"clear {names(s.buffer)}{_part(s)}"
    if isinstance(s, CopyBuffer):
        return f"copy {names(s.source)} to {names(s.into)}{_part(s)}"
    if isinstance(s, ShortReduce):
        a = s.accumulator
        return f"{names(a.value)} = {a.op} of {expr(s.expr)} along the row"
    if isinstance(s, ShortStore):
        return f"{names(s.value)}[{show_form(s.place)}] = {expr(s.expr)} along the row"
    if isinstance(s, (TileLoad, RowTiles)):
        how = " to rows of scratch"
        if isinstance(s, TileLoad):
            how = f", fetched i{s.ahead[0]} + {s.ahead[1]}" if s.ahead else ""
        return f"tiles of {', '.join([expr(e) for e in s.loads])} along i{s.step}{how}"
    assert isinstance(s, Scatter)
    rows = " + ".join([f"{k}*{expr(e)}" for k, e in zip(s.strides, s.indices)])
    return f"{names(s.value)}[{rows} + {show_form(s.place)}] {s.op} {expr(s.expr)}"
