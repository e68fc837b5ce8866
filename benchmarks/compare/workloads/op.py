"""The short way of declaring a workload that is one expression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..workload import Arrays, Workload

#: Floor of what is a sort or dense linear algebra.
HARD = 0.6


def op(
    name: str,
    inputs: Callable[[], Arrays],
    program: Callable[..., Any],
    jax: Callable[..., Any] | None = None,
    **options: Any,
) -> Workload:
    """`program(torch, *tensors)`, and `jax(jax, *arrays)`, as the workload micro/`name`."""
    made = None if jax is None else lambda j: lambda *arrays: jax(j, *arrays)
    return Workload(
        f"micro/{name}", inputs, lambda torch: lambda *tensors: program(torch, *tensors),
        jax=made, **options,
    )  # fmt: skip
