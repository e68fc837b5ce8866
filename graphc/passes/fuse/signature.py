"""What a group computes, without which values it computes it of: equal layers have equal ones."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any

from graphc.ir.graph import Value

from .expr import Expr, walk
from .group import Group


def signature(
    group: Group, stored: Collection[Value], unread: Collection[Value] = ()
) -> tuple[Hashable, list[Value]]:
    """A key that equal kernels share, and the group's buffers in the order of the key."""
    buffers: dict[Value, int] = {}
    numbers: dict[Expr, int] = {}
    code, domain = group.code, group.domain

    def buffer(value: Value) -> int:
        return buffers.setdefault(value, len(buffers))

    exprs: list[tuple] = []
    for expr in walk(code.roots()):
        numbers[expr] = len(exprs)
        args = tuple([numbers[arg] for arg in expr.args])
        exprs.append((expr.op, args, _payload(expr, buffer), expr.dtype))
    reductions = tuple(
        [
            (buffer(r.value), r.how, numbers[r.expr], r.value in stored, _made_by(r.value))
            for r in code.reductions
        ]
    )
    outputs = tuple(
        [
            (buffer(o.value), o.level, o.place, numbers[o.expr], o.value in unread)
            for o in code.outputs
        ]
    )
    scattered: Hashable = None
    if code.indexed is not None:
        at = code.indexed
        places = tuple([numbers[expr] for expr in at.indices])
        initial = None if at.initial is None else buffer(at.initial)
        scattered = (places, at.strides, at.place, at.mode, initial)
    pieces = tuple([tuple(p) for p in domain.pieces])
    shape = (group.kind, tuple(domain.sizes), domain.reduced, pieces)
    key = (shape, tuple(exprs), reductions, outputs, scattered, code.scanned)
    return key, list(buffers)


def _payload(expr: Expr, buffer: Any) -> Hashable:
    if expr.op == "load":
        access = expr.payload
        return buffer(access.buffer), access.form, access.guards, access.row_strides
    if expr.op == "reduced":
        return buffer(expr.payload)
    return repr(expr.payload) if expr.op == "constant" else expr.payload


def _made_by(value: Value) -> Hashable:
    """The op of a reduction, with its options and the type of its result."""
    node = value.node
    assert node is not None
    return node.op.name, node.attrs.get("mode"), value.type
