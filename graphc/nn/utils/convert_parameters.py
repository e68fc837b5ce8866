"""Parameters as one vector, and back."""

import graphc as torch

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def _check_device(param, expected):
    """Return the device that all parameters share; None expects any."""
    if expected is not None and param.device != expected:
        raise TypeError(
            "Found two parameters on different devices, this is currently not supported."
        )
    return param.device


def parameters_to_vector(parameters):
    """Return all parameters, flattened one after the other, as a tensor of one dimension."""
    parameters = list(parameters)
    device = None
    for param in parameters:
        device = _check_device(param, device)
    return torch.cat([param.reshape(-1) for param in parameters])


def vector_to_parameters(vec, parameters):
    """Let each parameter's data be its part of ``vec``, in order."""
    if not isinstance(vec, torch.Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    device = None
    offset = 0
    for param in parameters:
        device = _check_device(param, device)
        count = param.numel()
        param.data = vec[offset : offset + count].view_as(param).data
        offset += count
