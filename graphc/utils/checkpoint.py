"""torch.utils.checkpoint, for programs that call it.

graphc decides itself what a backward keeps and what it computes again: between a recorded forward
and its backward only a minimum cut of the values is stored. So a checkpoint changes nothing, and
its function simply runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

__all__ = ["checkpoint", "checkpoint_sequential", "noop_context_fn"]


def noop_context_fn() -> tuple[Any, Any]:
    """The default of `context_fn`: nothing around the forward, nothing around the second one."""
    return nullcontext(), nullcontext()


def checkpoint(
    function: Callable,
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """function(*args, **kwargs). `preserve_rng_state` and the other options are accepted."""
    kwargs.pop("preserve_rng_state", None)
    if use_reentrant and kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    forward, _ = context_fn()
    with forward:
        return function(*args, **kwargs)


def checkpoint_sequential(
    functions: Any,
    segments: int,
    input: Any,
    use_reentrant: bool | None = None,
    **kwargs: Any,
) -> Any:
    """The functions (a Sequential or a list) one after the other."""
    layers: Sequence[Callable] = list(functions.children() if hasattr(functions, "children") else
                                      functions)  # fmt: skip
    if not 1 <= segments <= max(len(layers), 1):
        raise ValueError(f"checkpoint_sequential: {segments} segments of {len(layers)} functions")
    for layer in layers:
        input = layer(input)
    return input
