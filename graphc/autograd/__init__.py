"""torch.autograd: backward, grad, hooks; modes, custom functions and checks beside them."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import Any

from ..frontends import modes
from ..frontends.derive import add_cells, gradients
from ..frontends.locate import located
from ..frontends.record import Cell, recorder, value_of
from ..ir import ops
from ..ir.errors import GraphcError
from ..ir.graph import Value
from ..ir.types import TensorType
from ..tensor import Tensor, wrap
from . import anomaly_mode, function, grad_mode
from .anomaly_mode import detect_anomaly, set_detect_anomaly
from .function import Function, FunctionCtx
from .grad_mode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)

Variable = Tensor

__all__ = [
    "Function", "FunctionCtx", "Variable", "backward", "detect_anomaly", "enable_grad", "function",
    "functional", "grad", "grad_mode", "gradcheck", "gradgradcheck", "inference_mode",
    "is_grad_enabled", "is_inference_mode_enabled", "no_grad", "set_detect_anomaly",
    "set_grad_enabled",
]  # fmt: skip

# --- backward ----------------------------------------------------------------------------------


def _ones_for(tensor: Tensor, given: Any, i: int) -> Cell:
    if given is not None:
        if tuple(given.shape) != tuple(tensor.shape):
            raise RuntimeError(
                f"Mismatch in shape: grad_output[{i}] has a shape of {given.shape} and output[{i}] "
                f"has a shape of {tensor.shape}."
            )
        return given._read()
    if tensor.numel() != 1:
        raise RuntimeError("grad can be implicitly created only for scalar outputs")
    return _one(tensor._type)


def _one(type: TensorType) -> Cell:
    """A gradient of ones, recorded."""

    def build() -> tuple[list[Value], list[bool], None]:
        return [ops.full(1.0, type.dtype, type.shape, type.device)], [False], None

    return recorder().step(("seed", type, modes.word()), (), build)[0]


def _check_roots(tensors: Sequence[Tensor]) -> None:
    for i, tensor in enumerate(tensors):
        if not tensor.requires_grad:
            raise RuntimeError(
                f"element {i} of tensors does not require grad and does not have a grad_fn"
            )


def _as_sequence(x: Any) -> list:
    if x is None:
        return []
    return list(x) if isinstance(x, (tuple, list)) else [x]


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Any = None,
) -> None:
    """Adds to `.grad` of every leaf (or of `inputs`) the gradient of the sum of `tensors`."""
    roots = _as_sequence(tensors)
    given = _as_sequence(grad_tensors if grad_tensors is not None else grad_variables)
    given += [None] * (len(roots) - len(given))
    _check_roots(roots)
    if inputs is not None and not _as_sequence(inputs):
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    keep = create_graph if retain_graph is None else retain_graph
    wanted = [t._read() for t in _as_sequence(inputs)]
    cells = [t._read() for t in roots]
    before = modes.set_grad(create_graph)
    try:
        seeds = [_ones_for(t, g, i) for i, (t, g) in enumerate(zip(roots, given, strict=True))]
        found = gradients(cells, seeds, wanted, retain_graph=keep, create_graph=create_graph)
        anomaly_mode.check(found)
        targets = _targets(found, None if inputs is None else _as_sequence(inputs))
        accumulated = []
        for cell, ct in found.items():
            target = targets.get(id(cell))
            if target is not None:
                _accumulate_grad(target, ct, create_graph)
                accumulated.append(target)
    except GraphcError as error:
        raise located(error) from None
    finally:
        modes.set_grad(before)
    if not create_graph:
        recorder().step_ends()
    for target in accumulated:
        if not target._post_accumulate:
            continue
        for hook in list(target._post_accumulate.values()):
            hook(target)


def _targets(found: dict[Cell, Cell], inputs: list[Tensor] | None) -> dict[int, Tensor]:
    """Whose `.grad` the gradient of a cell is added to, by the cell's id.

    A leaf that was written since has another cell now than the one that was used.
    """
    targets = {id(t._read()): t for t in inputs or () if not t._leaf}
    for cell in found:
        owner = cell.owner() if cell.owner is not None else None
        if owner is None:
            continue
        if cell.grad_fn is None:
            meant = owner._leaf and (inputs is None or any([owner is t for t in inputs]))
        else:
            meant = inputs is None and owner._retain
        if meant:
            targets[id(cell)] = owner
    return targets


def _gradient_of_leaf(leaf: Tensor, found: dict[Cell, Cell]) -> Cell | None:
    """The sum over the cells that it had: a write gives it another one."""
    total = None
    for cell, ct in found.items():
        if cell.grad_fn is None and cell.owner is not None and cell.owner() is leaf:
            total = ct if total is None else add_cells(total, ct)
    return total


def _accumulate_grad(target: Tensor, ct: Cell, create_graph: bool) -> None:
    old = target._grad
    if old is None:
        target._grad = wrap(ct)  # it has the target's type
    elif create_graph:
        target.grad = wrap(add_cells(old._read(), ct))
    elif old._chain:
        old.add_(wrap(ct))
    else:
        total = add_cells(old._read(), ct)
        old._storage.write(total, writer=total)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple:
    """The gradients of the sum of `outputs` with respect to `inputs`."""
    roots, wanted = _as_sequence(outputs), _as_sequence(inputs)
    given = _as_sequence(grad_outputs)
    given += [None] * (len(roots) - len(given))
    _check_roots(roots)
    for tensor in wanted:
        if not tensor.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    keep = create_graph if retain_graph is None else retain_graph
    cells = [t._read() for t in wanted]
    root_cells = [t._read() for t in roots]
    before = modes.set_grad(create_graph)
    try:
        seeds = [_ones_for(t, g, i) for i, (t, g) in enumerate(zip(roots, given, strict=True))]
        found = gradients(root_cells, seeds, cells, retain_graph=keep, create_graph=create_graph)
        anomaly_mode.check(found)
        gradient_of = [
            _gradient_of_leaf(tensor, found) if tensor._leaf else found.get(cell)
            for tensor, cell in zip(wanted, cells, strict=True)
        ]
    except GraphcError as error:
        raise located(error) from None
    finally:
        modes.set_grad(before)
    result = []
    for i, (tensor, ct) in enumerate(zip(wanted, gradient_of, strict=True)):
        if ct is not None:
            result.append(wrap(ct))
        elif materialize_grads:
            from ..functional.create import zeros_like

            result.append(zeros_like(tensor))
        elif allow_unused:
            result.append(None)
        else:
            raise RuntimeError(
                f"The differentiated Tensor at index {i} appears to not have been used in the "
                "graph. Set allow_unused=True if this is the desired behavior."
            )
    return tuple(result)


# --- what a tensor's grad_fn shows ---------------------------------------------------------------


class GradFn:
    """The node that computed a tensor, as far as users look at it: its name."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def name(self) -> str:
        return getattr(self._cell.grad_fn, "label", None) or _label(self._cell)

    def register_hook(self, hook: Any) -> RemovableHandle:
        """Calls hook(grad_inputs, grad_outputs) when the gradient of the output is computed.

        Nodes are differentiated together, so the gradients of the inputs are no values of their
        own: grad_inputs is (None,), and a hook that returns others raises UnsupportedError.
        """

        def on_gradient(grad: Tensor) -> None:
            if hook((None,), (grad,)) is not None:
                from ..ir.errors import UnsupportedError

                raise UnsupportedError(
                    "a hook on a grad_fn node cannot replace the gradients of the node's inputs",
                    hint="tensor.register_hook and Module.register_full_backward_hook can.",
                )

        return _hook_cell(self._cell, on_gradient)

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self._cell):#x}>"


