"""Roots that turn out to be read by their own kernel alone stay in its registers.

A value may be a root because the chain above it is long, or because several kernels of an earlier
round read it. Mostly the kernel that computes it takes its readers as well.
"""

from __future__ import annotations

from collections.abc import Collection

from graphc.ir.graph import Value

from .group import MAP
from .plan import Plan


def drop_unread(plan: Plan, certain: Collection[Value]) -> None:
    """Takes from the outputs of maps what no other kernel reads, those of `certain` excepted."""
    needed = {value for group in plan.groups for value in group.reads()}.union(certain)
    for group in plan.groups:
        if group.kind != MAP or group.is_check:
            continue
        unread = {value for value, _ in group.outputs if value not in needed}
        if not unread:
            continue
        group.outputs = [output for output in group.outputs if output[0] not in unread]
        group.code.outputs = [o for o in group.code.outputs if o.value not in unread]
        for value in unread:
            del plan.owner[value]
