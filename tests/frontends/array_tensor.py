"""A tensor for tests of the file formats: a numpy view of a flat storage."""

from dataclasses import dataclass

import numpy as np

from graphc.frontends.torch_file import TensorRecord, load_file, save_file


@dataclass(eq=False)
class ArrayTensor:
    storage: np.ndarray
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool = False
    is_parameter: bool = False

    def numpy(self) -> np.ndarray:
        dtype = self.storage.dtype
        strides = [step * dtype.itemsize for step in self.stride]
        memory = self.storage.view(np.uint8)
        return np.ndarray(self.size, dtype, memory, self.offset * dtype.itemsize, strides)


def make_parameter(tensor: ArrayTensor, requires_grad: bool) -> ArrayTensor:
    view = (tensor.storage, tensor.offset, tensor.size, tensor.stride)
    return ArrayTensor(*view, requires_grad, is_parameter=True)


def describe(value):
    if not isinstance(value, ArrayTensor):
        return None
    return TensorRecord(
        id(value.storage),
        value.storage,
        value.offset,
        value.size,
        value.stride,
        value.requires_grad,
        value.is_parameter,
    )


def tensor(values, dtype=None, **flags) -> ArrayTensor:
    array = np.ascontiguousarray(np.asarray(values, dtype))
    strides = [step // array.itemsize for step in np.asarray(values, dtype).strides]
    return ArrayTensor(array.reshape(-1), 0, np.shape(values), tuple(strides), **flags)


def load(source, **options):
    return load_file(source, make_tensor=ArrayTensor, make_parameter=make_parameter, **options)


def save(obj, target, **options) -> None:
    save_file(obj, target, describe_tensor=describe, **options)
