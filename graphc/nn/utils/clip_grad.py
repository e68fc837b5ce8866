"""Limiting the size of gradients, in place."""

import types
import warnings

import graphc as torch

__all__ = [
    "clip_grad_norm",
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
]


def _as_list(tensors):
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)


def _grads(parameters):
    return [param.grad for param in parameters if param.grad is not None]


def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Return the norm of all tensors together, as if they were one vector; a 0-d tensor.

    Args:
        tensors: tensors or one tensor.
        norm_type: p of the norm; "inf" is allowed.
        error_if_nonfinite: whether a norm that is nan or infinite raises.
        foreach: accepted; it changes nothing.

    Raises:
        RuntimeError: the norm is not finite and ``error_if_nonfinite`` is set.
    """
    norm_type = float(norm_type)
    with torch.no_grad():
        tensors = _as_list(tensors)
        if not tensors:
            return torch.tensor(0.0)
        device = tensors[0].device
        norms = [torch.linalg.vector_norm(t, norm_type).to(device) for t in tensors]
        total = torch.linalg.vector_norm(torch.stack(norms), norm_type)
        if error_if_nonfinite and not total.isfinite():
            raise RuntimeError(
                f"The total norm of order {norm_type} for gradients from "
                "`parameters` is non-finite, so it cannot be clipped. To disable "
                "this error and scale the gradients by the non-finite norm anyway, "
                "set `error_if_nonfinite=False`"
            )
        return total


def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None):
    """Scale gradients by ``min(1, max_norm / (total_norm + 1e-6))``, in place."""
    with torch.no_grad():
        grads = _grads(_as_list(parameters))
        if not grads:
            return
        scale = torch.clamp(float(max_norm) / (total_norm + 1e-6), max=1.0)
        for grad in grads:
            # Multiplied even where it is 1: looking would wait for its value.
            grad.mul_(scale.to(grad.device))


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scale gradients so that their norm is at most ``max_norm``, in place.

    Args:
        parameters: parameters or one parameter; those without gradient are left out.
        max_norm: the largest norm.
        norm_type: p of the norm; "inf" is allowed.
        error_if_nonfinite: whether a norm that is nan or infinite raises.
        foreach: accepted; it changes nothing.

    Returns:
        The norm before scaling, a 0-d tensor.
    """
    is_generator = isinstance(parameters, types.GeneratorType)
    parameters = _as_list(parameters)
    if is_generator and not parameters:
        warnings.warn(
            "`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=2
        )
    total = get_total_norm(_grads(parameters), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_norm(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Deprecated name of :func:`clip_grad_norm_`."""
    warnings.warn(
        "`torch.nn.utils.clip_grad_norm` is now deprecated "
        "in favor of `torch.nn.utils.clip_grad_norm_`.",
        FutureWarning,
        stacklevel=2,
    )
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def clip_grad_value_(parameters, clip_value, foreach=None):
    """Clamp each element of the gradients to [-clip_value, clip_value], in place."""
    clip_value = float(clip_value)
    with torch.no_grad():
        for grad in _grads(_as_list(parameters)):
            grad.clamp_(min=-clip_value, max=clip_value)
