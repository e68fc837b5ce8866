"""Jacobians, Hessians and their products with vectors, of functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..tensor import Tensor, from_array

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _inputs(inputs: Any, name: str) -> tuple[tuple[Tensor, ...], bool]:
    """The inputs as a tuple, and whether they were one."""
    many = isinstance(inputs, tuple)
    found = inputs if many else (inputs,)
    for i, tensor in enumerate(found):
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"The {name} given to the function must be a Tensor or a tuple of Tensors, but "
                f"value {i} is of type {type(tensor).__name__}"
            )
    return tuple(found), many


def _watched(inputs: tuple[Tensor, ...], create_graph: bool) -> tuple[Tensor, ...]:
    """The inputs as tensors whose gradients are wanted, and no one else's."""
    from . import enable_grad

    with enable_grad():
        if create_graph:
            return tuple([x.view_as(x) if x.requires_grad else _leaf(x) for x in inputs])
        return tuple([_leaf(x) for x in inputs])


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_(True)


def _call(func: Callable, inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], bool]:
    from . import enable_grad

    with enable_grad():
        return _inputs(func(*inputs), "outputs of the user-provided function")


def _grads(
    outputs: tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
    vectors: Any,
    create_graph: bool,
    strict: bool,
) -> list[Tensor]:
    """The gradients of outputs . vectors; zeros where an output does not depend on an input."""
    from . import grad

    used = [(out, v) for out, v in zip(outputs, vectors, strict=True) if out.requires_grad]
    found: Any = [None] * len(inputs)
    if used:
        outs, given = zip(*used, strict=True)
        found = grad(
            outs, inputs, given, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
    if strict and any([g is None for g in found]):
        i = [g is None for g in found].index(True)
        raise RuntimeError(
            f"The output of the user-provided function is independent of input {i}. This is not "
            "allowed in strict mode."
        )
    return [x.new_zeros(x.shape) if g is None else g for g, x in zip(found, inputs, strict=True)]


def _finished(tensors: Any, many: bool, create_graph: bool) -> Any:
    made = tuple([t if create_graph else t.detach() for t in tensors])
    return made if many else made[0]


def _vectors(given: Any, like: tuple[Tensor, ...], what: str) -> tuple[Tensor, ...]:
    """The vectors of a product, checked; ones for a single number."""
    if given is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(
                f"The vector v can only be None if the user-provided function {what} a single "
                "Tensor with a single element."
            )
        return (like[0].new_ones(like[0].shape),)
    found, _ = _inputs(given, "v")
    for v, x in zip(found, like, strict=True):
        if v.shape != x.shape:
            raise RuntimeError(f"v has invalid size: should be {x.shape} but got {v.shape}.")
    return found


def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """(outputs, v times the Jacobian): one gradient of outputs . v for each input."""
    given, many = _inputs(inputs, "inputs")
    watched = _watched(given, create_graph)
    outputs, many_outputs = _call(func, watched)
    vectors = _vectors(v, outputs, "returns")
    found = _grads(outputs, watched, vectors, create_graph, strict)
    return (
        _finished(outputs, many_outputs, create_graph),
        _finished(found, many, create_graph),
    )


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """(outputs, the Jacobian times v): how each output changes along v."""
    given, _ = _inputs(inputs, "inputs")
    vectors = _vectors(v, given, "takes")
    watched = _watched(given, create_graph)
    outputs, many = _call(func, watched)
    # v . J^T u is linear in u, and its derivative with respect to u is J v.
    seeds = tuple([_leaf(out.new_zeros(out.shape)) for out in outputs])
    pulled = _grads(outputs, watched, seeds, True, strict)
    found = _grads(tuple(pulled), seeds, vectors, create_graph, False)
    return _finished(outputs, many, create_graph), _finished(found, many, create_graph)


def jacobian(
    func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"
):
    """d outputs[i] / d inputs[j] as tensors of shape (*outputs[i].shape, *inputs[j].shape).

    Nested tuples where outputs or inputs are tuples. vectorize and strategy are accepted.
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: if your '
            'function has more outputs than inputs, "forward-mode" tends to be more performant.'
        )
    given, many = _inputs(inputs, "inputs")
    watched = _watched(given, create_graph)
    outputs, many_outputs = _call(func, watched)
    rows = [_rows(out, watched, create_graph, strict) for out in outputs]
    found = [_finished(row, many, create_graph) for row in rows]
    return tuple(found) if many_outputs else found[0]


def _rows(out: Tensor, inputs: tuple[Tensor, ...], create_graph: bool, strict: bool):
    """For one output: its Jacobian with respect to each input."""
    from ..functional.join import stack

    count = out.numel()
    rows: list[list[Tensor]] = [[] for _ in inputs]
    for i in range(count):
        one = np.zeros(out.shape, out.dtype.numpy)
        one.reshape(-1)[i] = 1  # an operand, so that every row runs the same compiled code
        for row, g in zip(
            rows, _grads((out,), inputs, (from_array(one),), create_graph, strict), strict=True
        ):
            row.append(g)
    return [
        stack(row).reshape((*out.shape, *x.shape)) if count else x.new_zeros((*out.shape, *x.shape))
        for row, x in zip(rows, inputs, strict=True)
    ]


def hessian(
    func, inputs, create_graph=False, strict=False, vectorize=False,
    outer_jacobian_strategy="reverse-mode",
):  # fmt: skip
    """The second derivatives of a function with one number as its output."""
    given, many = _inputs(inputs, "inputs")

    def first(*xs: Tensor) -> Any:
        outputs, _ = _call(func, xs)
        _single(outputs, "hessian")
        return tuple(_grads(outputs, xs, (outputs[0].new_ones(outputs[0].shape),), True, strict))

    found = jacobian(first, given, create_graph, strict)
    return found if many else found[0][0]


def _single(outputs: tuple[Tensor, ...], name: str) -> None:
    if len(outputs) != 1 or outputs[0].numel() != 1:
        raise RuntimeError(
            f"The function given to {name} should return a single Tensor with a single element."
        )


def _first_derivatives(func: Any, inputs: Any, create_graph: bool, strict: bool, name: str):
    given, many = _inputs(inputs, "inputs")
    watched = _watched(given, create_graph)
    outputs, _ = _call(func, watched)
    _single(outputs, name)
    ones = (outputs[0].new_ones(outputs[0].shape),)
    return given, many, watched, outputs[0], _grads(outputs, watched, ones, True, strict)


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, v times the Hessian) of a function with one number as its output."""
    given, many, watched, output, first = _first_derivatives(
        func, inputs, create_graph, strict, "vhp"
    )
    vectors = _vectors(v, given, "takes")
    found = _grads(tuple(first), watched, vectors, create_graph, strict)
    return _finished((output,), False, create_graph), _finished(found, many, create_graph)


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, the Hessian times v); the Hessian is symmetric, so this is vhp."""
    return vhp(func, inputs, v, create_graph, strict)
