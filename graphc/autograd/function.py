"""Functions with a backward of their own."""

from __future__ import annotations

from functools import wraps
from typing import Any

from ..frontends import modes
from ..frontends.record import Cell, value_of
from ..frontends.segment import FunctionSegment
from ..tensor import Tensor, wrap


class FunctionCtx:
    """What a Function's forward leaves for its backward."""

    def __init__(self) -> None:
        self.saved: tuple = ()
        self.needs_input_grad: tuple[bool, ...] = ()
        self._non_differentiable: set[int] = set()
        self._dirty: tuple = ()
        self.materialize_grads = True

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved = tensors

    @property
    def saved_tensors(self) -> tuple:
        return self.saved

    def mark_dirty(self, *tensors: Any) -> None:
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        self._non_differentiable = {id(t) for t in tensors}

    def set_materialize_grads(self, value: bool) -> None:
        self.materialize_grads = value


class Function:
    """A function with a backward of its own: subclass with static `forward` and `backward`."""

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("a Function must define forward")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("a Function must define backward to be differentiated")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Runs forward, and records backward where an input requires grad."""
        ctx = FunctionCtx()
        needs = modes.grad_enabled()
        ctx.needs_input_grad = tuple(
            [isinstance(a, Tensor) and a.requires_grad and needs for a in args]
        )
        inputs = [a._read() for a in args if isinstance(a, Tensor)]  # forward may write to them
        before = modes.set_grad(False)
        try:
            if hasattr(cls, "setup_context"):
                result = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, result)
            else:
                result = cls.forward(ctx, *args, **kwargs)
        finally:
            modes.set_grad(before)
        if not any(ctx.needs_input_grad):
            return result
        return _with_backward(cls, ctx, args, inputs, result)


def _with_backward(
    cls: Any, ctx: FunctionCtx, args: tuple, input_cells: list[Cell], result: Any
) -> Any:
    many = isinstance(result, tuple)
    outputs = list(result) if many else [result]
    cells: list[Cell] = []
    given: list[Any] = []
    # Of every output: its place among `cells`, and its type. (Not the cells: they know what is
    # made here, and memory is freed by reference counts.)
    shown: list[tuple[int, Any]] = []
    for out in outputs:
        if not isinstance(out, Tensor) or id(out) in ctx._non_differentiable:
            given.append(out)
            shown.append((-1, out._type if isinstance(out, Tensor) else None))
            continue
        old = out._read()
        value_of(old)
        cell = Cell(old.type, old.buffer, old.type.dtype.kind in "fc")
        shown.append((len(cells), cell.type))
        cells.append(cell)
        given.append(out if any(out is d for d in ctx._dirty) else wrap(cell))
        if given[-1] is out:
            out._storage.cell = cell
    requires = [cell.requires_grad for cell in input_cells]
    positions = [i for i, a in enumerate(args) if isinstance(a, Tensor)]

    def pull(cts: list[Cell | None], create_graph: bool) -> list[Cell | None]:
        from ..functional.create import zeros

        grads = []
        for place, type in shown:
            ct = cts[place] if place >= 0 else None
            if ct is not None:
                grads.append(wrap(ct))
            elif type is not None and ctx.materialize_grads:
                grads.append(zeros(type.shape, dtype=type.dtype, device=type.device))
            else:
                grads.append(None)
        before = modes.set_grad(create_graph)
        try:
            found = cls.backward(ctx, *grads)
        finally:
            modes.set_grad(before)
        found = found if isinstance(found, tuple) else (found,)
        if len(found) < len(args):
            raise RuntimeError(
                f"function {cls.__name__}Backward returned an incorrect number of gradients "
                f"(expected {len(args)}, got {len(found)})"
            )
        picked = []
        for k, needed in zip(positions, requires, strict=True):
            g = found[k]
            picked.append(g._read() if g is not None and needed else None)
        return picked

    segment = FunctionSegment(input_cells, cells, pull)
    segment.label = f"{cls.__name__}Backward"
    return tuple(given) if many else given[0]


def once_differentiable(backward: Any) -> Any:
    """Of a `backward`: its gradients have no derivatives of their own."""

    @wraps(backward)
    def without_graph(ctx: Any, *grads: Any) -> Any:
        before = modes.set_grad(False)
        try:
            return backward(ctx, *grads)
        finally:
            modes.set_grad(before)

    return without_graph
