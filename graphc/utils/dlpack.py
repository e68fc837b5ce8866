"""torch.utils.dlpack: tensors shared with other libraries, without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..frontends import dlpack
from ..frontends.views import row_major
from ..functional.convert import exported
from ..tensor import Tensor

__all__ = ["from_dlpack", "to_dlpack"]


def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule on the tensor's memory."""
    return tensor_dlpack(tensor)


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor on the memory of an object with `__dlpack__` (numpy, torch, jax, ...), or a capsule.

    device: None or "cpu". copy: True makes a copy of its own, False refuses where one is needed.
    """
    from ..device import name_of
    from ..functional.numpy_memory import from_numpy_array
    from ..functional.split import as_strided

    capsule = ext_tensor.__dlpack__() if hasattr(ext_tensor, "__dlpack__") else ext_tensor
    flat, shape, strides = dlpack.memory_of(capsule)
    if strides == row_major(shape):
        made = from_numpy_array(flat.reshape(shape))
    else:
        made = as_strided(from_numpy_array(flat), shape, strides, 0)
    place = "cpu" if device is None else name_of(device)
    if place != "cpu":
        if copy is False:
            raise ValueError(f"from_dlpack: to {place} the memory has to be copied")
        return made.to(place)
    return made.clone() if copy else made


def tensor_dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: Any = None,
    dl_device: Any = None,
    copy: bool | None = None,
) -> Any:
    """Tensor.__dlpack__: a capsule on the tensor's memory."""
    if self.requires_grad:
        raise BufferError(
            "Can't export tensors that require gradient, use tensor.detach() before __dlpack__"
        )
    if self._type.device != "cpu":
        raise BufferError(f"Can't export tensors on device {self._type.device}")
    array = np.array(self._array()) if copy else exported(self)
    return dlpack.capsule_of(array, self.dtype)


def tensor_dlpack_device(self: Tensor) -> tuple[int, int]:
    """Tensor.__dlpack_device__: (kind of device, its number)."""
    if self._type.device != "cpu":
        raise ValueError(f"a tensor on {self._type.device} has no DLPack device")
    return dlpack.CPU, 0
