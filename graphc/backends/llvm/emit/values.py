"""Expressions as text: each value once in the scope of the innermost loop it depends on."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.llvm.vmath.emitter import EXPANSIONS, Vec, memory_element
from graphc.backends.llvm.vmath.lanes import LLVM_TYPES
from graphc.ir.dtype import BOOL, I64
from graphc.passes.fuse.affine import Affine
from graphc.passes.fuse.expr import Expr, in_steps
from graphc.passes.loop.ir import Accumulator

from .access import (
    address,
    guard_mask,
    index_vector,
    lane_dependent,
    load,
    load_vector,
    scope_depth,
    undecided,
)
from .combine import place_dtype
from .printer import Printer, Register


def value(p: Printer, expr: Expr, u: int, beside: Sequence[int] = ()) -> Vec:
    """The register that holds the expression for vector u of the present step.

    beside: other vectors of the step, for which it is computed as well, op by op.
    """
    todo = [expr]
    while True:  # not recursion: a kernel may hold a chain of hundreds
        last = todo[-1]
        found = _known(p, last, u)
        if found is None:
            missing = [arg for arg in _needed(p, last, u) if _known(p, arg, u) is None]
            if missing:
                todo += in_steps(missing)[::-1]
                continue
            found = _printed(p, last, u)
            for other in beside:
                if _known(p, last, other) is None:
                    _printed(p, last, other)
        todo.pop()
        if not todo:
            return found


def _printed(p: Printer, expr: Expr, u: int) -> Vec:
    depth, key = _place(p, expr, u)
    with p.at(depth):
        found = _kept_or_computed(p, expr, u)
    p.scopes[depth].cache[key] = found
    return found


def _place(p: Printer, expr: Expr, u: int) -> tuple[int, tuple]:
    """The scope of an expression, and its key there."""
    return scope_depth(p, expr), (expr, u if lane_dependent(p, expr) else None)


def _known(p: Printer, expr: Expr, u: int) -> Vec | None:
    """The register of an expression that is there, or costs nothing."""
    if expr.op == "constant":
        return p.vec.const(expr.payload, expr.dtype)
    if expr.op == "reduced":
        registers = p.results[expr.payload]
        return registers[u if len(registers) > 1 else 0]
    if expr.op == "size":
        return Vec(p.size_vector(expr.payload, expr.dtype), expr.dtype)
    depth, key = _place(p, expr, u)
    return p.scopes[depth].cache.get(key)


def _needed(p: Printer, expr: Expr, u: int) -> Sequence[Expr]:
    """The arguments that computing an expression reads."""
    kept = p.kernel.kept.get(expr)
    if expr in p.tiles or (kept is not None and p.stage > kept.stage):
        return ()
    if expr.op == "select" and expr.args[0].op == "guard":
        left = undecided(p, expr.args[0].payload)
        if not left:
            return (expr.args[2 if left is None else 1],)
    return expr.args


def operand(p: Printer, accumulator: Accumulator, expr: Expr, u: int) -> Register:
    """What an accumulator takes in: the expression in its dtype, with its place where wanted."""
    vec = value(p, expr, u)
    if vec.dtype is not accumulator.dtype:
        vec = p.vec.emit("cast", [vec], accumulator.dtype)
    if accumulator.place is None:
        return (vec.name,)
    dtype = place_dtype(p, accumulator)
    return (vec.name, index_vector(p, accumulator.place, u, dtype))


def _kept_or_computed(p: Printer, expr: Expr, u: int) -> Vec:
    kept = p.kernel.kept.get(expr)
    if kept is None or p.stage < kept.stage:
        return _compute(p, expr, u)
    pointer = address(p, "%S", p.kernel.row, LLVM_TYPES[expr.dtype.name], u)
    pointer = p.element(pointer, p.size(kept.offset), "i8")
    kind = p.kind(expr.dtype)
    if p.stage > kept.stage:
        return Vec(p.let(f"load {kind}, ptr {pointer}, align 4"), expr.dtype)
    found = _compute(p, expr, u)
    p.do(f"store {kind} {found.name}, ptr {pointer}, align 4")
    return found


def _compute(p: Printer, expr: Expr, u: int) -> Vec:
    op = expr.op
    if expr in p.tiles:
        return _from_tile(p, expr, u)
    if expr in p.row_tiles:
        slot, form = p.row_tiles[expr]
        pointer = address(p, slot, form, memory_element(expr.dtype), u)
        return p.vec.unpack(load_vector(p, pointer, expr.dtype, None), expr.dtype)
    if op == "load":
        access = expr.payload
        rows = [
            (arg, value(p, arg, u), stride) for arg, stride in zip(expr.args, access.row_strides)
        ]
        return load(p, access.buffer, access.form, access.guards, u, rows)
    if op == "iota":
        return _iota(p, expr.payload, expr, u)
    if op == "guard":
        return Vec(_condition(guard_mask(p, expr.payload, u)), BOOL)
    if op == "select" and expr.args[0].op == "guard":
        condition = guard_mask(p, expr.args[0].payload, u)
        if isinstance(condition, bool):
            return value(p, expr.args[1 if condition else 2], u)
    args = [value(p, arg, u) for arg in expr.args]
    return p.vec.emit(op, args, expr.dtype)


def _from_tile(p: Printer, expr: Expr, u: int) -> Vec:
    """The row of a transposed tile that belongs to the present step."""
    slots, start, step = p.tiles[expr]
    row = p.sub(p.env[step].name, p.env[start].name)
    pointer = p.element(slots[u], p.mul(row, str(p.width)), memory_element(expr.dtype))
    return p.vec.unpack(load_vector(p, pointer, expr.dtype, None), expr.dtype)


def _condition(mask: bool | str) -> str:
    if isinstance(mask, str):
        return mask
    return "splat (i1 true)" if mask else "zeroinitializer"


def _iota(p: Printer, form: Affine, expr: Expr, u: int) -> Vec:
    """Index values; floats are converted from exact integers."""
    if expr.dtype.kind in "iu":
        return Vec(index_vector(p, form, u, expr.dtype), expr.dtype)
    exact = Vec(index_vector(p, form, u, I64), I64)
    return p.vec.emit("cast", [exact], expr.dtype)


def knows(op: str) -> bool:
    """Whether expressions of that op can be printed."""
    return op in EXPANSIONS or op == "cast"
