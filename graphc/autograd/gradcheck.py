"""gradcheck: gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.errors import UnsupportedError
from ..tensor import Tensor, from_array

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(RuntimeError):
    """A gradient that differs from the central difference."""


def _as_tuple(x: Any) -> tuple:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _differentiable(outputs: Any) -> list[Tensor]:
    return [x for x in _as_tuple(outputs) if isinstance(x, Tensor) and x.requires_grad]


def _checked_inputs(inputs: tuple) -> list[int]:
    """The places of the inputs to differentiate by."""
    places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not places:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them "
            "have requires_grad=True."
        )
    for i in places:
        if inputs[i].dtype.kind == "c":
            raise UnsupportedError("gradcheck of complex inputs")
        if not inputs[i].is_leaf:
            raise ValueError(f"gradcheck input {i} is not a leaf")
    return places


def _numerical(
    func: Callable, inputs: tuple, place: int, outputs: list[Tensor], eps: float
) -> list[np.ndarray]:
    """d outputs / d inputs[place] by central differences, as [input elements, output elements]."""
    x = inputs[place]
    start = np.array(x._array())
    columns: list[np.ndarray] = [np.zeros((start.size, out.numel())) for out in outputs]
    for k in range(start.size):
        sides = []
        for sign in (1, -1):
            moved = start.copy()
            moved.reshape(-1)[k] += sign * eps
            given = list(inputs)
            given[place] = from_array(moved).requires_grad_(True)
            found = _differentiable(func(*given))
            sides.append([y._array().astype(np.float64).reshape(-1) for y in found])
        for column, high, low in zip(columns, *sides, strict=True):
            column[k] = (high - low) / (2 * eps)
    return columns


def _analytical(outputs: list[Tensor], inputs: list[Tensor], j: int) -> list[np.ndarray]:
    """d outputs[j] / d inputs by backward, as [input elements, output elements]."""
    from . import grad

    out = outputs[j]
    found = [np.zeros((x.numel(), out.numel())) for x in inputs]
    for k in range(out.numel()):
        one = np.zeros(out.shape, out.dtype.numpy)
        one.reshape(-1)[k] = 1
        grads = grad(out, inputs, from_array(one), retain_graph=True, allow_unused=True)
        for column, g in zip(found, grads, strict=True):
            if g is not None:
                column[:, k] = g._array().astype(np.float64).reshape(-1)
    return found


def gradcheck(
    func,
    inputs,
    *,
    eps=1e-06,
    atol=1e-05,
    rtol=0.001,
    raise_exception=True,
    nondet_tol=0.0,
    check_undefined_grad=True,
    check_grad_dtypes=False,
    check_batched_grad=False,
    check_batched_forward_grad=False,
    check_forward_ad=False,
    check_backward_ad=True,
    fast_mode=False,
    masked=None,
):
    """Whether the gradients of `func` agree with central differences within the tolerances.

    `inputs` should be float64. Raises GradcheckError, or returns False, where they do not. The
    checks are those of backward; check_batched_grad and check_forward_ad are not offered.
    """
    if check_batched_grad or check_batched_forward_grad or check_forward_ad:
        raise UnsupportedError(
            "gradcheck of forward or batched gradients", hint="Leave check_* arguments out."
        )
    try:
        _check(func, _as_tuple(inputs), eps, atol, rtol, nondet_tol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check(func: Any, inputs: tuple, eps: float, atol: float, rtol: float, nondet: float) -> None:
    places = _checked_inputs(inputs)
    outputs = _differentiable(func(*inputs))
    wanted = [inputs[i] for i in places]
    analytical = [_analytical(outputs, wanted, j) for j in range(len(outputs))]
    again = [_analytical(_differentiable(func(*inputs)), wanted, j) for j in range(len(outputs))]
    for n, place in enumerate(places):
        numerical = _numerical(func, inputs, place, outputs, eps)
        for j, expected in enumerate(numerical):
            got = analytical[j][n]
            if np.abs(got - again[j][n]).max(initial=0.0) > nondet:
                raise GradcheckError(
                    "Backward is not reentrant, i.e., running backward with same input and "
                    "grad_output multiple times gives different values, although analytical "
                    f"gradient matches numerical gradient. The tolerance for nondeterminism was "
                    f"{nondet}."
                )
            if not np.allclose(got, expected, rtol, atol):
                raise GradcheckError(
                    f"Jacobian mismatch for output {j} with respect to input {place},\n"
                    f"numerical:{expected}\nanalytical:{got}\n"
                )


def gradgradcheck(
    func,
    inputs,
    grad_outputs=None,
    *,
    eps=1e-06,
    atol=1e-05,
    rtol=0.001,
    gen_non_contig_grad_outputs=False,
    raise_exception=True,
    nondet_tol=0.0,
    check_undefined_grad=True,
    check_grad_dtypes=False,
    check_batched_grad=False,
    check_fwd_over_rev=False,
    check_rev_over_rev=True,
    fast_mode=False,
    masked=False,
):
    """gradcheck of the gradients of `func`: whether its second derivatives are right."""
    from . import grad

    if check_batched_grad or check_fwd_over_rev:
        raise UnsupportedError(
            "gradgradcheck of forward or batched gradients", hint="Leave check_* arguments out."
        )
    given = _as_tuple(inputs)
    outputs = _differentiable(func(*given))
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        seeds = [
            from_array(rng.standard_normal(y.shape).astype(y.dtype.numpy)).requires_grad_(True)
            for y in outputs
        ]
    else:
        seeds = list(_as_tuple(grad_outputs))
    places = _checked_inputs(given)
    n = len(given)

    def first(*both: Any) -> Any:
        xs, vectors = both[:n], both[n:]
        found = _differentiable(func(*xs))
        wanted = [xs[i] for i in places]
        grads = grad(found, wanted, list(vectors), create_graph=True, allow_unused=True)
        return tuple([g for g in grads if g is not None])

    return gradcheck(
        first, (*given, *seeds), eps=eps, atol=atol, rtol=rtol, nondet_tol=nondet_tol,
        raise_exception=raise_exception,
    )  # fmt: skip