def _label(cell: Cell) -> str:
    tape = cell.tape
    if tape is not None and tape.recorder.tape is tape:
        at = 0
        for state in tape.recorder.state.path():
            if at <= cell.slot < at + len(state.values):
                key = state.key[0]
                name = getattr(key, "name", key if isinstance(key, str) else "graph")
                return "".join(w.capitalize() for w in str(name).split("_")) + "Backward0"
            at += len(state.values)
    return "GraphBackward0"


# --- hooks ---------------------------------------------------------------------------------------


class RemovableHandle:
    """Takes a hook away again."""

    _ids = itertools.count()

    def __init__(self, hooks: dict) -> None:
        self.hooks, self.id = hooks, next(self._ids)

    def remove(self) -> None:
        self.hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def register_hook(self: Tensor, hook: Any) -> RemovableHandle:
    """Calls hook(grad) when the tensor's gradient is computed; what it returns replaces it."""
    if not self.requires_grad:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    return _hook_cell(self._read(), hook)


def _hook_cell(cell: Cell, hook: Any) -> RemovableHandle:
    if cell.buffer is None:
        value_of(cell)  # its gradient is then complete at a place of its own
    if cell.hooks is None:
        cell.hooks = {}
    handle = RemovableHandle(cell.hooks)

    def on_cell(ct: Cell) -> Cell:
        found = hook(wrap(ct))
        if found is None:
            return ct
        if not isinstance(found, Tensor):
            raise TypeError(f"expected Variable, but hook returned '{type(found).__name__}'")
        if found._type.shape != ct.type.shape:
            name = getattr(hook, "__name__", "hook")
            raise RuntimeError(f"hook '{name}' has changed the size of value")
        return found._read()

    cell.hooks[handle.id] = on_cell
    return handle


def register_post_accumulate_grad_hook(self: Tensor, hook: Any) -> RemovableHandle:
    """Calls hook(tensor) after a gradient was added to `.grad`."""
    if not self.is_leaf:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    hooks = self.__dict__.setdefault("_post_accumulate", {})
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def retain_grad(self: Tensor) -> None:
    """Keeps the gradient of a tensor that is no leaf in `.grad`."""
    if not self.requires_grad:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if self.is_leaf or self._retain:
        return
    self._retain = True
    target = weakref.ref(self)

    def keep(grad: Tensor) -> None:
        tensor = target()
        if tensor is not None:
            tensor.grad = grad if tensor.grad is None else tensor.grad + grad

    cell = self._read()
    if cell.buffer is None:
        value_of(cell)
    cell.retain = lambda ct: keep(wrap(ct))


def _tensor_backward(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Adds to `.grad` of every leaf the gradient of this tensor."""
    backward(self, gradient, retain_graph, create_graph, inputs=inputs)


def install() -> None:
    """Puts the methods of autograd on Tensor."""
    methods = {
        "backward": _tensor_backward, "register_hook": register_hook, "retain_grad": retain_grad,
        "register_post_accumulate_grad_hook": register_post_accumulate_grad_hook,
    }  # fmt: skip
    for name, method in methods.items():
        setattr(Tensor, name, method)


from . import functional  # noqa: E402
from .gradcheck import gradcheck, gradgradcheck  # noqa: E402  (these use what is above)
